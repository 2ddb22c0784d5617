"""What a conversation with a language model is, and how one is opened.

    chat = connect("embedded:coder-1.5b", cache=folder, budget=Budget(tokens=200_000))
    answer = chat.chat(Request((Message("user", "..."),), grammar=gbnf))

Everything that answers is a ``Chat``. Retries, the budget and the cache are chats
around a chat, so each of them works with every model and can be left out.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, get_args
from urllib.parse import urlsplit

from guerdon.extras import require_installed

if TYPE_CHECKING:
    from guerdon.llm.budget import Budget, Price
    from guerdon.llm.retry import Watch
    from guerdon.llm.secret import Secret
    from guerdon.llm.weights import Progress

Role = Literal["system", "user", "assistant"]
ErrorKind = Literal[
    "timeout",
    "rate_limit",
    "server",
    "empty",
    "malformed",
    "auth",
    "budget",
    "breaker",
]

FORMS = (
    "openai:MODEL",
    "http://HOST:PORT/v1#MODEL",
    "https://HOST/v1#MODEL",
    "embedded",
    "embedded:coder-1.5b",
    "embedded:coder-0.5b",
    "embedded:smol",
    "sampler",
    "replay:FILE",
    "scripted:FILE",
)
"""Every form of URI that ``connect`` takes."""


LOOPBACK = ("localhost", "127.0.0.1", "::1")
"""Names of our own machine."""

MOST_NUMBER = 2**53
"""Largest token count, price or time in a recorded answer."""


class ModelError(Exception):
    """A language model gave no usable answer.

    Args:
        message: one sentence for people; it never holds a key.
        kind: the class of failure.
        retryable: whether the same call may succeed a little later.
        retry_after: seconds that the server asked to wait, where it did.
        prompt_tokens: tokens of the prompt that were paid for nothing; the most that
            they can be where a server that broke off did not say.
        completion_tokens: the same for tokens of the answer.

    ``usd`` is what these tokens cost, where somebody knows a price.
    """

    def __init__(
        self,
        message: str,
        kind: ErrorKind,
        *,
        retryable: bool = False,
        retry_after: float | None = None,
        prompt_tokens: int = 0,
        completion_tokens: int = 0,
    ) -> None:
        super().__init__(message, kind)
        self.message = message
        self.kind: ErrorKind = kind
        self.retryable = retryable
        self.retry_after = retry_after
        self.prompt_tokens = prompt_tokens
        self.completion_tokens = completion_tokens
        self.usd: float | None = None

    def __str__(self) -> str:
        return f"{self.kind}: {self.message}"


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation."""

    role: Role
    content: str

    def __post_init__(self) -> None:
        if self.role not in get_args(Role):
            raise ValueError(
                f"message role: expected one of {get_args(Role)}, got {self.role!r}"
            )


@dataclass(frozen=True, slots=True)
class Request:
    """What a model is asked.

    Args:
        messages: the conversation so far, at least one turn.
        temperature: randomness of the sampling, in [0, 2].
        max_tokens: most tokens of the answer, at least 1.
        seed: seed of the model's sampling, for servers that have one.
        grammar: GBNF that the answer must follow, for servers that decode under one.
        schema: JSON schema for servers that know no GBNF.

    Raises:
        ValueError: for an empty conversation or a number out of range.
    """

    messages: tuple[Message, ...]
    temperature: float = 0.8
    max_tokens: int = 512
    seed: int | None = None
    grammar: str | None = None
    schema: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        if not self.messages:
            raise ValueError("request: expected at least one message, got none")
        if not (math.isfinite(self.temperature) and 0 <= self.temperature <= 2):
            raise ValueError(
                f"temperature: expected a number in [0, 2], got {self.temperature}"
            )
        if self.max_tokens < 1:
            raise ValueError(f"max_tokens: expected at least 1, got {self.max_tokens}")

    def as_json(self) -> dict[str, Any]:
        """Plain data, equal for equal requests."""
        return {
            "messages": [[m.role, m.content] for m in self.messages],
            "temperature": float(self.temperature),
            "max_tokens": self.max_tokens,
            "seed": self.seed,
            "grammar": self.grammar,
            "schema": self.schema,
        }

    def key(self, model: str) -> str:
        """SHA-256 of this request to ``model``, the same in every process.

        >>> request = Request((Message("user", "hi"),))
        >>> request.key("a") == request.key("a") != request.key("b")
        True
        """
        canonical = json.dumps(
            {"version": 1, "model": model, **self.as_json()},
            sort_keys=True,
            separators=(",", ":"),
            allow_nan=False,
        )
        return hashlib.sha256(canonical.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Answer:
    """What a model said, and what it cost.

    An answer from a cache keeps the cost of the call that first bought it and has
    ``cached`` set; sums over a run count the others only.
    """

    text: str
    prompt_tokens: int
    completion_tokens: int
    usd: float | None
    """Price in US dollars; None where the price of the model is not known."""
    seconds: float
    model: str
    cached: bool = False
    estimated: bool = False
    """The server reported no usage, so the tokens are counted by length."""
    truncated: bool = False
    """The answer was cut at ``max_tokens``."""

    @property
    def tokens(self) -> int:
        """Tokens of prompt and answer together."""
        return self.prompt_tokens + self.completion_tokens

    def as_json(self) -> dict[str, Any]:
        """Plain data for a cache, a journal or a recording."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: object) -> Answer:
        """Read what ``as_json`` wrote.

        Raises:
            ValueError: when a field is missing, unknown or of another type.
        """
        kinds: dict[str, tuple[type, ...]] = {
            "text": (str,),
            "prompt_tokens": (int,),
            "completion_tokens": (int,),
            "usd": (float, int, type(None)),
            "seconds": (float, int),
            "model": (str,),
            "cached": (bool,),
            "estimated": (bool,),
            "truncated": (bool,),
        }
        known = [field.name for field in fields(cls)]
        if not isinstance(data, dict) or not set(known[:6]) <= set(data) <= set(known):
            raise ValueError(f"answer: expected an object with the fields {known}")
        for name, value in data.items():
            if not isinstance(value, kinds[name]) or (
                isinstance(value, bool) and bool not in kinds[name]
            ):
                raise ValueError(f"answer: field {name!r} has another type than ours")
            if isinstance(value, int | float) and not 0 <= value <= MOST_NUMBER:
                raise ValueError(
                    f"answer: field {name!r}: expected a number from 0 to "
                    f"{MOST_NUMBER}, got {value}"
                )
        return cls(**data)

    def from_cache(self) -> Answer:
        """The same answer, marked as not paid for again."""
        return replace(self, cached=True)


class Chat(Protocol):
    """Anything that answers requests. Safe to call from several threads."""

    @property
    def model(self) -> str:
        """Identity of the model; two chats with one identity may share a cache."""

    def chat(self, request: Request) -> Answer:
        """Answer one request.

        Raises:
            ModelError: when there is no usable answer.
        """

    def close(self) -> None:
        """Free what the chat holds; closing twice is fine."""


def nearest(name: str, known: Iterable[str]) -> str:
    """The known name that looks most like ``name``; empty when none is known.

    >>> nearest("embeded", ["embedded", "sampler"])
    'embedded'
    """
    return next(iter(difflib.get_close_matches(name, list(known), 1, 0.0)), "")


def connect(
    uri: str,
    *,
    timeout: float | None = None,
    cache: Path | None = None,
    budget: Budget | None = None,
    price: Price | None = None,
    key: Secret | None = None,
    attempts: int = 4,
    threads: int = 1,
    seed: int = 0,
    progress: Progress | None = None,
    answered: int = 0,
    watch: Watch | None = None,
) -> Chat | None:
    """Open a conversation with the model that a URI names.

    Args:
        uri: one of ``FORMS``.
        timeout: seconds for one call; by default 120 for an endpoint and 600 for the
            embedded model, which shares the processor with the trainings.
        cache: folder of bought answers, or None for no cache.
        budget: cap on tokens and money, shared by everything that is given it.
        price: what the model costs, where our table does not know it.
        key: secret of the endpoint; by default from the environment (``find_key``).
        attempts: calls per request before it counts as failed.
        threads: threads of the embedded model; never more than free cores.
        seed: seed of the jitter between attempts.
        progress: told ``(bytes done, bytes in all)`` while weights are fetched.
        answered: requests that an earlier part of a resumed run has made; a script
            goes on behind them.
        watch: told of calls that are repeated, and when the endpoint is left alone.

    Returns:
        The chat, or None for ``sampler``, which is no model at all.

    Raises:
        TypeError: for a URI that is no text.
        ValueError: for a URI or model that does not exist; names the nearest one, or
            for a budget in dollars with a model of unknown price, or a recording that
            cannot be read.
        ModelError: when a key is missing, or no embedded weights can be had. Whether
            an endpoint answers is only known when it is asked.
        MissingExtra: when the package that asks the model is not installed.
    """
    if not isinstance(uri, str):
        raise TypeError(f"model: expected text, got {uri!r} ({type(uri).__name__})")
    scheme, _, rest = uri.partition(":")
    if uri == "sampler":
        return None
    chat: Chat
    if scheme in ("replay", "scripted") and rest:
        from guerdon.llm.budget import FREE, Metered
        from guerdon.llm.recorded import Replay, Scripted

        if scheme == "replay":
            return Replay(Path(rest))
        chat = Scripted(Path(rest), skip=answered)
        return chat if budget is None else Metered(chat, budget, FREE)
    if scheme == "embedded" and (rest or uri == "embedded"):
        from guerdon.llm.budget import FREE
        from guerdon.llm.embedded import open_embedded

        price = FREE
        chat = open_embedded(
            rest or None, threads=threads, timeout=timeout or 600.0, progress=progress
        )
        # The server is ours and restarts by itself; asking it often is only slow.
        attempts = min(attempts, 2)
    elif (scheme == "openai" and rest) or scheme in ("http", "https"):
        from guerdon.llm.budget import find_price
        from guerdon.llm.endpoint import Endpoint
        from guerdon.llm.secret import find_key

        base_url, model = endpoint_address(uri)
        # Before anything is made or paid for, not at the first request.
        require_installed("openai", "llm")
        own = is_openai(base_url)
        price = price or (find_price(model) if own else None)
        chat = Endpoint(
            base_url,
            model,
            key=key or find_key(openai=own),
            timeout=timeout or 120.0,
            price=price,
        )
    else:
        raise ValueError(_unknown(uri))
    return _wrap(chat, cache, budget, price, attempts, seed, watch)


def _wrap(
    chat: Chat,
    cache: Path | None,
    budget: Budget | None,
    price: Price | None,
    attempts: int,
    seed: int,
    watch: Watch | None,
) -> Chat:
    from guerdon.llm.budget import Metered
    from guerdon.llm.cache import Cached
    from guerdon.llm.retry import Retrying

    # Inside out: every attempt is paid for, an answer from the cache is not.
    if budget is not None:
        chat = Metered(chat, budget, price)
    chat = Retrying(chat, attempts=attempts, seed=seed, watch=watch)
    return chat if cache is None else Cached(chat, cache)


def _unknown(uri: str) -> str:
    """What a URI may be, and what this one was probably meant to be."""
    # What stands behind the colon is the user's own, and like nothing of ours.
    forms = {form.partition(":")[0]: form for form in reversed(FORMS)}
    forms |= {form: form for form in FORMS}
    scheme, colon, _ = uri.partition(":")
    close = difflib.get_close_matches(scheme if colon else uri, forms, 1, 0.6)
    if close:
        hint = f"; the nearest one is {forms[close[0]]!r}"
    elif uri and ":" not in uri and not any(map(str.isspace, uri)):
        hint = f"; a model of OpenAI with this name is 'openai:{uri}'"
    else:
        hint = ""
    return f"language model {uri!r}: expected one of {', '.join(FORMS)}{hint}"


def endpoint_address(uri: str) -> tuple[str, str]:
    """Base URL and model of an ``openai:`` or ``http(s):`` URI; else ValueError."""
    if uri.startswith("openai:"):
        return "https://api.openai.com/v1", uri.removeprefix("openai:")
    parts = urlsplit(uri)
    if parts.scheme not in ("http", "https"):
        raise ValueError(_unknown(uri))
    if parts.username or parts.password:
        raise ValueError(
            "language model: expected no user name or key inside the URL; put the key "
            "into the environment variable GUERDON_API_KEY"
        )
    if parts.query:
        # It would go into every journal and report, and the path ends up behind it.
        raise ValueError(
            "language model: expected no '?' in the URL; put a key into the "
            "environment variable GUERDON_API_KEY"
        )
    if not parts.hostname or not parts.fragment:
        raise ValueError(
            f"language model {uri!r}: expected {parts.scheme}://HOST:PORT/v1#MODEL, "
            f"with the model's name after '#'"
        )
    try:
        _ = parts.port
    except ValueError as error:
        raise ValueError(f"language model {uri!r}: {error}") from None
    return parts._replace(fragment="").geturl().rstrip("/"), parts.fragment


def is_openai(base_url: str) -> bool:
    """Whether an address is OpenAI's own; its key never travels in the clear."""
    parts = urlsplit(base_url)
    return parts.scheme == "https" and parts.hostname == "api.openai.com"

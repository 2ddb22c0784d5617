"""Servers that speak the OpenAI chat protocol, asked through the openai package.

An ``Endpoint`` makes one attempt at one request and says exactly how it failed.
Patience, money and memory are other chats around it (``retry``, ``budget``, ``cache``).
"""

from __future__ import annotations

import json
import math
import threading
import time
from typing import Any
from urllib.parse import urlsplit

from guerdon.extras import require
from guerdon.llm.budget import (
    Price,
    could_have,
    prompt_size,
)
from guerdon.llm.client import (
    LOOPBACK,
    Answer,
    Message,
    ModelError,
    Request,
    nearest,
)
from guerdon.llm.reply import ADDED, count, cut, retry_after, usage_of
from guerdon.llm.secret import Secret, silence
from guerdon.llm.wire import Deadline, http_client

PROBE = 'root ::= "ok"'


class Endpoint:
    """One model on one server.

    What the server understands is learnt once: whether it decodes under a GBNF
    grammar (it is asked for "no" under a grammar that only permits "ok"), whether it
    takes a JSON schema, and which optional parameters it refuses.

    Args:
        base_url: up to and with ``/v1``.
        model: name of the model on that server.
        key: secret of the server; empty where it wants none.
        timeout: seconds for one call, from the first byte out to the last byte in.
        grammar: whether the server knows GBNF; None to find out.
        price: what the model costs, or None when that is not known.
        name: identity of the model; by default the URL and the model.

    Raises:
        ValueError: when the timeout is not a positive number.
    """

    def __init__(
        self,
        base_url: str,
        model: str,
        *,
        key: Secret,
        timeout: float = 120.0,
        grammar: bool | None = None,
        price: Price | None = None,
        name: str | None = None,
    ) -> None:
        if not (math.isfinite(timeout) and timeout > 0):
            raise ValueError(f"timeout: expected seconds > 0, got {timeout}")
        self._base_url = base_url
        self._served = model
        self._key = key
        self._timeout = timeout
        self._grammar = grammar
        self._schema = True
        self._price = price
        self._name = name or f"{base_url}#{model}"
        self._limit = "max_tokens"
        self._refused: set[str] = set()
        self._client: Any = None
        self._lock = threading.Lock()
        self._probe_lock = threading.Lock()
        self._overhead = (0, 0)
        self._calls = threading.local()

    @property
    def model(self) -> str:
        """Identity of the model."""
        return self._name

    def __repr__(self) -> str:
        return f"Endpoint({self._name!r})"

    def chat(self, request: Request) -> Answer:
        """Ask once.

        The first answer under a grammar also counts the tokens of the probe.

        Raises:
            ModelError: when there is no usable answer, with the tokens paid for it.
            MissingExtra: when the openai package is not installed.
        """
        # The first time it imports the package, which no server is to be blamed for.
        self._connection()
        if request.grammar is not None and self._grammar is None:
            with self._probe_lock:
                if self._grammar is None:
                    self._grammar = self._knows_grammar()
        begin = time.monotonic()
        text, usage, finish = self._ask(request, begin + self._timeout)
        prompt, completion, estimated = count(usage, request, text)
        with self._lock:
            extra, self._overhead = self._overhead, (0, 0)
        prompt, completion = prompt + extra[0], completion + extra[1]
        if not text.strip():
            full = finish == "length"
            raise ModelError(
                f"{self._name} spent all {request.max_tokens} tokens before the first "
                "word of its answer; raise max_tokens"
                if full
                else f"{self._name} gave an empty answer (finish reason {finish!r})",
                "empty",
                retryable=not full,
                prompt_tokens=prompt,
                completion_tokens=completion,
            )
        return Answer(
            text=text,
            prompt_tokens=prompt,
            completion_tokens=completion,
            usd=None if self._price is None else self._price.usd(prompt, completion),
            seconds=time.monotonic() - begin,
            model=self._name,
            estimated=estimated,
            truncated=finish == "length",
        )

    def close(self) -> None:
        """Close the connections."""
        with self._lock:
            client, self._client = self._client, None
        if client is not None:
            client.close()

    def _connection(self) -> Any:
        with self._lock:
            if self._client is None:
                openai = require("openai", "llm")
                local = urlsplit(self._base_url).hostname in LOOPBACK
                self._client = openai.OpenAI(
                    base_url=self._base_url,
                    # The package wants some key; servers without one ignore it.
                    api_key=self._key.reveal() or "none",
                    max_retries=0,
                    http_client=http_client(
                        openai, local=local, current=lambda: self._calls.deadline
                    ),
                )
                silence(self._key)
            return self._client

    def _knows_grammar(self) -> bool:
        """Ask for one word under a grammar that permits another."""
        asked = "Reply with the word: no"
        arguments = {
            "messages": [{"role": "user", "content": asked}],
            self._limit: 16,
            "extra_body": {"grammar": PROBE},
        }
        try:
            text, usage, _ = self._send(arguments, time.monotonic() + self._timeout)
        except _Refused:
            return False
        prompt, completion = usage_of(usage, asked, text, (ADDED, 64)) or (16, 2)
        with self._lock:
            self._overhead = (prompt, completion)
        return text.strip() == "ok"

    def _ask(self, request: Request, deadline: float) -> tuple[str, Any, str]:
        """Send a request, leaving out what the server turns out not to take."""
        had_schema = self._schema
        while True:
            arguments = self._arguments(request)
            try:
                return self._send(arguments, deadline)
            except _Refused as refusal:
                failure = refusal.failure
                learnt = self._learn(refusal.detail, arguments)
            if not learnt:
                # Without the schema it was refused as well, so that was not why.
                self._schema = had_schema
                raise failure

    def _arguments(self, request: Request) -> dict[str, Any]:
        arguments: dict[str, Any] = {
            "messages": [
                {"role": m.role, "content": m.content} for m in request.messages
            ],
            self._limit: request.max_tokens,
        }
        if "temperature" not in self._refused:
            arguments["temperature"] = request.temperature
        if request.seed is not None and "seed" not in self._refused:
            arguments["seed"] = request.seed
        if request.grammar is not None and self._grammar:
            arguments["extra_body"] = {"grammar": request.grammar}
        elif request.schema is not None and self._schema:
            arguments["response_format"] = {
                "type": "json_schema",
                "json_schema": {
                    "name": "answer",
                    "schema": dict(request.schema),
                    "strict": True,
                },
            }
        return arguments

    def _learn(self, detail: str, sent: dict[str, Any]) -> bool:
        """Remember what a refusal was about; False when nothing can be left out."""
        if self._limit in sent and "max_completion_tokens" in detail:
            if self._limit == "max_tokens":
                self._limit = "max_completion_tokens"
                return True
            return False
        for name in ("temperature", "seed"):
            if name in sent and name in detail:
                self._refused.add(name)
                return True
        if "response_format" in sent:
            self._schema = False
            return True
        return False

    def _send(self, arguments: dict[str, Any], deadline: float) -> tuple[str, Any, str]:
        """One HTTP call: text, reported usage and finish reason.

        Raises:
            ModelError: for every failure of the server or the way to it; with the most
                tokens that it may have cost, where the server did not say.
            _Refused: when the server did not like an argument.
        """
        client = self._connection()
        failure: Exception
        broken = False
        with Deadline(deadline) as call:
            self._calls.deadline = call
            try:
                completions = client.chat.completions.with_streaming_response
                with completions.create(
                    model=self._served, timeout=max(0.001, call.left), **arguments
                ) as response:
                    body = b"".join(response.iter_bytes())
                return self._parse(body, arguments[self._limit])
            except ModelError as error:
                failure = error.with_traceback(None)
                failure.__context__ = None
            except Exception as error:
                translated = self._translate(error, call)
                if translated is None:
                    raise
                failure, broken = translated, call.answering
        if isinstance(failure, ModelError) and _may_have_cost(failure, call, broken):
            prompt = [Message(**m) for m in arguments["messages"]]
            failure.prompt_tokens = prompt_size(Request(tuple(prompt)))
            failure.completion_tokens = arguments[self._limit]
        # Raised out here, so that no HTTP request with its key hangs on the error.
        raise failure

    def _parse(self, body: bytes, max_tokens: int) -> tuple[str, Any, str]:
        try:
            data = json.loads(body)
        except (ValueError, RecursionError):
            raise self._malformed("no JSON") from None
        if isinstance(data, dict) and data.get("error"):
            message = self._shown(data["error"])
            raise ModelError(f"{self._name}: {message}", "server", retryable=True)
        try:
            choice = data["choices"][0]
            content = choice["message"]["content"]
        except (KeyError, IndexError, TypeError):
            raise self._malformed("no choices[0].message.content") from None
        if content is not None and not isinstance(content, str):
            raise self._malformed("a message that is not text")
        # Half a surrogate pair is JSON, but no file or prompt could hold it.
        text = (content or "").encode("utf-8", "replace").decode()
        if not could_have(text, max_tokens):
            raise self._malformed(f"far more text than {max_tokens} tokens")
        finish = self._shown(choice.get("finish_reason"))
        return self._key.scrub(text), data.get("usage"), finish

    def _shown(self, foreign: object) -> str:
        """Foreign words for a message: without our key, even half of it, and short."""
        return cut(self._key.scrub(str(foreign)))

    def _malformed(self, what: str) -> ModelError:
        return ModelError(
            f"{self._name} sent {what} where a chat completion was expected; is this "
            "the base URL of an OpenAI-compatible server (…/v1)?",
            "malformed",
            retryable=True,
        )

    def _translate(self, error: Exception, call: Deadline) -> Exception | None:
        """Our word for a failure of the client; None for what is not one."""
        openai = require("openai", "llm")
        if isinstance(error, openai.APIStatusError):
            return self._status(error)
        # While a body is read, the HTTP library's own errors come through.
        transport = type(error).__module__.partition(".")[0].startswith("http")
        if not transport and not isinstance(error, openai.OpenAIError):
            return None
        late = (
            isinstance(error, openai.APITimeoutError)
            or "Timeout" in type(error).__name__
        )
        # At the deadline the connection is cut, which looks like the server's doing.
        if late or call.passed:
            message = f"{self._name} did not answer within {self._timeout:g} s"
            return ModelError(message, "timeout", retryable=True)
        cause = error.__cause__ or error
        reason = self._shown(f"{type(cause).__name__}: {cause}")
        what = "broke off its answer" if call.answering else "cannot be reached"
        return ModelError(f"{self._name} {what} ({reason})", "server", retryable=True)

    def _status(self, error: Any) -> Exception:
        """Our word for an HTTP status that is not success."""
        status: int = error.status_code
        detail = self._shown(error.message)
        message = f"{self._name}: HTTP {status}: {detail}"
        if status in (401, 403):
            return ModelError(message, "auth")
        if status == 429:
            return ModelError(
                message,
                "rate_limit",
                # An account without credit stays without it.
                retryable="insufficient_quota" not in str(error.code or error.body),
                retry_after=retry_after(error.response.headers),
            )
        if status == 404:
            return ModelError(message + self._suggestion(), "server")
        if status in (400, 422):
            return _Refused(ModelError(message, "server"), str(error.body).lower())
        return ModelError(
            message,
            "server",
            retryable=status >= 500 or status in (408, 409, 425),
            retry_after=retry_after(error.response.headers),
        )

    def _suggestion(self) -> str:
        """The nearest model that the server has, when it says which it has."""
        openai = require("openai", "llm")
        seconds = min(10.0, self._timeout)
        try:
            with Deadline(time.monotonic() + seconds) as self._calls.deadline:
                page = self._connection().models.list(timeout=seconds)
            names = [str(model.id) for model in page.data][:1000]
        except (
            *(openai.OpenAIError, ModelError, AttributeError, TypeError, ValueError),
            RecursionError,
        ):
            return ""
        found = self._shown(nearest(self._served, names))
        return f"; the nearest model it has is {found!r}" if found else ""


class _Refused(Exception):
    """The server did not like an argument; ``detail`` says which, in lower case."""

    def __init__(self, failure: ModelError, detail: str) -> None:
        super().__init__(str(failure))
        self.failure = failure
        self.detail = detail


def _may_have_cost(failure: ModelError, call: Deadline, broken: bool) -> bool:
    """Whether a server may want money for a call that gave us nothing.

    It may where it had read the question and did not refuse it.
    """
    if failure.kind == "timeout":
        return call.connected
    return broken or (failure.kind == "malformed" and call.answering)

"""Whether a model would answer, found out for nothing.

An endpoint is asked for the list of its models. The embedded model is looked for on
this machine; nothing is fetched.
"""

from __future__ import annotations

import http.client
import json
import threading
import urllib.error
import urllib.request
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from guerdon.extras import MissingExtra, require_installed
from guerdon.llm.client import LOOPBACK, ModelError, endpoint_address, is_openai
from guerdon.llm.embedded import candidates_for, free_memory
from guerdon.llm.secret import find_key
from guerdon.llm.weights import Weights, find_here, is_offline

SECONDS = 5.0
_WITHOUT = (
    "without weights a search goes on with its operators alone, as with --llm sampler"
)

_MOST = 1 << 16
"""Bytes of the answer that are read."""


class Reached(NamedTuple):
    """What came of asking."""

    ok: bool
    detail: str


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A key is for the server that it was given for."""

    def redirect_request(self, *args: Any, **keywords: Any) -> None:
        """Follow nothing."""


def reach(uri: str) -> Reached:
    """Ask an endpoint for the list of its models, or look for the embedded model.

    Args:
        uri: ``openai:MODEL``, ``http(s)://...#MODEL`` or ``embedded[:NAME]``.

    Raises:
        ValueError: for a URI that names no endpoint and no model.
    """
    scheme, _, name = uri.partition(":")
    if scheme == "embedded" and (name or uri == "embedded"):
        return _embedded(name or None)
    base, model = endpoint_address(uri)
    try:
        key = find_key(openai=is_openai(base))
    except ModelError as error:
        return Reached(False, error.message)
    asked = urllib.request.Request(f"{base}/models")
    if key:
        asked.add_header("Authorization", f"Bearer {key.reveal()}")
    try:
        handlers: list[Any] = [_NoRedirect]
        if urlsplit(base).hostname in LOOPBACK:
            # As when a search asks: a proxy has no business with our own machine.
            handlers.append(urllib.request.ProxyHandler({}))
        opener = urllib.request.build_opener(*handlers)
        text = _in_time(opener, asked)
    except urllib.error.HTTPError as error:
        with error:
            return _refused(error.code)
    except (OSError, ValueError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", error)
        return Reached(False, key.scrub(f"no answer ({reason})")[:200])
    return Reached(True, _listed(text, model))


def _in_time(opener: Any, asked: urllib.request.Request) -> bytes:
    """The answer's first bytes; a timeout of ``urllib`` is for one read only."""
    found: list[bytes | BaseException] = []

    def ask() -> None:
        try:
            with opener.open(asked, timeout=SECONDS) as answer:
                found.append(answer.read(_MOST))
        except BaseException as error:  # raised again below
            found.append(error)

    thread = threading.Thread(target=ask, name="reach", daemon=True)
    thread.start()
    thread.join(2 * SECONDS)
    if not found:
        raise TimeoutError(f"still sending after {2 * SECONDS:g} s")
    if isinstance(found[0], BaseException):
        raise found[0]
    return found[0]


def _embedded(name: str | None) -> Reached:
    """What a search with the embedded model would find here, without a request."""
    candidates = candidates_for(name)
    try:
        require_installed("openai", "llm")
        require_installed("xllamacpp", "embedded")
    except MissingExtra as error:
        return Reached(False, str(error))
    memory = free_memory()
    if name is None and memory is not None:
        candidates = [w for w in candidates if w.memory <= memory]
    missing: list[Weights] = []
    for weights in candidates:
        path = find_here(weights)
        if path is not None:
            return Reached(True, f"{weights.name} is here: {path}{_first(missing)}")
        missing.append(weights)
    if not missing:
        detail = "too little free memory for any of them"
    else:
        detail = f"no weights on this machine for {', '.join(w.name for w in missing)}"
    return Reached(False, f"{detail}{_first(missing)}; {_WITHOUT}")


def _first(missing: list[Weights]) -> str:
    """What a search does before it takes what is here."""
    if not missing:
        return ""
    if is_offline():
        return "; downloads are switched off by the environment"
    size = missing[0].size >> 20
    return f"; a search first tries to fetch {missing[0].name} ({size} MiB)"


def _refused(status: int) -> Reached:
    if status in (401, 403):
        return Reached(False, f"answers, and refuses the key (HTTP {status})")
    if status in (404, 405):
        return Reached(True, "answers, and lists no models")
    return Reached(False, f"answers with HTTP {status}")


def _listed(text: bytes, model: str) -> str:
    """Whether the model is among those that the endpoint lists."""
    try:
        names = [str(row["id"]) for row in json.loads(text)["data"]]
    except (ValueError, KeyError, TypeError, RecursionError):
        return "answers"
    if model in names:
        return f"answers, and has {model}"
    return f"answers; {model} is not among the {len(names)} models that it lists"

"""Whether an endpoint answers, found out by a request that costs nothing."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from typing import Any, NamedTuple

from guerdon.llm.client import ModelError, endpoint_address
from guerdon.llm.secret import find_key

SECONDS = 5.0
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
    """Ask an endpoint for the list of its models.

    Args:
        uri: ``openai:MODEL`` or ``http(s)://...#MODEL``.

    Raises:
        ValueError: for a URI that names no endpoint.
    """
    base, model = endpoint_address(uri)
    try:
        key = find_key(openai=uri.startswith("openai:"))
    except ModelError as error:
        return Reached(False, error.message)
    asked = urllib.request.Request(f"{base}/models")
    if key:
        asked.add_header("Authorization", f"Bearer {key.reveal()}")
    try:
        opener = urllib.request.build_opener(_NoRedirect)
        with opener.open(asked, timeout=SECONDS) as answer:
            text = answer.read(_MOST)
    except urllib.error.HTTPError as error:
        with error:
            return _refused(error.code)
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        return Reached(False, key.scrub(f"no answer ({reason})")[:200])
    return Reached(True, _listed(text, model))


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

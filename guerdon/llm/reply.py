"""What a server says about an answer: its tokens, its patience, its words."""

from __future__ import annotations

import json
import time
from email.utils import parsedate_to_datetime
from typing import Any

from guerdon.llm.budget import believable, count_tokens, prompt_size
from guerdon.llm.client import Request

ADDED = 4096
"""Most tokens that a server adds to a prompt: its template and its instructions."""


def cut(text: str, limit: int = 300) -> str:
    """Foreign text on one line of bounded length."""
    flat = "".join(c if c.isprintable() else " " for c in text[: limit + 1])
    return flat if len(flat) <= limit else flat[:limit] + "…"


def usage_of(
    usage: object, prompt: str, text: str, most: tuple[int, int]
) -> tuple[int, int] | None:
    """Reported tokens of prompt and completion, if they can be true of these texts."""
    if not isinstance(usage, dict):
        return None
    counts = (usage.get("prompt_tokens"), usage.get("completion_tokens"))
    if all(map(believable, counts, (prompt, text), most)):
        return counts  # type: ignore[return-value]
    return None


def count(usage: object, request: Request, text: str) -> tuple[int, int, bool]:
    """Tokens of prompt and completion, and whether we had to guess them."""
    prompt = "".join(message.content for message in request.messages)
    # A schema, and instructions that the server adds, count as prompt.
    sent = json.dumps(request.as_json())
    most = (len(sent.encode()) + ADDED, max(request.max_tokens, len(text.encode())))
    reported = usage_of(usage, prompt, text, most)
    if reported is not None:
        return (*reported, False)
    return prompt_size(request), count_tokens(text), True


def retry_after(headers: Any) -> float | None:
    """Seconds that the server asks to wait: a number, or until a date."""
    for name, unit in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        value = headers.get(name)
        if value is None:
            continue
        try:
            seconds = float(value) * unit
        except ValueError:
            try:
                then = parsedate_to_datetime(value).timestamp()
                seconds = max(0.0, then - time.time())
            except (ValueError, TypeError, OverflowError):
                continue
        # Less than nothing is no time to come back.
        if seconds >= 0.0:
            return seconds
    return None

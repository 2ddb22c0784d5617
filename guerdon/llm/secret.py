"""Keys, held so that they cannot be printed by accident."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Never

from guerdon.llm.client import ModelError


class Secret:
    """A text that shows itself as ``***`` everywhere but in ``reveal``.

    >>> key = Secret("sk-123")
    >>> f"{key} {key!r}", key.scrub("Bearer sk-123")
    ('*** ***', 'Bearer ***')

    Raises:
        ValueError: for anything but printable ASCII without spaces; an HTTP library
            would show such a key in its own error.
    """

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        if not all("!" <= character <= "~" for character in value):
            raise ValueError(
                "API key: expected printable ASCII without spaces; check for a "
                "line break or quotation marks around it"
            )
        self._value = value

    def reveal(self) -> str:
        """The text itself; only for the call that sends it."""
        return self._value

    def scrub(self, text: str) -> str:
        """``text`` without the secret."""
        return text.replace(self._value, "***") if self._value else text

    def __bool__(self) -> bool:
        return bool(self._value)

    def __repr__(self) -> str:
        return "***"

    def __reduce__(self) -> Never:
        raise TypeError("a Secret does not leave its process")


def find_key(*, openai: bool) -> Secret:
    """The user's key from the environment.

    ``GUERDON_API_KEY_FILE`` names a file with the key, ``GUERDON_API_KEY`` is the key.
    ``OPENAI_API_KEY`` is read for OpenAI only: another server has no business with it.

    Args:
        openai: whether the endpoint is OpenAI's own, which always wants a key.

    Raises:
        ModelError: kind ``auth``, when a key is needed and there is none.
        ValueError: when the key cannot be one.
    """
    path = os.environ.get("GUERDON_API_KEY_FILE")
    if path:
        try:
            return Secret(Path(path).read_text("utf-8").strip())
        except (OSError, UnicodeDecodeError) as error:
            raise ModelError(
                f"GUERDON_API_KEY_FILE: {path} cannot be read ({type(error).__name__})",
                "auth",
            ) from None
    names = ["GUERDON_API_KEY", *(["OPENAI_API_KEY"] if openai else [])]
    for name in names:
        value = os.environ.get(name, "").strip()
        if value:
            return Secret(value)
    if openai:
        raise ModelError(
            "no API key: set OPENAI_API_KEY or GUERDON_API_KEY, or name a file with "
            "the key in GUERDON_API_KEY_FILE",
            "auth",
        )
    return Secret("")

"""Keys, held so that they cannot be printed by accident."""

from __future__ import annotations

import json
import logging
import os
import stat
from pathlib import Path
from typing import Never
from urllib.parse import quote

from guerdon.llm.client import ModelError

SHORTEST = 8
"""Letters of the shortest key that is one. ``x`` or ``none``, which a server without
keys is given, are no secrets, and stand in every program."""

LONGEST = 8192
"""Bytes of the largest file that can be a key."""

_LOGGERS = (
    *("openai", "openai._base_client", "openai._response", "openai._legacy_response"),
    *(
        f"{library}{part}"
        for library in ("httpx", "httpx2", "httpcore", "httpcore2")
        for part in ("", ".connection", ".http11", ".http2", ".proxy", ".socks")
    ),
)
"""Loggers that tell of requests and of what servers send, when a user turns them up."""


class Secret:
    """A text that shows itself as ``***`` everywhere but in ``reveal``.

    >>> key = Secret("sk-12345")
    >>> f"{key} {key!r}", key.scrub("Bearer sk-12345")
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
        """``text`` without the secret, quoted or not; with a dummy as it is."""
        if len(self._value) < SHORTEST:
            return text
        # A server that echoes the key does so as JSON, Python or an address shows it.
        shown = {
            *(self._value, json.dumps(self._value)[1:-1], repr(self._value)[1:-1]),
            quote(self._value, safe=""),
        }
        for form in sorted(shown, key=len, reverse=True):
            text = text.replace(form, "***")
        return text

    def __bool__(self) -> bool:
        return bool(self._value)

    def __repr__(self) -> str:
        return "***"

    def __format__(self, spec: str) -> str:
        return format("***", spec)

    def __reduce__(self) -> Never:
        raise TypeError("a Secret does not leave its process")


class _Scrubber(logging.Filter):
    """Takes the known keys out of log records before any handler sees them."""

    def __init__(self) -> None:
        super().__init__()
        self.secrets: list[Secret] = []

    def filter(self, record: logging.LogRecord) -> bool:
        """Let every record pass, without the keys."""
        try:
            text = record.getMessage()
        except (TypeError, ValueError):
            # A record that cannot be put together; its parts hold what they hold.
            text = f"{record.msg!s} {record.args!r}"
        clean = self._scrubbed(text)
        if clean != text:
            record.msg, record.args = clean, ()
        if record.exc_info:
            # A handler shows this text, where there is one, and not the exception.
            shown = logging.Formatter().formatException(record.exc_info)
            record.exc_text = self._scrubbed(shown)
        return True

    def _scrubbed(self, text: str) -> str:
        for secret in self.secrets:
            text = secret.scrub(text)
        return text


_SCRUBBER = _Scrubber()


def silence(secret: Secret) -> None:
    """Keep a key out of the logs of the HTTP libraries, at whatever level.

    They hide our ``Authorization`` header, not what a server sends back of it.
    """
    if secret and not any(known is secret for known in _SCRUBBER.secrets):
        _SCRUBBER.secrets.append(secret)
    for name in _LOGGERS:
        logging.getLogger(name).addFilter(_SCRUBBER)


def find_key(*, openai: bool) -> Secret:
    """The user's key from the environment.

    ``GUERDON_API_KEY_FILE`` names a file with the key, ``GUERDON_API_KEY`` is the key.
    ``OPENAI_API_KEY_FILE`` and ``OPENAI_API_KEY`` are read for OpenAI only: another
    server has no business with them. A file of yours must be readable by you alone.

    Args:
        openai: whether the endpoint is OpenAI's own, which always wants a key.

    Raises:
        ModelError: kind ``auth``, when a key is needed and there is none, or its file
            cannot be read or is open to others.
        ValueError: when the key cannot be one.
    """
    for name in ["GUERDON_API_KEY", *(["OPENAI_API_KEY"] if openai else [])]:
        path = os.environ.get(f"{name}_FILE", "")
        if path:
            return _from_file(f"{name}_FILE", Path(path).expanduser())
        value = os.environ.get(name, "").strip()
        if value:
            return Secret(value)
    if openai:
        raise ModelError(
            "no API key: set OPENAI_API_KEY or GUERDON_API_KEY, or name a file with "
            "the key in OPENAI_API_KEY_FILE or GUERDON_API_KEY_FILE",
            "auth",
        )
    return Secret("")


def _from_file(name: str, path: Path) -> Secret:
    """The key in a file.

    Raises:
        ModelError: names the variable, the file, and what to do about it.
        ValueError: when what is in it cannot be a key.
    """
    try:
        with path.open("rb") as file:
            found = os.fstat(file.fileno())
            open_to_others = stat.S_ISREG(found.st_mode) and found.st_mode & 0o077
            # A secret that somebody else has mounted here is theirs to protect.
            if open_to_others and hasattr(os, "getuid") and found.st_uid == os.getuid():
                mode = stat.S_IMODE(found.st_mode)
                raise ModelError(
                    f"{name}: expected a file that only you can read, and {path} has "
                    f"mode {mode:04o}; run: chmod 600 {path}",
                    "auth",
                )
            text = file.read(LONGEST + 1).decode("utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ModelError(
            f"{name}: {path} cannot be read ({type(error).__name__})", "auth"
        ) from None
    if not 0 < len(text) <= LONGEST:
        what = "is empty" if not text else f"has more than {LONGEST} bytes"
        raise ModelError(
            f"{name}: expected a file with the key, and {path} {what}", "auth"
        )
    return Secret(text)

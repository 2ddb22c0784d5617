"""Errors as one line that says what failed, where, and what to do."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from guerdon.envs.task import Part
from guerdon.extras import MissingExtra
from guerdon.faults import blame, machine_fault
from guerdon.journal import JournalError
from guerdon.llm.client import ModelError

DEBUG = "GUERDON_DEBUG"
"""Environment variable that shows the traceback of an error instead of one line."""

_EXPECTED = (
    *(ValueError, TypeError, KeyError, OSError, sqlite3.Error),
    *(MissingExtra, JournalError, ModelError),
)
"""What wrong input, a full disk or an absent extra raise; more is a bug of ours."""


def explain(error: BaseException) -> str | None:
    """What a user can do about an error, in one line.

    Args:
        error: that ended a command.

    Returns:
        The line; None for a bug of ours, about which there is nothing to be done.
    """
    notes = getattr(error, "__notes__", ())
    part = next((note for note in notes if isinstance(note, Part)), None)
    ours = isinstance(error, MissingExtra)
    if part is not None and not ours and machine_fault(error, None) is None:
        return (
            f"{part}: {_line(_place(error))}; correct it there ({DEBUG}=1 shows the "
            "whole traceback)"
        )
    if not isinstance(error, _EXPECTED):
        return None
    if isinstance(error, OSError) and error.strerror and error.filename is not None:
        return _line(f"{error.filename}: {error.strerror}")
    whole = isinstance(error, KeyError) and error.args
    return _line(str(error.args[0] if whole else error)) or type(error).__name__


def _place(error: BaseException) -> str:
    """The error with the innermost line of the user's own code."""
    if isinstance(error, SyntaxError) and error.filename:
        # Python could not read the file, so no frame of it has ever run.
        kind, file = type(error).__name__, Path(error.filename).name
        return f"{kind}: {error.msg} ({file}:{error.lineno})"
    if isinstance(error, SystemExit):
        code = 0 if error.code is None else error.code
        return f"it ends the program, SystemExit({code!r}) {_tail(error)}"
    try:
        return blame(error)
    except Exception:
        # The user's own error class may fail to say what it is.
        return f"{type(error).__name__} {_tail(error)}"


def _tail(error: BaseException) -> str:
    """File, line and function alone, as ``blame`` words them."""
    plain = Exception().with_traceback(error.__traceback__)
    return blame(plain).removeprefix("Exception: ").strip()


def _line(text: str) -> str:
    return " ".join(text.split())

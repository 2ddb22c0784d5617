"""Reads the command line and turns errors that a user can act on into one line."""

from __future__ import annotations

import contextlib
import functools
import io
import json
import os
import re
import sqlite3
import sys
from collections.abc import Callable, Sequence
from typing import Any

import tyro

from guerdon.cli import commands
from guerdon.extras import MissingExtra
from guerdon.journal import JournalError
from guerdon.llm.client import ModelError

_COMMANDS: dict[str, Callable[..., int]] = {
    "tasks": commands.tasks,
    "check": commands.check,
    "search": commands.search,
    "train": commands.train,
    "evaluate": commands.evaluate,
    "report": commands.report,
    "doctor": commands.doctor,
}

_TAKES_TASK_FIRST = ("tasks", "search", "train", "evaluate")

INTERRUPTED = 130
WRONG_INPUT = 2

DEBUG = "GUERDON_DEBUG"
"""Environment variable that shows the traceback of an error instead of one line."""

_ERRORS = (ValueError, TypeError, KeyError, OSError, sqlite3.Error, MissingExtra)
"""What wrong input, a full disk or an absent extra raise; more is a bug of ours."""

_FRAME = re.compile(r"[\s\u2500-\u257f]+")
"""The box that tyro draws around its messages, and white space."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        arguments: words after ``guerdon``; those of the process by default.

    Returns:
        0 when it worked, 1 when what was checked is not well, 2 for wrong input, 130
        after Ctrl-C.
    """
    words = _task_first(list(sys.argv[1:] if arguments is None else arguments))
    try:
        command = _read(words)
        return command if isinstance(command, int) else command()
    except KeyboardInterrupt:
        return INTERRUPTED
    except (*_ERRORS, JournalError, ModelError) as error:
        if os.environ.get(DEBUG):
            raise
        text = _text(error)
        print(f"guerdon: {text}", file=sys.stderr)
        return _refused(text, type(error).__name__, words)


def _read(words: Sequence[str]) -> int | Callable[[], int]:
    """The command with its arguments, or the status when there is nothing to run."""
    messages = io.StringIO()
    try:
        with contextlib.redirect_stderr(messages):
            command: Callable[[], int] = tyro.extras.subcommand_cli_from_dict(
                {name: _later(run) for name, run in _COMMANDS.items()},
                prog="guerdon",
                description="The workbench for reward design on Gymnasium.",
                args=list(words),
            )
        return command
    except SystemExit as end:
        sys.stderr.write(messages.getvalue())
        if not end.code:
            return 0
        text = _FRAME.sub(" ", messages.getvalue()).strip()
        return _refused(text, "UsageError", words)


def _later(run: Callable[..., int]) -> Callable[..., Callable[[], int]]:
    """``run`` in two steps, so that only reading the words counts as usage."""

    @functools.wraps(run)
    def bind(*args: Any, **kwargs: Any) -> Callable[[], int]:
        return functools.partial(run, *args, **kwargs)

    return bind


def _text(error: Exception) -> str:
    """What went wrong, in one line."""
    if isinstance(error, OSError) and error.strerror and error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    whole = isinstance(error, KeyError) and error.args
    return " ".join(str(error.args[0] if whole else error).split())


def _refused(text: str, kind: str, words: Sequence[str]) -> int:
    """With ``--json`` the error is an object on stdout too."""
    if "--json" in words:
        print(json.dumps({"error": text, "kind": kind}))
    return WRONG_INPUT


def _task_first(words: list[str]) -> list[str]:
    """``--task X`` means the same as ``X`` where the task stands first."""
    if not words or words[0] not in _TAKES_TASK_FIRST:
        return words
    for place, word in enumerate(words):
        if word == "--task" and place + 1 < len(words):
            name, rest = words[place + 1], words[:place] + words[place + 2 :]
            return [rest[0], name, *rest[1:]]
        if word.startswith("--task="):
            rest = words[:place] + words[place + 1 :]
            return [rest[0], word.removeprefix("--task="), *rest[1:]]
    return words

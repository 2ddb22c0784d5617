"""Reads the command line and turns errors that a user can act on into one line."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence

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
        status: int = tyro.extras.subcommand_cli_from_dict(
            _COMMANDS,
            prog="guerdon",
            description="The workbench for reward design on Gymnasium.",
            args=words,
        )
        return status
    except KeyboardInterrupt:
        return INTERRUPTED
    except (ValueError, KeyError, OSError, MissingExtra) as error:
        return _refuse(error, words)
    except (JournalError, ModelError) as error:
        return _refuse(error, words)


def _refuse(error: Exception, words: Sequence[str]) -> int:
    """One line on stderr; with ``--json`` also an object on stdout."""
    text = str(error.args[0]) if isinstance(error, KeyError) else str(error)
    print(f"guerdon: {text}", file=sys.stderr)
    if "--json" in words:
        print(json.dumps({"error": text, "kind": type(error).__name__}))
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

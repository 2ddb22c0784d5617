"""Reads the command line, runs one command and says how it went."""

from __future__ import annotations

import contextlib
import functools
import io
import json
import os
import re
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import Any

import tyro

from guerdon.cli import commands
from guerdon.cli.errors import DEBUG, explain
from guerdon.cli.output import (
    Answer,
    Interrupted,
    OutputClosed,
    OutputLost,
    complain,
    drop,
    only_ours_on_stdout,
    open_closed,
    print_json,
    writing,
)
from guerdon.interrupt import INTERRUPTED, LINE, hand_over

_COMMANDS: dict[str, Callable[..., Answer]] = {
    "tasks": commands.tasks,
    "check": commands.check,
    "search": commands.search,
    "train": commands.train,
    "evaluate": commands.evaluate,
    "report": commands.report,
    "doctor": commands.doctor,
}

_TAKES_TASK_FIRST = ("tasks", "search", "train", "evaluate")

_WANTED = {
    **dict.fromkeys(_TAKES_TASK_FIRST, ("task", "a registered id or module:object")),
    "check": ("file", "a file with a program in the reward language"),
    "report": ("folder", "a run folder"),
}
"""What stands first after a command."""

WRONG_INPUT = 2
BUG = 70
PIPE_CLOSED = 141
"""What a shell shows for a process that SIGPIPE has ended: 128 and 13."""

_FRAME = re.compile(r"[\s\u2500-\u257f]+")
"""The box that tyro draws around its messages, and white space."""

_DESCRIPTION = """The workbench for reward design on Gymnasium.

Exit status: 0 when all is well; 1 when the program that is checked is refused, a
training fails, or the doctor finds that no search can run; 2 when the input is wrong,
also when the code of your own task fails; 70 for an error in guerdon itself; 130 after
Ctrl-C; 141 when whoever reads the output has gone."""

Command = Callable[[], Answer]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        arguments: words after ``guerdon``; those of the process by default.

    Returns:
        0 when it worked, 1 when what was checked is not well, 2 for wrong input, 70
        for a bug of ours, 130 after Ctrl-C, 141 when nobody reads the output.
    """
    words = _task_first(list(sys.argv[1:] if arguments is None else arguments))
    open_closed()
    try:
        hand_over()
        return _main(words)
    except OutputClosed:
        return PIPE_CLOSED
    except OutputLost as error:
        complain(f"guerdon: the output could not be written: {error}")
        return WRONG_INPUT
    except KeyboardInterrupt:
        complain(LINE)
        return INTERRUPTED
    finally:
        drop()


def _main(words: Sequence[str]) -> int:
    """Read, run, print."""
    as_json = "--json" in words
    empty = _empty(words)
    if empty is not None:
        complain(f"guerdon: {empty}")
        return _refused(empty, "ValueError", as_json)
    command = _read(words)
    if isinstance(command, int):
        return command
    answer = _run(command, as_json)
    if isinstance(answer, int):
        return answer
    if not as_json:
        shown = _run(functools.partial(_show, answer), as_json)
        return shown if isinstance(shown, int) else answer.status
    with writing():
        print_json(answer.data)
    return answer.status


def _show(answer: Answer) -> Answer:
    with writing():
        answer.page()
    return answer


def _read(words: Sequence[str]) -> int | Command:
    """The command with its arguments, or the status when there is nothing to run."""
    messages = io.StringIO()
    try:
        with writing(), contextlib.redirect_stderr(messages):
            command: Command = tyro.extras.subcommand_cli_from_dict(
                {name: _later(run) for name, run in _COMMANDS.items()},
                prog="guerdon",
                description=_DESCRIPTION,
                args=list(words),
            )
        return command
    except SystemExit as end:
        if not end.code:
            return 0
        complain(messages.getvalue().rstrip("\n"))
        text = _FRAME.sub(" ", messages.getvalue()).strip()
        return _refused(text, "UsageError", "--json" in words)


def _empty(words: Sequence[str]) -> str | None:
    """Why an empty word is refused: as a path it would silently be this folder.

    A shell gives one for ``"$OUT"`` where the variable has no value.
    """
    for before, word in zip(("", *words), words, strict=False):
        flag, _, value = word.partition("=")
        if flag.startswith("--") and word == f"{flag}=":
            before, word = flag, value
        if word:
            continue
        if before.startswith("--"):
            return f"{before}: expected a value, got an empty text"
        if before in _WANTED:
            name, expected = _WANTED[before]
            without = "; leave it out to list all" if before == "tasks" else ""
            return f"{name}: expected {expected}, got an empty text{without}"
        return f"after {before!r}: expected nothing or a flag, got an empty text"
    return None


def _later(run: Callable[..., Answer]) -> Callable[..., Command]:
    """``run`` in two steps, so that only reading the words counts as usage."""

    @functools.wraps(run)
    def bind(*args: Any, **kwargs: Any) -> Command:
        return functools.partial(run, *args, **kwargs)

    return bind


def _run(command: Command, as_json: bool) -> Answer | int:
    """The answer, or the status of a command that has none."""
    try:
        with only_ours_on_stdout(as_json):
            return command()
    except (OutputClosed, OutputLost):
        raise
    except KeyboardInterrupt as error:
        if not isinstance(error, Interrupted):
            complain(LINE)
        return _refused("interrupted", "KeyboardInterrupt", as_json, INTERRUPTED)
    except (Exception, SystemExit) as error:
        if os.environ.get(DEBUG):
            raise
        text, kind = explain(error), type(error).__name__
        if text is not None:
            complain(f"guerdon: {text}")
            return _refused(text, kind, as_json)
        complain("".join(traceback.format_exception(error)))
        text = f"this is an error in guerdon itself, please report it: {kind}: {error}"
        complain(f"guerdon: {text}")
        return _refused(text, kind, as_json, BUG)


def _refused(text: str, kind: str, as_json: bool, status: int = WRONG_INPUT) -> int:
    """With ``--json`` the error is an object on stdout too."""
    with writing():
        if as_json:
            print(json.dumps({"error": text, "kind": kind}))
    return status


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

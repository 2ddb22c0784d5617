"""What a command answers, and the streams that it goes to."""

from __future__ import annotations

import contextlib
import io
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import IO, Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

from guerdon.harmless import harmless


class OutputClosed(Exception):
    """Whoever read our output has gone, as ``head`` does when it has seen enough."""


class Interrupted(KeyboardInterrupt):
    """Ctrl-C, where the user has been told already how to go on."""


class OutputLost(Exception):
    """The output cannot be written, to a full disk for example."""


class Terminal(Console):
    """A console that obeys nobody's text but ours.

    It also tells of a lost reader, where rich would end the process.
    """

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterable[Segment]:
        """What rich makes of something, with the text in it made harmless."""
        for segment in super().render(renderable, options):
            if segment.control:
                yield segment
            else:
                yield Segment(harmless(segment.text), segment.style)

    def on_broken_pipe(self) -> None:
        """Called by rich in place of the error of the operating system."""
        self.quiet = True
        raise OutputClosed


@dataclass(frozen=True)
class Answer:
    """What a command found; the entry prints it, as JSON or for people.

    Args:
        data: for ``--json``.
        page: prints the same for people.
        status: exit status.
    """

    data: Any
    page: Callable[[], None]
    status: int = 0


def print_json(value: Any) -> None:
    """The one document on stdout that ``--json`` promises."""
    print(json.dumps(value, indent=2, allow_nan=False, default=str))


def open_closed() -> None:
    """Stand in for streams that were closed by who started us, with ``>&-``."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115 - to the end


def complain(text: str) -> None:
    """One line on stderr, if anybody still reads it."""
    with contextlib.suppress(OSError, ValueError):
        print(harmless(text), file=sys.stderr, flush=True)


@contextlib.contextmanager
def only_ours_on_stdout(wanted: bool) -> Iterator[None]:
    """What a task's own code prints goes to stderr, from other languages too.

    Args:
        wanted: False changes nothing.
    """
    if not wanted:
        yield
        return
    # A task that prints when it is imported must not spoil the JSON of the command.
    with contextlib.redirect_stdout(sys.stderr), _descriptor_to_stderr():
        yield


@contextlib.contextmanager
def _descriptor_to_stderr() -> Iterator[None]:
    """The same below Python, for libraries and for processes that we start."""
    stdout = sys.__stdout__
    try:
        number = -1 if stdout is None else stdout.fileno()
        kept = os.dup(number)
        error = sys.__stderr__.fileno() if sys.__stderr__ is not None else -1
        os.dup2(error, number)
    except (OSError, ValueError):  # closed, or no file of the system at all
        yield
        return
    try:
        yield
    finally:
        if stdout is not None:
            stdout.flush()
        os.dup2(kept, number)
        os.close(kept)


@contextlib.contextmanager
def writing() -> Iterator[None]:
    """Write out at the end what stdout holds; later nobody could catch the error.

    Raises:
        OutputClosed: when the reader has gone.
        OutputLost: says why it cannot be written.
    """
    try:
        yield
        if sys.stdout is not None:
            sys.stdout.flush()
    except BrokenPipeError:
        raise OutputClosed from None
    except OSError as error:
        raise OutputLost(error.strerror) from None


def drop() -> None:
    """Let go of what could not be written: Python would try again at its end."""
    for stream in (sys.stdout, sys.stderr):
        if stream is not None and not _flushes(stream):
            with contextlib.suppress(OSError, ValueError, io.UnsupportedOperation):
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _flushes(stream: IO[str]) -> bool:
    try:
        stream.flush()
    except (OSError, ValueError):
        return False
    return True

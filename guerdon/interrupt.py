"""Ctrl-C while the command is still being loaded, before there is any code of ours.

``import guerdon`` loads Gymnasium and NumPy, and the command's own modules come after
it: for a third of a second, Python would answer Ctrl-C with a traceback of imports.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from types import FrameType

INTERRUPTED = 130
"""What a shell shows for a process that SIGINT has ended: 128 and 2."""

LINE = "guerdon: interrupted"
"""What is said where nothing has been begun."""

_MODULES = ("guerdon", "guerdon.cli", "guerdon.__main__", "guerdon.cli.__main__")
_SCRIPTS = ("guerdon", "guerdon.exe", "guerdon-script.py")


def is_command(words: Sequence[str]) -> bool:
    """Whether a process was started as ``guerdon`` or ``python -m guerdon``.

    Args:
        words: ``sys.orig_argv``; unlike ``sys.argv``, a process that multiprocessing
            started has its own.

    >>> is_command(["python", "-W", "error", "-m", "guerdon", "tasks"])
    True
    >>> is_command(["python", "train.py", "guerdon"])
    False
    """
    rest = iter(words[1:])
    for word in rest:
        if word in ("-W", "-X"):
            next(rest, None)
        elif word == "-m":
            return next(rest, "") in _MODULES
        elif word == "-c":
            return False
        elif not word.startswith("-"):
            return os.path.basename(word).lower() in _SCRIPTS
    return False


def listen() -> None:
    """Until ``hand_over``, Ctrl-C ends this process at once, if it is our command.

    An exception would not do: libraries that are being imported catch it, or turn it
    into an error of their own. Nothing has been written yet that had to be tidied up.
    """
    if not is_command(sys.orig_argv):
        return
    # Who ignores Ctrl-C, as a job in the background does, goes on ignoring it.
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _leave)


def hand_over() -> None:
    """From here on Ctrl-C is a ``KeyboardInterrupt`` again."""
    if signal.getsignal(signal.SIGINT) is _leave:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _leave(number: int, frame: FrameType | None) -> None:
    with suppress(OSError):  # the reader may be gone, or the stream closed
        os.write(2, f"{LINE}\n".encode())
    if "--json" in sys.orig_argv:
        with suppress(OSError):
            os.write(1, b'{"error": "interrupted", "kind": "KeyboardInterrupt"}\n')
    os._exit(INTERRUPTED)

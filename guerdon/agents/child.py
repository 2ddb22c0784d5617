"""One worker process, and what the controller does to it."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from pathlib import Path

from guerdon.agents.worker import MAX_ANSWER, serve
from guerdon.harmless import harmless

STDERR_TAIL = 2000
"""Bytes of a dead worker's stderr that its failure shows."""

UNTOLD = 255
"""The exit code that multiprocessing gives where a dead server can tell none."""

# multiprocessing reads a dead child's exit code from a pipe that every ``start``
# polls for all children, so no two threads may do either at once.
serialised = threading.Lock()


class Killed(Exception):
    """A worker died of a signal or for want of memory: perhaps not by its own fault."""


class Lost(Killed):
    """What a job needs to run was taken from it: never its own fault."""


class Full(Killed):
    """There was too little memory."""


class Child:
    """A worker process and what the controller does to it."""

    def __init__(self, function: str, folder: Path, stderr: Path) -> None:
        context = multiprocessing.get_context("forkserver")
        self.connection: Connection
        self.connection, theirs = context.Pipe()
        self._process = context.Process(
            target=serve,
            args=(theirs, function, str(folder), str(stderr)),
            name="guerdon-worker",
            daemon=True,
        )
        try:
            with serialised:
                self._process.start()
        except BaseException:
            self.connection.close()
            raise
        finally:
            theirs.close()
        self._killing = threading.Lock()
        self._gone = False

    def next_message(self) -> bytes:
        """The next message; EOFError when the worker is dead.

        A grandchild may hold the pipe open, so the process itself is watched too.
        """
        ready = wait([self.connection, self._process.sentinel])
        if self.connection not in ready:
            raise EOFError
        return self.connection.recv_bytes(MAX_ANSWER + 1)

    def kill(self) -> None:
        """Kill the whole process group; harmless when it is gone.

        A live worker proves that its process id is still its own. After its death
        the id may belong to a stranger if a process of that id exists; if there is
        none, a group of that id can only be what the worker left behind.
        """
        with self._killing:
            if self._gone:
                return
            pid = self._process.pid
            if pid is None:
                return
            dead = bool(wait([self._process.sentinel], timeout=0))
            if dead and _exists(pid):
                return
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(pid, signal.SIGKILL)
            if not dead:
                # It may not have reached its own group yet.
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)

    def reap(self) -> int | None:
        """Kill what is left, and give the exit code; negative for a signal."""
        self.kill()
        wait([self._process.sentinel], timeout=10)
        with self._killing, serialised:
            self._gone = True
            code = self._process.exitcode
            if code is not None:
                self._process.close()
        self.connection.close()
        return code


def _exists(pid: int) -> bool:
    """Whether there is a process of this id, anybody's."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def epitaph(code: int | None, stderr: Path) -> str:
    """How a worker died, with the end of what it printed."""
    if code is not None and code < 0:
        known = -code in set(signal.Signals)
        name = signal.Signals(-code).name if known else f"signal {-code}"
        hint = ", as the system does when memory runs out" if name == "SIGKILL" else ""
        how = f"killed by {name}{hint}"
    else:
        how = f"exit code {code}"
    tail = b""
    with suppress(OSError), stderr.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - STDERR_TAIL))
        tail = file.read()
    text = harmless(tail.decode(errors="replace").strip())
    return f"worker died: {how}" + (f"\n{text}" if text else "")

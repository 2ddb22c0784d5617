"""The server that jobs are forked from: started clean, loaded once, single-threaded.

It is a fresh, isolated interpreter with an environment of a few harmless words, so that
what it forks has never seen a key. It talks over the socket that is its standard input:
a JSON message asks for a job and brings three descriptors, the job's *line* and two
pipes. How a job ended is told on its line; when the other end of the line falls silent,
on purpose or because its holder is gone, the job is killed. A job never holds a line.

A job is trusted code with untrusted data: ``module:function`` gets the payload while
everything is still open and returns a function that is called once the jail is shut.
"""

from __future__ import annotations

import errno
import gc
import importlib
import json
import os
import select
import signal
import socket
import struct
import tempfile
import traceback
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NamedTuple, NoReturn

from guerdon.faults import blame, machine_fault
from guerdon.jail.confine import Limits, confine, die_with_parent, first_to_go, readable

MAX_MESSAGE = 1 << 17
"""Bytes of the largest request; more may not fit into a socket's buffer."""

ENVIRONMENT = {
    "PATH": "/usr/bin:/bin",
    "LANG": "C.UTF-8",
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "SDL_VIDEODRIVER": "dummy",
}
"""All that a job can see of an environment; no key, no home, no name of a user."""

ANSWER, PROGRESS, READY, SHUT, FAULT = b"R", b"P", b"Z", b"S", b"F"
"""First byte of each message of a job: its answer, its progress, the jail is shut.

Why the jail could not be shut is heard only before it is: up to then every message is
ours, and what may be forged comes behind it.
"""

FRAME = struct.Struct("=cI")
"""Kind and length of a message."""

END = struct.Struct("=?i")
"""What the line says: whether a job was forked; its exit code, or why not (errno)."""

DESCRIPTORS = 3
"""What comes with a job: its line, a pipe for messages, one for what it prints."""

MAX_FAULT = 1 << 15
"""Bytes of the longest word about a fault."""

_FAULT_LENGTH = 1000
_OUT = 3
_MOST_DESCRIPTORS = 1 << 20
_LOOK_MS = 1000
"""How often to look whether the controller still lives, when nothing happens."""


class _Job(NamedTuple):
    pid: int
    scratch: str
    files: int


class Fault(NamedTuple):
    """Why the jail could not be shut around a job; no line of its text has run."""

    number: int
    """The machine's ``errno``; 0 where the trusted code itself has failed."""
    text: str
    file: str | None = None

    @classmethod
    def of(cls, error: OSError) -> Fault:
        """What the machine could not do."""
        file = None if error.filename is None else str(error.filename)
        return cls(error.errno or 0, str(error.strerror), file)

    def write(self) -> bytes:
        """The message, short enough for the controller."""
        file = self.file if self.file is None else self.file[:_FAULT_LENGTH]
        return json.dumps([self.number, self.text[:_FAULT_LENGTH], file]).encode()

    @classmethod
    def read(cls, body: bytes) -> Fault:
        """What ``write`` wrote; ValueError for anything else."""
        found = json.loads(body)
        match found:
            case [int(number), str(text), str() | None as file]:
                return cls(number, text, file)
        raise ValueError(f"expected a fault, got {type(found).__name__}")


def frame(kind: bytes, body: bytes) -> bytes:
    """One message of a job."""
    return FRAME.pack(kind, len(body)) + body


def main() -> None:
    """Load what jobs will need, then fork them until the controller is gone."""
    control = socket.socket(fileno=os.dup(0))
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.close(null)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    start = json.loads(control.recv(MAX_MESSAGE))
    # What every job needs is looked up once.
    readable()
    for name in ("resource", *start["preload"]):
        importlib.import_module(name)
    gc.collect()
    gc.freeze()
    server = _Server(control, start["parent"])
    control.sendall(READY)
    server.serve()


class _Server:
    """Forks jobs and buries them."""

    def __init__(self, control: socket.socket, parent: int) -> None:
        self._control = control
        self._parent = parent
        self._jobs: dict[int, _Job] = {}
        """By the descriptor of its line."""
        self._wake, other = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(other)
        signal.signal(signal.SIGCHLD, lambda number, at: None)
        self._poll = select.poll()
        self._poll.register(control, select.POLLIN)
        self._poll.register(self._wake, select.POLLIN)

    def serve(self) -> None:
        """Go on until nobody is left to ask."""
        try:
            # A fork of the controller may hold its sockets open after its death.
            while os.getppid() == self._parent:
                ready = {place for place, _ in self._poll.poll(_LOOK_MS)}
                for line in ready & self._jobs.keys():
                    # It would be ready until it is closed.
                    self._poll.unregister(line)
                    _kill(self._jobs[line].pid)
                if self._wake in ready:
                    with suppress(BlockingIOError):
                        os.read(self._wake, 4096)
                    self._bury()
                if self._control.fileno() in ready and not self._take():
                    return
        finally:
            for job in self._jobs.values():
                _kill(job.pid)
                # The controller may not have lived to do it.
                _remove(job)

    def _take(self) -> bool:
        """Do what one message asks for; False when there is nobody left to ask."""
        text, given, _, _ = socket.recv_fds(
            self._control, MAX_MESSAGE, DESCRIPTORS, socket.MSG_CMSG_CLOEXEC
        )
        if not text:
            return False
        try:
            line, *pipes = given
            self._start(json.loads(text), line, pipes)
        except (KeyError, TypeError, ValueError):
            # Fewer descriptors than were sent: there is no room for more.
            traceback.print_exc()
        finally:
            for descriptor in given:
                if descriptor not in self._jobs:
                    os.close(descriptor)
        return True

    def _start(self, message: dict[str, Any], line: int, pipes: list[int]) -> None:
        out, printed = pipes
        parent = os.getpid()
        scratch, files = message["scratch"], message["limits"]["scratch_files"]
        try:
            pid = os.fork()
        except OSError as error:
            with suppress(OSError):
                os.write(line, END.pack(False, error.errno or 0))
            return
        if pid == 0:
            _run(message, parent, out, printed)
        self._jobs[line] = _Job(pid, scratch, files)
        self._poll.register(line, select.POLLIN)

    def _bury(self) -> None:
        """Tell of every job that has ended how it did."""
        for line, job in list(self._jobs.items()):
            pid = job.pid
            look = os.WEXITED | os.WNOHANG | os.WNOWAIT
            if os.waitid(os.P_PID, pid, look) is None:
                continue
            # What is left in its group, while its number cannot be anyone else's.
            _kill(pid)
            _, status = os.waitpid(pid, 0)
            try:
                os.write(line, END.pack(True, os.waitstatus_to_exitcode(status)))
            except OSError:
                # Nobody is left who would do it.
                _remove(job)
            with suppress(KeyError):
                self._poll.unregister(line)
            del self._jobs[line]
            os.close(line)


def _remove(job: _Job) -> None:
    """Delete the files of a job and their folder by their names, never a tree."""
    with suppress(OSError):
        for place in range(job.files):
            os.unlink(os.path.join(job.scratch, str(place)))
        os.rmdir(job.scratch)


def _kill(pid: int) -> None:
    for kill in (os.killpg, os.kill):
        with suppress(ProcessLookupError, PermissionError):
            kill(pid, signal.SIGKILL)


def _run(message: dict[str, Any], parent: int, out: int, printed: int) -> NoReturn:
    """The job, in its own process; never returns."""
    code = 70
    try:
        die_with_parent(parent)
        _alone(out, printed, message["scratch"])
        for part in _shut_in(message)(_tell):
            _send(_OUT, ANSWER, part)
        code = 0
    except BaseException as error:
        # The report of a job that may do anything, even raise SystemExit.
        with suppress(BaseException):
            lines = traceback.format_exception(error, limit=-3)
            os.write(2, "".join(lines).encode(errors="replace")[-4000:])
    finally:
        os._exit(code)


def _shut_in(
    message: dict[str, Any],
) -> Callable[[Callable[[float], None]], list[bytes]]:
    """Prepare the job and shut the jail; what the controller must know of both."""
    try:
        limits = Limits(**message["limits"])
        prepared = _prepare(message["function"], message["payload"])
    except Exception as error:
        found = machine_fault(error, None)
        told = Fault.of(found) if found else Fault(0, blame(error))
        _send(_OUT, FAULT, told.write())
        raise
    scratch = [str(place) for place in range(limits.scratch_files)]
    try:
        confine(limits, [os.path.join(message["scratch"], name) for name in scratch])
    except (OSError, ValueError) as error:
        # The machine has said that it can; see ``layers``.
        number = error.errno if isinstance(error, OSError) else None
        why = getattr(error, "strerror", None) or error
        words = f"the jail cannot be shut ({why}); guerdon doctor tries each layer"
        _send(_OUT, FAULT, Fault(number or errno.EPERM, words).write())
        raise
    _send(_OUT, SHUT, b"")
    return prepared


def _alone(out: int, printed: int, scratch: str) -> None:
    """A group, a folder and descriptors of one's own."""
    os.setsid()
    first_to_go()
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.dup2(printed, 1)
    os.dup2(printed, 2)
    os.dup2(out, _OUT)
    os.closerange(_OUT + 1, _MOST_DESCRIPTORS)
    os.chdir(scratch)
    tempfile.tempdir = scratch


def _prepare(
    function: str, payload: str
) -> Callable[[Callable[[float], None]], list[bytes]]:
    module, _, name = function.partition(":")
    prepare = getattr(importlib.import_module(module), name)
    prepared: Callable[[Callable[[float], None]], list[bytes]] = prepare(payload)
    return prepared


def _tell(share: float) -> None:
    """Claim that a share of the work is done."""
    _send(_OUT, PROGRESS, b"%.4f" % min(max(share, 0.0), 1.0))


def _send(out: int, kind: bytes, body: bytes) -> None:
    data = memoryview(frame(kind, body))
    while data:
        data = data[os.write(out, data) :]

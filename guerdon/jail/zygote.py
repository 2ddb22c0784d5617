"""The server that jobs are forked from: started clean, loaded once, single-threaded.

It runs as ``python -I -m guerdon.jail.zygote`` with an environment of a few harmless
words, so that what it forks has never seen a key. It talks over the socket that is its
standard input: one JSON message asks for a job and brings two pipes, another kills one;
how each job ended is written to that job's own pipe.

A job is trusted code with untrusted data: ``module:function`` gets the payload while
everything is still open and returns a function that is called once the jail is shut.
"""

from __future__ import annotations

import array
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
from typing import Any, NoReturn

from guerdon.jail.confine import Limits, confine, die_with_parent

MAX_MESSAGE = 1 << 17
"""Bytes of the largest request; more may not fit into a socket's buffer."""

ANSWER, PROGRESS, READY, SHUT = b"R", b"P", b"Z", b"S"
"""First byte of each message of a job: its answer, its progress, the jail is shut."""

FRAME = struct.Struct("=cI")
"""Kind and length of a message."""

DESCRIPTORS = 3
"""Pipes that come with a job: for messages, for its end, for what it prints."""


def frame(kind: bytes, body: bytes) -> bytes:
    """One message of a job."""
    return FRAME.pack(kind, len(body)) + body


def main() -> None:
    """Load what jobs will need, then fork them until the socket closes."""
    control = socket.socket(fileno=os.dup(0))
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    preload = json.loads(control.recv(MAX_MESSAGE))
    for name in preload:
        importlib.import_module(name)
    gc.collect()
    gc.freeze()
    wake_r, wake_w = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(wake_w)
    signal.signal(signal.SIGCHLD, lambda number, at: None)
    control.sendall(READY)
    jobs: dict[int, int] = {}
    try:
        while True:
            ready, _, _ = select.select([control.fileno(), wake_r], [], [])
            if wake_r in ready:
                with suppress(BlockingIOError):
                    os.read(wake_r, 4096)
                _bury(jobs)
            if control.fileno() in ready and not _serve(control, jobs):
                return
    finally:
        for pid in jobs:
            _kill(pid)


def _serve(control: socket.socket, jobs: dict[int, int]) -> bool:
    """Do what one message asks for; False when there is nobody left to ask."""
    size = array.array("i").itemsize * DESCRIPTORS
    text, extra, _, _ = control.recvmsg(MAX_MESSAGE, socket.CMSG_SPACE(size))
    if not text:
        return False
    passed = array.array("i")
    for _, _, data in extra:
        passed.frombytes(data[: len(data) - len(data) % passed.itemsize])
    message = json.loads(text)
    if "kill" in message:
        if message["kill"] in jobs:
            _kill(message["kill"])
        return True
    messages, end, printed = passed
    parent = os.getpid()
    pid = os.fork()
    if pid == 0:
        _run(message, parent, messages, printed)
    os.close(messages)
    os.close(printed)
    jobs[pid] = end
    try:
        os.write(end, struct.pack("=i", pid))
    except BrokenPipeError:  # nobody waits for it any more
        _kill(pid)
    return True


def _bury(jobs: dict[int, int]) -> None:
    """Tell of every job that has ended how it did."""
    for pid in list(jobs):
        found, status = os.waitpid(pid, os.WNOHANG)
        if found:
            # What a job left in its group; a job cannot start processes.
            _kill(pid)
            with suppress(BrokenPipeError):
                os.write(
                    jobs[pid], struct.pack("=i", os.waitstatus_to_exitcode(status))
                )
            os.close(jobs.pop(pid))


def _kill(pid: int) -> None:
    for kill in (os.killpg, os.kill):
        with suppress(ProcessLookupError, PermissionError):
            kill(pid, signal.SIGKILL)


def _run(message: dict[str, Any], parent: int, out: int, printed: int) -> NoReturn:
    """The job, in its own process; never returns."""
    code = 70
    try:
        _alone(parent, out, printed, message["scratch"])
        limits = Limits(**message["limits"])
        prepared = _prepare(message["function"], message["payload"])
        scratch = [str(place) for place in range(limits.scratch_files)]
        confine(limits, [os.path.join(message["scratch"], name) for name in scratch])
        _send(out, SHUT, b"")
        parts = prepared(lambda share: _send(out, PROGRESS, b"%.4f" % share))
        for part in parts:
            _send(out, ANSWER, part)
        code = 0
    except BaseException as error:
        # The report of a job that may do anything, even raise SystemExit.
        with suppress(BaseException):
            lines = traceback.format_exception(error, limit=-3)
            os.write(2, "".join(lines).encode(errors="replace")[-4000:])
    finally:
        os._exit(code)


def _alone(parent: int, out: int, printed: int, scratch: str) -> None:
    """A group, a folder and descriptors of one's own."""
    os.setsid()
    die_with_parent(parent)
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.dup2(printed, 1)
    os.dup2(printed, 2)
    for name in os.listdir("/proc/self/fd"):
        if int(name) > 2 and int(name) != out:
            with suppress(OSError):
                os.close(int(name))
    os.chdir(scratch)
    tempfile.tempdir = scratch


def _prepare(
    function: str, payload: str
) -> Callable[[Callable[[float], None]], list[bytes]]:
    module, _, name = function.partition(":")
    prepare = getattr(importlib.import_module(module), name)
    prepared: Callable[[Callable[[float], None]], list[bytes]] = prepare(payload)
    return prepared


def _send(out: int, kind: bytes, body: bytes) -> None:
    data = memoryview(frame(kind, body))
    while data:
        data = data[os.write(out, data) :]


if __name__ == "__main__":
    main()

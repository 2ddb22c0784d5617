"""The controller's side of the jail: asks, listens, kills, and believes nothing."""

from __future__ import annotations

import array
import json
import os
import select
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from guerdon.jail.confine import Limits
from guerdon.jail.layers import Layer, missing
from guerdon.jail.zygote import ANSWER, FRAME, MAX_MESSAGE, PROGRESS, READY, SHUT

PRINTED = 4000
"""Bytes of a job's output that are kept: the last ones."""

_START_SECONDS = 120.0

_LARGEST = {SHUT: 0, PROGRESS: 16, ANSWER: 1 << 32}
"""Bytes of the largest message of each kind; answers have a limit of their own."""

_ENVIRONMENT = {
    "PATH": "/usr/bin:/bin",
    "LANG": "C.UTF-8",
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "SDL_VIDEODRIVER": "dummy",
}
"""All that a job can see of an environment; no key, no home, no name of a user."""


class JailError(Exception):
    """The jail cannot be entered, or has broken down; never the fault of a job."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What came out of a job; every byte of it is untrusted.

    Args:
        parts: the answer, in the parts in which the job gave it; empty when it did
            not finish.
        code: exit code, negative for the signal that ended it.
        reason: why there is no answer, for people; None when there is one.
        timed_out: it was killed at its deadline.
        printed: the end of what it printed, at most ``PRINTED`` bytes, as text.
        shut_after: seconds from the request until the jail was shut around it.
    """

    parts: tuple[bytes, ...]
    code: int
    reason: str | None
    timed_out: bool
    printed: str
    shut_after: float | None


class Jail:
    """A server that forks confined jobs, and the only way to talk to it.

    Args:
        preload: modules that the server imports once, so that jobs start warm.
        layers: what this machine can enforce; None asks ``probe``.

    Jobs may run side by side, from several threads. Use it as a context manager:
    leaving it kills what still runs. When this process dies, all jobs die.

    Raises:
        JailError: when a layer is missing, with its name and what helps; or the server
            does not start.
    """

    def __init__(
        self, preload: tuple[str, ...] = (), layers: list[Layer] | None = None
    ) -> None:
        absent = missing(layers)
        if absent:
            raise JailError(
                "the jail refuses to run without "
                + "; ".join(
                    f"{layer.name} ({layer.detail}): {layer.fix}" for layer in absent
                )
            )
        self._lock = threading.Lock()
        self._closed = False
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._errors = _scratch_file()
        paths = json.dumps([path for path in sys.path if path])
        self._server: subprocess.Popen[bytes] = subprocess.Popen(
            [sys.executable, "-I", "-c", _START, paths],
            stdin=theirs.fileno(),
            stdout=self._errors,
            stderr=self._errors,
            env=_ENVIRONMENT,
            cwd="/",
            close_fds=True,
            start_new_session=True,
        )
        theirs.close()
        self._wait_until_ready(preload)

    def _wait_until_ready(self, preload: tuple[str, ...]) -> None:
        self._control.settimeout(_START_SECONDS)
        try:
            self._control.sendall(json.dumps(preload).encode())
            reason = "" if self._control.recv(16) == READY else "it died"
        except OSError as error:
            reason = str(error)
        if reason:
            self._end()
            self._errors.seek(0)
            tail = self._errors.read().decode(errors="replace")[-2000:].strip()
            self._errors.close()
            raise JailError(f"the jail's server did not start: {reason}\n{tail}")
        self._control.settimeout(None)

    @property
    def pid(self) -> int:
        """Process id of the server."""
        return self._server.pid

    def run(
        self,
        function: str,
        payload: str,
        limits: Limits | None = None,
        *,
        progress: Callable[[float], None] | None = None,
        cancelled: threading.Event | None = None,
    ) -> Answer:
        """One job, from its start to its end.

        Args:
            function: ``module:name`` of trusted code that gets the payload before the
                jail is shut, and gives a function of a callback for progress that is
                called afterwards and gives a list of bytes.
            payload: text for it.
            limits: what it may use.
            progress: told the share that is done, 0 to 1, by what the job claims.
            cancelled: kills the job when set.

        Raises:
            JailError: when the server is gone.
            ValueError: for a payload that is too large.
        """
        limits = Limits() if limits is None else limits
        with tempfile.TemporaryDirectory(prefix="guerdon-jail-") as scratch:
            for place in range(limits.scratch_files):
                Path(scratch, str(place)).touch()
            began = time.monotonic()
            job = self._ask(function, payload, limits, scratch)
            try:
                return job.listen(began, limits, progress, cancelled, self._kill)
            finally:
                job.close()

    def _ask(self, function: str, payload: str, limits: Limits, scratch: str) -> _Job:
        message = json.dumps(
            {
                "function": function,
                "payload": payload,
                "limits": asdict(limits),
                "scratch": scratch,
            }
        ).encode()
        if len(message) > MAX_MESSAGE:
            raise ValueError(
                f"jail: expected a request of at most {MAX_MESSAGE} bytes, got "
                f"{len(message)}"
            )
        job, theirs = _Job.open()
        descriptors = array.array("i", theirs)
        try:
            with self._lock:
                if self._closed:
                    raise JailError("the jail is closed")
                self._control.sendmsg(
                    [message], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, descriptors)]
                )
        except OSError as error:
            job.close()
            raise JailError(f"the jail's server is gone ({error})") from error
        except JailError:
            job.close()
            raise
        finally:
            for descriptor in theirs:
                os.close(descriptor)
        return job

    def _kill(self, pid: int) -> None:
        """Only the server knows that a process id still belongs to the job."""
        with self._lock, suppress(OSError):
            self._control.sendall(json.dumps({"kill": pid}).encode())

    def close(self) -> None:
        """Kill the server and every job."""
        self._end()
        self._errors.close()

    def _end(self) -> None:
        with self._lock:
            self._closed = True
            self._control.close()
        # It kills its jobs when the socket closes; should it hang, the kernel does.
        try:
            self._server.wait(timeout=2)
        except subprocess.TimeoutExpired:
            with suppress(ProcessLookupError):
                os.killpg(self._server.pid, signal.SIGKILL)
            self._server.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


# An isolated interpreter does not look where this one found Guerdon.
_START = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "from guerdon.jail.zygote import main; main()"
)


def _scratch_file() -> IO[bytes]:
    """A nameless file for what the server prints while it starts."""
    return tempfile.TemporaryFile()


class _Job:
    """The three pipes of a job, read side by side."""

    def __init__(self, messages: int, end: int, printed: int) -> None:
        self._pipes = {"messages": messages, "end": end, "printed": printed}
        self._held = {name: bytearray() for name in self._pipes}
        self._parts: list[bytes] = []
        self._total = 0
        self._shut_after: float | None = None
        self._broken: str | None = None

    @classmethod
    def open(cls) -> tuple[Self, tuple[int, int, int]]:
        """A job's pipes, ours and theirs."""
        pipes = [os.pipe() for _ in range(3)]
        ours = [read for read, _ in pipes]
        return cls(*ours), (pipes[0][1], pipes[1][1], pipes[2][1])

    def close(self) -> None:
        """Let go of the pipes."""
        for pipe in self._pipes.values():
            os.close(pipe)
        self._pipes = {}

    def listen(
        self,
        began: float,
        limits: Limits,
        progress: Callable[[float], None] | None,
        cancelled: threading.Event | None,
        kill: Callable[[int], None],
    ) -> Answer:
        """Follow a job to its end; see ``Jail.run``."""
        killed, timed_out = False, False
        while self._pipes:
            now = time.monotonic()
            late = now - began > limits.seconds
            gone = cancelled is not None and cancelled.is_set()
            if (late or gone or self._broken) and not killed and self._pid is not None:
                kill(self._pid)
                killed, timed_out = True, late and not gone and not self._broken
            for name in self._ready(0.05 if killed or cancelled else 0.25):
                self._read(name, began, limits, progress)
        return self._answer(limits, timed_out)

    def _ready(self, seconds: float) -> list[str]:
        poll = select.poll()
        for pipe in self._pipes.values():
            poll.register(pipe, select.POLLIN)
        found = {pipe for pipe, _ in poll.poll(1000 * seconds)}
        return [name for name, pipe in self._pipes.items() if pipe in found]

    @property
    def _pid(self) -> int | None:
        end = self._held["end"]
        return int(struct.unpack("=i", end[:4])[0]) if len(end) >= 4 else None

    def _read(
        self,
        name: str,
        began: float,
        limits: Limits,
        progress: Callable[[float], None] | None,
    ) -> None:
        data = os.read(self._pipes[name], 1 << 20)
        if not data:
            os.close(self._pipes.pop(name))
            return
        self._held[name] += data
        if name == "printed":
            del self._held[name][:-PRINTED]
        if name == "messages" and not self._broken:
            self._take(began, limits, progress)

    def _take(
        self,
        began: float,
        limits: Limits,
        progress: Callable[[float], None] | None,
    ) -> None:
        """Whole messages out of what has been read."""
        held = self._held["messages"]
        while len(held) >= FRAME.size:
            kind, length = FRAME.unpack_from(held)
            if kind not in _LARGEST or length > _LARGEST[kind]:
                self._broken = "it sent something that is no message"
                return
            if self._total + length > limits.answer:
                self._broken = f"its answer is larger than {limits.answer} bytes"
                return
            if len(held) < FRAME.size + length:
                return
            body = bytes(held[FRAME.size : FRAME.size + length])
            del held[: FRAME.size + length]
            if kind == SHUT:
                self._shut_after = time.monotonic() - began
            elif kind == ANSWER:
                self._parts.append(body)
                self._total += FRAME.size + length
            elif progress is not None:
                progress(_share(body))

    def _answer(self, limits: Limits, timed_out: bool) -> Answer:
        end = self._held["end"]
        printed = self._held["printed"].decode(errors="replace").strip()
        if len(end) < 8:
            raise JailError("the jail's server died in the middle of a job")
        (code,) = struct.unpack("=i", end[4:8])
        reason = self._broken
        if timed_out:
            reason = f"no answer within {limits.seconds:g} seconds"
        elif reason is None and code != 0:
            reason = _epitaph(code)
        elif reason is None and (not self._parts or self._held["messages"]):
            reason = "it ended without an answer"
        parts = () if reason else tuple(self._parts)
        return Answer(parts, code, reason, timed_out, printed, self._shut_after)


def _share(body: bytes) -> float:
    """A job's claim about its progress."""
    try:
        share = float(body)
    except ValueError:
        return 0.0
    return min(max(share, 0.0), 1.0) if share == share else 0.0


def _epitaph(code: int) -> str:
    """How a job died."""
    if code >= 0:
        return f"it ended with exit code {code}"
    known = -code in set(signal.Signals)
    name = signal.Signals(-code).name if known else f"signal {-code}"
    hints = {
        "SIGSYS": ", for a system call that no reward needs",
        "SIGXCPU": ", for using more processor time than allowed",
        "SIGKILL": ", for using more processor time or memory than allowed",
        "SIGXFSZ": ", for writing a larger file than allowed",
    }
    return f"it was killed by {name}{hints.get(name, '')}"

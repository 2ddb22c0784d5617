"""The controller's side of one job: hears it out, and believes nothing."""

from __future__ import annotations

import os
import select
import signal
import socket
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Self

from guerdon.harmless import harmless
from guerdon.jail.confine import Limits
from guerdon.jail.zygote import (
    ANSWER,
    END,
    FAULT,
    FRAME,
    MAX_FAULT,
    PROGRESS,
    SHUT,
    Fault,
)

PRINTED = 4000
"""Bytes of a job's output that are kept: the last ones."""

MAX_PARTS = 64
"""Parts of the longest answer: a million empty ones would fill our memory, not its."""

GRACE = 10.0
"""Seconds that the server has to kill a job before it counts as broken itself."""

_LARGEST = {SHUT: 0, PROGRESS: 16, FAULT: MAX_FAULT, ANSWER: (1 << 32) - 1}
"""Bytes of the largest message of each kind; answers have a limit of their own."""

_NO_MESSAGE = "it sent something that is no message"
_READ = 1 << 20
_TICK, _QUICK_TICK = 0.25, 0.05


class JailError(Exception):
    """The jail cannot be entered, or has broken down; never the fault of a job."""


class Disobedient(JailError):
    """The server lives but does not do what it is told."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What came out of a job; every byte of it is untrusted.

    Args:
        parts: the answer, in the parts in which the job gave it; empty when it did
            not finish.
        code: exit code, negative for the signal that ended it.
        reason: why there is no answer, for people; None when there is one.
        timed_out: it was killed at its deadline.
        printed: the end of what it printed, at most ``PRINTED`` letters, none of
            which a terminal obeys.
        shut_after: seconds from the request until the jail was shut around it; None
            when it never was, so that nothing but trusted code has run.
        struck: somebody else killed it, as the system does for want of memory. A job
            can do that to itself.
    """

    parts: tuple[bytes, ...]
    code: int
    reason: str | None
    timed_out: bool
    printed: str
    shut_after: float | None
    struck: bool = False


class Job:
    """The line of a job and its two pipes, read side by side.

    Args:
        line: tells how the job ended; shutting it down has the job killed.
        messages: brings frames.
        printed: brings what the job prints.
        limits: for the answer, and for the time.
        progress: told the share that is done, 0 to 1, by what the job claims.
    """

    def __init__(
        self,
        line: socket.socket,
        messages: int,
        printed: int,
        limits: Limits,
        progress: Callable[[float], None] | None,
    ) -> None:
        self._line: socket.socket | None = line
        self._pipes = {"messages": messages, "printed": printed}
        self._held = {name: bytearray() for name in self._pipes}
        self._end = b""
        self._limits = limits
        self._progress = progress
        self._began = time.monotonic()
        self._parts: list[bytes] = []
        self._total = 0
        self._shut_after: float | None = None
        self._early: Fault | None = None
        self._share: float | None = None
        self._fault: str | None = None
        self._timed_out = False
        self._killed_at: float | None = None

    @classmethod
    def open(
        cls, limits: Limits, progress: Callable[[float], None] | None
    ) -> tuple[Self, ExitStack, list[int]]:
        """A job, and the server's ends of its line and pipes, to be sent and closed.

        Raises:
            OSError: when this process can open nothing more.
        """
        with ExitStack() as ours, ExitStack() as theirs:
            line, other = socket.socketpair(socket.AF_UNIX)
            ours.callback(line.close)
            theirs.callback(other.close)
            pipes = []
            for _ in ("messages", "printed"):
                pipes.append(os.pipe())
                ours.callback(os.close, pipes[-1][0])
                theirs.callback(os.close, pipes[-1][1])
            line.setblocking(False)
            (messages, out), (printed, write) = pipes
            job = cls(line, messages, printed, limits, progress)
            ours.pop_all()
            return job, theirs.pop_all(), [other.fileno(), out, write]

    def close(self) -> None:
        """Let go of the line and the pipes; a job that still runs is killed."""
        line, self._line = self._line, None
        if line is not None:
            self._hang_up(line)
            line.close()
        pipes, self._pipes = self._pipes, {}
        for pipe in pipes.values():
            os.close(pipe)

    def kill(self) -> None:
        """Have the server kill the job; ``listen`` or ``wait`` sees its end."""
        if self._killed_at is None and self._line is not None:
            self._killed_at = time.monotonic()
            self._hang_up(self._line)

    @staticmethod
    def _hang_up(line: socket.socket) -> None:
        try:
            # Works even when a process that was forked from ours holds a copy.
            line.shutdown(socket.SHUT_WR)
        except OSError:
            return

    def wait(self, seconds: float) -> None:
        """Wait until the server says that the job is dead, or is dead itself."""
        self._progress = None
        until = time.monotonic() + seconds
        while self._line is not None and (left := until - time.monotonic()) > 0:
            self._hear(self._ready(left))

    def listen(
        self, cancelled: threading.Event | None, alive: Callable[[], bool]
    ) -> Answer:
        """Follow the job to its end; see ``Jail.run``.

        Args:
            cancelled: kills the job when set.
            alive: whether the server lives.

        Raises:
            JailError: when the server is gone, or does not obey.
            OSError: when the machine could not fork it, or not shut the jail.
        """
        deadline = self._began + self._limits.seconds
        tick = _QUICK_TICK if cancelled is not None else _TICK
        while self._line is not None:
            now = time.monotonic()
            if self._killed_at is None:
                if now >= deadline:
                    self._timed_out = True
                    self._blame(f"no answer within {self._limits.seconds:g} seconds")
                elif cancelled is not None and cancelled.is_set():
                    self._blame("it was cancelled")
            elif now - self._killed_at > GRACE:
                raise Disobedient("the jail's server does not kill a job when told to")
            left = deadline - now if self._killed_at is None else tick
            ready = self._ready(min(tick, max(left, 0.0)))
            if not ready and not alive() and not self._ready(0.0):
                break
            self._hear(ready)
        # It is dead: what it sent lies in the pipes, whoever else may hold them open.
        while ready := self._ready(0.0):
            self._hear(ready)
        return self._answer()

    def _ready(self, seconds: float) -> set[int]:
        poll = select.poll()
        for pipe in self._pipes.values():
            poll.register(pipe, select.POLLIN)
        if self._line is not None:
            poll.register(self._line, select.POLLIN)
        return {place for place, _ in poll.poll(1000 * seconds)}

    def _hear(self, ready: set[int]) -> None:
        for name, pipe in list(self._pipes.items()):
            if pipe in ready:
                self._read(name, pipe)
        if self._share is not None and self._progress is not None:
            # Once for all that came: a job may claim a million steps a second.
            share, self._share = self._share, None
            self._progress(share)
        if self._line is not None and self._line.fileno() in ready:
            self._end += self._line.recv(END.size)
            self._line.close()
            self._line = None

    def _read(self, name: str, pipe: int) -> None:
        data = os.read(pipe, _READ)
        held = self._held[name]
        if not data:
            del self._pipes[name]
            os.close(pipe)
        elif name == "printed":
            held += data
            del held[:-PRINTED]
        elif self._fault is None:
            held += data
            self._take(held)

    def _take(self, held: bytearray) -> None:
        """Whole messages out of what has been read."""
        at = 0
        while self._fault is None and len(held) - at >= FRAME.size:
            kind, length = FRAME.unpack_from(held, at)
            self._check(kind, length)
            end = at + FRAME.size + length
            if self._fault is not None or len(held) < end:
                break
            body = bytes(held[at + FRAME.size : end])
            at = end
            if kind == ANSWER:
                self._parts.append(body)
                self._total += length
            elif kind == PROGRESS:
                self._share = _share(body)
            elif kind == FAULT:
                self._hear_fault(body)
            elif self._shut_after is None:
                self._shut_after = time.monotonic() - self._began
        del held[:at]

    def _hear_fault(self, body: bytes) -> None:
        try:
            self._early = Fault.read(body)
        except (ValueError, RecursionError):
            self._blame(_NO_MESSAGE)

    def _check(self, kind: bytes, length: int) -> None:
        if length > _LARGEST.get(kind, -1):
            self._blame(_NO_MESSAGE)
        elif kind == FAULT and self._shut_after is not None:
            # Only the machine's word stops a run, never that of a reward.
            self._blame("it sent the machine's word from inside the jail")
        elif kind == ANSWER and self._total + length > self._limits.answer:
            self._blame(f"its answer is larger than {self._limits.answer} bytes")
        elif kind == ANSWER and len(self._parts) >= MAX_PARTS:
            self._blame(f"its answer has more than {MAX_PARTS} parts")

    def _blame(self, fault: str) -> None:
        """Kill it; the first reason is the one that is told."""
        self._fault = self._fault or fault
        self.kill()

    def _answer(self) -> Answer:
        if len(self._end) < END.size:
            raise JailError(
                "the jail's server died in the middle of a job, or refused it"
            )
        forked, code = END.unpack(self._end)
        if not forked:
            words = f"the jail's server could not fork a job: {os.strerror(code)}"
            raise OSError(code, words)
        early = self._early if self._fault is None else None
        if early is not None and early.number:
            raise OSError(early.number, early.text, early.file)
        printed = harmless(self._held["printed"].decode(errors="replace").strip())
        reason = self._fault
        if reason is None and code != 0:
            reason = _epitaph(code)
            if self._shut_after is None:
                reason += " before the jail was shut"
                reason += f": {early.text}" if early is not None else ""
        elif reason is None and (not self._parts or self._held["messages"]):
            reason = "it ended without an answer"
        return Answer(
            () if reason else tuple(self._parts),
            code,
            reason,
            self._timed_out,
            printed[-PRINTED:],
            self._shut_after,
            struck=code == -signal.SIGKILL and self._killed_at is None,
        )


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
        "SIGKILL": ", for using too much processor time or for lack of memory",
        "SIGXFSZ": ", for writing a larger file than allowed",
    }
    return f"it was killed by {name}{hints.get(name, '')}"

"""What a pool was asked for, what waits, and what has come of it."""

from __future__ import annotations

import itertools
import logging
import queue
import threading
import time
from abc import abstractmethod
from collections.abc import Iterator
from contextlib import suppress

from guerdon.agents.training import Leg, Outcome, TrainingJob, Trouble, Work, jobs_of
from guerdon.closing import Closing

_LOG = logging.getLogger(__name__)

_FIRST, _NEXT, _RETRY, _LAST = range(4)
"""Ranks in the queue."""


class Ledger:
    """The books of a pool, for any number of threads."""

    def __init__(self) -> None:
        # By rank, then in the order of coming; None ends a thread.
        self._waiting: queue.PriorityQueue[tuple[int, int, Work | None]]
        self._waiting = queue.PriorityQueue()
        self._numbers = itertools.count()
        self._finished: queue.SimpleQueue[tuple[TrainingJob, Outcome | Trouble]]
        self._finished = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._open: dict[str, float] = {}
        self._lost: dict[str, str] = {}
        self._closed = False

    def submit(self, work: Work, *, first: bool = False) -> None:
        """Queue a job, or several as a leg, behind the others or ``first`` of them.

        Raises:
            RuntimeError: when the books are closed.
            ValueError: when one of the jobs is under way already.
        """
        keys = [job.key for job in jobs_of(work)]
        with self._lock:
            if self._closed:
                raise RuntimeError("submit: the pool is closed")
            known = next((k for k in keys if k in self._open or keys.count(k) > 1), "")
            if known:
                raise ValueError(f"submit: job {known[:12]} is under way already")
            self._open |= dict.fromkeys(keys, 0.0)
        self._put(work, _FIRST if first else _NEXT)

    def _put(self, work: Work | None, rank: int) -> None:
        self._waiting.put((rank, next(self._numbers), work))

    def next(self) -> Work | None:
        """What to train; waits for it, and gives None at the end."""
        work = self._waiting.get()[2]
        return None if self._closed else work

    def told(self, key: str, share: float) -> None:
        """Note how much of a job is done, 0 to 1."""
        with self._lock:
            if key in self._open:
                self._open[key] = share

    def finish(self, job: TrainingJob, outcome: Outcome | Trouble) -> None:
        """Note what came of a job."""
        self._finished.put((job, outcome))

    def lost(
        self, work: Work, reason: str, *, halve: bool = False, full: bool = False
    ) -> str | None:
        """Queue lost work a second time, unless part of it was lost before.

        Where a leg is cut in halves, a warning says so.

        Args:
            work: a job or a leg.
            reason: why it was lost.
            halve: a leg that was lost before may have been too large: queue its halves.
            full: it was too large for the memory: queue its halves at once.

        Returns:
            The reason of the first time, where nothing is queued; else None.
        """
        keys = [job.key for job in jobs_of(work)]
        several = isinstance(work, Leg) and len(work.jobs) > 1
        with self._lock:
            before = next((self._lost[k] for k in keys if k in self._lost), None)
            if before is None and not (several and full):
                self._lost |= dict.fromkeys(keys, reason)
        if isinstance(work, Leg) and several and (full or (halve and before)):
            self._halve(work, reason)
            return None
        if before is None:
            self.try_again(work)
        return before

    def _halve(self, leg: Leg, reason: str) -> None:
        """Queue the halves of a leg, and say so: it is what was asked for no more."""
        halves = leg.halves()
        first, second = (len(half.jobs) for half in halves)
        _LOG.warning(
            "a population of %d trainings did not come through (%s): it is tried as "
            "two, of %d and %d; fewer at a time need less memory (K, seeds)",
            *(len(leg.jobs), reason, first, second),
        )
        for half in halves:
            self.try_again(half)

    def try_again(self, work: Work) -> None:
        """Queue work again, behind the others."""
        with self._lock:
            self._open |= {job.key: 0.0 for job in jobs_of(work)}
        self._put(work, _RETRY)

    @property
    def pending(self) -> int:
        """Jobs that were submitted and not handed back yet."""
        with self._lock:
            return len(self._open)

    def progress(self, job: TrainingJob) -> float:
        """Finished share of a job, 0 to 1; 0 while it waits, 1 when it is done."""
        with self._lock:
            return self._open.get(job.key, 1.0)

    def poll(self, timeout: float = 0.0) -> list[tuple[TrainingJob, Outcome | Trouble]]:
        """What has finished since the last call; waits at most ``timeout`` for one."""
        found: list[tuple[TrainingJob, Outcome | Trouble]] = []
        with suppress(queue.Empty):
            if timeout > 0 and self.pending:
                found.append(self._finished.get(timeout=timeout))
            while True:
                found.append(self._finished.get_nowait())
        with self._lock:
            for job, _ in found:
                self._open.pop(job.key, None)
                self._lost.pop(job.key, None)
        return found

    def as_completed(
        self, timeout: float | None
    ) -> Iterator[tuple[TrainingJob, Outcome | Trouble]]:
        """Jobs with their outcomes in the order in which they finish.

        Raises:
            TimeoutError: when ``timeout`` seconds are over and jobs are under way.
        """
        end = None if timeout is None else time.monotonic() + timeout
        while self.pending:
            left = 1.0 if end is None else end - time.monotonic()
            found = self.poll(max(0.0, min(1.0, left)))
            if not found and end is not None and time.monotonic() >= end:
                raise TimeoutError(f"{self.pending} trainings are still under way")
            yield from found

    def close(self, threads: int) -> None:
        """Forget what waits, and end so many threads at their ``next``."""
        with self._lock:
            self._closed = True
            self._open.clear()
        for _ in range(threads):
            self._put(None, _LAST)


class LedgerPool(Closing):
    """What a pool shows of its books; what trains is its own."""

    def __init__(self) -> None:
        self._ledger = Ledger()

    def submit(self, work: Work, /, *, first: bool = False) -> None:
        """Queue a job, or several as a leg, behind the others or ``first`` of them.

        Raises:
            RuntimeError: when the pool is closed.
            ValueError: when one of the jobs is under way already.
        """
        self._ledger.submit(work, first=first)

    @property
    def pending(self) -> int:
        """Jobs that were submitted and not handed back yet."""
        return self._ledger.pending

    def progress(self, job: TrainingJob) -> float:
        """Finished share of a job, 0 to 1; 0 while it waits, 1 when it is done."""
        return self._ledger.progress(job)

    def poll(self, timeout: float = 0.0) -> list[tuple[TrainingJob, Outcome | Trouble]]:
        """What has finished since the last call; waits at most ``timeout`` for one."""
        return self._ledger.poll(timeout)

    def as_completed(
        self, timeout: float | None = None
    ) -> Iterator[tuple[TrainingJob, Outcome | Trouble]]:
        """Jobs with their outcomes in the order in which they finish.

        Ends when every submitted job was handed back; more may be submitted while
        it runs.

        Args:
            timeout: seconds for the whole iteration; None waits for ever.

        Raises:
            TimeoutError: when the time is over and jobs are still under way.
        """
        return self._ledger.as_completed(timeout)

    @abstractmethod
    def close(self) -> None:
        """Kill what runs and forget what waits."""

"""Trainings in processes of their own, which a deadline or a crash cannot outlive.

Every job runs in a fresh process, forked from a server that has torch and the rest
loaded, as the leader of its own process group. Jobs and answers are JSON over a
pipe; weights and recordings are files in the run folder. Nothing is unpickled from
a worker.

What the machine could not do (a full disk, no process to be had) comes back as
``Trouble`` and is nobody's failure. A worker that a signal killed, or that ran out of
memory, is tried once more after what waits already; killed again, the job has crashed,
unless it was the death of the server that took it along. A population that ran out of
memory is tried in halves instead.

A worker dies with its whole process group: at its deadline, when the pool closes,
and when the controller disappears. For the last case it watches the pipe, whose
other end only the controller holds; should the interpreter be stuck in foreign
code, the kernel kills the worker after the server, which the controller holds too and
which waits a second for its workers.

As with every use of ``multiprocessing``, a script that makes a pool needs
``if __name__ == "__main__":``.
"""

from __future__ import annotations

import errno
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from guerdon.agents.answers import (
    Answer,
    Outcomes,
    answer_of,
    of_job,
    of_leg,
    share_of,
)
from guerdon.agents.child import UNTOLD, Child, Full, Killed, Lost, epitaph
from guerdon.agents.claims import Learned, claim_name
from guerdon.agents.confined import JUDGE, LEARN, Confinement
from guerdon.agents.ledger import LedgerPool
from guerdon.agents.server import server_died, server_pid, start_server
from guerdon.agents.training import (
    Leg,
    Outcome,
    TrainingJob,
    TrainingResult,
    Trouble,
    Work,
    jobs_of,
)
from guerdon.agents.worker import MAX_ANSWER
from guerdon.checks import integer
from guerdon.faults import AGAIN, machine_fault
from guerdon.types import Failure

JOB_FUNCTION = "guerdon.agents.sb3:run_job"
"""``module:name`` of ``(payload, folder, progress) -> answer``, bytes in and out."""

LEG_FUNCTION = "guerdon.agents.population:run_leg"
"""The same for several trainings as one population; it answers with a list."""


class WorkerPool(LedgerPool):
    """Runs trainings, a fixed number at a time.

    Args:
        workers: processes at a time, at least 1; one per core.
        deadline_s: seconds after which a job is killed; a leg has them for each of its
            jobs, which share a process.
        run_dir: folder for the files of the jobs; made if missing.
        function: ``module:name`` of what a worker runs; tests bring their own.
        populations_only: nothing is trained with SB3, which then need not be loaded
            before the first worker begins.

    Use it as a context manager: leaving it kills what still runs.

    Raises:
        ValueError: for fewer than one worker or a deadline that is not positive.
        TypeError: for a number of workers that is no whole number.
        OSError: when the folder cannot be made.
    """

    def __init__(
        self,
        workers: int,
        deadline_s: float,
        run_dir: Path,
        *,
        function: str = JOB_FUNCTION,
        populations_only: bool = False,
    ) -> None:
        super().__init__()
        workers = integer("workers", workers, 1)
        if not deadline_s > 0:
            raise ValueError(f"deadline_s: expected more than 0, got {deadline_s}")
        run_dir.mkdir(parents=True, exist_ok=True)
        self._deadline = min(deadline_s, threading.TIMEOUT_MAX)
        self._folder = run_dir.resolve()
        self._function = function
        self._lock = threading.Lock()
        self._children: set[Child] = set()
        self._closed = False
        self._confinement = Confinement(self._folder, self._deadline)
        self._populations_only = populations_only
        start_server(populations_only)
        self._threads = [
            threading.Thread(target=self._supervise, name=f"worker-{i}", daemon=True)
            for i in range(workers)
        ]
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        """Kill what runs and forget what waits."""
        with self._lock:
            self._closed = True
            children = list(self._children)
        for child in children:
            child.kill()
        self._confinement.close()
        self._ledger.close(len(self._threads))
        for thread in self._threads:
            thread.join()

    def _supervise(self) -> None:
        """One thread per place: starts a worker, listens to it, buries it."""
        while (work := self._ledger.next()) is not None:
            outcomes: Outcomes
            try:
                outcomes = self._run(work)
            except Killed as killed:
                found = self._killed(work, killed)
                if found is None:
                    continue
                outcomes = found
            except Exception as error:
                outcomes = Trouble.of(self._fault(error))
            if not self._closed:
                self._hand_back(jobs_of(work), outcomes)

    def _hand_back(self, jobs: Sequence[TrainingJob], outcomes: Outcomes) -> None:
        each = outcomes if isinstance(outcomes, list) else [outcomes] * len(jobs)
        for job, outcome in zip(jobs, each, strict=True):
            self._ledger.finish(job, outcome)

    def _killed(self, work: Work, killed: Killed) -> Failure | Trouble | None:
        """Try killed work once more, behind the others; else what is to say of it.

        A population that is killed twice may have been too large: its halves are tried,
        and at once where there was too little memory.
        """
        lost = isinstance(killed, Lost)
        reason = str(killed).partition("\n")[0]
        full = isinstance(killed, Full)
        before = self._ledger.lost(work, reason, halve=not lost, full=full)
        if before is None:
            return None
        if lost:
            text = " ".join(f"{killed} (the first time: {before})".split())
            return Trouble(errno.EAGAIN, f"{text}; {AGAIN}", str(self._folder))
        return Failure("crashed", f"{killed}\nthe first time: {before}")

    def _fault(self, error: Exception) -> OSError:
        """Why there is no worker: never the fault of the job, which did not begin."""
        fault = machine_fault(error, self._folder)
        if fault is not None:
            return fault
        number = error.errno if isinstance(error, OSError) else None
        text = f"no worker could be started ({type(error).__name__}: {error}); {AGAIN}"
        return OSError(number or errno.EAGAIN, text, str(self._folder))

    def _run(self, work: Work) -> Outcomes:
        """Work of any kind."""
        if isinstance(work, Leg):
            # Tests bring a function of their own for all work.
            own = self._function
            answer = self._work(work, LEG_FUNCTION if own == JOB_FUNCTION else own)
            return of_leg(answer)
        return self._run_job(work)

    def _run_job(self, job: TrainingJob) -> Outcome | Trouble:
        """One job; where its reward is full Python, judged where that never ran."""
        found: Answer
        if job.trust == "jail":
            found = self._learn(job)
        else:
            own = self._function if job.trust == "language" else LEARN
            found = of_job(self._work(job, own))
            if own is LEARN and isinstance(found, TrainingResult):
                # It would be the reward's own word for it.
                found = Failure("crashed", "answer is not a claim")
        try:
            if isinstance(found, Learned):
                found = of_job(self._work(job, JUDGE))
        finally:
            (self._folder / claim_name(job)).unlink(missing_ok=True)
        if isinstance(found, Learned):
            return Failure("crashed", "answer is not a training result")
        if job.trust == "jail" and _crashed(found):
            self._confinement.require_room()
        return found

    def _learn(self, job: TrainingJob) -> Learned | Failure:
        def told(share: float) -> None:
            self._ledger.told(job.key, share)

        return self._confinement.learn(job, told)

    def _work(self, work: Work, function: str) -> Answer:
        stderr = self._folder / f"{work.key}.stderr"
        if server_died():
            # multiprocessing itself would start one that knows the user's keys.
            start_server(self._populations_only)
        server = server_pid()
        child = Child(function, self._folder, stderr)
        expired = threading.Event()
        seconds = min(self._deadline * len(jobs_of(work)), threading.TIMEOUT_MAX)

        def expire() -> None:
            expired.set()
            child.kill()

        deadline = threading.Timer(seconds, expire)
        deadline.daemon = True
        with self._lock:
            self._children.add(child)
            closed = self._closed
        if closed:
            child.kill()
        deadline.start()
        answer: Answer | None = None
        try:
            answer = self._listen(child, work)
        except (EOFError, ConnectionError):
            pass  # It is dead; its exit code and its stderr say why.
        finally:
            deadline.cancel()
            code = child.reap()
            with self._lock:
                self._children.discard(child)
        for job in jobs_of(work):
            for half in self._folder.glob(f".{job.key}.*.partial"):
                half.unlink(missing_ok=True)
        if answer is not None:
            stderr.unlink(missing_ok=True)
            if isinstance(answer, Trouble) and answer.number == errno.ENOMEM:
                raise Full(answer.text)
            return answer
        if expired.is_set():
            return Failure("timed_out", f"no result within {seconds:g} seconds")
        return _death(code, stderr, server)

    def _listen(self, child: Child, work: Work) -> Answer:
        """Follow a worker's messages to its answer."""
        child.connection.send_bytes(work.to_json().encode())
        while True:
            try:
                message = child.next_message()
            except OSError as error:
                if isinstance(error, ConnectionError):
                    raise
                return Failure(
                    "crashed", f"answer larger than the limit of {MAX_ANSWER} bytes"
                )
            if message[:1] == b"P":
                for job in jobs_of(work):
                    self._ledger.told(job.key, share_of(message[1:]))
                continue
            return answer_of(message[1:], work)


def _death(code: int | None, stderr: Path, server: int | None) -> Failure:
    """What the death of a worker says, with its server's process id at its birth."""
    told = epitaph(code, stderr)
    if _replaced(server, 1.0 if code == UNTOLD else 0.0):
        raise Lost(f"the server of the workers died: {told}")
    if code is not None and code < 0:
        raise Killed(told)
    return Failure("crashed", told)


def _replaced(server: int | None, patience: float) -> bool:
    """Whether the server is dead, or another thread has started another since.

    A process lets go of its descriptors some time before it counts as dead.
    """
    end = time.monotonic() + patience
    while not (server_died() or server_pid() != server):
        if time.monotonic() >= end:
            return False
        time.sleep(0.01)
    return True


def _crashed(found: Outcome | Trouble) -> bool:
    return isinstance(found, Failure) and found.kind == "crashed"

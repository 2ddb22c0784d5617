"""Trainings on a Ray cluster, with the interface of the local pool.

Every place on the cluster is an actor with the pool of the local executor in it
(``guerdon.agents.ray_node``), and every actor is watched by a thread here. What arrives
is checked, and written by the controller under the names that the local pool gives.

What is lost with its node, or with its actor, is tried once more after what waits
already. Lost again, it is the machine's ``Trouble`` and nobody's failure, as when the
server of the local workers dies; only what was lost for want of memory has crashed. A
worker that a signal killed while its node lived is counted there, in the same way.
"""

from __future__ import annotations

import errno
import json
import threading
from collections.abc import Sequence
from pathlib import Path

from guerdon.agents.answers import answer_of, of_job
from guerdon.agents.claims import Learned
from guerdon.agents.ledger import LedgerPool
from guerdon.agents.ray_actor import Actor, Closed, Gone
from guerdon.agents.ray_cluster import Cluster
from guerdon.agents.ray_node import (
    MAX_FILE,
    named,
    optional,
    rows_before,
    versions,
)
from guerdon.agents.training import (
    Leg,
    Outcome,
    TrainingJob,
    Trouble,
    Work,
    jobs_of,
)
from guerdon.agents.workers import JOB_FUNCTION
from guerdon.checks import integer
from guerdon.faults import AGAIN, machine_fault, whole_file
from guerdon.harmless import harmless
from guerdon.types import Failure


class RayPool(LedgerPool):
    """Runs trainings on a Ray cluster, a fixed number at a time.

    Args:
        workers: trainings at a time, at least 1; each takes one processor.
        deadline_s: seconds after which a job is killed; a leg has them for each of its
            jobs.
        run_dir: folder for the files of the jobs; made if missing.
        function: ``module:name`` of what a worker runs; tests bring their own.
        address: of the cluster, see ``Cluster``.
        populations_only: see ``WorkerPool``.

    Use it as a context manager: leaving it kills what still runs.

    Raises:
        ValueError: for fewer than one worker, a deadline that is not positive, or an
            address that is none.
        TypeError: for a number of workers that is no whole number.
        MissingExtra: when Ray is not installed.
        OSError: when there is no cluster, or the folder cannot be made.
    """

    def __init__(
        self,
        workers: int,
        deadline_s: float,
        run_dir: Path,
        *,
        function: str = JOB_FUNCTION,
        address: str | None = None,
        populations_only: bool = False,
    ) -> None:
        super().__init__()
        workers = integer("workers", workers, 1)
        if not deadline_s > 0:
            raise ValueError(f"deadline_s: expected more than 0, got {deadline_s}")
        self._deadline = min(deadline_s, threading.TIMEOUT_MAX)
        self._function, self._populations_only = function, populations_only
        self._cluster = Cluster(address, workers)
        self._ray = self._cluster.ray
        run_dir.mkdir(parents=True, exist_ok=True)
        self._folder = run_dir.resolve()
        self._closed = threading.Event()
        self._threads = [
            threading.Thread(target=self._supervise, name=f"ray-{i}", daemon=True)
            for i in range(workers)
        ]
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        """Kill what runs, forget what waits, and leave the cluster."""
        self._closed.set()
        self._ledger.close(len(self._threads))
        for thread in self._threads:
            thread.join()
        self._cluster.leave()

    def _supervise(self) -> None:
        """One thread per place: has an actor started, feeds it, buries it."""
        actor: Actor | None = None
        try:
            while not self._closed.is_set():
                # Jobs are taken by places that are ready: some may wait for room.
                trouble = None
                if actor is None:
                    actor, trouble = self._start()
                work = self._ledger.next()
                if work is None:
                    return
                if trouble is not None:
                    for job in jobs_of(work):
                        self._ledger.finish(job, trouble)
                elif actor is not None and not self._train(actor, work):
                    actor.kill()
                    actor = None
        except Closed:
            return
        finally:
            if actor is not None:
                actor.dismiss()

    def _start(self) -> tuple[Actor | None, Trouble | None]:
        """An actor that is ready, or why there is none after two tries."""
        gone: Exception | None = None
        for _ in range(2):
            actor = Actor(self._ray, self._closed)
            try:
                trouble = self._refused(
                    actor.open(self._function, self._deadline, self._populations_only)
                )
            except Closed:
                actor.kill()
                raise
            except Exception as error:
                actor.kill()
                gone = error
                continue
            if trouble is None:
                return actor, None
            actor.kill()
            return None, trouble
        return None, self._trouble(f"the cluster has no worker for it ({gone})")

    def _refused(self, text: bytes) -> Trouble | None:
        """What is the matter with a node that has introduced itself."""
        about = json.loads(text)
        node = harmless(str(about["node"]))
        if "trouble" in about:
            return _at(Trouble(**about["trouble"]), node)
        theirs, ours = about["versions"], versions()
        wrong = [
            f"{name} {harmless(str(theirs.get(name)))} instead of {version}"
            for name, version in ours.items()
            if theirs.get(name) != version
        ]
        if wrong:
            return self._trouble(
                f"node {node} has {', '.join(wrong)}, and would not train alike; "
                "install there what is installed here"
            )
        return None

    def _trouble(self, text: str) -> Trouble:
        return Trouble(errno.EAGAIN, f"{text}; {AGAIN}", str(self._folder))

    def _train(self, actor: Actor, work: Work) -> bool:
        """Have work done; whether the actor is still there afterwards."""
        left = {job.key: job for job in jobs_of(work)}
        try:
            actor.begin(work, self._rows(work))
            while left:
                for job, outcome in self._news(actor.look(), work, left):
                    del left[job.key]
                    self._ledger.finish(job, outcome)
        except Closed:
            raise
        except Exception as error:
            # Whatever it is, the jobs must not be waited for in vain.
            gone = error if isinstance(error, Gone) else Gone(repr(error))
            rest = tuple(left.values())
            self._lost(Leg(rest, work.start) if isinstance(work, Leg) else work, gone)
            return False
        return True

    def _rows(self, work: Work) -> dict[str, bytes]:
        """Files that a leg goes on with; without one, its row begins anew."""
        paths = [self._folder / name for name in rows_before(work)]
        return {p.name: p.read_bytes() for p in paths if p.is_file()}

    def _lost(self, work: Work, gone: Gone) -> None:
        reason = str(gone)
        full = gone.memory
        before = self._ledger.lost(work, reason, halve=full, full=full)
        if before is None:
            return
        text = f"{reason} (the first time: {before})"
        outcome = Failure("crashed", text) if gone.memory else self._trouble(text)
        for job in jobs_of(work):
            self._ledger.finish(job, outcome)

    def _news(
        self, parts: Sequence[bytes], work: Work, left: dict[str, TrainingJob]
    ) -> list[tuple[TrainingJob, Outcome | Trouble]]:
        """What an actor tells: progress is noted, and what is done is handed on.

        Raises:
            Gone: when it makes no sense; the actor is of no use then.
        """
        try:
            head = json.loads(parts[0])
            contents = iter(parts[1:])
            found = []
            for done in head["done"]:
                job = left[done["job"]]
                files = {name: _sized(next(contents), n) for name, n in done["files"]}
                found.append((job, self._kept(work, job, done["outcome"], files)))
            for key, share in head["shares"].items():
                self._ledger.told(key, min(max(float(share), 0.0), 1.0))
        except (ValueError, TypeError, KeyError, IndexError, StopIteration) as error:
            raise Gone(f"an actor that makes no sense ({error!r})") from error
        return found

    def _kept(
        self, work: Work, job: TrainingJob, text: str, files: dict[str, bytes]
    ) -> Outcome | Trouble:
        """An outcome, once its files are in the run's folder."""
        outcome = of_job(answer_of(text.encode(), job))
        if isinstance(outcome, Learned):
            return Failure("crashed", "answer is not a training result")
        if isinstance(outcome, Trouble):
            return _at(outcome)
        try:
            names = named(job, outcome)
        except ValueError as error:
            return Failure("crashed", f"answer is not a training result: {error}")
        if not set(names) <= set(files):
            return Failure("crashed", "answer without the files that it names")
        try:
            for name in (*names, *optional(work, job)):
                if name in files:
                    with whole_file(self._folder / name) as partial:
                        partial.write_bytes(files[name])
        except OSError as error:
            return Trouble.of(machine_fault(error, self._folder) or error)
        return outcome


def _sized(content: bytes, size: int) -> bytes:
    """A file's content, if it is as long as it should be."""
    if len(content) != size or size > MAX_FILE:
        raise ValueError(f"a file of {len(content)} bytes instead of {size}")
    return content


def _at(trouble: Trouble, node: str = "") -> Trouble:
    """A node's trouble with the place where it is."""
    file = f"{trouble.file or 'its memory'} on a node of the cluster {node}".strip()
    return Trouble(trouble.number, harmless(trouble.text), harmless(file))

"""The trainings of a run: started once, journaled once, and blamed on the right one."""

from __future__ import annotations

import errno
from collections.abc import Callable, Sequence
from dataclasses import replace

from guerdon.agents.pool import Pool
from guerdon.agents.training import Leg, Outcome, TrainingJob, Trouble
from guerdon.faults import AGAIN
from guerdon.journal import Journal, Purpose, TrainingRecord, furthest
from guerdon.run.clock import Clock
from guerdon.run.config import TRAININGS, Observer
from guerdon.run.crashes import ALIKE, NothingTrains, crashed, way
from guerdon.types import Failure

STRUCK = "worker died: killed by"
"""How the reason begins of a training that a signal ended."""


class Trainings:
    """What is under way, and what the journal has.

    Args:
        task: id of the task, for people.
        journal: of the run, open to write.
        pool: trains.
        observe: told what happens.
        baseline: makes the first training of the holdout with the sparse reward.
        clock: told how many places have work.
    """

    def __init__(
        self,
        task: str,
        journal: Journal,
        pool: Pool,
        observe: Observer,
        baseline: Callable[[], TrainingJob],
        clock: Clock,
    ) -> None:
        self.task, self.journal, self.pool, self.observe = task, journal, pool, observe
        self._baseline, self._clock = baseline, clock
        self.open: dict[str, tuple[str, Purpose, TrainingJob]] = {}
        # Keys of the trainings under way, those that share a worker together.
        self._places: list[set[str]] = []
        # Crashes from before anything has worked: whose fault they are is not known.
        self._held: list[TrainingRecord] = []
        self._works = any(not crashed(t) for t in journal.trainings())

    def of(self, candidate: str, purpose: Purpose) -> list[TrainingRecord]:
        """By seed, of each the leg that went furthest.

        The journal has them in the order in which they finished.
        """
        found = furthest(self.journal.trainings(candidate, purpose))
        return sorted(found, key=lambda training: training.seed)

    def at(self, candidate: str, purpose: Purpose, steps: int) -> list[TrainingRecord]:
        """By seed, the legs that ended at ``steps``."""
        found = self.journal.trainings(candidate, purpose)
        legs = [training for training in found if training.steps == steps]
        return sorted(legs, key=lambda training: training.seed)

    def start(
        self,
        candidate: str,
        purpose: Purpose,
        job: TrainingJob,
        *,
        first: bool = False,
    ) -> None:
        """Start a training unless the journal has it; ``first`` of those that wait."""
        if self._due(candidate, purpose, job):
            alone = Leg((job,)) if job.trainer == "population" else job
            self.pool.submit(alone, first=first)
            self._taken((job,))

    def start_together(
        self,
        purpose: Purpose,
        entries: Sequence[tuple[str, TrainingJob]],
        *,
        start: int = 0,
        parts: int = 1,
    ) -> None:
        """Start those trainings that the journal has not, as populations.

        Args:
            purpose: of all of them.
            entries: candidates and their jobs, which differ in reward and seed.
            start: environment steps after which their rows were put down.
            parts: number of populations; a row learns the same in any of them.
        """
        jobs = [job for name, job in entries if self._due(name, purpose, job)]
        size = max(1, -(-len(jobs) // parts))
        for i in range(0, len(jobs), size):
            leg = Leg(tuple(jobs[i : i + size]), start)
            self.pool.submit(leg)
            self._taken(leg.jobs)

    def _taken(self, jobs: Sequence[TrainingJob]) -> None:
        """These jobs share a place for trainings from now on."""
        self._places.append({job.key for job in jobs})
        self._clock.trainings(len(self._places))

    def _left(self, job: TrainingJob) -> None:
        """A job is over; the last one of a place leaves it free."""
        for keys in self._places:
            keys.discard(job.key)
        self._places = [keys for keys in self._places if keys]
        self._clock.trainings(len(self._places))

    def _due(self, candidate: str, purpose: Purpose, job: TrainingJob) -> bool:
        """Whether a training has to be done; it counts as under way from here on."""
        if job.key in self.open or any(job.key == t.key for t in self._held):
            return False
        known = self.journal.training(job.key)
        if known is not None:
            self.observe("trained", {"record": known, "kept": True})
            return False
        self.open[job.key] = (candidate, purpose, job)
        return True

    def collect(self, *, wait: bool) -> None:
        """Journal what has finished; with ``wait`` until nothing is under way.

        Raises:
            OSError: for what the machine could not do. The rest is journaled first.
            NothingTrains: when it is not the candidates that crash.
        """
        while True:
            trouble: Trouble | None = None
            for job, outcome in self.pool.poll(0.5 if wait else 0.0):
                outcome = self._struck(job, outcome)
                self._left(job)
                if isinstance(outcome, Trouble):
                    del self.open[job.key]
                    trouble = trouble or outcome
                else:
                    self._finished(job, outcome)
            if trouble is not None:
                raise trouble.error()
            if len(self._held) >= ALIKE or (self._held and wait and not self.open):
                self._ask_baseline()
            shares = [self.pool.progress(job) for _, _, job in self.open.values()]
            self.observe("training", {"open": len(self.open), "shares": shares})
            if not (wait and self.open):
                return

    def _struck(
        self, job: TrainingJob, outcome: Outcome | Trouble
    ) -> Outcome | Trouble:
        """A holdout training that was killed twice is the machine's trouble.

        All its rewards have been trained before, so the result would have a gap that
        no later run could fill.
        """
        purpose = self.open[job.key][1]
        if (
            purpose == "holdout"
            and isinstance(outcome, Failure)
            and outcome.reason.startswith(STRUCK)
        ):
            first = outcome.reason.partition("\n")[0]
            text = f"a training of the holdout was killed twice ({first}); {AGAIN}"
            return Trouble(errno.EAGAIN, text)
        return outcome

    def _finished(self, job: TrainingJob, outcome: Outcome) -> None:
        candidate, purpose, _ = self.open.pop(job.key)
        record = TrainingRecord(
            key=job.key,
            candidate=candidate,
            seed=job.seed,
            purpose=purpose,
            steps=job.steps,
        )
        if isinstance(outcome, Failure):
            record = replace(record, failure=outcome)
        else:
            record = replace(
                record,
                result=outcome.as_record(),
                cpu_seconds=outcome.cpu_seconds,
                wall_seconds=outcome.wall_seconds,
                artifact=outcome.weights and f"{TRAININGS}/{outcome.weights}",
            )
        if crashed(record) and not self._works:
            self._held.append(record)
            return
        self._release()
        self.journal.add_training(record)
        self.observe("trained", {"record": record, "kept": False})

    def _ask_baseline(self) -> None:
        """Whether the crashes so far are the candidates' fault.

        The first baseline training of the holdout is due anyway. Where it works, the
        candidates have crashed; where it crashes like all of them, nothing of it is
        their fault, nor written down, and a run after the repair begins with them.
        """
        job = self._baseline()
        baseline = self.journal.training(job.key) or next(
            (record for record in self._held if record.key == job.key), None
        )
        if baseline is None:
            self.start("sparse", "holdout", job, first=True)
            return
        ways = {way(t.failure) for t in (baseline, *self._held) if t.failure}
        if len(ways) == 1 and baseline.failure is not None:
            raise NothingTrains(
                f"{self.task}: every training crashes in the same way, with the "
                f"sparse reward too: {baseline.failure.reason}. Mend that and run the "
                "same command again; none of it is held against a candidate"
            )
        self._release()

    def _release(self) -> None:
        """Journal the crashes that were held back: they are the candidates' own."""
        self._works = True
        held, self._held = self._held, []
        for record in held:
            self.journal.add_training(record)
            self.observe("trained", {"record": record, "kept": False})

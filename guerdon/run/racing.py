"""The trainings of a round as a race: legs in, true scores out, beat by beat."""

from __future__ import annotations

import itertools
import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, fields, replace
from typing import Any

from guerdon.agents.training import TrainingJob
from guerdon.journal import TrainingRecord
from guerdon.reward_design.search import Proposal, Proposer, Request
from guerdon.reward_design.search.candidate import MODEL_OPERATORS
from guerdon.reward_design.search.race import Full, Halving, Leg, Race
from guerdon.reward_design.search.race_bandits import D3RB, UCB
from guerdon.reward_design.search.screen import Screening
from guerdon.run.config import RunConfig
from guerdon.run.trainings import Trainings

RACE = "race"
"""Kind of the event with the rules of a round's race."""

RACED = "raced"
"""Kind of the event with what became of the legs of a beat."""

SHARE = 3
"""Of the full trainings of all candidates a bandit over legs may use one in so many."""


def race_of(config: RunConfig, unit: int, seed: int) -> Race:
    """The race that a configuration asks for.

    Args:
        config: of the run, with its steps whole.
        unit: steps of a rollout, of which all legs are multiples.
        seed: of what the race draws.
    """
    steps = config.steps
    if config.race == "halving":
        return Halving(
            steps, eta=config.eta, rungs=config.rungs, multiple=unit, seed=seed
        )
    leg = Halving(steps, eta=config.eta, rungs=config.rungs, multiple=unit).rungs[0]
    # One training of its share is that of the chosen one; all are pulled once at least.
    share = steps * config.candidates // SHARE - steps
    total = max(leg * config.candidates, share)
    if config.race == "ucb":
        return UCB(steps, leg=leg, total=total)
    if config.race == "d3rb":
        return D3RB(steps, leg=leg, total=total)
    return Full(steps)


@dataclass
class RaceRound:
    """One round under way.

    Args:
        number: of the round.
        race: says who trains on.
        trainings: of the run.
        seeds: training seeds of every candidate.
        job: the full training of a reward with a seed.
        parts: populations that train side by side, one per worker.
        note: journals an event unless it stands there. Scores are not noted: the
            journal has them with the trainings.
    """

    number: int
    race: Race
    trainings: Trainings
    seeds: Sequence[int]
    job: Callable[[str, int], TrainingJob]
    parts: int
    note: Callable[[str, dict[str, Any]], None]
    _sources: dict[str, str] = field(default_factory=dict)
    _ruled: bool = False

    def enter(self, name: str, source: str) -> None:
        """A candidate comes."""
        self._sources[name] = source
        self.race.enter(name)

    def beat(self, beat: int) -> bool:
        """Train what the race asks for now, and tell it; False when that is nothing."""
        legs = self.race.ask(len(self._sources))
        if not legs:
            return False
        for (start, stop), some in _alike(legs):
            entries = [
                (leg.name, self._job(leg.name, seed, stop))
                for leg in some
                for seed in self.seeds
            ]
            self.trainings.start_together(
                "search", entries, start=start, parts=self.parts
            )
        self.trainings.collect(wait=True)
        for leg in legs:
            self._tell(leg)
        self._note(beat, legs)
        return True

    def _note(self, beat: int, legs: Sequence[Leg]) -> None:
        """Tell the journal what the trainings alone do not say."""
        if not self._ruled:
            self.note(RACE, {"round": self.number, **self.race.rules})
            self._ruled = True
        became = [
            {
                "id": leg.name,
                "start": leg.start,
                "stop": leg.stop,
                "chance": self.race.by_chance(leg),
                "state": self.race.runners[leg.name].state,
            }
            for leg in legs
        ]
        self.note(RACED, {"round": self.number, "beat": beat, "legs": became})

    def _job(self, name: str, seed: int, steps: int) -> TrainingJob:
        return replace(self.job(self._sources[name], seed), steps=steps)

    def _tell(self, leg: Leg) -> None:
        records = self.trainings.at(leg.name, "search", leg.stop)
        if len(records) < len(self.seeds) or any(r.failure for r in records):
            self.race.fail(leg.name)
            return
        scores = [score for record in records for score in _fitness(record)]
        self.race.tell(leg.name, leg.stop, scores)


def promise(proposal: Proposal) -> float:
    """What the screen thinks of a proposal; 0 where it could not tell."""
    known = {one.name for one in fields(Screening)}
    if proposal.screening is None or set(proposal.screening) != known:
        return 0.0  # full Python has no screening
    return Screening(**proposal.screening).promise


def _alike(legs: Sequence[Leg]) -> Iterator[tuple[tuple[int, int], list[Leg]]]:
    """Legs that can be trained together, the longest first."""

    def span(leg: Leg) -> tuple[int, int]:
        return leg.start, leg.stop

    for which, some in itertools.groupby(
        sorted(legs, key=span, reverse=True), key=span
    ):
        yield which, list(some)


def _fitness(record: TrainingRecord) -> list[float]:
    """True score of every evaluation episode."""
    return [float(score) for score in record.result["evaluation"]["fitness"]]


class Writer:
    """Makes the proposals of a round in a thread, so that training need not wait.

    Args:
        requests: the slots; those of the search's own operators come first.
        proposer: fills them.
        ask: told before each request.
    """

    def __init__(
        self,
        requests: Sequence[Request],
        proposer: Proposer,
        ask: Callable[[Request], None],
    ) -> None:
        self._requests, self._proposer, self._ask = requests, proposer, ask
        self._made: queue.SimpleQueue[Proposal | BaseException] = queue.SimpleQueue()
        self._left = len(requests)
        self._own = sum(r.operator not in MODEL_OPERATORS for r in requests)
        threading.Thread(target=self._write, name="proposer", daemon=True).start()

    @property
    def done(self) -> bool:
        """Whether all proposals have been taken."""
        return self._left == 0

    def take(self, count: int | None, *, wait: bool) -> list[Proposal]:
        """Proposals, in the order of the requests.

        Args:
            count: exactly so many, waited for; None takes what is there.
            wait: with None, wait for one at least.

        Raises:
            Exception: what the proposer raised.
        """
        if count is None:
            # The operators' own are quick, and all of them begin together.
            least, self._own = max(self._own, int(wait)), 0
            found = [self._next() for _ in range(min(least, self._left))]
            with suppress(queue.Empty):
                while self._left:
                    found.append(self._taken(self._made.get_nowait()))
            return found
        self._own = 0
        return [self._next() for _ in range(min(count, self._left))]

    def _next(self) -> Proposal:
        return self._taken(self._made.get())

    def _taken(self, made: Proposal | BaseException) -> Proposal:
        if isinstance(made, BaseException):
            raise made
        self._left -= 1
        return made

    def _write(self) -> None:
        try:
            for request in self._requests:
                self._ask(request)
                self._made.put(self._proposer.propose(request))
        except BaseException as error:  # raised again where it is taken
            self._made.put(error)

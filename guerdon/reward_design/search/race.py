"""Who trains on: racing policies that share out environment steps by ask and tell.

    race = Halving(budget=100_000, eta=2, rungs=4)
    for name in candidates:
        race.enter(name)
    race.close()
    while legs := race.ask(free):
        for leg in legs:                      # the caller trains from start to stop
            race.tell(leg.name, leg.stop, fitness)

A race never trains. It is told the true score of every candidate after every leg, in
an order that all candidates share (seeds and episodes), so that two of them are
compared pair by pair. Told the same, it asks the same: its only draws come from a
seeded generator.

Reference: Jamieson & Talwalkar 2016, "Non-stochastic best arm identification and
hyperparameter optimization", AISTATS (successive halving); Li et al. 2020, "A system
for massively parallel hyperparameter tuning", MLSys (promotion without waiting, which
lets candidates come at any time).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import numpy as np

from guerdon.checks import integer

State = Literal["waiting", "training", "paused", "finished", "dropped", "failed"]
"""Of a candidate: ``paused`` may go on later, ``dropped`` may not."""

Scores = Sequence[float] | np.ndarray

MOST_RUNGS = 10
"""More halve a budget to nothing."""


class Leg(NamedTuple):
    """Train this candidate from ``start`` to ``stop`` environment steps."""

    name: str
    start: int
    stop: int


@dataclass(slots=True)
class Runner:
    """A candidate in a race."""

    name: str
    order: int
    """Number in the order of coming; an earlier one wins a tie."""
    steps: int = 0
    """Environment steps that it has been trained for."""
    state: State = "waiting"
    scores: dict[int, np.ndarray] = field(default_factory=dict)
    """True scores by the steps after which they were measured, each ``(P,)``."""
    chance: bool = False
    """Whether it was once promoted by chance and not by its score."""

    @property
    def latest(self) -> np.ndarray:
        """Its last scores; KeyError before the first."""
        return self.scores[self.steps]


class Paired(NamedTuple):
    """Mean of the differences of paired scores, with the ends of its interval."""

    mean: float
    low: float
    high: float


def paired(ours: np.ndarray, theirs: np.ndarray, confidence: float) -> Paired:
    """How much better one candidate is than another, pair by pair.

    The interval is Student's, on the differences, two-sided. One pair has none.

    Args:
        ours: ``(P,)`` scores.
        theirs: ``(P,)`` scores under the same seeds and episodes, in that order.
        confidence: of the interval, above 0 and below 1.
    """
    difference = ours - theirs
    mean = float(difference.mean())
    spread = float(difference.std(ddof=1)) if len(difference) > 1 else 0.0
    if spread == 0.0:
        return Paired(mean, mean, mean)
    error = spread / np.sqrt(len(difference))
    # scipy.stats takes half a second to load; `guerdon tasks` need not wait for either.
    from scipy.special import stdtrit

    reach = float(stdtrit(len(difference) - 1, (1 + confidence) / 2)) * error
    return Paired(mean, mean - reach, mean + reach)


def lower_bounds(
    scores: Mapping[str, np.ndarray], confidence: float
) -> dict[str, float]:
    """Lower bounds of the paired improvement over the mean of all on a rung.

    Args:
        scores: ``(P,)`` of everybody who has reached the rung.
        confidence: of the interval, above 0 and below 1.
    """
    if not scores:
        return {}
    reference = np.mean(list(scores.values()), axis=0)
    return {
        name: paired(own, reference, confidence).low for name, own in scores.items()
    }


class Race(ABC):
    """What every policy shares: who takes part, and what has been measured.

    Args:
        budget: environment steps of a full training.

    Raises:
        ValueError: for a budget below 1.
        TypeError: for a budget that is no whole number.
    """

    def __init__(self, budget: int) -> None:
        self.budget = integer("budget", budget, 1)
        self.runners: dict[str, Runner] = {}
        self.closed = False
        self._pairs: int | None = None

    def enter(self, name: str) -> None:
        """A candidate comes; earlier ones win ties, so come in the screen's order.

        Raises:
            ValueError: when it is in already, or the race is closed.
        """
        if self.closed:
            raise ValueError(f"race: closed, so {name!r} cannot enter")
        if name in self.runners:
            raise ValueError(f"race: {name!r} has entered already")
        self.runners[name] = Runner(name, len(self.runners))

    def close(self) -> None:
        """No more candidates come: nobody waits for them any longer."""
        self.closed = True

    def ask(self, free: int) -> list[Leg]:
        """Legs to train now, at most one of a candidate; empty when none can be.

        Args:
            free: places for candidates, at least 0.
        """
        legs = []
        for _ in range(integer("free", free)):
            leg = self._next()
            if leg is None:
                break
            self.runners[leg.name].state = "training"
            legs.append(leg)
        return legs

    def tell(self, name: str, steps: int, scores: Scores) -> None:
        """A leg is done.

        Args:
            name: whose.
            steps: after how many steps it was measured: the ``stop`` of its leg.
            scores: ``(P,)`` finite true scores; equal places of all candidates belong
                to equal seeds and episodes.

        Raises:
            ValueError: when this was not asked for, or for scores of another number
                or that are not finite.
        """
        runner = self._trained(name)
        values = np.asarray(scores, np.float64)
        if values.ndim != 1 or not len(values) or not np.isfinite(values).all():
            raise ValueError(
                f"race: expected finite scores (P,) of {name!r}, got {values!r}"
            )
        if self._pairs not in (None, len(values)):
            raise ValueError(
                f"race: expected {self._pairs} scores as of the others, got "
                f"{len(values)} of {name!r}"
            )
        if steps <= runner.steps:
            raise ValueError(
                f"race: {name!r} was at {runner.steps} steps; expected more, got "
                f"{steps}"
            )
        self._pairs = len(values)
        runner.steps, runner.scores[steps] = steps, values
        runner.state = "finished" if steps >= self.budget else "paused"
        self._measured(runner)

    def fail(self, name: str) -> None:
        """A leg has failed: the candidate is out.

        Raises:
            ValueError: when it was not training.
        """
        self._trained(name).state = "failed"

    def _trained(self, name: str) -> Runner:
        runner = self.runners.get(name)
        if runner is None or runner.state != "training":
            known = "unknown" if runner is None else runner.state
            raise ValueError(f"race: no leg of {name!r} is under way ({known})")
        return runner

    @property
    def spent(self) -> int:
        """Environment steps so far, of all candidates, per training seed."""
        return sum(runner.steps for runner in self.runners.values())

    def best(self) -> Runner | None:
        """The candidate to choose: the longest trained, of these the best mean."""
        known = [r for r in self.runners.values() if r.scores and r.state != "failed"]
        return max(
            known,
            key=lambda r: (r.steps, float(r.latest.mean()), -r.order),
            default=None,
        )

    @property
    @abstractmethod
    def rules(self) -> dict[str, Any]:
        """What a reader of its record has to know, as plain JSON."""

    def by_chance(self, leg: Leg) -> bool:
        """Whether a leg was given by chance and not by a score."""
        return False

    def _of(self, *states: State) -> list[Runner]:
        return [r for r in self.runners.values() if r.state in states]

    @abstractmethod
    def _next(self) -> Leg | None:
        """The next leg, or None while there is none."""

    def _measured(self, runner: Runner) -> None:  # noqa: B027 - not every policy asks
        """Called after a leg was told."""


class Full(Race):
    """No racing: every candidate is trained to the end, in the order of coming."""

    @property
    def rules(self) -> dict[str, Any]:
        """Nothing but the end."""
        return {"rungs": [self.budget]}

    def _next(self) -> Leg | None:
        waiting = self._of("waiting")
        return Leg(waiting[0].name, 0, self.budget) if waiting else None


class Halving(Race):
    """Successive halving that does not wait: the best of a rung go on.

    A candidate runs to the lowest rung and pauses. Of all that have reached a rung,
    the best ``1 / eta`` go on to the next one, as soon as there is a place; free places
    that nobody has earned go to fresh candidates. Once the race is closed and all of a
    rung are measured, at least one goes on, and one more by chance, which shows what
    the score would have missed.

    Who is best is said by the lower bound of the paired improvement over the mean of
    all that have reached the rung: of two equal means the steadier one wins. A
    candidate is hopeless, and dropped at once, when it surely has not improved since
    its last rung and surely is worse than the best of this one. One that crashes later
    leaves its place to the next.

    Args:
        budget: environment steps of a full training.
        eta: the best ``1 / eta`` of a rung go on; a whole number of at least 2.
        rungs: number of rungs, at most ``MOST_RUNGS``, the full training included, so
            the lowest one has ``budget / eta ** (rungs - 1)`` steps.
        multiple: steps of a rung are rounded up to a multiple of these, such as a
            rollout.
        confidence: of the interval of a paired improvement.
        chance: whether one of each closed rung goes on by chance.
        seed: of the draw of that one.

    Raises:
        ValueError: for a number out of bounds.
    """

    def __init__(
        self,
        budget: int,
        *,
        eta: int = 2,
        rungs: int = 4,
        multiple: int = 1,
        confidence: float = 0.8,
        chance: bool = True,
        seed: int = 0,
    ) -> None:
        super().__init__(budget)
        self.eta = integer("eta", eta, 2)
        integer("rungs", rungs, 1, MOST_RUNGS)
        integer("multiple", multiple, 1)
        if not 0.0 < confidence < 1.0:
            raise ValueError(f"confidence: expected above 0, below 1, got {confidence}")
        self.confidence = confidence
        shares = [budget / self.eta**k for k in range(rungs - 1, 0, -1)]
        lower = {multiple * -int(-share // multiple) for share in shares}
        self.rungs = (*sorted(step for step in lower if step < budget), budget)
        """Environment steps of the rungs, lowest first."""
        self._chance = chance
        self._rng = np.random.default_rng([seed, 3])
        self._lucky: dict[int, str] = {}

    @property
    def rules(self) -> dict[str, Any]:
        """The rungs, and who goes on from them."""
        rungs = [int(rung) for rung in self.rungs]
        return {"rungs": rungs, "eta": self.eta, "confidence": self.confidence}

    def by_chance(self, leg: Leg) -> bool:
        """Whether a leg was given by chance and not by a score."""
        return self._lucky.get(leg.start) == leg.name

    def lower_bounds(self, rung: int) -> dict[str, float]:
        """Lower bound of the paired improvement of all that have reached a rung.

        Args:
            rung: steps of the rung.
        """
        reached = {r.name: r.scores[rung] for r in self._reached(rung)}
        return lower_bounds(reached, self.confidence)

    def _reached(self, rung: int) -> list[Runner]:
        return [r for r in self.runners.values() if rung in r.scores]

    def _ranked(self, rung: int) -> list[Runner]:
        low = self.lower_bounds(rung)
        # Of two with equal bounds, the better mean, then the one that came first.
        return sorted(
            self._reached(rung),
            key=lambda r: (-low[r.name], -float(r.scores[rung].mean()), r.order),
        )

    def _next(self) -> Leg | None:
        # Of all rungs that somebody may leave, the highest; whether anybody is still to
        # come to a rung is known from those below it.
        found: tuple[int, Runner | None, list[Runner]] | None = None
        complete = self.closed and not self._of("waiting")
        for i, rung in enumerate(self.rungs[:-1]):
            complete = complete and all(r.steps >= rung for r in self._of("training"))
            earned = self._earned(rung, complete)
            left = self._left(rung, earned) if complete else []
            if earned or left:
                found, complete = (i, earned, left), False
        if found is None:
            waiting = self._of("waiting")
            return Leg(waiting[0].name, 0, self.rungs[0]) if waiting else None
        i, earned, left = found
        runner = earned or self._by_chance(self.rungs[i], left)
        return Leg(runner.name, self.rungs[i], self.rungs[i + 1])

    def _earned(self, rung: int, complete: bool) -> Runner | None:
        """Who has earned to leave a rung and has not left it yet."""
        reached = self._ranked(rung)
        places = len(reached) // self.eta
        ranked = [r for r in reached if r.state != "failed"]
        if ranked and complete:
            places = max(1, places)
        for runner in ranked[:places]:
            if runner.steps == rung and runner.state == "paused":
                return runner
        return None

    def _left(self, rung: int, earned: Runner | None) -> list[Runner]:
        """Of whom chance may still choose one, on a rung that is complete."""
        if not self._chance or rung in self._lucky:
            return []
        return [r for r in self._of("paused") if r.steps == rung and r is not earned]

    def _by_chance(self, rung: int, left: list[Runner]) -> Runner:
        runner = left[int(self._rng.integers(len(left)))]
        self._lucky[rung] = runner.name
        runner.chance = True
        return runner

    def _measured(self, runner: Runner) -> None:
        """Drop a hopeless one at once; the best of a rung only gets better."""
        rungs = sorted(runner.scores)
        if runner.state != "paused" or len(rungs) < 2:
            return
        before, now = runner.scores[rungs[-2]], runner.latest
        best = self._ranked(rungs[-1])[0].scores[rungs[-1]]
        stands = paired(now, before, self.confidence).high <= 0.0
        if stands and paired(now, best, self.confidence).high < 0.0:
            runner.state = "dropped"

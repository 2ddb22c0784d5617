"""Where runs are struck, and which runs."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, replace

from guerdon.agents.recipes import recipe_for
from guerdon.envs import load_task
from tests.soak.controller import MOMENTS
from tests.soak.jobs import Plan
from tests.test_run import SMALL

SEARCH = replace(SMALL, candidates=6)
UNIT = recipe_for(load_task(SEARCH.task)).whole_steps(1)
RACE = replace(
    SEARCH, candidates=8, rounds=1, seeds=1, steps=8 * UNIT, trainer="population"
)
"""A round that is a race: its trainings are populations that go on leg by leg. It asks
no model, since it hangs on the speed of one who races with whom."""

REAL = replace(RACE, candidates=3, steps=2 * UNIT, finalists=1, final_seeds=0, rungs=2)
"""The same, in which populations learn indeed."""

IN_WORKERS = {
    "worker before a rename": Plan("before a rename"),
    "worker after a rename": Plan("after a rename"),
    "all before a rename": Plan("before a rename", controller=True),
    "all after a rename": Plan("after a rename", controller=True),
    "worker in half a file": Plan("half a file written"),
    "all in half a file": Plan("half a file written", controller=True),
}
"""Kinds of points that are moments of the workers; ``all`` is one of them, and the
controller with it."""

KINDS = (
    *MOMENTS,
    *("time", "time", "time", "worker", "model server", "full disk"),
    *(kind for kind, plan in IN_WORKERS.items() if plan.moment.endswith("a rename")),
)
"""What a point may be, each as likely as the others; a time counts three times."""

REAL_KINDS = (
    *("all in half a file", "worker after a rename", "time", "all before a rename"),
)
"""What a point of a search that learns indeed may be, in this order."""


@dataclass(frozen=True)
class Point:
    """Where one run is disturbed."""

    number: int
    kind: str
    at: float
    """Share of the moments of that kind, or of the run's time, 0 to 1."""
    report: bool
    """Whether the run writes its real report, which takes most of its time."""
    race: bool = False
    """Whether the rounds of the run are races."""


def points(count: int, seed: int) -> Iterator[Point]:
    """The seeded points; every kind comes before any comes again.

    Every third strikes a race.
    """
    rng = random.Random(seed)
    for number in range(count):
        place = number % len(KINDS)
        if place == 0:
            kinds = rng.sample(KINDS, len(KINDS))
        kind = kinds[place]
        race = number % 3 == 2 and kind != "model server"
        yield Point(number, kind, rng.random(), rng.random() < 0.25, race)


def real_points(count: int, seed: int) -> Iterator[Point]:
    """Points of a search in which populations learn."""
    rng = random.Random(seed)
    for number in range(count):
        kind = REAL_KINDS[number % len(REAL_KINDS)]
        yield Point(number, kind, rng.random(), False, True)

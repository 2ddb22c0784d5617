"""Numbers out of trainings' results, which came from workers and may be malformed."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from guerdon.agents.statistics import mean_bands
from guerdon.journal import TrainingRecord
from guerdon.types import Estimate

MAX_POINTS = 400
"""Points of a drawn curve; a screen shows no more."""

_LARGEST = 10**300
"""Whole numbers in JSON may have thousands of digits, which no float holds."""

MAX_TERMS = 7
"""Terms with a colour of their own; the smaller rest is one."""


class Curve(NamedTuple):
    """A quantity over training: mean over seeds, with its bootstrap interval."""

    steps: np.ndarray
    """``(P,)`` environment steps."""
    mean: np.ndarray
    """``(P,)``."""
    low: np.ndarray
    """``(P,)`` lower end of the 95 % interval of the mean; the mean for one seed."""
    high: np.ndarray
    """``(P,)`` its upper end."""
    seeds: int


class Shares(NamedTuple):
    """How much of the reward each term was, over training."""

    names: tuple[str, ...]
    """Largest first; the last one may stand for all smaller ones."""
    steps: np.ndarray
    """``(P,)`` environment steps."""
    share: np.ndarray
    """``(P, m)`` in [0, 1], each row sums to 1 (or is 0 where nothing was paid)."""
    seeds: int


def as_number(value: Any) -> float | None:
    """A finite float, or None for anything else."""
    if isinstance(value, int) and abs(value) > _LARGEST:
        return None
    if isinstance(value, bool | int | float) and math.isfinite(value):
        return float(value)
    return None


def as_estimate(value: Any) -> Estimate | None:
    """An ``Estimate`` from its JSON form, or from a bare number; None if neither."""
    if not isinstance(value, Mapping):
        bare = as_number(value)
        return None if bare is None else Estimate(bare, bare, bare, 1)
    centre = as_number(value.get("value"))
    if centre is None:
        return None
    low, high = as_number(value.get("low")), as_number(value.get("high"))
    n = as_number(value.get("n"))
    return Estimate(
        centre,
        centre if low is None else low,
        centre if high is None else high,
        1 if n is None else int(n),
    )


def as_score(value: Any) -> float | None:
    """A number, or the mean of the finite ones of a list with one per episode."""
    if not isinstance(value, list):
        return as_number(value)
    known = [x for item in value if (x := as_number(item)) is not None]
    return float(np.mean(known)) if known else None


def dig(value: Any, *path: str) -> Any:
    """``value[path[0]][path[1]]...``, None where a step is missing."""
    for key in path:
        if not isinstance(value, Mapping):
            return None
        value = value.get(key)
    return value


def over_seeds(trainings: Iterable[TrainingRecord], *path: str) -> Estimate | None:
    """Mean of one number of the results, with its range over the trainings."""
    values = [as_score(dig(training.result, *path)) for training in trainings]
    known = [value for value in values if value is not None]
    if not known:
        return None
    return Estimate(float(np.mean(known)), min(known), max(known), len(known))


def curve(trainings: Iterable[TrainingRecord], *path: str) -> Curve | None:
    """The curve at ``path`` over seeds, on the steps that all of them reached."""
    lines = [
        line
        for training in trainings
        if (line := _line(training.result, path)) is not None
    ]
    if not lines:
        return None
    steps = _common_steps([line[0] for line in lines])
    values = np.stack([np.interp(steps, x, y) for x, y in lines])
    return Curve(steps, values.mean(0), *mean_bands(values), seeds=len(lines))


def shares(trainings: Sequence[TrainingRecord]) -> Shares | None:
    """Each term's share of the reward's absolute size, averaged over seeds."""
    names = _term_names(trainings)
    curves = {name: curve(_absolute(trainings), "terms", name) for name in names}
    found = {name: line for name, line in curves.items() if line is not None}
    if not found:
        return None
    steps = _common_steps([line.steps for line in found.values()])
    size = np.stack(
        [np.interp(steps, line.steps, line.mean) for line in found.values()], axis=-1
    )
    order = np.argsort(-size.sum(0), kind="stable")
    size = size[:, order]
    ordered = [list(found)[index] for index in order]
    if len(ordered) > MAX_TERMS:
        rest = size[:, MAX_TERMS - 1 :].sum(-1, keepdims=True)
        size = np.concatenate([size[:, : MAX_TERMS - 1], rest], axis=-1)
        ordered = [
            *ordered[: MAX_TERMS - 1],
            f"{len(ordered) - MAX_TERMS + 1} smaller terms",
        ]
    total = size.sum(-1, keepdims=True)
    share = np.divide(size, total, out=np.zeros_like(size), where=total > 0)
    seeds = max(line.seeds for line in found.values())
    return Shares(tuple(ordered), steps, share, seeds)


def _term_names(trainings: Iterable[TrainingRecord]) -> list[str]:
    names: dict[str, None] = {}
    for training in trainings:
        terms = dig(training.result, "curve", "terms")
        if isinstance(terms, Mapping):
            names |= dict.fromkeys(str(name) for name in terms)
    return list(names)


def _absolute(trainings: Iterable[TrainingRecord]) -> Iterable[TrainingRecord]:
    """The trainings with the size of each term in place of its signed value."""
    for training in trainings:
        terms = dig(training.result, "curve", "terms")
        if not isinstance(terms, Mapping):
            continue
        sizes = {
            str(name): [None if (v := as_number(x)) is None else abs(v) for x in column]
            for name, column in terms.items()
            if isinstance(column, list)
        }
        steps = dig(training.result, "curve", "steps")
        result = {"curve": {"steps": steps, "terms": sizes}}
        yield TrainingRecord(
            key=training.key,
            candidate=training.candidate,
            seed=training.seed,
            purpose=training.purpose,
            steps=training.steps,
            result=result,
        )


def _line(result: Any, path: tuple[str, ...]) -> tuple[np.ndarray, np.ndarray] | None:
    """Known points of one curve with strictly growing steps; None if there are none."""
    steps, values = dig(result, "curve", "steps"), dig(result, "curve", *path)
    if not isinstance(steps, list) or not isinstance(values, list):
        return None
    points: list[tuple[float, float]] = []
    for step, value in zip(steps, values, strict=False):
        x, y = as_number(step), as_number(value)
        if x is not None and y is not None and (not points or x > points[-1][0]):
            points.append((x, y))
    if not points:
        return None
    columns = np.asarray(points, float)
    return columns[:, 0], columns[:, 1]


def _common_steps(grids: Sequence[np.ndarray]) -> np.ndarray:
    start, end = max(grid[0] for grid in grids), min(grid[-1] for grid in grids)
    if start > end:  # no step that all have seen: show what the first one saw
        return grids[0]
    steps = np.unique(np.concatenate(grids))
    steps = steps[(steps >= start) & (steps <= end)]
    if len(steps) > MAX_POINTS:
        steps = np.linspace(start, end, MAX_POINTS)
    return steps

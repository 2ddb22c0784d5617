"""Random programs: the search's fallback without any model, and its baseline.

The prior favours forms that cannot be farmed. A change of a state feature pays back
what it took, a first-time event pays once; a bonus for being somewhere pays for
ever. On DoorKey-8x8 the best of 24 programs from differences reached 1.00 and .99,
and their mean was twice that of naive terms. Weights are drawn from 0.02 to 1.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from guerdon.reward_design.language import build
from guerdon.reward_design.language.table import reducers, shapers
from guerdon.reward_design.language.tree import Expr, Tree, const
from guerdon.types import ActionSpec, Feature, Layout

WEIGHTS = (0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 1.0)
TRUST = 0.9
"""How often the declared better direction of a feature is followed."""


class SampledTerm(NamedTuple):
    """A named term and the parameters that it brings."""

    term: tuple[str, Expr]
    params: dict[str, float]


@dataclass(frozen=True, slots=True)
class _Context:
    layout: Layout
    action: ActionSpec
    rng: np.random.Generator

    def choose(self, items: list[Feature]) -> Feature:
        return items[int(self.rng.integers(len(items)))]

    def function(self, names: list[str]) -> str:
        return names[int(self.rng.integers(len(names)))]

    def direction(self, feature: Feature) -> float:
        """+1 where more is better; the declared direction is mostly followed."""
        if feature.better is None:
            return 1.0 if self.rng.random() < 0.5 else -1.0
        sign = 1.0 if feature.better == "higher" else -1.0
        return sign if self.rng.random() < TRUST else -sign

    def leaf(self, which: str, feature: Feature) -> Expr:
        return build.feature(which, feature.name, self.layout)

    @property
    def flags(self) -> list[Feature]:
        return [f for f in self.layout if f.kind == "flag" and not f.shape]

    @property
    def numbers(self) -> list[Feature]:
        return [f for f in self.layout if f.kind == "number" and not f.shape]

    @property
    def vectors(self) -> list[Feature]:
        return [f for f in self.layout if f.shape]


Form = Callable[[_Context], tuple[str, Expr] | None]


def _signed(sign: float, expr: Expr) -> Expr:
    return expr if sign > 0 else build.negative(expr)


def _change(c: _Context, feature: Feature) -> Expr:
    """``now - prev``, or the other way round where less is better."""
    now, prev = c.leaf("now", feature), c.leaf("prev", feature)
    if c.direction(feature) > 0:
        return build.arithmetic("sub", now, prev)
    return build.arithmetic("sub", prev, now)


def _flag_change(c: _Context) -> tuple[str, Expr] | None:
    if not c.flags:
        return None
    feature = c.choose(c.flags)
    return feature.name, _change(c, feature)


def _flag_first(c: _Context) -> tuple[str, Expr] | None:
    if not c.flags:
        return None
    feature = c.choose(c.flags)
    event = build.as_number(build.call("first_time", [c.leaf("now", feature)]), "")
    return f"first_{feature.name}", _signed(c.direction(feature), event)


def _number_change(c: _Context) -> tuple[str, Expr] | None:
    if not c.numbers:
        return None
    feature = c.choose(c.numbers)
    return f"d_{feature.name}", _change(c, feature)


def _gated_change(c: _Context) -> tuple[str, Expr] | None:
    """A change that counts only while a flag holds (or does not) on both sides."""
    if not (c.flags and c.numbers):
        return None
    flag = c.choose(c.flags)
    inner = _number_change(c)
    if inner is None:
        return None
    before, after = c.leaf("prev", flag), c.leaf("now", flag)
    name = f"{inner[0]}_if_{flag.name}"
    if c.rng.random() < 0.5:
        before, after = build.logic("not", before), build.logic("not", after)
        name = f"{inner[0]}_unless_{flag.name}"
    gate = build.logic("and", before, after)
    return name, build.select(gate, inner[1], const(0.0))


def _level(c: _Context) -> tuple[str, Expr] | None:
    """A number by itself, as most published dense rewards have it."""
    if not c.numbers:
        return None
    feature = c.choose(c.numbers)
    return feature.name, _signed(c.direction(feature), c.leaf("now", feature))


def _shaped(c: _Context) -> tuple[str, Expr] | None:
    """A level put through a function of the table, such as ``sqrt(now.x)``."""
    if not c.numbers:
        return None
    feature, function = c.choose(c.numbers), c.function(shapers())
    value = build.call(function, [c.leaf("now", feature)])
    return f"{function}_{feature.name}", _signed(c.direction(feature), value)


def _near(c: _Context) -> tuple[str, Expr] | None:
    """Close to zero is good: ``exp(-|x| / scale)``."""
    if not c.numbers:
        return None
    feature = c.choose(c.numbers)
    scale = const(float(c.rng.choice([0.1, 0.3, 1.0, 3.0])))
    ratio = build.arithmetic("div", build.call("abs", [c.leaf("now", feature)]), scale)
    return f"near_{feature.name}", build.call("exp", [build.negative(ratio)])


def _flag_level(c: _Context) -> tuple[str, Expr] | None:
    if not c.flags:
        return None
    feature = c.choose(c.flags)
    value = build.as_number(c.leaf("now", feature), "")
    return f"while_{feature.name}", _signed(c.direction(feature), value)


def _progress(c: _Context) -> tuple[str, Expr] | None:
    """Only a new best of the episode counts."""
    if not c.numbers:
        return None
    feature = c.choose(c.numbers)
    value = _signed(c.direction(feature), c.leaf("now", feature))
    gain = build.arithmetic("sub", value, build.call("previous_best", [value]))
    return f"best_{feature.name}", build.call("max", [const(0.0), gain])


def _effort(c: _Context) -> tuple[str, Expr] | None:
    """A cost of squared actions or of a vector feature."""
    if c.action.kind == "continuous" and c.rng.random() < 0.7:
        inner, name = build.action_leaf(c.action), "effort"
    elif c.vectors:
        feature = c.choose(c.vectors)
        inner, name = c.leaf("now", feature), f"size_{feature.name}"
    else:
        return None
    return name, build.negative(build.call("sum", [build.call("square", [inner])]))


def _reduced(c: _Context) -> tuple[str, Expr] | None:
    """A vector feature as one number, such as ``norm(now.v)``."""
    if not c.vectors:
        return None
    feature, function = c.choose(c.vectors), c.function(reducers())
    value = build.call(function, [c.leaf("now", feature)])
    return f"{function}_{feature.name}", _signed(c.direction(feature), value)


def _time(c: _Context) -> tuple[str, Expr] | None:
    return "time", const(-0.01)


def _forms(action: ActionSpec) -> list[tuple[float, Form]]:
    """Forms with their weights; those of the table take a part of their plain forms."""
    dense = 2.0 if action.kind == "continuous" else 0.5
    return [
        (4.0, _flag_change),
        (2.0, _flag_first),
        (3.0, _number_change),
        (3.0, _gated_change),
        (1.5, _progress),
        (dense * 0.75, _level),
        (dense * 0.25, _shaped),
        (dense, _near),
        (0.5, _flag_level),
        (dense * 0.375, _effort),
        (dense * 0.125, _reduced),
        (0.3, _time),
    ]


def sample_term(
    layout: Layout,
    action: ActionSpec,
    rng: np.random.Generator,
    taken: Iterable[str],
) -> SampledTerm:
    """One weighted term; its name is free among ``taken``."""
    context = _Context(layout, action, rng)
    forms = _forms(action)
    weights = np.array([weight for weight, _ in forms])
    found: tuple[str, Expr] | None = None
    while found is None:
        place = int(rng.choice(len(forms), p=weights / weights.sum()))
        found = forms[place][1](context)
    taken = set(taken)
    stem = found[0][:36]
    name = stem
    for number in range(2, 100):
        if name not in taken:
            break
        name = f"{stem}_{number}"
    parameter = f"w_{name}"
    weight = float(rng.choice(WEIGHTS))
    scaled = build.arithmetic("mul", Expr("param", (), parameter), found[1])
    return SampledTerm((name, scaled), {parameter: weight})


def sample(
    layout: Layout, action: ActionSpec, rng: np.random.Generator, max_terms: int = 5
) -> Tree:
    """A random program of 1 to ``max_terms`` different terms."""
    terms: list[tuple[str, Expr]] = []
    params: dict[str, float] = {}
    seen: set[str] = set()
    for _ in range(int(rng.integers(1, max_terms + 1))):
        fresh = sample_term(layout, action, rng, [name for name, _ in terms])
        stem = fresh.term[0].rstrip("0123456789_")
        if stem in seen:
            continue
        seen.add(stem)
        terms.append(fresh.term)
        params |= fresh.params
    return Tree(tuple(params.items()), tuple(terms), layout, action)

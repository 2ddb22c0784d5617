"""Random programs of every form that the language has, for comparing backends."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from guerdon.reward_design.language import build
from guerdon.reward_design.language.tree import Expr, Rejected, Tree
from guerdon.types import ActionSpec, Layout

NUMBERS = (0.0, 1.0, -1.0, 2.0, 0.5, 3.0, 1e-9, 1e-10, 1e9, -1e9, 10.0, 0.3)
ELEMENTWISE = ("abs", "sqrt", "square", "sign")
REDUCTIONS = ("sum", "mean", "norm", "largest", "smallest")
COMPARISONS = ("lt", "le", "gt", "ge", "eq", "ne")


class RandomPrograms:
    """Draws typed trees; without exp, log, tanh, sin, cos and powers.

    What is left is exact in IEEE 754, so every backend has to give the same number.

    Args:
        layout: features, with at least one flag, number and vector.
        action: what the agent may do.
        rng: where the draws come from.
    """

    params = ("p", "q")

    def __init__(
        self, layout: Layout, action: ActionSpec, rng: np.random.Generator
    ) -> None:
        self.layout, self.action, self.rng = layout, action, rng
        self.features = {
            "vector": [f.name for f in layout if f.shape],
            "flag": [f.name for f in layout if f.kind == "flag"],
            "number": [f.name for f in layout if f.kind == "number" and not f.shape],
        }

    def tree(self) -> Tree:
        """A program of one to three terms."""
        depth = int(self.rng.integers(1, 6))
        terms = [
            (f"t{i}", build.as_number(self.expr("number", depth), "term"))
            for i in range(int(self.rng.integers(1, 4)))
        ]
        params = [(name, self.choose(NUMBERS)) for name in self.params]
        return Tree(tuple(params), tuple(terms), self.layout, self.action)

    def choose(self, items: Sequence) -> object:
        return items[int(self.rng.integers(len(items)))]

    def leaf(self, kind: str) -> Expr:
        draw = self.rng.random()
        if draw < 0.5:
            which = self.choose(("prev", "now"))
            return build.feature(which, self.choose(self.features[kind]), self.layout)
        if kind == "flag":
            return build.literal(bool(self.rng.integers(2)))
        if kind == "vector":
            if self.action.kind == "continuous" and draw < 0.8:
                return build.action_leaf(self.action)
            return build.entries([self.leaf("number"), self.leaf("number")])
        if draw < 0.65:
            return Expr("param", (), self.choose(self.params))
        if draw < 0.75:
            action = build.action_leaf(self.action)
            return action if action.type.kind == "number" else build.index(action, 0)
        return build.literal(self.choose(NUMBERS))

    def expr(self, kind: str, depth: int) -> Expr:
        """An expression of a kind; vectors that do not fit are drawn again."""
        if depth <= 0:
            return self.leaf(kind)
        forms = {"flag": self.flag, "number": self.number, "vector": self.elementwise}
        for _ in range(20):
            try:
                return forms[kind](kind, depth - 1)
            except Rejected:
                continue
        return self.leaf(kind)

    def flag(self, kind: str, depth: int) -> Expr:
        form = int(self.rng.integers(6))
        if form <= 1:
            left, right = self.expr("number", depth), self.expr("number", depth)
            return build.compare(self.choose(COMPARISONS), left, right)
        one = self.expr("flag", depth)
        if form == 2:
            return build.logic(self.choose(("and", "or")), one, self.leaf("flag"))
        if form == 3:
            return build.logic("not", one)
        if form == 4:
            return build.call("first_time", [one])
        return build.select(one, self.expr("flag", depth), self.leaf("flag"))

    def number(self, kind: str, depth: int) -> Expr:
        form = int(self.rng.integers(10))
        if form == 0:
            register = self.choose(("delta", "previous_best"))
            return build.call(register, [self.expr("number", depth)])
        if form == 1:
            return build.call("count", [self.expr("flag", depth)])
        if form == 2:
            reduction = self.choose(REDUCTIONS)
            return build.call(reduction, [self.expr("vector", depth)])
        if form == 3:
            vector = self.expr("vector", depth)
            return build.call("dot", [vector, build.negative(vector)])
        if form == 4:
            return build.as_number(self.expr("flag", depth), "term")
        return self.elementwise(kind, depth)

    def elementwise(self, kind: str, depth: int) -> Expr:
        form = int(self.rng.integers(8))
        one = self.expr(kind, depth)
        if form <= 2:
            sign = self.choose(("add", "sub", "mul", "div"))
            other = self.expr(self.choose((kind, "number")), depth)
            return build.arithmetic(sign, one, other)
        if form == 3:
            return build.negative(one)
        if form == 4:
            other = self.expr(kind, depth)
            return build.select(self.expr("flag", depth), one, other)
        if form == 5:
            low, high = self.expr("number", depth), self.leaf("number")
            return build.call("clip", [one, low, high])
        if form == 6:
            other = self.expr(self.choose((kind, "number")), depth)
            return build.call(self.choose(("min", "max")), [one, other])
        return build.call(self.choose(ELEMENTWISE), [one])

"""The typed closed-world tree of a reward program, and its text form."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from guerdon.reward_design.language.table import BINARY, COMPARE
from guerdon.types import ActionSpec, Failure, FailureKind, Layout

MAX_NODES = 1500
"""Largest tree after variables are put in and loops unrolled."""

MAX_DEPTH = 100
"""Longest chain of operations, so that walking a tree never overflows the stack."""

MOST_NESTED = 12
"""Operations inside one another that are printed in one line."""


class Rejected(ValueError):
    """A text that is not a reward program, with the line and the reason.

    Args:
        kind: class of the failure, as in ``Failure``.
        reason: one sentence for people and for a repair prompt.
        line: line of the text, from 1; ``parse`` always names one, and None is for
            trees and JSON, which have no lines.
    """

    def __init__(self, kind: FailureKind, reason: str, line: int | None = None) -> None:
        self.failure = Failure(kind, reason, line)
        super().__init__(str(self.failure))


class Type(NamedTuple):
    """``number``, ``flag`` or a ``vector`` of static length."""

    kind: Literal["number", "flag", "vector"]
    size: int = 1

    def __str__(self) -> str:
        return f"vector of {self.size}" if self.kind == "vector" else self.kind


NUMBER = Type("number")
FLAG = Type("flag")


def vector(size: int) -> Type:
    """Type of a vector with ``size`` entries."""
    return Type("vector", size)


@dataclass(frozen=True, slots=True)
class Expr:
    """One node: an operation, its arguments and what it gives.

    ``op`` is a key of the table or one of the leaves ``const`` (value float or
    bool), ``param``, ``prev``, ``now`` (value: name), ``action``, and ``index``
    (value: position) and ``vector`` (entries as arguments).
    """

    op: str
    args: tuple[Expr, ...] = ()
    value: float | bool | str | int | None = None
    type: Type = NUMBER
    size: int = field(init=False, compare=False, default=1)
    depth: int = field(init=False, compare=False, default=1)
    _hash: int = field(init=False, compare=False, repr=False, default=0)

    def __post_init__(self) -> None:
        size = 1 + sum(arg.size for arg in self.args)
        if size > MAX_NODES:
            raise Rejected(
                "slow", f"the program is too large: more than {MAX_NODES} operations"
            )
        depth = 1 + max((arg.depth for arg in self.args), default=0)
        if depth > MAX_DEPTH:
            raise Rejected(
                "slow", f"the program is too deep: more than {MAX_DEPTH} operations"
            )
        object.__setattr__(self, "size", size)
        object.__setattr__(self, "depth", depth)
        key = (self.op, self.value, self.type, tuple(a._hash for a in self.args))
        object.__setattr__(self, "_hash", hash(key))

    def __hash__(self) -> int:
        return self._hash

    def walk(self) -> Iterator[Expr]:
        """The node and everything below it, parents first."""
        yield self
        for arg in self.args:
            yield from arg.walk()

    def rebuild(self, change: Callable[[Expr], Expr]) -> Expr:
        """The same tree with ``change`` applied to every node, leaves first."""
        args = tuple(arg.rebuild(change) for arg in self.args)
        node = self if args == self.args else self.with_args(args)
        return change(node)

    def with_args(self, args: tuple[Expr, ...]) -> Expr:
        """The same operation on other arguments."""
        return Expr(self.op, args, self.value, self.type)


def const(value: float) -> Expr:
    """A literal number; -0.0 is 0.0, which it equals and would be taken for."""
    return Expr("const", (), float(value) + 0.0, NUMBER)


def number(node: Expr) -> Expr:
    """A flag counted as 0 or 1; anything else unchanged."""
    return Expr("number", (node,), None, NUMBER) if node.type == FLAG else node


@dataclass(frozen=True, slots=True)
class Tree:
    """A reward program: named parameters and named terms over declared features.

    Args:
        params: names and values, in order.
        terms: names and number expressions, in order; their sum is the reward.
        layout: the features that the terms name.
        action: what the agent may do.
    """

    params: tuple[tuple[str, float], ...]
    terms: tuple[tuple[str, Expr], ...]
    layout: Layout
    action: ActionSpec

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the terms."""
        return tuple(name for name, _ in self.terms)

    @property
    def size(self) -> int:
        """Number of operations and leaves in all terms."""
        return sum(expr.size for _, expr in self.terms)

    @property
    def uses_registers(self) -> bool:
        """Whether anything is remembered within an episode."""
        from guerdon.reward_design.language.table import REGISTERS

        return any(n.op in REGISTERS for _, expr in self.terms for n in expr.walk())

    def __str__(self) -> str:
        return to_source(self)


_PRECEDENCE = {"or": 1, "and": 2, "not": 3, "add": 5, "sub": 5, "mul": 6, "div": 6}
_PRECEDENCE |= dict.fromkeys(COMPARE, 4) | {"neg": 7, "pow": 8}


def expression_source(expr: Expr, names: dict[Expr, str] | None = None) -> str:
    """Text of one expression; ``names`` gives local variables for whole nodes."""
    return _print(expr, 0, names or {})


def _print(expr: Expr, outer: int, names: dict[Expr, str]) -> str:
    if expr in names:
        return names[expr]
    op, args = expr.op, expr.args
    if op == "number":  # a flag counts as 0 or 1 wherever a number is expected
        return _print(args[0], outer, names)
    level = _PRECEDENCE.get(op)
    if level is None:
        return _print_leaf_or_call(expr, names)
    if op == "not":
        text = f"not {_print(args[0], level, names)}"
    elif op == "neg":
        text = f"-{_print(args[0], level, names)}"
    elif op in ("and", "or"):
        text = f" {op} ".join(_print(arg, level + 1, names) for arg in args)
    elif op == "pow":
        text = f"{_print(args[0], 9, names)} ** {_print(args[1], 9, names)}"
    else:
        sign = BINARY.get(op) or COMPARE[op]
        left = level + 1 if op in COMPARE else level
        text = f"{_print(args[0], left, names)} {sign} "
        text += _print(args[1], level + 1, names)
    return f"({text})" if level < outer else text


def _print_leaf_or_call(expr: Expr, names: dict[Expr, str]) -> str:
    op, args = expr.op, expr.args
    if op == "const":
        if isinstance(expr.value, bool):
            return str(expr.value)
        value = float(expr.value or 0.0)
        return f"{value!r}" if value >= 0 else f"({value!r})"
    if op in ("prev", "now"):
        return f"{op}.{expr.value}"
    if op == "param":
        return f"params.{expr.value}"
    if op == "action":
        return "action"
    if op == "index":
        return f"{_print(args[0], 9, names)}[{expr.value}]"
    parts = [_print(arg, 0, names) for arg in args]
    if op == "where" and args[1].op == args[2].op == "number" and args[1] not in names:
        parts[1] = f"float({parts[1]})"  # of two flags it would choose a flag
    inner = ", ".join(parts)
    if op == "vector":
        return f"[{inner}]"
    return f"{op}({inner})"


def to_source(tree: Tree) -> str:
    """The program as text; parsing it gives the same tree back.

    Subexpressions that occur more than once, or are deep, become local variables.
    """
    lines = []
    if tree.params:
        pairs = ", ".join(f'"{name}": {value!r}' for name, value in tree.params)
        lines.append(f"PARAMS = {{{pairs}}}")
    lines.append("def reward(prev, action, now, params):")
    names: dict[Expr, str] = {}
    for shared in _shared(tree):
        name = f"x{len(names)}"
        text = _print(shared, 0, names)
        text = f"float({text})" if shared.op == "number" else text
        lines.append(f"    {name} = {text}")
        names[shared] = name
    lines.append("    return {")
    for name, expr in tree.terms:
        lines.append(f'        "{name}": {_print(expr, 0, names)},')
    lines.append("    }")
    return "\n".join(lines) + "\n"


def _shared(tree: Tree) -> list[Expr]:
    """Subtrees that become local variables, smallest first.

    Those of at least four nodes that occur more than once, and in a deep one every
    ``MOST_NESTED``-th level, since ``parse`` reads no lines that are nested deeper.
    """
    counts: dict[Expr, int] = {}

    def visit(node: Expr) -> None:
        counts[node] = counts.get(node, 0) + 1
        if counts[node] == 1:
            for arg in node.args:
                visit(arg)

    for _, expr in tree.terms:
        visit(expr)
    found = [
        node
        for node, times in counts.items()
        if node.size >= 4 and (times > 1 or node.depth % MOST_NESTED == 0)
    ]
    return sorted(found, key=lambda node: node.size)

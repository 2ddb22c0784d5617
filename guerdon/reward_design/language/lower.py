"""Typed tree to a straight line of scalar operations.

Vectors of static length fall apart into their entries, equal subexpressions are
computed once, constants are folded, what no term needs is left out, and a static bound
on every value shows where a clamp is needed so that nothing can overflow.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from itertools import accumulate

from guerdon.reward_design.language.runtime import SCALAR
from guerdon.reward_design.language.table import (
    BINARY,
    COMPARE,
    EXP_MAX,
    HUGE,
    LOWERED,
    REGISTER_WORK,
    REGISTERS,
    SIMPLE,
    TINY,
)
from guerdon.reward_design.language.tree import Expr, Rejected, Tree

FLOAT32_MAX = 3.5e38
MAX_WORK = 6000
"""Most that a program may work a transition, as ``predicted_work`` counts it."""


@dataclass(frozen=True, slots=True)
class Operation:
    """One scalar operation.

    ``op`` is a key of ``LOWERED``, a register, or ``const`` (value), ``param``
    (position), ``prev`` / ``now`` (column), ``flag_prev`` / ``flag_now`` (column)
    and ``action`` (position, or -1 for a discrete action).
    """

    op: str
    args: tuple[int, ...] = ()
    value: float | int | bool | None = None


@dataclass
class Line:
    """A program as a straight line; ``outputs`` are positions, one per term.

    ``registers`` are the positions of the register operations, in the order in
    which their state is kept.
    """

    operations: list[Operation] = field(default_factory=list)
    outputs: list[int] = field(default_factory=list)
    registers: list[int] = field(default_factory=list)


def lower(tree: Tree) -> Line:
    """The straight line of a tree.

    Raises:
        Rejected: ``slow``, when it works more than ``MAX_WORK`` a transition.
        TypeError: for anything that is not a tree.
    """
    if not isinstance(tree, Tree):
        raise TypeError(
            f"compile_tree: expected a Tree, got {type(tree).__name__}; parse() makes "
            "one from a text"
        )
    lowering = _Lowering(tree)
    for name, expr in tree.terms:
        lowering.term = name
        lowering.line.outputs.append(lowering.scalar(expr))
    return _needed(lowering.line)


def cost(op: str) -> int:
    """What an operation works a transition; see ``work.py``."""
    if op in ("const", "param"):
        return 0
    lowered = LOWERED.get(op)
    return lowered.work if lowered else REGISTER_WORK.get(op, SIMPLE)


def _needed(line: Line) -> Line:
    """The line without what leads to no term, such as entries that nobody reads.

    Registers stay, so that a program has the ones that its text has.
    """
    operations = line.operations
    needed = [False] * len(operations)
    for root in (*line.outputs, *line.registers):
        needed[root] = True
    for position in range(len(operations) - 1, -1, -1):
        if needed[position]:
            for arg in operations[position].args:
                needed[arg] = True
    if all(needed):
        return line
    place = [count - 1 for count in accumulate(map(int, needed))]
    kept = [
        replace(operation, args=tuple(place[arg] for arg in operation.args))
        for operation, used in zip(operations, needed, strict=True)
        if used
    ]
    outputs = [place[output] for output in line.outputs]
    return Line(kept, outputs, [place[register] for register in line.registers])


class _Lowering:
    def __init__(self, tree: Tree) -> None:
        self.line = Line()
        self.bounds: list[float] = []
        self.known: dict[tuple[Operation, type], int] = {}
        self.cache: dict[Expr, tuple[int, ...]] = {}
        self.params = {name: i for i, (name, _) in enumerate(tree.params)}
        self.layout = tree.layout
        self.term = ""
        self.work = len(tree.terms)

    # --- emitting ---------------------------------------------------------

    def emit(self, op: str, *args: int, value: float | int | bool | None = None) -> int:
        folded = self._folded(op, args)
        if folded is not None:
            return self.emit("const", value=folded)
        operation = Operation(op, args, value)
        name = (operation, type(value))  # True and 1.0 are equal and not the same
        if op not in REGISTERS and name in self.known:
            return self.known[name]
        self.work += cost(op)
        # Constants cost no transition anything; reading them takes time and memory.
        if max(self.work, len(self.line.operations)) > MAX_WORK:
            raise Rejected(
                "slow",
                f"the program works too long: more than {MAX_WORK} operations a "
                f"transition when it comes to term {self.term!r}; every entry of a "
                "vector counts, a root or a division as 4, exp and its like as 8",
            )
        self.line.operations.append(operation)
        self.bounds.append(self._bound(op, args, value))
        position = len(self.bounds) - 1
        self.known[name] = position
        if op in REGISTERS:
            self.line.registers.append(position)
        if self.bounds[position] > HUGE and op != "clamp":
            return self.emit("clamp", position)
        return position

    def _folded(self, op: str, args: tuple[int, ...]) -> float | bool | None:
        if not args or op in REGISTERS:
            return None
        found = [self.line.operations[a] for a in args]
        if any(operation.op != "const" for operation in found):
            return None
        values = [operation.value for operation in found]
        value: float | bool = SCALAR[op](*values)
        return value

    def _bound(
        self, op: str, args: tuple[int, ...], value: float | int | bool | None
    ) -> float:
        """Largest magnitude that the result can have for finite float32 inputs."""
        b = [self.bounds[a] for a in args]
        match op:
            case "const":
                return abs(float(value or 0.0))
            case "prev" | "now" | "action" | "param" | "count":
                return FLOAT32_MAX
            case "neg" | "abs" | "previous_best":
                return b[0]
            case "exp":
                return math.exp(min(b[0], EXP_MAX))
            case "log":
                return 360.0
            case "sqrt":
                return math.sqrt(b[0])
            case "clamp":
                return HUGE
            case "add" | "sub":
                return b[0] + b[1]
            case "delta":
                return 2 * b[0]
            case "mul":
                return b[0] * b[1]
            case "div":
                return b[0] / TINY
            case "quotient":
                return b[0] / abs(float(self.line.operations[args[1]].value or 1.0))
            case "pow":
                return HUGE
            case "min" | "max":
                return max(b)
            case "where":
                return max(b[1:])
        return 1.0

    # --- tree to operations -----------------------------------------------

    def scalar(self, expr: Expr) -> int:
        return self.values(expr)[0]

    def values(self, expr: Expr) -> tuple[int, ...]:
        """Positions of the entries of ``expr``; one for a number or a flag."""
        if expr not in self.cache:
            self.cache[expr] = self._values(expr)
        return self.cache[expr]

    def _values(self, expr: Expr) -> tuple[int, ...]:
        op = expr.op
        if op in ("const", "param", "prev", "now", "action"):
            return self._leaf(expr)
        if op == "index":
            return (self.values(expr.args[0])[int(expr.value or 0)],)
        if op == "vector":
            return tuple(self.scalar(arg) for arg in expr.args)
        args = [self.values(arg) for arg in expr.args]
        reduction = getattr(self, f"_{op}", None)
        if reduction is not None:
            return (reduction(*args),)
        width = expr.type.size if expr.type.kind == "vector" else 1
        spread = [arg if len(arg) == width else arg * width for arg in args]
        return tuple(
            self._elementwise(op, *entry) for entry in zip(*spread, strict=True)
        )

    def _leaf(self, expr: Expr) -> tuple[int, ...]:
        if expr.op == "const":
            assert isinstance(expr.value, bool | float)
            return (self.emit("const", value=expr.value),)
        if expr.op == "param":
            return (self.emit("param", value=self.params[str(expr.value)]),)
        if expr.op == "action":
            if expr.type.kind != "vector":
                return (self.emit("action", value=-1),)
            return tuple(self.emit("action", value=i) for i in range(expr.type.size))
        columns = self.layout.columns(str(expr.value))
        kind = f"flag_{expr.op}" if expr.type.kind == "flag" else expr.op
        return tuple(
            self.emit(kind, value=c) for c in range(columns.start, columns.stop)
        )

    def _elementwise(self, op: str, *args: int) -> int:
        if op == "square":
            return self.emit("mul", args[0], args[0])
        if op == "clip":
            low = self.emit("max", args[0], args[1])
            return self.emit("min", low, args[2])
        if op == "pow":
            return self._power(*args)
        if op == "div":
            divisor = self.line.operations[args[1]]
            if divisor.op == "const" and abs(float(divisor.value or 0.0)) >= TINY:
                return self.emit("quotient", *args)
        if op in LOWERED or op in REGISTERS:
            return self.emit(op, *args)
        raise KeyError(op)

    def _power(self, base: int, exponent: int) -> int:
        """Small whole exponents multiply; the rest is the total power."""
        known = self.line.operations[exponent]
        if known.op == "const":
            value = float(known.value or 0.0)
            if value == 1.0:
                return base
            if value in (2.0, 3.0, 4.0):
                result = base
                for _ in range(int(value) - 1):
                    result = self.emit("mul", result, base)
                return result
            if value == 0.5:
                return self.emit("sqrt", base)
        return self.emit("pow", base, exponent)

    # --- reductions: always left to right, so that all backends agree -------

    def _fold(self, op: str, entries: tuple[int, ...]) -> int:
        result = entries[0]
        for entry in entries[1:]:
            result = self.emit(op, result, entry)
        return result

    def _sum(self, entries: tuple[int, ...]) -> int:
        return self._fold("add", entries)

    def _mean(self, entries: tuple[int, ...]) -> int:
        size = self.emit("const", value=float(len(entries)))
        return self.emit("quotient", self._sum(entries), size)

    def _norm(self, entries: tuple[int, ...]) -> int:
        return self.emit("sqrt", self._dot(entries, entries))

    def _dot(self, left: tuple[int, ...], right: tuple[int, ...]) -> int:
        products = tuple(
            self.emit("mul", a, b) for a, b in zip(left, right, strict=True)
        )
        return self._fold("add", products)

    def _largest(self, entries: tuple[int, ...]) -> int:
        return self._fold("max", entries)

    def _smallest(self, entries: tuple[int, ...]) -> int:
        return self._fold("min", entries)


assert set(BINARY) | set(COMPARE) <= set(LOWERED)  # the table covers the operators

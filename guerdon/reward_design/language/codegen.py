"""Straight line to code that we print: Python scalars, NumPy, torch, numba.

Nothing of the program's text reaches the printed code: names are numbered, features
are columns, parameters are positions, and every function comes from ``runtime``.
The printed source stays readable at ``Compiled.source`` for those who want to look.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from guerdon.reward_design.language import registers
from guerdon.reward_design.language.lower import Line, Operation, lower
from guerdon.reward_design.language.runtime import (
    NUMPY_NAMES,
    SCALAR_NAMES,
    torch_names,
)
from guerdon.reward_design.language.table import LOWERED, REGISTERS
from guerdon.reward_design.language.tree import Tree

INLINE_DEPTH = 12
"""An expression used once is printed in place up to this depth of brackets."""

_ROW = {
    "prev": "prev[{0}]",
    "now": "now[{0}]",
    "flag_prev": "prev[{0}] != 0.0",
    "flag_now": "now[{0}] != 0.0",
    "action": "action[{0}]",
    "param": "w[{0}]",
}
_CELL = {
    "prev": "m_double(prev[t, n, {0}])",
    "now": "m_double(now[t, n, {0}])",
    "flag_prev": "prev[t, n, {0}] != 0.0",
    "flag_now": "now[t, n, {0}] != 0.0",
    "action": "action[t, n, {0}]",
    "param": "w[{0}]",
}
_COLUMN = {
    "prev": "a_load(prev, {0})",
    "now": "a_load(now, {0})",
    "flag_prev": "prev[..., {0}] != 0.0",
    "flag_now": "now[..., {0}] != 0.0",
    "action": "a_load(action, {0})",
    "param": "w[{0}]",
}


@dataclass(frozen=True)
class Compiled:
    """The printed code of one tree, compiled at first use, per backend."""

    tree: Tree
    line: Line

    @property
    def width(self) -> int:
        """Number of terms."""
        return len(self.line.outputs)

    @cached_property
    def source(self) -> str:
        """The code for NumPy and torch columns."""
        return _column_source(self.line, params_are_arrays=False)

    @cached_property
    def scalar(self) -> Callable[..., tuple[float, ...]]:
        """One transition: ``f(prev, action, now, w, s=None, start=True)``.

        ``prev`` and ``now`` are rows, ``action`` a sequence, ``w`` the parameters,
        ``s`` a list with one number per register, changed in place. Gives the
        terms, unclamped.
        """
        return _function(_scalar_source(self.line), "terms", SCALAR_NAMES)

    @cached_property
    def block(self) -> Callable[..., tuple[Any, ...]]:
        """Columns in NumPy; see ``_column_source`` for the arguments."""
        names = {**SCALAR_NAMES, **NUMPY_NAMES, **registers.SCANS, "a_load": _np_load}
        return _function(self.source, "block", names)

    @cached_property
    def torch_block(self) -> Callable[..., tuple[Any, ...]]:
        """Columns in torch; ``w`` may be a tensor that wants a gradient."""
        source = _column_source(self.line, params_are_arrays=True)
        names = {**SCALAR_NAMES, **torch_names(), **registers.SCANS}
        return _function(source, "block", names | {"a_load": _torch_load})

    @cached_property
    def kernel(self) -> Callable[..., None]:
        """Numba: ``f(prev, action, now, starts, w, s, out)`` over ``(T, N, ...)``.

        ``s`` is ``(N, R)`` float64 and is changed in place.
        """
        from guerdon.extras import require

        njit = require("numba", "grid").njit
        own = {"m_pow": njit(SCALAR_NAMES["m_pow"]), "m_double": np.float64}
        names = {**SCALAR_NAMES, **own}
        del names["abs"], names["range"]  # numba knows its own
        kernel = _function(_kernel_source(self.line), "kernel", names, builtin=True)
        return njit(nogil=True)(kernel)  # type: ignore[no-any-return]


def compile_tree(tree: Tree) -> Compiled:
    """Lower a tree; printing and compiling happen when a backend is first used."""
    return Compiled(tree, lower(tree))


def _np_load(rows: Any, column: int) -> Any:
    return rows[..., column].astype(np.float64)


def _torch_load(rows: Any, column: int) -> Any:
    return rows[..., column].double()


def _function(
    source: str, name: str, names: dict[str, Any], builtin: bool = False
) -> Callable[..., Any]:
    """Compile source that this module printed; it sees ``names`` and nothing else."""
    scope: dict[str, Any] = dict(names)
    if not builtin:
        scope["__builtins__"] = {}
    exec(compile(source, "<guerdon reward>", "exec"), scope)
    function: Callable[..., Any] = scope[name]
    return function


# --- printing -------------------------------------------------------------


class _Printer(ABC):
    """Names and expressions of a line; expressions used once stay in place."""

    def __init__(self, line: Line, loads: dict[str, str]) -> None:
        self.line = line
        self.loads = loads
        self.lines: list[str] = []
        self.text: list[str] = []
        self.depth: list[int] = []
        self.uses = _uses(line)

    def template(self, position: int) -> str:
        return LOWERED[self.line.operations[position].op].scalar

    def run(self) -> None:
        for position, operation in enumerate(self.line.operations):
            if operation.op in REGISTERS:
                self.register(position, operation)
            else:
                self.expression(position, operation)

    @abstractmethod
    def register(self, position: int, operation: Operation) -> None:
        """Print one register."""

    def expression(self, position: int, operation: Operation) -> None:
        op = operation.op
        if op == "const":
            value = operation.value
            text = repr(value) if isinstance(value, bool) else repr(float(value or 0.0))
            self.put(position, f"({text})" if text.startswith("-") else text, 0)
            return
        if op in self.loads:
            column = 0 if operation.value == -1 else operation.value
            text = self.loads[op].format(column)
            self.bind(position, text, 1, atom="!=" not in text)
            return
        parts = [self.text[arg] for arg in operation.args]
        depth = 1 + max(self.depth[arg] for arg in operation.args)
        self.bind(position, self.template(position).format(*parts), depth)

    def bind(self, position: int, text: str, depth: int, atom: bool = False) -> None:
        if self.uses[position] > 1 or depth > INLINE_DEPTH:
            self.lines.append(f"t{position} = {text}")
            self.put(position, f"t{position}", 0)
        else:
            self.put(position, text if atom else f"({text})", depth)

    def put(self, position: int, text: str, depth: int) -> None:
        self.text.append(text)
        self.depth.append(depth)


class _ScalarPrinter(_Printer):
    """Statements for one transition; a register is one cell of the state."""

    slot = "s[{0}]"

    def register(self, position: int, operation: Operation) -> None:
        name = f"t{position}"
        argument = self.text[operation.args[0]]
        if not argument.startswith("t"):
            self.lines.append(f"a{position} = {argument}")
            argument = f"a{position}"
        slot = self.slot.format(self.line.registers.index(position))
        self.lines += registers.scalar_lines(
            operation.op, argument, slot, "start", name
        )
        self.put(position, name, 0)


class _CellPrinter(_ScalarPrinter):
    slot = "s[n, {0}]"


class _ColumnPrinter(_Printer):
    """Statements for whole columns; what has no column in it stays a number."""

    def __init__(self, line: Line, params_are_arrays: bool) -> None:
        super().__init__(line, _COLUMN)
        self.uniform: list[bool] = []
        self.has_column: list[bool] = []
        for operation in line.operations:
            inside = any(self.has_column[a] for a in operation.args)
            leaf = not operation.args and operation.op not in ("const", "param")
            self.has_column.append(inside or leaf or operation.op in REGISTERS)
        for operation in line.operations:
            if operation.op == "param":
                self.uniform.append(not params_are_arrays)
            elif operation.args and operation.op not in REGISTERS:
                self.uniform.append(all(self.uniform[a] for a in operation.args))
            else:
                self.uniform.append(operation.op == "const")

    def template(self, position: int) -> str:
        lowered = LOWERED[self.line.operations[position].op]
        return lowered.scalar if self.uniform[position] else lowered.array

    def register(self, position: int, operation: Operation) -> None:
        slot = self.line.registers.index(position)
        argument = self.text[operation.args[0]]
        if not self.has_column[operation.args[0]]:
            argument = f"a_spread({argument}, starts)"
        self.lines.append(
            f"t{position}, z{slot} = {operation.op}({argument}, starts, s[{slot}])"
        )
        self.put(position, f"t{position}", 0)


def _uses(line: Line) -> list[int]:
    """How often each value is printed; a template may print an argument twice."""
    uses = [0] * len(line.operations)
    for output in line.outputs:
        uses[output] += 1
    for operation in line.operations:
        lowered = LOWERED.get(operation.op)
        for place, arg in enumerate(operation.args):
            shown = 2
            if lowered is not None:
                mark = f"{{{place}}}"
                shown = max(lowered.scalar.count(mark), lowered.array.count(mark))
            uses[arg] += shown
    return uses


def _scalar_source(line: Line) -> str:
    printer = _ScalarPrinter(line, _ROW)
    printer.run()
    body = "".join(f"    {text}\n" for text in printer.lines)
    outputs = ", ".join(printer.text[o] for o in line.outputs)
    return (
        "def terms(prev, action, now, w, s=None, start=True):\n"
        f"{body}    return ({outputs},)\n"
    )


def _column_source(line: Line, params_are_arrays: bool) -> str:
    """``block(prev, action, now, starts, w, s, out) -> states``.

    ``prev``, ``now``: ``(..., W)``; ``action``: ``(..., A)``; ``s``: one ``(N,)``
    per register; ``out``: ``(..., m)``, filled.
    """
    printer = _ColumnPrinter(line, params_are_arrays)
    printer.run()
    for place, output in enumerate(line.outputs):
        printer.lines.append(f"out[..., {place}] = {printer.text[output]}")
    states = "".join(f"z{i}, " for i in range(len(line.registers)))
    body = "".join(f"    {text}\n" for text in printer.lines)
    return (
        "def block(prev, action, now, starts, w, s, out):\n"
        f"{body}    return ({states})\n"
    )


def _kernel_source(line: Line) -> str:
    printer = _CellPrinter(line, _CELL)
    printer.run()
    for place, output in enumerate(line.outputs):
        printer.lines.append(f"out[t, n, {place}] = {printer.text[output]}")
    body = "".join(f"            {text}\n" for text in printer.lines)
    start = "            start = starts[t, n]\n" if line.registers else ""
    return (
        "def kernel(prev, action, now, starts, w, s, out):\n"
        "    for n in range(prev.shape[1]):\n"
        "        for t in range(prev.shape[0]):\n"
        f"{start}{body}"
    )

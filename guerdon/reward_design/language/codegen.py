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
from guerdon.reward_design.program import CLAMP

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
    "prev": "m_double(prev[i, {0}])",
    "now": "m_double(now[i, {0}])",
    "flag_prev": "prev[i, {0}] != 0.0",
    "flag_now": "now[i, {0}] != 0.0",
    "action": "action[i, {0}]",
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
        """Numba: ``f(prev, action, now, starts, w, s, out, total)``; see the source.

        ``s`` is ``(N, R)`` float64 and is changed in place; ``out`` and ``total`` are
        float32 and get the clamped terms and their clamped sum.
        """
        from guerdon.extras import require

        njit = require("numba", "grid").njit
        own = {
            "m_pow": njit(SCALAR_NAMES["m_pow"]),
            "m_double": np.float64,
            "m_single": np.float32,
            "m_nan": np.float32(np.nan),
        }
        names = {**SCALAR_NAMES, **own}
        del names["abs"], names["range"]  # numba knows its own
        kernel = _function(_kernel_source(self), "kernel", names, builtin=True)
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
    slot = "s[n, {0}]"  # lane n of row i


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


def _kernel_source(compiled: Compiled) -> str:
    """Rows ``(T * N, W)`` one after the other; no loop inside but over features.

    A row with a feature that is not finite gives NaN. What is not clamped by one
    comparison is too large, too small or NaN, which stays.
    """
    line = compiled.line
    printer = _CellPrinter(line, _CELL)
    printer.run()
    lines = printer.lines
    limit = repr(CLAMP)
    pieces = [(f"out[i, {k}]", printer.text[o]) for k, o in enumerate(line.outputs)]
    for place, (cell, text) in enumerate(pieces):
        lines += [
            f"v = m_double({text})",
            f"if not -{limit} <= v <= {limit}:",
            f"    v = {limit} if v > 0.0 else -{limit} if v < 0.0 else v",
            "r = m_single(v) if fine == 0.0 else m_nan",
            f"{cell} = r",
            "sum = r" if place == 0 else "sum = sum + r",
        ]
    body = "".join(f"            {text}\n" for text in lines)
    start = "            start = starts[i]\n" if line.registers else ""
    return (
        "def kernel(prev, action, now, starts, w, s, out, total):\n"
        "    lanes = s.shape[0] if s.shape[1] else max(prev.shape[0], 1)\n"
        "    for t in range(prev.shape[0] // lanes):\n"
        "        for n in range(lanes):\n"
        "            i = t * lanes + n\n"
        "            fine = m_single(0.0)\n"
        "            for c in range(prev.shape[1]):\n"
        "                fine += m_single(0.0) * prev[i, c]\n"
        "                fine += m_single(0.0) * now[i, c]\n"
        f"{start}{body}"
        f"            if not -{limit} <= sum <= {limit}:\n"
        f"                sum = m_single({limit} if sum > 0.0 else\n"
        f"                    -{limit} if sum < 0.0 else m_nan)\n"
        "            total[i] = sum\n"
    )

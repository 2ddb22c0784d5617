"""Many programs as one straight line, and the code that is printed of it.

Equal operations of all programs are one operation (hash-consing), so a feature is read
once and a term that several programs share is computed once. Parameters stay arguments
of the code and are shared by value: that folds nothing away, so every program gives the
bits that it gives alone. Nothing of a program's text reaches the code; see
``codegen.py``, whose printers are used here.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from guerdon.reward_design.language import registers
from guerdon.reward_design.language.codegen import (
    _CELL,
    _CellPrinter,
    _ColumnPrinter,
    _function,
    _np_load,
)
from guerdon.reward_design.language.lower import Line, Operation
from guerdon.reward_design.language.runtime import NUMPY_NAMES, SCALAR_NAMES
from guerdon.reward_design.program import CLAMP
from guerdon.types import Array

_LIMIT = repr(CLAMP)
_HIGHEST = np.asarray(CLAMP, dtype=np.float32)
_LOWEST = -_HIGHEST


@dataclass(frozen=True)
class Group:
    """Programs that are computed together.

    Args:
        line: all their operations; ``outputs`` are the distinct terms.
        programs: for each program its terms, as places in ``line.outputs``.
    """

    line: Line
    programs: tuple[tuple[int, ...], ...]


class Pool:
    """Values of parameters, each kept once; ``values`` are the ``w`` of the code."""

    def __init__(self) -> None:
        self._places: dict[str, int] = {}
        self._values: list[float] = []

    @property
    def values(self) -> tuple[float, ...]:
        """All values, in the order in which they came."""
        return tuple(self._values)

    def place(self, value: float) -> int:
        """Where a value is; 0.0 and -0.0 are two values."""
        if repr(value) not in self._places:
            self._places[repr(value)] = len(self._values)
            self._values.append(value)
        return self._places[repr(value)]


def merged(lines: Sequence[tuple[Line, Sequence[float]]], pool: Pool) -> Group:
    """One line of several, with what is equal computed once.

    Registers are shared too: what is remembered of equal values is equal.

    Args:
        lines: each program's line and the values of its parameters.
        pool: where the values are kept.
    """
    whole = Line()
    known: dict[tuple[str, tuple[int, ...], str], int] = {}
    outputs: dict[int, int] = {}
    programs = []
    for line, weights in lines:
        places: list[int] = []
        for operation in line.operations:
            value = operation.value
            if operation.op == "param":
                value = pool.place(float(weights[int(value or 0)]))
            args = tuple(places[arg] for arg in operation.args)
            # The text tells True from 1.0 and 0.0 from -0.0, which are equal.
            key = (operation.op, args, repr(value))
            if key not in known:
                known[key] = len(whole.operations)
                whole.operations.append(Operation(operation.op, args, value))
                if operation.op in registers.SCANS:
                    whole.registers.append(known[key])
            places.append(known[key])
        terms = [places[output] for output in line.outputs]
        programs.append(tuple(outputs.setdefault(t, len(outputs)) for t in terms))
    whole.outputs.extend(outputs)
    return Group(whole, tuple(programs))


# --- columns in NumPy ---------------------------------------------------------


class _Ready:
    """At which operation which terms and programs of a group are complete."""

    def __init__(self, group: Group) -> None:
        line = group.line
        self.term = {position: j for j, position in enumerate(line.outputs)}
        self.programs: dict[int, list[int]] = {}
        for k, terms in enumerate(group.programs):
            last = max(line.outputs[j] for j in terms)
            self.programs.setdefault(last, []).append(k)


class _Columns(_ColumnPrinter):
    """Statements for columns; a term is handed over as soon as it is there."""

    def __init__(self, group: Group) -> None:
        super().__init__(group.line, params_are_arrays=False)
        self.group, self.ready = group, _Ready(group)

    def put(self, position: int, text: str, depth: int) -> None:
        super().put(position, text, depth)
        if position in self.ready.term:
            j = self.ready.term[position]
            self.lines.append(f"u{j} = a_settle({text})")
            self.lines.append(f"term({j}, u{j})")
        for k in self.ready.programs.get(position, ()):
            terms = self.group.programs[k]
            total = " + ".join(f"u{j}" for j in terms)
            total = total if len(terms) == 1 else f"a_bound({total})"
            self.lines.append(f"total({k}, {total})")


_VALUE = re.compile(r"\b[tu]\d+\b")


def _freed(lines: list[str]) -> list[str]:
    """The statements, with each value forgotten after its last use.

    A thousand columns of one block do not fit into a cache, a dozen do.
    """
    seen: set[str] = set()
    kept: list[str] = []
    for line in reversed(lines):
        last = sorted(set(_VALUE.findall(line)) - seen)
        seen.update(last)
        if last:
            kept.append(f"del {', '.join(last)}")
        kept.append(line)
    return kept[::-1]


def column_source(group: Group) -> str:
    """``block(prev, action, now, starts, w, s, term, total) -> states``.

    ``prev``, ``now``: ``(T, N, W)``; ``action``: ``(T, N, A)``; ``s``: one ``(N,)``
    per register. ``term(j, column)`` is called with every distinct term and
    ``total(k, column)`` with every program's sum, both float32 and clamped.
    """
    printer = _Columns(group)
    printer.run()
    states = "".join(f"z{i}, " for i in range(len(group.line.registers)))
    body = "".join(f"    {text}\n" for text in _freed(printer.lines))
    return (
        "def block(prev, action, now, starts, w, s, term, total):\n"
        f"{body}    return ({states})\n"
    )


def _settle(x: Any) -> Any:
    """Clamped, then float32, as ``program`` does it."""
    x = np.minimum(np.maximum(x, _LOWEST), _HIGHEST)
    return np.asarray(x, dtype=np.float32)


def _bound(x: Any) -> Any:
    return np.minimum(np.maximum(x, _LOWEST), _HIGHEST)


COLUMN_NAMES: dict[str, Any] = {
    **SCALAR_NAMES,
    **NUMPY_NAMES,
    **registers.SCANS,
    "a_load": _np_load,
    "a_settle": _settle,
    "a_bound": _bound,
}
"""All that the code of columns can name."""


def column_code(group: Group) -> Callable[..., tuple[Array, ...]]:
    """The function of ``column_source``."""
    return _function(column_source(group), "block", COLUMN_NAMES)


# --- one loop in numba ----------------------------------------------------------


class _Cells(_CellPrinter):
    """Statements for row ``i`` of lane ``n``, everything in scalars."""

    slot = "s[{0}, n]"

    def __init__(self, group: Group) -> None:
        super().__init__(group.line, _CELL)
        self.group, self.ready = group, _Ready(group)

    def put(self, position: int, text: str, depth: int) -> None:
        super().put(position, text, depth)
        if position in self.ready.term:
            j = self.ready.term[position]
            self.lines += [
                f"v = m_double({text})",
                f"if not -{_LIMIT} <= v <= {_LIMIT}:",
                f"    v = {_LIMIT} if v > 0.0 else -{_LIMIT} if v < 0.0 else v",
                f"u{j} = m_single(v)",
                "if keep:",
                f"    terms[{j}, i] = u{j}",
            ]
        for k in self.ready.programs.get(position, ()):
            total = " + ".join(f"u{j}" for j in self.group.programs[k])
            self.lines += [
                f"r = {total}",
                f"if not -{_LIMIT} <= r <= {_LIMIT}:",
                f"    r = m_single({_LIMIT} if r > 0.0 else",
                f"        -{_LIMIT} if r < 0.0 else m_nan)",
                f"total[{k}, i] = r",
            ]


_ROW = "prev, action, now, i, n, start, w, s, keep, terms, total"


def row_source(group: Group) -> str:
    """``row(...)``: one transition of one lane, all programs of a group."""
    printer = _Cells(group)
    printer.run()
    body = "".join(f"    {text}\n" for text in printer.lines)
    return f"def row({_ROW}):\n{body}"


def loop_source(groups: int) -> str:
    """``kernel(...)``: all lanes, each by the group that ``which`` names; -1: none."""
    calls = []
    for g in range(groups):
        calls += [f"if k == {g}:", f"    row{g}({_ROW})"]
    body = "".join(f"            {text}\n" for text in calls)
    return (
        "def kernel(prev, action, now, starts, which, w, s, keep, terms, total):\n"
        "    lanes = which.shape[0]\n"
        "    for t in range(prev.shape[0] // lanes):\n"
        "        for n in range(lanes):\n"
        "            i = t * lanes + n\n"
        "            k = which[n]\n"
        "            start = starts[i]\n"
        f"{body}"
    )


def kernel_of(groups: Sequence[Group]) -> Callable[..., None]:
    """The numba loop of ``loop_source``; it compiles when it is first run."""
    from guerdon.extras import require

    njit = require("numba", "grid").njit
    names: dict[str, Any] = {
        **SCALAR_NAMES,
        "m_pow": njit(SCALAR_NAMES["m_pow"]),
        "m_double": np.float64,
        "m_single": np.float32,
        "m_nan": np.float32(np.nan),
    }
    del names["abs"], names["range"]  # numba knows its own
    rows = {
        f"row{g}": njit(_function(row_source(group), "row", names, builtin=True))
        for g, group in enumerate(groups)
    }
    loop = _function(loop_source(len(groups)), "kernel", rows, builtin=True)
    return njit(nogil=True)(loop)  # type: ignore[no-any-return]

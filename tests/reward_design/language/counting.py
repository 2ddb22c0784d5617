"""Numbers that count what is done with them: the oracle of ``predicted_work``.

Both count what really happens while printed code runs, also inside the functions that
it calls. Neither looks at the printer, the table of costs or the tree.
"""

from __future__ import annotations

import builtins
import math
import operator
from collections.abc import Callable
from types import FunctionType
from typing import Any

import numpy as np
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from guerdon.reward_design.language import Tree, compile_tree
from guerdon.reward_design.language.codegen import (
    _column_source,
    _np_load,
    _scalar_source,
)
from guerdon.reward_design.language.lower import lower
from guerdon.reward_design.language.registers import SCANS
from guerdon.reward_design.language.runtime import (
    NUMPY_NAMES,
    SCALAR_NAMES,
    power,
)
from guerdon.types import Batch

FREE = {"broadcast_arrays", "broadcast_to", "shape"}
"""NumPy's functions that look at an array in another way and compute nothing."""

HEAVY = {"exp": 8, "log": 8, "tanh": 8, "sin": 8, "cos": 8, "power": 8}
ROOTS = {"sqrt": 4, "divide": 4, "fmod": 4, "remainder": 4}
WEIGHTS = {**HEAVY, **ROOTS, "pow": 8, "div": 4}

TORCH_FREE = {
    *("select", "slice", "expand", "view", "unsqueeze", "alias", "detach"),
    *("lift_fresh", "ones_like", "zeros_like", "scalar_tensor", "fill"),
}
"""Torch's operators that look in another way, and constants, which need no column."""


class Counter:
    """How much was worked."""

    total = 0


class Columns(np.ndarray):
    """An array; every entry that an operation gives counts with its weight."""

    counter: Counter

    @staticmethod
    def of(array: np.ndarray, counter: Counter) -> Columns:
        found = np.asarray(array).view(Columns)
        found.counter = counter
        return found

    def __array_finalize__(self, parent: Any) -> None:
        self.counter = getattr(parent, "counter", None)

    def __array_ufunc__(
        self, ufunc: Any, method: str, *inputs: Any, **kwargs: Any
    ) -> Any:
        result = getattr(ufunc, method)(*map(plain, inputs), **kwargs)
        name = ufunc.__name__
        self.counter.total += np.size(result) * WEIGHTS.get(name, 1)
        return Columns.of(result, self.counter)

    def __array_function__(
        self, function: Any, types: Any, args: Any, kwargs: Any
    ) -> Any:
        result = function(*plain(args), **kwargs)
        if isinstance(result, tuple):
            assert function.__name__ in FREE
            return tuple(Columns.of(one, self.counter) for one in result)
        if function.__name__ not in FREE:  # where, cumsum, concatenate
            self.counter.total += np.size(result)
        return Columns.of(result, self.counter)

    def astype(self, kind: Any) -> Columns:  # type: ignore[override]
        self.counter.total += self.size
        return Columns.of(self.view(np.ndarray).astype(kind), self.counter)

    def __setitem__(self, key: Any, value: Any) -> None:
        target = self.view(np.ndarray)
        self.counter.total += target[key].size
        target[key] = plain(value)


def plain(value: Any) -> Any:
    """The same without counting."""
    if isinstance(value, Columns):
        return value.view(np.ndarray)
    if isinstance(value, tuple | list):
        return type(value)(map(plain, value))
    return value


class _KeepsCounting:
    """NumPy, whose ``asarray`` would make a plain array of one that counts."""

    asarray = staticmethod(np.asanyarray)

    def __getattr__(self, name: str) -> Any:
        return getattr(np, name)


def column_names() -> dict[str, Any]:
    """What printed column code calls: the same functions, and none counts less."""
    found = {**SCALAR_NAMES, **SCANS, "a_load": _np_load}
    for name, function in NUMPY_NAMES.items():
        if isinstance(function, FunctionType):
            scope = {**function.__globals__, "np": _KeepsCounting()}
            function = FunctionType(function.__code__, scope)
        found[name] = function
    return found


class Number:
    """A float or a flag; what is done with it counts, a choice by it does not."""

    def __init__(self, value: Any, counter: Counter) -> None:
        self.value, self.counter = value, counter

    def __bool__(self) -> bool:
        return bool(self.value)

    def call(self, function: Callable[..., Any], weight: int, *args: Any) -> Number:
        self.counter.total += weight
        values = [a.value if isinstance(a, Number) else a for a in args]
        return Number(function(*values), self.counter)

    def __neg__(self) -> Number:
        return self.call(operator.neg, 1, self)

    def __abs__(self) -> Number:
        return self.call(abs, 1, self)

    def __float__(self) -> float:
        # Only ``power`` asks: math.log inside of it.
        self.counter.total += 8
        return float(self.value)


def _both_ways(name: str, weight: int) -> None:
    function = getattr(operator, name)

    def forward(self: Number, other: Any) -> Number:
        return self.call(function, weight, self, other)

    def backward(self: Number, other: Any) -> Number:
        return self.call(function, weight, other, self)

    setattr(Number, f"__{name}__", forward)
    setattr(Number, f"__r{name}__", backward)


for _name, _weight in (
    *(("add", 1), ("sub", 1), ("mul", 1), ("truediv", 4), ("mod", 4), ("pow", 8)),
    *(("lt", 1), ("le", 1), ("gt", 1), ("ge", 1), ("eq", 1), ("ne", 1)),
):
    _both_ways(_name, _weight)


def scalar_names(counter: Counter) -> dict[str, Any]:
    """What printed scalar code calls, counting."""

    def counted(function: Callable[[float], float], weight: int) -> Any:
        return lambda x: lift(x).call(function, weight, x)

    def lift(x: Any) -> Number:
        return x if isinstance(x, Number) else Number(x, counter)

    def powers(base: Any, exponent: Any) -> Number:
        found = power(lift(base), lift(exponent))
        return found if isinstance(found, Number) else Number(found, counter)

    heavy = {f"m_{n}": counted(getattr(math, n), 8) for n in HEAVY if n != "power"}
    return heavy | {"m_sqrt": counted(math.sqrt, 4), "m_pow": powers, "abs": abs}


def worked_by_columns(
    tree: Tree, batch: Batch, names: dict[str, Any] | None = None
) -> float:
    """Work a transition of the printed columns, on a block ``(T, N)``."""
    counter, line = Counter(), lower(tree)
    lead = batch.now.rows.shape[:-1]
    # Parameters as columns, as torch has them: nothing is done once for all rows.
    weights = [np.full(lead, value) for _, value in tree.params]
    scope = {**(names or column_names()), "__builtins__": {}}
    exec(_column_source(line, params_are_arrays=True), scope)
    discrete = tree.action.kind == "discrete"
    action = batch.action[..., None] if discrete else batch.action
    with np.errstate(all="ignore"):
        scope["block"](
            Columns.of(batch.prev.rows, counter),
            Columns.of(action, counter),
            Columns.of(batch.now.rows, counter),
            Columns.of(batch.terminated, counter),
            [Columns.of(weight, counter) for weight in weights],
            [Columns.of(np.zeros(lead[1:]), counter) for _ in line.registers],
            Columns.of(np.empty((*lead, len(line.outputs))), counter),
        )
    return counter.total / math.prod(lead)


def worked_by_numbers(tree: Tree, batch: Batch) -> list[int]:
    """Work of the printed scalar code at every step of lane 0 of a block."""
    counter, line = Counter(), lower(tree)
    scope = {**scalar_names(counter), "__builtins__": {}}
    exec(_scalar_source(line), scope)
    state = [Number(0.0, counter) for _ in line.registers]
    weights = [Number(value, counter) for _, value in tree.params]
    found = []
    for t in range(len(batch.now.rows)):
        before = counter.total
        action = np.atleast_1d(batch.action[t, 0]).astype(float)
        rows = (batch.prev.rows[t, 0], action, batch.now.rows[t, 0])
        prev, chosen, now = ([Number(v, counter) for v in row.tolist()] for row in rows)
        start = Number(bool(batch.terminated[t - 1, 0]) or t == 0, counter)
        scope["terms"](prev, chosen, now, weights, state, start)
        found.append(counter.total - before)
    return found


class _TorchCounts(TorchDispatchMode):
    """Counts every operator of torch while it is entered."""

    def __init__(self) -> None:
        super().__init__()
        self.total = 0

    def __torch_dispatch__(
        self, operation: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        result = operation(*args, **(kwargs or {}))
        name = operation.overloadpacket.__name__.rstrip("_")
        if name not in TORCH_FREE:
            first = result[0] if isinstance(result, tuple | list) else result
            self.total += first.numel() * WEIGHTS.get(name, 1)
        return result


def worked_by_torch(tree: Tree, batch: Batch) -> float:
    """Work a transition of the printed code for torch, on a block ``(T, N)``."""
    compiled, lead = compile_tree(tree), batch.now.rows.shape[:-1]
    printed = compiled.torch_block
    # Counting imports parts of torch, so here, and only here, there are builtins.
    scope = {**printed.__globals__, "__builtins__": builtins}
    block = FunctionType(printed.__code__, scope)
    discrete = tree.action.kind == "discrete"
    action = torch.as_tensor(batch.action)
    double = {"dtype": torch.float64}
    arguments = (
        torch.as_tensor(batch.prev.rows),
        action[..., None] if discrete else action,
        torch.as_tensor(batch.now.rows),
        torch.as_tensor(batch.terminated),
        [torch.full(lead, value, **double) for _, value in tree.params],
        [torch.zeros(lead[1:], **double) for _ in compiled.line.registers],
        torch.empty((*lead, compiled.width), **double),
    )
    with _TorchCounts() as counts:
        block(*arguments)
    return counts.total / math.prod(lead)

"""One pass of printed code over a block ``(T, N)``: chunks, lanes, rows apart.

``Code`` runs groups of programs by NumPy or numba; ``score`` does what all of them
need: where episodes begin, and rows that are not finite or not real.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cached_property, partial
from typing import Any, Literal, NamedTuple

import numpy as np

from guerdon.reward_design import borders
from guerdon.reward_design.language.group import (
    Group,
    Pool,
    column_code,
    kernel_of,
)
from guerdon.reward_design.language.terms import _columns, _finite_rows, _is_finite
from guerdon.reward_design.language.tree import Tree
from guerdon.types import Array, Batch

Backend = Literal["numpy", "numba"]

CHUNK = 8192
"""Rows of a block that NumPy works on at once: a dozen columns stay in the cache."""

_NO_TERMS = np.zeros((0, 0), np.float32)


class BlockState(NamedTuple):
    """What registers remember between blocks, and who begins an episode next."""

    ended: Array
    """``(N,)`` bool: the lane's next real row begins an episode."""
    memory: Array
    """``(S, N)`` float64, one row per register."""


class Rows(NamedTuple):
    """A block as the printed code reads it."""

    prev: Array
    action: Array
    now: Array
    starts: Array

    def part(self, steps: Any, lanes: Any) -> Rows:
        """Some steps of some lanes; slices copy nothing."""
        return Rows(*(part[steps][:, lanes] for part in self))


Run = Callable[[Rows, Array, Array, "Array | None"], None]
"""``run(rows, memory, total, terms)`` fills the last three."""


class Code:
    """Groups and how they are run by a backend."""

    def __init__(self, groups: list[Group], pool: Pool, backend: Backend) -> None:
        self.groups, self.backend = groups, backend
        self.weights = pool.values
        self.registers = [len(group.line.registers) for group in groups]
        self.terms = [len(group.line.outputs) for group in groups]
        self.first_terms = [0, *np.cumsum(self.terms[:-1]).tolist()]
        self._columns: dict[int, Callable[..., tuple[Array, ...]]] = {}

    def columns(self, g: int) -> Callable[..., tuple[Array, ...]]:
        """NumPy code of a group; only programs that some lane has are compiled."""
        if g not in self._columns:
            self._columns[g] = column_code(self.groups[g])
        return self._columns[g]

    @cached_property
    def dispatching(self) -> Callable[..., None]:
        """Numba code in which every lane chooses its group."""
        return kernel_of(self.groups)

    @cached_property
    def single(self) -> list[Callable[..., None]]:
        """Numba code of each group alone."""
        return [kernel_of([group]) for group in self.groups]

    def run_all(
        self, rows: Rows, memory: Array, total: Array, terms: Array | None
    ) -> None:
        """Every group on every lane."""
        slot = program = 0
        which = np.zeros(rows.now.shape[1], np.int64)
        for g, group in enumerate(self.groups):
            first = self.first_terms[g]
            own = memory[slot : slot + self.registers[g]]
            sums = total[program : program + len(group.programs)]
            kept = None if terms is None else terms[first : first + self.terms[g]]
            if self.backend == "numba":
                self._loop(self.single[g], rows, which, own, sums, kept)
            else:
                self._chunks(g, rows, own, sums, kept)
            slot += self.registers[g]
            program += len(group.programs)

    def own_run(self, which: Array) -> Run:
        """Each group on the lanes that have it."""
        if self.backend == "numba":
            return partial(self._dispatched, which)
        parts = [(int(g), _lanes(which == g)) for g in np.unique(which) if g >= 0]

        def run(rows: Rows, memory: Array, total: Array, terms: Array | None) -> None:
            for g, lanes in parts:
                own = np.array(memory[: self.registers[g], lanes])
                mine = rows.part(slice(None), lanes)
                shape = mine.now.shape[:2]
                sums = np.empty((1, *shape), np.float32)
                kept = np.empty((self.terms[g], *shape), np.float32)
                wanted = None if terms is None else kept
                self._chunks(g, mine, own, sums, wanted)
                memory[: self.registers[g], lanes] = own
                total[:, :, lanes] = sums
                if terms is not None:
                    order = list(self.groups[g].programs[0])
                    terms[: len(order), :, lanes] = kept[order]

        return run

    def _dispatched(
        self,
        which: Array,
        rows: Rows,
        memory: Array,
        total: Array,
        terms: Array | None,
    ) -> None:
        """``own_run`` in numba."""
        self._loop(self.dispatching, rows, which, memory, total, terms)
        for g, group in enumerate(self.groups):
            order = group.programs[0]
            if terms is not None and order != tuple(range(len(order))):
                mine = _lanes(which == g)  # a program that says one term twice
                terms[: len(order), :, mine] = terms[list(order)][:, :, mine]

    def _chunks(
        self, g: int, rows: Rows, memory: Array, total: Array, terms: Array | None
    ) -> None:
        """One group in NumPy, a part of the block at a time."""
        code = self.columns(g)
        for steps, lanes in _parts(rows.now.shape[0], rows.now.shape[1]):

            def give(
                j: int, column: Array, at: tuple[slice, slice] = (steps, lanes)
            ) -> None:
                if terms is not None:
                    terms[j][at] = column

            def pay(
                k: int, column: Array, at: tuple[slice, slice] = (steps, lanes)
            ) -> None:
                total[k][at] = column

            own = memory[:, lanes]
            part = rows.part(steps, lanes)
            states = code(*part, self.weights, own, give, pay)
            for slot, value in enumerate(states):
                own[slot] = value

    def _loop(
        self,
        kernel: Callable[..., None],
        rows: Rows,
        which: Array,
        memory: Array,
        total: Array,
        terms: Array | None,
    ) -> None:
        """Groups in numba, in one loop over rows and lanes."""
        prev, action, now = (
            np.ascontiguousarray(part.reshape(-1, part.shape[-1]))
            for part in (rows.prev, rows.action, rows.now)
        )
        kernel(
            prev,
            action.astype(np.float64),
            now,
            rows.starts.reshape(-1),
            which,
            np.array(self.weights, np.float64),
            memory,
            terms is not None,
            _NO_TERMS if terms is None else terms.reshape(len(terms), -1),
            total.reshape(len(total), -1),
        )


def _parts(steps: int, lanes: int) -> Iterator[tuple[slice, slice]]:
    """Parts of a block that fit into the cache, each lane's in order."""
    wide = max(1, min(lanes, CHUNK))
    long = max(1, CHUNK // wide)
    for n in range(0, lanes, wide):
        for t in range(0, steps, long):
            yield slice(t, t + long), slice(n, n + wide)


def _lanes(chosen: Array) -> slice | Array:
    """The lanes of a mask; a slice, which copies nothing, where they are adjacent."""
    (found,) = np.nonzero(chosen)
    if not len(found):
        return slice(0, 0)
    if found[-1] - found[0] + 1 == len(found):
        return slice(int(found[0]), int(found[-1]) + 1)
    return found


def score(
    tree: Tree,
    run: Run,
    state: BlockState,
    batch: Batch,
    total: Array,
    terms: Array | None,
) -> BlockState:
    """Fill ``total`` and ``terms``; rows that are not finite or not real apart."""
    action = _columns(tree, batch)
    outputs = [total] if terms is None else [total, terms]
    finite = None if _is_finite(batch) else _finite_rows(batch)
    mask = None if batch.mask is None else borders.as_bool(batch.mask)
    real = mask if finite is None else finite if mask is None else mask & finite
    if real is not None and real.all():
        real = None
    # Registers do not see a row that is not finite, as in terms.py.
    starts, ended = borders.starts(state.ended, batch._replace(mask=real))
    rows = Rows(batch.prev.rows, action, batch.now.rows, np.asarray(starts))
    memory = np.array(state.memory)
    with np.errstate(all="ignore"):
        if real is None or not len(memory):
            run(rows, memory, total, terms)
        elif len(state.ended) == 1:
            _closed_up(run, rows, real, memory, total, terms)
        else:
            _stepwise(run, rows, real, memory, total, terms)
    for values in outputs:
        if finite is not None:
            values[:, ~finite] = np.nan
        if mask is not None:
            values[:, ~mask] = 0.0
    return BlockState(np.asarray(ended), memory)


def _closed_up(
    run: Run,
    rows: Rows,
    real: Array,
    memory: Array,
    total: Array,
    terms: Array | None,
) -> None:
    """One lane: rows that registers do not see are left out."""
    (seen,) = np.nonzero(real[:, 0])
    sums = np.empty((len(total), len(seen), 1), np.float32)
    kept = None if terms is None else np.empty((len(terms), *sums.shape[1:]), "f4")
    run(rows.part(seen, slice(None)), memory, sums, kept)
    total[:, seen] = sums
    if terms is not None:
        terms[:, seen] = kept


def _stepwise(
    run: Run,
    rows: Rows,
    real: Array,
    memory: Array,
    total: Array,
    terms: Array | None,
) -> None:
    """Many lanes: step by step, keeping the memory of rows that are not seen."""
    for t in range(len(real)):
        step = slice(t, t + 1)
        before = memory.copy()
        kept = None if terms is None else np.zeros_like(terms[:, step])
        sums = np.zeros_like(total[:, step])
        run(rows.part(step, slice(None)), memory, sums, kept)
        total[:, step] = sums
        if terms is not None:
            terms[:, step] = kept
        memory[:, ~real[t]] = before[:, ~real[t]]

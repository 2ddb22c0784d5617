"""K programs scored on blocks ``(T, N)`` in one pass over the features.

    block = compile_block(trees, layout, action)
    state = block.init_own(lanes)
    scores, state = block.score_own(state, batch, rows)

Two forms: every program on every lane (a bank, or one block that all candidates are
scored on), and each program on its own lanes (a population, in which every row has a
program). Both give the float32 of ``program(terms(tree, ...))`` bit for bit, whatever
the split of time into blocks and the order of the lanes.

**Backend.** To print and compile a program takes NumPy about a millisecond and numba
about a second, which then saves some 100 ns a transition. So NumPy is what a screen and
most trainings want; ``faster_backend`` gives the crossover. ``exp`` and its like may
differ in the last place of a double between the two, as everywhere in the language.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import NamedTuple

import numpy as np

from guerdon.reward_design import borders
from guerdon.reward_design.language.group import Group, Pool, merged
from guerdon.reward_design.language.lower import Line, lower
from guerdon.reward_design.language.passes import Backend, BlockState, Code, score
from guerdon.reward_design.language.tree import Tree
from guerdon.types import ActionSpec, Array, Batch, Layout

__all__ = [
    "AllScores",
    "BlockPrograms",
    "BlockState",
    "OwnScores",
    "compile_block",
    "faster_backend",
]

MOST_TOGETHER = 2000
"""Operations of one printed function; more programs than that are several groups."""

CROSSOVER = 10_000_000
"""Transitions a program from which on compiling with numba is paid back."""


class AllScores(NamedTuple):
    """Every program on every lane."""

    total: Array
    """``(K, T, N)`` float32, finite or NaN."""
    failures: tuple[str | None, ...]
    """For every program its first term that is not finite somewhere, or None."""
    distinct: Array | None
    """``(U, T, N)`` float32, all different terms; None if not asked for."""
    places: tuple[tuple[int, ...], ...]
    """For every program its terms, as places in ``distinct``."""

    def terms(self, k: int) -> Array:
        """``(T, N, m)`` float32, the terms of program ``k``.

        Raises:
            ValueError: when they were not asked for.
        """
        if self.distinct is None:
            raise ValueError("terms: not kept; ask for them with terms=True")
        return np.moveaxis(self.distinct[list(self.places[k])], 0, -1)


class OwnScores(NamedTuple):
    """Each lane by the program of its row."""

    total: Array
    """``(T, L)`` float32, finite or NaN; 0 in rows without a program."""
    failures: tuple[str | None, ...]
    """For every row its first term that is not finite somewhere, or None."""
    terms: Array | None
    """``(T, L, M)`` float32; a program with fewer than M terms has 0 after them."""


def compile_block(
    programs: Sequence[Tree],
    layout: Layout,
    action: ActionSpec,
    *,
    backend: Backend = "numpy",
) -> BlockPrograms:
    """Programs that are scored together.

    Args:
        programs: typed trees, at least one.
        layout: the features of the task.
        action: the actions of the task.
        backend: see ``faster_backend``.

    Raises:
        TypeError: for anything but a tree.
        ValueError: for no program, a program of another task, an unknown backend.
        Rejected: ``slow``, for a program that works too long.
    """
    if backend not in ("numpy", "numba"):
        raise ValueError(f"backend: expected 'numpy' or 'numba', got {backend!r}")
    if not programs:
        raise ValueError("compile_block: expected at least one program, got none")
    lines = [lower(tree) for tree in programs]
    check_task(programs, layout, action)
    return BlockPrograms(tuple(programs), tuple(lines), backend)


def check_task(programs: Sequence[Tree], layout: Layout, action: ActionSpec) -> None:
    """Refuse programs of another task: they would read the wrong columns.

    Raises:
        ValueError: names the first of them, what was expected and what it has.
    """
    for k, tree in enumerate(programs):
        if tree.layout != layout or tree.action != action:
            raise ValueError(
                f"program {k} was written for the features "
                f"{tree.layout!r} and {tree.action.kind} actions of size "
                f"{tree.action.size}; expected {layout!r} and {action.kind} actions "
                f"of size {action.size}"
            )


def faster_backend(transitions: int) -> Backend:
    """The backend that is done first, with its time to compile.

    Args:
        transitions: how many one program is going to score in all.
    """
    return "numba" if transitions >= CROSSOVER else "numpy"


class BlockPrograms:
    """What ``compile_block`` gives; code is printed when a form is first used."""

    def __init__(
        self, programs: tuple[Tree, ...], lines: tuple[Line, ...], backend: Backend
    ) -> None:
        self.programs = programs
        self.names = tuple(tree.names for tree in programs)
        self.backend = backend
        self._lines = lines

    def __len__(self) -> int:
        return len(self.programs)

    @property
    def width(self) -> int:
        """Most terms that a program has."""
        return max(map(len, self.names))

    # --- every program on every lane ------------------------------------------

    @cached_property
    def _together(self) -> Code:
        """Groups of programs that follow one another, none too large."""
        pool = Pool()
        groups: list[Group] = []
        waiting: list[tuple[Line, Sequence[float]]] = []
        size = 0
        for line, tree in zip(self._lines, self.programs, strict=True):
            if waiting and size + len(line.operations) > MOST_TOGETHER:
                groups.append(merged(waiting, pool))
                waiting, size = [], 0
            waiting.append((line, _weights(tree)))
            size += len(line.operations)
        groups.append(merged(waiting, pool))
        return Code(groups, pool, self.backend)

    def init_all(self, lanes: int) -> BlockState:
        """The state before the first block of ``lanes`` environments."""
        return _fresh(lanes, sum(self._together.registers))

    def score_all(
        self, state: BlockState, batch: Batch, *, terms: bool = False
    ) -> tuple[AllScores, BlockState]:
        """Every program on every lane.

        Args:
            state: from ``init_all`` or the block before.
            batch: NumPy, ``(T, N)``.
            terms: also keep the terms.

        Raises:
            ValueError: for a batch of another shape or task.
        """
        code = self._together
        steps, lanes = _shape(batch, state, sum(code.registers))
        total = np.empty((len(self), steps, lanes), np.float32)
        places = tuple(
            tuple(first + j for j in program)
            for group, first in zip(code.groups, code.first_terms, strict=True)
            for program in group.programs
        )
        kept = np.empty((sum(code.terms), steps, lanes), np.float32) if terms else None
        after = score(self.programs[0], code.run_all, state, batch, total, kept)
        failures: tuple[str | None, ...] = (None,) * len(self)
        fine = [bool(np.isfinite(own).all()) for own in total]
        if not all(fine):
            if kept is None:  # to say which term it is, they have to be there
                return self._with_names(state, batch)
            failures = tuple(
                None if good else _first_bad(names, kept[list(place)])
                for good, names, place in zip(fine, self.names, places, strict=True)
            )
        return AllScores(total, failures, kept, places), after

    def _with_names(
        self, state: BlockState, batch: Batch
    ) -> tuple[AllScores, BlockState]:
        scores, after = self.score_all(state, batch, terms=True)
        return scores._replace(distinct=None), after

    # --- each program on its own lanes ----------------------------------------

    @cached_property
    def _apart(self) -> Code:
        pool = Pool()
        groups = [
            merged([(line, _weights(tree))], pool)
            for line, tree in zip(self._lines, self.programs, strict=True)
        ]
        return Code(groups, pool, self.backend)

    def init_own(self, lanes: int) -> BlockState:
        """The state before the first block of ``lanes`` environments."""
        return _fresh(lanes, max(self._apart.registers))

    def adopted(self, state: BlockState, fresh: Array) -> BlockState:
        """The state of other programs, where some rows got a new one.

        Args:
            state: of the programs before; lanes that keep their program keep it too.
            fresh: ``(L,)`` bool, lanes whose program is new: they forget everything.
        """
        size = max(self._apart.registers)
        memory = np.zeros((size, len(fresh)))
        shared = min(size, len(state.memory))
        memory[:shared] = np.where(fresh, 0.0, state.memory[:shared])
        return BlockState(state.ended | fresh, memory)

    def score_own(
        self,
        state: BlockState,
        batch: Batch,
        rows: Array,
        *,
        terms: bool = False,
    ) -> tuple[OwnScores, BlockState]:
        """Each lane by the program of its row.

        Args:
            state: from ``init_own``, ``adopted`` or the block before.
            batch: NumPy, ``(T, L)``; lanes are row-major, ``(row, n)``.
            rows: ``(R,)`` program of every row, -1 for none; R divides L.
            terms: also keep the terms.

        Raises:
            ValueError: for a batch of another shape or task, or rows that name no
                program or do not divide the lanes.
        """
        code = self._apart
        steps, lanes = _shape(batch, state, max(code.registers))
        which = self._which(rows, lanes)
        total = np.zeros((1, steps, lanes), np.float32)
        shape = (self.width, steps, lanes)
        kept = np.zeros(shape, np.float32) if terms else None
        run = code.own_run(which)
        after = score(self.programs[0], run, state, batch, total, kept)
        total[:, :, which < 0] = 0.0
        if kept is not None:
            _clear(kept, which, self.names)
        failures: tuple[str | None, ...] = (None,) * len(rows)
        if not np.isfinite(total).all():
            if kept is None:
                scores, after = self.score_own(state, batch, rows, terms=True)
                return scores._replace(terms=None), after
            apart = kept.reshape(self.width, steps, len(rows), -1)
            failures = tuple(
                None if k < 0 else _first_bad(self.names[k], apart[:, :, r])
                for r, k in enumerate(rows)
            )
        found = None if kept is None else np.moveaxis(kept, 0, -1)
        return OwnScores(total[0], failures, found), after

    def _which(self, rows: Array, lanes: int) -> Array:
        """``(L,)`` program of every lane."""
        rows = np.asarray(rows)
        if rows.ndim != 1 or not len(rows) or lanes % len(rows):
            raise ValueError(
                f"rows: expected (R,) with R a divisor of {lanes} lanes, got shape "
                f"{rows.shape}"
            )
        if rows.dtype.kind not in "iu" or rows.min() < -1 or rows.max() >= len(self):
            raise ValueError(
                f"rows: expected whole numbers from -1 to {len(self) - 1}, got {rows}"
            )
        return np.repeat(rows.astype(np.int64), lanes // len(rows))


def _weights(tree: Tree) -> tuple[float, ...]:
    return tuple(value for _, value in tree.params)


def _fresh(lanes: int, registers: int) -> BlockState:
    if lanes < 1:
        raise ValueError(f"lanes: expected at least 1, got {lanes}")
    return BlockState(np.ones(lanes, np.bool_), np.zeros((registers, lanes)))


def _shape(batch: Batch, state: BlockState, registers: int) -> tuple[int, int]:
    """``(T, N)`` of a block.

    Raises:
        ValueError: when the batch or the state has another shape.
    """
    rows, lanes = batch.now.rows, len(state.ended)
    if borders.namespace(rows) is not np:
        raise ValueError("block: expected NumPy arrays; torch batches run by terms()")
    parts = [batch.prev.rows.shape[:-1], rows.shape[:-1]]
    parts += [np.shape(batch.terminated), np.shape(batch.truncated)]
    parts += [] if batch.mask is None else [np.shape(batch.mask)]
    if rows.ndim != 3 or any(part != (len(rows), lanes) for part in parts):
        raise ValueError(
            f"block: expected (T, {lanes}) in all parts, got {sorted(set(parts))}"
        )
    if state.memory.shape != (registers, lanes):
        raise ValueError(
            f"state: expected memory of shape {(registers, lanes)}, got "
            f"{state.memory.shape}; begin with init_all() or init_own()"
        )
    return len(rows), lanes


def _clear(terms: Array, which: Array, names: Sequence[Sequence[str]]) -> None:
    """0 where a lane's program has no such term, also in rows that are not finite."""
    count = np.array([*map(len, names), 0])[which]  # -1 is the last one
    for place in range(len(terms)):
        terms[place][:, count <= place] = 0.0


def _first_bad(names: Sequence[str], terms: Array) -> str | None:
    """Name of the first of ``(m, ...)`` terms that is not finite somewhere."""
    for name, values in zip(names, terms, strict=False):
        if not np.isfinite(values).all():
            return name
    return None

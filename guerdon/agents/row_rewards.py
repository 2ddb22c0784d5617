"""The designed rewards of a population: every row is paid by its own program."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from guerdon.envs.task import Task
from guerdon.reward_design.language import Tree, parse
from guerdon.reward_design.language.block import (
    BlockPrograms,
    BlockState,
    compile_block,
)
from guerdon.reward_design.program import CLAMP
from guerdon.reward_design.reference import Base, reward_for
from guerdon.types import Batch


class ProgramRewards:
    """Pays all rows for a block; a ``BlockReward``.

    A row is paid what ``reward_for(task, reward, base)`` would pay it step by step, to
    the last bit: the environment's own reward where that is asked for, the task's
    sparse program, the row's own program, added from left to right.

    Args:
        task: whose features the programs read.
        rewards: of every row, the name of one of the task's rewards or the text of a
            program that ``reward_for`` accepts.
        base: what a text is added to.
        envs: environments of a row.

    Raises:
        guerdon.reward_design.language.Rejected: for a text that is no program.
        ValueError: for a name that the task does not have.
    """

    def __init__(
        self, task: Task, rewards: Sequence[str], base: Base, envs: int
    ) -> None:
        self._envs = envs
        self.names = [reward_for(task, reward, base).names for reward in rewards]
        """Terms of every row."""
        parts = [_parts(task, reward, base) for reward in rewards]
        self._own = np.array([own for own, _ in parts])
        """``(R,)`` bool: whether the environment's own reward comes first."""
        self._passes: list[_Pass] = []
        for place in range(max(len(trees) for _, trees in parts)):
            trees = [p[place] if place < len(p) else None for _, p in parts]
            self._passes.append(_Pass(task, trees, envs))
        self.terms = np.zeros((0, len(rewards) * envs, 0), np.float32)
        """``(T, L, M)`` of the last block; a row with fewer terms has 0 after them."""
        self.reasons: list[str | None] = [None] * len(rewards)
        """Why a row was paid something that is not finite, by the name of the term."""

    def __call__(self, batch: Batch) -> np.ndarray:
        """The rewards of a block, ``(T, R, N)`` float32; see ``BlockReward``."""
        steps, lanes = batch.terminated.shape
        width = max(map(len, self.names))
        terms = np.zeros((steps, lanes, width), np.float32)
        first = np.repeat(self._own, self._envs)
        own = np.clip(batch.reward, -CLAMP, CLAMP)
        terms[:, :, 0] = np.where(first, own, np.float32(0.0))
        total = terms[:, :, 0].copy()
        at = first.astype(np.int64)
        for one in self._passes:
            values = one(batch)
            for place in range(values.shape[-1]):
                total = total + values[:, :, place]
            at = _put(terms, values, at, np.repeat(one.counts, self._envs))
        self.terms = terms
        self._find_reasons()
        shape = steps, len(self.names), self._envs
        return np.clip(total, -CLAMP, CLAMP).reshape(shape)

    def _find_reasons(self) -> None:
        """Note the first term of every row that is not finite, if none is noted."""
        if np.isfinite(self.terms).all():
            return
        steps, _, width = self.terms.shape
        bad = ~np.isfinite(self.terms.reshape(steps, len(self.names), -1, width))
        table: np.ndarray = np.any(bad, axis=(0, 2))
        for r in np.flatnonzero(table.any(1)):
            if self.reasons[r] is None:
                self.reasons[r] = self.names[r][int(table[r].argmax())]

    def select(self, rows: Sequence[int]) -> None:
        """Only these rows go on, in this order."""
        kept = list(rows)
        self.names = [self.names[r] for r in kept]
        self.reasons = [self.reasons[r] for r in kept]
        self._own = self._own[kept]
        for one in self._passes:
            one.select(kept)

    def restart(self, row: int) -> None:
        """Every environment of this row has begun a new episode."""
        self.reasons[row] = None
        for one in self._passes:
            one.state.ended[row * self._envs : (row + 1) * self._envs] = True

    def get_lanes(self) -> dict[str, np.ndarray]:
        """What registers remember: arrays with a row per lane."""
        found: dict[str, np.ndarray] = {}
        for i, one in enumerate(self._passes):
            found[f"ended{i}"] = one.state.ended
            found[f"memory{i}"] = np.ascontiguousarray(one.state.memory.T)
        return found

    def set_lanes(self, values: Mapping[str, np.ndarray]) -> None:
        """Go on from what ``get_lanes`` gave, if need be with fewer registers.

        Rows that were put down among others may have had more or fewer programs
        beside them; what is not told begins anew.

        Raises:
            ValueError: for arrays that are none of as many lanes.
        """
        for i, one in enumerate(self._passes):
            own = np.zeros_like(one.state.memory)
            ended = values.get(f"ended{i}", np.ones(own.shape[1], np.bool_))
            memory = values.get(f"memory{i}", own.T).T
            if ended.shape != own.shape[1:] or memory.shape[1:] != own.shape[1:]:
                raise ValueError(
                    f"registers of {own.shape[1]} lanes: expected ended{i} and "
                    f"memory{i} of as many, got {ended.shape} and {memory.T.shape}"
                )
            shared = min(len(own), len(memory))
            own[:shared] = memory[:shared]
            one.state = BlockState(np.array(ended, np.bool_), own)


class _Pass:
    """One program of every row that has one."""

    def __init__(self, task: Task, trees: Sequence[Tree | None], envs: int) -> None:
        distinct = list(dict.fromkeys(tree for tree in trees if tree is not None))
        self._programs: BlockPrograms = compile_block(
            distinct, task.layout, task.action
        )
        self._envs = envs
        self._rows = np.array(
            [-1 if tree is None else distinct.index(tree) for tree in trees]
        )
        self.state = self._programs.init_own(len(trees) * envs)

    @property
    def counts(self) -> np.ndarray:
        """``(R,)`` number of terms of every row."""
        sizes = np.array([*map(len, self._programs.names), 0])
        found: np.ndarray = sizes[self._rows]
        return found

    def __call__(self, batch: Batch) -> np.ndarray:
        """Terms ``(T, L, M)``."""
        scores, self.state = self._programs.score_own(
            self.state, batch, self._rows, terms=True
        )
        return np.asarray(scores.terms)

    def select(self, rows: Sequence[int]) -> None:
        lanes = np.arange(len(self.state.ended)).reshape(-1, self._envs)[list(rows)]
        ended, memory = self.state
        self.state = BlockState(ended[lanes.reshape(-1)], memory[:, lanes.reshape(-1)])
        self._rows = self._rows[list(rows)]


def _parts(task: Task, reward: str, base: Base) -> tuple[bool, list[Tree]]:
    """Whether the environment's own reward is paid, and the programs after it."""
    named = reward in task.rewards
    sources: list[str | None]
    sources = [task.rewards[reward].source] if named else [reward]
    if not named and base == "sparse":
        sources.insert(0, task.rewards["sparse"].source)
    own = sources[0] is None
    texts = [source for source in sources if source is not None]
    return own, [parse(text, task.layout, task.action) for text in texts]


def _put(
    terms: np.ndarray, values: np.ndarray, at: np.ndarray, counts: np.ndarray
) -> np.ndarray:
    """Write each lane's terms behind those that it has; where the next ones go."""
    for place in range(values.shape[-1]):
        has = np.flatnonzero(place < counts)
        terms[:, has, at[has] + place] = values[:, has, place]
    after: np.ndarray = at + counts
    return after

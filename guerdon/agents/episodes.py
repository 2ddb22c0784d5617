"""The episodes of a population's training: found in blocks, summed up as curves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from guerdon.agents.training import CURVE_POINTS, Curve


class Ended(NamedTuple):
    """Episodes that have ended, in the order of time."""

    row: np.ndarray
    """``(E,)`` identity of the row, which it keeps when others go."""
    step: np.ndarray
    """``(E,)`` environment steps of the row so far."""
    fitness: np.ndarray
    success: np.ndarray
    length: np.ndarray
    proxy: np.ndarray
    """``(E,)`` sum of the rewards that the agent was trained on, before scaling."""
    terms: np.ndarray
    """``(E, M)`` sums of the terms of these rewards."""

    @classmethod
    def of(cls, table: np.ndarray) -> Ended:
        """The columns of a table ``(6 + M, E)``."""
        row, step, fitness, success, length, proxy = table[:_FIXED]
        return cls(row, step, fitness, success, length, proxy, table[_FIXED:].T)


_FIXED = 6
"""Columns before those of the terms."""


class EpisodeLog:
    """All ended episodes, and the sums of the ones under way.

    Args:
        lanes: environments of all rows.
        terms: most terms that a row's reward has.
    """

    def __init__(self, lanes: int, terms: int = 0) -> None:
        self.length = np.zeros(lanes, np.int64)
        """``(L,)`` steps of the episode under way."""
        self.sums = np.zeros((lanes, 1 + terms), np.float64)
        """``(L, 1 + M)`` sums of its rewards, and of their terms."""
        self._blocks: list[np.ndarray] = []

    def add(
        self,
        rewards: np.ndarray,
        ended: np.ndarray,
        fitness: np.ndarray,
        success: np.ndarray,
        rows: np.ndarray,
        before: np.ndarray,
        terms: np.ndarray | None = None,
    ) -> Ended:
        """Note the episodes that ended in a block.

        Args:
            rewards: ``(T, L)`` what the agent was paid.
            ended: ``(T, L)`` bool.
            fitness: ``(T, L)`` valid where an episode ended.
            success: the same.
            rows: ``(R,)`` identities.
            before: ``(R,)`` environment steps of each row before the block.
            terms: ``(T, L, M)`` what the rewards are made of; None for nothing known.
        """
        steps, lanes = ended.shape
        envs = lanes // len(rows)
        values = np.zeros((steps, *self.sums.shape))
        values[:, :, 0] = rewards
        if terms is not None:
            values[:, :, 1 : 1 + terms.shape[-1]] = terms
        paid = self.sums + np.cumsum(values, 0)
        took = self.length + np.arange(1, steps + 1)[:, None]
        lane, t = np.nonzero(ended.T)
        # Of the sums since the block began, what the episode before took is no more.
        again = np.concatenate([[False], lane[1:] == lane[:-1]])[: len(lane)]
        sums, length = paid[t, lane], took[t, lane]
        sums[again] -= paid[t, lane][np.flatnonzero(again) - 1]
        length[again] -= took[t, lane][np.flatnonzero(again) - 1]
        row = lane // envs
        columns = (
            rows[row],
            before[row] + (t + 1) * envs,
            fitness[t, lane],
            success[t, lane],
            length,
            *sums.T,
        )
        self._carry(paid, took, t, lane)
        table = np.stack([np.asarray(column, np.float64) for column in columns])
        table = table[:, np.argsort(t, kind="stable")]
        self._blocks.append(table)
        return Ended.of(table)

    def _carry(
        self, paid: np.ndarray, took: np.ndarray, t: np.ndarray, lane: np.ndarray
    ) -> None:
        self.sums, self.length = paid[-1].copy(), took[-1].copy()
        last = np.concatenate([lane[1:] != lane[:-1], [True]])[: len(lane)]
        t, lane = t[last], lane[last]
        self.sums[lane] -= paid[t, lane]
        self.length[lane] -= took[t, lane]

    def select(self, lanes: np.ndarray) -> None:
        """Go on with some lanes."""
        self.sums, self.length = self.sums[lanes], self.length[lanes]

    def restart(self, lanes: slice) -> None:
        """Drop the episodes under way in some lanes."""
        self.sums[lanes] = 0.0
        self.length[lanes] = 0

    @property
    def table(self) -> np.ndarray:
        """``(6 + M, E)`` float64, the columns of ``Ended`` as rows."""
        if len(self._blocks) != 1:
            none = np.zeros((_FIXED - 1 + self.sums.shape[1], 0))
            self._blocks = [np.concatenate([none, *self._blocks], 1)]
        return self._blocks[0]

    @table.setter
    def table(self, values: np.ndarray) -> None:
        self._blocks = [values]

    def of(self, row: int) -> Ended:
        """The episodes of one row, by its identity."""
        table = self.table
        return Ended.of(table[:, table[0] == row])

    def means(self, rows: Sequence[int], since: int) -> np.ndarray:
        """Mean fitness of the episodes of each row that ended after step ``since``.

        Returns:
            ``(R,)``, NaN where none ended.
        """
        row, step, fitness = self.table[:3]
        late = [fitness[(row == one) & (step > since)] for one in rows]
        return np.array([some.mean() if len(some) else np.nan for some in late])


def curve(episodes: Ended, steps: int, span: int, names: Sequence[str] = ()) -> Curve:
    """Means over the episodes that ended in the span up to the end of each window.

    Args:
        episodes: of one row.
        steps: environment steps of the whole training.
        span: environment steps in which every environment ends an episode at least
            once: failed episodes run to the horizon and all end together, so a shorter
            span would show the successes alone until they do.
        names: of the first terms; the others are not shown.
    """
    ends = np.arange(1, CURVE_POINTS + 1) * steps // CURVE_POINTS
    shown = ("fitness", "success", "proxy", "length")
    values = [getattr(episodes, name) for name in shown]
    table = np.column_stack([*values, episodes.terms[:, : len(names)]])
    means: list[list[float | None]] = []
    for end in ends:
        inside = (episodes.step <= end) & (episodes.step > end - span)
        full = end >= min(span, steps) and inside.any()
        none: list[float | None] = [None] * table.shape[1]
        means.append(table[inside].mean(0).tolist() if full else none)
    columns = [tuple(column) for column in zip(*means, strict=True)]
    fitness, success, proxy, length = columns[:4]
    counts = np.diff(np.searchsorted(episodes.step, [0, *ends], side="right"))
    return Curve(
        steps=tuple(int(end) for end in ends),
        episodes=tuple(int(count) for count in counts),
        fitness=fitness,
        success=success,
        proxy=proxy,
        length=length,
        terms=dict(zip(names, columns[4:], strict=True)),
    )

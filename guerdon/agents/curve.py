"""What a training shows of itself on the way: its curve and its progress."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from stable_baselines3.common.callbacks import BaseCallback

from guerdon.agents.training import CURVE_POINTS, Curve
from guerdon.agents.vector import NonFinite

Progress = Callable[[float], None]
"""Told the finished share of a training, 0 to 1, a few times a second."""

PROGRESS_SECONDS = 0.25


class CurveRecorder(BaseCallback):
    """Collects the training curve from the ends of episodes.

    Args:
        steps: environment steps of the whole training.
        names: terms of the designed reward.
        span: environment steps in which every environment ends an episode at least
            once: the horizon times the number of environments.
        progress: told the finished share.
        should_stop: asked whether to end the training here.
    """

    def __init__(
        self,
        steps: int,
        names: tuple[str, ...],
        span: int,
        progress: Progress | None = None,
        should_stop: Callable[[], bool] | None = None,
    ) -> None:
        super().__init__()
        self._steps = steps
        self._names = names
        # Failed episodes run to the horizon and all end together; a shorter span
        # would show the successes alone until they do.
        self._trailing = min(CURVE_POINTS, -(-span * CURVE_POINTS // steps))
        self._progress = progress
        self._should_stop = should_stop
        self._told = time.monotonic()
        self._counts = np.zeros(CURVE_POINTS, np.int64)
        self._sums = np.zeros((CURVE_POINTS, 4 + len(names)))
        self._lengths: np.ndarray | None = None

    def _on_step(self) -> bool:
        dones = self.locals["dones"]
        if self._lengths is None:
            self._lengths = np.zeros(len(dones), np.int64)
        self._lengths += 1
        for i in np.flatnonzero(dones):
            self._add(self.locals["infos"][i], int(self._lengths[i]))
            self._lengths[i] = 0
        now = time.monotonic()
        if now - self._told < PROGRESS_SECONDS:
            return True
        self._told = now
        if self._progress is not None:
            self._progress(min(1.0, self.num_timesteps / self._steps))
        return self._should_stop is None or not self._should_stop()

    def _add(self, info: dict[str, Any], length: int) -> None:
        done = (self.num_timesteps - 1) * CURVE_POINTS // self._steps
        window = min(done, CURVE_POINTS - 1)
        if not math.isfinite(info["fitness"]):
            raise NonFinite(
                f"the fitness of an episode in training is {info['fitness']}; expected "
                "a finite number"
            )
        self._counts[window] += 1
        terms = info["episode_terms"]
        self._sums[window] += (
            info["fitness"],
            float(info["success"]),
            info["episode_reward"],
            length,
            *(terms[name] for name in self._names),
        )

    def curve(self) -> Curve:
        """Means over the episodes of the trailing span at the end of each window."""
        counts, sums = _trailing(self._counts, self._trailing), self._sums.T
        columns = [
            tuple(
                float(total / count) if count and place + 1 >= self._trailing else None
                for place, (total, count) in enumerate(
                    zip(_trailing(column, self._trailing), counts, strict=True)
                )
            )
            for column in sums
        ]
        fitness, success, proxy, length = columns[:4]
        ends = np.arange(1, CURVE_POINTS + 1) * self._steps // CURVE_POINTS
        return Curve(
            steps=tuple(int(end) for end in ends),
            episodes=tuple(int(count) for count in self._counts),
            fitness=fitness,
            success=success,
            proxy=proxy,
            length=length,
            terms=dict(zip(self._names, columns[4:], strict=True)),
        )

    def final_proxy(self) -> float | None:
        """Mean designed return of the episodes of the last fifth, or the last span."""
        last = slice(-max(CURVE_POINTS // 5, self._trailing), None)
        count = self._counts[last].sum()
        return float(self._sums[last, 2].sum() / count) if count else None


def _trailing(values: np.ndarray, width: int) -> np.ndarray:
    """Sums of the last ``width`` entries up to each place."""
    total = np.cumsum(values)
    before = np.concatenate([np.zeros(width, total.dtype), total[:-width]])
    sums: np.ndarray = total - before[: len(total)]
    return sums

"""A task: an environment, its true score, and what a reward may see of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.envs.registration import EnvSpec
from gymnasium.error import ResetNeeded

from guerdon.types import ActionSpec, Episode, Feature, Features, Layout

__all__ = ["Feature", "ReferenceReward", "Task", "TaskEnv"]

Reader = Callable[[gym.Env[Any, Any], Any, Mapping[str, Any]], np.ndarray]
"""``(unwrapped env, observation, info) -> (W,) float32`` feature row."""


@dataclass(frozen=True, slots=True)
class ReferenceReward:
    """A published reward to compare with.

    Args:
        source: text in the reward language, or None for the environment's own.
        origin: where it comes from: a paper, a documentation page, a file.
    """

    source: str | None
    origin: str


@dataclass(frozen=True, kw_only=True)
class Task:
    """An environment with a true score.

    Args:
        id: the Gymnasium id, ``guerdon/DoorKey-8x8-v0``.
        intent: one sentence that says what the agent should achieve.
        make_base: makes the raw environment; takes Gymnasium's keywords such as
            ``render_mode``.
        layout: the features that a reward may name.
        action: what the agent may do.
        read: reads one feature row from the raw environment.
        fitness: the true score of one episode; higher is better.
        success: whether one episode solved the task.
        rewards: reference rewards by name; ``sparse`` always, ``human`` where one
            is published.
        horizon: steps after which an episode is truncated.
        budget: training steps at which the task is usually reported.
        family: ``minigrid``, ``classic``, ``box2d``, ``mujoco`` or ``custom``.
        source: where the environment comes from.
    """

    id: str
    intent: str
    make_base: Callable[..., gym.Env[Any, Any]]
    layout: Layout
    action: ActionSpec
    read: Reader
    fitness: Callable[[Episode], float]
    success: Callable[[Episode], bool]
    rewards: Mapping[str, ReferenceReward]
    horizon: int
    budget: int
    family: str = "custom"
    source: str = ""
    extra: str | None = field(default=None)
    """Name of the optional extra that the environment needs."""

    def make(self, **kwargs: Any) -> TaskEnv:
        """One environment of this task; keywords go to the raw environment."""
        return TaskEnv(self.make_base(**kwargs), self)

    def make_vec(
        self,
        num_envs: int,
        *,
        vector_kwargs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> gym.vector.SyncVectorEnv:
        """Several environments of this task in one process.

        Args:
            num_envs: how many.
            vector_kwargs: for ``gymnasium.vector.SyncVectorEnv``, such as
                ``autoreset_mode``.
            kwargs: for the raw environments.

        Raises:
            ValueError: when ``num_envs`` is less than 1.
        """
        if num_envs < 1:
            raise ValueError(f"num_envs: expected at least 1, got {num_envs}")
        makers = [lambda: self.make(**kwargs)] * num_envs
        return gym.vector.SyncVectorEnv(makers, **(vector_kwargs or {}))

    def view(self, info: Mapping[str, Any]) -> Features:
        """Named features of an ``info`` that the task's environment returned."""
        return Features(self.layout, info["features"])


class TaskEnv(gym.Wrapper[Any, Any, Any, Any]):
    """The raw environment of a task, with features and the true score in ``info``.

    Every ``info`` holds ``features``, a ``(W,)`` float32 row (``task.view`` names
    it). The last ``info`` of an episode also holds ``fitness`` and ``success``,
    computed here from the raw rewards, so no outer wrapper can change them.

    Args:
        env: the raw environment, with its own time limit inside.
        task: whose features and score are added.

    Raises:
        gymnasium.error.ResetNeeded: when stepped after the end of an episode.
    """

    def __init__(self, env: gym.Env[Any, Any], task: Task) -> None:
        super().__init__(env)
        self.task = task
        self._raw = env.unwrapped
        self._continuous = task.action.kind == "continuous"
        self._rows: list[bytes] = []
        self._actions: list[Any] = []
        self._rewards: list[float] = []
        self._over = True

    @property
    def spec(self) -> EnvSpec | None:  # type: ignore[override]
        """The registered spec of the task, not that of the environment inside."""
        inner = self._raw.spec
        if inner is not None and inner.id == self.task.id:
            return inner
        return gym.registry.get(self.task.id)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Start an episode; ``info["features"]`` is its first row."""
        obs, info = self.env.reset(seed=seed, options=options)
        row = self.task.read(self._raw, obs, info)
        info["features"] = row
        # Kept as bytes: what a caller does to the row that it got cannot reach
        # the episode that fitness is computed from.
        self._rows = [row.tobytes()]
        self._actions = []
        self._rewards = []
        self._over = False
        return obs, info

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """One step; the last ``info`` of an episode brings the true score."""
        if self._over:
            raise ResetNeeded(f"{self.task.id}: call reset() before step()")
        obs, reward, terminated, truncated, info = self.env.step(action)
        row = self.task.read(self._raw, obs, info)
        info["features"] = row
        self._rows.append(row.tobytes())
        self._actions.append(np.array(action) if self._continuous else int(action))
        self._rewards.append(float(reward))
        if terminated or truncated:
            self._finish(info, terminated, truncated)
        return obs, reward, terminated, truncated, info

    def _finish(self, info: dict[str, Any], terminated: bool, truncated: bool) -> None:
        self._over = True
        width = self.task.layout.width
        rows = np.frombuffer(b"".join(self._rows), dtype=np.float32)
        episode = Episode(
            layout=self.task.layout,
            features=rows.reshape(-1, width),
            action=np.array(self._actions),
            reward=np.array(self._rewards),
            terminated=bool(terminated),
            truncated=bool(truncated),
            info=dict(info),
        )
        info["fitness"] = float(self.task.fitness(episode))
        info["success"] = bool(self.task.success(episode))

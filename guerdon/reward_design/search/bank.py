"""Logged episodes on which rewards are scored before anything is trained."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import gymnasium as gym
import numpy as np

from guerdon.envs.task import Task, score_of, solved_by
from guerdon.faults import blame, machine_fault
from guerdon.types import Batch, Episode, Features

STICKINESS = 0.8
"""Chance that the sticky policy repeats its last action: it goes further."""


@dataclass(frozen=True)
class Bank:
    """Episodes of one task with their true scores.

    Args:
        task: the task.
        episodes: any number of episodes, whole ones; the last may be cut short.
        fitness: true score of every episode; NaN where it was cut short.

    Raises:
        ValueError: without an episode, or for a true score or a reward of the
            environment that is not finite; names the task, the episode and the value.
    """

    task: Task
    episodes: tuple[Episode, ...]
    fitness: tuple[float, ...]

    def __post_init__(self) -> None:
        if len(self.episodes) != len(self.fitness):
            raise ValueError(
                f"bank: expected one fitness for each of {len(self.episodes)} "
                f"episodes, got {len(self.fitness)}"
            )
        if not self.episodes:
            raise ValueError("bank: expected at least one episode, got none")
        for number, (episode, score) in enumerate(
            zip(self.episodes, self.fitness, strict=True)
        ):
            self._require_numbers(number, episode, score)

    def _require_numbers(self, number: int, episode: Episode, score: float) -> None:
        """Refuse what could only be compared wrongly."""
        rewards = np.asarray(episode.reward, np.float64)
        bad = np.flatnonzero(~np.isfinite(rewards))
        if len(bad):
            raise ValueError(
                f"{self.task.id}: the environment's reward in step {bad[0] + 1} of "
                f"logged episode {number} is {rewards[bad[0]]}; expected a finite "
                "number"
            )
        cut = not (episode.terminated or episode.truncated)
        if not np.isfinite(score) and not (cut and np.isnan(score)):
            raise ValueError(
                f"{self.task.id}: the fitness of logged episode {number} is {score}; "
                "expected a finite number"
            )

    @classmethod
    def of(cls, task: Task, episodes: Sequence[Episode]) -> Bank:
        """A bank of episodes with the scores that their environments gave them."""
        return cls(task, tuple(episodes), tuple(_fitness(task, e) for e in episodes))

    def __add__(self, episodes: Sequence[Episode]) -> Bank:
        """The bank with more episodes."""
        return Bank.of(self.task, (*self.episodes, *episodes))

    @property
    def size(self) -> int:
        """Number of transitions."""
        return sum(e.length for e in self.episodes)

    @cached_property
    def failed(self) -> np.ndarray:
        """``(E,)`` bool: whole episodes that did not solve the task."""
        solved = np.array([_solved(self.task, e) for e in self.episodes], np.bool_)
        return np.asarray(np.isfinite(self.fitness) & ~solved)

    @cached_property
    def index(self) -> np.ndarray:
        """``(M,)`` episode of every transition."""
        return np.repeat(
            np.arange(len(self.episodes)), [e.length for e in self.episodes]
        )

    @cached_property
    def time(self) -> np.ndarray:
        """``(M,)`` step within its episode, from 0."""
        return np.concatenate([np.arange(e.length) for e in self.episodes])

    @cached_property
    def batch(self) -> Batch:
        """All transitions as one stream of one environment, shape ``(M, 1)``."""
        layout = self.task.layout
        prev = np.concatenate([e.features[:-1] for e in self.episodes])
        now = np.concatenate([e.features[1:] for e in self.episodes])
        action = np.concatenate([np.asarray(e.action) for e in self.episodes])
        reward = np.concatenate([np.asarray(e.reward) for e in self.episodes])
        last = np.zeros(len(now), np.bool_)
        last[np.cumsum([e.length for e in self.episodes]) - 1] = True
        ends = np.array([e.terminated for e in self.episodes])[self.index]
        return Batch(
            obs=None,
            action=action[:, None],
            next_obs=None,
            prev=Features(layout, prev[:, None]),
            now=Features(layout, now[:, None]),
            reward=reward[:, None],
            terminated=(last & ends)[:, None],
            truncated=(last & ~ends)[:, None],
        )


def collect(task: Task, *, steps: int = 6000, seed: int = 0) -> Bank:
    """Play random and sticky random episodes, turn about, for ``steps`` steps.

    The same seed gives the same bank. The episode under way at the end is kept, cut
    short, without a score.

    Raises:
        ValueError: for an environment or a fitness that raises; names the error and the
            line that raised it. Also for scores and rewards that are not finite.
        OSError: for what the machine could not do.
    """
    rng = np.random.default_rng([seed, 3])
    env = task.make()
    env.action_space.seed(int(rng.integers(2**31)))
    episodes: list[Episode] = []
    total = 0
    try:
        while total < steps:
            sticky = STICKINESS if len(episodes) % 2 else 0.0
            episode = _play(task, env, rng, sticky, steps - total)
            episodes.append(episode)
            total += episode.length
    except Exception as error:
        # Whatever somebody's environment raises, a search of its reward ends here.
        fault = machine_fault(error, None)
        if fault is not None:
            raise fault from error
        raise ValueError(
            f"{task.id}: random play broke off in episode {len(episodes)}: "
            f"{blame(error)}"
        ) from error
    finally:
        env.close()  # type: ignore[no-untyped-call]
    return Bank.of(task, episodes)


def _fitness(task: Task, episode: Episode) -> float:
    """A saved episode has lost the info that the task may compute its score from."""
    known = episode.info.get("fitness")
    return score_of(task, episode) if known is None else float(known)


def _solved(task: Task, episode: Episode) -> bool:
    known = episode.info.get("success")
    return solved_by(task, episode) if known is None else bool(known)


def _play(
    task: Task,
    env: gym.Env[Any, Any],
    rng: np.random.Generator,
    sticky: float,
    limit: int,
) -> Episode:
    """One episode of at most ``limit`` steps."""
    _, info = env.reset(seed=int(rng.integers(2**31)))
    rows, actions = [info["features"]], []
    rewards: list[float] = []
    terminated = truncated = False
    action = env.action_space.sample()
    while not (terminated or truncated) and len(rewards) < limit:
        if rng.random() >= sticky:
            action = env.action_space.sample()
        _, reward, terminated, truncated, info = env.step(action)
        rows.append(info["features"])
        actions.append(action)
        rewards.append(float(reward))
    return Episode(
        layout=task.layout,
        features=np.stack(rows).astype(np.float32),
        action=np.array(actions),
        reward=np.array(rewards),
        terminated=bool(terminated),
        truncated=bool(truncated),
        info={
            "fitness": float(info.get("fitness", np.nan)),
            "success": bool(info.get("success", False)),
        },
    )

"""Trainings for searches among hostile programs: scores from a hash, at once."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np

from guerdon.agents.evaluate import save_episodes
from guerdon.agents.training import (
    Curve,
    TrainingJob,
    TrainingResult,
    outcome_to_json,
)
from guerdon.envs import load_task
from guerdon.reward_design.language import parse
from guerdon.types import Episode

Progress = Callable[[float], None]


def score(reward: str) -> float:
    """True score of a reward in these searches; its own return has no part in it."""
    return hashlib.sha256(reward.encode("utf-8", "backslashreplace")).digest()[0] / 255


def train(payload: bytes, folder: Path, progress: Progress) -> bytes:
    """A training that is over as soon as it has begun."""
    return trained(payload, folder, score, lambda reward: 1.0)


def farmed(payload: bytes, folder: Path, progress: Progress) -> bytes:
    """Whatever pays ``a`` pays a million and is worth nothing."""
    return trained(
        payload,
        folder,
        lambda reward: 0.0 if '"a"' in reward else 0.25 + score(reward) / 2,
        lambda reward: 1e6 if '"a"' in reward else 1.0,
    )


def trained(
    payload: bytes,
    folder: Path,
    fitness: Callable[[str], float],
    proxy: Callable[[str], float],
) -> bytes:
    """A result with these scores; the reward is parsed, as a real training would."""
    job = TrainingJob.from_json(payload)
    task = load_task(job.task)
    names: tuple[str, ...] = ("task",)
    if job.reward not in ("sparse", "human"):
        names += parse(job.reward, task.layout, task.action).names
    value = fitness(job.reward)
    episodes = f"{job.key}.npz"
    save_episodes(folder / episodes, (_episode(job),))
    found = TrainingResult(
        job=job.key,
        fitness=(value, value),
        success=(value > 0.5, value > 0.5),
        length=(4, 4),
        proxy=proxy(job.reward),
        curve=Curve(
            steps=(1, 2),
            episodes=(1, 1),
            fitness=(None, value),
            success=(None, value),
            proxy=(None, proxy(job.reward)),
            length=(None, 4.0),
            terms={name: (None, proxy(job.reward)) for name in names},
        ),
        steps=job.steps,
        cpu_seconds=0.01,
        wall_seconds=0.01,
        train_seconds=0.01,
        episodes=episodes,
    )
    return outcome_to_json(found).encode()


def _episode(job: TrainingJob) -> Episode:
    task = load_task(job.task)
    rng = np.random.default_rng(int(job.key[:8], 16))
    return Episode(
        layout=task.layout,
        features=rng.uniform(0, 1, (5, task.layout.width)).astype(np.float32),
        action=rng.integers(2, size=4),
        reward=-np.ones(4),
        terminated=True,
        truncated=False,
        info={"fitness": 4.0, "success": False},
    )

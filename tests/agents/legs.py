"""Small legs of populations, and what their outcomes have in common."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open

import guerdon
from guerdon.agents import population as module
from guerdon.agents.evaluate import load_episodes
from guerdon.agents.population import row_file, train_leg
from guerdon.agents.recipes import Recipe, recipe_for
from guerdon.agents.training import Leg, Outcome, TrainingJob, TrainingResult
from guerdon.envs.task import Task

HALF, WHOLE, ENVS = 4096, 8192, 8

GOOD = """\
def reward(prev, action, now, params):
    opened = now.door_unlocked - prev.door_unlocked
    steps = 0.001 * count(now.distance_to_goal >= 0.0)
    return {"key": 0.3 * first_time(now.carrying_key), "door": 0.5 * opened - steps}
"""
BAD = "def reward(prev, action, now, params):\n    return {'x': now.nothing}\n"

GRID = TrainingJob(
    task="guerdon/DoorKey-6x6-v0",
    reward=GOOD,
    steps=WHOLE,
    whole=WHOLE,
    seed=0,
    trainer="population",
    eval_episodes=4,
    record_episodes=1,
)
CART = replace(GRID, task="guerdon/CartPole-v1", reward="sparse", steps=512, whole=1024)


def small(task: Task, algo: str | None = None) -> Recipe:
    """Narrow networks; few long lanes, so that episodes end and go on over legs."""
    recipe = replace(recipe_for(task, algo), net_arch=(16, 16), n_epochs=2)
    if task.family == "minigrid":
        recipe = replace(recipe, n_envs=ENVS, n_steps=HALF // ENVS)
    return recipe


@contextmanager
def small_recipes() -> Iterator[None]:
    """Legs are trained by small recipes here; torch has its threads back after."""
    before = torch.get_num_threads()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "recipe_for", small)
        yield
    torch.set_num_threads(before)


def job(reward: str, seed: int, steps: int = WHOLE) -> TrainingJob:
    return replace(GRID, reward=reward, seed=seed, steps=steps)


def train(*jobs: TrainingJob, start: int = 0, **more: Any) -> list[Outcome]:
    return train_leg(Leg(jobs, start), **more)


def result(outcome: Outcome) -> TrainingResult:
    assert isinstance(outcome, TrainingResult), outcome
    return outcome


def same(ours: Outcome, theirs: Outcome) -> None:
    """All that is not a time or the name of a file, to the bit."""
    for name in ("fitness", "success", "length", "proxy", "curve", "steps"):
        assert getattr(result(ours), name) == getattr(result(theirs), name), name


def same_episodes(ours: Path, theirs: Path) -> None:
    task = guerdon.load_task(GRID.task)
    pairs = zip(load_episodes(ours, task), load_episodes(theirs, task), strict=True)
    for one, other in pairs:
        np.testing.assert_array_equal(one.features, other.features)
        np.testing.assert_array_equal(one.action, other.action)


def tensors(path: Path) -> dict[str, torch.Tensor]:
    with safe_open(path, framework="pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118


def same_weights(ours: Path, theirs: Path) -> None:
    one, other = tensors(ours), tensors(theirs)
    assert one.keys() == other.keys()
    for name, value in one.items():
        assert torch.equal(value, other[name]), name


ROWS = (job(GOOD, 0), job("sparse", 0), job("human", 1))


def file_of(one: TrainingJob, folder: Path) -> Path:
    return folder / row_file(one, HALF)

"""Each family of tasks learns in the jail exactly what it learns outside."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import pytest
from safetensors.numpy import load_file

from guerdon.agents.recipes import recipe_for
from guerdon.agents.sb3 import train
from guerdon.agents.training import TrainingJob, TrainingResult
from guerdon.agents.workers import WorkerPool
from guerdon.envs import load_task
from guerdon.types import Failure

pytestmark = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="the jail needs Linux"
)

# Halves and quarters are exact in any precision.
TEXT = """
def reward(prev, action, now, params):
    return {{"there": 0.25 * now.{0}, "gain": 0.5 * (now.{0} - prev.{0})}}
"""

Algo = Literal["ppo", "sac"]


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WorkerPool]:
    with WorkerPool(1, 120.0, tmp_path_factory.mktemp("jobs")) as pool:
        yield pool


def one_update(task: str, algo: Algo, feature: str, trust: str) -> TrainingJob:
    """The shortest training that changes a weight."""
    recipe = recipe_for(load_task(task), algo)
    steps = 1 if algo == "ppo" else recipe.learning_starts + 2 * recipe.train_freq
    return TrainingJob(
        task,
        TEXT.format(feature),
        recipe.whole_steps(steps),
        seed=3,
        algo=algo,
        eval_episodes=1,
        record_episodes=0,
        trust=trust,  # type: ignore[arg-type]
    )


def jailed(pool: WorkerPool, job: TrainingJob) -> TrainingResult:
    pool.submit(job)
    ((_, found),) = pool.as_completed(timeout=120)
    assert isinstance(found, TrainingResult), found
    return found


@pytest.mark.parametrize(
    ("task", "algo", "feature"),
    [
        ("guerdon/DoorKey-6x6-v0", "ppo", "agent_x"),
        ("guerdon/CartPole-v1", "ppo", "pole_angle"),
        ("guerdon/MountainCarContinuous-v0", "sac", "position"),
        ("family_tasks:BOX2D", "ppo", "angle"),
        ("guerdon/InvertedDoublePendulum-v5", "ppo", "tip_height"),
        ("family_tasks:MUJOCO", "sac", "height"),
        ("countdown_task:TASK", "ppo", "left"),
    ],
    ids=["minigrid", "classic", "classic SAC", "Box2D", "MuJoCo", "MuJoCo SAC", "own"],
)
def test_a_training_in_the_jail_is_the_training_outside_to_the_last_bit(
    pool: WorkerPool, tmp_path: Path, task: str, algo: Algo, feature: str
) -> None:
    inside = jailed(pool, one_update(task, algo, feature, "jail"))
    outside = train(one_update(task, algo, feature, "language"), folder=tmp_path)
    assert isinstance(outside, TrainingResult), outside

    assert inside.steps == outside.steps
    assert inside.fitness == outside.fitness
    assert inside.curve == outside.curve
    assert inside.proxy == outside.proxy
    ours = load_file(tmp_path / str(outside.weights))
    theirs = load_file(pool._folder / str(inside.weights))
    assert ours.keys() == theirs.keys()
    assert [n for n in ours if ours[n].tobytes() != theirs[n].tobytes()] == []


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("RAISES_LATE", ("RuntimeError: no third episode", "family_tasks.py:")),
        ("READS_LATE", ("PermissionError", "when its environment is made")),
    ],
)
def test_what_a_task_raises_in_the_jail_is_told_in_its_own_words(
    pool: WorkerPool, name: str, words: tuple[str, ...]
) -> None:
    pool.submit(one_update(f"family_tasks:{name}", "ppo", "left", "jail"))
    ((_, found),) = pool.as_completed(timeout=120)
    assert isinstance(found, Failure)
    assert found.kind == "crashed"
    assert all(word in found.reason for word in words), found.reason
    assert "Traceback" not in found.reason

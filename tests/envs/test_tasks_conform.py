from __future__ import annotations

import pytest

import guerdon
from guerdon.envs.checker import CHECKS
from guerdon.envs.grid.levels import LEVELS
from guerdon.envs.table import TASKS
from guerdon.reward_design.checker import REWARDS_READ
from guerdon.reward_design.language import parse

NAMED_BY_A_MISSION = ("GoTo", "Fetch", "PutNear")
"""Levels that an agent which sees the image alone cannot solve."""
CONTROL = (
    "CartPole-v1 MountainCarContinuous-v0 Pendulum-v1 LunarLander-v3 Reacher-v5 "
    "InvertedDoublePendulum-v5 Hopper-v5 HalfCheetah-v5 Walker2d-v5 Ant-v5"
)


def test_the_table_has_every_level_of_the_engine_and_the_control_tasks() -> None:
    solvable = [name for name in LEVELS if not name.startswith(NAMED_BY_A_MISSION)]
    assert len(solvable) == 61
    names = [f"{name}-v0" for name in solvable] + CONTROL.split(" ")
    assert sorted(TASKS) == sorted(f"guerdon/{name}" for name in names)
    assert guerdon.tasks() == list(TASKS.values())


@pytest.mark.parametrize("task_id", TASKS)
def test_the_task_conforms(task_id: str) -> None:
    report = guerdon.check_task(task_id)
    assert report.passed == (*(name for name, _ in CHECKS), REWARDS_READ)
    assert report.not_run == ()
    assert len(report.fitness) == 3


@pytest.mark.parametrize("task", TASKS.values(), ids=lambda task: task.id)
def test_the_task_is_described_and_has_readable_rewards(task: guerdon.Task) -> None:
    assert task.intent.endswith(".")
    assert {"sparse"} <= set(task.rewards) <= {"sparse", "human"}
    # Of opening doors and of hidden keys there is no dense reward that is usual.
    without = ("guerdon/Unlock-", "guerdon/RedBlueDoors", "guerdon/ObstructedMaze")
    assert ("human" in task.rewards) != task.id.startswith(without)
    assert all(reward.origin for reward in task.rewards.values())
    assert any(reward.source is None for reward in task.rewards.values())
    for reward in task.rewards.values():
        if reward.source is not None:
            assert parse(reward.source, task.layout, task.action).names
    for feature in task.layout:
        assert feature.meaning
        assert len(feature.meaning) < (130 if feature.shape else 90)

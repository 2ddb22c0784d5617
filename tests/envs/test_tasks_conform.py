from __future__ import annotations

import pytest

import guerdon
from guerdon.envs.checker import CHECKS
from guerdon.envs.table import TASKS
from guerdon.reward_design.checker import REWARDS_READ
from guerdon.reward_design.language import parse

MINIGRID = (
    "Empty-8x8 DoorKey-5x5 DoorKey-6x6 DoorKey-8x8 FourRooms UnlockPickup "
    "KeyCorridorS3R1 KeyCorridorS3R2 KeyCorridorS3R3 MultiRoom-N2-S4 MultiRoom-N4-S5 "
    "LavaCrossingS9N1"
)
CONTROL = (
    "CartPole-v1 MountainCarContinuous-v0 Pendulum-v1 LunarLander-v3 Reacher-v5 "
    "InvertedDoublePendulum-v5 Hopper-v5 HalfCheetah-v5 Walker2d-v5 Ant-v5"
)


def test_the_table_has_every_task_of_the_first_release() -> None:
    names = [f"{name}-v0" for name in MINIGRID.split(" ")] + CONTROL.split(" ")
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
    assert {"sparse", "human"} <= set(task.rewards)
    assert all(reward.origin for reward in task.rewards.values())
    assert any(reward.source is None for reward in task.rewards.values())
    for reward in task.rewards.values():
        if reward.source is not None:
            assert parse(reward.source, task.layout, task.action).names
    for feature in task.layout:
        assert feature.meaning
        assert len(feature.meaning) < (130 if feature.shape else 90)

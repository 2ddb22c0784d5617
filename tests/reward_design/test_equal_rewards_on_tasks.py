"""Equal float32 rewards through every consumer, on every registered task."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import guerdon
from guerdon.reward_design.language.sample import sample
from guerdon.reward_design.language.terms import terms
from guerdon.reward_design.program import environment_reward, merge, program
from guerdon.reward_design.reference import reward_for
from tests.reward_design.traces import all_ways, random_actions

TASKS = [task.id for task in guerdon.tasks()]


@pytest.mark.parametrize("name", TASKS)
def test_reference_and_random_rewards_pay_the_same_bits_everywhere(name: str) -> None:
    pay_alike(guerdon.load_task(name))


@pytest.mark.parametrize(
    "name",
    [
        *("Empty-8x8", "DoorKey-5x5", "DoorKey-6x6", "DoorKey-8x8", "FourRooms"),
        *("UnlockPickup", "KeyCorridorS3R1", "KeyCorridorS3R2", "KeyCorridorS3R3"),
        *("MultiRoom-N2-S4", "MultiRoom-N4-S5", "LavaCrossingS9N1"),
    ],
)
def test_they_do_on_farama_s_own_environments_too(name: str) -> None:
    """The tasks above play these levels on the engine."""
    task = replace(guerdon.load_task(f"guerdon/{name}-v0"), engine=None)
    assert "minigrid" in type(task.make().unwrapped).__module__
    pay_alike(task)


def pay_alike(task: guerdon.Task) -> None:
    rng = np.random.default_rng(0)
    drawn = terms(
        sample(task.layout, task.action, rng, max_terms=8), task.layout, task.action
    )
    designs = {reward: reward_for(task, reward) for reward in task.rewards}
    designs["drawn"] = program(merge(environment_reward("own"), drawn))
    actions = random_actions(task, 40, 2)
    for label, design in designs.items():
        ways = all_ways(design, task, [task.make] * 2, actions)
        expected = ways.pop("block")
        assert expected.dtype == np.float32
        assert len(ways) >= 4
        for way, found in ways.items():
            assert np.array_equal(found, expected), f"{label} through {way}"

"""Equal float32 rewards through every consumer, on every registered task."""

from __future__ import annotations

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
    task = guerdon.load_task(name)
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

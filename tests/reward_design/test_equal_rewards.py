"""One program, every consumer, the same float32 bits on one recorded trace."""

from __future__ import annotations

import numpy as np
import pytest

from guerdon.reward_design import language
from guerdon.reward_design.checker import check_program
from guerdon.reward_design.program import environment_reward, merge, program
from guerdon.reward_design.shaping import (
    chain,
    clip,
    potential,
    running_norm,
    scalarize,
    scale,
)
from tests.reward_design.toy import toy_task
from tests.reward_design.traces import all_ways, at, random_actions, record, spec_of

TASK = toy_task()
MAKERS = [lambda lane=lane: TASK.make(lane=lane) for lane in range(3)]
ACTIONS = random_actions(TASK, 23, 3)
TEXT = """
PARAMS = {"w": 0.3}
def reward(prev, action, now, params):
    step = now.x - prev.x
    best = previous_best(now.x)
    return {
        "pace": params.w * tanh(step / 3),
        "late": where(now.late, -0.1, 0.0),
        "record": where(now.x > best, 0.7, 0.0),
        "count": 0.01 * count(now.late),
    }
"""


def written(text=TEXT):
    return language.terms(text, TASK.layout, TASK.action)


DESIGNS = {
    "environment": program(environment_reward()),
    "language": program(merge(environment_reward(), written())),
    "shaped": program(
        merge(environment_reward(), written()),
        chain(scalarize(), clip(-3, 60), scale(0.1), potential(lambda f: f.x / 7)),
    ),
    "normalised": program(written(), chain(scalarize(), running_norm())),
}


@pytest.mark.parametrize("name", DESIGNS)
def test_all_consumers_pay_the_same_bits(name):
    ways = all_ways(DESIGNS[name], TASK, MAKERS, ACTIONS)
    expected = ways.pop("block")
    assert expected.dtype == np.float32
    assert expected.shape == (23, 3)
    assert np.std(expected) > 0
    for way, found in ways.items():
        assert np.array_equal(found, expected), way


@pytest.mark.parametrize("name", DESIGNS)
def test_every_design_passes_the_conformance_kit(name):
    trace = record(TASK, MAKERS, ACTIONS)
    check_program(DESIGNS[name], spec_of(TASK, (3,)), trace)


def test_rows_that_are_not_real_leave_the_registers_of_a_running_episode_alone():
    trace = at(record(TASK, MAKERS, ACTIONS), slice(0, 22))
    assert not (trace.terminated | trace.truncated)[-1].any()
    check_program(DESIGNS["language"], spec_of(TASK, (3,)), trace)


def test_the_oracle_itself_is_the_trace_of_the_hand():
    trace = record(TASK, MAKERS[:1], np.zeros((6, 1), int))
    assert trace.prev.x.ravel().tolist() == [0, 1, 2, 10, 11, 20]
    assert trace.now.x.ravel().tolist() == [1, 2, 3, 11, 12, 21]
    assert trace.reward.ravel().tolist() == [0.5, 1, 1.5, 5.5, 6, 10.5]
    assert trace.terminated.ravel().tolist() == [0, 0, 1, 0, 0, 0]
    assert trace.truncated.ravel().tolist() == [0, 0, 0, 0, 1, 0]

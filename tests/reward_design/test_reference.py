"""What the name or the text of a reward stands for."""

from __future__ import annotations

import numpy as np
import pytest

from guerdon.envs import load_task
from guerdon.envs.task import ReferenceReward
from guerdon.reward_design.language import Rejected
from guerdon.reward_design.reference import reward_for
from tests.reward_design.test_program import block
from tests.reward_design.toy import toy_task
from tests.reward_design.traces import spec_of

HUMAN = """
def reward(prev, action, now, params):
    return {"pace": 2.0 * (now.x - prev.x)}
"""
TASK = toy_task(
    rewards={
        "sparse": ReferenceReward(None, "the toy itself"),
        "human": ReferenceReward(HUMAN, "the toy's makers"),
    }
)


def pay(design):
    return design.apply(design.init(spec_of(TASK, (1,))), block([[5.0]]))[0].reward


def test_sparse_is_the_environments_own_reward():
    design = reward_for(TASK, "sparse")
    assert design.names == ("task",)
    assert pay(design).tolist() == [[5.0]]


def test_human_is_the_published_text_alone():
    design = reward_for(TASK, "human")
    assert design.names == ("pace",)
    assert design.source == HUMAN
    assert pay(design).tolist() == [[2.0]]


def test_a_text_is_added_to_the_sparse_reward_unless_it_is_the_whole():
    added = reward_for(TASK, HUMAN)
    assert added.names == ("task", "pace")
    assert added.source == HUMAN
    assert pay(added).tolist() == [[7.0]]
    assert np.array_equal(pay(reward_for(TASK, HUMAN, base="none")), [[2.0]])


def test_an_unknown_name_says_which_ones_there_are():
    with pytest.raises(ValueError, match="no reward named 'humna'; expected one of"):
        reward_for(TASK, "humna")


@pytest.mark.parametrize("wrong", [None, 5, b"sparse", ["sparse"]])
def test_a_reward_that_is_no_text_is_refused_with_its_type(wrong):
    with pytest.raises(TypeError, match=rf"reward: .*\({type(wrong).__name__}\)"):
        reward_for(TASK, wrong)


def test_an_unknown_base_is_refused():
    with pytest.raises(ValueError, match="expected 'sparse' or 'none', got 'dense'"):
        reward_for(TASK, HUMAN, base="dense")


def test_a_text_that_is_no_program_is_refused_by_the_language():
    with pytest.raises(Rejected):
        reward_for(TASK, "def reward(prev): import os")


def test_a_task_may_be_named_by_its_id() -> None:
    named = reward_for("guerdon/CartPole-v1", "human")
    assert named.names == reward_for(load_task("guerdon/CartPole-v1"), "human").names
    with pytest.raises(TypeError, match="task: expected a registered id"):
        reward_for(5, "human")  # type: ignore[arg-type]

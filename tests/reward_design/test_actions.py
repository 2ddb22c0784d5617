"""Discrete actions of a batch: those of the task, or refused with what came."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from guerdon.reward_design.actions import require_actions
from guerdon.reward_design.language import terms
from guerdon.reward_design.program import program
from guerdon.types import ActionSpec, Batch, Features, Spec
from tests.reward_design.toy import toy_task

THREE = ActionSpec("discrete", 3)
TASK = toy_task()
TEXT = "def reward(prev, action, now, params):\n    return {'a': now.x * action}\n"


@pytest.mark.parametrize(
    "action",
    [
        np.array([0, 1, 2]),
        np.array([[0, 1], [2, 0]], np.int32),
        np.array(2),
        np.array([1]),
        np.array([0.0, 2.0], np.float32),
        np.array([True, False]),
        np.zeros(0, np.int64),
        np.int64(1),
        torch.tensor([0, 2]),
    ],
)
def test_whole_numbers_from_zero_are_actions_however_they_are_written(action) -> None:
    require_actions(THREE, action)


@pytest.mark.parametrize(
    ("action", "words"),
    [
        (np.array([0, 3]), r"got 3 at \(1,\)"),
        (np.array([[0, 1], [-1, 0]]), r"got -1 at \(1, 0\)"),
        (np.array([0, -(2**63)]), r"got -9223372036854775808 at \(1,\)"),
        (np.array([99]), r"got 99 at \(0,\)"),
        (np.array(-1), "got -1$"),
        (np.array([0.7, 1.0]), r"got 0\.7 at \(0,\)"),
        (np.array([1.0, np.nan]), r"got nan at \(1,\)"),
        (np.array([np.inf]), r"got inf"),
        (np.array(["left"]), "got 'left'"),
        (torch.tensor([0, 5]), r"got 5 at \(1,\)"),
    ],
)
def test_any_other_action_is_refused_with_its_place(action, words: str) -> None:
    with pytest.raises(ValueError, match=f"0 to 2 .3 discrete actions., {words}"):
        require_actions(THREE, action)


def test_in_a_step_that_is_not_real_any_action_may_stand() -> None:
    padded, real = np.array([1, -1]), np.array([True, False])
    require_actions(THREE, padded, real)
    with pytest.raises(ValueError, match="got -1"):
        require_actions(THREE, padded, ~real)


def test_bounds_of_continuous_actions_are_the_environments_own() -> None:
    require_actions(ActionSpec("continuous", 1, (), (-1.0,), (1.0,)), np.array([[9.0]]))


@pytest.mark.parametrize("action", [99, -1, 0.7, np.nan])
def test_a_program_asked_about_a_batch_refuses_what_is_no_action(action) -> None:
    design = program(terms(TEXT, TASK.layout, TASK.action))
    rows = Features(TASK.layout, np.zeros((2, TASK.layout.width), np.float32))
    zero, never = np.zeros(2, np.float32), np.zeros(2, np.bool_)
    batch = Batch(None, np.array([0, action]), None, rows, rows, zero, never, never)
    with pytest.raises(ValueError, match=r"3 discrete actions.*at \(1,\)"):
        design.apply(design.init(Spec(TASK.layout, TASK.action, (2,))), batch)

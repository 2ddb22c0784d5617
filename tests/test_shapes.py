"""The shapes that the docstrings promise, checked by jaxtyping on real batches."""

from __future__ import annotations

import numpy as np
import pytest
from beartype import beartype
from jaxtyping import Bool, Float, Float32, TypeCheckError, jaxtyped

import guerdon
from guerdon.reward_design import borders
from guerdon.reward_design.reference import reward_for
from guerdon.types import Batch, Features, Spec
from tests.reward_design.traces import random_actions, record

TASK = guerdon.load_task("guerdon/DoorKey-5x5-v0")


@jaxtyped(typechecker=beartype)
def check_block(
    prev: Float32[np.ndarray, "T N W"],
    now: Float32[np.ndarray, "T N W"],
    terminated: Bool[np.ndarray, "T N"],
    starts: Bool[np.ndarray, "T N"],
    ended: Bool[np.ndarray, " N"],
    reward: Float32[np.ndarray, "T N"],
    terms: Float32[np.ndarray, "T N m"],
) -> None:
    """All axes of one name have one size."""


def block() -> Batch:
    return record(TASK, [TASK.make] * 3, random_actions(TASK, 12, 3))


def test_a_program_keeps_the_leading_axes_of_its_batch() -> None:
    batch = block()
    design = reward_for(TASK, "human")
    state = design.init(Spec(TASK.layout, TASK.action, (3,)))
    designed, _ = design.apply(state, batch)
    starts, ended = borders.starts(borders.first((3,)), batch)
    check_block(
        batch.prev.rows,
        batch.now.rows,
        batch.terminated,
        starts,
        ended,
        designed.reward,
        designed.terms,
    )


def test_the_check_itself_refuses_a_wrong_axis() -> None:
    batch = block()
    flat = batch.reward[0].astype(np.float32)
    with pytest.raises(TypeCheckError):
        check_block(
            batch.prev.rows,
            batch.now.rows,
            batch.terminated,
            batch.terminated,
            batch.terminated[0],
            flat,
            flat,
        )


@jaxtyped(typechecker=beartype)
def check_features(
    number: Float32[np.ndarray, "T N"],
    flag: Bool[np.ndarray, "T N"],
    vector: Float[np.ndarray, "T N 2"],
) -> None:
    """What ``Features`` gives by name."""


def test_features_come_back_in_their_declared_shapes() -> None:
    batch = block()
    now = Features(TASK.layout, batch.now.rows)
    check_features(now.distance_to_goal, now.carrying_key, now.facing)

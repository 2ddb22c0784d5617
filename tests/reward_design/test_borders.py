"""Where episodes begin, on hand-written flags, and against a loop."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from guerdon.reward_design.borders import first, namespace, starts
from guerdon.types import Batch


def flags(terminated, truncated=None, mask=None):
    empty = (None,) * 6
    truncated = terminated & False if truncated is None else truncated
    return Batch(*empty, terminated, truncated, {}, mask)


def test_the_first_row_and_the_rows_after_an_end_are_starts():
    terminated = np.array([0, 1, 0, 0, 0], bool)
    truncated = np.array([0, 0, 0, 1, 0], bool)
    found, ended = starts(first(()), flags(terminated, truncated))
    assert found.tolist() == [True, False, True, False, True]
    assert not ended


def test_a_reset_row_is_no_start_and_leaves_the_next_row_to_be_one():
    terminated = np.array([0, 1, 0, 0, 0], bool)
    mask = np.array([1, 1, 0, 1, 1], bool)
    found, _ = starts(first(()), flags(terminated, mask=mask))
    assert found.tolist() == [True, False, False, True, False]


def test_an_unreal_row_that_says_truncated_abandons_the_episode():
    truncated = np.array([0, 1, 0, 0], bool)
    mask = np.array([1, 0, 1, 1], bool)
    found, _ = starts(first(()), flags(truncated & False, truncated, mask))
    assert found.tolist() == [True, False, True, False]


def test_nothing_that_is_passed_in_changes():
    ended = np.array([True, False])
    batch = flags(np.array([True, False]), mask=np.array([False, True]))
    starts(ended, batch)
    assert ended.tolist() == [True, False]
    assert batch.terminated.tolist() == [True, False]


def test_an_empty_block_changes_nothing():
    found, ended = starts(np.array([True, False]), flags(np.zeros((0, 2), bool)))
    assert found.shape == (0, 2)
    assert ended.tolist() == [True, False]


def test_a_batch_that_is_neither_step_nor_block_is_refused():
    with pytest.raises(ValueError, match=r"expected a batch of shape \(2,\)"):
        starts(first((2,)), flags(np.zeros((4, 3), bool)))


def test_the_namespace_is_that_of_the_array():
    assert namespace(np.zeros(1)) is np
    assert namespace(np.float32(1)) is np
    assert namespace(torch.zeros(1)) is torch


@given(st.integers(0, 2**32 - 1), st.sampled_from([(), (3,)]), st.booleans())
def test_a_block_a_tensor_and_a_loop_over_the_law_agree(seed, lead, masked):
    rng = np.random.default_rng(seed)
    shape = (6, *lead)
    terminated, truncated = rng.random(shape) < 0.2, rng.random(shape) < 0.2
    mask = rng.random(shape) < 0.6 if masked else None
    real = np.ones(shape, bool) if mask is None else mask
    ended, expected = np.ones(lead, bool), []
    for time in range(6):
        expected.append(ended & real[time])
        ended = terminated[time] | truncated[time] | (ended & ~real[time])
    found, after = starts(first(lead), flags(terminated, truncated, mask))
    assert np.array_equal(found, np.stack(expected))
    assert np.array_equal(after, ended)
    tensors = [None if x is None else torch.as_tensor(x) for x in (truncated, mask)]
    in_torch, after = starts(first(lead), flags(torch.as_tensor(terminated), *tensors))
    assert np.array_equal(in_torch.numpy(), found)
    assert np.array_equal(after.numpy(), ended)
    state, by_step = first(lead), []
    for time in range(6):
        now = None if mask is None else mask[time]
        start, state = starts(state, flags(terminated[time], truncated[time], now))
        by_step.append(start)
    assert np.array_equal(np.stack(by_step), found)

"""Advantages and losses against numbers that were worked out by hand."""

import math

import numpy as np
import pytest
import torch
from torch import distributions

from guerdon.agents.losses import (
    advantages,
    log_prob_and_entropy,
    standardised,
    successors,
)


def column(*values: float) -> torch.Tensor:
    return torch.tensor(values)[:, None]


def flags(*values: int) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.bool)[:, None]


def test_only_the_end_of_the_task_has_no_future() -> None:
    values = column(1.0, 2.0, 3.0, 4.0, 5.0)
    finals = column(0.0, 20.0, 30.0, 0.0)
    terminated, truncated = flags(1, 0, 1, 0), flags(0, 1, 1, 0)
    following = successors(values, finals, terminated, truncated)
    assert following[:, 0].tolist() == [0.0, 20.0, 0.0, 5.0]


def test_advantages_follow_the_hand_trace() -> None:
    rewards = column(1.0, 2.0, 3.0, 4.0)
    values = column(10.0, 20.0, 30.0, 40.0)
    following = column(20.0, 100.0, 0.0, 50.0)  # step 1 truncated, step 2 terminated
    ended = flags(0, 1, 1, 0)
    ours = advantages(rewards, values, following, ended, decay=0.5, discount=0.9)
    third = 4.0 + 0.9 * 50.0 - 40.0
    second = 3.0 - 30.0
    first = 2.0 + 0.9 * 100.0 - 20.0
    zeroth = 1.0 + 0.9 * 20.0 - 10.0 + 0.45 * first
    np.testing.assert_allclose(ours[:, 0], [zeroth, first, second, third], rtol=1e-6)


def test_advantages_with_full_decay_are_discounted_sums() -> None:
    rewards, zeros = column(1.0, 1.0, 1.0), column(0.0, 0.0, 0.0)
    ours = advantages(rewards, zeros, zeros, flags(0, 0, 0), decay=1.0, discount=0.5)
    np.testing.assert_allclose(ours[:, 0], [1.75, 1.5, 1.0])


def test_log_probabilities_are_torchs() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 5, 4, generator=generator)
    choices = torch.randint(4, (2, 5), generator=generator)
    theirs = distributions.Categorical(logits=logits)
    ours, entropy = log_prob_and_entropy(logits, choices, None)
    torch.testing.assert_close(ours, theirs.log_prob(choices))
    torch.testing.assert_close(entropy, theirs.entropy())
    log_std = torch.randn(2, 1, 4, generator=generator)
    numbers = torch.randn(2, 5, 4, generator=generator)
    normal = distributions.Normal(logits, log_std.exp())
    ours, entropy = log_prob_and_entropy(logits, numbers, log_std)
    torch.testing.assert_close(ours, normal.log_prob(numbers).sum(-1))
    torch.testing.assert_close(entropy, normal.entropy().sum(-1))


def test_advantages_of_a_minibatch_have_mean_0_and_deviation_1() -> None:
    ours = standardised(torch.tensor([[1.0, 2.0, 3.0], [5.0, 5.0, 5.0]]))
    np.testing.assert_allclose(ours[0], [-1.0, 0.0, 1.0], rtol=1e-6)
    assert ours[1].tolist() == [0.0, 0.0, 0.0]
    assert standardised(torch.tensor([[7.0]])).tolist() == [[7.0]]


def test_a_constant_bonus_is_worth_the_same_whether_or_not_an_episode_ends() -> None:
    # A stream without episodes: 1 forever at discount 0.9 is worth 10.
    values, ones = torch.full((6, 1), 10.0), torch.ones(5, 1)
    never = torch.zeros(5, 1, dtype=torch.bool)
    ours = advantages(ones, values[:-1], values[1:], never, decay=0.95, discount=0.9)
    assert ours.abs().max() < 1e-5
    assert math.isclose(float((ours + values[:-1])[0, 0]), 10.0, rel_tol=1e-5)


@pytest.mark.parametrize("batch", [2, 64])
def test_equal_advantages_stay_finite(batch: int) -> None:
    assert torch.isfinite(standardised(torch.full((3, batch), 2.5))).all()

"""The exact solver against closed forms and plain value iteration."""

from __future__ import annotations

import numpy as np
import pytest

from guerdon.reward_design.mdp import MDP, evaluate, random_mdp, solve


def line(**changes):
    """State 0 -> 1 -> 2 (terminal); action 0 goes on for -1, action 1 stays for 0."""
    transition = np.zeros((3, 2, 3))
    transition[0, 0, 1] = transition[1, 0, 2] = transition[2, :, 2] = 1
    transition[0, 1, 0] = transition[1, 1, 1] = 1
    reward = np.zeros((3, 2))
    reward[0, 0], reward[1, 0], reward[2] = -1, 10, 99
    known = {"discount": 0.9, "terminal": np.array([False, False, True])}
    return MDP(transition, reward, **{**known, **changes})


def test_values_of_a_line_are_those_of_the_hand():
    solution = solve(line())
    np.testing.assert_allclose(solution.value, [-1 + 0.9 * 10, 10, 0])
    np.testing.assert_allclose(solution.action_value[0], [8, 0.9 * 8])
    assert solution.optimal()[:2].tolist() == [[True, False], [True, False]]


def test_a_policy_is_worth_what_it_earns():
    stay = np.array([1, 1, 1])
    assert evaluate(line(), stay).tolist() == [0, 0, 0]
    np.testing.assert_allclose(evaluate(line(), np.array([0, 0, 0])), [8, 10, 0])


def test_equal_actions_are_both_optimal():
    tied = MDP(line().transition, np.zeros((3, 2)), 0.9, line().ends)
    assert solve(tied).optimal().all()


@pytest.mark.parametrize("seed", range(5))
def test_policy_iteration_agrees_with_value_iteration(seed):
    mdp = random_mdp(np.random.default_rng(seed), 12, 3)
    value = np.zeros(12)
    for _ in range(600):
        q = (mdp.transition * (mdp.reward + 0.95 * value)).sum(-1)
        value = np.where(mdp.ends, 0, q.max(-1))
    np.testing.assert_allclose(solve(mdp).value, value, atol=1e-10)


def test_a_random_process_is_one_and_is_reproducible():
    first, second = (random_mdp(np.random.default_rng(3), 6, 2) for _ in range(2))
    assert np.array_equal(first.transition, second.transition)
    assert first.ends.tolist() == [False] * 5 + [True]
    np.testing.assert_allclose(first.start, [0.2] * 5 + [0])
    np.testing.assert_allclose(first.transition.sum(-1), 1)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"discount": 1.0}, r"discount in \[0, 1\), got 1.0"),
        ({"truncation": 2.0}, "truncation probability, got 2.0"),
        ({"terminal": np.ones(3, bool)}, "a state that is not terminal"),
        ({"initial": np.ones(3)}, "rows of initial that sum to 1"),
        ({"initial": np.ones(2) / 2}, r"initial \(3,\), got \(2,\)"),
    ],
)
def test_an_impossible_process_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        line(**changes)


def test_wrong_shapes_are_refused():
    with pytest.raises(ValueError, match=r"expected transition \(S, A, S\)"):
        MDP(np.ones((2, 2)), np.ones((2, 2)))
    with pytest.raises(ValueError, match="expected reward"):
        MDP(np.ones((1, 2, 1)), np.ones(2))
    with pytest.raises(ValueError, match="rows of transition that sum to 1"):
        MDP(np.ones((2, 1, 2)), np.ones((2, 1)))
    with pytest.raises(ValueError, match="finite rewards"):
        MDP(np.ones((1, 1, 1)), np.full((1, 1), np.nan))
    with pytest.raises(ValueError, match="finite rewards of shape"):
        solve(line(), np.zeros((3, 2)))
    with pytest.raises(ValueError, match="at least 2 states"):
        random_mdp(np.random.default_rng(0), 1, 1)

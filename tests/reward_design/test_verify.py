"""The laws of shaping on random processes, and counter-examples where they fail."""

from __future__ import annotations

import numpy as np
import pytest

from guerdon.reward_design.mdp import MDP, random_mdp
from guerdon.reward_design.program import (
    Transform,
    environment_reward,
    program,
    terms_from,
)
from guerdon.reward_design.shaping import chain, clip, potential, running_norm, scale
from guerdon.reward_design.verify import CounterExample, transitions, verify
from tests.reward_design.test_mdp import line


def phi(features):
    return features.phi


def forgets_the_potential_at_a_truncation():
    """What imitation and others do; see ``shaping.potential`` for the right one."""

    def apply(state, batch, r):
        going_on = ~(batch.terminated | batch.truncated)
        return r + state * going_on * phi(batch.now) - phi(batch.prev), state

    return Transform(lambda spec: spec.discount, apply, frozenset({"potential"}))


def changed(design, count, truncation, seed=0):
    """How many of ``count`` random processes get other optimal policies."""
    rng, found = np.random.default_rng(seed), 0
    for _ in range(count):
        mdp = random_mdp(rng, 12, 3, truncation=truncation)
        features = {"phi": 3 * rng.standard_normal(12)}
        found += not verify(design, mdp, features).holds
    return found


def test_a_potential_kept_at_truncations_changes_none_of_200_processes():
    assert changed(potential(phi), 200, truncation=1 / 50) == 0


def test_a_potential_forgotten_at_one_step_in_50_changes_many_of_200_processes():
    # 45 of 200 here, 39 to 50 with other seeds: potentials with a deviation of 3 on
    # values of that order, discount 0.95.
    assert 30 < changed(forgets_the_potential_at_a_truncation(), 200, 1 / 50) < 60


def test_without_truncations_forgetting_does_no_harm():
    assert changed(forgets_the_potential_at_a_truncation(), 20, truncation=0.0) == 0


def test_a_potential_that_ignores_terminal_states_changes_policies():
    def apply(state, batch, r):
        return r + state * phi(batch.now) - phi(batch.prev), state

    ignores = Transform(lambda spec: spec.discount, apply, frozenset({"potential"}))
    assert changed(ignores, 20, truncation=0.0) > 0


def test_a_potential_with_another_discount_changes_policies():
    assert changed(potential(phi, 0.5), 20, truncation=0.0) > 0


def test_a_clip_after_a_potential_is_caught_with_a_counter_example():
    mdp = random_mdp(np.random.default_rng(0), 12, 3)
    features = {"phi": 3 * np.random.default_rng(1).standard_normal(12)}
    verdict = verify(chain(potential(phi), clip(-0.5, 0.5)), mdp, features)
    assert not verdict.holds
    example = verdict.counter_example
    assert set(example.before) != set(example.after)
    assert example.value_lost > 0
    assert f"in state {example.state} the optimal actions" in str(verdict)


def test_a_counter_example_says_what_a_detour_costs():
    # Paying 3 for every stay makes staying optimal where going on is worth 8.
    stay = terms_from(lambda batch: {"stay": 3.0 * (batch.action == 1)}, "stay")
    verdict = verify(program([environment_reward(), stay]), line())
    assert verdict.counter_example == CounterExample(1, (0,), (1,), 10.0)
    assert verdict.holds  # a program that claims nothing breaks no claim
    assert not verdict.preserves


def test_a_bonus_for_progress_that_is_a_potential_is_accepted():
    def closer(batch):
        going_on = ~batch.terminated
        return {"closer": 0.9 * going_on * batch.now.state - batch.prev.state}

    progress = program([environment_reward(), terms_from(closer, "closer")])
    assert verify(progress, line()).preserves
    assert str(verify(progress, line())) == (
        "claims nothing; optimal policies are kept"
    )


def test_scaling_keeps_policies_and_turning_round_does_not():
    mdp = random_mdp(np.random.default_rng(0), 8, 3)
    assert verify(scale(0.01), mdp).preserves
    assert not verify(scale(-1), mdp).preserves


def test_monotone_claims_are_checked():
    mdp = random_mdp(np.random.default_rng(0), 8, 3)
    assert verify(clip(-1, 1), mdp).holds
    assert not verify(scale(-1), mdp).monotone
    liar = scale(-1)._replace(tags=frozenset({"monotone"}))
    verdict = verify(liar, mdp)
    assert not verdict.holds
    assert "a better reward became a worse one" in str(verdict)


def test_equal_rewards_may_be_told_apart_by_a_monotone_design():
    mdp = MDP(line().transition, np.zeros((3, 2)), 0.9, line().ends)
    told_apart = Transform(
        lambda spec: None,
        lambda state, batch, r: (r + batch.action, state),
        frozenset({"monotone"}),
    )
    assert verify(told_apart, mdp).holds


def test_losing_one_of_two_equal_actions_is_a_change_that_costs_nothing():
    mdp = MDP(line().transition, np.zeros((3, 2)), 0.9, line().ends)
    prefers = terms_from(lambda batch: {"one": 1.0 * (batch.action == 1)}, "one")
    verdict = verify(program(prefers), mdp)
    assert verdict.counter_example == CounterExample(0, (0, 1), (1,), 0.0)


def test_a_design_with_memory_is_scored_from_its_first_step():
    mdp = random_mdp(np.random.default_rng(0), 8, 3)
    assert verify(running_norm(clip=None), mdp).preserves


def test_a_reward_that_is_not_finite_fails_whatever_it_claims():
    lost = terms_from(lambda batch: {"nan": batch.reward * np.nan}, "nan")
    verdict = verify(program(lost), line())
    assert not verdict.holds
    assert "not finite" in str(verdict)


def test_transitions_carry_their_probability_and_flags():
    mdp = line(truncation=0.25)
    batch, (state, action, after), weight = transitions(mdp, {})
    rows = list(
        zip(
            state.tolist(),
            action.tolist(),
            after.tolist(),
            batch.terminated.tolist(),
            batch.truncated.tolist(),
            weight.tolist(),
            strict=True,
        )
    )
    assert (1, 0, 2, True, False, 1.0) in rows
    assert (0, 0, 1, False, False, 0.75) in rows
    assert (0, 0, 1, False, True, 0.25) in rows
    assert len(rows) == 7
    assert batch.prev.state.tolist() == state.tolist()
    assert batch.now.state.tolist() == after.tolist()


def test_features_of_another_length_are_refused():
    with pytest.raises(ValueError, match=r"feature 'phi': expected shape \(3,\)"):
        verify(potential(phi), line(), {"phi": np.zeros(2)})

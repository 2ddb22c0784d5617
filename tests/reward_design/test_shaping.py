"""Every transform against a trace computed by hand, and block against step."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest
import torch

from guerdon.reward_design.checker import check_program
from guerdon.reward_design.program import (
    Transform,
    environment_reward,
    merge,
    program,
    terms_from,
)
from guerdon.reward_design.shaping import (
    chain,
    clip,
    named,
    potential,
    running_norm,
    scalarize,
    scale,
    schedule,
)
from guerdon.types import Features
from tests.reward_design.test_program import TASK, block, pay
from tests.reward_design.toy import LAYOUT
from tests.reward_design.traces import at, spec_of


def apply(transform, batch, lead=None):
    lead = batch.reward.shape[1:] if lead is None else lead
    state = transform.init(spec_of(TASK, lead))
    return transform.apply(state, batch, batch.reward)


def x_of(features):
    return features.x


def random_block(seed, steps=7, lanes=3):
    rng = np.random.default_rng(seed)
    shape = (steps, lanes)
    batch = block(rng.standard_normal(shape), rng.random(shape) < 0.8)
    return batch._replace(
        terminated=(rng.random(shape) < 0.2) & batch.mask,
        truncated=(rng.random(shape) < 0.2) & batch.mask,
    )


EVERY = {
    "clip": clip(-0.5, 0.5),
    "scale": scale(-3.0),
    "scalarize": scalarize([0.5]),
    "potential": potential(x_of),
    "running_norm": running_norm(),
    "schedule": schedule((1.0, 0.0, 15)),
    "chain": chain(potential(x_of), running_norm(0.9, clip=2.0), scale(0.1)),
    "named": named(norm=running_norm(), fade=schedule(lambda n: 1 / (1 + n))),
}


@pytest.mark.parametrize("name", EVERY)
def test_every_transform_passes_the_conformance_kit(name):
    for seed in range(5):
        design = program(environment_reward(), EVERY[name])
        check_program(design, spec_of(TASK, (3,)), random_block(seed))


@pytest.mark.parametrize("name", EVERY)
def test_torch_agrees_with_numpy(name):
    batch = random_block(0)
    t = torch.as_tensor
    tensors = batch._replace(
        prev=Features(LAYOUT, t(batch.prev.rows)),
        now=Features(LAYOUT, t(batch.now.rows)),
        reward=t(batch.reward),
        terminated=t(batch.terminated),
        truncated=t(batch.truncated),
        mask=t(batch.mask),
    )
    design = program(environment_reward(), EVERY[name])
    expected, found = pay(design, batch), pay(design, tensors)
    np.testing.assert_allclose(found.reward.numpy(), expected.reward, rtol=1e-6)
    check_program(design, spec_of(TASK, (3,)), tensors)


def test_clip_bounds_every_number():
    r, _ = apply(clip(-1, 2), block([[-3.0, 0.5, 9.0]]))
    assert r.tolist() == [[-1.0, 0.5, 2.0]]
    with pytest.raises(ValueError, match=r"expected low < high, got \[2, 2\]"):
        clip(2, 2)


def test_scale_multiplies():
    r, _ = apply(scale(-2), block([[1.5, -1.0]]))
    assert r.tolist() == [[-3.0, 2.0]]
    assert "monotone" in scale(2).tags
    assert "monotone" not in scale(-2).tags
    with pytest.raises(ValueError, match="finite factor"):
        scale(float("nan"))


def two_terms():
    double = terms_from(lambda batch: {"double": 2 * batch.reward}, "double")
    return merge(environment_reward(), double)


def test_scalarize_weighs_by_place_or_by_name_or_not_at_all():
    batch = block([[1.0]])
    for weights, expected in [
        (None, 3.0),
        ([10, 0.5], 11.0),
        ({"double": 10, "task": 0.5}, 20.5),
    ]:
        design = program(two_terms(), scalarize(weights))
        assert pay(design, batch).reward.tolist() == [[expected]]


def test_weights_that_do_not_match_the_terms_are_refused():
    spec = spec_of(TASK, (1,))
    with pytest.raises(ValueError, match="expected 2 weights for the terms"):
        program(two_terms(), scalarize([1.0])).init(spec)
    with pytest.raises(ValueError, match=r"expected one weight for each .*'doubel'"):
        program(two_terms(), scalarize({"task": 1, "doubel": 1})).init(spec)
    with pytest.raises(ValueError, match="finite weights"):
        scalarize([float("inf")])
    with pytest.raises(ValueError, match="expected 2 terms in the last axis"):
        program(two_terms(), chain(scalarize(), scalarize([1, 2]))).apply(
            program(two_terms(), chain(scalarize(), scalarize([1, 2]))).init(spec),
            block([[1.0]]),
        )


def test_a_potential_counts_nothing_at_a_terminal_state_and_all_at_a_truncation():
    # x goes 0 -> 1, 1 -> 2, 2 -> 3; the reward is 10 everywhere.
    batch = block([[10.0], [10.0], [10.0]])._replace(
        terminated=np.array([[False], [False], [True]]),
        truncated=np.array([[False], [True], [False]]),
    )
    r, _ = apply(potential(x_of, 0.5), batch)
    assert r.ravel().tolist() == [10 + 0.5 * 1 - 0, 10 + 0.5 * 2 - 1, 10 + 0 - 2]


def test_a_potential_takes_the_discount_of_the_spec():
    r, _ = apply(potential(x_of), block([[0.0], [0.0]]))
    np.testing.assert_allclose(r.ravel(), [0.99, 2 * 0.99 - 1], rtol=1e-6)


def test_discounted_shaping_telescopes_to_minus_the_first_potential():
    rng = np.random.default_rng(0)
    batch = block(np.zeros((20, 1)))
    batch.prev.rows[..., 0] = rng.standard_normal((20, 1))
    batch.now.rows[:-1, :, 0] = batch.prev.rows[1:, :, 0]
    ends = np.arange(20)[:, None] == 19
    r, _ = apply(potential(x_of, 0.9), batch._replace(terminated=ends))
    summed = (0.9 ** np.arange(20) * r[:, 0].astype(float)).sum()
    np.testing.assert_allclose(summed, -batch.prev.rows[0, 0, 0], atol=1e-6)


def test_an_infinite_potential_of_a_terminal_state_does_no_harm():
    def phi(features):
        return np.where(features.x >= 1, np.float32(np.inf), np.float32(0))

    ends = np.array([[True]])
    r, _ = apply(potential(phi, 0.5), block([[1.0]])._replace(terminated=ends))
    assert r.tolist() == [[1.0]]


def test_a_potential_of_a_wrong_shape_or_discount_is_refused():
    with pytest.raises(ValueError, match=r"expected phi to give shape \(1, 1\)"):
        apply(potential(lambda features: features.pair), block([[1.0]]))
    with pytest.raises(ValueError, match=r"discount in \[0, 1\], got 1.5"):
        potential(x_of, 1.5)


def by_hand(rewards, done, discount, epsilon, bound):
    """The same statistics from all returns at once, with NumPy's own variance."""
    seen, paid, held = [], [], np.zeros(rewards.shape[1])
    for r_t, done_t in zip(rewards.astype(float), done, strict=True):
        held = discount * held + r_t
        seen.append(held.copy())
        n, prior = np.concatenate(seen), 1e-4
        mean = n.sum() / (len(n) + prior)
        squares = ((n - mean) ** 2).sum() + prior * (1 + mean**2)
        deviation = np.sqrt(squares / (len(n) + prior) + epsilon)
        paid.append(np.clip(r_t / deviation, -bound, bound))
        held = np.where(done_t, 0.0, held)
    return np.array(paid)


def test_running_norm_divides_by_the_deviation_of_all_returns_so_far():
    batch = random_block(3)._replace(mask=None)
    r, _ = apply(running_norm(0.9, 1e-8, 1.5), batch)
    done = batch.terminated | batch.truncated
    expected = by_hand(batch.reward, done, 0.9, 1e-8, 1.5)
    np.testing.assert_allclose(r, expected, rtol=1e-6)


def test_running_norm_is_what_vecnormalize_does():
    from stable_baselines3.common.running_mean_std import RunningMeanStd

    batch = random_block(4, steps=30)._replace(mask=None)
    statistics, held, expected = RunningMeanStd(shape=()), np.zeros(3), []
    for time in range(30):
        held = held * 0.99 + batch.reward[time]
        statistics.update(held)
        scaled = batch.reward[time] / np.sqrt(statistics.var + 1e-8)
        expected.append(np.clip(scaled, -10, 10))
        held[batch.terminated[time] | batch.truncated[time]] = 0
    r, _ = apply(running_norm(), batch)
    np.testing.assert_allclose(r, np.array(expected), rtol=1e-5)


def test_running_norm_agrees_with_gymnasium_within_an_episode():
    rewards = np.random.default_rng(0).standard_normal(25)

    class Line(gym.Env):
        observation_space = gym.spaces.Box(-1, 1, (1,))
        action_space = gym.spaces.Discrete(2)
        time = -1

        def reset(self, *, seed=None, options=None):
            return np.zeros(1, np.float32), {}

        def step(self, action):
            self.time += 1
            return np.zeros(1, np.float32), rewards[self.time], False, False, {}

    env = gym.wrappers.NormalizeReward(Line(), gamma=0.9)
    env.reset()
    expected = [env.step(0)[1] for _ in range(25)]
    r, _ = apply(running_norm(0.9, clip=None), block(rewards[:, None]))
    np.testing.assert_allclose(r[:, 0], expected, rtol=1e-5)


def test_running_norm_forgets_the_return_at_a_truncation_too():
    batch = block([[1.0], [1.0]])
    for flag in ("terminated", "truncated"):
        ended = batch._replace(**{flag: np.array([[True], [False]])})
        _, state = apply(running_norm(1.0), ended)
        assert state["return"].tolist() == [1.0]
    _, state = apply(running_norm(1.0), batch)
    assert state["return"].tolist() == [2.0]


@pytest.mark.parametrize(
    "bad", [{"discount": -0.1}, {"epsilon": 0.0}, {"clip": 0.0}], ids=str
)
def test_running_norm_refuses_impossible_numbers(bad):
    with pytest.raises(ValueError, match="running_norm: expected"):
        running_norm(**bad)


def test_a_schedule_counts_the_real_steps_of_all_environments():
    mask = np.array([[True, True], [True, False], [True, True]])
    r, state = apply(schedule((1.0, 0.0, 4)), block(np.ones((3, 2)), mask))
    assert r[0].tolist() == [1.0, 1.0]
    assert r[1, 0] == 0.5  # two of four steps were seen
    assert r[2].tolist() == [0.25, 0.25]  # three: the row that is not real is not one
    assert state["steps"] == 5


def test_a_schedule_stays_at_its_end_and_takes_any_function():
    r, _ = apply(schedule((0.0, 2.0, 2)), block(np.ones((4, 1))))
    assert r.ravel().tolist() == [0.0, 1.0, 2.0, 2.0]
    r, _ = apply(schedule(lambda step: 1.0 / (1 + step)), block(np.ones((2, 1))))
    assert r.ravel().tolist() == [1.0, 0.5]


def test_a_schedule_of_no_steps_or_of_a_wrong_shape_is_refused():
    with pytest.raises(ValueError, match="steps >= 1"):
        schedule((1.0, 0.0, 0))
    with pytest.raises(ValueError, match=r"function to give shape \(1,\)"):
        apply(schedule(lambda step: 1.0), block([[1.0]]))


def test_named_keeps_its_states_by_name_and_equals_the_chain():
    batch = random_block(1)
    parts = {"norm": running_norm(), "cut": clip(-1, 1)}
    r, state = apply(named(**parts), batch)
    expected, _ = apply(chain(*parts.values()), batch)
    assert set(state) == {"norm", "cut"}
    assert np.array_equal(r, expected)


def test_what_is_not_a_transform_is_not_chained():
    with pytest.raises(TypeError, match="part 1 should be a Transform, got int"):
        chain(clip(-1, 1), 3)
    with pytest.raises(TypeError, match="part cut should be a Transform"):
        named(cut=None)


def test_a_chain_is_monotone_only_if_all_its_parts_are():
    assert chain(clip(-1, 1), scale(2)).tags == {"monotone"}
    assert chain(clip(-1, 1), potential(x_of)).tags == {"potential"}


def test_the_kit_finds_a_transform_that_writes_to_its_input():
    def apply(state, batch, r):
        r *= 2
        batch.reward[...] = 0
        return r, state

    with pytest.raises(AssertionError, match="changed its inputs"):
        check_program(
            Transform(lambda spec: None, apply), spec_of(TASK, (3,)), random_block(0)
        )


def test_the_kit_finds_a_transform_that_cares_how_the_batch_is_cut():
    centred = Transform(lambda spec: None, lambda s, b, r: (r - r.mean(), s))
    with pytest.raises(AssertionError, match="two halves: reward differs"):
        check_program(centred, spec_of(TASK, (3,)), random_block(0))


def test_the_kit_finds_a_transform_that_looks_at_other_environments():
    others = Transform(
        lambda spec: None, lambda s, b, r: (r - r.max(-1, keepdims=True), s)
    )
    batch = random_block(0)._replace(mask=None)
    with pytest.raises(AssertionError, match="environment 0 alone"):
        check_program(others, spec_of(TASK, (3,)), batch)


def test_the_kit_finds_a_state_that_reset_rows_poison():
    def apply(state, batch, r):
        after = state + batch.now.x.reshape(-1, 3).sum(0)
        return r + np.isnan(state), after

    remembers = Transform(lambda spec: np.zeros(spec.lead), apply)
    batch = random_block(0)._replace(mask=None)
    with pytest.raises(AssertionError, match="the step after padding"):
        check_program(remembers, spec_of(TASK, (3,)), batch)


def test_the_kit_wants_a_block():
    with pytest.raises(ValueError, match="with T >= 2"):
        check_program(clip(-1, 1), spec_of(TASK, (3,)), at(random_block(0), 0))

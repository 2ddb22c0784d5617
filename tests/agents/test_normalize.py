"""Running scales against SB3's ``VecNormalize``."""

from typing import Any

import gymnasium as gym
import numpy as np
import torch
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

from guerdon.agents.normalize import ObservationScale, RewardScale, restart, select

STEPS, ROWS, ENVS = 12, 2, 3
RNG = np.random.default_rng(0)
REWARDS = RNG.normal(3.0, 5.0, (STEPS, ROWS, ENVS)).astype(np.float32)
ENDED = RNG.random((STEPS, ROWS, ENVS)) < 0.25
SEEN = RNG.normal(50.0, [1.0, 30.0], (STEPS + 1, ROWS, ENVS, 2)).astype(np.float32)
CPU = torch.device("cpu")


class Scripted(gym.Env[Any, Any]):
    """Says what the tables say."""

    observation_space = gym.spaces.Box(-np.inf, np.inf, (2,), np.float32)
    action_space = gym.spaces.Discrete(2)

    def __init__(self, row: int, env: int) -> None:
        self.place, self.t = (row, env), 0

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        return SEEN[self.t][self.place], {}

    def step(self, action: Any) -> Any:
        t, self.t = self.t, self.t + 1
        over = bool(ENDED[t][self.place])
        reward = float(REWARDS[t][self.place])
        return SEEN[self.t][self.place], reward, over, False, {}


def theirs(row: int) -> tuple[np.ndarray, np.ndarray, VecNormalize]:
    envs = [lambda env=env: Scripted(row, env) for env in range(ENVS)]
    venv = VecNormalize(DummyVecEnv(envs), gamma=0.9)
    seen, rewards = [venv.reset()], []
    for _ in range(STEPS):
        obs, reward, _, _ = venv.step(np.zeros(ENVS, np.int64))
        seen.append(obs)
        rewards.append(reward)
    return np.stack(seen), np.stack(rewards), venv


def test_rewards_are_scaled_as_vec_normalize_does_whatever_the_blocks() -> None:
    scale = RewardScale(ROWS, ENVS, 0.9, CPU)
    rewards, ended = torch.from_numpy(REWARDS), torch.from_numpy(ENDED)
    blocks = [slice(0, 5), slice(5, 6), slice(6, STEPS)]
    ours = torch.cat([scale(rewards[block], ended[block]) for block in blocks])
    for row in range(ROWS):
        _, expected, venv = theirs(row)
        np.testing.assert_allclose(ours[:, row], expected, rtol=1e-5)
        np.testing.assert_allclose(scale.state["var"][row], venv.ret_rms.var)
        np.testing.assert_allclose(scale.state["mean"][row], venv.ret_rms.mean)


def test_observations_are_scaled_as_vec_normalize_does() -> None:
    scale = ObservationScale(ROWS, (2,), CPU)
    ours = []
    for seen in torch.from_numpy(SEEN):
        scale.update(seen)
        ours.append(scale(seen))
    for row in range(ROWS):
        expected, _, venv = theirs(row)
        result = torch.stack(ours)[:, row]
        np.testing.assert_allclose(result, expected, rtol=2e-5, atol=1e-6)
        np.testing.assert_allclose(scale.state["mean"][row], venv.obs_rms.mean)
        lanes = scale.of_lanes(torch.from_numpy(SEEN[-1, row]), np.full(ENVS, row))
        np.testing.assert_allclose(lanes, result[-1])


def test_a_row_that_begins_anew_has_seen_nothing_and_the_others_all() -> None:
    seen = torch.from_numpy(SEEN)
    both, one = ObservationScale(ROWS, (2,), CPU), ObservationScale(1, (2,), CPU)
    for obs in seen:
        both.update(obs)
    before = both.state["mean"][0].clone()
    restart(both.state, 1)
    both.update(seen[0, 1:], slice(1, 2))
    one.update(seen[0, 1:])
    for name, values in one.state.items():
        torch.testing.assert_close(both.state[name][1], values[0])
    assert torch.equal(both.state["mean"][0], before)
    select(both.state, [1])
    assert all(len(values) == 1 for values in both.state.values())


def test_large_means_cost_no_digits() -> None:
    scale = RewardScale(1, ENVS, 0.0, CPU)
    rewards = torch.from_numpy(REWARDS[:, :1]).double() + 1e6
    for start in range(0, STEPS, 3):
        block = rewards[start : start + 3]
        scale(block, torch.zeros_like(block, dtype=torch.bool))
    count = STEPS * ENVS
    exact = rewards.var(correction=0).item()
    # What is left of the first variance of 1 around 0 is a known share.
    share = 1e-4 / (count + 1e-4)
    known = (
        exact * (1 - share) + share + share * (1 - share) * rewards.mean().item() ** 2
    )
    np.testing.assert_allclose(scale.state["var"][0].item(), known, rtol=1e-6)

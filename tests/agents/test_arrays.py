"""Gymnasium environments as arrays, against the environments themselves."""

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode, SyncVectorEnv

import guerdon
from guerdon.agents.arrays import (
    Lanes,
    Masked,
    VectorArrays,
    empty_arrays,
    shrunk,
)
from guerdon.agents.environments import make_env
from tests.agents.countdown_task import make_task
from tests.agents.toy_arrays import Guarded, Toy

SEEDS = np.array([5, 6, 7])


@pytest.mark.parametrize("name", ["CartPole-v1", "Pendulum-v1", "DoorKey-5x5-v0"])
def test_lanes_are_the_environments_one_by_one(name: str) -> None:
    task = guerdon.load_task(f"guerdon/{name}")
    vector = VectorArrays(task, 3)
    arrays = vector.reset(SEEDS)
    envs = [make_env(task) for _ in SEEDS]
    rng = np.random.default_rng(0)
    obs = []
    for env, seed in zip(envs, SEEDS, strict=True):
        first, info = env.reset(seed=int(seed))
        obs.append(first)
        np.testing.assert_array_equal(arrays.first[len(obs) - 1], info["features"])
    np.testing.assert_array_equal(arrays.obs, np.array(obs, arrays.obs.dtype))
    ends = 0
    out = empty_arrays(vector)
    for _ in range(260):
        if task.action.kind == "discrete":
            actions = rng.integers(task.action.size, size=3)
        else:
            actions = rng.uniform(-1, 1, (3, task.action.size)).astype(np.float32)
        assert vector.step(actions, out) is out
        for i, env in enumerate(envs):
            seen, reward, terminated, truncated, info = env.step(actions[i])
            np.testing.assert_array_equal(out.features[i], info["features"])
            assert out.reward[i] == np.float32(reward)
            assert (out.terminated[i], out.truncated[i]) == (terminated, truncated)
            if terminated or truncated:
                ends += 1
                np.testing.assert_array_equal(out.final_obs[i], seen)
                assert out.fitness[i] == np.float32(info["fitness"])
                assert out.success[i] == info["success"]
                seen, info = env.reset()
            np.testing.assert_array_equal(out.first[i], info["features"])
            np.testing.assert_array_equal(out.obs[i], seen.astype(out.obs.dtype))
    assert ends >= 3
    for env in (vector, *envs):
        env.close()


def test_some_lanes_begin_anew_and_the_others_go_on() -> None:
    vector = VectorArrays(make_task(), 3)
    start = vector.reset(SEEDS).obs.copy()
    vector.step(np.ones(3, np.int64))
    arrays = vector.reset(np.array([0, 6, 0]), np.array([False, True, False]))
    assert arrays.obs[1] == start[1]
    assert arrays.first[1] == start[1]
    after = vector.step(np.ones(3, np.int64))
    assert after.obs[:, 0].tolist() == [start[0] - 2, start[1] - 1, start[2] - 2]


@pytest.mark.parametrize("idle", [False, True])
def test_selected_lanes_go_on_where_they_were(idle: bool) -> None:
    vector = VectorArrays(make_task(), 3)
    start = vector.reset(SEEDS).obs.copy()
    vector.step(np.ones(3, np.int64))
    lanes = np.array([2, 0])
    fewer = Lanes(vector, lanes) if idle else shrunk(vector, lanes)
    assert isinstance(fewer, VectorArrays) != idle
    assert fewer.num_envs == 2
    after = fewer.step(np.array([1, 0]))
    assert after.obs[:, 0].tolist() == [start[2] - 2, start[0] - 1]
    one = shrunk(fewer, np.array([1]))
    assert one.step(np.ones(1, np.int64)).obs[0, 0] == start[0] - 2
    again = one.reset(np.array([7]))
    assert again.obs[0] == start[2]
    one.close()


def test_an_env_that_cannot_shrink_lets_lanes_stand_idle() -> None:
    toy, other = Toy(3), Toy(3)
    fewer = shrunk(toy, np.array([1]))
    assert isinstance(fewer, Lanes)
    ours = fewer.reset(np.array([6])).obs.copy()
    theirs = other.reset(SEEDS).obs[1:2].copy()
    np.testing.assert_array_equal(ours, theirs)
    out = empty_arrays(fewer)
    fewer.step(np.array([2]), out)
    theirs = other.step(np.array([0, 2, 0]))
    for mine, whole in zip(out, theirs, strict=True):
        np.testing.assert_array_equal(mine, whole[1:2])


def test_another_autoreset_or_size_is_refused() -> None:
    task = make_task()
    makers = [lambda: make_env(task)] * 2
    with pytest.raises(ValueError, match="expected autoreset_mode SAME_STEP"):
        VectorArrays(task, 2, vector=SyncVectorEnv(makers))
    same = SyncVectorEnv(makers, autoreset_mode=AutoresetMode.SAME_STEP)
    with pytest.raises(ValueError, match="expected 3 environments, got 2"):
        VectorArrays(task, 3, vector=same)
    with pytest.raises(ValueError, match="num_envs: expected at least 1"):
        VectorArrays(task, 0)
    taxi = gym.make_vec(
        "CliffWalking-v1",
        2,
        vectorization_mode="sync",
        vector_kwargs={"autoreset_mode": AutoresetMode.SAME_STEP},
    )
    with pytest.raises(ValueError, match="expected a Box to observe"):
        VectorArrays(task, 2, vector=taxi)


def test_idle_lanes_keep_the_masks_of_those_that_are_shown() -> None:
    whole = Guarded(6)
    whole.reset(np.arange(6))
    fewer = shrunk(whole, np.array([4, 1, 3]))
    assert isinstance(fewer, Masked)
    np.testing.assert_array_equal(fewer.action_masks(), whole.action_masks()[[4, 1, 3]])
    fewer.step(np.array([0, 1, 2]))
    fewest = shrunk(fewer, np.array([2, 0]))
    assert isinstance(fewest, Masked)
    np.testing.assert_array_equal(fewest.action_masks(), whole.action_masks()[[3, 4]])
    assert not isinstance(shrunk(Toy(2), np.array([0])), Masked)

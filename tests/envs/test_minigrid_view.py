from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from grid_walk import ONE_OF_A_KIND

from guerdon.envs.minigrid_view import use_fast_view, visible_image
from guerdon.envs.task import Task

BEYOND = [
    "MiniGrid-BlockedUnlockPickup-v0",
    "MiniGrid-ObstructedMaze-2Dlhb-v1",
    "MiniGrid-Dynamic-Obstacles-6x6-v0",
    "MiniGrid-PutNear-6x6-N2-v0",
    "MiniGrid-LavaGapS5-v0",
]


def play(env: gym.Env[Any, Any], fast: bool, steps: int = 250) -> list[Any]:
    if fast:
        assert use_fast_view(env)
    rng = np.random.default_rng(0)
    seen = [env.reset(seed=0)[0]]
    for _ in range(steps):
        # Walking and using the hands more often than turning sees more of a level.
        action = int(rng.choice(7, p=[0.15, 0.15, 0.4, 0.1, 0.05, 0.14, 0.01]))
        obs, reward, terminated, truncated, _ = env.step(action)
        seen += [obs, reward, terminated, truncated]
        if terminated or truncated:
            seen.append(env.reset()[0])
    env.close()
    return seen


@pytest.mark.parametrize("task", ONE_OF_A_KIND, ids=lambda task: task.id)
def test_the_fast_view_shows_the_same_bytes_in_every_task(task: Task) -> None:
    for slow, fast in zip(
        play(task.make(engine="minigrid"), False),
        play(task.make(engine="minigrid"), True),
        strict=True,
    ):
        np.testing.assert_array_equal(slow, fast)


@pytest.mark.parametrize("name", BEYOND)
def test_levels_that_are_no_task_of_ours_look_the_same_too(name: str) -> None:
    slow, fast = (
        play(gym.make(name, disable_env_checker=True), mode) for mode in (False, True)
    )
    for a, b in zip(slow, fast, strict=True):
        if isinstance(a, dict):
            assert set(a) == set(b)
            assert (a["direction"], a["mission"]) == (b["direction"], b["mission"])
            a, b = a["image"], b["image"]
            assert b.dtype == np.uint8
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("size", [3, 5, 9])
def test_other_sizes_of_the_view_agree(size: int) -> None:
    env = gym.make(
        "MiniGrid-DoorKey-8x8-v0", agent_view_size=size, disable_env_checker=True
    )
    env.reset(seed=0)
    rng = np.random.default_rng(size)
    for _ in range(100):
        obs, *_ = env.step(int(rng.integers(6)))
        np.testing.assert_array_equal(visible_image(env.unwrapped), obs["image"])
    env.close()


def test_an_environment_that_is_no_minigrid_is_left_alone() -> None:
    env = gym.make("CartPole-v1")
    assert not use_fast_view(env)
    env.close()

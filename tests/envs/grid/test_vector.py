from __future__ import annotations

import copy
import pickle
from typing import Any

import gymnasium as gym
import minigrid
import numpy as np
import pytest
from gymnasium.error import ResetNeeded
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from our_numbers import OurNumbers, reset_on

from guerdon.envs.grid.levels import LEVELS
from guerdon.envs.grid.vector import GridEnv, GridVectorEnv
from guerdon.envs.table import load_task

assert minigrid  # registers its environments

MODES = [AutoresetMode.SAME_STEP, AutoresetMode.NEXT_STEP]


def assert_same(one: Any, other: Any, where: str = "") -> None:
    """Equal in type, dtype and value, all the way down."""
    assert type(one) is type(other), where
    if isinstance(one, dict):
        assert sorted(one) == sorted(other), where
        for key in one:
            assert_same(one[key], other[key], f"{where}/{key}")
    elif isinstance(one, np.ndarray):
        assert one.dtype == other.dtype, where
        assert one.shape == other.shape, where
        if one.dtype == object:
            for a, b in zip(one, other, strict=True):
                assert_same(a, b, where)
        else:
            np.testing.assert_array_equal(one, other, where)
    else:
        assert one == other, where


def pair(mode: AutoresetMode, level: str = "DoorKey-5x5") -> tuple[Any, Any]:
    ours = GridVectorEnv(level, 5, autoreset_mode=mode)
    theirs = SyncVectorEnv([lambda: GridEnv(level)] * 5, autoreset_mode=mode)
    return ours, theirs


@pytest.mark.parametrize("mode", MODES)
def test_the_vector_gives_what_a_sync_vector_of_single_environments_gives(
    mode: AutoresetMode,
) -> None:
    ours, theirs = pair(mode)
    assert ours.single_observation_space == theirs.single_observation_space
    assert ours.observation_space == theirs.observation_space
    assert ours.action_space == theirs.action_space
    assert ours.metadata["autoreset_mode"] is mode
    for one, other in zip(ours.reset(seed=3), theirs.reset(seed=3), strict=True):
        assert_same(one, other)
    rng = np.random.default_rng(0)
    ends = 0
    for _ in range(400):
        actions = rng.choice([0, 1, 2, 2, 2, 3, 5], 5)
        results = ours.step(actions), theirs.step(actions)
        for one, other in zip(*results, strict=True):
            assert_same(one, other)
        ends += int((results[0][2] | results[0][3]).sum())
    assert ends > 5
    for one, other in zip(ours.reset(), theirs.reset(), strict=True):
        assert_same(one, other)
    ours.close()
    theirs.close()


def test_the_vector_without_autoreset_resets_by_a_mask() -> None:
    ours, theirs = pair(AutoresetMode.DISABLED, "Empty-Random-5x5")
    ours.reset(seed=3)
    theirs.reset(seed=3)
    rng = np.random.default_rng(0)
    ends = 0
    for _ in range(300):
        actions = rng.choice([0, 1, 2, 2, 2], 5)
        results = ours.step(actions), theirs.step(actions)
        for one, other in zip(*results, strict=True):
            assert_same(one, other)
        over = results[0][2] | results[0][3]
        if over.any():
            ends += 1
            begun = [env.reset(options={"reset_mask": over}) for env in (ours, theirs)]
            for one, other in zip(*begun, strict=True):
                assert_same(one, other)
    assert ends > 5


def test_seeds_of_lanes_are_counted_up_or_listed() -> None:
    env = GridVectorEnv("DoorKey-8x8", 3)
    counted, _ = env.reset(seed=7)
    listed, _ = env.reset(seed=[7, 8, 9])
    np.testing.assert_array_equal(counted, listed)
    single, _ = GridEnv("DoorKey-8x8").reset(seed=9)
    np.testing.assert_array_equal(single, counted[2])
    with pytest.raises(ValueError, match="seed: expected 3 of them, got 2"):
        env.reset(seed=[1, 2])


def test_without_a_seed_worlds_are_left_to_chance() -> None:
    def seed(env: Any) -> int:
        env.reset()
        return int(env.engine.state.seeds[0])

    assert seed(GridEnv("Empty-5x5")) != seed(GridEnv("Empty-5x5"))
    assert seed(GridVectorEnv("Empty-5x5")) != seed(GridVectorEnv("Empty-5x5"))


def test_the_single_environment_passes_gymnasiums_checker() -> None:
    check_env(GridEnv("DoorKey-6x6"), skip_render_check=True)


def test_spaces_are_those_of_the_task_on_minigrid() -> None:
    task = load_task("guerdon/DoorKey-8x8-v0").make()
    env = GridEnv("DoorKey-8x8")
    assert env.observation_space == task.observation_space
    assert env.action_space == task.action_space


def both(level: str, base: str, **rendering: Any) -> tuple[GridEnv, Any]:
    """The same world in the engine and in MiniGrid, which draws our numbers."""
    env = GridEnv(level, render_mode="rgb_array", **rendering)
    env.reset(seed=5)
    other = gym.make(
        base, disable_env_checker=True, render_mode="rgb_array", **rendering
    )
    reset_on(other, OurNumbers(5))
    return env, other.unwrapped


def test_an_episode_of_the_single_environment_equals_minigrids_to_the_last_bit() -> (
    None
):
    env, raw = both("DoorKey-5x5", "MiniGrid-DoorKey-5x5-v0")
    rng = np.random.default_rng(3)
    for _ in range(250):
        action = int(rng.choice([0, 1, 2, 2, 2, 3, 5]))
        obs, reward, terminated, truncated, info = env.step(action)
        expected = raw.step(action)
        np.testing.assert_array_equal(obs, expected[0]["image"])
        assert (reward, terminated, truncated) == expected[1:4]
        assert type(reward) is float
        assert type(terminated) is bool
        assert env.mission == expected[0]["mission"]
        if terminated or truncated:
            break
        assert set(info) == {"features"}
    assert set(info) == {"features", "fitness", "success"}
    assert info["fitness"] == reward
    assert info["success"] == (reward > 0)
    with pytest.raises(ResetNeeded, match="DoorKey-5x5: call reset"):
        env.step(0)


FAMILIES = (
    *("Empty-5x5", "FourRooms", "DoorKey-5x5", "Unlock", "UnlockPickup"),
    *("BlockedUnlockPickup", "KeyCorridorS3R1", "MultiRoom-N2-S4", "LockedRoom"),
    *("LavaCrossingS9N1", "SimpleCrossingS9N1", "LavaGapS5", "DistShift1"),
    *("Dynamic-Obstacles-5x5", "MemoryS7", "GoToDoor-5x5", "GoToObject-6x6-N2"),
    *("Fetch-5x5-N2", "PutNear-6x6-N2", "RedBlueDoors-6x6", "ObstructedMaze-1Dlhb"),
)
"""A level of each."""


@pytest.mark.parametrize("level", FAMILIES)
def test_pixels_of_every_family_equal_minigrids(level: str) -> None:
    found = LEVELS[level]
    env = GridEnv(level, render_mode="rgb_array", tile_size=8)
    env.reset(seed=5)
    raw = gym.make(
        found.base,
        disable_env_checker=True,
        render_mode="rgb_array",
        tile_size=8,
        **dict(found.keywords),
    ).unwrapped
    reset_on(raw, OurNumbers(5))
    rng = np.random.default_rng(0)
    for _ in range(20):
        np.testing.assert_array_equal(env.render(), raw.render())
        action = int(rng.choice([0, 1, 2, 3, 4, 5]))
        _, _, terminated, truncated, _ = env.step(action)
        raw.step(action)
        if terminated or truncated:
            break


@pytest.mark.parametrize(
    "rendering",
    [{}, {"tile_size": 8}, {"tile_size": 8, "highlight": False},
     {"tile_size": 8, "agent_pov": True}],
)  # fmt: skip
def test_pixels_equal_minigrids(rendering: dict[str, Any]) -> None:
    env, raw = both("DoorKey-6x6", "MiniGrid-DoorKey-6x6-v0", **rendering)
    rng = np.random.default_rng(0)
    for _ in range(20):
        np.testing.assert_array_equal(env.render(), raw.render())
        action = int(rng.choice([0, 1, 2, 3, 4, 5]))
        env.step(action)
        raw.step(action)


def test_the_vector_draws_every_lane() -> None:
    vector = GridVectorEnv("Empty-Random-5x5", 2, render_mode="rgb_array", tile_size=8)
    vector.reset(seed=4)
    single = GridEnv("Empty-Random-5x5", render_mode="rgb_array", tile_size=8)
    single.reset(seed=5)
    frames = vector.render()
    assert frames is not None
    np.testing.assert_array_equal(frames[1], single.render())
    assert GridVectorEnv("Empty-5x5").render() is None
    assert vector.missions() == ("get to the green goal square",) * 2


@pytest.mark.parametrize(
    "copied", [pickle.dumps, copy.deepcopy], ids=["pickle", "copy"]
)
def test_environments_are_copied_in_the_middle_of_an_episode(copied: Any) -> None:
    for env in (
        GridEnv("DoorKey-5x5", render_mode="rgb_array", tile_size=8),
        GridVectorEnv("DoorKey-5x5", 1, render_mode="rgb_array", tile_size=8),
    ):
        env.reset(seed=1)
        env.render()
        twin = copied(env)
        twin = pickle.loads(twin) if isinstance(twin, bytes) else twin
        for action in (0, 2, 2, 3, 1, 2):
            choice = action if isinstance(env, GridEnv) else np.array([action])
            for one, other in zip(env.step(choice), twin.step(choice), strict=True):
                assert_same(one, other)
        np.testing.assert_array_equal(env.render(), twin.render())


def test_what_was_given_is_not_overwritten_by_later_steps() -> None:
    env, vector = GridEnv("DoorKey-5x5"), GridVectorEnv("DoorKey-5x5", 2)
    one, info = env.reset(seed=0)
    many, infos = vector.reset(seed=0)
    kept = [array.copy() for array in (one, info["features"], many, infos["features"])]
    for _ in range(3):
        env.step(0)
        vector.step(np.array([0, 0]))
    for before, now in zip(
        kept, (one, info["features"], many, infos["features"]), strict=True
    ):
        np.testing.assert_array_equal(before, now)


@pytest.mark.parametrize(
    ("action", "error", "words"),
    [
        (7, ValueError, "action: expected 0 to 6, got 7"),
        (-1, ValueError, "action: expected 0 to 6, got -1"),
        (2.0, TypeError, "action: expected an integer, got 2.0"),
        ("left", TypeError, "action: expected an integer, got 'left'"),
    ],
)
def test_an_action_that_is_none_is_refused(
    action: Any, error: type[Exception], words: str
) -> None:
    env = GridEnv("Empty-5x5")
    env.reset(seed=0)
    with pytest.raises(error, match=words):
        env.step(action)


def test_keywords_that_mean_nothing_are_refused() -> None:
    with pytest.raises(TypeError, match="tile_sise: no such keyword; known: tile_size"):
        GridEnv("Empty-5x5", tile_sise=8)
    with pytest.raises(TypeError, match=r"device: .*make_engine\(.* device='cuda'"):
        gym.make_vec("guerdon/Empty-5x5-v0", num_envs=2, device="cuda")
    with pytest.raises(ValueError, match="render_mode: expected None, 'rgb_array'"):
        GridEnv("Empty-5x5", render_mode="ansi")
    with pytest.raises(ValueError, match="render_mode: expected None or 'rgb_array'"):
        GridVectorEnv("Empty-5x5", render_mode="human")

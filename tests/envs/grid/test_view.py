from __future__ import annotations

from typing import Any

import gymnasium as gym
import minigrid
import numpy as np
import pytest
from minigrid.wrappers import FullyObsWrapper

from guerdon.envs.grid.engine import GridEngine
from guerdon.envs.grid.export import load_minigrid
from guerdon.envs.grid.view import SIZES, spread, view_table
from guerdon.envs.minigrid_view import _spread

assert minigrid  # registers its environments


@pytest.mark.parametrize("size", SIZES)
def test_sight_spreads_as_cell_by_cell(size: int) -> None:
    rng = np.random.default_rng(size)
    masks = range(1 << size)
    pairs = [(a, b) for a in masks for b in masks] if size < 7 else []
    pairs = pairs or rng.integers(1 << size, size=(4000, 2)).tolist()
    for seen, opaque in pairs:
        assert spread(seen, opaque, size) == _spread(size, seen, opaque)


def walk(base: str, view: Any, steps: int = 60) -> int:
    """Compare images along a random walk; how many cells were out of sight."""
    raw: Any = gym.make(base, disable_env_checker=True).unwrapped
    engine = GridEngine(base, 1, view=view, autoreset="disabled")
    engine.reset(np.array([0]))
    rng = np.random.default_rng(1)
    hidden = 0
    for step in range(steps):
        if step % 20 == 0:
            raw.reset(seed=step)
        raw.step(rng.choice([0, 1, 2, 2, 3, 5]))
        load_minigrid(engine, 0, raw)
        if view == "full":
            expected = FullyObsWrapper(raw).observation({})["image"]
        else:
            raw.agent_view_size = view
            expected = raw.gen_obs()["image"]
        image = engine.observe().obs[0]
        np.testing.assert_array_equal(image, expected)
        assert engine.observation_space.contains(image)
        hidden += int((expected[..., 0] == 0).sum())
    return hidden


@pytest.mark.parametrize("size", SIZES)
def test_images_of_every_size_equal_minigrids(size: int) -> None:
    assert walk("MiniGrid-DoorKey-8x8-v0", size) > 0
    assert walk("MiniGrid-Empty-8x8-v0", size) == 0  # it sees through walls


def test_the_full_view_equals_minigrids_wrapper() -> None:
    assert walk("MiniGrid-DoorKey-6x6-v0", "full") == 0


def test_the_table_of_a_view_turns_with_the_agent() -> None:
    table = view_table(5, 4, 3).reshape(4, 5, 4, 3, 3)
    # In the middle of (x=2, y=1), facing right: left is up.
    np.testing.assert_array_equal(table[1, 2, 0], [[2, 7, 12], [3, 8, 13], [4, 9, 14]])
    # Facing left at the left edge, all that is ahead is outside.
    np.testing.assert_array_equal(table[1, 0, 2], [[10, 5, 0], [20] * 3, [20] * 3])


@pytest.mark.parametrize("view", [0, 4, 13, True, "half", 7.0, None])
def test_a_view_that_is_not_supported_is_refused(view: Any) -> None:
    with pytest.raises(ValueError, match=r"view: expected one of 3, 5, 7, 9, 11 or"):
        GridEngine("Empty-8x8", 1, view=view)

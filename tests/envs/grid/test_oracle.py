"""The compiled engine against its twin in tensors, byte for byte."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from twins import expect_same, expect_saved, expect_twins, in_another_process

from guerdon.envs.grid.engine import GridEngine
from guerdon.envs.grid.levels import LEVELS
from guerdon.envs.grid.oracle import TorchGridEngine

LANES, STEPS = 12, 24


@pytest.mark.parametrize("name", LEVELS)
def test_every_array_of_every_step_is_equal(name: str) -> None:
    engines = GridEngine(name, LANES), TorchGridEngine(name, LANES)
    assert expect_twins(*engines, STEPS, seed=3) > 0


@pytest.mark.parametrize("view", [3, 5, 9, 11, "full"])
@pytest.mark.parametrize("name", ["KeyCorridorS3R3", "Fetch-5x5-N2"])
def test_every_view_is_equal(name: str, view: Any) -> None:
    engines = GridEngine(name, 8, view=view), TorchGridEngine(name, 8, view=view)
    expect_twins(*engines, STEPS, seed=4)


@pytest.mark.parametrize(
    "name", ["Dynamic-Obstacles-5x5", "MultiRoom-N2-S4", "LavaGapS5"]
)
def test_a_new_episode_in_the_next_step_is_equal(name: str) -> None:
    engines = (
        GridEngine(name, LANES, autoreset="next_step"),
        TorchGridEngine(name, LANES, autoreset="next_step"),
    )
    assert expect_twins(*engines, 2 * STEPS, seed=5) > 0


def test_fewer_features_in_another_order_are_equal() -> None:
    blocks = ("door", "agent")
    engines = (
        GridEngine("DoorKey-5x5", LANES, blocks=blocks),
        TorchGridEngine("DoorKey-5x5", LANES, blocks=blocks),
    )
    expect_twins(*engines, STEPS, seed=6)


@pytest.mark.usefixtures("eager_threads")
def test_the_twin_does_not_depend_on_how_lanes_are_shared_out() -> None:
    one = TorchGridEngine("Dynamic-Obstacles-5x5", 300)
    two = TorchGridEngine("Dynamic-Obstacles-5x5", 300, threads=2)
    assert len(two._team.ranges) == 2
    expect_twins(one, two, 4, seed=7)
    two.close()


def test_the_twin_refuses_what_is_no_action_and_changes_nothing() -> None:
    engine = TorchGridEngine("Empty-5x5", 2)
    engine.reset(np.arange(2))
    before = engine.export()
    with pytest.raises(ValueError, match="got 7 in lane 1"):
        engine.step(np.array([2, 7]))
    expect_same("Empty-5x5", 1, before, engine.export())


def test_a_choice_of_lanes_and_a_copy_are_twins_too() -> None:
    engine = TorchGridEngine("Empty-Random-5x5", 3)
    engine.reset(np.arange(3))
    for other in (engine.select(np.array([2, 0])), pickle.loads(pickle.dumps(engine))):
        assert type(other) is TorchGridEngine
    assert (
        other.step(np.full(3, 2)).obs.tobytes()
        == engine.step(np.full(3, 2)).obs.tobytes()
    )


def test_arrays_that_are_read_only_are_taken_as_actions() -> None:
    engine = TorchGridEngine("Empty-5x5", 1)
    engine.reset(np.zeros(1, np.int64))
    actions = np.full(1, 2)
    actions.flags.writeable = False
    engine.step(actions)
    assert engine.state.position[0] == 7


WITHOUT = """
import sys
sys.modules["numba"] = None
import torch
torch.set_num_threads(1)
from guerdon.envs.grid.levels import LEVELS
from guerdon.envs.grid.oracle import TorchGridEngine
from twins import saved
saved(sys.argv[1], [TorchGridEngine(name, 2) for name in LEVELS], 2, seed=9)
"""


def test_without_numba_every_level_is_the_same(tmp_path: Path) -> None:
    found = tmp_path / "without.npz"
    in_another_process(WITHOUT, found)
    expect_saved(found, [GridEngine(name, 2) for name in LEVELS], 2, seed=9)

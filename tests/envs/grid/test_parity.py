"""The engine against MiniGrid itself; ``parity.py`` plays more steps."""

from __future__ import annotations

import numpy as np
import pytest
from parity import LANES, MODES, Parity

from guerdon.envs.grid.engine import Autoreset, GridEngine
from guerdon.envs.grid.export import load_minigrid
from guerdon.envs.grid.levels import LEVELS
from guerdon.envs.minigrid import LEVELS as TASKS

STEPS = -(-20_000 // len(LEVELS) // LANES // len(MODES))


@pytest.mark.parametrize("autoreset", MODES)
@pytest.mark.parametrize("name", LEVELS)
def test_a_level_plays_as_in_minigrid_byte_for_byte(
    name: str, autoreset: Autoreset
) -> None:
    parity = Parity(name, seed=11, autoreset=autoreset)
    parity.play(STEPS)
    assert parity.compared == STEPS * LANES


@pytest.mark.parametrize("autoreset", MODES)
def test_the_scripted_player_wins_so_that_ends_are_compared(
    autoreset: Autoreset,
) -> None:
    parity = Parity("DoorKey-6x6", seed=5, fast=True, autoreset=autoreset)
    parity.play(150)
    assert parity.wins >= 5


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)
def test_the_engine_has_the_levels_of_the_tasks_with_their_features(
    task: object,
) -> None:
    from guerdon.envs.table import load_task

    engine = GridEngine(task.name)  # type: ignore[attr-defined]
    registered = load_task(f"guerdon/{engine.level.name}-v0")
    assert engine.level.base == task.base  # type: ignore[attr-defined]
    assert engine.layout == registered.layout
    assert engine.action == registered.action
    assert engine.horizon == registered.horizon


def test_truncation_and_termination_may_come_in_the_same_step() -> None:
    parity = Parity("Empty-5x5", seed=0)
    for raw in parity.raws:
        raw.step_count = raw.max_steps - 1
        raw.agent_pos, raw.agent_dir = (2, 3), 0
    for lane in range(LANES):
        parity.load(lane)
    arrays = parity.engine.step(np.full(LANES, 2))
    for lane, raw in enumerate(parity.raws):
        parity.compare(lane, raw, raw.step(2), arrays)
    assert arrays.terminated.all()
    assert arrays.truncated.all()
    np.testing.assert_array_equal(arrays.reward, np.float32(1 - 0.9))


@pytest.mark.parametrize(
    "name",
    [
        "DoorKey-6x6",
        "UnlockPickup",
        "KeyCorridorS3R2",
        "LockedRoom",
        "ObstructedMaze-1Dlh",
        "PutNear-6x6-N2",
    ],
)
def test_an_instance_first_looked_at_in_mid_episode_has_the_features_of_its_past(
    name: str,
) -> None:
    parity, other = Parity(name, seed=3, fast=True), GridEngine(name)
    other.reset(np.zeros(1, int))
    carrying = opened = 0
    for _ in range(120):
        parity.play(1)
        for lane, raw in enumerate(parity.raws):
            # What the lane's own features come from has followed it from its reset.
            past = raw.grid.guerdon_things
            lost = past.target is not None and past.target not in raw.grid.grid
            if name.startswith("PutNear") and lost and raw.carrying is None:
                continue
            del raw.grid.guerdon_things
            load_minigrid(other, 0, raw)
            raw.grid.guerdon_things = past
            seen = other.observe().features[0]
            np.testing.assert_array_equal(
                seen, parity.engine.observe().features[lane], f"step {raw.step_count}"
            )
            carrying += raw.carrying is not None
            opened += past.door is not None and not past.door.thing.is_locked
    assert carrying > 20
    assert opened > 10 or past.door is None


def test_an_instance_of_another_level_is_refused() -> None:
    parity = Parity("DoorKey-6x6", seed=0)
    other = GridEngine("DoorKey-8x8")
    with pytest.raises(
        ValueError, match=r"expected columns, rows and max_steps \(8, 8"
    ):
        load_minigrid(other, 0, parity.raws[0])
    with pytest.raises(ValueError, match="lane: expected 0 to 3, got 4"):
        load_minigrid(parity.engine, 4, parity.raws[0])
    parity.raws[0].mission = "make tea"
    with pytest.raises(ValueError, match="it has no mission 'make tea'"):
        load_minigrid(parity.engine, 0, parity.raws[0])

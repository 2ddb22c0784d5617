"""Two engines side by side: the same seeds and actions, and everything compared.

Random play alone rarely opens a door or wins, so from time to time agents are put
elsewhere, are given keys, and come close to the limit of steps: the same in both.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
from scipy import ndimage

from guerdon.envs.arrays import Arrays
from guerdon.envs.grid.cells import DOOR_CLOSED, DOOR_OPEN, EMPTY, KEY, NOTHING
from guerdon.envs.grid.engine import GridEngine
from guerdon.envs.grid.levels.base import Level
from guerdon.envs.grid.state import CARRYING, DIRECTION, OVER, POSITION, STEPS, State

CHANCES = (0.14, 0.14, 0.26, 0.16, 0.12, 0.16, 0.02)


def expect_same(name: str, step: int, ours: Any, theirs: Any) -> None:
    """Every array of both equal, byte for byte."""
    for field, a, b in zip(ours._fields, ours, theirs, strict=True):
        where = f"{name}, step {step}: {field}"
        assert a.dtype == b.dtype, where
        np.testing.assert_array_equal(a, b, where)
        assert a.tobytes() == b.tobytes(), where


def stir(state: State, level: Level, rng: np.random.Generator) -> State:
    """Other places, keys and counts of steps in some of the lanes."""
    cells, numbers, seeds = state
    chosen = (rng.random(len(seeds)) < 0.3) & (numbers[OVER] == 0)
    for lane in np.nonzero(chosen)[0]:
        numbers[POSITION, lane] = rng.choice(enclosed(cells[lane], level))
        numbers[DIRECTION, lane] = rng.integers(4)
        if numbers[CARRYING, lane] == NOTHING and rng.random() < 0.3:
            numbers[CARRYING, lane] = KEY + rng.integers(6)
        if rng.random() < 0.1:
            numbers[STEPS, lane] = level.horizon - rng.integers(1, 4)
    return state


def enclosed(cells: np.ndarray, level: Level) -> np.ndarray:
    """Empty cells from which no agent comes to the rim: nothing is promised there."""
    grid = cells[:-1].reshape(level.height, level.width)
    regions, _ = ndimage.label(grid < DOOR_CLOSED)
    regions[(grid >= DOOR_OPEN) & (grid < DOOR_OPEN + 6)] = 0
    rim = (regions[0], regions[-1], regions[:, 0], regions[:, -1])
    inner = ~np.isin(regions, np.concatenate([np.zeros(1, int), *rim]))
    return np.nonzero((inner & (grid == EMPTY)).ravel())[0]


def play(engine: Any, steps: int, seed: int) -> Any:
    """Every step of an engine under stirred random play, as copies.

    Yields:
        The arrays and the state after the reset and after each step.
    """
    rng = np.random.default_rng(seed)
    yield copied(engine.reset(rng.integers(0, 2**62, engine.num_envs))), engine.export()
    for _ in range(steps):
        engine.load_state(stir(engine.export(), engine.level, rng))
        arrays = engine.step(rng.choice(7, engine.num_envs, p=CHANCES))
        yield copied(arrays), engine.export()


def copied(arrays: Any) -> Arrays:
    # A tensor's memory is that of its ``numpy()``.
    given = (
        array if isinstance(array, np.ndarray) else array.numpy() for array in arrays
    )
    return Arrays(*(array.copy() for array in given))


def saved(path: str, engines: Any, steps: int, seed: int) -> None:
    """Keep what engines play, to be compared in another process."""
    kept = {}
    for engine in engines:
        for step, parts in enumerate(play(engine, steps, seed)):
            for part in parts:
                for field in part._fields:
                    kept[f"{engine.level.name}/{step}/{field}"] = getattr(part, field)
    np.savez(path, **kept)


def expect_saved(path: Path, engines: Any, steps: int, seed: int) -> None:
    """What another process kept is what these engines play."""
    with np.load(path) as kept:
        for engine in engines:
            for step, parts in enumerate(play(engine, steps, seed)):
                for part in parts:
                    names = [f"{engine.level.name}/{step}/{f}" for f in part._fields]
                    theirs = type(part)(*(kept[name] for name in names))
                    expect_same(engine.level.name, step, theirs, part)


def in_another_process(script: str, found: Path, **variables: str) -> None:
    """Run a script, told where to keep what it finds; its warnings are errors."""
    path = os.pathsep.join([str(Path(__file__).parent), *filter(None, sys.path)])
    subprocess.run(
        [sys.executable, "-W", "error", "-c", script, str(found)],
        check=True,
        env=os.environ | {"PYTHONPATH": path} | variables,
    )


def expect_twins(ours: GridEngine, theirs: GridEngine, steps: int, seed: int) -> int:
    """Play both and compare everything; how many episodes ended."""
    ends = 0
    both = zip(play(ours, steps, seed), play(theirs, steps, seed), strict=True)
    for step, ((a, state_a), (b, state_b)) in enumerate(both):
        expect_same(ours.level.name, step, a, b)
        expect_same(ours.level.name, step, state_a, state_b)
        ends += int((a.terminated | a.truncated).sum())
    return ends

"""The batched grid engine beside MiniGrid, and beside EnvPool's where it is installed.

Claims: the engine takes at least 400 times the steps a second of Gymnasium's
``SyncVectorEnv`` of Farama's DoorKey-8x8 with the same observation, its step costs the
same at 4096 lanes as at 256, and a single environment made by ``gym.make`` is at least
8 times as fast as MiniGrid's.

Both sides play the same tape of actions with the same autoreset. Before any clock
starts, the instances of a vector environment of every measured size are exported into
an engine of that size and those threads, and image, reward and ends are compared byte
for byte; a scripted player, which opens doors and wins, does the same with every
feature (``tests/envs/grid/parity.py``).
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import gymnasium as gym
import numpy as np
from gymnasium.envs.registration import EnvSpec
from gymnasium.vector import SyncVectorEnv
from minigrid.wrappers import ImgObsWrapper

from benchmarks.harness import alternated, keep, median_row, parsed, turns
from guerdon.envs.grid.engine import GridEngine
from guerdon.envs.grid.export import load_minigrid
from guerdon.envs.grid.vector import GridEnv, GridVectorEnv

LEVEL = "DoorKey-8x8"
THEIRS = f"MiniGrid-{LEVEL}-v0"
ACTIONS = 7
PARITY = Path(__file__).parents[1] / "tests" / "envs" / "grid"


def vector_env(lanes: int) -> SyncVectorEnv:
    """MiniGrid as its users step many: images, no checker, the next-step autoreset."""
    return SyncVectorEnv(
        [lambda: ImgObsWrapper(gym.make(THEIRS, disable_env_checker=True))] * lanes
    )


def engine_of(lanes: int, threads: int) -> GridEngine:
    """The engine as it is measured, with the autoreset of the other side."""
    return GridEngine(LEVEL, lanes, threads=threads, autoreset="next_step")


def compare(lanes: int, threads: int, steps: int) -> dict[str, int]:
    """Play the engine beside the vector environment, both as they are measured.

    Args:
        lanes: how many environments.
        threads: of the engine.
        steps: of all lanes together.

    Raises:
        AssertionError: where they differ.
    """
    theirs = vector_env(lanes)
    ours = engine_of(lanes, threads)
    rng = np.random.default_rng(0)
    theirs.reset(seed=0)
    ours.reset(np.arange(lanes))
    for lane in range(lanes):
        load_minigrid(ours, lane, theirs.envs[lane])
    begins = np.zeros(lanes, np.bool_)
    compared = ends = 0
    while compared < steps:
        actions = rng.integers(0, ACTIONS, lanes)
        image, reward, terminated, truncated, _ = theirs.step(actions)
        arrays = ours.step(actions)
        same = ~begins  # a lane that begins anew has a world of its own
        np.testing.assert_array_equal(arrays.obs[same], image[same])
        np.testing.assert_array_equal(arrays.reward[same], np.float32(reward[same]))
        np.testing.assert_array_equal(arrays.terminated[same], terminated[same])
        np.testing.assert_array_equal(arrays.truncated[same], truncated[same])
        for lane in np.flatnonzero(begins):
            load_minigrid(ours, lane, theirs.envs[lane])
        begins = terminated | truncated
        compared, ends = compared + int(same.sum()), ends + int(begins.sum())
    theirs.close()
    return {"steps": compared, "ends": ends}


def compare_scripted(steps: int) -> dict[str, int]:
    """The same with a player who wins, MiniGrid's own view, and all features."""
    sys.path.insert(0, str(PARITY))
    parity = importlib.import_module("parity").Parity(LEVEL, seed=0)
    parity.play(-(-steps // 4))
    return {"steps": parity.compared, "ends": parity.ends, "won": parity.wins}


def tape(steps: int, lanes: int) -> np.ndarray:
    """``(T, N)`` actions."""
    return np.random.default_rng(1).integers(0, ACTIONS, (steps, lanes))


def engine_side(lanes: int, threads: int, steps: int) -> Callable[[], float]:
    """Nanoseconds a step of the engine over so many steps of all lanes together."""
    engine = engine_of(lanes, threads)
    engine.reset(np.arange(lanes))
    actions, out = tape(max(1, steps // lanes), lanes), engine.new_arrays()

    def run() -> float:
        started = time.perf_counter()
        for row in actions:
            engine.step(row, out)
        return 1e9 * (time.perf_counter() - started) / actions.size

    return run


def vector_side(env: Any, steps: int) -> Callable[[], float]:
    """The same of a vector environment of Gymnasium's, MiniGrid's or ours."""
    env.reset(seed=0)
    actions = tape(max(2, steps // env.num_envs), env.num_envs)

    def run() -> float:
        started = time.perf_counter()
        for row in actions:
            env.step(row)
        return 1e9 * (time.perf_counter() - started) / actions.size

    return run


def ratio(
    ours: Callable[[], float], theirs: Callable[[], float], pairs: int
) -> dict[str, Any]:
    """How much faster ours is, in steps a second."""
    row = alternated(ours, theirs, pairs)
    for side, name in (("first", "ours"), ("second", "theirs")):
        row[f"{name}, ns a step"] = nanoseconds = row.pop(f"{side}_seconds")
        row[f"{name}, steps/s"] = 1e9 / nanoseconds
    return row


def growth(steps: int, pairs: int) -> dict[str, float]:
    """What a step costs at 4096 lanes, over what it costs at 256."""
    sides = {str(lanes): engine_side(lanes, 1, steps) for lanes in (256, 4096)}
    found = turns(sides, pairs)
    return median_row(found["4096"] / found["256"], "ratio")


def single_side(env: Any, steps: int) -> Callable[[], float]:
    """Nanoseconds of ``step``, with a reset wherever an episode ends."""
    env.reset(seed=0)
    actions = tape(steps, 1)[:, 0].tolist()

    def run() -> float:
        started = time.perf_counter()
        for action in actions:
            _, _, terminated, truncated, _ = env.step(action)
            if terminated or truncated:
                env.reset()
        return 1e9 * (time.perf_counter() - started) / len(actions)

    return run


def singles(steps: int, pairs: int) -> Iterator[tuple[str, dict[str, Any]]]:
    """``gym.make`` of both, with Gymnasium's standard wrappers around each."""
    theirs = single_side(gym.make(THEIRS), steps)
    own = gym.make(f"guerdon/{LEVEL}-v0")
    engine = isinstance(own.unwrapped, GridEnv)
    row = ratio(single_side(own, steps), theirs, pairs)
    yield "gym.make, guerdon's task", row | {"on the engine": engine}
    spec = EnvSpec("GridEnv-v0", entry_point=GridEnv, kwargs={"level": LEVEL})
    bare = gym.make(spec)
    yield "gym.make, the engine alone", ratio(single_side(bare, steps), theirs, pairs)


def envpool_side(lanes: int, threads: int, steps: int) -> Callable[[], float]:
    """Nanoseconds a step of EnvPool's MiniGrid, in its synchronous mode."""
    envpool = importlib.import_module("envpool")
    env = envpool.make_gymnasium(THEIRS, num_envs=lanes, num_threads=threads)
    env.reset()
    actions = tape(max(1, steps // lanes), lanes)

    def run() -> float:
        started = time.perf_counter()
        for row in actions:
            env.step(row)
        return 1e9 * (time.perf_counter() - started) / actions.size

    return run


def envpool_rows(sizes: list[int], threads: int, pairs: int) -> dict[str, Any]:
    """Ours at its best size over EnvPool's at its best size."""
    steps = 1_000_000
    importlib.import_module("envpool")
    sides = {n: envpool_side(n, threads, 50_000) for n in sizes}
    best = min(sides, key=lambda n: min(sides[n]() for _ in range(3)))
    own = {n: engine_side(n, threads, steps) for n in sizes}
    ours = min(own, key=lambda n: min(own[n]() for _ in range(3)))
    row = ratio(own[ours], sides[best], pairs)
    return row | {"their lanes": best, "our lanes": ours}


def main() -> None:
    """Compare, measure and keep."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--pairs", type=int, default=9)
    options.add_argument("--lanes", type=int, nargs="+", default=[16, 256, 4096])
    options.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    options.add_argument("--compare", type=int, default=100_000, help="steps")
    options.add_argument("--steps", type=int, default=4_000_000, help="of the engine")
    options.add_argument("--rival-steps", type=int, default=8192, help="of MiniGrid")
    given = parsed(options)
    if given.quick:
        given.pairs, given.lanes, given.compare = 2, [16, 64], 2000
        given.steps, given.rival_steps = 20_000, 256
    rows: dict[str, Any] = {
        f"equal, random play, {lanes} lanes, {threads} thread(s)": compare(
            lanes, threads, given.compare
        )
        for lanes in given.lanes
        for threads in given.threads
    }
    rows["equal, scripted play"] = compare_scripted(given.compare // 5)
    for lanes in given.lanes:
        theirs = vector_side(vector_env(lanes), given.rival_steps)
        for threads in given.threads:
            ours = engine_side(lanes, threads, given.steps)
            name = f"{lanes} lanes, {threads} thread(s): SyncVectorEnv / engine"
            rows[name] = ratio(ours, theirs, given.pairs)
        face = vector_side(GridVectorEnv(LEVEL, lanes), given.steps // 4)
        name = f"{lanes} lanes, 1 thread(s): SyncVectorEnv / GridVectorEnv"
        rows[name] = ratio(face, theirs, given.pairs)
    rows["4096 lanes / 256 lanes, cost of a step"] = growth(given.steps, given.pairs)
    for name, row in singles(given.rival_steps, given.pairs):
        rows[f"{name}: MiniGrid / ours"] = row
    for threads in given.threads:
        name = f"{threads} thread(s), best sizes: EnvPool / engine"
        try:
            rows[name] = envpool_rows([64, 256, 1024], threads, given.pairs)
        except ImportError:
            rows[name] = "not installed, not measured"
    keep("fast_engine", "python -m benchmarks.fast_engine", rows, given.out)


if __name__ == "__main__":
    main()

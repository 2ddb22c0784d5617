"""The engine beside MiniGrid: the same actions, and everything compared.

``python tests/envs/grid/parity.py 1000000`` plays a million steps over all levels and
keeps what it compared in ``benchmarks/results/grid_parity.json``; fewer steps are a
trial and are kept elsewhere.

Where an episode is followed by the next one in the same step, the engine's state is
that of the next one, so direction and mission of the last step cannot be read there. So
half of all steps are played without autoreset, where they can.
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

import gymnasium as gym
import minigrid
import numpy as np
from our_numbers import OurNumbers, give
from solver import Solver

from guerdon.envs.arrays import Arrays
from guerdon.envs.grid.engine import Autoreset, GridEngine
from guerdon.envs.grid.export import load_minigrid
from guerdon.envs.grid.levels import LEVELS
from guerdon.envs.grid.levels.base import OBSTACLES
from guerdon.envs.minigrid_features import READERS, read_blocks
from guerdon.envs.minigrid_view import use_fast_view

LANES = 4
MODES: tuple[Autoreset, ...] = ("same_step", "disabled")
WHOLE = 1_000_000
"""Steps of what is kept as a result."""
ROOT = Path(__file__).parents[3]
CHANCES = (0.14, 0.14, 0.3, 0.14, 0.1, 0.16, 0.02)
"""Of random actions: enough of each to meet every rule."""
assert minigrid  # registers its environments


class Parity:
    """Four lanes of the engine and four environments of MiniGrid."""

    def __init__(
        self,
        name: str,
        seed: int,
        fast: bool = False,
        autoreset: Autoreset = "same_step",
    ) -> None:
        self.engine = GridEngine(name, LANES, autoreset=autoreset)
        self.arrays = self.engine.new_arrays()
        self.level = self.engine.level
        self.rng = np.random.default_rng(seed)
        self.readers = tuple(READERS[block] for block in self.level.blocks)
        self.raws = [
            gym.make(
                self.level.base,
                disable_env_checker=True,
                **dict(self.level.keywords),
            ).unwrapped
            for _ in range(LANES)
        ]
        self.solvers = [Solver(raw, self.rng) for raw in self.raws]
        self.engine.reset(np.arange(LANES) + seed)
        self.wins = self.ends = self.compared = 0
        for lane, raw in enumerate(self.raws):
            if fast:
                use_fast_view(raw)
            raw.reset(seed=seed + lane)
            self.load(lane)

    def load(self, lane: int) -> None:
        load_minigrid(self.engine, lane, self.raws[lane])
        self.solvers[lane].plan = []
        if self.level.rule == OBSTACLES:
            state = self.engine.state
            seed, episode = int(state.seeds[lane]), int(state.episode[lane])
            give(self.raws[lane], OurNumbers(seed, episode, int(state.draws[lane])))

    def play(self, steps: int) -> None:
        """So many steps of every lane; lanes 0 and 1 mostly play to win."""
        for _ in range(steps):
            scripted = self.rng.random(LANES) < [0.95, 0.8, 0.2, 0.0]
            actions = self.rng.choice(
                7, LANES, p=[0.14, 0.14, 0.3, 0.14, 0.1, 0.16, 0.02]
            )
            for lane, solver in enumerate(self.solvers):
                if scripted[lane]:
                    actions[lane] = solver.act()
                else:
                    solver.plan = []
            arrays = self.engine.step(actions, self.arrays)
            for lane, raw in enumerate(self.raws):
                self.compare(lane, raw, raw.step(actions[lane]), arrays)

    def compare(self, lane: int, raw: Any, step: Any, arrays: Arrays) -> None:
        obs, reward, terminated, truncated, _ = step
        where = f"{self.level.name}, lane {lane}, step {raw.step_count}"
        over = terminated or truncated
        image = arrays.final_obs if over else arrays.obs
        np.testing.assert_array_equal(image[lane], obs["image"], where)
        assert arrays.reward[lane] == np.float32(reward), where
        assert bool(arrays.terminated[lane]) == terminated, where
        assert bool(arrays.truncated[lane]) == truncated, where
        row = read_blocks(self.readers, raw, obs, {})
        assert arrays.features[lane].tobytes() == row.tobytes(), (
            where,
            row,
            arrays.features[lane],
        )
        self.compared += 1
        alone = self.engine.autoreset == "disabled"
        if alone or not over:
            np.testing.assert_array_equal(arrays.obs[lane], obs["image"], where)
            assert arrays.first[lane].tobytes() == row.tobytes(), where
            assert self.engine.state.direction[lane] == obs["direction"], where
            assert self.engine.mission(lane) == obs["mission"], where
        if over:
            assert arrays.fitness[lane] == np.float32(reward), where
            assert bool(arrays.success[lane]) == (reward > 0), where
            self.ends, self.wins = self.ends + 1, self.wins + (reward > 0)
            if alone:
                self.engine.next_episode(np.arange(LANES) == lane)
            raw.reset(seed=int(self.rng.integers(2**31)))
            self.load(lane)


def main(total: int) -> None:
    """Play ``total`` steps over all levels, and keep what was compared."""
    sys.path.append(str(ROOT))
    harness = importlib.import_module("benchmarks.harness")
    rows: dict[str, dict[str, int]] = {}
    steps = -(-total // len(LEVELS) // LANES // len(MODES))
    for number, name in enumerate(LEVELS):
        row = dict.fromkeys(("steps", "ends", "won"), 0)
        for place, mode in enumerate(MODES):
            seed = 1000 * (len(MODES) * number + place)
            parity = Parity(name, seed, fast=True, autoreset=mode)
            parity.play(steps)
            row["steps"] += parity.compared
            row["ends"] += parity.ends
            row["won"] += int(parity.wins)
        rows[name] = row
        print(f"{name}: {row}", flush=True)
    sums = {key: sum(row[key] for row in rows.values()) for key in row}
    harness.keep(
        "grid_parity",
        f"python tests/envs/grid/parity.py {total}",
        {"all levels, every step equal": sums | {"levels": len(LEVELS)}, **rows},
        harness.RESULTS if total >= WHOLE else ROOT / harness.QUICK,
        timed=False,
    )


if __name__ == "__main__":
    main(int(sys.argv[1]))

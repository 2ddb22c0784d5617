"""Two samples of a level, the engine's and MiniGrid's, and whether they differ.

``python tests/envs/grid/level_samples.py 10000`` compares ten thousand levels of each
kind and keeps what it found. MiniGrid draws from NumPy here, so nothing is shared but
the reading of a level (``export``).

Everything that is compared is one number a level, so that the numbers of a sample are
independent; classes that are rare are put together before the chi-square test.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import gymnasium as gym
import minigrid
import numba
import numpy as np
from scipy import stats

from guerdon.envs.grid import cells as codes
from guerdon.envs.grid.engine import GridEngine
from guerdon.envs.grid.export import load_minigrid
from guerdon.envs.grid.levels import LEVELS
from guerdon.envs.grid.levels.base import Level
from guerdon.envs.grid.state import (
    AIM_CELL,
    COUNT,
    DIRECTION,
    DOOR_CELL,
    GOAL_CELL,
    KEY_CELL,
    LIST,
    MISSION,
    NOWHERE,
    POSITION,
    ROOM_COUNT,
    TARGET_CELL,
    WANTED,
    State,
)

assert minigrid  # registers its environments

RISK = 0.01
"""Chance of a false alarm over all comparisons together."""
FEWEST = 10
"""How many of a class both samples together must have in the mean."""

KINDS = {
    "goal": (codes.GOAL, codes.LAVA),
    "lava": (codes.LAVA, codes.DOOR_OPEN),
    "door": (codes.DOOR_CLOSED, codes.DOOR_LOCKED),
    "lock": (codes.DOOR_LOCKED, codes.WALL),
    "key": (codes.KEY, codes.BALL),
    "ball": (codes.BALL, codes.BOX),
    "box": (codes.BOX, codes.AGENT),
    "wall": (codes.WALL, codes.CODES),
}
"""First code of a kind, and the first one beyond it."""


def engine_sample(level: Level, count: int, seed: int) -> State:
    """``count`` levels that the engine makes."""
    engine = GridEngine(level, count)
    engine.reset(seed + np.arange(count))
    return engine.state


def minigrid_sample(level: Level, count: int, seed: int) -> State:
    """``count`` levels that MiniGrid makes with its own random numbers."""
    engine = GridEngine(level, count)
    raw: Any = minigrid_of_level(level)
    raw.gen_obs = lambda: None  # what the agent sees is not needed
    raw.reset(seed=seed)
    for lane in range(count):
        load_minigrid(engine, lane, raw)
        raw.reset()
    return engine.state


def minigrid_of_level(level: Level) -> Any:
    """MiniGrid's own environment of a level, unwrapped."""
    keywords: dict[str, Any] = dict(level.keywords)
    return gym.make(level.base, disable_env_checker=True, **keywords).unwrapped


@numba.njit(cache=False)
def _walks(cells: Any, width: int, start: int, targets: Any, out: Any) -> None:
    """Steps to each target, -1 where there is no way; see ``walks``."""
    size = len(cells)
    keys = 0
    distance = np.empty(size, np.int64)
    queue = np.empty(size, np.int64)
    while True:
        before = keys
        distance[:] = -1
        distance[start] = 0
        queue[0] = start
        head, tail = 0, 1
        while head < tail:
            cell = queue[head]
            head += 1
            x, y = cell % width, cell // width
            for way in range(4):
                i = x + (1 if way == 0 else -1 if way == 2 else 0)
                j = y + (1 if way == 1 else -1 if way == 3 else 0)
                other = j * width + i
                if i < 0 or i >= width or other < 0 or other >= size:
                    continue
                code = int(cells[other])
                if distance[other] >= 0 or code == codes.LAVA or code >= codes.WALL:
                    continue
                lock = code - codes.DOOR_LOCKED
                if lock >= 0 and not (keys >> lock) & 1:
                    continue
                distance[other] = distance[cell] + 1
                queue[tail] = other
                tail += 1
                inside = (code - codes.BOX) % codes.CONTENTS
                if codes.KEY <= code < codes.BALL:
                    keys |= 1 << (code - codes.KEY)
                if codes.BOX <= code < codes.AGENT and inside > 0:
                    keys |= 1 << (inside - 1)
        if keys == before:
            break
    for index in range(len(targets)):
        out[index] = distance[targets[index]] if targets[index] >= 0 else -2


def walks(level: Level, state: State, targets: np.ndarray) -> np.ndarray:
    """``(N, T)`` steps from the agent to cells, by breadth-first search.

    Doors can be walked through, locked ones once a key of their colour was reached, in
    a box or not; what can be picked up can be walked through as well. -1: no way; -2:
    there is no such cell.
    """
    out = np.zeros(targets.shape, np.int64)
    for lane in range(len(targets)):
        start = int(state.position[lane])
        _walks(state.cells[lane, :-1], level.width, start, targets[lane], out[lane])
    return out


def target_of(state: State) -> np.ndarray:
    """``(N,)`` the cell where an episode is won, or of the thing that wins it."""
    numbers = state.numbers
    target = np.full(numbers.shape[1], NOWHERE)
    wanted = numbers[WANTED]
    found = (state.cells == wanted[:, None]).argmax(1)
    target = np.where(wanted >= 0, found, target)
    for mark in (DOOR_CELL, GOAL_CELL, TARGET_CELL, AIM_CELL):
        target = np.where(numbers[mark] >= 0, numbers[mark], target)
    return np.asarray(target)


def measures(level: Level, state: State) -> Iterator[tuple[str, np.ndarray]]:
    """What is compared: a name, and one integer a level, ``(N,)``."""
    numbers, cells = state.numbers, state.cells[:, :-1]
    yield "direction", numbers[DIRECTION]
    yield "agent", numbers[POSITION]
    yield "empty cells", (cells == codes.EMPTY).sum(1)
    for name, (low, high) in KINDS.items():
        yield from _of_kind(name, cells, (cells >= low) & (cells < high))
    target = target_of(state)
    key = numbers[KEY_CELL]
    steps = walks(level, state, np.stack([target, key], 1))
    yield "solvable", steps[:, 0] >= 0
    yield "steps to target", steps[:, 0]
    yield "steps to key", steps[:, 1]
    for name, first, second in (
        ("agent to target", numbers[POSITION], target),
        ("agent to key", numbers[POSITION], key),
        ("key to door", key, numbers[DOOR_CELL]),
    ):
        yield name, _apart(first, second, level.width)
    mission = numbers[MISSION : MISSION + 4].astype(np.int64)
    yield "mission", (mission * np.array([[216], [36], [6], [1]])).sum(0)
    yield from _of_rooms(level, numbers)


def _of_kind(
    name: str, cells: np.ndarray, found: np.ndarray
) -> Iterator[tuple[str, np.ndarray]]:
    if not found.any():
        return
    yield f"{name} count", found.sum(1)
    last = found.shape[1] - 1 - found[:, ::-1].argmax(1)
    first = found.argmax(1)
    none = ~found.any(1)
    yield f"{name} first", np.where(none, -1, first)
    yield f"{name} last", np.where(none, -1, last)
    if name != "wall":
        # Codes say kind, colour and content.
        lanes = np.arange(len(cells))
        yield f"{name} first code", np.where(none, -1, cells[lanes, first])
        yield f"{name} last code", np.where(none, -1, cells[lanes, last])


def _of_rooms(level: Level, numbers: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    if not level.rooms:
        return
    yield "rooms", numbers[ROOM_COUNT]
    yield "listed doors", numbers[COUNT]
    for room in range(level.rooms):
        row = LIST + level.listed + 4 * room
        for index, name in enumerate(("left", "top", "width", "height")):
            yield f"room {room} {name}", numbers[row + index]
    for door in range(level.listed):
        yield f"room door {door}", numbers[LIST + door]


def _apart(first: np.ndarray, second: np.ndarray, width: int) -> np.ndarray:
    """Manhattan distance of cells, -1 where one of them is nowhere."""
    across = np.abs(first % width - second % width)
    down = np.abs(first // width - second // width)
    return np.where((first < 0) | (second < 0), -1, across + down)


class Comparison(NamedTuple):
    """One quantity of one level."""

    level: str
    what: str
    p: float
    classes: int


def compare(level: Level, ours: State, theirs: State) -> list[Comparison]:
    """Chi-square tests of everything, and Kolmogorov-Smirnov tests of distances."""
    found = []
    both = zip(measures(level, ours), measures(level, theirs), strict=True)
    for (what, mine), (name, other) in both:
        assert what == name
        p, classes = same_classes(mine, other)
        found.append(Comparison(level.name, what, p, classes))
        if " to " in what and classes > 1:
            p = float(stats.ks_2samp(mine, other, method="asymp").pvalue)
            found.append(Comparison(level.name, f"{what} (KS)", p, classes))
    p, cells = same_cells(solid(ours), solid(theirs))
    return [*found, Comparison(level.name, "what is solid", p, 1 + min(cells, 1))]


def solid(state: State) -> np.ndarray:
    """``(N, H * W)`` bool: walls, doors and lava."""
    cells = state.cells[:, :-1]
    return np.asarray((cells >= codes.DOOR_CLOSED) | (cells == codes.LAVA))


def same_cells(first: np.ndarray, second: np.ndarray) -> tuple[float, int]:
    """Whether each cell is solid as often in both samples.

    Args:
        first: ``(N, H * W)`` bool.
        second: ``(M, H * W)`` bool.

    Returns:
        The least p-value of the cells times how many differ between levels, at most 1;
        and that number.
    """
    counts = np.stack([first.sum(0), second.sum(0)])
    sizes = np.array([[len(first)], [len(second)]])
    share = counts.sum(0) / sizes.sum()
    least = np.minimum(share, 1 - share) * sizes.min()
    varies = least >= FEWEST
    if not varies.any():
        return 1.0, 0
    gap = (counts / sizes)[0] - (counts / sizes)[1]
    spread = np.sqrt(share * (1 - share) * (1 / sizes).sum())
    z = np.abs(gap[varies] / spread[varies]).max()
    number = int(varies.sum())
    return min(1.0, float(2 * stats.norm.sf(z)) * number), number


def same_classes(first: np.ndarray, second: np.ndarray) -> tuple[float, int]:
    """p-value of a chi-square test of homogeneity, and how many classes it has.

    Args:
        first: ``(N,)`` integers.
        second: ``(M,)`` integers.
    """
    values, index = np.unique(np.concatenate([first, second]), return_inverse=True)
    table = np.zeros((2, len(values)))
    np.add.at(table[0], index[: len(first)], 1)
    np.add.at(table[1], index[len(first) :], 1)
    rare = table.sum(0) < 2 * FEWEST
    if rare.any():
        rest = table[:, rare].sum(1, keepdims=True)
        table = np.concatenate([table[:, ~rare], rest], 1)
        if rest.sum() < 2 * FEWEST and table.shape[1] > 1:
            table[:, -2] += table[:, -1]
            table = table[:, :-1]
    if table.shape[1] < 2:
        return 1.0, 1
    return float(stats.chi2_contingency(table, correction=False).pvalue), table.shape[1]


def threshold(found: list[Comparison]) -> float:
    """The p-value below which one of so many comparisons is an alarm (Bonferroni)."""
    return RISK / max(1, sum(one.classes > 1 for one in found))


def main(count: int) -> int:
    """Compare every level, print and keep the result; 1 when one differs."""
    found: list[Comparison] = []
    started = time.perf_counter()
    for number, level in enumerate(LEVELS.values()):
        seed = 10_000_000 * number
        ours = engine_sample(level, count, seed)
        theirs = minigrid_sample(level, count, seed)
        new = compare(level, ours, theirs)
        found += new
        least = min(new, key=lambda one: one.p)
        tested = sum(one.classes > 1 for one in new)
        print(f"{level.name}: {tested} comparisons, least p {least.p:.2g} {least.what}")
    limit = threshold(found)
    alarms = [one for one in found if one.p < limit]
    rows = {
        level: {
            "comparisons": sum(one.classes > 1 for one in found if one.level == level),
            "least_p": min(one.p for one in found if one.level == level),
            "of": min((one.p, one.what) for one in found if one.level == level)[1],
        }
        for level in LEVELS
    }
    result = {
        "command": f"python tests/envs/grid/level_samples.py {count}",
        "levels_of_each_kind": count,
        "comparisons": sum(one.classes > 1 for one in found),
        "threshold": limit,
        "alarms": [one._asdict() for one in alarms],
        "minigrid": minigrid.__version__,
        "rows": rows,
    }
    path = Path(__file__).parents[3] / "benchmarks" / "results" / "grid_levels.json"
    path.write_text(json.dumps(result, indent=1) + "\n")
    seconds = time.perf_counter() - started
    print(
        f"{result['comparisons']} comparisons of {count} levels each in {seconds:.0f} s"
        f", alarms below p = {limit:.2g}: {alarms or 'none'}"
    )
    return 1 if alarms else 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))

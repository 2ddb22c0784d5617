from __future__ import annotations

import json
import os
import subprocess
import sys
from itertools import pairwise
from typing import Any

import gymnasium as gym
import level_samples as samples
import numpy as np
import pytest
from our_numbers import OurNumbers, reset_on

from guerdon.envs import minigrid as tasks
from guerdon.envs.grid import cells as codes
from guerdon.envs.grid.engine import GridEngine
from guerdon.envs.grid.export import load_minigrid
from guerdon.envs.grid.levels import LEVELS, find_level
from guerdon.envs.grid.levels.base import OBSTACLES, Level
from guerdon.envs.grid.state import COUNT, DRAWS, EPISODE, LENGTH, LIST, ROOM_COUNT

NAMES = list(LEVELS)
SEEDS = 25
MANY = 200


def made(name: str, count: int = MANY, seed: int = 0) -> GridEngine:
    engine = GridEngine(name, count)
    engine.reset(seed + np.arange(count))
    return engine


def count_of(engine: GridEngine, kind: str) -> np.ndarray:
    low, high = samples.KINDS[kind]
    cells = engine.state.cells[:, :-1]
    return np.asarray(((cells >= low) & (cells < high)).sum(1))


# The same numbers make the same level.


@pytest.mark.parametrize("name", NAMES)
def test_minigrid_makes_our_level_of_our_numbers(name: str) -> None:
    level = LEVELS[name]
    engine, other = GridEngine(level, SEEDS), GridEngine(level, SEEDS)
    seeds = np.arange(SEEDS) * 1_000_003
    other.reset(seeds)
    raw = samples.minigrid_of_level(level)
    for episode in range(2):
        engine.reset(seeds) if episode == 0 else engine.next_episode()
        used = []
        for lane, seed in enumerate(seeds):
            numbers = OurNumbers(int(seed), episode)
            reset_on(raw, numbers)
            load_minigrid(other, lane, raw)
            used.append(numbers.draws)
        np.testing.assert_array_equal(engine.state.draws, used)
        np.testing.assert_array_equal(engine.state.cells, other.state.cells)
        ours, theirs = engine.state.numbers.copy(), other.state.numbers
        ours[[DRAWS, EPISODE]] = theirs[[DRAWS, EPISODE]]
        np.testing.assert_array_equal(ours, theirs)
        assert engine.mission(SEEDS - 1) == raw.mission


@pytest.mark.parametrize("name", NAMES)
def test_a_level_has_the_numbers_of_minigrids_environment(name: str) -> None:
    level = LEVELS[name]
    raw = samples.minigrid_of_level(level)
    assert (raw.width, raw.height) == (level.width, level.height)
    assert raw.max_steps == level.horizon
    assert raw.see_through_walls == level.through
    assert getattr(raw, "room_size", 0) == level.room_size
    assert raw.action_space.n == level.actions


def test_every_registered_level_of_minigrid_but_the_playground_is_here() -> None:
    names = [name for name in gym.registry if name.startswith("MiniGrid-")]
    plain = {name for name in names if "-WFC-" not in name}
    newest = {name for name in plain if f"{name[:-3]}-v1" not in plain - {name}}
    ours = {level.base for level in LEVELS.values() if not level.keywords}
    assert newest - ours == {"MiniGrid-Playground-v0"}
    assert ours <= newest
    assert all(find_level(base).base == base for base in ours)


@pytest.mark.parametrize("row", tasks.LEVELS, ids=lambda row: row.name)
def test_the_levels_of_our_tasks_say_what_the_tasks_say(row: tasks.Level) -> None:
    level = LEVELS[row.name]
    assert (row.base, row.width, row.height) == (level.base, level.width, level.height)
    assert (row.horizon, row.doors) == (level.horizon, level.doors)
    kind = tasks.KINDS[row.kind]
    assert kind.blocks == level.blocks
    assert kind.actions == level.actions
    assert row.keywords == level.keywords


@pytest.mark.parametrize("name", [name for name in NAMES if "KeyCorridor" in name])
def test_as_many_doors_are_declared_as_a_corridor_has_at_most(name: str) -> None:
    engine = made(name, 5_000)
    doors = count_of(engine, "door") + count_of(engine, "lock")
    assert doors.max() == engine.level.doors == engine.layout["doors_open"].high


# What every level must be.


@pytest.mark.parametrize("name", NAMES)
def test_no_level_is_open_to_the_outside_or_impossible(name: str) -> None:
    engine = made(name)
    level, state = engine.level, engine.state
    lanes = np.arange(MANY)
    assert (state.cells[lanes, state.position] == codes.EMPTY).all()
    assert ((state.direction >= 0) & (state.direction < 4)).all()
    everywhere = np.tile(np.arange(level.width * level.height), (MANY, 1))
    reached = samples.walks(level, state, everywhere)
    assert (reached[lanes, samples.target_of(state)] >= 0).all()
    grid = state.cells[:, :-1]
    doors = (grid >= codes.DOOR_CLOSED) & (grid < codes.WALL)
    things = (grid >= codes.GOAL) & (grid < codes.DOOR_CLOSED) & (grid != codes.LAVA)
    assert (reached[doors | things] >= 0).all()
    if "GoToDoor" in name:
        # Its doors lead into the rest of the grid; to open one ends the episode.
        grid[doors] = codes.GREY_WALL
        reached = samples.walks(level, state, everywhere)
    edge = np.zeros((level.height, level.width), bool)
    edge[[0, -1]] = edge[:, [0, -1]] = True
    assert (reached[:, edge.reshape(-1)] == -1).all()
    assert (state.cells[:, -1] == codes.GREY_WALL).all()


EXPECTED: dict[str, dict[str, Any]] = {
    "FourRooms": {"goal": 1, "door": 0, "wall": 4 * 18 + 33 - 4},
    "Unlock": {"lock": 1, "key": 1, "box": 0},
    "UnlockPickup": {"lock": 1, "key": 1, "box": 1, "ball": 0},
    "BlockedUnlockPickup": {"lock": 1, "key": 1, "box": 1, "ball": 1},
    "KeyCorridorS3R1": {"lock": 1, "key": 1, "ball": 1, "door": 1},
    "KeyCorridorS6R3": {"lock": 1, "key": 1, "ball": 1},
    "MultiRoom-N2-S4": {"door": 1, "goal": 1},
    "MultiRoom-N4-S5": {"door": 3, "goal": 1},
    "MultiRoom-N6": {"door": 5, "goal": 1},
    "MultiRoom-N7-S8": {"door": 6, "goal": 1},
    "LockedRoom": {"lock": 1, "door": 5, "key": 1, "goal": 1},
    "LavaCrossingS9N1": {"lava": 6, "goal": 1},
    "SimpleCrossingS9N1": {"lava": 0, "goal": 1, "wall": 32 + 6},
    "LavaGapS7": {"lava": 4, "goal": 1},
    "DistShift1": {"lava": 6, "goal": 1},
    "Dynamic-Obstacles-16x16": {"ball": 8, "goal": 1},
    "Dynamic-Obstacles-Random-5x5": {"ball": 2, "goal": 1},
    "GoToDoor-8x8": {"door": 4},
    "RedBlueDoors-6x6": {"door": 2},
    "ObstructedMaze-1Dl": {"lock": 1, "key": 1, "ball": 1, "box": 0},
    "ObstructedMaze-1Dlh": {"lock": 1, "key": 0, "ball": 1, "box": 1},
    "ObstructedMaze-1Dlhb": {"lock": 1, "key": 0, "ball": 2, "box": 1},
    "ObstructedMaze-2Dl": {"lock": 2, "door": 1, "key": 2, "ball": 1, "box": 0},
    "ObstructedMaze-2Dlhb": {"lock": 2, "door": 1, "key": 0, "ball": 3, "box": 2},
    "ObstructedMaze-2Q": {"lock": 4, "door": 2, "ball": 5, "box": 4},
    "ObstructedMaze-Full": {"lock": 8, "door": 4, "ball": 9, "box": 8},
}


@pytest.mark.parametrize("name", EXPECTED)
def test_a_level_holds_as_many_things_as_its_name_says(name: str) -> None:
    engine = made(name)
    for kind, expected in EXPECTED[name].items():
        np.testing.assert_array_equal(count_of(engine, kind), expected, kind)


@pytest.mark.parametrize("name", [n for n in NAMES if n.startswith("MultiRoom")])
def test_rooms_are_joined_by_doors_of_changing_colours(name: str) -> None:
    engine = made(name)
    level, largest = engine.level, engine.level.arguments[1]
    for lane in range(MANY):
        numbers = engine.state.numbers[:, lane]
        assert numbers[ROOM_COUNT] == level.rooms
        assert numbers[COUNT] == level.rooms - 1
        first = LIST + level.listed
        rooms = numbers[first : first + 4 * level.rooms].reshape(-1, 4)
        assert ((rooms[:, 2:] >= 4) & (rooms[:, 2:] <= largest)).all()
        paints = []
        for index, door in enumerate(numbers[LIST:first]):
            y, x = divmod(int(door), level.width)
            assert on_wall(rooms[index], x, y)
            assert on_wall(rooms[index + 1], x, y)
            paints.append(int(engine.state.cells[lane, door]) - codes.DOOR_CLOSED)
        assert all(a != b for a, b in pairwise(paints))
        assert inside(rooms[0], int(engine.state.position[lane]), level.width)
        goal = int((engine.state.cells[lane] == codes.GREEN_GOAL).argmax())
        assert inside(rooms[-1], goal, level.width)


def on_wall(room: np.ndarray, x: int, y: int) -> bool:
    """Whether a cell lies in a wall of a room, and in no corner."""
    right, down = x - room[0], y - room[1]
    across = right in (0, room[2] - 1) and 0 < down < room[3] - 1
    return bool(across or (down in (0, room[3] - 1) and 0 < right < room[2] - 1))


def inside(room: np.ndarray, cell: int, width: int) -> bool:
    y, x = divmod(cell, width)
    return bool(0 < x - room[0] < room[2] - 1 and 0 < y - room[1] < room[3] - 1)


def test_things_of_put_near_do_not_touch_and_differ() -> None:
    engine = made("PutNear-8x8-N3")
    for cells in engine.state.cells:
        (places,) = np.nonzero((cells >= codes.KEY) & (cells < codes.AGENT))
        assert len(places) == 3
        assert len(set(cells[places].tolist())) == 3
        ys, xs = np.divmod(places, 8)
        for one in range(3):
            for other in range(one):
                apart = max(abs(xs[one] - xs[other]), abs(ys[one] - ys[other]))
                assert apart > 1


def test_doors_of_go_to_door_have_four_colours() -> None:
    for cells in made("GoToDoor-6x6").state.cells:
        found = cells[(cells >= codes.DOOR_CLOSED) & (cells < codes.DOOR_LOCKED)]
        assert len(set(found.tolist())) == 4


def test_a_memory_level_is_won_beside_the_thing_that_was_shown() -> None:
    engine = made("MemoryS17Random")
    width = engine.level.width
    grid = engine.state.cells
    shown = grid[:, 7 * width + 1]
    aim = samples.target_of(engine.state)
    upper = aim // width < 8
    lanes = np.arange(MANY)
    beside = np.where(upper, aim - width, aim + width)
    np.testing.assert_array_equal(grid[lanes, beside], shown)
    assert 0 < upper.mean() < 1


# What a level depends on.


@pytest.mark.usefixtures("eager_threads")
@pytest.mark.parametrize("name", NAMES)
def test_a_level_depends_on_seed_and_episode_only(name: str) -> None:
    many = GridEngine(name, 300, threads=2)
    many.reset(np.arange(300))
    few = GridEngine(name, 3)
    few.reset(np.array([5, 6, 7]))
    rng = np.random.default_rng(0)
    for _ in range(3):  # what was there before must not matter
        few.step(rng.integers(0, 7, 3))
    chosen = np.array([299, 0, 123])
    few.reset(chosen)
    same(few, many, chosen)
    first = few.state.copy()
    many.next_episode()
    few.next_episode()
    same(few, many, chosen)
    if not name.startswith(("DistShift", "Empty", "LavaGapS5")):
        before = (first.cells, first.position, first.direction)
        after = (few.state.cells, few.state.position, few.state.direction)
        pairs = zip(before, after, strict=True)
        assert not all(np.array_equal(one, other) for one, other in pairs)


def same(few: GridEngine, many: GridEngine, chosen: np.ndarray) -> None:
    np.testing.assert_array_equal(few.state.cells, many.state.cells[chosen])
    ours, theirs = few.state.numbers.copy(), many.state.numbers[:, chosen]
    ours[LENGTH] = theirs[LENGTH]  # of the episode before
    np.testing.assert_array_equal(ours, theirs)


PLAIN = """
import hashlib, json
import numpy as np
from guerdon.envs.grid import expect
from guerdon.envs.grid.levels import LEVELS
from guerdon.envs.grid.state import LIST, new_state
digests = {}
for level in LEVELS.values():
    rows = LIST + level.listed + 4 * level.rooms
    state = new_state(2, level.width * level.height, rows)
    state.seeds[:] = (1, 2**40)
    params = expect.params_of(level, level.blocks, 7, 0)
    level.begin(np.ones(2, np.uint8), *state, params, 0, 2)
    text = state.cells.tobytes() + state.numbers.tobytes()
    digests[level.name] = hashlib.sha256(text).hexdigest()
print(json.dumps(digests))
"""


def test_plain_python_makes_the_levels_that_compiled_code_makes() -> None:
    found = []
    for disabled in ("1", "0"):
        environment = {**os.environ, "NUMBA_DISABLE_JIT": disabled}
        command = [sys.executable, "-W", "error::RuntimeWarning", "-c", PLAIN]
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, check=True
        )
        found.append(json.loads(done.stdout))
    assert found[0] == found[1]
    assert list(found[0]) == NAMES


# Distributions: MiniGrid draws its own numbers.


@pytest.fixture(scope="module")
def limit() -> float:
    return samples.RISK / (40 * len(NAMES))


@pytest.mark.parametrize("name", NAMES)
def test_a_few_hundred_levels_are_spread_like_minigrids(
    name: str, limit: float
) -> None:
    level = LEVELS[name]
    count = 250 if level.width < 19 else 120
    ours = samples.engine_sample(level, count, 1)
    theirs = samples.minigrid_sample(level, count, 1)
    for one in samples.compare(level, ours, theirs):
        assert one.p >= limit, one


def test_the_search_for_a_way_needs_the_key_and_counts_every_step() -> None:
    level = LEVELS["DoorKey-5x5"]
    state = made("DoorKey-5x5", 2).state
    # Columns and rows 1 to 3: agent, door, goal above; the key below the agent.
    room = np.array([[codes.EMPTY, codes.DOOR_LOCKED + codes.YELLOW, codes.GREEN_GOAL]])
    grid = np.full((5, 5), codes.GREY_WALL, np.uint8)
    grid[1, 1:4], grid[2, 1] = room, codes.KEY + codes.YELLOW
    state.cells[0, :-1] = grid.reshape(-1)
    grid[2, 1] = codes.KEY + codes.RED
    state.cells[1, :-1] = grid.reshape(-1)
    state.position[:] = 6
    targets = np.array([[8, 11, -1]] * 2)
    assert samples.walks(level, state, targets).tolist() == [[2, 1, -2], [-1, 1, -2]]


def test_the_chi_square_test_is_that_of_the_books() -> None:
    first = np.repeat([0, 1], [30, 10])
    second = np.repeat([0, 1], [10, 30])
    p, classes = samples.same_classes(first, second)
    # Statistic 80 (30 * 30 - 10 * 10)^2 / 40^4 = 20 with one degree of freedom.
    assert p == pytest.approx(7.744e-6, rel=1e-3)
    assert classes == 2
    p, cells = samples.same_cells(first[:, None] == 1, second[:, None] == 1)
    assert p == pytest.approx(7.744e-6, rel=1e-3)
    assert cells == 1


def test_the_comparison_sees_a_skewed_generator() -> None:
    level = LEVELS["KeyCorridorS3R3"]
    ours = samples.engine_sample(level, 3000, 0)
    theirs = samples.engine_sample(level, 4000, 3000)
    honest = samples.compare(level, ours, theirs)
    assert min(one.p for one in honest) >= samples.threshold(honest)
    # Leave out a third of the levels whose agent faces right.
    lanes = np.arange(4000)
    kept = (theirs.direction != 0) | (lanes % 3 > 0)
    skewed = type(theirs)(
        theirs.cells[kept], theirs.numbers[:, kept], theirs.seeds[kept]
    )
    found = samples.compare(level, ours, skewed)
    alarms = [one.what for one in found if one.p < samples.threshold(found)]
    assert alarms == ["direction"]


def test_obstacles_are_listed_in_their_order() -> None:
    for level in LEVELS.values():
        if level.rule == OBSTACLES:
            check_obstacles(level)


def check_obstacles(level: Level) -> None:
    state = made(level.name, 20).state
    listed = state.numbers[LIST : LIST + level.listed]
    assert (state.numbers[COUNT] == level.listed).all()
    for lane in range(20):
        balls = state.cells[lane, listed[:, lane]]
        assert (balls == codes.BALL + codes.BLUE).all()
        assert len(set(listed[:, lane].tolist())) == level.listed

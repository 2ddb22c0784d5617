from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy as np
import pytest

from guerdon.envs.arrays import Arrays
from guerdon.envs.grid import engine as engine_module
from guerdon.envs.grid.engine import GridEngine
from guerdon.envs.grid.levels import LEVELS
from guerdon.envs.grid.state import (
    COUNT,
    DIRECTION,
    DOOR_CELL,
    GOAL_CELL,
    LENGTH,
    LIST,
    NOWHERE,
    POSITION,
    State,
)
from guerdon.extras import MissingExtra

FORWARD, RIGHT = 2, 1


def actions(steps: int, lanes: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).choice([0, 1, 2, 2, 2, 3, 5], (steps, lanes))


def played(engine: GridEngine, seeds: Any, tape: np.ndarray) -> list[Arrays]:
    """Copies of what every step wrote."""
    rows = [engine.reset(np.asarray(seeds))]
    rows = [Arrays(*(array.copy() for array in rows[0]))]
    for row in tape:
        rows.append(Arrays(*(array.copy() for array in engine.step(row))))
    return rows


def assert_equal(one: Arrays, other: Arrays, lanes: Any = slice(None)) -> None:
    over = (one.terminated | one.truncated)[lanes]
    for name, a, b in zip(Arrays._fields, one, other, strict=True):
        a, b = a[lanes], b[lanes]
        if name == "final_obs":
            a, b = a[over], b[over]
        np.testing.assert_array_equal(a, b, name)


@pytest.mark.parametrize("level", ["DoorKey-5x5", "Empty-Random-5x5"])
def test_a_lane_depends_neither_on_its_place_nor_on_the_number_of_lanes(
    level: str,
) -> None:
    tape = actions(300, 6)
    seeds = np.array([4, 9, 4, 0, 2**62, 7])
    together = played(GridEngine(level, 6), seeds, tape)
    order = np.array([5, 3, 0])
    apart = played(GridEngine(level, 3), seeds[order], tape[:, order])
    for one, other in zip(together, apart, strict=True):
        for name, a, b in zip(Arrays._fields, one, other, strict=True):
            if name != "final_obs":
                np.testing.assert_array_equal(a[order], b, name)
    assert any(row.terminated.any() for row in together)


@pytest.mark.usefixtures("eager_threads")
def test_threads_change_nothing() -> None:
    lanes = 600
    tape = actions(40, lanes)
    one = GridEngine("DoorKey-5x5", lanes)
    three = GridEngine("DoorKey-5x5", lanes, threads=3)
    assert len(three._team.ranges) == 3
    for a, b in zip(
        played(one, np.arange(lanes), tape),
        played(three, np.arange(lanes), tape),
        strict=True,
    ):
        assert_equal(a, b)
    three.close()
    assert_equal(one.step(tape[0]), three.step(tape[0]))
    three.close()


def test_few_lanes_are_left_to_one_thread() -> None:
    assert GridEngine("Empty-5x5", 2047, threads=8)._team.ranges == [(0, 2047)]
    assert len(GridEngine("Empty-5x5", 2048, threads=8)._team.ranges) == 2


def test_equal_seeds_meet_equal_worlds_and_other_seeds_and_episodes_others() -> None:
    engine = GridEngine("DoorKey-16x16", 3)
    engine.reset(np.array([1, 1, 2]))
    first = engine.export()
    np.testing.assert_array_equal(first.cells[0], first.cells[1])
    assert (first.cells[0] != first.cells[2]).any()
    engine.next_episode()
    second = engine.export()
    np.testing.assert_array_equal(second.cells[0], second.cells[1])
    assert (second.cells[0] != first.cells[0]).any()
    assert second.episode.tolist() == [1, 1, 1]
    engine.reset(np.array([1, 1, 2]))
    np.testing.assert_array_equal(engine.state.cells, first.cells)


def test_a_hand_trace_of_the_empty_room() -> None:
    engine = GridEngine("Empty-5x5", 1)
    start = engine.reset(np.array([0]))
    # agent_x, agent_y, facing right and down, distance_to_goal, at_goal
    assert start.features[0].tolist() == [1, 1, 1, 0, 4, 0]
    for action in (FORWARD, FORWARD, RIGHT, FORWARD):
        arrays = engine.step(np.array([action]))
        np.testing.assert_array_equal(arrays.first, arrays.features)
    assert arrays.features[0].tolist() == [3, 2, 0, 1, 1, 0]
    assert not arrays.terminated[0]
    arrays = engine.step(np.array([FORWARD]))
    assert arrays.terminated[0]
    assert not arrays.truncated[0]
    assert arrays.features[0].tolist() == [3, 3, 0, 1, 0, 1]
    assert arrays.first[0].tolist() == [1, 1, 1, 0, 4, 0]
    assert arrays.reward[0] == arrays.fitness[0] == np.float32(1 - 0.9 * 5 / 100)
    assert arrays.success[0]
    assert engine.lengths[0] == engine.state.numbers[LENGTH, 0] == 5
    np.testing.assert_array_equal(arrays.obs, start.obs)
    assert (arrays.final_obs != arrays.obs).any()


def test_an_episode_is_cut_off_at_its_horizon_without_reward() -> None:
    engine = GridEngine("Empty-5x5", 1)
    engine.reset(np.array([0]))
    for step in range(1, 101):
        arrays = engine.step(np.array([6]))
        assert arrays.truncated[0] == (step == 100)
    assert arrays.reward[0] == arrays.fitness[0] == 0
    assert not arrays.success[0]
    assert engine.state.steps[0] == 0


def test_the_next_step_mode_shows_the_end_first_and_ignores_one_action() -> None:
    same = GridEngine("DoorKey-5x5", 4)
    late = GridEngine("DoorKey-5x5", 4, autoreset="next_step")
    seeds = np.arange(4)
    tape = actions(400, 4, seed=3)
    same.reset(seeds)
    late.reset(seeds)
    ends = 0
    for row in tape:
        now = Arrays(*(array.copy() for array in same.step(row)))
        then = Arrays(*(array.copy() for array in late.step(row)))
        over = now.terminated | now.truncated
        np.testing.assert_array_equal(then.features, now.features)
        np.testing.assert_array_equal(then.first, now.features)
        np.testing.assert_array_equal(then.obs[over], now.final_obs[over])
        np.testing.assert_array_equal(then.final_obs[over], now.final_obs[over])
        if over.any():
            again = late.step(np.where(over, 0, 6))
            waited = same.step(np.full(4, 6))  # done: lanes that go on wait a step
            np.testing.assert_array_equal(again.obs[over], now.obs[over])
            np.testing.assert_array_equal(again.features[over], now.first[over])
            np.testing.assert_array_equal(again.first[over], now.first[over])
            assert not again.reward[over].any()
            assert not (again.terminated | again.truncated)[over].any()
            same.state.steps[over] -= 1
            if (waited.terminated | waited.truncated).any():
                break
            ends += int(over.sum())
    assert ends > 3


def test_a_disabled_autoreset_asks_for_a_reset() -> None:
    engine = GridEngine("Empty-5x5", 2, autoreset="disabled")
    engine.reset(np.array([0, 1]))
    engine.state.numbers[POSITION] = engine.state.numbers[GOAL_CELL] - 1
    engine.state.numbers[DIRECTION, 1] = 3
    ended = engine.step(np.array([FORWARD, FORWARD]))
    assert ended.terminated.tolist() == [True, False]
    with pytest.raises(RuntimeError, match="begin the next one first"):
        engine.step(np.array([0, 0]))
    engine.next_episode(ended.terminated)
    assert engine.state.episode.tolist() == [1, 0]
    assert engine.state.steps.tolist() == [0, 1]
    engine.step(np.array([0, 0]))


def test_lanes_that_are_not_reset_go_on() -> None:
    engine = GridEngine("DoorKey-5x5", 3)
    engine.reset(np.arange(3))
    engine.step(np.array([0, 0, 0]))
    before = engine.export()
    arrays = engine.reset(np.array([8, 8, 8]), np.array([False, True, False]))
    assert engine.state.seeds.tolist() == [0, 8, 2]
    assert engine.state.steps.tolist() == [1, 0, 1]
    np.testing.assert_array_equal(engine.state.cells[[0, 2]], before.cells[[0, 2]])
    np.testing.assert_array_equal(arrays.first, arrays.features)
    np.testing.assert_array_equal(arrays.obs, engine.observe().obs)


def test_out_is_written_and_the_own_arrays_are_left_alone() -> None:
    engine, other = GridEngine("DoorKey-5x5", 2), GridEngine("DoorKey-5x5", 2)
    engine.reset(np.arange(2))
    other.reset(np.arange(2))
    block = engine.new_arrays(3)
    for step in range(3):
        out = Arrays(*(array[step] for array in block))
        assert engine.step(np.array([0, 2]), out) is out
        assert_equal(out, other.step(np.array([0, 2])))
    assert engine._own.obs.shape == (2, 7, 7, 3)
    assert block.features.any(axis=(1, 2)).all()


def test_a_state_is_exported_and_goes_on_alike_elsewhere() -> None:
    tape = actions(150, 2)
    one, two = GridEngine("DoorKey-5x5", 2), GridEngine("DoorKey-5x5", 2)
    played(one, [3, 4], tape[:70])
    kept = one.export()
    loaded = two.load_state(kept)
    np.testing.assert_array_equal(loaded.features, one.observe().features)
    for row in tape[70:]:
        assert_equal(one.step(row), two.step(row))
    assert (kept.numbers != one.state.numbers).any()


@pytest.mark.usefixtures("eager_threads")
@pytest.mark.parametrize(
    "copied", [pickle.dumps, copy.deepcopy], ids=["pickle", "copy"]
)
def test_an_engine_is_copied_in_the_middle_of_an_episode(copied: Any) -> None:
    engine = GridEngine("DoorKey-5x5", 300, threads=2)
    tape = actions(60, 300)
    played(engine, np.arange(300), tape[:30])
    twin = copied(engine)
    twin = pickle.loads(twin) if isinstance(twin, bytes) else twin
    for row in tape[30:]:
        assert_equal(engine.step(row), twin.step(row))
    assert twin.level is engine.level


@pytest.mark.parametrize(
    ("given", "error", "words"),
    [
        ({"level": "Sokoban"}, ValueError, "the grid engine has no 'Sokoban'"),
        ({"level": "DoorKy-8x8"}, ValueError, "did you mean 'DoorKey-8x8'"),
        ({"level": 8}, TypeError, "level: expected the name of a level, got 8"),
        ({"num_envs": 0}, ValueError, "num_envs: expected at least 1"),
        ({"num_envs": 2.5}, TypeError, "num_envs: expected a whole number"),
        ({"threads": 0}, ValueError, "threads: expected at least 1"),
        ({"device": "cuda"}, ValueError, "'cpu', got 'cuda'.*make_engine"),
        ({"autoreset": "later"}, ValueError, "autoreset: expected same_step, next"),
        ({"blocks": ["lava"]}, ValueError, "blocks: DoorKey-5x5 has agent, goal, key"),
        ({"blocks": ["key", "key"]}, ValueError, "each at most once; got key, key"),
        ({"blocks": "key"}, TypeError, "blocks: expected a list of texts, got 'key'"),
    ],
)
def test_what_is_not_supported_is_refused_by_name(
    given: dict[str, Any], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        GridEngine(**{"level": "DoorKey-5x5", "num_envs": 2} | given)


@pytest.mark.usefixtures("eager_threads")
@pytest.mark.parametrize("number", [-1, 7, 2**40, -(2**63)])
def test_an_action_out_of_range_is_refused_and_nothing_moves(number: int) -> None:
    engine = GridEngine("DoorKey-5x5", 300, threads=2)
    engine.reset(np.arange(300))
    before = engine.export()
    tape = np.zeros(300, np.int64)
    tape[299] = number
    with pytest.raises(ValueError, match=f"0 to 6, got {number} in lane 299"):
        engine.step(tape)
    for kept, now in zip(before, engine.state, strict=True):
        np.testing.assert_array_equal(kept, now)


@pytest.mark.parametrize(
    ("given", "error", "words"),
    [
        (np.zeros(2), TypeError, "actions: expected integers, got float64"),
        (np.zeros((2, 1), int), ValueError, r"expected shape \(2,\), got \(2, 1\)"),
        (np.zeros(3, int), ValueError, r"expected shape \(2,\), got \(3,\)"),
        (np.array([0, 2**64 - 1], np.uint64), ValueError, "in lane 1"),
        (["a", "b"], TypeError, "actions: expected integers"),
    ],
)
def test_actions_of_another_kind_are_refused(
    given: Any, error: type[Exception], words: str
) -> None:
    engine = GridEngine("DoorKey-5x5", 2)
    engine.reset(np.arange(2))
    with pytest.raises(error, match=words):
        engine.step(given)


def test_small_integers_are_taken_as_actions() -> None:
    engine = GridEngine("DoorKey-5x5", 2)
    engine.reset(np.arange(2))
    for kind in (np.uint8, np.int32, np.uint64):
        engine.step(np.array([1, 2], kind))
    engine.step(np.zeros(4, np.int64)[::2])
    assert engine.state.steps.tolist() == [4, 4]


@pytest.mark.parametrize(
    ("seeds", "lanes", "error", "words"),
    [
        (np.zeros(2), None, TypeError, "seeds: expected integers"),
        (np.zeros(3, int), None, ValueError, r"seeds: expected shape \(2,\)"),
        (np.array([0, -1]), None, ValueError, "seeds: expected 0 to"),
        (np.arange(2), np.ones(2, int), TypeError, "lanes: expected booleans"),
        (np.arange(2), np.ones(3, bool), ValueError, r"lanes: expected shape \(2,\)"),
        (np.arange(2), np.array([True, False]), ValueError, "all of them at the first"),
    ],
)
def test_seeds_and_lanes_of_another_kind_are_refused(
    seeds: Any, lanes: Any, error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        GridEngine("DoorKey-5x5", 2).reset(seeds, lanes)


def test_stepping_before_the_first_reset_is_refused() -> None:
    engine = GridEngine("DoorKey-5x5", 2)
    with pytest.raises(RuntimeError, match=r"call reset\(\) first"):
        engine.step(np.zeros(2, int))
    with pytest.raises(RuntimeError, match=r"call reset\(\) first"):
        engine.next_episode()


def test_arrays_that_cannot_be_written_to_are_refused() -> None:
    engine = GridEngine("DoorKey-5x5", 2)
    engine.reset(np.arange(2))
    good = engine.new_arrays()
    locked = np.zeros((2, 7, 7, 3), np.uint8)
    locked.flags.writeable = False
    for out, error, words in (
        ((), TypeError, "out: expected Arrays, got tuple"),
        (good._replace(reward=np.zeros(2)), TypeError, "out: reward: expected float32"),
        (good._replace(reward=[0, 0]), TypeError, "out: reward: expected float32, got"),
        (good._replace(obs=good.obs[:1]), ValueError, r"out: obs: expected shape \(2"),
        (good._replace(obs=locked), ValueError, "out: obs: expected a contiguous"),
        (good._replace(obs=good.obs.transpose(0, 2, 1, 3)), ValueError, "contiguous"),
    ):
        with pytest.raises(error, match=words):
            engine.step(np.zeros(2, int), out)  # type: ignore[arg-type]


def test_a_state_that_points_outside_is_refused() -> None:
    engine = GridEngine("DoorKey-5x5", 2)
    engine.reset(np.arange(2))
    good = engine.export()
    for row, value, words in (
        (POSITION, 25, "position: expected 0 to 24"),
        (POSITION, -1, "position: expected 0 to 24"),
        (DIRECTION, 4, "direction: expected 0 to 3"),
        (GOAL_CELL, 25, "marks: expected"),
        (DOOR_CELL, NOWHERE, "marks: expected 0 to 24"),
    ):
        bad = good.copy()
        bad.numbers[row, 1] = value
        with pytest.raises(ValueError, match=words):
            engine.load_state(bad)
    bad = good.copy()
    bad.cells[0, 3] = 97
    with pytest.raises(ValueError, match="cells: expected 1 to 96"):
        engine.load_state(bad)
    with pytest.raises(TypeError, match="state: expected a State, got tuple"):
        engine.load_state(tuple(good))  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="state: seeds: expected int64"):
        engine.load_state(good._replace(seeds=good.seeds.astype(np.int32)))
    with pytest.raises(ValueError, match="state: numbers: expected shape"):
        engine.load_state(State(good.cells, good.numbers[:-1], good.seeds))
    np.testing.assert_array_equal(engine.state.cells, good.cells)


def test_a_list_that_points_outside_is_refused_and_one_that_has_gaps_is_not() -> None:
    engine = GridEngine("MultiRoom-N2-S4", 2)
    engine.reset(np.arange(2))
    good = engine.export()
    GridEngine("MultiRoom-N2-S4", 2).load_state(good)
    bad = good.copy()
    bad.numbers[LIST, 0] = NOWHERE
    with pytest.raises(ValueError, match="list: expected 0 to 624"):
        engine.load_state(bad)
    bad.numbers[COUNT, 0] = 0
    engine.load_state(bad)


@pytest.mark.parametrize("level", ["Dynamic-Obstacles-5x5", "Dynamic-Obstacles-8x8"])
def test_an_obstacle_in_the_outer_wall_is_refused_and_in_any_other_cell_not(
    level: str,
) -> None:
    engine = GridEngine(level)
    engine.reset(np.zeros(1, int))
    good = engine.export()
    size = engine.level.width
    for cell in range(size * size):
        bad = good.copy()
        bad.numbers[LIST, 0] = cell
        if 0 < cell % size < size - 1 and 0 < cell // size < size - 1:
            engine.load_state(bad)
            continue
        with pytest.raises(
            ValueError, match=f"of an obstacle: expected 1 to {size - 2}"
        ):
            engine.load_state(bad)


def test_states_of_every_rule_are_taken_by_a_new_engine() -> None:
    rules = {level.rule: level.name for level in LEVELS.values()}
    assert len(rules) > 5
    for name in rules.values():
        engine, other = GridEngine(name, 2), GridEngine(name, 2)
        arrays = engine.reset(np.arange(2))
        loaded = other.load_state(engine.export())
        np.testing.assert_array_equal(loaded.obs, arrays.obs)


def test_a_level_that_takes_all_names_is_found_by_each() -> None:
    for name in ("DoorKey-8x8", "guerdon/DoorKey-8x8-v0", "MiniGrid-DoorKey-8x8-v0"):
        assert GridEngine(name).level.name == "DoorKey-8x8"


def test_without_the_compiler_the_extra_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from guerdon.envs.grid import compiled

    monkeypatch.setattr(compiled, "numba", None)
    with pytest.raises(MissingExtra, match=r"guerdon\[grid\].*engine=\"minigrid\""):
        GridEngine("Empty-5x5")
    plain = compiled.compiled(lambda x: x + 1)
    assert plain(1) == 2
    assert engine_module.require_compiler is compiled.require_compiler


@pytest.mark.parametrize("view", [5, "full"])
def test_lanes_that_are_selected_go_on_as_they_would_among_all(view: int | str) -> None:
    engine = GridEngine("DoorKey-5x5", 4, view=view)
    engine.reset(np.arange(4))
    rng, lanes = np.random.default_rng(0), np.array([3, 1])
    actions = rng.integers(0, 7, (9, 4))
    engine.step(actions[0])
    fewer = GridEngine("DoorKey-5x5", 4, view=view)
    fewer.load_state(engine.export())
    fewer = fewer.select(lanes)
    for row in actions[1:]:
        whole, some = engine.step(row), fewer.step(row[lanes])
        for a, b in zip(whole, some, strict=True):
            np.testing.assert_array_equal(a[lanes], b)

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest
from grid_walk import (
    FORWARD,
    LEFT,
    ONE_OF_A_KIND,
    PICKUP,
    TOGGLE,
    Walker,
    assert_features,
    expected,
    locked_door,
)

from guerdon.envs.minigrid import TASKS as MINIGRID
from guerdon.envs.table import load_task
from guerdon.envs.task import Task


@pytest.mark.parametrize("task", ONE_OF_A_KIND, ids=lambda task: task.id)
def test_features_equal_a_fresh_search_of_the_grid_at_every_step(task: Task) -> None:
    env = task.make(engine="minigrid")
    rng = np.random.default_rng(7)
    chances = np.array([0.15, 0.15, 0.4, 0.12, 0.06, 0.12, 0.0])[: task.action.size]
    chances /= chances.sum()
    compared = 0
    for seed in range(8):
        _, info = env.reset(seed=seed)
        locked = locked_door(env.unwrapped)
        for _ in range(60):
            oracle = expected(env.unwrapped, locked)
            compared += assert_features(task, info["features"], oracle)
            _, _, terminated, truncated, info = env.step(
                rng.choice(task.action.size, p=chances)
            )
            if terminated or truncated:
                oracle = expected(env.unwrapped, locked)
                compared += assert_features(task, info["features"], oracle)
                break
    assert compared > 100


@pytest.mark.parametrize("task", MINIGRID, ids=lambda task: task.id)
def test_declared_size_horizon_and_bounds_are_those_of_the_level(task: Task) -> None:
    env = task.make(engine="minigrid")
    env.reset(seed=0)
    raw = env.unwrapped
    assert task.horizon == raw.max_steps
    assert task.layout["agent_x"].high == raw.width - 2
    assert task.layout["agent_y"].high == raw.height - 2
    assert len(task.action.names) == env.action_space.n
    names = tuple(action.name for action in raw.actions)
    assert task.action.names == names[: env.action_space.n]


def test_a_scripted_doorkey_episode_turns_every_flag_on_when_it_happens() -> None:
    for seed in range(4):
        walk = Walker(load_task("guerdon/DoorKey-8x8-v0"), seed)
        key, door, goal = walk.find("key"), walk.find("door"), walk.find("goal")
        assert not walk.now.carrying_key
        assert not walk.now.door_unlocked

        now = walk.face(key)
        assert now.key_ahead
        assert now.distance_to_key == 1
        now = walk.do(PICKUP)
        assert now.carrying_key
        assert now.distance_to_key == 0
        assert not now.key_ahead

        now = walk.face(door)
        assert now.door_ahead
        assert now.distance_to_door == 1
        assert not now.door_unlocked
        now = walk.do(TOGGLE)
        assert now.door_unlocked
        assert now.door_open
        now = walk.do(TOGGLE)
        assert now.door_unlocked
        assert not now.door_open

        walk.do(TOGGLE, FORWARD)
        assert not walk.now.beyond_door
        assert walk.now.distance_to_door == 0
        assert walk.do(FORWARD).beyond_door
        now = walk.go_to(goal)
        assert now.at_goal
        assert now.distance_to_goal == 0

        steps = len(walk.actions)
        assert walk.info["success"] is True
        assert walk.info["fitness"] == pytest.approx(1 - 0.9 * steps / 640)
        assert walk.rewards[-1] == pytest.approx(walk.info["fitness"])


def test_a_dropped_key_is_found_where_it_was_dropped() -> None:
    walk = Walker(load_task("guerdon/DoorKey-8x8-v0"), 2)
    walk.face(walk.find("key"))
    walk.do(PICKUP)
    now = walk.drop_aside(walk.find("door"))
    assert not now.carrying_key
    assert now.distance_to_key == 1
    assert now.key_ahead
    now = walk.do(LEFT)
    assert not now.key_ahead
    key = walk.find("key")
    away = abs(key[0] - walk.raw.agent_pos[0]) + abs(key[1] - walk.raw.agent_pos[1])
    assert now.distance_to_key == away == 1


def test_multiroom_counts_rooms_and_doors_along_the_way() -> None:
    for name, rooms in (("MultiRoom-N2-S4", 2), ("MultiRoom-N4-S5", 4)):
        walk = Walker(load_task(f"guerdon/{name}-v0"), 3)
        doors = [tuple(map(int, r.entryDoorPos)) for r in walk.raw.rooms[1:]]
        assert len(doors) == rooms - 1
        assert walk.now.room == 0
        for number, door in enumerate(doors):
            assert walk.now.doors_open == number
            now = walk.face(door)
            assert now.door_ahead
            assert now.distance_to_door == 1
            assert not now.all_doors_open
            walk.do(TOGGLE)
            now = walk.do(FORWARD)
            assert now.room == number + 1
            if number + 1 < len(doors):
                x, y = doors[number + 1]
                away = abs(door[0] - x) + abs(door[1] - y)
                assert now.distance_to_door == away
        assert walk.now.all_doors_open
        assert walk.now.distance_to_door == 0
        walk.go_to(walk.find("goal"))
        assert walk.now.at_goal
        assert walk.info["success"] is True


def test_lava_kills_and_the_gap_leads_across() -> None:
    task = load_task("guerdon/LavaCrossingS9N1-v0")
    for seed in range(4):
        walk = Walker(task, seed)
        lava = {(x, y) for x in range(9) for y in range(9) if _is_lava(walk, x, y)}
        line = {x for x, _ in lava} if len({x for x, _ in lava}) == 1 else None
        gap = next(
            (x, y)
            for x in range(1, 8)
            for y in range(1, 8)
            if (x, y) not in lava and (x in line if line else y == next(iter(lava))[1])
        )
        assert walk.now.distance_to_gap == abs(gap[0] - 1) + abs(gap[1] - 1)
        assert not walk.now.beyond_lava
        now = walk.go_to(gap)
        assert now.distance_to_gap == 0
        assert not now.beyond_lava
        now = walk.go_to(walk.find("goal"))
        assert now.beyond_lava
        assert now.at_goal
        assert walk.info["success"] is True

        lost = Walker(task, seed)
        lost.face(next(iter(lava)))
        assert lost.now.lava_ahead
        now = lost.do(FORWARD)
        assert now.on_lava
        assert lost.ended
        assert lost.info["fitness"] == 0.0
        assert lost.info["success"] is False


def _is_lava(walk: Walker, x: int, y: int) -> bool:
    thing = walk.cell(x, y)
    return thing is not None and thing.type == "lava"


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("UnlockPickup", "box"),
        ("KeyCorridorS3R1", "ball"),
        ("KeyCorridorS3R2", "ball"),
        ("KeyCorridorS3R3", "ball"),
    ],
)
def test_a_scripted_pickup_behind_a_locked_door_succeeds(name: str, kind: str) -> None:
    for seed in range(3):
        walk = Walker(load_task(f"guerdon/{name}-v0"), seed)
        door = locked_door(walk.raw)
        assert door is not None
        walk.face(walk.find("key"))
        assert walk.do(PICKUP).carrying_key
        walk.face(door)
        opened = int(getattr(walk.now, "doors_open", 0))
        assert walk.do(TOGGLE).door_unlocked
        if kind == "ball":
            assert walk.now.doors_open == opened + 1
        assert not walk.now.beyond_door
        if kind == "box":
            walk.do(FORWARD, FORWARD)
            assert walk.now.beyond_door
        assert not walk.drop_aside(walk.find(kind)).carrying_key
        now = walk.face(walk.find(kind))
        assert now.target_ahead
        now = walk.do(PICKUP)
        assert now.carrying_target
        assert now.distance_to_target == 0
        assert walk.ended
        assert walk.info["success"] is True


def test_a_toggled_box_is_destroyed_and_its_distance_is_no_reward() -> None:
    walk = Walker(load_task("guerdon/UnlockPickup-v0"), 1)
    door = locked_door(walk.raw)
    assert door is not None
    walk.face(walk.find("key"))
    walk.do(PICKUP)
    walk.face(door)
    walk.do(TOGGLE)
    now = walk.face(walk.find("box"))
    assert not now.target_destroyed
    now = walk.do(TOGGLE)
    assert now.target_destroyed
    assert now.distance_to_target == 1
    assert not now.target_ahead
    assert not now.carrying_target


def test_the_observation_is_the_image_alone_with_tight_bounds() -> None:
    from minigrid.core.constants import COLOR_TO_IDX, OBJECT_TO_IDX

    env = load_task("guerdon/DoorKey-8x8-v0").make(engine="minigrid")
    obs, _ = env.reset(seed=0)
    space = env.observation_space
    assert isinstance(space, gym.spaces.Box)
    assert space.shape == (7, 7, 3)
    assert space.dtype == np.uint8
    assert space.high[0, 0].tolist() == [
        max(OBJECT_TO_IDX.values()),
        max(COLOR_TO_IDX.values()),
        3,
    ]
    np.testing.assert_array_equal(obs, env.unwrapped.gen_obs()["image"])

    from stable_baselines3.common.preprocessing import is_image_space

    assert not is_image_space(space)

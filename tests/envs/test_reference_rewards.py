from __future__ import annotations

import numpy as np
import pytest
from grid_walk import DROP, FORWARD, PICKUP, TOGGLE, Walker, locked_door

from guerdon.envs.grid.engine import GridEngine
from guerdon.envs.minigrid import TASKS as MINIGRID
from guerdon.envs.table import load_task
from guerdon.envs.task import Task
from guerdon.reward_design.language import terms
from guerdon.types import Batch, Features, Spec


def pay(task: Task, name: str, rows: list, actions: list) -> dict[str, np.ndarray]:
    """Every term of a reference reward along one episode, ``(T,)`` each."""
    reward = task.rewards[name]
    assert reward.source is not None
    program = terms(reward.source, task.layout, task.action)
    stack = np.array(rows, np.float32)
    steps = len(stack) - 1
    never = np.zeros(steps, bool)
    batch = Batch(
        obs=None,
        action=np.array(actions, np.float32),
        next_obs=None,
        prev=Features(task.layout, stack[:-1]),
        now=Features(task.layout, stack[1:]),
        reward=np.zeros(steps, np.float32),
        terminated=never,
        truncated=never,
    )
    values, _ = program.apply(program.init(Spec(task.layout, task.action)), batch)
    return dict(zip(program.names, values.T, strict=True))


@pytest.mark.parametrize("task", MINIGRID, ids=lambda task: task.id)
def test_minigrids_own_reward_is_said_to_be_negative_where_it_is(task: Task) -> None:
    assert task.engine is not None
    engine = GridEngine(task.id, 64)
    engine.reset(np.arange(64))
    rng = np.random.default_rng(0)
    least = min(
        float(engine.step(rng.integers(task.action.size, size=64)).reward.min())
        for _ in range(40)
    )
    assert least in (0.0, -1.0)
    assert ("-1 for" in task.rewards["sparse"].origin) == (least == -1.0)


def test_walls_and_balls_cost_as_much_as_obstacle_levels_say() -> None:
    task = load_task("guerdon/Dynamic-Obstacles-5x5-v0")
    raw = task.make(engine="minigrid").unwrapped
    for thing in ("ball", "wall"):
        for seed in range(5):
            raw.reset(seed=seed)
            raw.agent_pos = (1, 1)
            raw.agent_dir = 3  # the wall above
            if thing == "ball":
                ball = raw.obstacles[0]
                raw.grid.set(*ball.cur_pos, None)
                raw.agent_dir = 0
                raw.put_obj(ball, 2, 1)
            assert raw.step(FORWARD)[1:4] == (-1, True, False)
        assert thing in task.rewards["sparse"].origin
        assert thing in task.intent


def test_the_human_doorkey_reward_pays_progress_events_and_goal() -> None:
    walk = Walker(load_task("guerdon/DoorKey-8x8-v0"), 0)
    start = walk.now
    key, door, goal = walk.find("key"), walk.find("door"), walk.find("goal")
    walk.face(key)
    walk.do(PICKUP)
    at_key = walk.now
    walk.face(door)
    walk.do(TOGGLE)
    at_door = walk.now
    walk.go_to(goal)
    paid = pay(walk.task, "human", walk.rows, walk.actions)
    steps = len(walk.actions)
    # The last cell to the key is bridged by the hand, and is not paid as progress.
    assert paid["approach_key"].sum() == pytest.approx(
        0.05 * (start.distance_to_key - 1)
    )
    assert paid["pickup"].sum() == pytest.approx(0.3)
    assert paid["approach_door"].sum() == pytest.approx(
        0.05 * (at_key.distance_to_door - 1)
    )
    assert paid["unlock"].sum() == pytest.approx(0.5)
    assert paid["approach_goal"].sum() == pytest.approx(0.05 * at_door.distance_to_goal)
    assert paid["time"].sum() == pytest.approx(-0.001 * steps, rel=1e-5)
    assert paid["goal"].tolist() == [0.0] * (steps - 1) + [1.0]


def test_the_human_doorkey_reward_can_be_farmed_as_published_ones_can() -> None:
    walk = Walker(load_task("guerdon/DoorKey-8x8-v0"), 0)
    walk.face(walk.find("key"))
    for _ in range(5):
        walk.do(PICKUP, DROP)
    paid = pay(walk.task, "human", walk.rows, walk.actions)
    assert paid["pickup"].sum() == pytest.approx(1.5)


def test_the_human_multiroom_and_pickup_rewards_pay_their_events() -> None:
    walk = Walker(load_task("guerdon/MultiRoom-N4-S5-v0"), 3)
    walk.go_to(walk.find("goal"))
    paid = pay(walk.task, "human", walk.rows, walk.actions)
    assert paid["open_door"].sum() == pytest.approx(0.9)
    assert paid["goal"].sum() == 1.0

    walk = Walker(load_task("guerdon/UnlockPickup-v0"), 1)
    door = locked_door(walk.raw)
    assert door is not None
    walk.face(walk.find("key"))
    walk.do(PICKUP)
    walk.face(door)
    walk.do(TOGGLE, TOGGLE, TOGGLE)
    paid = pay(walk.task, "human", walk.rows, walk.actions)
    assert paid["unlock"].sum() == pytest.approx(0.5)
    assert paid["goal"].sum() == 0.0


def test_the_human_lava_reward_punishes_lava_once() -> None:
    walk = Walker(load_task("guerdon/LavaCrossingS9N1-v0"), 0)
    walk.face(walk.find("lava"))
    walk.do(FORWARD)
    paid = pay(walk.task, "human", walk.rows, walk.actions)
    assert paid["lava"].tolist() == [0.0] * (len(walk.actions) - 1) + [-1.0]


def test_sparse_rewards_of_control_tasks_pay_at_the_right_moment() -> None:
    task = load_task("guerdon/CartPole-v1")
    env = task.make()
    rows = [env.reset(seed=0)[1]["features"]]
    ended = False
    while not ended:
        _, _, ended, _, info = env.step(1)
        rows.append(info["features"])
    steps = len(rows) - 1
    fall = pay(task, "sparse", rows, [1] * steps)["fall"]
    assert fall.tolist() == [0.0] * (steps - 1) + [-1.0]

    task = load_task("guerdon/HalfCheetah-v5")
    row = task.make().reset(seed=0)[1]["features"]
    near, far = row.copy(), row.copy()
    near[0], far[0] = 4.9, 5.1
    far_term = pay(task, "sparse", [row, near, far], np.zeros((2, 6)))["far"]
    assert far_term.tolist() == [0.0, 1.0]

    task = load_task("guerdon/LunarLander-v3")
    names = [feature.name for feature in task.layout]
    rows = [np.zeros(task.layout.width, np.float32) for _ in range(4)]
    for name in ("at_rest", "between_flags"):
        rows[1][names.index(name)] = 1.0
    rows[2][names.index("at_rest")] = 1.0
    rows[3][names.index("crashed")] = 1.0
    paid = pay(task, "sparse", rows, [0, 0, 0])
    assert paid["landed"].tolist() == [1.0, 0.0, 0.0]
    assert paid["crash"].tolist() == [0.0, 0.0, -1.0]


def test_swinging_with_the_velocity_pays_in_the_human_car_reward() -> None:
    task = load_task("guerdon/MountainCarContinuous-v0")
    env = task.make()
    _, info = env.reset(seed=0)
    rows, actions, ended = [info["features"]], [], False
    while not ended:
        push = [1.0 if task.view(info).velocity >= 0 else -1.0]
        _, _, ended, _, info = env.step(np.array(push, np.float32))
        rows.append(info["features"])
        actions.append(push)
    paid = pay(task, "human", rows, actions)
    gained = 10.0 * float(
        task.view(info).energy - task.view({"features": rows[0]}).energy
    )
    assert paid["energy"].sum() == pytest.approx(gained, rel=1e-4)
    assert paid["goal"].sum() == 100.0
    assert paid["effort"].sum() == pytest.approx(-0.1 * len(actions), rel=1e-4)

"""Tasks on the engine and on Farama MiniGrid: one task, whatever plays it."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import gymnasium as gym
import minigrid
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from our_numbers import OurNumbers, give

import guerdon
from guerdon.envs.checker import check_task
from guerdon.envs.grid import compiled
from guerdon.envs.grid.vector import GridEnv, GridVectorEnv
from guerdon.envs.minigrid import LEVELS, TASKS
from guerdon.envs.scores import episode_length
from guerdon.envs.table import load_task
from guerdon.envs.task import Task, TaskEnv
from guerdon.extras import MissingExtra
from guerdon.reward_design.adapters.gym import RewardWrapper, VectorRewardWrapper
from guerdon.reward_design.reference import reward_for
from guerdon.types import Episode

assert minigrid  # registers its environments

NAME = "guerdon/DoorKey-5x5-v0"
DOORKEY = load_task(NAME)
CARTPOLE = load_task("guerdon/CartPole-v1")


@contextmanager
def on_our_numbers(task: Task, seed: int) -> Iterator[tuple[Any, Any, Any]]:
    """Farama's variant in the world that the engine makes of a seed."""
    env = task.make(engine="minigrid")
    give(env, OurNumbers(seed))
    obs, info = env.reset()
    yield env, obs, info
    env.close()


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.id)
def test_single_vector_and_farama_variant_say_the_same(task: Task) -> None:
    """Observation, reward, ends, features and score, step by step."""
    single = task.make()
    many = task.make_vec(2, vector_kwargs={"autoreset_mode": AutoresetMode.SAME_STEP})
    assert type(single) is GridEnv
    assert type(many) is GridVectorEnv
    rng = np.random.default_rng(1)
    obs, info = single.reset(seed=8)
    rows, infos = many.reset(seed=7)
    with on_our_numbers(task, 8) as (farama, first, start):
        assert farama.action_space == single.action_space == many.single_action_space
        assert farama.observation_space == single.observation_space
        assert single.observation_space == many.single_observation_space
        np.testing.assert_array_equal(obs, first)
        np.testing.assert_array_equal(rows[1], first)
        np.testing.assert_array_equal(info["features"], start["features"])
        np.testing.assert_array_equal(infos["features"][1], start["features"])
        for _ in range(60):
            action = int(rng.integers(task.action.size))
            one, other = single.step(action), farama.step(action)
            lane = many.step(np.array([0, action]))
            over = one[2] or one[3]
            assert one[1:4] == other[1:4]
            assert tuple(part[1] for part in lane[1:4]) == one[1:4]
            np.testing.assert_array_equal(one[0], other[0])
            own = lane[4]["final_info"] if over else lane[4]
            for key in ("features", "fitness", "success") if over else ("features",):
                np.testing.assert_array_equal(one[4][key], other[4][key])
                np.testing.assert_array_equal(own[key][1], one[4][key])
            if over:
                assert type(one[4]["fitness"]) is type(other[4]["fitness"])
                break
    single.close()
    many.close()


def test_the_engine_is_what_every_way_of_making_a_level_gives() -> None:
    for env in (gym.make(NAME), guerdon.make(NAME), DOORKEY.make(engine="grid")):
        assert type(env.unwrapped) is GridEnv
        assert env.get_wrapper_attr("task") is DOORKEY
        assert env.spec is not None
        assert env.spec.id == NAME
    envs = gym.make_vec(NAME, num_envs=3)
    assert type(envs) is GridVectorEnv
    assert envs.num_envs == 3
    assert envs.task is DOORKEY  # type: ignore[attr-defined]
    assert envs.metadata["autoreset_mode"] is AutoresetMode.NEXT_STEP
    same = gym.make_vec(NAME, num_envs=2, autoreset_mode="SameStep")
    assert same.metadata["autoreset_mode"] is AutoresetMode.SAME_STEP
    synced = gym.make_vec(NAME, num_envs=2, vectorization_mode="sync")
    assert type(synced) is SyncVectorEnv
    assert type(synced.envs[0].unwrapped) is GridEnv


def test_farama_can_be_chosen_wherever_a_level_is_made() -> None:
    for env in (
        gym.make(NAME, engine="minigrid"),
        guerdon.make(NAME, engine="minigrid"),
        DOORKEY.make(engine="minigrid"),
        gym.make(gym.make(NAME, engine="minigrid").spec),
    ):
        assert type(env.unwrapped).__name__ == "DoorKeyEnv"
        assert env.get_wrapper_attr("task") is DOORKEY
    for envs in (
        gym.make_vec(NAME, num_envs=2, engine="minigrid"),
        gym.make_vec(NAME, num_envs=2, engine="minigrid", vectorization_mode="sync"),
        DOORKEY.make_vec(2, engine="minigrid"),
    ):
        assert type(envs) is SyncVectorEnv
        assert type(envs.envs[0].unwrapped).__name__ == "DoorKeyEnv"
        envs.close()


def test_another_engine_is_refused_with_those_there_are() -> None:
    with pytest.raises(ValueError, match="expected 'minigrid' or 'grid', got 'gird'"):
        gym.make(NAME, engine="gird")
    with pytest.raises(ValueError, match="expected 'classic', got 'grid'"):
        CARTPOLE.make_vec(2, engine="grid")
    assert CARTPOLE.make(engine="classic").task is CARTPOLE


def test_keywords_of_minigrid_belong_to_its_own_variant() -> None:
    with pytest.raises(TypeError, match=r'max_steps: no such .* engine="minigrid"'):
        DOORKEY.make(max_steps=3)
    assert DOORKEY.make(engine="minigrid", max_steps=3).unwrapped.max_steps == 3
    assert DOORKEY.make(view=5).observation_space.shape == (5, 5, 3)


@pytest.fixture
def _without_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiled, "numba", None)


@pytest.mark.usefixtures("_without_compiler")
def test_without_the_compiler_levels_are_faramas_unless_the_engine_is_named() -> None:
    assert type(gym.make(NAME).unwrapped).__name__ == "DoorKeyEnv"
    assert type(DOORKEY.make()) is TaskEnv
    envs = gym.make_vec(NAME, num_envs=2, autoreset_mode="SameStep")
    assert type(envs) is SyncVectorEnv
    assert envs.metadata["autoreset_mode"] is AutoresetMode.SAME_STEP
    with pytest.raises(MissingExtra, match=r"pip install 'guerdon\[grid\]'"):
        gym.make(NAME, engine="grid")
    with pytest.raises(MissingExtra, match=r"pip install 'guerdon\[grid\]'"):
        gym.make_vec(NAME, num_envs=2, engine="grid")
    check_task(DOORKEY)


def test_a_task_with_a_part_of_its_own_leaves_the_engine() -> None:
    def fitness(episode: Episode) -> float:
        return -episode_length(episode)

    mine = replace(DOORKEY, id="mine", fitness=fitness)
    assert mine.engine is None
    env = mine.make()
    assert type(env) is TaskEnv
    env.reset(seed=0)
    over, steps = False, 0
    while not over:
        _, _, terminated, truncated, info = env.step(0)
        over, steps = terminated or truncated, steps + 1
    assert info["fitness"] == -steps
    named = replace(DOORKEY, id="another name", intent="Do the same.")
    assert named.engine is DOORKEY.engine
    assert named.make().task is named


def test_no_wrapper_changes_the_score_that_the_engine_gives() -> None:
    task = load_task("guerdon/Empty-5x5-v0")
    plan = [2, 2, 1, 2, 2]
    for env in (
        gym.wrappers.TransformReward(task.make(), lambda reward: -5.0),
        RewardWrapper(task.make(), reward_for(task, "human", "none")),
    ):
        env.reset(seed=0)
        for action in plan:
            _, _, terminated, _, info = env.step(action)
            info["features"][:] = 7.0
        assert terminated
        assert info["fitness"] == 1 - 0.9 * 5 / 100
        assert info["success"] is True


def test_rewards_of_programs_are_paid_on_the_engine_as_on_farama() -> None:
    program = reward_for(DOORKEY, "human", "sparse")
    single = RewardWrapper(DOORKEY.make(), program)
    many = VectorRewardWrapper(gym.make_vec(NAME, num_envs=2), program)
    single.reset(seed=5)
    many.reset(seed=5)
    with on_our_numbers(DOORKEY, 5) as (farama, _, _):
        paid = RewardWrapper(farama, program)
        give(farama, OurNumbers(5))
        paid.reset()
        rng = np.random.default_rng(0)
        for _ in range(100):
            action = int(rng.integers(7))
            rewards = single.step(action)[1], paid.step(action)[1]
            assert rewards[0] == rewards[1] == many.step(np.full(2, action))[1][0]


def test_an_environment_of_a_task_is_pickled_with_its_task() -> None:
    env = pickle.loads(pickle.dumps(DOORKEY.make()))
    assert env.task.id == NAME
    assert env.reset(seed=1)[1]["features"].shape == (DOORKEY.layout.width,)


@pytest.mark.parametrize(
    "name",
    [
        "Empty-8x8",
        "DoorKey-5x5",
        "DoorKey-6x6",
        "DoorKey-8x8",
        "FourRooms",
        "UnlockPickup",
        "KeyCorridorS3R1",
        "KeyCorridorS3R2",
        "KeyCorridorS3R3",
        "MultiRoom-N2-S4",
        "MultiRoom-N4-S5",
        "LavaCrossingS9N1",
        "LavaGapS5",
        "MemoryS7",
        "RedBlueDoors-6x6",
        "Dynamic-Obstacles-5x5",
    ],
)
def test_farama_s_variant_of_a_task_conforms_too(name: str) -> None:
    task = replace(load_task(f"guerdon/{name}-v0"), id=name, engine=None)
    env = task.make()
    assert "minigrid" in type(env.unwrapped).__module__
    env.close()
    check_task(task)


def test_levels_and_tasks_are_in_one_order() -> None:
    assert [f"guerdon/{level.name}-v0" for level in LEVELS] == [t.id for t in TASKS]

from __future__ import annotations

from dataclasses import replace

import gymnasium as gym
import numpy as np
import pytest
from grid_walk import ONE_OF_A_KIND
from gymnasium.vector import AutoresetMode

import guerdon
from guerdon.envs.table import TASKS, load_task
from guerdon.envs.task import TaskEnv


def run(env: gym.Env, seed: int, rng_seed: int = 0) -> tuple[list, list, dict]:
    """Rewards, observations and the last info of one random episode."""
    rng = np.random.default_rng(rng_seed)
    obs, info = env.reset(seed=seed)
    rewards, observations = [], [obs]
    terminated = truncated = False
    while not (terminated or truncated):
        action = _draw(env, rng)
        obs, reward, terminated, truncated, info = env.step(action)
        rewards.append(reward)
        observations.append(obs)
    return rewards, observations, info


def _draw(env: gym.Env, rng: np.random.Generator) -> object:
    space = env.action_space
    if isinstance(space, gym.spaces.Discrete):
        return int(rng.integers(space.n))
    return rng.uniform(space.low, space.high).astype(np.float32)


CARTPOLE = TASKS["guerdon/CartPole-v1"]


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"id": 5}, TypeError, "task id: expected a text, got 5"),
        ({"id": " "}, ValueError, "task id: expected a name"),
        ({"intent": None}, TypeError, "intent: expected a text"),
        ({"make_base": "x"}, TypeError, "make_base: expected a function"),
        ({"layout": []}, TypeError, "layout: expected a Layout"),
        ({"action": "discrete"}, TypeError, "action: expected an ActionSpec"),
        ({"fitness": 1.0}, TypeError, "fitness: expected a function of an Episode"),
        ({"rewards": []}, TypeError, "rewards: expected a mapping"),
        ({"horizon": 0}, ValueError, "horizon: expected at least 1, got 0"),
        ({"horizon": 2.5}, TypeError, "horizon: expected a whole number"),
        ({"budget": None}, TypeError, "budget: expected a whole number"),
    ],
)
def test_a_task_of_wrong_parts_is_refused_at_construction(
    change: dict, error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        replace(CARTPOLE, **change)


def test_a_reference_reward_is_a_text_or_the_environments_own() -> None:
    with pytest.raises(TypeError, match="reward source: expected a text or None"):
        guerdon.ReferenceReward(5, "a test")
    with pytest.raises(TypeError, match="reward origin: expected a text, got None"):
        guerdon.ReferenceReward(None, None)


@pytest.mark.parametrize(
    ("change", "part"),
    [
        ("make_base", "making its environment failed"),
        ("read", "starting an episode failed"),
        ("fitness", "its fitness failed"),
        ("success", "its success failed"),
    ],
)
def test_an_error_in_a_part_of_a_task_comes_out_with_the_name_of_the_part(
    change: str, part: str
) -> None:
    def fails(*words: object, **more: object) -> None:
        raise ZeroDivisionError

    task = replace(CARTPOLE, **{change: fails})
    with pytest.raises(ZeroDivisionError) as caught:
        run(task.make(), seed=0)
    assert caught.value.__notes__[0] == f"task guerdon/CartPole-v1: {part}"


@pytest.mark.parametrize(
    ("row", "error", "words"),
    [
        ([0.0] * 7, TypeError, "read: expected a float32 array"),
        (np.zeros(7), TypeError, "expected a float32 array .* got float64"),
        (np.zeros(6, np.float32), ValueError, r"expected shape \(7,\), got \(6,\)"),
    ],
)
def test_a_first_row_that_is_none_is_refused(
    row: object, error: type[Exception], words: str
) -> None:
    task = replace(CARTPOLE, read=lambda env, obs, info: row)
    with pytest.raises(error, match=words):
        task.make().reset(seed=0)


OTHERS = [task for task in TASKS.values() if task.family != "minigrid"]


@pytest.mark.parametrize("task", [*ONE_OF_A_KIND, *OTHERS], ids=lambda task: task.id)
def test_rewards_and_observations_are_those_of_the_raw_environment(
    task: guerdon.Task,
) -> None:
    rewards, observations, info = run(task.make(engine=task.family), seed=5)
    raw_rewards, raw_observations, raw_info = run(task.make_base(), seed=5)
    assert rewards == raw_rewards
    for ours, raw in zip(observations, raw_observations, strict=True):
        np.testing.assert_array_equal(ours, raw)
    assert "fitness" not in raw_info
    assert type(info["fitness"]) is float
    assert type(info["success"]) is bool
    assert len(rewards) <= task.horizon


@pytest.mark.parametrize(
    "task_id", ["guerdon/Empty-8x8-v0", "guerdon/LunarLander-v3", "guerdon/Pendulum-v1"]
)
def test_fitness_is_the_return_of_the_raw_rewards(task_id: str) -> None:
    task = load_task(task_id)
    for engine in (None, task.family):
        rewards, _, info = run(task.make(engine=engine), seed=1)
        assert info["fitness"] == pytest.approx(sum(rewards))


def test_no_wrapper_and_no_caller_can_change_the_fitness() -> None:
    task = load_task("guerdon/Hopper-v5")
    _, _, plain = run(task.make(), seed=3)
    env = gym.wrappers.TransformReward(task.make(), lambda reward: -reward)
    rng = np.random.default_rng(0)
    _, info = env.reset(seed=3)
    ended = False
    while not ended:
        info["features"][:] = 1e9
        action = rng.uniform(-1, 1, 3).astype(np.float32)
        _, _, terminated, truncated, info = env.step(action)
        ended = terminated or truncated
        action[:] = 0.0
    assert info["fitness"] == plain["fitness"]


def test_an_episode_has_one_row_more_than_steps_and_its_own_actions() -> None:
    seen = []

    def fitness(episode: guerdon.Episode) -> float:
        seen.append(episode)
        return 0.0

    task = guerdon.task_from_env("Pendulum-v1", text="Swing up.", fitness=fitness)
    env = task.make()
    _, info = env.reset(seed=0)
    rows, actions = [info["features"].copy()], []
    action = np.zeros(1, np.float32)  # one array, changed in place
    for step in range(200):
        action[0] = np.sin(step)
        actions.append(float(action[0]))
        _, _, _, _, info = env.step(action)
        rows.append(info["features"].copy())
    (episode,) = seen
    assert episode.length == 200
    assert episode.truncated
    assert not episode.terminated
    np.testing.assert_array_equal(episode.features, rows)
    np.testing.assert_allclose(episode.action[:, 0], actions)
    assert not episode.features.flags.writeable


def test_stepping_before_reset_or_after_the_end_is_refused() -> None:
    env = load_task("guerdon/CartPole-v1").make()
    with pytest.raises(gym.error.ResetNeeded, match="reset"):
        env.step(0)
    run(env, seed=0)
    with pytest.raises(gym.error.ResetNeeded, match="reset"):
        env.step(0)


def test_the_three_ways_of_making_an_environment_agree() -> None:
    task_id = "guerdon/DoorKey-5x5-v0"
    envs = [
        gym.make(task_id),
        gym.make(f"guerdon:{task_id}"),
        load_task(task_id).make(),
        guerdon.make(task_id),
    ]
    fits = [run(env, seed=11)[2] for env in envs]
    for info in fits[1:]:
        np.testing.assert_array_equal(info["features"], fits[0]["features"])
        assert info["fitness"] == fits[0]["fitness"]
    assert all(env.spec is not None and env.spec.id == task_id for env in envs)


def test_nothing_is_doubled_in_a_made_environment() -> None:
    names = []
    env = gym.make("guerdon/CartPole-v1")
    while isinstance(env, gym.Wrapper):
        names.append(type(env).__name__)
        env = env.env
    assert names == ["PassiveEnvChecker", "TaskEnv", "TimeLimit", "OrderEnforcing"]


def test_a_spec_makes_the_task_again() -> None:
    spec = gym.make("guerdon/CartPole-v1").spec
    assert spec is not None
    again = spec.make()
    assert isinstance(again.env, TaskEnv)
    assert "features" in again.reset(seed=0)[1]


@pytest.mark.parametrize("mode", [AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP])
def test_the_vector_form_gives_the_same_features_in_both_autoreset_modes(
    mode: AutoresetMode,
) -> None:
    task = load_task("guerdon/CartPole-v1")
    envs = gym.make_vec(task.id, num_envs=3, vector_kwargs={"autoreset_mode": mode})
    _, infos = envs.reset(seed=20)
    singles = [task.make() for _ in range(3)]
    rows = [env.reset(seed=20 + i)[1]["features"] for i, env in enumerate(singles)]
    np.testing.assert_array_equal(infos["features"], rows)
    assert infos["features"].shape == (3, task.layout.width)
    assert infos["features"].dtype == np.float32
    ends = 0
    resets = [False] * 3
    for step in range(120):
        actions = np.array([(step + i) // 2 % 2 for i in range(3)])
        _, _, terminated, truncated, infos = envs.step(actions)
        for i, env in enumerate(singles):
            if resets[i]:  # the extra step of NEXT_STEP is a reset
                row = env.reset()[1]["features"]
                resets[i] = False
                np.testing.assert_array_equal(infos["features"][i], row)
                continue
            info = env.step(int(actions[i]))[-1]
            if terminated[i] or truncated[i]:
                ends += 1
                own = infos["final_info"] if mode is AutoresetMode.SAME_STEP else infos
                np.testing.assert_array_equal(own["features"][i], info["features"])
                assert own["fitness"][i] == info["fitness"]
                assert own["success"][i] == info["success"]
                if mode is AutoresetMode.SAME_STEP:
                    info = env.reset()[1]
                else:
                    resets[i] = True
            np.testing.assert_array_equal(infos["features"][i], info["features"])
    assert ends > 3
    envs.close()


def test_render_mode_passes_through() -> None:
    env = gym.make("guerdon/DoorKey-5x5-v0", render_mode="rgb_array")
    env.reset(seed=0)
    picture = env.render()
    assert env.render_mode == "rgb_array"
    assert picture.ndim == 3


def test_a_shorter_time_limit_given_to_make_still_scores() -> None:
    env = load_task("guerdon/Pendulum-v1").make(max_episode_steps=7)
    rewards, _, info = run(env, seed=0)
    assert len(rewards) == 7
    assert info["fitness"] == pytest.approx(sum(rewards))


def test_a_vector_of_no_environments_is_refused() -> None:
    with pytest.raises(ValueError, match="num_envs: expected at least 1, got 0"):
        load_task("guerdon/CartPole-v1").make_vec(0)


def test_features_of_an_info_have_names() -> None:
    task = load_task("guerdon/CartPole-v1")
    obs, info = task.make().reset(seed=0)
    now = task.view(info)
    assert now.cart_position == obs[0]
    assert now.upright.dtype == bool

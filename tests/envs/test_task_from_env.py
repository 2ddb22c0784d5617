from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest

import guerdon
from guerdon.envs.checker import check_task
from guerdon.types import Episode, Feature


class Counter(gym.Env[Any, Any]):
    """Counts up by the action; the observation is a dictionary of all sorts."""

    def __init__(self, render_mode: str | None = None, limit: int = 12) -> None:
        self.render_mode = render_mode
        self.limit = limit
        self.observation_space = gym.spaces.Dict(
            {
                "count": gym.spaces.Discrete(40, start=-5),
                "pair": gym.spaces.Box(-1.0, np.inf, (2,), np.float32),
                "long": gym.spaces.Box(0.0, 1.0, (3, 4), np.float32),
                "nested": gym.spaces.Dict({"bits": gym.spaces.MultiBinary(2)}),
                "lambda": gym.spaces.Box(0.0, 9.0, (1,), np.float32),
                "picture": gym.spaces.Box(0, 255, (32, 32, 3), np.uint8),
                "words": gym.spaces.Text(5),
            }
        )
        self.action_space = gym.spaces.Discrete(2)
        self.count = 0

    def _observe(self) -> dict[str, Any]:
        return {
            "count": np.int64(self.count),
            "pair": np.array([self.count, -0.5], np.float32),
            "long": np.full((3, 4), 0.25, np.float32),
            "nested": {"bits": np.array([self.count % 2, 1], np.int8)},
            "lambda": np.array([self.count], np.float32),
            "picture": np.zeros((32, 32, 3), np.uint8),
            "words": "abc",
        }

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.count = 0
        return self._observe(), {"fuel left": 1.0}

    def step(self, action: Any) -> Any:
        self.count += int(action)
        info = {
            "fuel left": 1.0 - self.count / 12,
            "warm": self.count > 3,
            "note": "text",
            "grid": np.zeros(2),
            "pair_0": 7,
        }
        return self._observe(), float(action), self.count >= self.limit, False, info


def count_of(episode: Episode) -> float:
    return float(episode.last["count"])


def test_an_environment_that_is_not_ours_conforms_in_a_few_lines() -> None:
    task = guerdon.task_from_env(
        "Acrobot-v1",
        text="Swing the tip above the line.",
        fitness="return",
        success=lambda episode: episode.terminated,
    )
    report = check_task(task)
    assert "features" in report.passed
    assert task.id == "Acrobot-v1"
    assert task.horizon == 500
    assert task.action.size == 3
    assert [feature.name for feature in task.layout] == [f"obs_{i}" for i in range(6)]
    assert task.layout["obs_0"].high == 1.0
    assert "random play saw" in task.layout["obs_0"].meaning


def test_dictionaries_and_info_are_introspected() -> None:
    task = guerdon.task_from_env(
        Counter, text="Count.", fitness=count_of, horizon=30, probe_steps=200
    )
    layout = task.layout
    assert [(f.name, f.kind, f.shape) for f in layout] == [
        ("count", "number", ()),
        ("lambda_", "number", ()),
        ("long", "number", (12,)),
        ("nested_bits_0", "number", ()),
        ("nested_bits_1", "number", ()),
        ("pair_0", "number", ()),
        ("pair_1", "number", ()),
        ("fuel_left", "number", ()),
        ("warm", "flag", ()),
        ("pair_0_2", "number", ()),
    ]
    assert (layout["count"].low, layout["count"].high) == (-5.0, 34.0)
    assert (layout["pair_0"].low, layout["pair_0"].high) == (-1.0, np.inf)
    assert "random play saw 0 to 1" in layout["count"].meaning
    assert layout["fuel_left"].low == -np.inf
    env = task.make()
    _, info = env.reset(seed=0)
    assert task.view(info).fuel_left == 1.0
    assert not task.view(info).warm
    for _ in range(12):
        _, _, _, _, info = env.step(1)
    now = task.view(info)
    assert now["count"] == 12
    assert now.warm
    assert now.pair_0 == 12
    assert now.pair_0_2 == 7
    np.testing.assert_array_equal(now.long, np.full(12, 0.25, np.float32))
    assert info["fitness"] == 12.0
    assert info["success"] is False


class Ending(gym.Env[Any, Any]):
    """Says how it went at the end of an episode only."""

    observation_space = gym.spaces.Box(-1000.0, 1000.0, (1,), np.float32)
    action_space = gym.spaces.Discrete(2)

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.t = 0
        return np.zeros(1, np.float32), {"score": 0.0}

    def step(self, action: Any) -> Any:
        self.t += 1
        over = self.t == 5
        obs = np.array([99.0 if over else self.t], np.float32)
        info = {"score": 7.0, "solved": True} if over else {"score": float(self.t)}
        return obs, 0.0, over, False, info


@pytest.mark.parametrize("probe_steps", [5, 23])
def test_introspection_sees_the_last_moment_of_an_episode(probe_steps: int) -> None:
    task = guerdon.task_from_env(
        Ending, text="End.", fitness="return", horizon=9, probe_steps=probe_steps
    )
    layout = task.layout
    assert [(f.name, f.kind) for f in layout] == [
        ("obs", "number"),
        ("score", "number"),
        ("solved", "flag"),
    ]
    assert "random play saw 0 to 99" in layout["obs"].meaning
    assert "random play saw 0 to 7" in layout["score"].meaning
    env = task.make()
    env.reset(seed=0)
    rows = [env.step(0)[-1]["features"].tolist() for _ in range(5)]
    assert rows[-2:] == [[4.0, 4.0, 0.0], [99.0, 7.0, 1.0]]


def test_introspection_is_the_same_every_time() -> None:
    tasks = [
        guerdon.task_from_env("Pendulum-v1", text="Up.", fitness="return", seed=3)
        for _ in range(2)
    ]
    assert tasks[0].layout == tasks[1].layout


def test_declared_features_are_read_by_name_or_as_a_row() -> None:
    features = [Feature("x", "position", shape=(2,)), Feature("fast", "speed", "flag")]

    def by_name(env: Any, obs: Any, info: Any) -> dict[str, Any]:
        return {"fast": abs(obs[1]) > 0.5, "x": obs[:2]}

    def row(env: Any, obs: Any, info: Any) -> list[float]:
        return [obs[0], obs[1], abs(obs[1]) > 0.5]

    rows = []
    for read in (by_name, row):
        task = guerdon.task_from_env(
            "CartPole-v1",
            text="Stand.",
            fitness="return",
            features=features,
            read=read,
            id="Mine-v0",
            budget=5,
            horizon=20,
        )
        assert (task.id, task.budget, task.horizon) == ("Mine-v0", 5, 20)
        rows.append(task.make().reset(seed=1)[1]["features"])
    np.testing.assert_array_equal(rows[0], rows[1])
    assert rows[0].dtype == np.float32


def test_horizon_truncates_and_the_score_is_there() -> None:
    task = guerdon.task_from_env(
        Counter, text="Count.", fitness=count_of, horizon=4, probe_steps=10
    )
    env = task.make()
    env.reset(seed=0)
    for _ in range(4):
        _, _, terminated, truncated, info = env.step(1)
    assert truncated
    assert not terminated
    assert info["fitness"] == 4.0


def test_success_follows_the_registered_threshold() -> None:
    task = guerdon.task_from_env("CartPole-v1", text="Stand.", fitness="return")
    env = task.make()
    env.reset(seed=0)
    ended = False
    while not ended:
        _, _, terminated, truncated, info = env.step(0)
        ended = terminated or truncated
    assert info["success"] is False
    won = Episode(
        task.layout, np.zeros((476, 4)), np.zeros(475), np.ones(475), False, True
    )
    assert task.success(won)


def test_references_are_text_or_the_environments_own() -> None:
    text = 'def reward(prev, action, now, params):\n    return {"a": now.obs_0}\n'
    task = guerdon.task_from_env(
        "CartPole-v1", text="Stand.", fitness="return", rewards={"human": text}
    )
    assert task.rewards["human"].source == text
    assert task.rewards["sparse"].source is None


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"text": "  "}, ValueError, "text: expected one sentence"),
        ({"fitness": "score"}, TypeError, "fitness: expected a function"),
        ({"features": [Feature("a", "b")]}, ValueError, "without read="),
        ({"read": lambda env, obs, info: [0]}, ValueError, "without features="),
        ({"horizon": 0}, ValueError, "horizon: expected at least 1, got 0"),
        ({"budget": -1}, ValueError, "budget: expected at least 1, got -1"),
        ({"horizon": "9"}, TypeError, "horizon: expected a whole number, got '9'"),
        ({"budget": 1.5}, TypeError, "budget: expected a whole number, got 1.5"),
        ({"seed": -1}, ValueError, "seed: expected at least 0, got -1"),
        ({"probe_steps": None}, TypeError, "probe_steps: expected a whole number"),
        ({"success": 1}, TypeError, "success: expected a function, got 1"),
        ({"id": 5}, TypeError, "id: expected a text, got 5"),
        ({"rewards": ["sparse"]}, TypeError, "rewards: expected a mapping"),
        (
            {"features": Feature("a", "b"), "read": lambda env, obs, info: [0]},
            TypeError,
            r"features: expected a list of guerdon\.Feature",
        ),
        ({"env": Counter()}, TypeError, "makes a new environment"),
        ({"env": lambda: 3}, TypeError, "made a int, not a gymnasium.Env"),
        ({"env": Counter}, ValueError, "no time limit; give horizon="),
        ({"rewards": {"human": 3}}, TypeError, "reward 'human': expected text"),
        (
            {"features": ["x"], "read": lambda env, obs, info: [0]},
            TypeError,
            "expected guerdon.Feature objects, got 'x'",
        ),
        (
            {"features": [Feature("a", "b")], "read": lambda env, obs, info: [0, 1]},
            ValueError,
            r"flat row of 1 numbers .* got shape \(2,\)",
        ),
        (
            {"features": [Feature("a", "b")], "read": lambda env, obs, info: {"c": 0}},
            ValueError,
            r"expected the features \['a'\], got \['c'\]",
        ),
    ],
)
def test_bad_input_is_refused_at_once(
    change: dict[str, Any], error: type[Exception], words: str
) -> None:
    given: dict[str, Any] = {"env": "CartPole-v1", "text": "x", "fitness": "return"}
    given |= change
    env = given.pop("env")
    with pytest.raises(error, match=words):
        guerdon.task_from_env(env, **given)


def test_a_function_that_gives_the_same_environment_again_is_refused() -> None:
    one = gym.make("CartPole-v1")
    for horizon in (None, 9):
        with pytest.raises(ValueError, match="the same object twice; make it inside"):
            guerdon.task_from_env(
                lambda: one, text="x", fitness="return", horizon=horizon
            )
    made = guerdon.task_from_env(
        lambda: gym.make("CartPole-v1"), text="x", fitness="return"
    )
    assert made.make().unwrapped is not made.make().unwrapped


def test_an_environment_without_numbers_asks_for_features() -> None:
    class Pictures(Counter):
        def __init__(self) -> None:
            super().__init__()
            self.observation_space = gym.spaces.Box(0, 255, (32, 32, 3), np.uint8)

        def _observe(self) -> Any:
            return np.zeros((32, 32, 3), np.uint8)

        def reset(self, **kwargs: Any) -> Any:
            return super().reset(**kwargs)[0], {}

        def step(self, action: Any) -> Any:
            return (*super().step(action)[:4], {})

    with pytest.raises(ValueError, match="give features= and read="):
        guerdon.task_from_env(
            Pictures, text="x", fitness="return", horizon=9, probe_steps=10
        )


def test_an_action_space_that_no_reward_can_see_is_refused() -> None:
    def maker() -> Any:
        env = Counter()
        env.action_space = gym.spaces.MultiDiscrete([2, 3])
        return env

    with pytest.raises(TypeError, match="action space MultiDiscrete"):
        guerdon.task_from_env(maker, text="x", fitness="return", horizon=9)


class Pictures(gym.Env[Any, Any]):
    """Sees pixels, which are no features, and tells of itself in ``info``."""

    observation_space = gym.spaces.Box(0, 255, (64, 64, 3), np.uint8)
    action_space = gym.spaces.Discrete(2)

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.t = 0
        return np.zeros((64, 64, 3), np.uint8), {"x": 0.0}

    def step(self, action: Any) -> Any:
        self.t += 1
        obs = np.zeros((64, 64, 3), np.uint8)
        return obs, 0.0, self.t >= 5, False, {"x": float(self.t)}


def test_numbers_in_info_are_features_where_all_else_is_pixels() -> None:
    task = guerdon.task_from_env(
        Pictures, text="Count.", fitness=lambda e: 0.0, horizon=9, probe_steps=50
    )
    assert [feature.name for feature in task.layout] == ["x"]
    env = task.make()
    env.reset(seed=0)
    assert env.step(0)[-1]["features"].tolist() == [1.0]

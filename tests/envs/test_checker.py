from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from guerdon.envs.checker import CheckReport, TaskCheckError, check_task
from guerdon.envs.table import load_task
from guerdon.types import ActionSpec, Episode, Feature, Layout

CARTPOLE = load_task("guerdon/CartPole-v1")


def problems_of(**changes: Any) -> str:
    with pytest.raises(TaskCheckError) as caught:
        check_task(replace(CARTPOLE, id="changed", **changes))
    assert caught.value.problems
    return "\n".join(caught.value.problems)


def test_a_good_task_gives_a_report() -> None:
    report = check_task("guerdon/CartPole-v1", episodes=4, seed=1)
    assert isinstance(report, CheckReport)
    assert report.steps == sum(report.fitness)  # its fitness is the length
    assert len(report.fitness) == 4
    assert any("infinity" in note for note in report.notes)
    assert not any("\x1b" in note for note in report.notes)


def test_a_row_outside_its_bounds_is_found() -> None:
    features = [replace(f, high=1e-3) for f in CARTPOLE.layout if f.name == "upright"]
    others = [f for f in CARTPOLE.layout if f.name != "upright"]
    text = problems_of(layout=Layout([*others, *features]))
    assert "feature 'upright' took values" in text


def test_a_flag_that_is_a_number_is_found() -> None:
    features = [
        Feature("cart_position", "now a flag", "flag"),
        *list(CARTPOLE.layout)[1:],
    ]
    assert "flag 'cart_position' took values" in problems_of(layout=Layout(features))


def test_a_feature_that_is_not_finite_is_found() -> None:
    def read(env: Any, obs: Any, info: Any) -> np.ndarray:
        row = CARTPOLE.read(env, obs, info)
        row[1] = np.inf
        return row

    assert "feature 'cart_velocity' is not always finite" in problems_of(read=read)


def test_rows_that_share_memory_are_found() -> None:
    row = np.zeros(7, np.float32)

    def read(env: Any, obs: Any, info: Any) -> np.ndarray:
        row[:] = CARTPOLE.read(env, obs, info)
        return row

    assert "shares memory" in problems_of(read=read)


def test_a_row_of_another_width_or_type_is_found() -> None:
    def short(env: Any, obs: Any, info: Any) -> np.ndarray:
        return CARTPOLE.read(env, obs, info)[:6].copy()

    def wide(env: Any, obs: Any, info: Any) -> np.ndarray:
        return CARTPOLE.read(env, obs, info).astype(np.float64)

    with pytest.raises(TaskCheckError):
        check_task(replace(CARTPOLE, id="changed", read=short))
    with pytest.raises(TaskCheckError):
        check_task(replace(CARTPOLE, id="changed", read=wide))


def test_an_environment_that_ignores_its_seed_is_found() -> None:
    class Unseeded(gym.Wrapper[Any, Any, Any, Any]):
        def reset(self, *, seed: Any = None, options: Any = None) -> Any:
            return self.env.reset(seed=next(seeds), options=options)

    seeds = itertools.count()
    text = problems_of(make_base=lambda **kw: Unseeded(CARTPOLE.make_base(**kw)))
    assert "seeding: " in text
    assert "single and vector form agree: features differ" in text


def test_a_fitness_that_is_no_number_or_fails_is_found() -> None:
    assert "fitness is not finite" in problems_of(fitness=lambda e: float("nan"))

    def fails(episode: Episode) -> float:
        raise KeyError("no such feature")

    assert "KeyError: 'no such feature'" in problems_of(fitness=fails)


@pytest.mark.parametrize("reward", [float("nan"), float("inf"), -float("inf")])
def test_a_reward_that_is_not_finite_is_found(reward: float) -> None:
    class Broken(gym.Wrapper[Any, Any, Any, Any]):
        def step(self, action: Any) -> Any:
            obs, _, *rest = self.env.step(action)
            return obs, reward, *rest

    text = problems_of(make_base=lambda **kw: Broken(CARTPOLE.make_base(**kw)))
    assert f"the environment's reward is {reward} at step 1" in text
    assert "differ between two episodes" not in text


@pytest.mark.parametrize("score", [float("inf"), -float("inf")])
def test_a_fitness_without_end_is_found(score: float) -> None:
    text = problems_of(fitness=lambda episode: score)
    assert f"fitness is not finite: {score}" in text


@pytest.mark.parametrize("score", [None, "1.0", b"1", 1j, [1.0]])
def test_a_fitness_that_is_no_number_is_named_with_its_place(score: Any) -> None:
    text = problems_of(fitness=lambda episode: score)
    assert f"fitness: expected a number, got {score!r}" in text
    assert "test_checker.py:" in text


def test_an_error_of_the_users_code_is_told_with_its_line() -> None:
    def fails(episode: Episode) -> float:
        raise KeyError("no such feature")

    line = fails.__code__.co_firstlineno + 1
    assert f"(test_checker.py:{line}, fails)" in problems_of(fitness=fails)


def test_texts_that_nobody_reads_are_reported_as_not_read() -> None:
    report = check_task(CARTPOLE)
    texts = [n for n, r in CARTPOLE.rewards.items() if r.source is not None]
    assert report.not_run == (
        f"rewards {', '.join(texts)}: guerdon.check_task reads their text",
    )


def test_a_fitness_that_is_not_a_function_of_the_episode_is_found() -> None:
    numbers = itertools.count()
    text = problems_of(fitness=lambda episode: next(numbers))
    assert "under a reward wrapper" in text


def test_a_wrong_action_or_horizon_or_missing_sparse_is_found() -> None:
    action = ActionSpec("discrete", 3)
    assert "the environment has Discrete(2)" in problems_of(action=action)
    assert "longer than the horizon 5" in problems_of(horizon=5)
    assert "there is no reward 'sparse'" in problems_of(rewards={})


def test_all_problems_come_at_once() -> None:
    text = problems_of(rewards={"human": "text"}, action=ActionSpec("discrete", 3))
    assert "there is no reward 'sparse'" in text
    assert "'human' is a str, not a ReferenceReward" in text
    assert "the environment has Discrete(2)" in text


def test_without_sb3_its_check_is_reported_as_not_run(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    report = check_task(CARTPOLE)
    assert "SB3's check_env" not in report.passed
    assert report.not_run[0] == ("SB3's check_env: stable-baselines3 is not installed")


def test_no_episodes_are_refused() -> None:
    with pytest.raises(ValueError, match="episodes: expected at least 1, got 0"):
        check_task(CARTPOLE, episodes=0)

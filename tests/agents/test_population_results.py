"""What a leg leaves behind, and legs of tasks without an engine."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import guerdon
from guerdon.agents import population as module
from guerdon.agents.evaluate import evaluate
from guerdon.agents.policies import load_policy
from guerdon.agents.population import (
    arrays_for,
    config_for,
    row_file,
)
from guerdon.agents.ppo import Population
from guerdon.agents.recipes import Recipe, recipe_for
from guerdon.agents.row_rewards import ProgramRewards
from guerdon.agents.seconds import MEASURED
from guerdon.agents.training import (
    Outcome,
    TrainingJob,
)
from guerdon.envs.task import Task
from tests.agents.legs import (
    CART,
    ENVS,
    GOOD,
    GRID,
    HALF,
    job,
    result,
    same,
    small_recipes,
    train,
)


@pytest.fixture(scope="module", autouse=True)
def _small() -> Iterator[None]:
    with small_recipes():
        yield


# --- weights and episodes -----------------------------------------------------------


def test_the_file_of_the_weights_plays_as_the_row_does(tmp_path: Path) -> None:
    """The oracle is the population itself, trained here by hand."""
    task = guerdon.load_task(GRID.task)
    jobs = job(GOOD, 0, HALF), job("sparse", 3, HALF)
    jobs = replace(jobs[0], whole=None), replace(jobs[1], whole=None)
    found = train(*jobs, folder=tmp_path)
    own = config_for(replace(module.recipe_for(task), use_sde=False), HALF)
    env = arrays_for(task, 2 * ENVS)
    rewards = ProgramRewards(task, [GOOD, "sparse"], "sparse", ENVS)
    population = Population(env, own, [0, 3], rewards=rewards)
    population.learn(HALF)
    obs = (
        population.acting.rollout.stored.obs[:20]
        .numpy()
        .reshape(-1, *env.observation_space.shape)
    )
    rng = np.random.default_rng(0)
    said = []
    for r, outcome in enumerate(found):
        name = result(outcome).weights
        assert name == f"{jobs[r].key}.safetensors"
        policy = load_policy(tmp_path / name, task)
        ours = policy.predict(obs, deterministic=True, rng=rng)
        theirs = population.policy(r).predict(obs, deterministic=True, rng=rng)
        np.testing.assert_array_equal(ours, theirs)
        said.append(ours)
    assert (said[0] != said[1]).any()
    assert load_policy(tmp_path / f"{jobs[0].key}.safetensors").network is not None


def test_steps_that_are_no_whole_blocks_are_rounded_up_and_give_weights(
    tmp_path: Path,
) -> None:
    one = replace(job("sparse", 0, HALF - 1000), whole=None)
    (found,) = train(one, folder=tmp_path)
    assert result(found).steps == HALF
    assert result(found).weights is not None
    assert not list(tmp_path.glob("*.row"))


# --- tasks without an engine --------------------------------------------------------


def pole(reward: str, seed: int, steps: int = 1024) -> TrainingJob:
    return replace(CART, reward=reward, seed=seed, steps=steps)


LEAN = """\
def reward(prev, action, now, params):
    return {"up": 0.1 * count(now.upright), "by": -abs(now.pole_angle)}
"""


def test_tasks_without_an_engine_are_trained_too(tmp_path: Path) -> None:
    jobs = pole("sparse", 0), pole(LEAN, 1)
    found = train(*jobs, folder=tmp_path)
    for one, outcome in zip(jobs, found, strict=True):
        same(train(one)[0], outcome)
        assert result(outcome).steps == 1024
    assert result(found[0]).length != result(found[1]).length
    assert all(f == n for f, n in zip(*scores(found[0]), strict=True))


def scores(outcome: Outcome) -> tuple[tuple[float, ...], tuple[int, ...]]:
    """CartPole's true score is the number of steps."""
    return result(outcome).fitness, result(outcome).length


def test_rows_without_an_engine_go_on_in_new_episodes(tmp_path: Path) -> None:
    """The oracle: what was learned is kept, and nothing of the episodes before."""
    train(pole("sparse", 0, 512), pole(LEAN, 1, 512), folder=tmp_path)
    path = tmp_path / row_file(pole(LEAN, 1), 512)
    task = guerdon.load_task(CART.task)
    own = config_for(module.recipe_for(task), 1024)
    rewards = ProgramRewards(task, [LEAN], "sparse", own.envs)
    env = arrays_for(task, own.envs)
    population = module.load_rows([path], env, rewards=rewards)
    assert population.steps(0) == 512
    assert rewards.get_lanes()["ended0"].all()
    assert rewards.get_lanes()["ended1"].all()
    population.collect()
    population.update()
    assert (rewards.terms[0, :, 1] == np.float32(0.1)).all()  # the first step of each
    env.close()
    both = pole(LEAN, 1), pole("sparse", 0)
    found = train(*both, start=512, folder=tmp_path)
    assert [result(one).steps for one in found] == [1024, 1024]
    same(train(pole(LEAN, 1), start=512, folder=tmp_path)[0], found[0])


def test_observations_are_normalised_as_in_the_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file's policy, evaluated by itself, scores what the leg said."""

    def scaled(task: Task, algo: str | None = None) -> Recipe:
        return replace(
            recipe_for(task, algo), net_arch=(8, 8), n_envs=2, n_steps=64,
            batch_size=64, n_epochs=2, normalize_observation=True,
        )  # fmt: skip

    monkeypatch.setattr(module, "recipe_for", scaled)
    task = guerdon.load_task("guerdon/Pendulum-v1")
    one = replace(CART, task=task.id, steps=256, whole=None, eval_episodes=2)
    found = train(one, replace(one, seed=1), folder=tmp_path)
    for outcome in map(result, found):
        assert outcome.weights is not None
        policy = load_policy(tmp_path / outcome.weights, task)
        assert policy.normalizer is not None
        assert not np.allclose(policy.normalizer.mean, 0.0)
        # The mode of the policy plays: the noise is of no account.
        played = evaluate(
            task, policy, episodes=2, seed=one.eval_seed, deterministic=True
        )
        np.testing.assert_allclose(played.fitness, outcome.fitness, rtol=1e-3)
    assert result(found[0]).fitness != result(found[1]).fitness


def test_what_falls_linearly_falls_over_the_whole_training(tmp_path: Path) -> None:
    """After half of the steps, half of the learning rate is left, and not none."""
    train(pole("sparse", 0, 512), folder=tmp_path)
    task = guerdon.load_task(CART.task)
    env = arrays_for(task, 8)
    rewards = ProgramRewards(task, ["sparse"], "sparse", 8)
    population = module.load_rows(
        [tmp_path / row_file(pole("sparse", 0), 512)], env, rewards=rewards
    )
    assert population.config.linear_learning_rate
    assert population.config.total_steps == 1024
    # One block of 8 x 32 = 256 steps counts as done while it is learned from.
    assert population._left().tolist() == [1.0 - (512 + 256) / 1024]
    env.close()
    short = train(replace(pole("sparse", 0, 512), whole=None))
    long = train(pole("sparse", 0, 512))
    assert result(short[0]).fitness != result(long[0]).fitness


def test_the_parts_of_the_time_of_a_leg_add_up(tmp_path: Path) -> None:
    jobs = [replace(CART, seed=seed) for seed in (0, 1)]
    for start, stop in ((0, 512), (512, 1024)):
        leg = [replace(one, steps=stop) for one in jobs]
        began = time.perf_counter()
        found = [result(one) for one in train(*leg, start=start, folder=tmp_path)]
        wall = time.perf_counter() - began
        for one in found:
            assert one.seconds is not None
            assert set(one.seconds) == set(MEASURED)
            assert min(one.seconds.values()) >= 0.0
            parts = one.seconds["acting"] + one.seconds["update"]
            assert 0.0 < parts <= one.train_seconds
            assert sum(one.seconds.values()) <= one.wall_seconds
        assert sum(one.wall_seconds for one in found) <= wall

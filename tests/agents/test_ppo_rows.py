"""Rows that go, come, fail, are put down and taken up again."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import guerdon
from guerdon.agents import acting
from guerdon.agents.arrays import Lanes, VectorArrays
from guerdon.agents.evaluate import evaluate
from guerdon.agents.networks import forward
from guerdon.agents.policies import TorchPolicy, load_policy
from guerdon.agents.policy_files import in_words
from guerdon.agents.ppo import Population, PPOConfig
from guerdon.agents.recipes import recipe_for
from guerdon.agents.row_files import save_row_policy
from guerdon.agents.row_policy import RowPolicy
from guerdon.agents.rows import load_rows, save_rows
from guerdon.agents.training import TrainingJob
from tests.agents.toy_arrays import Scaled, Toy

SMALL = PPOConfig(envs=4, steps=8, minibatch=16, epochs=2, hidden=(8, 8))
GRID = replace(SMALL, encoder="one_hot", hidden=(16, 16))
WHOLE = replace(
    SMALL, normalize_observation=True, shared=True, memory=8, value_clip=0.2
)


def same_row(ours: Population, row: int, theirs: Population, other: int) -> None:
    """The same to the last bit, whoever is beside it."""
    for name, value in theirs.weights.items():
        assert torch.equal(ours.weights[name][row], value[other]), name


def toy(lanes: int, config: PPOConfig) -> Toy:
    return Toy(lanes, grid=config.encoder == "one_hot")


@pytest.mark.parametrize("config", [SMALL, WHOLE, GRID])
def test_selected_rows_go_on_as_if_nothing_had_happened(config: PPOConfig) -> None:
    whole, fewer = (
        Population(toy(16, config), config, [3, 1, 2, 1], rewards=Scaled([1, 2, 3, -1]))
        for _ in range(2)
    )
    for population in (whole, fewer):
        population.learn(2 * config.block)
    fewer.select([2, 1])
    assert [row.seed for row in fewer.rows] == [2, 1]
    assert fewer.env.num_envs == 8
    for population in (whole, fewer):
        population.learn(2 * config.block)
    same_row(fewer, 0, whole, 2)
    same_row(fewer, 1, whole, 1)
    for row, other in ((0, 2), (1, 1)):
        ours, theirs = fewer.log.of(fewer.rows[row].id), whole.log.of(other)
        np.testing.assert_array_equal(ours.proxy, theirs.proxy)
        assert (ours.length == theirs.length).all()


@pytest.mark.parametrize("config", [SMALL, WHOLE, GRID])
def test_a_replaced_row_learns_as_a_new_population_would(config: PPOConfig) -> None:
    rewards = Scaled([1, 2, 1])
    population = Population(toy(12, config), config, [0, 1, 2], rewards=rewards)
    population.learn(2 * config.block)
    population.replace(1, 7)
    assert rewards.restarted == [1]
    fresh = Population(toy(4, config), config, [7], rewards=Scaled([2]))
    scaled = Scaled([1, 2, 1])
    untouched = Population(toy(12, config), config, [0, 1, 2], rewards=scaled)
    untouched.learn(4 * config.block)
    for one in (population, fresh):
        one.learn(2 * config.block)
    same_row(population, 1, fresh, 0)
    same_row(population, 0, untouched, 0)
    same_row(population, 2, untouched, 2)
    assert [population.steps(r) for r in range(3)] == [128, 64, 128]
    ours = population.log.of(population.rows[1].id)
    np.testing.assert_array_equal(ours.proxy, fresh.log.of(0).proxy)
    np.testing.assert_array_equal(ours.step, fresh.log.of(0).step)


@pytest.mark.parametrize("hidden", [(8, 8), (16, 16), (64, 64)])
@pytest.mark.parametrize("continuous", [True, False])
def test_how_often_rows_are_cut_off_is_nothing_to_those_beside(
    hidden: tuple[int, ...], continuous: bool
) -> None:
    """Values of cut steps are looked up in tables, whose size has last bits too."""
    config = replace(SMALL, hidden=hidden, normalize_observation=True)
    (alone, *crowds) = (
        Population(
            Toy(4 * len(seeds), continuous=continuous),
            config,
            seeds,
            rewards=Scaled([2, 1, 1, 1, -1][: len(seeds)]),
        )
        for seeds in ([7], [7, 0], [7, 0, 1, 2, 3])
    )
    for population in (alone, *crowds):
        population.learn(3 * config.block)
    for crowd in crowds:
        same_row(alone, 0, crowd, 0)


def test_more_cuts_than_a_table_holds_are_valued_one_by_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(acting, "TABLE", 1)
    population = Population(Toy(8, horizon=2), WHOLE, [0, 1])
    population.collect()
    roll, weights = population.acting.rollout, population.weights
    counts = sum(np.bincount(f.lanes // 4, minlength=2) for f in roll.finals)
    assert max(counts) > 4  # the width of a table: the environments of a row
    found = population.acting.final_values()
    valued = torch.zeros_like(found)
    for final in roll.finals:
        assert final.state is not None
        for m, lane in enumerate(final.lanes):
            own = {name: value[lane // 4][None] for name, value in weights.items()}
            seen, state = final.obs[m][None, None], final.state[m][None, None]
            start = torch.zeros(1, 1, dtype=torch.bool)
            with torch.no_grad():
                values = population.net(own, seen, state, start).values
            valued[final.step, lane] = values[0, 0]
    torch.testing.assert_close(found, valued)
    assert (valued != 0.0).sum() == sum(counts)


def test_rows_that_are_not_there_are_refused() -> None:
    population = Population(Toy(8), SMALL, [0, 1])
    for rows in ([], [0, 0], [2]):
        with pytest.raises(ValueError, match="expected some of 0 to 1"):
            population.select(rows)
    with pytest.raises(ValueError, match="row: expected 0 to 1, got 2"):
        population.replace(2, 0)


@pytest.mark.parametrize("config", [SMALL, WHOLE])
def test_two_updates_saved_loaded_and_two_more_are_four(
    config: PPOConfig, tmp_path: Path
) -> None:
    def begun() -> Population:
        population = Population(Toy(8), config, [0, 4], rewards=Scaled([1, 2]))
        population.learn(2 * config.block)
        return population

    through, stopped = begun(), begun()
    paths = [tmp_path / "a.row", tmp_path / "b.row"]
    save_rows(stopped, dict(enumerate(paths)))
    resumed = load_rows(paths, Toy(8), rewards=Scaled([1, 2]))
    for population in (through, resumed):
        population.learn(2 * config.block)
    for name, value in through.weights.items():
        assert torch.equal(resumed.weights[name], value), name
    assert sorted(resumed.log.table.T.tolist()) == sorted(through.log.table.T.tolist())
    assert resumed.rows == through.rows
    resumed.replace(0, 9)
    assert resumed.rows[0].id == 2


def test_rows_of_two_populations_go_on_together(tmp_path: Path) -> None:
    paths = {}
    for seed, factor in ((0, 1), (4, 2), (7, 3)):
        alone = Population(Toy(8), SMALL, [seed, 9], rewards=Scaled([factor, 5]))
        alone.learn(2 * SMALL.block)
        paths[seed] = tmp_path / f"{seed}.row"
        save_rows(alone, {0: paths[seed]})
    together = load_rows([paths[7], paths[0]], Toy(8), rewards=Scaled([3, 1]))
    through = Population(Toy(12), SMALL, [0, 4, 7], rewards=Scaled([1, 2, 3]))
    together.learn(2 * SMALL.block)
    through.learn(4 * SMALL.block)
    same_row(together, 0, through, 2)
    same_row(together, 1, through, 0)
    ours, theirs = together.log.of(together.rows[0].id), through.log.of(2)
    np.testing.assert_array_equal(ours.step, theirs.step)
    np.testing.assert_array_equal(ours.proxy, theirs.proxy)


def test_an_env_that_cannot_resume_begins_new_episodes(tmp_path: Path) -> None:
    population = Population(Toy(8), SMALL, [0, 4])
    population.learn(SMALL.block)
    paths = [tmp_path / "0.row", tmp_path / "1.row"]
    save_rows(population, dict(enumerate(paths)))

    env = Lanes(Toy(8), np.arange(8))  # which cannot be put down
    again = load_rows(paths, env)
    assert torch.equal(
        again.weights["first.weight"], population.weights["first.weight"]
    )
    assert again.acting.rollout.starts[-1].all()
    again.learn(SMALL.block)
    assert again.steps(0) == 2 * SMALL.block


def test_a_file_of_something_else_is_refused(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    path = tmp_path / "x.row"
    save_file({"a": torch.zeros(1)}, path)
    with pytest.raises(ValueError, match="expected a row of format"):
        load_rows([path], Toy(4))
    path.write_bytes(b"\xff" * 100)
    with pytest.raises(ValueError, match="expected a row of format"):
        load_rows([path], Toy(4))
    save_rows(Population(Toy(4), SMALL, [0]), {0: path})
    with pytest.raises(ValueError, match=r"does not fit: expected weights\.first"):
        load_rows([path], Toy(4, grid=True))
    with pytest.raises(ValueError, match="1 rows x 4 = 4 lanes, got 8"):
        load_rows([path], Toy(8))


@pytest.mark.parametrize("what", ["reward", "obs", "fitness"])
def test_what_is_not_finite_stops_its_own_row_only(what: str) -> None:
    env, sound = Toy(12), Toy(12)
    env.poison = (11, 5, what)
    if what == "fitness":
        env.poison = None
        step = env.step

        def poisoned(actions: np.ndarray, out: Any = None) -> Any:
            out = step(actions, out)
            out.fitness[5] = np.nan
            return out

        env.step = poisoned  # type: ignore[method-assign]
    population = Population(env, SMALL, [0, 1, 2])
    reference = Population(sound, SMALL, [0, 1, 2])
    for one in (population, reference):
        one.learn(3 * SMALL.block)
    failures = [row.failure for row in population.rows]
    assert failures[0] is failures[2] is None
    assert failures[1] is not None
    assert failures[1].kind == "non_finite"
    same_row(population, 0, reference, 0)
    same_row(population, 2, reference, 2)
    assert all(torch.isfinite(value).all() for value in population.weights.values())
    stopped = population.weights["first.weight"][1].detach().clone()
    population.learn(SMALL.block)
    assert torch.equal(population.weights["first.weight"][1], stopped)
    population.replace(1, 1)
    assert population.rows[1].failure is None


def test_a_loss_that_is_not_finite_stops_its_own_row_only() -> None:
    population = Population(Toy(8), SMALL, [0, 1])
    with torch.no_grad():
        population.weights["value.bias"][1] = 1e30
    population.learn(SMALL.block)
    assert population.rows[0].failure is None
    assert "the loss" in str(population.rows[1].failure)
    assert torch.isfinite(population.weights["value.weight"]).all()


def test_block_rewards_of_another_shape_are_refused() -> None:
    class Wrong(Scaled):
        def __call__(self, batch: Any) -> np.ndarray:
            return batch.reward

    population = Population(Toy(4), SMALL, [0], rewards=Wrong([1]))
    with pytest.raises(ValueError, match=r"expected shape \(8, 1, 4\), got \(8, 4\)"):
        population.learn(1)


def test_the_reward_of_a_block_sees_true_successors() -> None:
    seen: list[Any] = []

    class Watching(Scaled):
        def __call__(self, batch: Any) -> np.ndarray:
            seen.append(batch)
            return super().__call__(batch)

    env = Toy(4)
    population = Population(env, SMALL, [0], rewards=Watching([1]), bonus=Watching([1]))
    population.collect()
    population.update()
    batch = seen[0]
    over = batch.terminated | batch.truncated
    assert over.any()
    following = batch.prev.t[1:][over[:-1]]
    assert (following == 0.0).all()
    assert (batch.now.t == batch.prev.t + 1).all()
    on = ~over[:-1]
    np.testing.assert_array_equal(batch.now.x[:-1][on], batch.prev.x[1:][on])
    cut = batch.truncated & ~batch.terminated
    assert not np.allclose(batch.next_obs[:-1][cut[:-1]], batch.obs[1:][cut[:-1]])
    np.testing.assert_array_equal(
        batch.next_obs[:-1][~over[:-1]], batch.obs[1:][~over[:-1]]
    )


@pytest.mark.parametrize(
    "name", ["DoorKey-5x5-v0", "CartPole-v1", "Pendulum-v1", "MountainCarContinuous-v0"]
)
def test_a_row_plays_a_task_and_its_file_plays_the_same(
    name: str, tmp_path: Path
) -> None:
    task = guerdon.load_task(f"guerdon/{name}")
    recipe = replace(
        recipe_for(task),
        n_envs=2,
        n_steps=8,
        batch_size=8,
        n_epochs=1,
        net_arch=(8, 8),
        use_sde=False,
    )
    config = PPOConfig.from_recipe(recipe, total_steps=1000)
    env = VectorArrays(task, 4)
    population = Population(env, config, [0, 1])
    population.learn(2 * config.block)
    policy = population.policy(1)
    job = TrainingJob(task=task.id, reward="sparse", steps=32, seed=1)
    told = in_words(env.observation_space, task.action)
    save_row_policy(tmp_path / "p.safetensors", policy, job, recipe, told)
    loaded = load_policy(tmp_path / "p.safetensors", task)
    rng = np.random.default_rng(0)
    obs = env.reset(np.arange(4)).obs.copy()
    env.close()
    ours = policy.predict(obs, deterministic=True, rng=rng)
    said = loaded.predict(obs, deterministic=True, rng=rng)
    np.testing.assert_allclose(ours, said, rtol=1e-4, atol=1e-5)
    if "DoorKey" in name:  # what is likely, and what is expected
        assert isinstance(loaded, TorchPolicy)
        seen = torch.from_numpy(obs)
        with torch.no_grad():
            out = forward(policy.arch, policy.weights, seen[None])
            chance = loaded.network.get_distribution(seen).distribution
            values = loaded.network.predict_values(seen)
        logits = torch.log_softmax(out.policy[0], -1)
        torch.testing.assert_close(logits, chance.logits, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(out.values[0], values, rtol=1e-4, atol=1e-5)
    if "Cart" in name:
        played = evaluate(task, policy, episodes=2, seed=0)
        assert len(played.fitness) == 2
    curve = population.curve(0)
    assert curve.steps[-1] == 2 * config.block


def test_a_row_that_reads_an_image_as_numbers_is_judged_and_kept_alike(
    tmp_path: Path,
) -> None:
    task = guerdon.load_task("guerdon/DoorKey-5x5-v0")
    recipe = replace(
        recipe_for(task), n_envs=2, n_steps=8, batch_size=8, net_arch=(8, 8)
    )
    recipe = replace(recipe, one_hot=False)
    config = PPOConfig.from_recipe(recipe, total_steps=1000)
    env = VectorArrays(task, 2)
    policy = Population(env, config, [0]).policy(0)
    obs = env.reset(np.arange(2)).obs.copy()
    env.close()
    path, job = tmp_path / "p.safetensors", TrainingJob(task.id, "sparse", 32, 1)
    told = in_words(env.observation_space, task.action)
    save_row_policy(path, policy, job, recipe, told)
    loaded = load_policy(path, task)
    assert isinstance(loaded, RowPolicy)
    np.testing.assert_array_equal(
        policy._say(policy._scaled(obs), None), loaded._say(loaded._scaled(obs), None)
    )


def test_what_sb3_has_no_network_for_is_not_written_as_one(tmp_path: Path) -> None:
    task = guerdon.load_task("guerdon/CartPole-v1")
    recipe = recipe_for(task)
    path, job = tmp_path / "p.safetensors", TrainingJob(task.id, "sparse", 32, 1)
    env = VectorArrays(task, 2)
    for changes, words in (
        ({"shared": True}, "separate actor and critic"),
        ({}, "state-dependent exploration"),
    ):
        small = replace(SMALL, envs=2, steps=8, minibatch=8, **changes)
        policy = Population(env, small, [0]).policy(0)
        exploring = replace(recipe, use_sde=not changes)
        with pytest.raises(ValueError, match=words):
            save_row_policy(path, policy, job, exploring, [])
    env.close()
    assert not path.exists()


def test_a_policy_draws_from_its_own_distribution() -> None:
    population = Population(Toy(4), SMALL, [0])
    population.collect()
    roll = population.acting.rollout
    policy = population.policy(0)
    obs = np.repeat(roll.stored.obs[0, :1].numpy(), 4000, 0)
    drawn = policy.predict(obs, deterministic=False, rng=np.random.default_rng(0))
    shares = np.bincount(drawn, minlength=3) / len(drawn)
    expected = torch.softmax(roll.policy[0, 0], -1).numpy()
    np.testing.assert_allclose(shares, expected, atol=0.03)


def test_a_policy_with_a_memory_remembers_each_episode() -> None:
    population = Population(Toy(4, continuous=True), WHOLE, [0])
    population.collect()
    roll = population.acting.rollout
    policy = population.policy(0)
    policy.moments = None  # the rollout's observations are scaled already
    rng = np.random.default_rng(0)
    numbers = np.arange(4)
    for t in range(5):
        said = policy.predict(
            roll.seen[t].numpy(), deterministic=True, rng=rng, episodes=list(numbers)
        )
        clipped = np.clip(roll.policy[t].numpy(), [-0.5, -0.5], [0.5, 1.0])
        np.testing.assert_allclose(said, clipped, rtol=1e-4, atol=1e-5)
        numbers = numbers + 4 * roll.starts[t + 1].numpy()
    with pytest.raises(ValueError, match="number of each observation's episode"):
        policy.predict(roll.seen[0].numpy(), deterministic=True, rng=rng)

"""All rows' true scores at once are what each episode gives on its own."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

import guerdon
from guerdon.agents import evaluate_rows as module
from guerdon.agents.environments import NonFinite
from guerdon.agents.evaluate import Evaluation, evaluate
from guerdon.agents.evaluate_rows import Agents, agents_of, evaluate_rows
from guerdon.agents.networks import Architecture, first_weights
from guerdon.agents.normalize import EPSILON, LIMIT
from guerdon.agents.population import arrays_for
from guerdon.agents.ppo import Population, PPOConfig
from guerdon.agents.row_policy import RowPolicy
from guerdon.envs.arrays import ArrayEnv, Arrays
from guerdon.envs.task import Task
from guerdon.types import Episode
from tests.agents.countdown_task import make_task
from tests.agents.toy_arrays import Guarded, Toy

SEED, EPISODES = 20, 6


def toy_task(*, continuous: bool = False) -> Task:
    """A task of which nothing but its shapes is used."""
    toy = Toy(1, continuous=continuous)
    return replace(make_task(), layout=toy.layout, action=toy.action)


def toys(task: Task, lanes: int) -> ArrayEnv:
    return Toy(lanes, continuous=task.action.kind == "continuous")


def agents_for(
    env: ArrayEnv, seeds: list[int], *, scaled: bool = False, encoder: Any = "vector"
) -> Agents:
    """Rows with first weights that are large enough to be told apart."""
    arch = Architecture.of(
        env.observation_space, env.action, encoder, hidden=(6, 5), activation="tanh"
    )
    weights = {
        name: value.detach() for name, value in first_weights(arch, seeds).items()
    }
    weights["action.weight"] = weights["action.weight"] * 100.0
    for r in range(len(seeds)):
        if "log_std" in weights:
            weights["log_std"][r] = 0.1 * r
    moments = None
    if scaled:
        rng = np.random.default_rng(0)
        shape = len(seeds), *env.observation_space.shape
        moments = rng.normal(size=shape), rng.uniform(0.1, 4.0, shape)
    return Agents(arch, weights, moments)


def one(agents: Agents, r: int) -> Agents:
    """A row apart."""
    moments = agents.moments
    if moments is not None:
        moments = moments[0][r : r + 1], moments[1][r : r + 1]
    weights = {name: value[r : r + 1] for name, value in agents.weights.items()}
    return Agents(agents.arch, weights, moments)


def said(agents: Agents, r: int, obs: np.ndarray) -> np.ndarray:
    """What row ``r`` says to one flat observation, by hand, in doubles."""
    w = {name: value[r].double().numpy() for name, value in agents.weights.items()}
    if agents.moments is not None:
        mean, var = agents.moments[0][r], agents.moments[1][r]
        obs = ((obs - mean) / np.sqrt(var + EPSILON)).clip(-LIMIT, LIMIT)
    hidden = np.tanh(
        obs.astype(float) @ w["first.weight"][:, :6] + w["first.bias"][0, :6]
    )
    hidden = np.tanh(hidden @ w["actor1.weight"] + w["actor1.bias"][0])
    found: np.ndarray = hidden @ w["action.weight"] + w["action.bias"][0]
    return found


def played_alone(
    task: Task, agents: Agents, r: int, i: int, *, deterministic: bool
) -> tuple[Episode, float, bool]:
    """Episode ``i`` of row ``r`` in a lane of its own, with the noise of all."""
    rng, env = np.random.default_rng(SEED), toys(task, 1)
    arrays = env.reset(np.array([SEED + i]))
    features, actions, rewards = [arrays.first[0].copy()], [], []
    while True:
        size = EPISODES, task.action.size
        answer = said(agents, r, arrays.obs[0])
        noise = np.zeros(task.action.size)
        if task.action.kind == "discrete":
            if not deterministic:
                noise = rng.gumbel(size=size)[i]
            action = np.int64((answer + noise).argmax())
        else:
            if not deterministic:
                noise = rng.standard_normal(size)[i]
            std = np.exp(agents.weights["log_std"][r, 0].double().numpy())
            action = np.clip(answer + std * noise, task.action.low, task.action.high)
        arrays = env.step(np.array([action]))
        features.append(arrays.features[0].copy())
        actions.append(action)
        rewards.append(float(arrays.reward[0]))
        if arrays.terminated[0] or arrays.truncated[0]:
            break
    fitness, success = float(arrays.fitness[0]), bool(arrays.success[0])
    episode = Episode(
        layout=task.layout,
        features=np.stack(features),
        action=np.stack(actions),
        reward=np.array(rewards),
        terminated=bool(arrays.terminated[0]),
        truncated=bool(arrays.truncated[0]),
        info={"fitness": fitness, "success": success},
    )
    return episode, fitness, success


def evaluated(task: Task, agents: Agents, make: Any = toys, **more: Any) -> Any:
    given: dict[str, Any] = {"episodes": EPISODES, "seed": SEED} | more
    return evaluate_rows(task, agents, make, **given)


@pytest.mark.parametrize("deterministic", [True, False])
@pytest.mark.parametrize("scaled", [True, False])
@pytest.mark.parametrize("continuous", [True, False])
def test_every_episode_is_the_one_of_a_loop_over_single_lanes(
    continuous: bool, scaled: bool, deterministic: bool
) -> None:
    task = toy_task(continuous=continuous)
    agents = agents_for(toys(task, 1), [0, 3, 8], scaled=scaled)
    found = evaluated(task, agents, deterministic=deterministic, record=4)
    lengths = set()
    for r, evaluation in enumerate(found):
        assert len(evaluation.fitness) == EPISODES
        assert len(evaluation.episodes) == 4
        for i in range(EPISODES):
            episode, fitness, success = played_alone(
                task, agents, r, i, deterministic=deterministic
            )
            assert evaluation.length[i] == episode.length
            assert evaluation.fitness[i] == fitness
            assert evaluation.success[i] is success
            lengths.add(episode.length)
            if i < 4:
                same_episode(evaluation.episodes[i], episode)
    assert len(lengths) > 1
    assert len({e.fitness for e in found}) > 1


def same_episode(ours: Episode, theirs: Episode) -> None:
    """The network is computed in single precision: its numbers differ a little."""
    np.testing.assert_allclose(ours.action, theirs.action, rtol=1e-4, atol=1e-4)
    for name in ("features", "reward"):
        np.testing.assert_allclose(
            getattr(ours, name), getattr(theirs, name), atol=1e-3
        )
    assert len(ours.features) == len(ours.action) + 1 == len(ours.reward) + 1
    assert (ours.terminated, ours.truncated) == (theirs.terminated, theirs.truncated)
    assert ours.info == theirs.info
    assert ours.layout == theirs.layout


@pytest.mark.parametrize(
    ("name", "encoder"),
    [
        ("DoorKey-5x5-v0", "one_hot"),
        ("CartPole-v1", "vector"),
        ("Pendulum-v1", "vector"),
    ],
)
def test_rows_together_are_to_the_bit_what_each_is_alone(
    name: str, encoder: str
) -> None:
    task = guerdon.load_task(f"guerdon/{name}")
    env = arrays_for(task, 1)
    scaled = name == "Pendulum-v1"
    agents = agents_for(env, [0, 1, 2, 3, 4], scaled=scaled, encoder=encoder)
    env.close()
    episodes = 1 if scaled else 5
    given = {"make": arrays_for, "episodes": episodes, "record": 1}
    together = evaluated(task, agents, **given)
    for r, evaluation in enumerate(together):
        (alone,) = evaluated(task, one(agents, r), **given)
        assert evaluation.fitness == alone.fitness
        assert evaluation.length == alone.length
        assert evaluation.success == alone.success
        ours, theirs = evaluation.episodes[0], alone.episodes[0]
        for part in ("features", "action", "reward"):
            np.testing.assert_array_equal(getattr(ours, part), getattr(theirs, part))
        # The true score is the task's, of the very episode that was recorded.
        np.testing.assert_allclose(evaluation.fitness[0], task.fitness(ours), rtol=1e-6)
        assert evaluation.success[0] == task.success(ours)
        assert ours.length == evaluation.length[0] <= task.horizon
    assert len({e.fitness for e in together}) > 1


def test_numbers_beyond_the_bounds_are_clipped() -> None:
    task = toy_task(continuous=True)
    agents = agents_for(toys(task, 1), [0, 1])
    agents.weights["log_std"][:] = 1.0
    found = evaluated(task, agents, record=EPISODES)  # the toy itself checks bounds
    actions = np.concatenate([e.action for row in found for e in row.episodes])
    assert actions.dtype == np.float32
    low, high = np.float32(task.action.low), np.float32(task.action.high)
    assert ((actions >= low) & (actions <= high)).all()
    assert (actions == low).any()
    assert (actions == high).any()


def test_the_seed_is_of_the_episodes_and_of_the_noise() -> None:
    task = toy_task()
    agents = agents_for(toys(task, 1), [0, 1])
    once, again, other = (evaluated(task, agents, seed=s) for s in (3, 3, 4))
    assert once == again
    assert once != other


def test_the_mode_is_not_noisy() -> None:
    task = toy_task()
    agents = agents_for(toys(task, 1), [0])
    agents.weights["action.weight"][:] = 0.0
    agents.weights["action.bias"][:] = torch.tensor([0.0, 1e-3, 0.0])
    (sure,) = evaluated(task, agents, deterministic=True, record=EPISODES)
    (drawn,) = evaluated(task, agents, record=EPISODES)
    assert {a for e in sure.episodes for a in e.action.tolist()} == {1}
    assert {a for e in drawn.episodes for a in e.action.tolist()} == {0, 1, 2}


def test_no_more_episodes_are_recorded_than_played() -> None:
    task = toy_task()
    agents = agents_for(toys(task, 1), [0, 1])
    for record, kept in ((0, 0), (2, 2), (99, EPISODES)):
        found = evaluated(task, agents, record=record)
        assert [len(row.episodes) for row in found] == [kept, kept]


class Poisoned(Toy):
    """A toy with a number in one lane that is not finite, in step ``when``."""

    lane, when, what, closed = 0, 0, "", False

    def step(self, actions: np.ndarray, out: Arrays | None = None) -> Arrays:
        found = super().step(actions, out)
        if self._steps == self.when or self.what == "fitness":
            getattr(found, self.what)[self.lane] = np.nan
        return found

    def close(self) -> None:
        self.closed = True


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("fitness", "Countdown: the fitness of evaluation episode 2 is nan; expected"),
        ("reward", "environment's reward in step 1 of evaluation episode 2 is nan"),
        ("obs", "environment's observation in step 1 of evaluation episode 2 is nan"),
    ],
)
def test_what_is_not_finite_is_said_of_its_own_row_only(what: str, words: str) -> None:
    task, made = toy_task(), []

    def make(task: Task, lanes: int) -> ArrayEnv:
        env = Poisoned(lanes)
        env.lane, env.when, env.what = EPISODES + 2, 1, what
        made.append(env)
        return env

    agents = agents_for(toys(task, 1), [0, 3, 8])
    sound, found = evaluated(task, agents), evaluated(task, agents, make)
    assert isinstance(found[1], NonFinite)
    assert words in str(found[1])
    assert [found[0], found[2]] == [sound[0], sound[2]]
    assert isinstance(sound[1], Evaluation)
    assert made[0].closed


def test_what_comes_after_an_episode_is_not_looked_at() -> None:
    """The lanes whose episode has ended play on; their numbers count for nothing."""
    task = toy_task()
    agents = agents_for(toys(task, 1), [0, 3])
    sound = evaluated(task, agents)
    lane = min(range(EPISODES), key=lambda i: sound[0].length[i])
    assert sound[0].length[lane] < max(max(e.length) for e in sound)

    def make(task: Task, lanes: int) -> ArrayEnv:
        env = Poisoned(lanes)
        env.lane, env.when, env.what = lane, sound[0].length[lane] + 1, "reward"
        return env

    assert evaluated(task, agents, make) == sound


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"episodes": 0}, "episodes: expected at least 1"),
        ({"seed": -1}, "seed: expected at least 0"),
    ],
)
def test_numbers_out_of_range_are_refused(change: dict[str, int], words: str) -> None:
    task = toy_task()
    with pytest.raises(ValueError, match=words):
        evaluated(task, agents_for(toys(task, 1), [0]), **change)


def remembering(rows: int) -> Agents:
    """Rows with a memory whose choices hang on it."""
    env = toys(toy_task(), 1)
    arch = Architecture.of(
        env.observation_space,
        env.action,
        "vector",
        hidden=(6, 5),
        shared=True,
        memory=4,
    )
    drawn = torch.Generator().manual_seed(0)
    weights = {
        name: 3.0 * torch.randn(value.shape, generator=drawn)
        for name, value in first_weights(arch, list(range(rows))).items()
    }
    return Agents(arch, weights)


class Cell:
    """One row's network of torch's own layers, asked step by step."""

    def __init__(self, agents: Agents, r: int) -> None:
        self.w = {name: value[r] for name, value in agents.weights.items()}
        self.gru = torch.nn.GRUCell(6, 4)
        for ours, theirs in (("input", "ih"), ("hidden", "hh")):
            weight, bias = (self.w[f"memory.{ours}.{p}"] for p in ("weight", "bias"))
            getattr(self.gru, f"weight_{theirs}").data = weight.T.clone()
            getattr(self.gru, f"bias_{theirs}").data = bias[0].clone()
        self.state = torch.zeros(1, 4)

    def layer(self, name: str, x: torch.Tensor) -> torch.Tensor:
        return x @ self.w[f"{name}.weight"] + self.w[f"{name}.bias"]

    def say(self, obs: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            x = torch.tanh(self.layer("first", torch.from_numpy(obs[None])))
            self.state = self.gru(x, self.state)
            x = torch.tanh(self.layer("trunk1", self.state))
            return self.layer("action", x)[0].numpy()


def test_rows_with_a_memory_remember_their_own_episode_from_its_beginning() -> None:
    task, agents = toy_task(), remembering(3)
    found = evaluated(task, agents, deterministic=True, record=EPISODES)
    forgetful = 0
    for r, evaluation in enumerate(found):
        for i, episode in enumerate(evaluation.episodes):
            env, cell = toys(task, 1), Cell(agents, r)
            arrays = env.reset(np.array([SEED + i]))
            for t, action in enumerate(episode.action):
                obs = arrays.obs[0].copy()
                assert int(cell.say(obs).argmax()) == action
                forgetful += int(Cell(agents, r).say(obs).argmax()) != action
                arrays = env.step(np.array([action]))
                np.testing.assert_array_equal(
                    episode.features[t + 1], arrays.features[0]
                )
            assert arrays.terminated[0] or arrays.truncated[0]
    assert forgetful > 5  # what was seen before has decided something


def test_a_row_with_a_memory_is_judged_alike_in_lock_step_and_by_itself() -> None:
    task = guerdon.load_task("guerdon/MemoryS7-v0")
    env = arrays_for(task, 1)
    arch = Architecture.of(
        env.observation_space, env.action, "one_hot", hidden=(8,), shared=True, memory=8
    )
    weights = {n: v.detach() for n, v in first_weights(arch, [0, 1]).items()}
    weights["action.weight"] = weights["action.weight"] * 100.0
    agents = Agents(arch, weights)
    given: dict[str, Any] = {"episodes": 5, "seed": SEED, "deterministic": True}
    together = evaluate_rows(task, agents, arrays_for, **given)
    for r, evaluation in enumerate(together):
        policy = RowPolicy(arch, one(agents, r).weights, task.action)
        # The second time with what is left in its memory of the first.
        for _ in range(2):
            alone = evaluate(task, policy, **given)
            assert isinstance(evaluation, Evaluation)
            assert evaluation.length == alone.length
            np.testing.assert_allclose(evaluation.fitness, alone.fitness, rtol=1e-6)


@pytest.mark.parametrize("name", ["LavaGapS5-v0", "CartPole-v1", "toys", "memory"])
def test_lanes_that_are_let_go_change_no_bit(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: dict[str, Any] = {"episodes": EPISODES, "record": 2}
    if name in ("toys", "memory"):
        task = toy_task()
        agents = (
            remembering(3) if name == "memory" else agents_for(toys(task, 1), [0, 3])
        )
    else:
        task = guerdon.load_task(f"guerdon/{name}")
        env = arrays_for(task, 1)
        kind = "one_hot" if "Lava" in name else "vector"
        agents = agents_for(env, [0, 1, 2], encoder=kind)
        given |= {"make": arrays_for}
        env.close()
    lanes: list[int] = []
    chosen = module._Play._chosen

    def noted(self: Any, *args: Any) -> np.ndarray:
        lanes.append(self.env.num_envs)
        return chosen(self, *args)

    monkeypatch.setattr(module._Play, "_chosen", noted)
    fewer = evaluated(task, agents, **given)
    assert lanes[0] == agents.rows * EPISODES
    assert lanes[-1] <= lanes[0] / 2
    monkeypatch.setattr(module, "LANES", 1)
    monkeypatch.setattr(module, "BATCHED_LANES", 1)
    lanes.clear()
    row_by_row = evaluated(task, agents, **given)
    assert max(lanes) == EPISODES
    monkeypatch.undo()
    monkeypatch.setattr(module._Play, "_let_go", lambda self, going: None)
    all_along = evaluated(task, agents, **given)
    for other in (row_by_row, all_along):
        for ours, theirs in zip(fewer, other, strict=True):
            for part in ("fitness", "success", "length"):
                assert getattr(ours, part) == getattr(theirs, part)
            pairs = zip(ours.episodes, theirs.episodes, strict=True)
            for mine, whole in pairs:
                for part in ("features", "action", "reward"):
                    np.testing.assert_array_equal(
                        getattr(mine, part), getattr(whole, part)
                    )


def test_no_more_environments_are_made_at_once_than_fit() -> None:
    task, made = toy_task(), []

    def make(task: Task, lanes: int) -> ArrayEnv:
        made.append(Poisoned(lanes))
        assert all(env.closed for env in made[:-1])
        return made[-1]

    agents = agents_for(toys(task, 1), [0, 1, 2])
    found = evaluated(task, agents, make, episodes=200)
    assert [env.num_envs for env in made] == [400, 200]
    assert all(env.closed for env in made)
    assert found == evaluated(task, agents, episodes=200)


def test_a_masked_choice_is_not_made_in_the_evaluation() -> None:
    task, agents = toy_task(), agents_for(toys(toy_task(), 1), [0, 3, 8])

    def make(task: Task, lanes: int) -> ArrayEnv:
        return Guarded(lanes)

    def forbidden(found: list[Any]) -> int:
        """Choices that the masks of the episode's states forbid."""
        total = 0
        for evaluation in found:
            for i, episode in enumerate(evaluation.episodes):
                env = Guarded(1)
                env.reset(np.array([SEED + i]))
                for action in episode.action:
                    total += not env.action_masks()[0, action]
                    env.step(np.array([action]))
        return total

    for deterministic in (True, False):
        given = {"record": EPISODES, "deterministic": deterministic}
        assert forbidden(evaluated(task, agents, **given)) > 0
        assert forbidden(evaluated(task, agents, make, **given)) == 0


def test_all_rows_of_a_population_are_judged_by_copies_on_the_cpu() -> None:
    config = PPOConfig(envs=2, steps=4, minibatch=8, normalize_observation=True)
    population = Population(Toy(6), config, [0, 1, 2])
    population.learn(config.block)
    agents = agents_of(population)
    assert agents.moments is not None
    for r in range(3):
        own = population.policy(r)
        assert own.moments is not None
        for ours, theirs in zip(agents.moments, own.moments, strict=True):
            np.testing.assert_array_equal(ours[r], theirs)
        for name, value in own.weights.items():
            assert torch.equal(agents.weights[name][r : r + 1], value)
    before = {name: value.clone() for name, value in agents.weights.items()}
    population.learn(config.block)
    for name, value in agents.weights.items():
        assert torch.equal(value, before[name])
        assert not value.requires_grad


class Elsewhere:
    """A tensor on a device that NumPy does not reach."""

    def __init__(self, value: torch.Tensor, asked: list[str]) -> None:
        self.value, self.asked = value, asked

    def detach(self) -> Elsewhere:
        return self

    def __getitem__(self, rows: Any) -> Elsewhere:
        return Elsewhere(self.value[rows], self.asked)

    def cpu(self) -> torch.Tensor:
        self.asked.append("cpu")
        return self.value


def test_weights_and_moments_are_brought_from_another_device() -> None:
    config = PPOConfig(envs=2, steps=4, minibatch=8, normalize_observation=True)
    population: Any = Population(Toy(4), config, [0, 1])
    asked: list[str] = []
    here = {name: value.detach() for name, value in population.weights.items()}
    population.weights = {n: Elsewhere(v, asked) for n, v in here.items()}
    state = population.acting.obs_scale.state
    for name in ("mean", "var"):
        state[name] = Elsewhere(state[name], asked)
    agents = agents_of(population)
    assert asked == ["cpu"] * (len(here) + 2)
    assert all(torch.equal(agents.weights[name], here[name]) for name in here)

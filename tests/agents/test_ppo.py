"""Updates of a population against plain PPO, written out, and against SB3's."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from stable_baselines3 import PPO
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.vec_env import DummyVecEnv
from torch import nn

from guerdon.agents.coding import coding_of
from guerdon.agents.networks import Architecture
from guerdon.agents.ppo import Population, PPOConfig
from guerdon.agents.rollout import orders
from guerdon.agents.row_files import sb3_weights
from guerdon.agents.row_policy import row_policy
from tests.agents.toy_arrays import HIGH, Guarded, Scaled, Toy

SMALL = PPOConfig(
    envs=4,
    steps=8,
    minibatch=16,
    epochs=3,
    hidden=(6, 5),
    learning_rate=3e-3,
    ent_coef=0.02,
    normalize_reward=False,
    conv=((3, 2, 1), (4, 2, 1)),
)


ENCODERS: dict[str, Any] = {"grid": "one_hot", "cnn": "cnn"}
"""By the kind of observation; the others are vectors."""


def toy(lanes: int, kind: str, **options: Any) -> Toy:
    return Toy(lanes, grid=kind in ENCODERS, continuous=kind == "numbers", **options)


class Plain(nn.Module):
    """One row's actor and critic, as anybody would write them."""

    def __init__(self, arch: Architecture, weights: dict[str, torch.Tensor]) -> None:
        super().__init__()
        first, bias = weights["first.weight"], weights["first.bias"]
        if arch.encoder == "one_hot":
            first = first[coding_of(arch.high, arch.shape).flat()]
        half = first.shape[1] // 2
        self.convs = nn.ModuleList()
        convs = arch.conv if arch.encoder == "cnn" else ()
        for i, (channels, kernel, stride) in enumerate(convs):
            weight = weights[f"conv{i}.weight"].T.reshape(channels, -1, kernel, kernel)
            conv = nn.Conv2d(weight.shape[1], channels, kernel, stride)
            conv.weight.data = weight.clone()
            conv.bias.data = weights[f"conv{i}.bias"][0].clone()
            self.convs.append(conv)
        self.actor = self._tower(weights, "actor", first[:, :half], bias[:, :half])
        self.critic = self._tower(weights, "critic", first[:, half:], bias[:, half:])
        self.log_std = None
        if arch.continuous:
            self.log_std = nn.Parameter(weights["log_std"][0].clone())

    def _tower(self, weights: Any, side: str, first: Any, bias: Any) -> nn.Sequential:
        last = "action" if side == "actor" else "value"
        pairs = [(first, bias)]
        pairs += [
            (weights[f"{n}.weight"], weights[f"{n}.bias"]) for n in (f"{side}1", last)
        ]
        layers: list[nn.Module] = []
        for weight, offset in pairs:
            layer = nn.Linear(*weight.shape)
            layer.weight.data, layer.bias.data = weight.T.clone(), offset[0].clone()
            layers += [layer, nn.Tanh()]
        return nn.Sequential(*layers[:-1])

    def look(self, obs: torch.Tensor) -> torch.Tensor:
        if not self.convs:
            return readable(obs)
        x = (obs.float() / torch.from_numpy(HIGH).float()).permute(0, 3, 1, 2)
        for conv in self.convs:
            x = torch.relu(conv(x))
        return x.permute(0, 2, 3, 1).flatten(1)

    def judge(self, obs: Any, actions: Any) -> tuple[Any, Any, Any]:
        seen = self.look(obs)
        policy, value = self.actor(seen), self.critic(seen)[:, 0]
        if self.log_std is None:
            chance: Any = torch.distributions.Categorical(logits=policy)
            return chance.log_prob(actions), chance.entropy(), value
        chance = torch.distributions.Normal(policy, self.log_std.exp())
        return chance.log_prob(actions).sum(-1), chance.entropy().sum(-1), value


def row_weights(population: Population, row: int) -> dict[str, torch.Tensor]:
    return {k: v.detach()[row].clone() for k, v in population.weights.items()}


def readable(obs: torch.Tensor) -> torch.Tensor:
    """Numbers as they are, codes as one-hot rows."""
    if obs.dtype != torch.uint8:
        return obs
    parts = [
        nn.functional.one_hot(obs[..., k].long(), int(HIGH[k]) + 1) for k in range(2)
    ]
    return torch.cat(parts, -1).flatten(1).float()


def plain_update(population: Population, row: int, net: Plain) -> None:
    """One update of one row: loops, torch's Adam, torch's clipping."""
    config, roll = population.config, population.acting.rollout
    envs = config.envs
    lanes = slice(row * envs, (row + 1) * envs)
    obs = roll.seen[:, lanes]
    finals = torch.zeros(config.steps, roll.lanes, *obs.shape[2:]).to(obs.dtype)
    for final in roll.finals:
        finals[final.step, final.lanes] = final.obs
    finals = finals[:, lanes]
    advantages = torch.zeros(config.steps, envs)
    returns = torch.zeros(config.steps, envs)
    with torch.no_grad():
        for n in range(envs):
            last = 0.0
            for t in reversed(range(config.steps)):
                lane = lanes.start + n
                value = net.critic(net.look(obs[t, n][None])).item()
                if roll.terminated[t, lane]:
                    following = 0.0
                elif roll.truncated[t, lane]:
                    following = net.critic(net.look(finals[t, n][None])).item()
                else:
                    following = net.critic(net.look(obs[t + 1, n][None])).item()
                over = roll.terminated[t, lane] or roll.truncated[t, lane]
                reward = float(roll.reward[t, lane])
                delta = reward + config.discount * following - value
                last = delta + (
                    0.0 if over else config.discount * config.gae_lambda * last
                )
                advantages[t, n], returns[t, n] = last, last + value
        actions = roll.actions[:, lanes].flatten(0, 1)
        flat = obs[:-1].flatten(0, 1)
        old, _, _ = net.judge(flat, actions)
    adam = torch.optim.Adam(net.parameters(), config.learning_rate, eps=1e-5)
    key = population.rows[row]
    made = orders([(key.seed, key.blocks)], config.epochs, config.block)[0]
    gains, goals = advantages.flatten(), returns.flatten()
    for order in made:
        for i in order.split(config.minibatch):
            gain = (gains[i] - gains[i].mean()) / (gains[i].std() + 1e-8)
            log_prob, entropy, value = net.judge(flat[i], actions[i])
            ratio = (log_prob - old[i]).exp()
            clipped = ratio.clamp(1 - config.clip_range, 1 + config.clip_range)
            policy = -torch.min(gain * ratio, gain * clipped).mean()
            loss = policy + 0.5 * nn.functional.mse_loss(goals[i], value)
            loss = loss - config.ent_coef * entropy.mean()
            adam.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(net.parameters(), config.max_grad_norm)
            adam.step()


@pytest.fixture(params=["compiled", "in torch"])
def loops(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """With numba's loops, and as on a GPU or without numba."""
    if request.param == "in torch":
        for module in ("layers", "optimize"):
            monkeypatch.setattr(f"guerdon.agents.{module}.has_compiler", lambda: False)


@pytest.mark.usefixtures("loops")
@pytest.mark.parametrize("rows", [1, 3])
@pytest.mark.parametrize("kind", ["grid", "cnn", "choices", "numbers"])
def test_an_update_is_that_of_plain_ppo_for_every_row(rows: int, kind: str) -> None:
    env = toy(rows * 4, kind, horizon=3)
    config = replace(SMALL, encoder=ENCODERS.get(kind, "vector"))
    population = Population(env, config, list(range(rows)))
    population.collect()
    roll = population.acting.rollout
    assert roll.terminated.any()
    assert roll.finals
    assert (roll.terminated & roll.truncated).any() or rows == 1
    plain = [Plain(population.arch, row_weights(population, r)) for r in range(rows)]
    for r in range(rows):
        plain_update(population, r, plain[r])
    update = population.update()
    assert (update.gradient_steps == 6).all()
    for r, net in enumerate(plain):
        expected = row_weights(population, r)
        after = Plain(population.arch, expected).state_dict()
        for name, value in net.state_dict().items():
            torch.testing.assert_close(after[name], value, atol=2e-5, rtol=1e-3)


class Silent(gym.Env[Any, Any]):
    """Only its spaces are asked for."""

    def __init__(self, observation: gym.spaces.Space[Any], continuous: bool) -> None:
        self.observation_space = observation
        box = gym.spaces.Box(
            np.array([-0.5, -0.5], np.float32), np.array([0.5, 1.0], np.float32)
        )
        self.action_space = box if continuous else gym.spaces.Discrete(3)


@pytest.mark.parametrize("continuous", [False, True])
def test_an_update_is_that_of_sb3_on_the_same_rollout(continuous: bool) -> None:
    config = replace(SMALL, minibatch=SMALL.block, vf_coef=0.7, steps=8)
    env = Toy(4, continuous=continuous)
    population = Population(env, config, [3])
    population.collect()
    roll, finals = population.acting.rollout, population.acting.final_values()
    venv = DummyVecEnv([lambda: Silent(env.observation_space, continuous)] * 4)
    theirs = PPO(
        "MlpPolicy",
        venv,
        n_steps=8,
        batch_size=config.block,
        n_epochs=config.epochs,
        learning_rate=config.learning_rate,
        ent_coef=config.ent_coef,
        vf_coef=config.vf_coef,
        policy_kwargs={"net_arch": [6, 5]},
        device="cpu",
    )
    theirs.set_logger(Logger(None, []))
    theirs.policy.load_state_dict(sb3_weights(row_policy(population, 0)))
    buffer = theirs.rollout_buffer
    buffer.reset()
    for t in range(config.steps):
        only_cut = roll.truncated[t] & ~roll.terminated[t]
        reward = roll.reward[t] + config.discount * only_cut * finals[t, :, 0].numpy()
        seen, actions = roll.seen[t], roll.actions[t]
        values, log_prob, _ = theirs.policy.evaluate_actions(seen, actions)
        torch.testing.assert_close(values.detach(), roll.values[t])
        starts = roll.starts[t].numpy()
        buffer.add(
            roll.stored.obs[t].numpy(),
            actions.view(4, -1).numpy(),
            reward,
            starts,
            values.detach(),
            log_prob.detach(),
        )
    buffer.compute_returns_and_advantage(roll.values[-1], roll.starts[-1].numpy())
    theirs.train()
    population.update()
    ours = sb3_weights(row_policy(population, 0))
    for name, value in theirs.policy.state_dict().items():
        torch.testing.assert_close(ours[name], value, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("kind", ["grid", "cnn", "numbers", "memory"])
def test_a_row_learns_the_same_alone_and_among_others(kind: str) -> None:
    # To the last bit, if every row's matrices begin at a multiple of 64 bytes: products
    # depend on that.
    config = replace(
        SMALL,
        encoder=ENCODERS.get(kind, "vector"),
        normalize_reward=True,
        normalize_observation=kind == "numbers",
        hidden=(16, 16),
        conv=((16, 2, 1), (16, 2, 1)),
        shared=kind == "memory",
        memory=16 if kind == "memory" else 0,
    )

    def trained(seeds: list[int], factors: list[float]) -> Population:
        env = toy(4 * len(seeds), kind)
        population = Population(env, config, seeds, rewards=Scaled(factors))
        population.learn(3 * config.block)
        return population

    alone = trained([5], [1.0])
    among = trained([7, 5, 5, 5], [1.0, 1.0, -1.0, 1.0])
    for name, value in alone.weights.items():
        assert torch.equal(among.weights[name][1], value[0]), name
        assert torch.equal(among.weights[name][3], value[0]), name
    first = "first.weight"
    assert (among.weights[first][2] - among.weights[first][1]).abs().max() > 1e-3
    sent = among.acting.rollout.sent[:, 4:8]
    np.testing.assert_array_equal(alone.acting.rollout.sent, sent)
    ours, theirs = alone.log.of(alone.rows[0].id), among.log.of(among.rows[1].id)
    np.testing.assert_array_equal(ours.proxy, theirs.proxy)


def test_a_masked_choice_is_never_made_and_gets_no_probability() -> None:
    population = Population(Guarded(8), SMALL, [0, 1])
    population.collect()
    roll = population.acting.rollout
    assert roll.masks is not None
    masks = roll.masks[:-1]
    assert not masks.all()
    assert masks.gather(-1, roll.actions[..., None]).all()
    assert torch.softmax(roll.policy, -1)[~masks].max() == 0.0
    update = population.update()
    assert np.isfinite(update.entropy).all()
    assert (update.entropy < np.log(2) + 1e-5).all()


def test_masks_hold_for_the_rows_that_go_on_alone() -> None:
    population = Population(Guarded(12), SMALL, [0, 1, 2])
    population.learn(SMALL.block)
    population.select([2, 0])
    population.collect()
    roll = population.acting.rollout
    assert roll.masks is not None
    masks = roll.masks[:-1]
    assert not masks.all()
    assert masks.gather(-1, roll.actions[..., None]).all()


class TwoDoors(Toy):
    """The right choice is the one that is shown; every step is an episode."""

    def __init__(self, num_envs: int) -> None:
        super().__init__(num_envs, horizon=1)

    def _see(self) -> np.ndarray:
        return np.eye(4, dtype=np.float32)[self.place % 3]

    def step(self, actions: np.ndarray, out: Any = None) -> Any:
        right = (actions == self.place % 3).astype(np.float32)
        out = super().step(actions, out)
        out.reward[...] = out.fitness[...] = right
        return out


def test_two_rows_learn_what_each_is_paid_for() -> None:
    config = replace(SMALL, steps=16, minibatch=64, learning_rate=1e-2)
    rewards = Scaled([1.0, -1.0])
    population = Population(TwoDoors(8), config, [0, 0], rewards=rewards)
    population.learn(40 * config.block)
    last = population.log.means([0, 1], since=30 * config.block)
    assert last[0] > 0.9
    assert last[1] < 0.1
    curve = population.curve(0)
    assert curve.fitness[-1] == pytest.approx(curve.proxy[-1])
    assert curve.length[-1] == 1.0


def test_a_bonus_has_its_own_value_discount_and_no_end() -> None:
    config = replace(SMALL, bonus_discount=0.5, bonus_lambda=1.0, bonus_coef=0.0)
    population = Population(Toy(4), config, [0], bonus=Scaled([1.0]))
    population.collect()
    roll = population.acting.rollout
    assert roll.values.shape[-1] == 2
    _, total, returns = population._targets(population._paid())
    table = returns.view(config.steps, 4, 2)[..., 1]
    expected = roll.values[-1, :, 1].clone()
    for t in reversed(range(config.steps)):
        expected = torch.from_numpy(roll.reward[t]) + 0.5 * expected
        torch.testing.assert_close(table[t], expected)
    without = Population(Toy(4), SMALL, [0])
    assert without.arch.heads == 1
    # With weight 0 the bonus leaves the advantages as the first head alone has them.
    gains = returns[:, 0] - roll.values[:-1, :, 0].flatten()
    torch.testing.assert_close(total, gains)


@pytest.mark.usefixtures("loops")
def test_a_row_that_has_moved_far_enough_stops_its_update_alone() -> None:
    config = replace(SMALL, learning_rate=0.05, target_kl=0.01)
    population = Population(Toy(12), config, [0, 1, 2], rewards=Scaled([1, 9, -1]))
    population.collect()
    update = population.update()
    assert update.gradient_steps.min() < 6
    assert (population.adam.steps == update.gradient_steps).all()
    assert all(row.failure is None for row in population.rows)


def test_rates_fall_to_zero_at_the_end_of_the_training() -> None:
    config = replace(SMALL, linear_learning_rate=True, total_steps=2 * SMALL.block)
    population = Population(Toy(4), config, [0])
    population.learn(config.block)
    before = copy.deepcopy(row_weights(population, 0))
    population.learn(config.block)  # at remaining share 0, as SB3 counts
    for name, value in row_weights(population, 0).items():
        torch.testing.assert_close(value, before[name])


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"minibatch": 7}, "expected a divisor of envs . steps = 32"),
        ({"discount": 1.5}, "discount: expected 0 to 1"),
        ({"learning_rate": 0.0}, "learning_rate: expected above 0"),
        ({"memory": 4, "shared": True, "minibatch": 4}, "whole sequences"),
        ({"linear_clip_range": True}, "total_steps: expected a number"),
        ({"cuda_graphs": True}, "cuda_graphs: expected device='cuda'"),
        ({"device": "tpu"}, "device"),
        ({"normalize_observation": True, "encoder": "cnn"}, "encoder 'vector'"),
    ],
)
def test_a_configuration_that_cannot_be_is_refused(
    changes: dict[str, Any], words: str
) -> None:
    with pytest.raises((ValueError, RuntimeError), match=words):
        replace(SMALL, **changes)


def test_an_env_of_another_size_is_refused() -> None:
    with pytest.raises(ValueError, match=r"2 rows x 4 = 8 lanes, got 4"):
        Population(Toy(4), SMALL, [0, 1])


def test_a_missing_device_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match="'cuda': torch finds no CUDA device"):
        Population(Toy(4), replace(SMALL, device="cuda"), [0])


def test_what_does_not_fit_says_what_to_lower(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    population = Population(Toy(4), SMALL, [0])
    monkeypatch.setattr(population.acting, "collect", full)
    with pytest.raises(MemoryError, match=r"fewer candidates .* fewer environments"):
        population.collect()


# It traces through constants that are kept; they are the same each time.
@pytest.mark.filterwarnings("ignore:Dynamo detected a call to a .functools.lru_cache")
@pytest.mark.parametrize("kind", ["grid", "cnn", "numbers"])
def test_a_compiled_network_learns_as_one_that_is_not(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, compiled = torch.compile, []

    def traced(net: Any) -> Any:
        # The graphs that torch would compile, run without a compiler.
        compiled.append(real(net, backend="aot_eager"))
        return compiled[-1]

    monkeypatch.setattr(torch, "compile", traced)

    def weights(wanted: bool) -> dict[str, torch.Tensor]:
        config = replace(
            SMALL, encoder=ENCODERS.get(kind, "vector"), compile=wanted, epochs=1
        )
        population = Population(toy(8, kind), config, [0, 1])
        population.learn(config.block)
        return population.weights

    plain, graphs = weights(False), weights(True)
    assert len(compiled) == 1
    for name, value in plain.items():
        torch.testing.assert_close(graphs[name], value, atol=2e-5, rtol=1e-3)


def test_bfloat16_learns_about_the_same() -> None:
    def weights(bf16: bool) -> torch.Tensor:
        population = Population(Toy(4), replace(SMALL, bf16=bf16), [0])
        population.learn(SMALL.block)
        assert population.weights["first.weight"].dtype == torch.float32
        return population.weights["actor1.weight"].detach()

    torch.testing.assert_close(weights(True), weights(False), atol=0.05, rtol=0.1)


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        ("ent_coef", None, TypeError), ("ent_coef", float("nan"), ValueError),
        ("total_steps", "z", TypeError), ("total_steps", 0, ValueError),
        ("target_kl", "q", TypeError), ("value_clip", -1.0, ValueError),
    ],
)  # fmt: skip
def test_a_config_refuses_what_is_no_number_by_name(
    name: str, value: object, error: type[Exception]
) -> None:
    with pytest.raises(error, match=name):
        replace(SMALL, **{name: value})

"""Population PPO: R agents learn side by side as batch rows of one network.

    population = Population(env, PPOConfig(envs=8, steps=128), seeds=[0, 0, 1, 1])
    population.learn(100_000)

A row is one agent: one candidate reward under one seed, with ``config.envs``
environments. Rows share the launches and nothing else: each has its own gradient norm,
advantage and reward scale, Adam and random numbers, so a row learns the same alone and
among others. Rows of equal seed start from equal weights and meet equal worlds, noise
and minibatches (common random numbers), so that their differences are their rewards'.

References: Schulman et al., "Proximal Policy Optimization Algorithms" (2017), equations
7 and 9; Schulman et al., "High-Dimensional Continuous Control Using Generalized
Advantage Estimation" (ICLR 2016), equation 16; Burda et al., "Exploration by Random
Network Distillation" (ICLR 2019), section 2.3, for the second value. The details are
those of Stable-Baselines3.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from guerdon.agents import normalize
from guerdon.agents.acting import Acting
from guerdon.agents.episodes import EpisodeLog, curve
from guerdon.agents.layers import Scratch
from guerdon.agents.losses import (
    Minibatch,
    advantages,
    log_prob_and_entropy,
    network,
    ppo_loss,
    successors,
)
from guerdon.agents.minibatches import minibatches
from guerdon.agents.networks import first_weights
from guerdon.agents.normalize import RewardScale
from guerdon.agents.optimize import Graph, StackedAdam
from guerdon.agents.ppo_config import PPOConfig, device_of, enough_memory
from guerdon.agents.rollout import BlockReward, Itemised, lane_seeds
from guerdon.agents.row_policy import RowPolicy, row_policy
from guerdon.agents.training import MOST_SEED, Curve
from guerdon.checks import integer
from guerdon.envs.tensors import AnyEnv, TensorEnv
from guerdon.types import Failure

__all__ = ["BlockReward", "PPOConfig", "Population", "Row", "Update"]

KL_MARGIN = 1.5
"""How far beyond ``target_kl`` a row may move before its update ends."""


@dataclass(slots=True)
class Row:
    """One agent of the population."""

    seed: int
    id: int
    """Its identity, which it keeps when other rows go."""
    blocks: int = 0
    """Blocks that it has lived through."""
    failure: Failure | None = None
    """Why it has stopped learning; its weights are the last good ones."""


class Update(NamedTuple):
    """What an update did to each row: means over its gradient steps, ``(R,)``."""

    policy_loss: np.ndarray
    value_loss: np.ndarray
    entropy: np.ndarray
    kl: np.ndarray
    grad_norm: np.ndarray
    """Before clipping."""
    gradient_steps: np.ndarray


class Population:
    """R rows that act and learn together; R = 1 is the same path.

    Args:
        env: ``len(seeds) * config.envs`` lanes, row by row; reset here. The caller
            closes it. Where its arrays are tensors on a device, that is
            ``config.device``, and blocks of steps stay there.
        config: how all rows learn.
        seeds: one per row; rows of equal seed share all their randomness.
        rewards: pays the rows per block; None for the environment's own reward.
        bonus: an intrinsic reward per block with a value head and discount of its own.

    Raises:
        ValueError: for an env of another size or on another device, an observation
            that the encoder cannot read, seeds out of range, or a device that is not
            there.
        MemoryError: when it does not fit.
    """

    def __init__(
        self,
        env: AnyEnv,
        config: PPOConfig,
        seeds: Sequence[int],
        *,
        rewards: BlockReward | None = None,
        bonus: BlockReward | None = None,
    ) -> None:
        self.config, self.rewards, self.bonus = config, rewards, bonus
        self.device = device_of(config)
        numbers = [integer("seed", seed, 0, MOST_SEED) for seed in seeds]
        if env.num_envs != len(numbers) * config.envs or not numbers:
            raise ValueError(
                f"population: expected an env of {len(numbers)} rows x {config.envs} = "
                f"{len(numbers) * config.envs} lanes, got {env.num_envs}"
            )
        if isinstance(env, TensorEnv) and env.device != self.device:
            raise ValueError(
                f"device: expected that of the env's tensors, {env.device}, got "
                f"{config.device!r}; make both for the same one"
            )
        self.rows = [Row(seed, i) for i, seed in enumerate(numbers)]
        self.born = len(numbers)
        heads = 1 if bonus is None else 2
        self.arch = config.architecture(env.observation_space, env.action, heads)
        self.seconds = dict.fromkeys(
            ("acting", "environment", "rewards", "update"), 0.0
        )
        """Where the time went."""
        streams = [config.discount, config.bonus_discount][: self.arch.heads]
        self.reward_scales = [
            RewardScale(len(numbers), config.envs, discount, self.device)
            for discount in streams
            if config.normalize_reward
        ]
        with enough_memory():
            first = first_weights(self.arch, numbers)
            self._own(first)
            self.adam = StackedAdam(
                self.weights, config.max_grad_norm, config.adam_epsilon
            )
            self.scratch = Scratch()
            self.net = network(self.arch, config, self.scratch)
            if config.compile:
                self.net = torch.compile(self.net)
            self.acting = Acting(
                env, config, self.arch, self.net, self.weights, self._fail
            )
            self.log = EpisodeLog(env.num_envs, max(map(len, self._names), default=0))
            worlds = [lane_seeds(row.seed, config.envs) for row in self.rows]
            self.acting.take(env.reset(np.concatenate(worlds)), slice(0, len(worlds)))

    def _own(self, weights: dict[str, Tensor]) -> None:
        """Make these the weights, as leaves that stay where they are."""
        self.weights = {
            name: value.detach().to(self.device).requires_grad_()
            for name, value in weights.items()
        }
        self._gradients: Callable[..., Any] = self._differentiate
        if self.config.cuda_graphs:
            self._gradients = Graph(self._differentiate)

    @property
    def env(self) -> AnyEnv:
        """The environments of all rows."""
        return self.acting.env

    @property
    def _names(self) -> Sequence[Sequence[str]]:
        """Terms of every row, as far as its reward names them."""
        return self.rewards.names if isinstance(self.rewards, Itemised) else ()

    # --- the training ---

    def learn(
        self,
        steps: int,
        callback: Callable[[Population, Update], bool] | None = None,
    ) -> None:
        """Collect and update until every row has taken ``steps`` more steps.

        Args:
            steps: environment steps of each row, rounded up to whole blocks.
            callback: told after every update; False ends the training. It may select
                and replace rows.
        """
        for _ in range(-(-steps // self.config.block)):
            self.collect()
            update = self.update()
            if callback is not None and not callback(self, update):
                return
            if all(row.failure for row in self.rows):
                return

    def collect(self) -> None:
        """Let all rows act for a block.

        Raises:
            MemoryError: when it does not fit.
        """
        began, inside = time.perf_counter(), self.acting.environment_seconds
        with enough_memory():
            self.acting.collect(*self._keys())
        inside = self.acting.environment_seconds - inside
        self.seconds["environment"] += inside
        self.seconds["acting"] += time.perf_counter() - began - inside

    def update(self) -> Update:
        """Learn from the block that was collected last.

        Raises:
            MemoryError: when it does not fit.
        """
        began = time.perf_counter()
        with enough_memory():
            rewards = self._paid()
            self.seconds["rewards"] += time.perf_counter() - began
            began = time.perf_counter()
            update = self._learned(self._targets(rewards))
        for row in self.rows:
            row.blocks += 1
        self.seconds["update"] += time.perf_counter() - began
        return update

    def _keys(self) -> tuple[list[tuple[int, int]], list[int]]:
        """The distinct (seed, block number) of the rows, and which each row has."""
        own = [(row.seed, row.blocks) for row in self.rows]
        keys = list(dict.fromkeys(own))
        return keys, [keys.index(key) for key in own]

    def _paid(self) -> list[np.ndarray]:
        """The streams of rewards, each ``(T, L)``, and the episodes noted."""
        roll = self.acting.rollout
        streams = [roll.reward]
        if self.rewards is not None or self.bonus is not None:
            batch = roll.batch(with_obs=self.bonus is not None)
            if self.rewards is not None:
                streams = [self._checked(self.rewards(batch))]
            if self.bonus is not None:
                streams.append(self._checked(self.bonus(batch)))
        streams = [self._finite(rewards, "a reward") for rewards in streams]
        ended = roll.terminated | roll.truncated
        fitness = np.where(ended, roll.fitness, 0.0)
        self.log.add(
            streams[0],
            ended,
            self._finite(fitness, "the fitness"),
            roll.success,
            np.array([row.id for row in self.rows]),
            np.array([row.blocks for row in self.rows]) * self.config.block,
            self.rewards.terms if isinstance(self.rewards, Itemised) else None,
        )
        return streams

    def _checked(self, rewards: np.ndarray) -> np.ndarray:
        """Rewards of a block function as ``(T, L)``."""
        expected = self.config.steps, len(self.rows), self.config.envs
        if tuple(rewards.shape) != expected:
            raise ValueError(
                f"block rewards: expected shape {expected}, got {tuple(rewards.shape)}"
            )
        return np.asarray(rewards, np.float32).reshape(self.config.steps, -1)

    def _finite(self, values: np.ndarray, what: str) -> np.ndarray:
        """``(T, L)`` values; rows that are not finite fail and get zeros."""
        if np.isfinite(values).all():
            return values
        table = values.reshape(len(values), len(self.rows), -1)
        bad = ~np.isfinite(table).all((0, 2))
        self._fail(np.flatnonzero(bad), what)
        return np.where(bad[:, None], 0.0, table).reshape(values.shape)

    def _fail(self, rows: np.ndarray, what: str) -> None:
        for r in rows:
            if self.rows[r].failure is None:
                reason = f"{what} of this row is not finite; expected finite numbers"
                self.rows[r].failure = Failure("non_finite", reason)

    @torch.no_grad()
    def _targets(self, streams: list[np.ndarray]) -> tuple[Tensor, Tensor, Tensor]:
        """Log-probabilities ``(L * T,)``, advantages, and returns ``(L * T, V)``."""
        config, roll = self.config, self.acting.rollout
        lead = config.steps, len(self.rows), config.envs
        finals = self.acting.final_values()
        terminated = roll.stored.terminated.to(self.device)
        truncated = roll.stored.truncated.to(self.device)
        total = torch.zeros(roll.steps, roll.lanes, device=self.device)
        returns = torch.empty_like(roll.values[:-1])
        for head, rewards in enumerate(streams):
            values, ended = roll.values[..., head], terminated | truncated
            following = successors(values, finals[..., head], terminated, truncated)
            if head and not config.bonus_episodic:
                following, ended = values[1:], torch.zeros_like(ended)
            reward = torch.from_numpy(rewards).to(self.device)
            if config.normalize_reward:
                scale = self.reward_scales[head]
                reward = scale(reward.view(lead), ended.view(lead)).flatten(1)
            discount = config.bonus_discount if head else config.discount
            decay = config.bonus_lambda if head else config.gae_lambda
            gain = advantages(
                reward, values[:-1], following, ended, discount=discount, decay=decay
            )
            returns[..., head] = gain + values[:-1]
            total += gain * (config.bonus_coef if head else 1.0)
        rows = roll.policy.view(*lead, -1).transpose(0, 1).flatten(1, 2)
        chosen = roll.actions.view(*lead, *roll.actions.shape[2:])
        chosen = chosen.transpose(0, 1).flatten(1, 2)
        log_prob, _ = log_prob_and_entropy(rows, chosen, self.weights.get("log_std"))
        log_prob = log_prob.view(lead[1], lead[0], lead[2]).transpose(0, 1)
        return log_prob.reshape(-1), total.view(-1), returns.flatten(0, 1)

    def _learned(self, targets: tuple[Tensor, Tensor, Tensor]) -> Update:
        """Go through the block ``epochs`` times."""
        config = self.config
        active = np.array([row.failure is None for row in self.rows])
        left, ones = self._left(), np.ones(len(self.rows))
        rates = config.learning_rate * (left if config.linear_learning_rate else ones)
        clip = config.clip_range * (left if config.linear_clip_range else ones)
        clips = torch.tensor(clip[:, None], dtype=torch.float32, device=self.device)
        sums, steps = np.zeros((6, len(self.rows))), np.zeros(len(self.rows), np.int64)
        for batch in minibatches(self.acting, targets, clips, *self._keys()):
            given = {k: v for k, v in batch._asdict().items() if v is not None}
            self._present = tuple(given)
            told = self._gradients(*given.values()).cpu().numpy()
            bad = ~np.isfinite(told).all(0) & active
            if bad.any():
                self._fail(np.flatnonzero(bad), "the loss")
                active &= ~bad
            if config.target_kl is not None:
                active &= told[4] <= KL_MARGIN * config.target_kl
            if not active.any():
                break
            self.adam.step(active, rates)
            sums += np.where(active, told, 0.0)
            steps += active
        _, policy, value, entropy, kl, norm = sums / np.maximum(steps, 1)
        return Update(policy, value, entropy, kl, norm, steps)

    def _left(self) -> np.ndarray:
        """Share of the training that each row has still before it after this block."""
        if self.config.total_steps is None:
            return np.ones(len(self.rows))
        done = np.array([row.blocks + 1 for row in self.rows]) * self.config.block
        return np.maximum(0.0, 1.0 - done / self.config.total_steps)

    def _differentiate(self, *tensors: Tensor) -> Tensor:
        """Give Adam the gradients of every row; ``(6, R)`` what came out."""
        batch = Minibatch(**dict(zip(self._present, tensors, strict=True)))
        losses = ppo_loss(self.net, self.config, self.weights, batch)
        weights = list(self.weights.values())
        grads = list(torch.autograd.grad(losses.total.sum(), weights))
        with torch.no_grad():
            norms = self.adam.clip(grads, [self.scratch.marks_of(g) for g in grads])
            return torch.stack([*losses, norms])

    # --- the rows ---

    def select(self, rows: Sequence[int]) -> None:
        """Let only these rows go on, in this order, with all that they have learned.

        To be called after an update, never between it and its block.

        Raises:
            ValueError: for a row that is not there, twice the same, or none.
        """
        if (
            not rows
            or len({*rows}) < len(rows)
            or not {*rows} <= {*range(len(self.rows))}
        ):
            raise ValueError(
                f"rows: expected some of 0 to {len(self.rows) - 1}, each once, got "
                f"{list(rows)}"
            )
        kept = list(rows)
        envs = self.config.envs
        lanes = (np.array(kept)[:, None] * envs + np.arange(envs)).reshape(-1)
        self.rows = [self.rows[r] for r in kept]
        self._own({name: value[kept] for name, value in self.weights.items()})
        self.adam.select(kept, self.weights)
        self.scratch.forget()
        for scale in self.reward_scales:
            normalize.select(scale.state, kept)
        self.log.select(lanes)
        self.acting.select(kept, self.weights)
        for block in (self.rewards, self.bonus):
            if block is not None:
                block.select(kept)

    def replace(self, row: int, seed: int) -> None:
        """Let a fresh agent take the place of a row, which then begins at step 0.

        It learns what it would learn in a population of its own with this seed. To be
        called after an update, never between it and its block.
        """
        if not 0 <= row < len(self.rows):
            raise ValueError(f"row: expected 0 to {len(self.rows) - 1}, got {row}")
        seed = integer("seed", seed, 0, MOST_SEED)
        self.rows[row] = Row(seed, self.born)
        self.born += 1
        with torch.no_grad():
            for name, value in first_weights(self.arch, [seed]).items():
                self.weights[name][row] = value[0].to(self.device)
        self.adam.restart(row)
        scales = [scale.state for scale in self.reward_scales]
        if self.acting.obs_scale is not None:
            scales.append(self.acting.obs_scale.state)
        for state in scales:
            normalize.restart(state, row)
        place = slice(row, row + 1)
        lanes = self.acting.lanes(place)
        seeds, mask = (
            np.zeros(self.env.num_envs, kind) for kind in (np.int64, np.bool_)
        )
        seeds[lanes], mask[lanes] = lane_seeds(seed, self.config.envs), True
        self.log.restart(lanes)
        self.acting.take(self.env.reset(seeds, mask), place)
        for block in (self.rewards, self.bonus):
            if block is not None:
                block.restart(row)

    def policy(self, row: int) -> RowPolicy:
        """What a row would do, for the trusted evaluation; a copy."""
        return row_policy(self, row)

    def steps(self, row: int) -> int:
        """Environment steps that a row has taken."""
        return self.rows[row].blocks * self.config.block

    def curve(self, row: int, steps: int | None = None) -> Curve:
        """Training curve of a row over ``steps``, by default as far as it has come."""
        taken = self.steps(row) if steps is None else steps
        span = self.env.horizon * self.config.envs
        names = self._names[row] if self._names else ()
        return curve(self.log.of(self.rows[row].id), taken, span, names)

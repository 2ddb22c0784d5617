"""A block of T steps of all lanes: what acting fills and learning reads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from guerdon.agents.networks import Architecture
from guerdon.envs.arrays import ArrayEnv, Arrays
from guerdon.types import Batch, Features

TINY = 1e-38
"""Smallest exponential number: its logarithm is still finite."""


class BlockReward(Protocol):
    """Pays all rows for a block at once; it may remember things between blocks."""

    def __call__(self, batch: Batch) -> np.ndarray:
        """The rewards of a block.

        Args:
            batch: NumPy arrays ``(T, R * N, ...)``, lanes row by row: features before
                and after each step, the action that the env was given, its own
                reward, and how episodes ended. It is overwritten in the next block.

        Returns:
            ``(T, R, N)`` float32. A row that gets a number that is not finite fails.
        """
        ...

    def select(self, rows: Sequence[int]) -> None:
        """Only these rows go on, in this order."""
        ...

    def restart(self, row: int) -> None:
        """Every environment of this row has begun a new episode."""
        ...


@runtime_checkable
class Itemised(Protocol):
    """A ``BlockReward`` that can say what its rewards are made of."""

    names: Sequence[Sequence[str]]
    """``(R,)`` the terms of every row."""
    terms: np.ndarray
    """``(T, L, M)`` of the last block; a row with fewer terms has 0 after them."""


class Final(NamedTuple):
    """Successors of steps that a time limit cut, which no next row shows."""

    step: int
    lanes: np.ndarray
    """``(M,)``."""
    obs: Tensor
    """``(M, *shape)`` as the networks see them."""
    state: Tensor | None
    """``(M, memory)`` after the step."""


class Rollout:
    """Preallocated arrays of a block; the env writes to them directly.

    Args:
        env: says how wide they are.
        steps: T.
        arch: says what the policy puts out.
        device: where the networks are.
        scaled: observations are normalised, so that a float32 copy is kept.
        masked: the env says which actions are possible.
    """

    def __init__(
        self,
        env: ArrayEnv,
        steps: int,
        arch: Architecture,
        device: torch.device,
        *,
        scaled: bool,
        masked: bool,
    ) -> None:
        lanes, width = env.num_envs, env.layout.width
        space = env.observation_space
        self.steps, self.lanes, self.layout = steps, lanes, env.layout
        self.obs = np.zeros((steps + 1, lanes, *space.shape), space.dtype)
        self.prev = np.zeros((steps + 1, lanes, width), np.float32)
        self.now = np.zeros((steps, lanes, width), np.float32)
        self.reward = np.zeros((steps, lanes), np.float32)
        self.terminated = np.zeros((steps, lanes), np.bool_)
        self.truncated = np.zeros((steps, lanes), np.bool_)
        self.fitness = np.zeros((steps, lanes), np.float32)
        self.success = np.zeros((steps, lanes), np.bool_)
        self.final_obs = np.zeros((lanes, *space.shape), space.dtype)
        self.sent = np.zeros(
            (steps, lanes, arch.outputs) if arch.continuous else (steps, lanes),
            np.float32 if arch.continuous else np.int64,
        )
        """What the env was given."""
        self.arrays = [self._row(t) for t in range(steps)]
        self.seen = torch.from_numpy(self.obs)
        """What the networks see."""
        self.shared = not scaled and device.type == "cpu"
        if not self.shared:
            kind = torch.float32 if scaled else self.seen.dtype
            self.seen = torch.zeros(self.obs.shape, dtype=kind, device=device)
        self.policy = torch.zeros(steps, lanes, arch.outputs, device=device)
        self.actions = torch.zeros(
            self.sent.shape,
            dtype=torch.float32 if arch.continuous else torch.int64,
            device=device,
        )
        """What the policy chose, before any clipping."""
        self.values = torch.zeros(steps + 1, lanes, arch.heads, device=device)
        self.starts = torch.ones(steps + 1, lanes, dtype=torch.bool, device=device)
        self.masks: Tensor | None = None
        if masked:
            self.masks = torch.ones(
                (steps + 1, *self.policy.shape[1:]), dtype=torch.bool, device=device
            )
        self.finals: list[Final] = []

    def _row(self, t: int) -> Arrays:
        return Arrays(
            self.obs[t + 1],
            self.reward[t],
            self.terminated[t],
            self.truncated[t],
            self.now[t],
            self.prev[t + 1],
            self.final_obs,
            self.fitness[t],
            self.success[t],
        )

    def begin(self) -> None:
        """Let the block start where the last one ended."""
        for values in (self.obs, self.prev):
            values[0] = values[-1]
        for tensor in (self.starts, self.masks):
            if tensor is not None:
                tensor[0] = tensor[-1]
        if not self.shared:
            self.seen[0] = self.seen[-1]
        self.finals = []

    def batch(self, *, with_obs: bool) -> Batch:
        """The block as a reward sees it.

        Args:
            with_obs: also show observations, as the networks see them, and copy the
                true successors; else they are empty.
        """
        obs = next_obs = np.zeros((self.steps, self.lanes, 0), np.float32)
        if with_obs:
            seen = self.seen.cpu().numpy()
            obs, next_obs = seen[:-1], seen[1:].copy()
            for final in self.finals:
                next_obs[final.step, final.lanes] = final.obs.cpu().numpy()
        return Batch(
            obs=obs,
            action=self.sent,
            next_obs=next_obs,
            prev=Features(self.layout, self.prev[:-1]),
            now=Features(self.layout, self.now),
            reward=self.reward,
            terminated=self.terminated,
            truncated=self.truncated,
        )


def stream(seed: int, block: int, purpose: int) -> torch.Generator:
    """The random numbers of one seed in one block for one purpose.

    They depend on nothing else: not on the rows beside it, nor on how many there are,
    so equal seeds meet equal noise, and a training that is taken up again goes on as
    if it had never been put down.
    """
    words = np.random.SeedSequence([seed, block, purpose]).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(words[0]) >> 1)


def action_noise(
    keys: Sequence[tuple[int, int]], shape: tuple[int, int, int], gaussian: bool
) -> Tensor:
    """Noise of a block for every (seed, block number): ``(T, len(keys), N, A)``.

    Args:
        keys: without repetition.
        shape: ``(T, N, A)``.
        gaussian: standard normal for numbers, else Gumbel's for choices, where the
            largest ``logit + noise`` is a draw from the softmax.
    """
    noise = torch.empty(len(keys), *shape)
    for one, (seed, block) in zip(noise, keys, strict=True):
        generator = stream(seed, block, 0)
        if gaussian:
            one.normal_(generator=generator)
        else:
            one.exponential_(generator=generator)
    if not gaussian:
        noise.clamp_(min=TINY).log_().neg_()
    return noise.transpose(0, 1)


def orders(keys: Sequence[tuple[int, int]], epochs: int, count: int) -> Tensor:
    """Permutations of ``count`` for every key and epoch, ``(len(keys), E, count)``."""
    made = torch.empty(len(keys), epochs, count, dtype=torch.int64)
    for one, (seed, block) in zip(made, keys, strict=True):
        generator = stream(seed, block, 1)
        for epoch in range(epochs):
            torch.randperm(count, generator=generator, out=one[epoch])
    return made


def lane_seeds(seed: int, envs: int, block: int = 0) -> np.ndarray:
    """Seeds of a row's environments, ``(N,)`` int64 below 2^31.

    Not ``seed + n``: the rows of seeds 0 and 1 would then live in almost the same
    worlds, and would not be two samples.
    """
    return np.random.default_rng([seed, block, 2]).integers(2**31, size=envs)

"""A block of T steps of all lanes: what acting fills and learning reads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from guerdon.agents.networks import Architecture
from guerdon.envs.arrays import Arrays
from guerdon.envs.tensors import AnyEnv, TensorArrays, TensorEnv
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

    step: np.ndarray
    """``(M,)``."""
    lanes: np.ndarray
    """``(M,)``."""
    obs: Tensor
    """``(M, *shape)`` as the networks see them."""
    state: Tensor | None
    """``(M, memory)`` after the step."""


class Stored(NamedTuple):
    """What an env writes in a block, as tensors where the env has its arrays."""

    obs: Tensor
    """``(T + 1, L, *shape)``; so has ``prev`` a row more than the others."""
    prev: Tensor
    """``(T + 1, L, W)``."""
    now: Tensor
    reward: Tensor
    terminated: Tensor
    truncated: Tensor
    final_obs: Tensor
    """``(T, L, *shape)``; of an env on the host, the same row at every step."""
    fitness: Tensor
    success: Tensor
    sent: Tensor
    """``(T, L)`` or ``(T, L, A)`` what the env was given."""


class Rollout:
    """Preallocated tensors of a block; the env writes to them directly.

    They are where the env's arrays are: one of NumPy's gets views of them, and one of
    tensors gets their rows. Rewards and the episode log read NumPy arrays: the same
    memory, or copies that ``fetch`` brings at the end of a block.

    Args:
        env: says how wide they are.
        steps: T.
        arch: says what the policy puts out.
        device: where the networks are.
        scaled: observations are normalised, so that a float32 copy is kept.
        masked: the env says which actions are possible.

    Raises:
        ValueError: for tensors of an env that are no uint8 images.
    """

    def __init__(
        self,
        env: AnyEnv,
        steps: int,
        arch: Architecture,
        device: torch.device,
        *,
        scaled: bool,
        masked: bool,
    ) -> None:
        lanes = env.num_envs
        self.steps, self.lanes, self.layout = steps, lanes, env.layout
        self.in_tensors = isinstance(env, TensorEnv)
        """Whether the env gives tensors; no step then waits for what is in them."""
        home = env.device if isinstance(env, TensorEnv) else torch.device("cpu")
        self.actions = torch.zeros(
            (steps, lanes, arch.outputs) if arch.continuous else (steps, lanes),
            dtype=torch.float32 if arch.continuous else torch.int64,
            device=device,
        )
        """What the policy chose, before any clipping."""
        # Numbers may be clipped, and whoever is given an array might write to it.
        self.direct = self.in_tensors and not arch.continuous
        """Whether the env is given ``actions`` themselves."""
        self.stored = self._made(env, home)
        self.arrays = [self._row(t) for t in range(steps)]
        self._for_networks(arch, device, scaled)
        self.masks: Tensor | None = None
        if masked:
            self.masks = torch.ones(
                (steps + 1, *self.policy.shape[1:]), dtype=torch.bool, device=device
            )
        self.carried = {
            "obs": self.stored.obs,
            "prev": self.stored.prev,
            "starts": self.starts,
            "seen": self.seen,
        }
        """Whose last row is the first one of the next block."""
        if self.masks is not None:
            self.carried["masks"] = self.masks
        self.finals: list[Final] = []
        self._for_host()

    def _for_networks(
        self, arch: Architecture, device: torch.device, scaled: bool
    ) -> None:
        """Make what the networks see and say."""
        steps, lanes = self.steps, self.lanes
        self.seen = self.stored.obs
        """What the networks see."""
        self.shared = not scaled and self.stored.obs.device == device
        if not self.shared:
            kind = torch.float32 if scaled else self.seen.dtype
            self.seen = torch.zeros(self.seen.shape, dtype=kind, device=device)
        self.final_seen = self.stored.final_obs
        """``(T, L, *shape)`` the same of ``final_obs``, where the env gives tensors."""
        self.final_state: Tensor | None = None
        """``(T, L, memory)`` after every step, where the env gives tensors."""
        if self.in_tensors and scaled:
            self.final_seen = torch.zeros_like(self.seen[1:])
        if self.in_tensors and arch.memory:
            self.final_state = torch.zeros(steps, lanes, arch.memory, device=device)
        self.policy = torch.zeros(steps, lanes, arch.outputs, device=device)
        self.values = torch.zeros(steps + 1, lanes, arch.heads, device=device)
        self.starts = torch.ones(steps + 1, lanes, dtype=torch.bool, device=device)

    def _for_host(self) -> None:
        """Make what rewards and the episode log read."""
        self._copies: list[tuple[Tensor, Tensor]] = []
        self.prev, self.now = self._shown("prev"), self._shown("now")
        self.reward, self.sent = self._shown("reward"), self._shown("sent")
        self.terminated = self._shown("terminated")
        self.truncated = self._shown("truncated")
        self.fitness, self.success = self._shown("fitness"), self._shown("success")

    def _made(self, env: AnyEnv, home: torch.device) -> Stored:
        space, lead = env.observation_space, (self.steps, self.lanes)
        kind = torch.from_numpy(np.zeros(0, space.dtype)).dtype
        if self.in_tensors and kind != torch.uint8:
            raise ValueError(
                "population: expected uint8 observations of an env whose arrays are "
                f"tensors, got {kind}"
            )

        def zeros(*shape: int, kind: torch.dtype = torch.float32) -> Tensor:
            return torch.zeros(shape, dtype=kind, device=home)

        # Steps on the host look at successors at once; elsewhere all of them are kept.
        rows = self.steps if self.in_tensors else 1
        final_obs = zeros(rows, self.lanes, *space.shape, kind=kind)
        sent = self.actions
        if not self.direct:
            sent = zeros(*sent.shape, kind=sent.dtype)
        width = env.layout.width
        return Stored(
            obs=zeros(self.steps + 1, self.lanes, *space.shape, kind=kind),
            prev=zeros(self.steps + 1, self.lanes, width),
            now=zeros(*lead, width),
            reward=zeros(*lead),
            terminated=zeros(*lead, kind=torch.bool),
            truncated=zeros(*lead, kind=torch.bool),
            final_obs=final_obs.expand(self.steps, *final_obs.shape[1:]),
            fitness=zeros(*lead),
            success=zeros(*lead, kind=torch.bool),
            sent=sent,
        )

    def _row(self, t: int) -> Arrays | TensorArrays:
        """What a step writes to."""
        own = self.stored
        row = TensorArrays(
            own.obs[t + 1],
            own.reward[t],
            own.terminated[t],
            own.truncated[t],
            own.now[t],
            own.prev[t + 1],
            own.final_obs[t],
            own.fitness[t],
            own.success[t],
        )
        return row if self.in_tensors else Arrays(*(part.numpy() for part in row))

    def _shown(self, name: str) -> np.ndarray:
        """The array that the host reads."""
        own: Tensor = getattr(self.stored, name)
        if not self.in_tensors:
            return own.numpy()
        copy = torch.zeros(own.shape, dtype=own.dtype, pin_memory=own.is_cuda)
        self._copies.append((copy, own))
        return copy.numpy()

    def begin(self) -> None:
        """Let the block start where the last one ended."""
        for tensor in self.carried.values():
            tensor[0] = tensor[-1]
        self.finals = []

    def fetch(self) -> None:
        """Bring what the host reads of the block, each in one copy."""
        for copy, own in self._copies:
            copy.copy_(own)

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

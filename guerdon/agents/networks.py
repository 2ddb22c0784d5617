"""Networks of many agents at once: every weight has a leading axis of rows.

A layer of R agents is one product ``(R, B, in) @ (R, in, out)``. What a row computes
depends on its own weights only, so R agents learn side by side as if each were alone;
the gain is that small products and their launches are shared.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor, nn

from guerdon.agents.coding import MAX_CODE, coding_of, one_hot
from guerdon.agents.layers import (
    Activation,
    Scratch,
    code_layer,
    dense_layer,
    product,
)
from guerdon.types import ActionSpec

Encoder = Literal["one_hot", "vector", "cnn"]
Weights = dict[str, Tensor]
"""By name, each ``(R, ...)``."""

ROOT_TWO = math.sqrt(2.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Architecture:
    """What a network of one agent looks like.

    Args:
        encoder: ``"one_hot"`` for a grid of small codes (uint8), ``"vector"`` for
            numbers, ``"cnn"`` for an image ``(height, width, channels)``.
        shape: shape of one observation.
        high: largest value of every number of a uint8 observation, flattened.
        outputs: number of choices, or of action dimensions.
        continuous: a Gaussian with its own log standard deviation, not choices.
        hidden: widths of the layers, of the actor and of the critic.
        activation: between them.
        shared: one trunk for both instead of two networks.
        conv: ``(channels, kernel, stride)`` of the convolutions, shared by both.
        memory: width of a GRU behind the first layer; 0 for none. Needs ``shared``.
        heads: values that the critic tells.
        orthogonal: SB3's first weights; else torch's for linear layers.
        log_std: first log standard deviation.

    Raises:
        ValueError: for an observation that the encoder cannot read, or a memory
            without a shared trunk.
    """

    encoder: Encoder
    shape: tuple[int, ...]
    outputs: int
    high: tuple[int, ...] = ()
    continuous: bool = False
    hidden: tuple[int, ...] = (64, 64)
    activation: Activation = "tanh"
    shared: bool = False
    conv: tuple[tuple[int, int, int], ...] = ((16, 2, 1), (32, 2, 1), (64, 2, 1))
    memory: int = 0
    heads: int = 1
    orthogonal: bool = True
    log_std: float = 0.0

    def __post_init__(self) -> None:
        if self.activation not in get_args(Activation):
            raise ValueError(
                f"activation: expected 'tanh' or 'relu', got {self.activation!r}"
            )
        if not self.hidden or min(self.hidden) < 1:
            raise ValueError(f"hidden: expected widths above 0, got {self.hidden}")
        if self.memory and not self.shared:
            raise ValueError("memory: a recurrent core needs shared=True")
        if self.encoder == "one_hot" and (
            len(self.high) != math.prod(self.shape) or max(self.high) > MAX_CODE
        ):
            raise ValueError(
                "one-hot encoder: expected a uint8 observation with codes from 0 to "
                f"at most {MAX_CODE}, got shape {self.shape}; use 'vector' or 'cnn'"
            )
        if self.encoder == "cnn" and len(self.shape) != 3:
            raise ValueError(
                "cnn encoder: expected an observation (height, width, channels), got "
                f"shape {self.shape}"
            )

    @classmethod
    def of(
        cls, space: spaces.Box, action: ActionSpec, encoder: Encoder, **options: Any
    ) -> Architecture:
        """The network for an observation space and an action."""
        high: tuple[int, ...] = ()
        if space.dtype == np.uint8:
            high = tuple(int(most) for most in space.high.reshape(-1))
        return cls(
            encoder=encoder,
            shape=tuple(space.shape),
            high=high,
            outputs=action.size,
            continuous=action.kind == "continuous",
            **options,
        )

    @property
    def first(self) -> int:
        """Width of the first layer, in which actor and critic lie side by side."""
        return self.hidden[0] if self.shared else 2 * self.hidden[0]

    @property
    def inputs(self) -> int:
        """Numbers that the first layer reads."""
        if self.encoder == "one_hot":
            return sum(self.high) + len(self.high)
        if self.encoder == "vector":
            return math.prod(self.shape)
        height, width, channels = self.shape
        for outputs, kernel, stride in self.conv:
            height = (height - kernel) // stride + 1
            width = (width - kernel) // stride + 1
            channels = outputs
        if min(height, width) < 1:
            raise ValueError(f"conv: {self.conv} is too much for shape {self.shape}")
        return height * width * channels

    @property
    def towers(self) -> tuple[str, ...]:
        """Names of the stacks of layers behind the first one."""
        return ("trunk",) if self.shared else ("actor", "critic")


class Output(NamedTuple):
    """What the networks say about a batch."""

    policy: Tensor
    """``(R, B, A)`` logits of the choices, or means of the numbers."""
    values: Tensor
    """``(R, B, V)``."""
    state: Tensor | None
    """``(R, S, M)`` what the recurrent core remembers after the last step."""


def first_weights(arch: Architecture, seeds: Sequence[int]) -> Weights:
    """Weights of one row per seed; equal seeds give equal rows.

    Orthogonal with gain sqrt(2), 0.01 for the action and 1 for the value, biases 0,
    as SB3 starts its actor-critic networks; else as torch starts linear layers, biases
    too, which SB3 then leaves as they are.

    Returns:
        Leaves that require gradients.
    """
    made = {seed: _one_row(arch, seed) for seed in dict.fromkeys(seeds)}
    names = made[seeds[0]]
    return {
        name: torch.stack([made[seed][name] for seed in seeds]).requires_grad_()
        for name in names
    }


def _one_row(arch: Architecture, seed: int) -> Weights:
    generator = torch.Generator().manual_seed(seed)
    weights: Weights = {}

    def layer(
        name: str, inputs: int, outputs: int, gain: float, parts: int = 1
    ) -> None:
        blocks = [
            _layer(arch, inputs, outputs // parts, gain, generator)
            for _ in range(parts)
        ]
        weights[f"{name}.weight"] = torch.cat([weight for weight, _ in blocks], 1)
        weights[f"{name}.bias"] = torch.cat([bias for _, bias in blocks])[None]

    if arch.encoder == "cnn":
        channels = arch.shape[-1]
        for i, (outputs, kernel, _) in enumerate(arch.conv):
            layer(f"conv{i}", kernel * kernel * channels, outputs, ROOT_TWO)
            channels = outputs
    layer("first", arch.inputs, arch.first, ROOT_TWO, len(arch.towers))
    width = arch.hidden[0]
    if arch.memory:
        layer("memory.input", width, 3 * arch.memory, 1.0, 3)
        layer("memory.hidden", arch.memory, 3 * arch.memory, 1.0, 3)
        width = arch.memory
    for tower in arch.towers:
        inputs = width
        for i, outputs in enumerate(arch.hidden[1:], 1):
            layer(f"{tower}{i}", inputs, outputs, ROOT_TWO)
            inputs = outputs
    width = arch.hidden[-1] if len(arch.hidden) > 1 else width
    layer("action", width, arch.outputs, 0.01)
    layer("value", width, arch.heads, 1.0, arch.heads)
    if arch.continuous:
        weights["log_std"] = torch.full((1, arch.outputs), arch.log_std)
    return weights


def _layer(
    arch: Architecture,
    inputs: int,
    outputs: int,
    gain: float,
    generator: torch.Generator,
) -> tuple[Tensor, Tensor]:
    """Weight ``(in, out)`` and bias ``(out,)`` of one layer."""
    weight, bias = torch.empty(outputs, inputs), torch.zeros(outputs)
    if arch.orthogonal:
        nn.init.orthogonal_(weight, gain, generator=generator)
    else:
        nn.init.kaiming_uniform_(weight, math.sqrt(5.0), generator=generator)
        bound = 1.0 / math.sqrt(inputs)
        bias.uniform_(-bound, bound, generator=generator)
    return weight.t().contiguous(), bias


def forward(
    arch: Architecture,
    weights: Weights,
    obs: Tensor,
    state: Tensor | None = None,
    starts: Tensor | None = None,
    *,
    loops: bool = True,
    scratch: Scratch | None = None,
) -> Output:
    """Policy and values of every row.

    Args:
        arch: what the networks look like.
        weights: of R rows.
        obs: ``(R, B, *shape)``; codes stay uint8. With a memory, B = T * S counts
            the S sequences of T steps, step after step.
        state: ``(R, S, M)`` memory before the first step.
        starts: ``(R, B)`` bool, where an episode begins and the memory is empty.
        loops: allow compiled loops, which are faster on a CPU; else all is torch's, as
            a GPU and ``torch.compile`` need it.
        scratch: keeps the memory of the codes' layer and its gradient, which the next
            call then overwrites: derive before it.
    """
    parts, state = _read(arch, weights, obs, state, starts, loops, scratch)
    told = [
        _tower(arch, weights, tower, x, loops)
        for tower, x in zip(arch.towers, parts, strict=True)
    ]
    policy = _linear(weights, "action", told[0])
    return Output(policy, _linear(weights, "value", told[-1]), state)


def act(
    arch: Architecture,
    weights: Weights,
    obs: Tensor,
    state: Tensor | None = None,
    starts: Tensor | None = None,
    scratch: Scratch | None = None,
) -> tuple[Tensor, Tensor | None]:
    """Policy and memory as ``forward`` gives them, without the critic behind them.

    The first layer is computed whole: half of a product may have other last bits.
    """
    parts, state = _read(arch, weights, obs, state, starts, scratch=scratch)
    actor = _tower(arch, weights, arch.towers[0], parts[0])
    return _linear(weights, "action", actor), state


def _read(
    arch: Architecture,
    weights: Weights,
    obs: Tensor,
    state: Tensor | None,
    starts: Tensor | None,
    loops: bool = True,
    scratch: Scratch | None = None,
) -> tuple[tuple[Tensor, ...], Tensor | None]:
    """What each tower begins with: the first layer's part, or the memory."""
    parts = _first(arch, weights, obs, loops, scratch)
    if not arch.memory:
        return parts, state
    if state is None or starts is None:
        raise ValueError("a network with a memory needs its state and the starts")
    x, state = _remember(weights, parts[0], state, starts)
    return (x,), state


def _linear(weights: Weights, name: str, x: Tensor) -> Tensor:
    return product(x, weights[f"{name}.weight"], weights[f"{name}.bias"])


def _tower(
    arch: Architecture, weights: Weights, tower: str, x: Tensor, loops: bool = True
) -> Tensor:
    for i in range(1, len(arch.hidden)):
        weight, bias = weights[f"{tower}{i}.weight"], weights[f"{tower}{i}.bias"]
        x = dense_layer(x, weight, bias, arch.activation, loops=loops)
    return x


def _first(
    arch: Architecture,
    weights: Weights,
    obs: Tensor,
    loops: bool,
    scratch: Scratch | None,
) -> tuple[Tensor, ...]:
    """The first layer, for each tower ``(R, B, hidden)``."""
    weight, bias = weights["first.weight"], weights["first.bias"]
    parts = len(arch.towers)
    if arch.encoder == "one_hot":
        codes = obs.flatten(2)
        coding = coding_of(arch.high, arch.shape)
        if loops:
            return code_layer(
                codes, weight, bias, coding, arch.activation, parts, scratch
            )
        x = one_hot(codes, weight, coding)
    elif arch.encoder == "cnn":
        x = _convolve(arch, weights, obs)
    else:
        x = obs.flatten(2).float()
    out = dense_layer(x, weight, bias, arch.activation, loops=loops)
    return out.chunk(parts, -1)


def _convolve(arch: Architecture, weights: Weights, obs: Tensor) -> Tensor:
    """``(R, B, height, width, channels)`` to the same with the last layer's sizes.

    Patches side by side make a convolution one product for all rows; grouped
    convolutions of small images are slower.
    """
    rows = len(obs)
    x = obs.float()
    if arch.high:
        x = x * _scale(arch.high, arch.shape, obs.device)
    x = x.flatten(0, 1)
    for i, (_, kernel, stride) in enumerate(arch.conv):
        patches = x.unfold(1, kernel, stride).unfold(2, kernel, stride)
        count, height, width = patches.shape[:3]
        flat = patches.reshape(rows, count // rows * height * width, -1)
        x = torch.relu(_linear(weights, f"conv{i}", flat))
        x = x.view(count, height, width, -1)
    return x.reshape(rows, len(x) // rows, -1)


def _remember(
    weights: Weights, x: Tensor, state: Tensor, starts: Tensor
) -> tuple[Tensor, Tensor]:
    """A GRU over ``(R, T * S, in)``; empty where an episode starts.

    Reference: Cho et al., "Learning Phrase Representations using RNN
    Encoder-Decoder" (EMNLP 2014), with the reset gate behind the product, as torch's.
    """
    rows, sequences, width = state.shape
    steps = x.shape[1] // sequences
    given = _linear(weights, "memory.input", x).view(rows, steps, sequences, -1)
    keep = (~starts).view(rows, steps, sequences, 1).to(given.dtype)
    outputs = []
    for t in range(steps):
        state = state * keep[:, t]
        own = _linear(weights, "memory.hidden", state)
        here = given[:, t]
        gates = torch.sigmoid(here[..., : 2 * width] + own[..., : 2 * width])
        reset, update = gates.chunk(2, -1)
        new = torch.tanh(here[..., 2 * width :] + reset * own[..., 2 * width :])
        state = torch.lerp(new, state, update)
        outputs.append(state)
    return torch.cat(outputs, 1), state


@cache
def _scale(
    high: tuple[int, ...], shape: tuple[int, ...], device: torch.device
) -> Tensor:
    """Factor of every number of an image that brings it to 0 to 1."""
    with torch.inference_mode(False):
        most = torch.tensor(high, dtype=torch.float32, device=device)
        return most.clamp(min=1.0).reciprocal().view(shape)

"""The mathematics of PPO on rows: advantages and the clipped loss.

Every function works on tensors with an axis of rows or lanes and mixes nothing across
it.
"""

from __future__ import annotations

import math
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from guerdon.agents.layers import Scratch
from guerdon.agents.networks import Architecture, Output, Weights, forward
from guerdon.agents.ppo_config import PPOConfig

HALF_LOG_TAU = 0.5 * math.log(2.0 * math.pi)

IMPOSSIBLE = -1e30
"""Logit of a choice that a mask forbids: its probability is exactly 0."""


class Minibatch(NamedTuple):
    """What a gradient is computed from; B transitions of each of R rows."""

    obs: Tensor
    """``(R, B, *shape)``."""
    actions: Tensor
    """``(R, B)`` int64 or ``(R, B, A)``."""
    log_prob: Tensor
    """``(R, B)`` of the actions when they were taken."""
    advantages: Tensor
    """``(R, B)``."""
    returns: Tensor
    """``(R, B, V)``."""
    values: Tensor
    """``(R, B, V)`` when the actions were taken."""
    clip: Tensor
    """``(R, 1)`` clip range."""
    mask: Tensor | None = None
    """``(R, B, A)`` bool, which choices were possible."""
    state: Tensor | None = None
    """``(R, S, M)`` memory at the beginning of the S sequences."""
    starts: Tensor | None = None
    """``(R, B)`` bool, where episodes begin."""


class Losses(NamedTuple):
    """Parts of the loss, each ``(R,)``."""

    total: Tensor
    policy: Tensor
    value: Tensor
    entropy: Tensor
    kl: Tensor
    """How far the policy has moved since the block: mean of ``r - 1 - log r``."""


class Network(Protocol):
    """Weights and observations to policies and values; see ``networks.forward``."""

    def __call__(
        self, weights: Weights, obs: Tensor, state: Tensor | None, starts: Tensor | None
    ) -> Output:
        """Policies and values of every row."""
        ...


def network(arch: Architecture, config: PPOConfig, scratch: Scratch) -> Network:
    """``forward`` of an architecture with the switches of a configuration."""
    kind = torch.device(config.device).type
    loops = kind == "cpu" and not config.compile

    def apply(
        weights: Weights, obs: Tensor, state: Tensor | None, starts: Tensor | None
    ) -> Output:
        with torch.autocast(kind, torch.bfloat16, enabled=config.bf16):
            out = forward(
                arch, weights, obs, state, starts, loops=loops, scratch=scratch
            )
        if not config.bf16:
            return out
        after = None if out.state is None else out.state.float()
        return Output(out.policy.float(), out.values.float(), after)

    return apply


def log_prob_and_entropy(
    policy: Tensor, actions: Tensor, log_std: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Log-probability of actions, and entropy, both ``(R, B)``.

    Args:
        policy: ``(R, B, A)`` logits or means.
        actions: ``(R, B)`` choices or ``(R, B, A)`` numbers.
        log_std: ``(R, 1, A)`` for numbers, None for choices.
    """
    if log_std is None:
        log_probs = torch.log_softmax(policy, -1)
        chosen = log_probs.gather(-1, actions.unsqueeze(-1)).squeeze(-1)
        return chosen, -(log_probs.exp() * log_probs).sum(-1)
    scaled = (actions - policy) * (-log_std).exp()
    log_prob = -(0.5 * scaled.square() + log_std + HALF_LOG_TAU).sum(-1)
    entropy = (log_std + HALF_LOG_TAU + 0.5).sum(-1)
    return log_prob, entropy.expand_as(log_prob)


def ppo_loss(
    net: Network, config: PPOConfig, weights: Weights, batch: Minibatch
) -> Losses:
    """The clipped loss of every row.

    ``-min(r A, clip(r, 1 - c, 1 + c) A) + vf_coef (V - R)^2 - ent_coef H``, means over
    the minibatch; the value losses of both heads are added.
    """
    out = net(weights, batch.obs, batch.state, batch.starts)
    policy = out.policy
    if batch.mask is not None:
        policy = policy.masked_fill(~batch.mask, IMPOSSIBLE)
    log_prob, entropy = log_prob_and_entropy(
        policy, batch.actions, weights.get("log_std")
    )
    log_ratio = log_prob - batch.log_prob
    ratio = log_ratio.exp()
    clipped = ratio.clamp(1.0 - batch.clip, 1.0 + batch.clip)
    gain = torch.minimum(batch.advantages * ratio, batch.advantages * clipped)
    values = out.values
    if config.value_clip is not None:
        moved = (values - batch.values).clamp(-config.value_clip, config.value_clip)
        values = batch.values + moved
    policy_loss = -gain.mean(1)
    value_loss = (values - batch.returns).square().mean(1).sum(-1)
    entropy = entropy.mean(1)
    total = policy_loss + config.vf_coef * value_loss - config.ent_coef * entropy
    with torch.no_grad():
        kl = (ratio - 1.0 - log_ratio).mean(1)
    return Losses(total, policy_loss, value_loss, entropy, kl)


def successors(
    values: Tensor, finals: Tensor, terminated: Tensor, truncated: Tensor
) -> Tensor:
    """Values of the true successors, ``(T, L)``.

    Zero where the task has ended, the value of the last state where only the recording
    has, else that of the next row. A step that does both has ended the task.

    Args:
        values: ``(T + 1, L)``.
        finals: ``(T, L)`` values of the true successors, valid where truncated.
        terminated: ``(T, L)`` bool.
        truncated: ``(T, L)`` bool.
    """
    following = torch.where(truncated, finals, values[1:])
    return following.masked_fill(terminated, 0.0)


def advantages(
    rewards: Tensor,
    values: Tensor,
    following: Tensor,
    ended: Tensor,
    decay: float,
    discount: float,
) -> Tensor:
    """Generalised advantages, ``(T, L)``.

    ``A_t = delta_t + discount * decay * (1 - ended_t) * A_tp1`` with
    ``delta_t = r_t + discount * v_tp1 - v_t``.

    Args:
        rewards: ``(T, L)``.
        values: ``(T, L)`` of the states before the steps.
        following: ``(T, L)`` of their true successors.
        ended: ``(T, L)`` bool, where the next row begins another episode.
        decay: lambda.
        discount: gamma.
    """
    delta = rewards + discount * following - values
    carry = (~ended).to(delta.dtype) * (discount * decay)
    result = torch.empty_like(delta)
    last = torch.zeros_like(delta[0])
    steps = zip(delta.unbind(), carry.unbind(), result.unbind(), strict=True)
    for here, kept, into in reversed(list(steps)):
        last = torch.addcmul(here, kept, last, out=into)
    return result


def standardised(advantage: Tensor) -> Tensor:
    """``(..., B)`` advantages with mean 0 and deviation 1 over the minibatch."""
    if advantage.shape[-1] < 2:
        return advantage
    std, mean = torch.std_mean(advantage, -1, keepdim=True)
    return (advantage - mean) / (std + 1e-8)

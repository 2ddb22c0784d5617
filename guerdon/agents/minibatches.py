"""How a block is cut into minibatches, every row in its own order."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from guerdon.agents.acting import Acting
from guerdon.agents.losses import Minibatch, standardised
from guerdon.agents.rollout import orders


def minibatches(
    acting: Acting,
    targets: tuple[Tensor, Tensor, Tensor],
    clips: Tensor,
    keys: Sequence[tuple[int, int]],
    which: Sequence[int],
) -> Iterator[Minibatch]:
    """All minibatches of all epochs.

    Args:
        acting: has the rollout.
        targets: log-probabilities and advantages, ``(T * L,)``, and returns
            ``(T * L, V)``.
        clips: ``(R, 1)`` clip ranges.
        keys: the distinct (seed, block number) of the rows.
        which: ``(R,)`` the key of each row.
    """
    roll, before = acting.rollout, acting.before
    log_prob, total, returns = targets
    columns = [log_prob[:, None], total[:, None], returns]
    packed = torch.cat([*columns, roll.values[:-1].flatten(0, 1)], -1)
    heads = returns.shape[-1]
    obs, actions = roll.seen[:-1].flatten(0, 1), roll.actions.flatten(0, 1)
    masks = None if roll.masks is None else roll.masks[:-1].flatten(0, 1)
    starts = roll.starts[:-1].flatten()
    for index, lanes in _indices(acting, keys, which):
        numbers, chosen = packed[index], actions[index]
        gains = numbers[..., 1]
        if acting.config.normalize_advantage:
            gains = standardised(gains)
        for i, here in enumerate(index):
            yield Minibatch(
                obs=_rows_of(obs, here),
                actions=chosen[i],
                log_prob=numbers[i, ..., 0],
                advantages=gains[i],
                returns=numbers[i, ..., 2 : 2 + heads],
                values=numbers[i, ..., 2 + heads :],
                clip=clips,
                mask=None if masks is None else _rows_of(masks, here),
                state=None if before is None else before.flatten(0, 1)[lanes[i]],
                starts=None if before is None else _rows_of(starts, here),
            )


def _indices(
    acting: Acting, keys: Sequence[tuple[int, int]], which: Sequence[int]
) -> Iterator[tuple[Tensor, Tensor]]:
    """Of every epoch: transitions ``(M, R, B)`` of the flat block, and their lanes.

    With a memory, lanes are those of the whole sequences, ``(M, R, S)``.
    """
    config, device = acting.config, acting.device
    envs, lanes_in_all = config.envs, acting.rollout.lanes
    whole = config.memory > 0
    made = orders(keys, config.epochs, envs if whole else config.block)
    made = made[list(which)].to(device)
    first = torch.arange(acting.count, device=device)[:, None, None] * envs
    parts = config.block // config.minibatch
    for order in made.unbind(1):
        each = order.view(acting.count, parts, -1)
        lanes = (each % envs + first).transpose(0, 1)
        if whole:
            steps = torch.arange(config.steps, device=device)[:, None]
            yield (lanes[:, :, None] + steps * lanes_in_all).flatten(2), lanes
        else:
            yield (each // envs).transpose(0, 1) * lanes_in_all + lanes, lanes


def _rows_of(flat: Tensor, index: Tensor) -> Tensor:
    """``flat[index]``, which ``index_select`` does faster."""
    chosen = flat.index_select(0, index.reshape(-1))
    return chosen.view(*index.shape, *flat.shape[1:])

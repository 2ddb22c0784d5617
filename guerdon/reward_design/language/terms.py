"""A program of the language as ``Terms``: the bridge to reward programs."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from typing import Any, Literal, NamedTuple

import numpy as np

from guerdon.reward_design import borders
from guerdon.reward_design.language.codegen import Compiled, compile_tree
from guerdon.reward_design.language.parse import parse
from guerdon.reward_design.language.tree import Tree, to_source
from guerdon.reward_design.program import State, Terms
from guerdon.types import ActionSpec, Array, Batch, Features, Layout, Spec

Backend = Literal["numpy", "numba"]


class RegisterState(NamedTuple):
    """What the registers of a program remember between batches."""

    ended: Array
    """``lead`` bool: the next row begins an episode."""
    values: tuple[Array, ...]
    """One ``(N,)`` float64 per register."""


def terms(
    program: str | Tree,
    layout: Layout,
    action: ActionSpec,
    *,
    backend: Backend = "numpy",
) -> Terms:
    """Reward terms from a program of the language.

    Args:
        program: text, or a tree that ``parse`` or an operator gave.
        layout: the features of the task.
        action: the actions of the task.
        backend: ``"numpy"`` starts at once; ``"numba"`` compiles for about a second
            and is faster for small vectors. Torch batches always run in torch.

    Returns:
        Terms with batches of shape ``()``, ``(N,)`` or ``(T, N)``, float64 and not
        yet clamped (``program`` does both); rows with a feature that is not finite
        give NaN.

    Raises:
        Rejected: when the text is no program.
        ValueError: for an unknown backend.
    """
    if backend not in ("numpy", "numba"):
        raise ValueError(f"backend: expected 'numpy' or 'numba', got {backend!r}")
    tree = parse(program, layout, action) if isinstance(program, str) else program
    source = program if isinstance(program, str) else to_source(tree)
    return compiled_terms(compile_tree(tree), source, backend)


def compiled_terms(compiled: Compiled, source: str, backend: Backend) -> Terms:
    """``Terms`` of compiled code; see ``terms``."""
    weights = tuple(value for _, value in compiled.tree.params)
    count = len(compiled.line.registers)

    def init(spec: Spec) -> State:
        if not count:
            return None
        zeros = np.zeros(spec.lead or (1,))
        return RegisterState(borders.first(spec.lead), (zeros,) * count)

    def apply(state: State, batch: Batch) -> tuple[Array, State]:
        rows = batch.now.rows
        if 0 in rows.shape[:-1]:  # no transition, nothing to remember
            return _nothing(rows, compiled.width), state
        if borders.namespace(batch.now.rows) is not np:
            out, new = _apply_torch(compiled, weights, state, batch)
        else:
            run = _apply_numba if backend == "numba" else _apply_numpy
            out, new = _checked(run, compiled, weights, state, batch)
        if state is None or batch.mask is None:
            return out, new
        return _masked(apply, state, batch, out, new)

    return Terms(compiled.tree.names, init, apply, source)


def _action_columns(compiled: Compiled, action: Array) -> Array:
    """``(*L, A)``; a discrete action is one column."""
    return action[..., None] if compiled.tree.action.kind == "discrete" else action


_Run = Callable[
    [Compiled, tuple[float, ...], Any, Batch], tuple[Array, "RegisterState | None"]
]


def _nothing(rows: Array, width: int) -> Array:
    """Terms of an empty batch."""
    xp = borders.namespace(rows)
    return xp.zeros((*rows.shape[:-1], width), dtype=xp.float64)


def _checked(
    run: _Run, compiled: Compiled, weights: tuple[float, ...], state: Any, batch: Batch
) -> tuple[Array, State]:
    """Run, and make rows with a feature that is not finite NaN."""
    now, prev = batch.now.rows, batch.prev.rows
    # Two products find a bad row cheaply (an overflow only looks again, in vain).
    if math.isfinite(np.vdot(now, now)) and math.isfinite(np.vdot(prev, prev)):
        return run(compiled, weights, state, batch)
    with np.errstate(all="ignore"):
        out, new = run(compiled, weights, state, batch)
        fine = np.isfinite(now).all(-1) & np.isfinite(prev).all(-1)
        out[~fine] = np.nan
    return out, new


def _masked(
    apply: Callable[[State, Batch], tuple[Array, State]],
    state: RegisterState,
    batch: Batch,
    out: Array,
    new: RegisterState,
) -> tuple[Array, RegisterState]:
    """Let rows that are not real leave the registers as they are."""
    mask = borders.as_bool(batch.mask)
    if bool(mask.all()):
        return out, new
    if out.ndim - 1 > len(state.ended.shape):  # a block with such rows, step by step
        rows = []
        for t in range(out.shape[0]):
            values, state = apply(state, _row(batch, t))
            rows.append(values)
        stack = borders.namespace(out).stack
        return stack(rows), state
    where = borders.namespace(out).where
    real = mask.reshape(state.values[0].shape)
    kept = [where(real, a, b) for a, b in zip(new.values, state.values, strict=True)]
    return out, RegisterState(new.ended, tuple(kept))


def _row(batch: Batch, t: int) -> Batch:
    """Step ``t`` of a block, as far as terms look at it."""
    return batch._replace(
        action=batch.action[t],
        prev=Features(batch.prev.layout, batch.prev.rows[t]),
        now=Features(batch.now.layout, batch.now.rows[t]),
        reward=batch.reward[t],
        terminated=batch.terminated[t],
        truncated=batch.truncated[t],
        mask=batch.mask[t] if batch.mask is not None else None,
    )


def _apply_numpy(
    compiled: Compiled, weights: tuple[float, ...], state: Any, batch: Batch
) -> tuple[Array, State]:
    prev, now = batch.prev.rows, batch.now.rows
    action = _action_columns(compiled, np.asarray(batch.action))
    out = np.empty((*now.shape[:-1], compiled.width))
    if state is None:
        compiled.block(prev, action, now, None, weights, None, out)
        return out, None
    starts, ended = borders.starts(state.ended, batch)
    shape = _block_shape(state, now.shape[:-1])
    values = compiled.block(
        prev.reshape(*shape, -1),
        action.reshape(*shape, -1),
        now.reshape(*shape, -1),
        np.asarray(starts).reshape(shape),
        weights,
        state.values,
        out.reshape(*shape, -1),
    )
    return out, RegisterState(ended, values)


def _block_shape(state: RegisterState, lead: tuple[int, ...]) -> tuple[int, int]:
    """``(T, N)`` of a batch, whatever its leading axes."""
    environments = state.values[0].shape[0]
    return (math.prod(lead) // environments, environments)


def _apply_numba(
    compiled: Compiled, weights: tuple[float, ...], state: Any, batch: Batch
) -> tuple[Array, State]:
    prev, now = batch.prev.rows, batch.now.rows
    lead = now.shape[:-1]
    action = np.asarray(_action_columns(compiled, np.asarray(batch.action)), np.float64)
    out = np.empty((*lead, compiled.width))
    if state is None:
        shape, ended = (1, math.prod(lead)), None
        starts, memory = _NO_STARTS, _NO_MEMORY
    else:
        shape = _block_shape(state, lead)
        starts, ended = borders.starts(state.ended, batch)
        starts = np.asarray(starts).reshape(shape)
        memory = np.stack(state.values, axis=-1)
    compiled.kernel(
        prev.reshape(*shape, -1),
        action.reshape(*shape, -1),
        now.reshape(*shape, -1),
        starts,
        _as_array(weights),
        memory,
        out.reshape(*shape, -1),
    )
    if state is None:
        return out, None
    return out, RegisterState(ended, tuple(memory.T))


@lru_cache(maxsize=256)
def _as_array(weights: tuple[float, ...]) -> Array:
    return np.array(weights, np.float64)


_NO_STARTS = np.zeros((1, 1), np.bool_)
_NO_MEMORY = np.zeros((0, 0), np.float64)


def _apply_torch(
    compiled: Compiled, weights: tuple[float, ...], state: Any, batch: Batch
) -> tuple[Array, State]:
    import torch

    prev, now = batch.prev.rows, batch.now.rows
    action = _action_columns(compiled, batch.action)
    w = torch.as_tensor(weights, dtype=torch.float64, device=now.device)
    out, state = torch_columns(compiled, w, state, batch._replace(action=action))
    fine = torch.isfinite(now).all(-1, keepdim=True)
    fine &= torch.isfinite(prev).all(-1, keepdim=True)
    return torch.where(fine, out, torch.nan), state


def torch_columns(
    compiled: Compiled, w: Array, state: Any, batch: Batch
) -> tuple[Array, State]:
    """Terms ``(*L, m)`` float64 in torch, differentiable with respect to ``w``.

    Args:
        compiled: the program.
        w: ``(P,)`` parameter values in the order of ``tree.params``.
        state: from ``init``.
        batch: torch batch whose action has a last axis.
    """
    import torch

    prev, now = batch.prev.rows, batch.now.rows
    lead = tuple(now.shape[:-1])
    out = torch.empty((*lead, compiled.width), dtype=torch.float64, device=now.device)
    if state is None:
        compiled.torch_block(prev, batch.action, now, None, w, None, out)
        return out, None
    starts, ended = borders.starts(state.ended, batch)
    shape = _block_shape(state, lead)
    memory = tuple(torch.as_tensor(v, device=now.device) for v in state.values)
    values = compiled.torch_block(
        prev.reshape(*shape, -1),
        batch.action.reshape(*shape, -1),
        now.reshape(*shape, -1),
        starts.reshape(shape),
        w,
        memory,
        out.view(*shape, -1),
    )
    return out, RegisterState(ended, values)

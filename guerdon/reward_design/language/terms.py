"""A program of the language as ``Terms``: the bridge to reward programs."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from typing import Any, Literal, NamedTuple

import numpy as np

from guerdon.reward_design import borders
from guerdon.reward_design.actions import require_actions
from guerdon.reward_design.language.codegen import Compiled, compile_tree
from guerdon.reward_design.language.parse import parse
from guerdon.reward_design.language.tree import Tree, to_source
from guerdon.reward_design.made import remade
from guerdon.reward_design.program import Designed, State, Terms
from guerdon.types import ActionSpec, Array, Batch, Features, Layout, Spec

Backend = Literal["numpy", "numba"]


class RegisterState(NamedTuple):
    """What the registers of a program remember between batches."""

    ended: Array
    """``lead`` bool: the next row begins an episode."""
    values: tuple[Array, ...]
    """One ``(N,)`` float64 per register."""


@remade
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
        Terms with batches of shape ``()``, ``(N,)`` or ``(T, N)``, which ``program``
        clamps and makes float32; rows with a feature that is not finite give NaN.

    Raises:
        Rejected: when the text is no program.
        ValueError: for an unknown backend; from ``init`` and ``apply`` for a spec or
            a batch of another task, or actions of another shape. Discrete actions
            that the task does not have are refused by ``"numpy"``, for torch on the
            CPU, and by every adapter.
    """
    if backend not in ("numpy", "numba"):
        raise ValueError(f"backend: expected 'numpy' or 'numba', got {backend!r}")
    tree = parse(program, layout, action) if isinstance(program, str) else program
    source = program if isinstance(program, str) else to_source(tree)
    return compiled_terms(compile_tree(tree), source, backend)


@remade
def compiled_terms(compiled: Compiled, source: str, backend: Backend) -> Terms:
    """``Terms`` of compiled code; see ``terms``."""
    tree = compiled.tree
    weights = tuple(value for _, value in tree.params)
    count = len(compiled.line.registers)

    def init(spec: Spec) -> State:
        _same_task(tree, spec.layout, spec.action)
        if not count:
            return None
        zeros = np.zeros(spec.lead or (1,))
        return RegisterState(borders.first(spec.lead), (zeros,) * count)

    def apply(state: State, batch: Batch) -> tuple[Array, State]:
        rows = batch.now.rows
        action = _columns(tree, batch)
        require_actions(tree.action, batch.action, batch.mask)
        if 0 in rows.shape[:-1]:  # no transition, nothing to remember
            return _nothing(rows, compiled.width), state
        if state is not None:
            batch = _without_bad_rows(batch)
        if borders.namespace(rows) is not np:
            out, new = _apply_torch(
                compiled, weights, state, batch._replace(action=action)
            )
        elif backend == "numba":
            designed, new = _run_kernel(compiled, weights, state, batch, action)
            out = designed.terms
        else:
            out, new = _checked(compiled, weights, state, batch, action)
        if state is None or batch.mask is None:
            return out, new
        return _masked(apply, state, batch, out, new)

    # No look at the actions here: it would cost a third of the kernel's time, and
    # every adapter has looked at them already.
    def pay(state: State, batch: Batch) -> tuple[Designed, State] | None:
        if state is not None and not _is_finite(batch):
            return None
        return _run_kernel(compiled, weights, state, batch, _columns(tree, batch))

    return Terms(tree.names, init, apply, source, pay if backend == "numba" else None)


def _same_task(tree: Tree, layout: Layout, action: ActionSpec) -> None:
    """A program reads columns: those of another task would mean something else."""
    if layout == tree.layout and action == tree.action:
        return
    raise ValueError(
        f"reward program: written for the features {tree.layout!r} and "
        f"{tree.action.kind} actions of size {tree.action.size}; got {layout!r} and "
        f"{action.kind} actions of size {action.size}: make it with the task's own "
        "layout and action"
    )


def _columns(tree: Tree, batch: Batch) -> Array:
    """The action as ``(*L, A)``; a discrete one is one column."""
    layout, action = tree.layout, batch.action
    if batch.now.layout is not layout or batch.prev.layout is not layout:
        _same_task(tree, batch.now.layout, tree.action)
        _same_task(tree, batch.prev.layout, tree.action)
    lead = batch.now.rows.shape[:-1]
    if borders.namespace(batch.now.rows) is np:
        action = np.asarray(action)
    discrete = tree.action.kind == "discrete"
    expected = lead if discrete else (*lead, tree.action.size)
    if action.shape != expected:
        raise ValueError(
            f"action: expected shape {tuple(expected)} ({tree.action.kind}, size "
            f"{tree.action.size}), got {tuple(action.shape)}"
        )
    return action[..., None] if discrete else action


def _nothing(rows: Array, width: int) -> Array:
    """Terms of an empty batch."""
    xp = borders.namespace(rows)
    return xp.zeros((*rows.shape[:-1], width), dtype=xp.float64)


def _is_finite(batch: Batch) -> bool:
    """Whether all features of a NumPy batch are finite, found cheaply.

    Two products tell; one that overflows only makes us look again, in vain.
    """
    now, prev = batch.now.rows, batch.prev.rows
    return math.isfinite(np.vdot(now, now)) and math.isfinite(np.vdot(prev, prev))


def _finite_rows(batch: Batch) -> Array:
    """``(*L,)`` bool: all features of both ends of the step are finite."""
    xp = borders.namespace(batch.now.rows)
    fine = xp.isfinite(batch.now.rows) & xp.isfinite(batch.prev.rows)
    return fine.all(-1)


def _without_bad_rows(batch: Batch) -> Batch:
    """Registers do not remember what a row that is not finite says."""
    if borders.namespace(batch.now.rows) is np and _is_finite(batch):
        return batch
    real = _finite_rows(batch)
    if batch.mask is not None:
        real = real & borders.as_bool(batch.mask)
    return batch._replace(mask=real)


def _checked(
    compiled: Compiled,
    weights: tuple[float, ...],
    state: Any,
    batch: Batch,
    action: Array,
) -> tuple[Array, State]:
    """Run, and make rows with a feature that is not finite NaN."""
    if _is_finite(batch):
        return _apply_numpy(compiled, weights, state, batch, action)
    with np.errstate(all="ignore"):
        out, new = _apply_numpy(compiled, weights, state, batch, action)
    out[~_finite_rows(batch)] = np.nan
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
    xp, before = borders.namespace(out), state.values
    if xp is not np:
        before = tuple(xp.as_tensor(value, device=out.device) for value in before)
    real = mask.reshape(before[0].shape)
    kept = [xp.where(real, a, b) for a, b in zip(new.values, before, strict=True)]
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
    compiled: Compiled,
    weights: tuple[float, ...],
    state: Any,
    batch: Batch,
    action: Array,
) -> tuple[Array, State]:
    prev, now = batch.prev.rows, batch.now.rows
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


def _run_kernel(
    compiled: Compiled,
    weights: tuple[float, ...],
    state: Any,
    batch: Batch,
    action: Array,
) -> tuple[Designed, State]:
    """Numba: clamped terms and their sum, and the state after."""
    prev, now = batch.prev.rows, batch.now.rows
    lead, width, count = now.shape[:-1], now.shape[-1], compiled.width
    action = action.astype(np.float64)
    if len(lead) != 1:
        prev, now = prev.reshape(-1, width), now.reshape(-1, width)
        action = action.reshape(-1, action.shape[-1])
    values = np.empty((len(now), count), np.float32)
    sums = np.empty(len(now), np.float32)
    if state is None:
        starts, memory, ended = _NO_STARTS, _NO_MEMORY, None
    else:
        starts, ended = borders.starts(state.ended, batch)
        starts = np.asarray(starts).reshape(-1)
        memory = np.stack(state.values, axis=-1)
    compiled.kernel(prev, action, now, starts, _as_array(weights), memory, values, sums)
    if len(lead) != 1:
        values, sums = values.reshape(*lead, count), sums.reshape(lead)
    new = None if state is None else RegisterState(ended, tuple(memory.T))
    return Designed(sums, values), new


@lru_cache(maxsize=256)
def _as_array(weights: tuple[float, ...]) -> Array:
    return np.array(weights, np.float64)


_NO_STARTS = np.zeros(1, np.bool_)
_NO_MEMORY = np.zeros((0, 0), np.float64)


def _apply_torch(
    compiled: Compiled, weights: tuple[float, ...], state: Any, batch: Batch
) -> tuple[Array, State]:
    import torch

    device = batch.now.rows.device
    w = torch.as_tensor(weights, dtype=torch.float64, device=device)
    out, state = torch_columns(compiled, w, state, batch)
    return torch.where(_finite_rows(batch)[..., None], out, torch.nan), state


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

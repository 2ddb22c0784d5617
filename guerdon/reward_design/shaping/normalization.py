"""Rewards divided by how much the return varies."""

from __future__ import annotations

from typing import Any

import numpy as np

from guerdon.reward_design.borders import as_bool, namespace
from guerdon.reward_design.made import remade
from guerdon.reward_design.program import State, Transform, total
from guerdon.types import Array, Batch, Spec

PRIOR_COUNT = 1e-4
"""Weight of the initial (mean 0, variance 1), as in Gymnasium and SB3."""


@remade
def running_norm(
    discount: float | None = None,
    epsilon: float = 1e-8,
    clip: float | None = 10.0,
) -> Transform:
    """Divide by the running standard deviation of the discounted return.

        G_t = discount * G_tm1 + r_t
        r'_t = clip(r_t / sqrt(Var[G] + epsilon))

    The variance is over all returns seen so far, this step's included. The return
    starts at 0 in every episode, after a termination AND after a truncation.
    Rows with mask False leave everything as it is.

    Args:
        discount: None takes ``spec.discount``.
        epsilon: keeps the divisor above 0.
        clip: bound of the result; None for no bound.

    Shapes:
        ``(*L,) -> (*L,)``; terms that are still apart are summed first. A block gives
        what its steps would give one by one.

    Raises:
        ValueError: for a discount outside [0, 1], or an epsilon or clip that is not
            positive.

    Reference:
        The reward scaling of Engstrom et al., "Implementation matters in deep policy
        gradients", ICLR 2020, as done by SB3's ``VecNormalize``. Gymnasium's
        ``NormalizeReward`` drops the return in the step that terminates instead of
        after it, and carries it over a truncation.
    """
    if discount is not None and not 0 <= discount <= 1:
        raise ValueError(f"running_norm: expected a discount in [0, 1], got {discount}")
    if epsilon <= 0 or (clip is not None and clip <= 0):
        raise ValueError(
            "running_norm: expected epsilon > 0 and clip > 0, got "
            f"epsilon={epsilon}, clip={clip}"
        )

    def init(spec: Spec) -> State:
        return {
            "discount": float(spec.discount if discount is None else discount),
            "return": np.zeros(spec.lead),
            "mean": np.float64(0.0),
            "variance": np.float64(1.0),
            "count": np.float64(PRIOR_COUNT),
        }

    def apply(state: State, batch: Batch, r: Array) -> tuple[Array, State]:
        r = total(batch, r)
        state = _on_device(state, r)
        done = as_bool(batch.terminated) | as_bool(batch.truncated)
        mask = None if batch.mask is None else as_bool(batch.mask)
        if r.ndim == state["return"].ndim:
            divisor, state = _step(state, r, done, mask, epsilon)
        else:
            divisor, state = _block(state, r, done, mask, epsilon)
        scaled = _double(r) / divisor
        if clip is not None:
            scaled = scaled.clip(-clip, clip)
        return _as(r, scaled), state

    return Transform(init, apply, frozenset({"nonstationary", "coupled"}))


def _block(
    state: State, r: Array, done: Array, mask: Array | None, epsilon: float
) -> tuple[Array, State]:
    """Steps of a block in order; the statistics allow nothing else."""
    divisors = []
    for time in range(len(r)):
        now = None if mask is None else mask[time]
        divisor, state = _step(state, r[time], done[time], now, epsilon)
        divisors.append(divisor)
    column = (-1,) + (1,) * (r.ndim - 1)
    if namespace(r) is np:
        return np.asarray(divisors, dtype=np.float64).reshape(column), state
    torch = namespace(r)
    return (torch.stack(divisors) if divisors else _double(r)).reshape(column), state


def _step(
    state: State, r: Array, done: Array, mask: Array | None, epsilon: float
) -> tuple[Array, State]:
    """The divisor of one time step, and the statistics with its returns."""
    r_t = _double(r)
    if mask is None:
        mask = namespace(r).ones_like(done)
    return_t = state["discount"] * state["return"] + r_t
    mean, variance, count = _update(state, return_t, mask)
    zero = namespace(r).zeros_like(return_t)
    # An abandoned episode is a row that is not real but says that it ended.
    kept = namespace(r).where(mask, return_t, state["return"])
    after = {
        **state,
        "return": namespace(r).where(done, zero, kept),
        "mean": mean,
        "variance": variance,
        "count": count,
    }
    return (variance + epsilon) ** 0.5, after


def _update(state: State, values: Array, mask: Array) -> tuple[Any, Any, Any]:
    """Mean and variance of what was seen and the real ones of ``values``.

    Reference: Chan, Golub and LeVeque, "Updating formulae and a pairwise algorithm
    for computing sample variances", 1979.
    """
    values = namespace(values).where(mask, values, namespace(values).zeros_like(values))
    here = _double(mask).sum()
    safe = here.clip(1.0)
    mean_here = values.sum() / safe
    spread = _double(mask) * (values - mean_here) ** 2
    count = state["count"] + here
    delta = mean_here - state["mean"]
    mean = state["mean"] + delta * here / count
    squares = (
        state["variance"] * state["count"]
        + spread.sum()
        + delta**2 * state["count"] * here / count
    )
    return mean, squares / count, count


def _on_device(state: State, r: Array) -> State:
    """The state's arrays in the namespace and on the device of ``r``."""
    if namespace(r) is np:
        return state
    torch = namespace(r)
    return {
        key: value
        if key == "discount"
        else torch.as_tensor(value, dtype=torch.float64, device=r.device)
        for key, value in state.items()
    }


def _double(values: Array) -> Array:
    """``values`` in float64."""
    if namespace(values) is np:
        return np.asarray(values, dtype=np.float64)
    return values.double()


def _as(r: Array, values: Array) -> Array:
    """``values`` in the type of ``r``."""
    return values.astype(r.dtype) if namespace(r) is np else values.to(r.dtype)

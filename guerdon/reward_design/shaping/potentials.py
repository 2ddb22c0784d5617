"""Potential-based shaping: advice that cannot change which policies are optimal."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from guerdon.reward_design.borders import as_bool, namespace
from guerdon.reward_design.made import remade
from guerdon.reward_design.program import State, Transform, total
from guerdon.types import Array, Batch, Features, Spec


@remade
def potential(
    phi: Callable[[Features], Array], discount: float | None = None
) -> Transform:
    """Add the difference of a potential along the step.

        r'_t = r_t + discount * (1 - terminated_t) * phi(s_t) - phi(s_tm1)

    The potential of a terminal state is 0, or the law fails. At a truncation the
    successor's potential is KEPT: the value there is bootstrapped, and a zero would be
    a penalty for the clock that changes which policies are optimal.

    Args:
        phi: features -> ``(*L,)``, pure; it is called with both ends of the step.
        discount: the agent's; None takes ``spec.discount``. The law needs the same.

    Shapes:
        ``(*L,) -> (*L,)``; terms that are still apart are summed first.

    Raises:
        ValueError: for a discount outside [0, 1], or a potential of another shape.

    Reference:
        Ng, Harada and Russell, "Policy invariance under reward transformations",
        ICML 1999, theorem 1.
    """
    if discount is not None and not 0 <= discount <= 1:
        raise ValueError(f"potential: expected a discount in [0, 1], got {discount}")

    def init(spec: Spec) -> State:
        # A Python float: a NumPy double would lift float32 rewards to float64.
        return {"discount": float(spec.discount if discount is None else discount)}

    def apply(state: State, batch: Batch, r: Array) -> tuple[Array, State]:
        r = total(batch, r)
        phi_tm1 = _evaluate(phi, batch.prev, r)
        phi_t = _evaluate(phi, batch.now, r)
        going_on = ~as_bool(batch.terminated)
        # A product with 0 would let an infinite potential of a terminal state through.
        phi_t = namespace(r).where(going_on, phi_t, namespace(r).zeros_like(phi_t))
        shaped = r + (state["discount"] * phi_t - phi_tm1)
        if batch.mask is None:
            return shaped, state
        return namespace(r).where(as_bool(batch.mask), shaped, r), state

    return Transform(init, apply, frozenset({"potential"}))


def _evaluate(phi: Callable[[Features], Array], features: Features, r: Array) -> Array:
    """``phi`` as floats of the shape and type of ``r``."""
    values = phi(features)
    if tuple(np.shape(values)) != tuple(r.shape):
        raise ValueError(
            f"potential: expected phi to give shape {tuple(r.shape)}, one number per "
            f"row, got {tuple(np.shape(values))}"
        )
    if namespace(r) is np:
        return np.asarray(values, dtype=r.dtype)
    return values.to(r.dtype)

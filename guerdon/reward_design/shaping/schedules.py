"""A factor that changes while the agent learns."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from guerdon.reward_design.borders import as_bool, namespace
from guerdon.reward_design.made import remade
from guerdon.reward_design.program import State, Transform
from guerdon.types import Array, Batch


@remade
def schedule(
    factor: Callable[[Array], Array] | tuple[float, float, int],
) -> Transform:
    """Multiply by a factor of the number of steps seen before.

    Real steps of all environments count, as in the ``num_timesteps`` of most
    libraries; all environments of one time step share a factor.

    Args:
        factor: a vectorised function of the step count, or ``(start, end, steps)``
            for a straight line from ``start`` to ``end`` that stays at ``end``.

    Shapes:
        ``(*L[, m]) -> (*L[, m])``; the state is ``{"steps": ()}``.

    Raises:
        ValueError: for a line with less than one step or an end that is not finite.
    """
    function = factor if callable(factor) else _line(*factor)

    def apply(state: State, batch: Batch, r: Array) -> tuple[Array, State]:
        seen, steps = _count(state["steps"], state["lead"], batch)
        factors = np.asarray(function(seen), dtype=np.float32)
        if factors.shape != seen.shape:
            raise ValueError(
                f"schedule: expected the function to give shape {seen.shape}, "
                f"got {factors.shape}"
            )
        factors = factors.reshape(factors.shape + (1,) * (r.ndim - factors.ndim))
        if namespace(r) is not np:
            factors = namespace(r).as_tensor(factors, dtype=r.dtype, device=r.device)
        return r * factors, {**state, "steps": steps}

    return Transform(
        lambda spec: {"steps": np.int64(0), "lead": len(spec.lead)},
        apply,
        frozenset({"nonstationary", "coupled"}),
    )


def _line(start: float, end: float, steps: int) -> Callable[[Array], Array]:
    """A straight line from ``start`` to ``end``."""
    if steps < 1 or not (math.isfinite(start) and math.isfinite(end)):
        raise ValueError(
            "schedule: expected (start, end, steps) with finite ends and steps >= 1, "
            f"got ({start}, {end}, {steps})"
        )
    return lambda seen: start + (end - start) * np.minimum(seen / steps, 1.0)


def _count(steps: Array, lead: int, batch: Batch) -> tuple[Array, Array]:
    """Steps seen before every time step, ``()`` or ``(T,)``, and after the last."""
    shape = tuple(np.shape(batch.reward))
    if batch.mask is None:
        real = np.ones(shape, dtype=np.int64)
    else:
        mask = as_bool(batch.mask)
        mask = mask if namespace(mask) is np else mask.cpu().numpy()
        real = mask.astype(np.int64)
    per_time = real.sum(axis=tuple(range(len(shape) - lead, len(shape))))
    if per_time.ndim == 0:
        return np.asarray(steps), steps + per_time
    after = steps + np.cumsum(per_time)
    return after - per_time, after[-1] if len(after) else steps

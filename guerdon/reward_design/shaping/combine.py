"""Transforms made of transforms, and the weighted sum of terms."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from guerdon.reward_design.borders import namespace
from guerdon.reward_design.made import remade
from guerdon.reward_design.program import State, Transform, total
from guerdon.types import Array, Batch, Spec


@remade
def chain(*transforms: Transform) -> Transform:
    """Transforms one after the other; the state is a tuple in the same order.

    The chain claims ``"monotone"`` when all its parts do, and every other tag when
    one part does: ``chain(potential(phi), clip(-1.0, 1.0))`` still claims to keep the
    optimal policies, and ``verify`` shows that it does not.

    Raises:
        TypeError: for anything that is not a ``Transform``.
    """
    _refuse_others({str(place): part for place, part in enumerate(transforms)})

    def init(spec: Spec) -> State:
        return tuple(part.init(spec) for part in transforms)

    def apply(state: State, batch: Batch, r: Array) -> tuple[Array, State]:
        after = []
        for part, before in zip(transforms, state, strict=True):
            r, remembered = part.apply(before, batch, r)
            after.append(remembered)
        return r, tuple(after)

    return Transform(init, apply, _tags(transforms))


@remade
def named(**transforms: Transform) -> Transform:
    """``chain`` with names: the state is a dictionary, so parts can be looked up.

    Raises:
        TypeError: for anything that is not a ``Transform``.
    """
    _refuse_others(transforms)

    def init(spec: Spec) -> State:
        return {name: part.init(spec) for name, part in transforms.items()}

    def apply(state: State, batch: Batch, r: Array) -> tuple[Array, State]:
        after = {}
        for name, part in transforms.items():
            r, after[name] = part.apply(state[name], batch, r)
        return r, after

    return Transform(init, apply, _tags(tuple(transforms.values())))


@remade
def scalarize(
    weights: Mapping[str, float] | Sequence[float] | None = None,
) -> Transform:
    """Weighted sum of the terms, ``r = sum_k w_k r_k``.

    Args:
        weights: by term name, or in the order of the terms; None weighs every term
            with 1. The state is ``{"weights": (m,)}``, so they can be tuned.

    Shapes:
        ``(*L, m) -> (*L,)``.

    Raises:
        ValueError: for weights that are not finite or do not match the terms.
    """
    if weights is None:
        return Transform(
            lambda spec: None, lambda state, batch, r: (total(batch, r), state)
        )
    values = weights.values() if isinstance(weights, Mapping) else weights
    if not all(math.isfinite(value) for value in values):
        raise ValueError(f"scalarize: expected finite weights, got {weights}")

    def init(spec: Spec) -> State:
        return {"weights": np.asarray(_in_order(weights, spec.terms), np.float32)}

    def apply(state: State, batch: Batch, r: Array) -> tuple[Array, State]:
        vector = state["weights"]
        if tuple(r.shape) != (*np.shape(batch.reward), len(vector)):
            raise ValueError(
                f"scalarize: expected {len(vector)} terms in the last axis of "
                f"{tuple(np.shape(batch.reward))}, got shape {tuple(r.shape)}"
            )
        if namespace(r) is not np:
            vector = namespace(r).as_tensor(vector, dtype=r.dtype, device=r.device)
        return total(batch, r * vector), state

    return Transform(init, apply)


def _in_order(
    weights: Mapping[str, float] | Sequence[float], terms: tuple[str, ...]
) -> list[float]:
    """The weights in the order of the terms."""
    if not isinstance(weights, Mapping):
        if terms and len(weights) != len(terms):
            raise ValueError(
                f"scalarize: expected {len(terms)} weights for the terms "
                f"{', '.join(terms)}, got {len(weights)}"
            )
        return list(weights)
    if set(weights) != set(terms):
        raise ValueError(
            f"scalarize: expected one weight for each of the terms {sorted(terms)}, "
            f"got {sorted(weights)}"
        )
    return [weights[name] for name in terms]


def _tags(parts: tuple[Transform, ...]) -> frozenset[str]:
    """What a chain claims; see ``chain``."""
    claimed = frozenset[str]().union(*(part.tags for part in parts))
    if all("monotone" in part.tags for part in parts):
        return claimed
    return claimed - {"monotone"}


def _refuse_others(parts: Mapping[str, object]) -> None:
    """Only transforms can be chained."""
    for name, part in parts.items():
        if not isinstance(part, Transform):
            raise TypeError(
                f"chain: part {name} should be a Transform, got {type(part).__name__}"
            )

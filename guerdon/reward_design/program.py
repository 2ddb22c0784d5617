"""Reward programs: named terms, then transforms, as records of pure functions.

    designed, state = program.apply(state, batch)

``Terms`` says what is rewarded, a ``Transform`` changes the number that comes out,
``program`` puts them together. The same program scores one transition, a vector of
environments, a rollout block ``(T, N)`` and a logged bank. Where a part remembers
something (a register, a running mean), its state is a value that goes in and comes
out, and is reset at episode borders by ``starts``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from guerdon.types import Array, Batch, Spec

State = Any

CLAMP = 1e6
"""Designed rewards are clamped to ±CLAMP; beyond that a critic only sees noise."""


class Terms(NamedTuple):
    """Named reward terms, ``apply(state, batch) -> ((*L, m), state)``."""

    names: tuple[str, ...]
    init: Callable[[Spec], State]
    apply: Callable[[State, Batch], tuple[Array, State]]
    source: str | None = None
    """Text in the reward language, where the terms came from one."""


class Transform(NamedTuple):
    """A change of the reward, ``apply(state, batch, r) -> (r', state)``.

    ``r`` is ``(*L, m)`` while the terms are apart and ``(*L,)`` after ``scalarize``.
    ``tags`` may hold ``"potential"`` and ``"monotone"``, which ``verify`` checks.
    """

    init: Callable[[Spec], State]
    apply: Callable[[State, Batch, Array], tuple[Array, State]]
    tags: frozenset[str] = frozenset()


class Designed(NamedTuple):
    """What a program gives for a batch."""

    reward: Array
    """``(*L,)`` float32, finite or NaN; never infinite."""
    terms: Array
    """``(*L, m)`` float32, before the transforms, in the order of ``names``."""


class RewardProgram(NamedTuple):
    """Terms and transforms put together; see ``program``."""

    names: tuple[str, ...]
    init: Callable[[Spec], State]
    apply: Callable[[State, Batch], tuple[Designed, State]]
    source: str | None = None


def terms_from(function: Callable[[Batch], Mapping[str, Array]], *names: str) -> Terms:
    """Lift a plain function ``batch -> {name: (*L,)}`` to ``Terms``.

    Args:
        function: pure, and vectorised over the leading axes.
        names: the keys that it returns, in order.

    Raises:
        ValueError: when ``names`` is empty or the function returns other keys.
    """
    if not names:
        raise ValueError("terms_from: expected the names of the terms, got none")

    def apply(state: State, batch: Batch) -> tuple[Array, State]:
        values = function(batch)
        if set(values) != set(names):
            raise ValueError(
                f"reward terms: expected {sorted(names)}, got {sorted(values)}"
            )
        shape = np.shape(batch.reward)
        columns = [np.broadcast_to(np.asarray(values[n], float), shape) for n in names]
        return np.stack(columns, axis=-1), state

    return Terms(names, lambda spec: None, apply)


def environment_reward(name: str = "task") -> Terms:
    """The environment's own reward as a term."""
    return terms_from(lambda batch: {name: batch.reward}, name)

"""Actions that a reward is asked about: refused where the task has no such action."""

from __future__ import annotations

from typing import Any

import numpy as np

from guerdon.reward_design.borders import as_bool, namespace
from guerdon.types import ActionSpec, Array

_USUAL = np.dtype(np.int64)


def require_actions(spec: ActionSpec, action: Array, mask: Array | None = None) -> None:
    """Refuse a discrete action that is no whole number from 0 to ``size - 1``.

    A reward would compute with it in silence. Continuous actions pass: their bounds
    are the environment's, which clips them as it likes. On an accelerator nothing is
    looked at, since every look would wait for it.

    Args:
        spec: the actions of the task.
        action: ``(*L,)`` where they are discrete.
        mask: ``(*L,)`` True where a step is real; anything may stand in the others.

    Raises:
        ValueError: says what was expected, what came, and where it stands.
    """
    if spec.kind != "discrete" or _plainly_known(action, spec.size):
        return
    if namespace(action) is not np:
        if action.device.type != "cpu":
            return
        action = action.detach().numpy()
    action = np.asarray(action)
    wrong = ~_known(action, spec.size)
    if mask is not None:
        wrong &= as_bool(np.asarray(mask)).reshape(wrong.shape)
    if not wrong.any():
        return
    place = tuple(int(i) for i in np.argwhere(wrong)[0])
    where = f" at {place}" if place else ""
    raise ValueError(
        f"action: expected whole numbers from 0 to {spec.size - 1} ({spec.size} "
        f"discrete actions), got {action[place].item()!r}{where}"
    )


def _plainly_known(action: Array, size: int) -> bool:
    """Whether all is well, in the usual case and in a single pass; False is unsure."""
    if type(action) is not np.ndarray or action.dtype is not _USUAL or not action.size:
        return False
    if action.size == 1:
        return bool(0 <= action.item() < size)
    # As an unsigned number, one below 0 is larger than any.
    return bool(np.maximum.reduce(action.view(np.uint64), axis=None) < size)


def _known(action: np.ndarray, size: int) -> Any:
    """``(*L,)`` bool; a whole number may be written as a float."""
    if action.dtype.kind not in "biuf":
        return np.zeros(action.shape, np.bool_)
    return (action >= 0) & (action < size) & (action == np.floor(action))

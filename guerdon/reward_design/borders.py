"""Where episodes begin: the only place that reads ``terminated`` for bookkeeping.

What a reward remembers within an episode (a register, a discounted return) starts
afresh at the first REAL row of an episode. Each environment carries one flag,
``ended``, that says whether its next real row is such a row:

    ended = terminated | truncated | (ended & ~mask)

So a row whose mask is False (padding, the reset step of Gymnasium's next-step
autoreset) never clears the flag; it sets it only where it says ``truncated`` itself,
which is how an adapter reports an episode that a caller's ``reset`` abandoned.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

from guerdon.types import Array, Batch


def namespace(array: Array) -> Any:
    """The module whose functions work on ``array``: NumPy or torch.

    torch is never imported here: a tensor can only exist where it already is.

    >>> namespace(np.zeros(2)).__name__
    'numpy'
    """
    if isinstance(array, np.ndarray | np.generic):
        return np
    if hasattr(array, "__torch_function__"):
        return sys.modules["torch"]
    return np


def as_bool(values: Array) -> Array:
    """``values`` as a boolean array of their own namespace, without a copy."""
    if namespace(values) is np:
        return np.asarray(values, dtype=np.bool_)
    return values.bool()


def first(lead: tuple[int, ...], like: Array | None = None) -> Array:
    """The flag before the first batch: every environment is about to begin.

    Args:
        lead: ``spec.lead``.
        like: an array whose namespace and device the flag should have.

    Returns:
        ``lead`` bool, all True.
    """
    if like is not None and namespace(like) is not np:
        torch = namespace(like)
        return torch.ones(lead, dtype=torch.bool, device=like.device)
    return np.ones(lead, dtype=np.bool_)


def starts(ended: Array, batch: Batch) -> tuple[Array, Array]:
    """Which rows are the first real row of an episode.

    Args:
        ended: ``lead`` bool, carried from the batch before; all True at first.
        batch: leading axes ``lead`` (one step) or ``(T, *lead)`` (a block).

    Returns:
        ``(starts, ended)``: ``(*L,)`` bool, and the flag to carry on, ``lead``.
        No argument is written to.

    Raises:
        ValueError: when the batch is neither one step nor one block of ``lead``.
    """
    done = as_bool(batch.terminated) | as_bool(batch.truncated)
    ended = _like(ended, done)
    mask = None if batch.mask is None else as_bool(batch.mask)
    lead = tuple(ended.shape)
    shape = tuple(done.shape)
    if shape == lead:
        if mask is None:
            return ended, done
        return ended & mask, done | (ended & ~mask)
    if shape[1:] != lead or len(shape) != len(lead) + 1:
        raise ValueError(
            f"episode borders: expected a batch of shape {lead} or (T, *{lead}), "
            f"got {shape}"
        )
    if shape[0] == 0:
        return done, ended
    after = done if mask is None else _carry(ended, done, mask)
    before = _shift(ended, after)
    return (before if mask is None else before & mask), after[-1]


def _like(ended: Array, done: Array) -> Array:
    """The flag in the namespace and on the device of the batch."""
    numpy = namespace(done)
    if numpy is namespace(ended):
        return as_bool(ended) if numpy is np else ended.to(done.device)
    if numpy is np:
        return ended.cpu().numpy()
    return numpy.as_tensor(np.asarray(ended), device=done.device)


def _shift(ended: Array, after: Array) -> Array:
    """The flag before every row, from the flag after every row."""
    numpy = namespace(after)
    if numpy is np:
        return np.concatenate([ended[None], after[:-1]])
    return numpy.cat([ended[None], after[:-1]])


def _carry(ended: Array, done: Array, mask: Array) -> Array:
    """The flag after every row: the last row that is real or an end decides."""
    numpy = namespace(done)
    event = mask | done
    column = (-1,) + (1,) * (done.ndim - 1)
    if numpy is np:
        row = np.where(event, np.arange(len(done)).reshape(column), -1)
        last = np.maximum.accumulate(row, axis=0)
        seen = np.take_along_axis(done, np.maximum(last, 0), axis=0)
    else:
        steps = numpy.arange(len(done), device=done.device).reshape(column)
        row = numpy.where(event, steps, steps.new_tensor(-1))
        last = numpy.cummax(row, dim=0).values
        seen = numpy.gather(done, 0, last.clamp(min=0))
    return numpy.where(last >= 0, seen, ended)

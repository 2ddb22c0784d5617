"""Registers over a block: what a term remembers within an episode.

Each function takes a column ``x`` of shape ``(T, N)``, ``starts`` (True at the first
step of an episode) and the state ``(N,)`` that the block before left, and gives the
register's value at every step and the state after the block. There is no loop over
steps: sums are differences of cumulative sums, the running best is a segmented
doubling scan (Hillis and Steele, 1986), which is exact for a maximum.

In one step, with ``s`` the state and everything forgotten at a start:

    first_time(c): c and not s           s <- s or c
    count(c):      s + c                 s <- s + c
    delta(x):      x - s (0 at a start)  s <- x
    previous_best(x): s (x at a start)   s <- max(s, x)
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from guerdon.reward_design.borders import namespace
from guerdon.types import Array

Scan = Callable[[Array, Array, Array], tuple[Array, Array]]


def count(x: Array, starts: Array, state: Array) -> tuple[Array, Array]:
    """Steps at which the flag held, up to and with this one."""
    xp = namespace(x)
    held = _double(xp, x)
    total = xp.cumsum(held, 0)
    before = total - held
    # The sum before the last start; -state, never above it, until the first one.
    result = total - _running_max(xp, xp.where(starts, before, -state))
    return result, result[-1]


def first_time(x: Array, starts: Array, state: Array) -> tuple[Array, Array]:
    """True at the first step of the episode at which the flag holds."""
    times, state = count(x, starts, state)
    return x & (times == 1.0), state


def delta(x: Array, starts: Array, state: Array) -> tuple[Array, Array]:
    """Change since the step before; 0 at the first step of an episode."""
    xp = namespace(x)
    before = _concatenate(xp, state[None], x[:-1])
    return xp.where(starts, 0.0, x - before), x[-1]


def previous_best(x: Array, starts: Array, state: Array) -> tuple[Array, Array]:
    """Largest value at earlier steps of the episode; ``x`` itself at the first."""
    xp = namespace(x)
    best, closed = x, starts
    shift = 1
    while shift < len(x):
        pulled = xp.where(closed[shift:], best[shift:], _largest(xp, best, shift))
        best = _concatenate(xp, best[:shift], pulled)
        closed = _concatenate(xp, closed[:shift], closed[shift:] | closed[:-shift])
        shift *= 2
    best = xp.where(closed, best, xp.maximum(best, state))
    before = _concatenate(xp, state[None], best[:-1])
    return xp.where(starts, x, before), best[-1]


SCANS: dict[str, Scan] = {
    "first_time": first_time,
    "delta": delta,
    "previous_best": previous_best,
    "count": count,
}


def scalar_lines(op: str, x: str, slot: str, start: str, name: str) -> list[str]:
    """Statements of generated scalar code for one register; ``slot`` is its state."""
    if op == "count":
        return [
            f"{name} = (0.0 if {start} else {slot}) + (1.0 if {x} else 0.0)",
            f"{slot} = {name}",
        ]
    if op == "first_time":
        return [
            f"h{name} = (0.0 if {start} else {slot}) + (1.0 if {x} else 0.0)",
            f"{slot} = h{name}",
            f"{name} = {x} and h{name} == 1.0",
        ]
    if op == "delta":
        return [f"{name} = 0.0 if {start} else {x} - {slot}", f"{slot} = {x}"]
    return [
        f"{name} = {x} if {start} else {slot}",
        f"{slot} = {x} if {start} or {x} > {slot} else {slot}",
    ]


def _double(xp: Any, x: Array) -> Array:
    return x.astype(xp.float64) if hasattr(x, "astype") else x.to(xp.float64)


def _concatenate(xp: Any, first: Array, second: Array) -> Array:
    join = xp.concatenate if hasattr(xp, "concatenate") else xp.cat
    return join((first, second))


def _running_max(xp: Any, x: Array) -> Array:
    if hasattr(xp, "cummax"):
        return xp.cummax(x, 0).values
    return xp.maximum.accumulate(x, axis=0)


def _largest(xp: Any, x: Array, shift: int) -> Array:
    return xp.maximum(x[shift:], x[:-shift])

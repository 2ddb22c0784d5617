"""The levels that the engine knows, by name."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from guerdon.envs.grid.levels import (
    crossing,
    distshift,
    doorkey,
    empty,
    fetch,
    fourrooms,
    gotodoor,
    gotoobject,
    keycorridor,
    lavagap,
    lockedroom,
    memory,
    multiroom,
    obstacles,
    obstructedmaze,
    putnear,
    redbluedoors,
    unlock,
)
from guerdon.envs.grid.levels.base import Level

_FAMILIES = (
    empty, fourrooms, doorkey, unlock, keycorridor, multiroom, lockedroom, crossing,
    lavagap, distshift, obstacles, memory, gotodoor, gotoobject, fetch, putnear,
    redbluedoors, obstructedmaze,
)  # fmt: skip

LEVELS: Mapping[str, Level] = MappingProxyType(
    {level.name: level for family in _FAMILIES for level in family.LEVELS}
)
"""Every level by its name, ``DoorKey-8x8``."""


def find_level(name: Any) -> Level:
    """The level of a name.

    Args:
        name: our name (``DoorKey-8x8``), our id (``guerdon/DoorKey-8x8-v0``),
            MiniGrid's id (``MiniGrid-DoorKey-8x8-v0``), or a ``Level``, which is given
            back.

    Raises:
        TypeError: for anything but a text or a level.
        ValueError: for a level that the engine does not have; names those it has.
    """
    if isinstance(name, Level):
        return name
    if not isinstance(name, str):
        raise TypeError(
            f"level: expected the name of a level, got {name!r} ({type(name).__name__})"
        )
    by_base = {level.base: level for level in LEVELS.values() if not level.keywords}
    plain = name.removeprefix("guerdon:").removeprefix("guerdon/")
    found = LEVELS.get(plain) or LEVELS.get(plain.removesuffix("-v0"))
    found = found or by_base.get(name)
    if found is None:
        near = difflib.get_close_matches(plain.removesuffix("-v0"), LEVELS, n=1)
        meant = f", did you mean {near[0]!r}?" if near else ""
        raise ValueError(
            f"level: the grid engine has no {name!r}{meant}; it has: "
            f"{', '.join(LEVELS)}. Others run on MiniGrid itself: "
            'engine="minigrid"'
        )
    return found

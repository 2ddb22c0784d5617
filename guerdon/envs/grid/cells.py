"""One byte for what lies in a cell, and what MiniGrid says about each such thing.

A code is a kind with a colour, the state of a door, or the content of a box. Codes are
ordered so that a comparison answers what a step asks: what can be walked on comes
first, then what can be picked up, and last what blocks the sight.

Reference: Farama MiniGrid, ``minigrid/core/world_object.py`` and ``constants.py``.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from guerdon.envs.grid.compiled import inlined

COLOURS = ("red", "green", "blue", "purple", "yellow", "grey")
"""MiniGrid's colours in the order of their numbers."""

RED, GREEN, BLUE, PURPLE, YELLOW, GREY = range(6)

DRAWN_COLOURS = tuple(COLOURS.index(name) for name in sorted(COLOURS))
"""Colours in the order in which MiniGrid draws them: that of their names."""

NOTHING = UNSEEN = 0
"""A cell out of sight; as what an agent carries, nothing."""
EMPTY = 1
FLOOR = 2
"""Of the first colour; so are all of the following codes."""
GOAL = 8
LAVA = 14
DOOR_OPEN = 15
KEY = 21
BALL = 27
BOX = 33
"""``BOX + 7 * colour + content``: content 0 is nothing, ``1 + c`` a key of colour c."""
CONTENTS = 7
AGENT = 75
"""Plus the direction; only in the view of a whole grid."""
DOOR_CLOSED = 79
DOOR_LOCKED = 85
WALL = 91
CODES = 97
"""How many codes there are."""

GREY_WALL = WALL + GREY
"""What walls are, and what lies outside a grid."""
GREEN_GOAL = GOAL + GREEN

FIRST_PICKABLE = KEY
"""Codes from ``EMPTY`` up to here can be walked on."""
BEYOND_PICKABLE = AGENT
FIRST_OPAQUE = DOOR_CLOSED
"""Codes from here on block the sight."""

TYPES = (
    "unseen", "empty", "wall", "floor", "door", "key", "ball", "box", "goal", "lava",
    "agent",
)  # fmt: skip
"""MiniGrid's kinds in the order of their numbers."""

_STATES = {DOOR_OPEN: 0, DOOR_CLOSED: 1, DOOR_LOCKED: 2}
_BLOCKS = (
    (FLOOR, "floor"), (GOAL, "goal"), (DOOR_OPEN, "door"), (KEY, "key"),
    (BALL, "ball"), (DOOR_CLOSED, "door"), (DOOR_LOCKED, "door"), (WALL, "wall"),
)  # fmt: skip


def _encoding() -> np.ndarray:
    """``(CODES, 3)`` uint8: the three bytes that MiniGrid shows for each code."""
    table = np.zeros((CODES, 3), np.uint8)
    table[EMPTY] = (TYPES.index("empty"), 0, 0)
    table[LAVA] = (TYPES.index("lava"), RED, 0)
    for first, name in _BLOCKS:
        for colour in range(6):
            table[first + colour] = (TYPES.index(name), colour, _STATES.get(first, 0))
    for code in range(BOX, AGENT):
        table[code] = (TYPES.index("box"), (code - BOX) // CONTENTS, 0)
    for direction in range(4):
        table[AGENT + direction] = (TYPES.index("agent"), RED, direction)
    table.flags.writeable = False
    return table


ENCODING = _encoding()
"""``(CODES, 3)`` uint8: object, colour and state of each code in an observation."""

_ALL = np.arange(CODES)
WALKABLE = (_ALL >= EMPTY) & (_ALL < FIRST_PICKABLE)
"""``(CODES,)`` bool: the agent can step on it (MiniGrid's ``can_overlap``)."""
PICKABLE = (_ALL >= FIRST_PICKABLE) & (_ALL < BEYOND_PICKABLE)
"""``(CODES,)`` bool."""
OPAQUE = _ALL >= FIRST_OPAQUE
"""``(CODES,)`` bool: the agent cannot see past it."""


@inlined
def toggled(code: Any, carrying: Any) -> Any:
    """What a cell becomes when the agent toggles it.

    Args:
        code: what lies in the cell.
        carrying: what the agent carries, 0 for nothing. A locked door opens for a
            key of its colour.

    Returns:
        The new code; the same where toggling does nothing.
    """
    if DOOR_OPEN <= code < DOOR_OPEN + 6:
        return code - DOOR_OPEN + DOOR_CLOSED
    if DOOR_CLOSED <= code < DOOR_CLOSED + 6:
        return code - DOOR_CLOSED + DOOR_OPEN
    if DOOR_LOCKED <= code < DOOR_LOCKED + 6:
        if carrying - KEY == code - DOOR_LOCKED:
            return code - DOOR_LOCKED + DOOR_OPEN
        return code
    if BOX <= code < AGENT:
        content = (code - BOX) % CONTENTS
        return KEY + content - 1 if content > 0 else EMPTY
    return code


def code_of(kind: str, colour: str, state: int = 0, content: int = NOTHING) -> int:
    """The code of a thing by MiniGrid's words.

    Args:
        kind: ``wall``, ``floor``, ``door``, ``key``, ``ball``, ``box``, ``goal`` or
            ``lava``.
        colour: one of ``COLOURS``.
        state: of a door: 0 open, 1 closed, 2 locked.
        content: code of what is in a box: 0 or a key.

    Raises:
        ValueError: for a thing that has no code.

    >>> tuple(int(byte) for byte in ENCODING[code_of("door", "yellow", 2)])
    (4, 4, 2)
    """
    if colour not in COLOURS or kind not in TYPES[2:10]:
        raise ValueError(f"cell: expected a thing of MiniGrid, got {colour} {kind}")
    number = COLOURS.index(colour)
    if kind == "box":
        if content != NOTHING and not KEY <= content < KEY + 6:
            raise ValueError("cell: expected a box with nothing or a key in it")
        return BOX + CONTENTS * number + (content - KEY + 1 if content else 0)
    if kind == "lava":
        return LAVA
    if kind == "door":
        return (DOOR_OPEN, DOOR_CLOSED, DOOR_LOCKED)[state] + number
    return next(first for first, name in _BLOCKS if name == kind) + number


def content_of(code: int) -> int:
    """Code of what is in a box, 0 for nothing; for ``BOX <= code < AGENT``."""
    content = (code - BOX) % CONTENTS
    return KEY + content - 1 if content else NOTHING

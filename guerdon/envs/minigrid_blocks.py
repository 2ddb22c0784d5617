"""What the features of MiniGrid's levels are called, mean, and can be.

A level's row is put together from blocks, whose numbers ``minigrid_features`` reads
from MiniGrid and ``grid.features`` writes in the batched engine.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from guerdon.types import Feature

Better = Literal["higher", "lower"] | None

_Row = tuple[str, str, str, Better]

_TARGET: tuple[_Row, ...] = (
    ("distance_to_target", "distance", "{block}; 0 while the agent carries it", None),
    ("target_ahead", "flag", "the {block} lies in the cell that the agent faces", None),
    ("carrying_target", "flag", "the agent carries the {block}", "higher"),
)

_LOCK: tuple[_Row, ...] = (
    ("distance_to_door", "distance", "locked door", None),
    ("door_ahead", "flag", "the agent faces the locked door", None),
    ("door_unlocked", "flag", "the door was unlocked with the key", "higher"),
    ("door_open", "flag", "the locked door stands open", "higher"),
)

_HAZARD: tuple[_Row, ...] = (
    ("lava_ahead", "flag", "the cell that the agent faces is deadly lava", None),
    ("on_lava", "flag", "the agent stepped into lava and is lost", "lower"),
)

_TABLE: Mapping[str, tuple[_Row, ...]] = {
    "agent": (
        ("agent_x", "column", "column, from the left", None),
        ("agent_y", "row", "row, from the top", None),
        ("facing", "direction", "unit vector that the agent faces: right, down", None),
    ),
    "goal": (
        ("distance_to_goal", "distance", "green goal", None),
        ("at_goal", "flag", "the agent stands on the goal", "higher"),
    ),
    "key": (
        ("distance_to_key", "distance", "key; 0 while the agent carries it", None),
        ("key_ahead", "flag", "the key lies in the cell that the agent faces", None),
        ("carrying_key", "flag", "the agent carries the key", "higher"),
    ),
    "door": (
        *_LOCK,
        ("beyond_door", "flag", "the agent is in the room behind that door", "higher"),
    ),
    "ball": _TARGET,
    "box": (
        *_TARGET,
        (
            "target_destroyed",
            "flag",
            "the box was toggled, so the task is lost",
            "lower",
        ),
    ),
    "doors": (("doors_open", "doors", "doors that stand open", "higher"),),
    "rooms": (
        ("room", "rooms", "room of the agent, counted along the way", "higher"),
        ("doors_open", "doors", "doors that stand open", "higher"),
        ("distance_to_door", "distance", "next closed door; 0 when all are open", None),
        ("door_ahead", "flag", "the agent faces the next closed door", None),
        ("all_doors_open", "flag", "every door stands open", "higher"),
    ),
    "lava": (
        *_HAZARD,
        ("distance_to_gap", "distance", "gap in the lava", None),
        ("beyond_lava", "flag", "the agent has passed the river of lava", "higher"),
    ),
    "hazard": _HAZARD,
    "obstacles": (
        ("obstacle_ahead", "flag", "a moving ball is in the cell ahead", None),
    ),
    "lock": _LOCK,
    "ends": (
        ("distance_to_goal", "distance", "end with the object that was shown", None),
        ("at_goal", "flag", "the agent stands at that end", "higher"),
        ("at_wrong_end", "flag", "it stands at the other end and is lost", "lower"),
    ),
    "aim": (
        ("distance_to_target", "distance", "place that the mission names", None),
        ("target_ahead", "flag", "the agent faces that place", None),
    ),
    "object": (
        ("distance_to_object", "distance", "thing to move; 0 while carried", None),
        ("object_ahead", "flag", "the thing to move lies in the cell ahead", None),
        ("carrying_object", "flag", "the agent carries the thing to move", "higher"),
    ),
    "wanted": (
        ("distance_to_target", "distance", "nearest thing as named; 0 if held", None),
        ("target_ahead", "flag", "such a thing lies in the cell ahead", None),
        ("carrying_target", "flag", "the agent carries such a thing", "higher"),
    ),
    "two doors": (
        ("distance_to_red_door", "distance", "red door", None),
        ("red_door_ahead", "flag", "the agent faces the red door", None),
        ("red_door_open", "flag", "the red door stands open", "higher"),
        ("distance_to_blue_door", "distance", "blue door", None),
        ("blue_door_ahead", "flag", "the agent faces the blue door", None),
        ("blue_door_open", "flag", "the blue door stands open", None),
    ),
}
"""Features of every block: name, sort, meaning, which way is better."""


def describe(block: str, width: int, height: int, doors: int) -> list[Feature]:
    """The features of one block in a level of ``width`` by ``height`` cells.

    Args:
        block: a key of ``minigrid_features.READERS``.
        width: columns of the grid, walls included.
        height: rows of the grid, walls included.
        doors: largest number of doors in the level.
    """
    inner = {"column": width - 2, "row": height - 2}
    features = []
    for name, sort, text, better in _TABLE[block]:
        meaning = text.format(block=block)
        made: dict[str, Any]
        if sort == "flag":
            made = {"kind": "flag", "low": 0.0, "high": 1.0}
        elif sort == "direction":
            made = {"shape": (2,), "low": -1.0, "high": 1.0}
        elif sort == "distance":
            meaning = f"Manhattan distance to the {meaning}"
            made = {"unit": "cells", "low": 0.0, "high": width + height - 6.0}
            better = "lower"
        elif sort in inner:
            made = {"unit": "cells", "low": 1.0, "high": float(inner[sort])}
        else:
            made = {"unit": sort, "low": 0.0, "high": float(doors)}
        features.append(Feature(name, meaning, better=better, **made))
    return features

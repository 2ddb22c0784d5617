"""The state of N lanes as arrays, and the numbers that describe a level.

Three arrays hold everything that a lane is: ``cells`` (what lies where), ``numbers``
(small integers, one row a quantity, so that a quantity of all lanes is contiguous) and
``seeds``. The rows of ``numbers`` from ``MARKS`` on say where a thing is that a rule or
a feature asks for: a step then never searches the grid.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from guerdon.types import Array

# Rows of ``numbers``: the episode.
POSITION = 0
"""Cell of the agent, ``y * width + x``."""
DIRECTION = 1
"""0 right, 1 down, 2 left, 3 up."""
CARRYING = 2
"""Code of what the agent carries, 0 for nothing."""
STEPS = 3
"""Steps of the episode so far."""
EPISODE = 4
"""How many episodes the lane has had since its seed was set."""
DRAWS = 5
"""How many random numbers the episode has used."""
OVER = 6
"""1 from the end of an episode until the next one begins."""
LENGTH = 7
"""Steps of the episode that ended last."""
MISSION = 8
"""Four rows: what the level's ``mission`` makes its text of."""

# Rows of ``numbers``: the marks.
MARKS = 12
KEY_CELL = 12
"""Cell of the key, or ``CARRIED``."""
TARGET_CELL = 13
"""Cell of the thing to pick up (or to put near another), ``CARRIED``, or ``GONE -
cell``: destroyed there."""
GOAL_CELL = 14
DOOR_CELL = 15
"""The locked door, else the first one (row by row)."""
OPENED = 16
"""How many doors stand open."""
GAP_CELL = 17
"""Opening of a single river of lava."""
ACROSS = 18
"""Axis across that river: 0 when the river runs from top to bottom, else 1."""
AIM_CELL = 19
"""Where an episode is won: next to it (GoTo, PutNear), on it (Memory), or the blue door
(RedBlueDoors)."""
TRAP_CELL = 20
"""Where it is lost (Memory), or the red door (RedBlueDoors)."""
WANTED = 21
"""Code of the thing to fetch (Fetch) or to carry (PutNear)."""
COUNT = 22
"""How many cells are listed from ``LIST`` on."""
ROOM_COUNT = 23
"""How many rooms there are."""
LIST = 24
"""``params[LISTED]`` rows: cells of the doors in the order of the rooms (MultiRoom), or
of the obstacles in their order (DynamicObstacles). Then four rows a room: left, top,
width, height."""

CARRIED = -1
"""In place of the cell of a thing that the agent holds."""
GONE = -2
"""``GONE - cell`` is a thing that was destroyed in ``cell``."""
NOWHERE = -1_000_000
"""A mark that the level does not have."""

# Entries of ``params``, the numbers that all lanes of an engine share.
WIDTH = 0
HEIGHT = 1
HORIZON = 2
RULE = 3
THROUGH = 4
"""1 when the agent sees through walls."""
ROOM_SIZE = 5
"""MiniGrid's ``room_size``, 0 for a level that has none."""
LISTED = 6
"""Rows that the list takes."""
ARGUMENTS = 7
"""Eight entries of the level's own: what its generator needs to know."""
VIEW = 15
"""Cells along a side of the egocentric view; 0 for the whole grid."""
AUTORESET = 16
"""When the next episode begins: one of the three that follow."""
SAME_STEP, NEXT_STEP, DISABLED = range(3)
RECIPROCAL = 17
"""``2^20 / width``, rounded up: a row is found by a product and not by a division."""
BLOCKS = 18
"""How many blocks of features there are; their numbers follow."""
PARAMS = 29
"""How many entries there are, with room for ten blocks."""


class State(NamedTuple):
    """Everything that N lanes are.

    The properties are views: to write to them is to change the state.
    """

    cells: np.ndarray
    """``(N, H * W + 1)`` uint8 codes, row by row; the last one is a wall and stands for
    every cell outside."""
    numbers: np.ndarray
    """``(K, N)`` int32; see the names of the rows in this module."""
    seeds: np.ndarray
    """``(N,)`` int64, at least 0."""

    @classmethod
    def of_lanes(cls, values: Mapping[str, np.ndarray]) -> State:
        """What ``as_lanes`` told, not checked; KeyError for a missing part."""
        numbers = np.ascontiguousarray(values["numbers"].T)
        return cls(values["cells"], numbers, values["seeds"])

    def as_lanes(self) -> dict[str, np.ndarray]:
        """The same as arrays with a row per lane."""
        numbers = np.ascontiguousarray(self.numbers.T)
        return {"cells": self.cells, "numbers": numbers, "seeds": self.seeds}

    @property
    def position(self) -> Array:
        """``(N,)`` cell of the agent."""
        return self.numbers[POSITION]

    @property
    def direction(self) -> Array:
        """``(N,)`` 0 right, 1 down, 2 left, 3 up."""
        return self.numbers[DIRECTION]

    @property
    def carrying(self) -> Array:
        """``(N,)`` code of what the agent carries, 0 for nothing."""
        return self.numbers[CARRYING]

    @property
    def steps(self) -> Array:
        """``(N,)`` steps of the episode so far."""
        return self.numbers[STEPS]

    @property
    def episode(self) -> Array:
        """``(N,)`` episodes since the seed was set."""
        return self.numbers[EPISODE]

    @property
    def draws(self) -> Array:
        """``(N,)`` random numbers used by the episode."""
        return self.numbers[DRAWS]

    @property
    def mission(self) -> Array:
        """``(4, N)`` numbers of the mission."""
        return self.numbers[MISSION : MISSION + 4]

    @property
    def marks(self) -> Array:
        """``(K - MARKS, N)`` where things are."""
        return self.numbers[MARKS:]

    def copy(self) -> State:
        """The same state in arrays of its own."""
        return State(*(array.copy() for array in self))


def new_state(num_envs: int, cells: int, rows: int) -> State:
    """Arrays of a state, all zeros: no lane has begun.

    Args:
        num_envs: lanes.
        cells: of a grid, ``H * W``.
        rows: of ``numbers``.
    """
    return State(
        np.zeros((num_envs, cells + 1), np.uint8),
        np.zeros((rows, num_envs), np.int32),
        np.zeros(num_envs, np.int64),
    )

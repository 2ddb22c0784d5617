"""Fetch: things lie about; pick up the one that is named, and no other.

Reference: Farama MiniGrid, ``minigrid/envs/fetch.py``.
"""

from __future__ import annotations

from typing import Any

from guerdon.envs.grid.cells import COLOURS
from guerdon.envs.grid.compiled import compiled
from guerdon.envs.grid.levels.base import (
    FETCH,
    Level,
    blank,
    colour,
    free_cell,
    integer,
    place_agent,
    survey,
    wall_rect,
)
from guerdon.envs.grid.levels.things import (
    THINGS,
    colour_of,
    forget_list,
    kind_of,
    make_thing,
)
from guerdon.envs.grid.state import HEIGHT, LIST, LISTED, MISSION, WANTED, WIDTH

_WORDS = ("get a", "go get a", "fetch a", "go fetch a", "you must fetch a")


@compiled
def generate(cells: Any, state: Any, seed: Any, params: Any) -> None:
    """One new episode of one lane; as many things as the list has rows.

    Args:
        cells: ``(H * W + 1,)`` uint8, of that lane.
        state: ``(K,)`` int32, the numbers of that lane.
        seed: of that lane.
        params: of the level.
    """
    width, height = params[WIDTH], params[HEIGHT]
    blank(cells, state)
    wall_rect(cells, width, 0, 0, width, height)
    for index in range(params[LISTED]):
        kind = integer(state, seed, 0, 2)
        thing = make_thing(kind, colour(state, seed))
        cell = free_cell(cells, state, seed, params, 0, 0, width, height)
        cells[cell] = thing
        state[LIST + index] = cell
    place_agent(cells, state, seed, params, 0, 0, width, height)
    wanted = cells[state[LIST + integer(state, seed, 0, params[LISTED])]]
    state[WANTED] = wanted
    state[MISSION] = integer(state, seed, 0, 5)
    state[MISSION + 1] = colour_of(wanted)
    state[MISSION + 2] = kind_of(wanted)
    forget_list(state, params)
    survey(cells, state, params)


@compiled
def begin(
    lanes: Any, cells: Any, numbers: Any, seeds: Any, params: Any, low: Any, high: Any
) -> None:
    """A new episode for every lane from ``low`` to ``high`` that ``lanes`` names."""
    for lane in range(low, high):
        if lanes[lane]:
            generate(cells[lane], numbers[:, lane], seeds[lane], params)


def mission(a: int, b: int, c: int, d: int) -> str:
    """MiniGrid's text: its ``a``-th beginning, colour ``b``, kind ``c``."""
    return f"{_WORDS[a]} {COLOURS[b]} {THINGS[c]}"


LEVELS = tuple(
    Level(
        name=f"Fetch-{size}x{size}-N{things}",
        base=f"MiniGrid-Fetch-{size}x{size}-N{things}-v0",
        width=size,
        height=size,
        horizon=5 * size**2,
        blocks=("agent", "wanted"),
        begin=begin,
        mission=mission,
        mission_sizes=(5, 6, 2),
        rule=FETCH,
        through=True,
        listed=things,
    )
    for size, things in ((5, 2), (6, 2), (8, 3))
)

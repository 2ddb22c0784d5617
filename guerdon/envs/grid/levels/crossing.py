"""LavaCrossing and SimpleCrossing: rivers of lava, or walls, with openings in them.

Rivers run along even columns and rows. A walk from corner to corner crosses each of
them once; where it does, there is the opening.

Reference: Farama MiniGrid, ``minigrid/envs/crossing.py``.
"""

from __future__ import annotations

from typing import Any

from guerdon.envs.grid.cells import EMPTY, GREEN_GOAL, GREY_WALL, LAVA
from guerdon.envs.grid.compiled import compiled
from guerdon.envs.grid.levels.base import Level, blank, integer, survey, wall_rect
from guerdon.envs.grid.levels.chance import shuffled
from guerdon.envs.grid.state import ACROSS, ARGUMENTS, GAP_CELL, POSITION, WIDTH


@compiled
def generate(cells: Any, state: Any, seed: Any, params: Any) -> None:
    """One new episode of one lane.

    The first argument is how many rivers there are, the second one the code of what
    flows in them.

    Args:
        cells: ``(H * W + 1,)`` uint8, of that lane.
        state: ``(K,)`` int32, the numbers of that lane.
        seed: of that lane.
        params: of the level.
    """
    size, rivers = int(params[WIDTH]), int(params[ARGUMENTS])
    blank(cells, state)
    wall_rect(cells, size, 0, 0, size, size)
    state[POSITION] = size + 1
    cells[(size - 2) * size + size - 2] = GREEN_GOAL
    places = (size - 3) // 2
    packed = 0
    for number in range(2 * places):
        packed |= number << (4 * number)
    packed = shuffled(state, seed, packed, 2 * places)
    # Bit x: a river runs along column x (or row y). The far wall ends the search.
    columns = rows = 1 << (size - 1)
    for index in range(rivers):
        number = (packed >> (4 * index)) & 15
        along = 2 * (number % places) + 2
        if number < places:
            columns |= 1 << along
        else:
            rows |= 1 << along
        for cell in range(1, size - 1):
            place = cell * size + along if number < places else along * size + cell
            cells[place] = params[ARGUMENTS + 1]
    opened = _open_ways(cells, state, seed, size, columns, rows, rivers)
    if rivers == 1 and params[ARGUMENTS + 1] == LAVA:
        state[GAP_CELL] = opened
        state[ACROSS] = 0 if columns & (columns - 1) else 1
    survey(cells, state, params)


@compiled
def _open_ways(
    cells: Any, state: Any, seed: Any, size: Any, columns: Any, rows: Any, rivers: Any
) -> Any:
    """Walk right and down in a random order, and open what is crossed.

    Returns:
        The cell that was opened last.
    """
    across = 0
    for x in range(2, size - 1):
        across += (columns >> x) & 1
    path = 0
    for step in range(across):
        path |= 1 << (4 * step)
    path = shuffled(state, seed, path, rivers)
    left = top = place = 0
    right, bottom = _next(columns, left), _next(rows, top)
    for step in range(rivers):
        if (path >> (4 * step)) & 1:
            place = integer(state, seed, top + 1, bottom) * size + right
            left, right = right, _next(columns, right)
        else:
            place = bottom * size + integer(state, seed, left + 1, right)
            top, bottom = bottom, _next(rows, bottom)
        cells[place] = EMPTY
    return place


@compiled
def _next(bits: Any, after: Any) -> Any:
    """The first set bit above ``after``, which must not be the last one."""
    place = after + 1
    while (bits >> place) & 1 == 0:
        place += 1
    return place


@compiled
def begin(
    lanes: Any, cells: Any, numbers: Any, seeds: Any, params: Any, low: Any, high: Any
) -> None:
    """A new episode for every lane from ``low`` to ``high`` that ``lanes`` names."""
    for lane in range(low, high):
        if lanes[lane]:
            generate(cells[lane], numbers[:, lane], seeds[lane], params)


def avoid_lava(a: int, b: int, c: int, d: int) -> str:
    """MiniGrid's text for lava."""
    return "avoid the lava and get to the green goal square"


def find_opening(a: int, b: int, c: int, d: int) -> str:
    """MiniGrid's text for walls."""
    return "find the opening and get to the green goal square"


LEVELS = tuple(
    Level(
        name=f"{kind}CrossingS{size}N{rivers}",
        base=f"MiniGrid-{kind}CrossingS{size}N{rivers}-v0",
        width=size,
        height=size,
        horizon=4 * size**2,
        blocks=("agent", "goal", *sees[rivers > 1 :][:1]),
        begin=begin,
        mission=mission,
        arguments=(rivers, code),
    )
    for kind, code, mission, sees in (
        # Of several rivers no single gap can be told.
        ("Lava", LAVA, avoid_lava, ("lava", "hazard")),
        ("Simple", GREY_WALL, find_opening, ()),
    )
    for size, rivers in ((9, 1), (9, 2), (9, 3), (11, 5))
)

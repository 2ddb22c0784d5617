"""What a level is, and the strokes with which a generator draws one.

To add a level, write a module like ``doorkey``:

1. ``generate(cells, state, seed, params)``: one new episode of one lane. It starts with
   ``blank``, draws with the functions of this module, sets ``state[POSITION]`` and
   ``state[DIRECTION]``, ends with ``survey``, and sets the marks that its rule or its
   features need (see ``state``). Its arguments are in ``params[ARGUMENTS + i]``.
2. ``begin(lanes, cells, numbers, seeds, params, low, high)``: ``generate`` for each
   lane of a range that ``lanes`` names; the same few lines in every module.
3. ``LEVELS``: one ``Level`` a configuration. Add the module to ``levels/__init__``.

A generator uses its random integers in the order in which MiniGrid uses them, with the
same bounds. MiniGrid played on our numbers then makes the same level, cell for cell,
and a test says so for every level; it is also why the distributions are MiniGrid's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import product
from typing import Any

from guerdon.envs.grid.cells import (
    DOOR_CLOSED,
    DOOR_LOCKED,
    DOOR_OPEN,
    DRAWN_COLOURS,
    EMPTY,
    GOAL,
    GREY_WALL,
    KEY,
    NOTHING,
)
from guerdon.envs.grid.compiled import compiled
from guerdon.envs.grid.random import integer
from guerdon.envs.grid.state import (
    CARRYING,
    COUNT,
    DIRECTION,
    DOOR_CELL,
    DRAWS,
    GOAL_CELL,
    HEIGHT,
    KEY_CELL,
    MARKS,
    MISSION,
    NOWHERE,
    OPENED,
    OVER,
    POSITION,
    ROOM_COUNT,
    STEPS,
    WIDTH,
)

# Rules: what ends an episode besides MiniGrid's goal, lava and limit of steps.
PLAIN = 0
PICK_UP = 1
"""Won by picking up the thing of ``TARGET_CELL``."""
UNLOCK = 2
"""Won by toggling when the door of ``DOOR_CELL`` is open."""
FETCH = 3
"""Won by holding ``WANTED``, lost by holding anything else."""
GO_TO = 4
"""Won by the action ``done`` next to ``AIM_CELL``, lost by it elsewhere, or by toggling
anything."""
PUT_NEAR = 5
"""Won by dropping ``WANTED`` next to ``AIM_CELL``, lost by dropping it elsewhere, or by
picking up anything else."""
RED_BLUE = 6
"""Won by opening the door of ``AIM_CELL`` after that of ``TRAP_CELL``."""
MEMORY = 7
"""Won on ``AIM_CELL``, lost on ``TRAP_CELL``; picking up is toggling."""
OBSTACLES = 8
"""The listed balls move at random; a walk into a ball or a wall costs 1 and ends it."""

MOST_ARGUMENTS = 8


@dataclass(frozen=True, kw_only=True)
class Level:
    """One configuration of a kind of level.

    Args:
        name: as in our ids, ``DoorKey-8x8``.
        base: MiniGrid's id.
        keywords: what MiniGrid's own environment of that id is made with, by name; for
            levels that MiniGrid has, but does not register.
        width: columns, walls included.
        height: rows, walls included.
        horizon: MiniGrid's ``max_steps``.
        blocks: what a reward may see, by blocks of ``minigrid_features``.
        begin: the compiled function that begins episodes.
        mission: makes MiniGrid's text of four numbers, those of ``MISSION``.
        mission_sizes: how many values each number of the mission has.
        rule: one of the rules of this module.
        through: whether the agent sees through walls.
        room_size: MiniGrid's ``room_size``, 0 where a level has none.
        doors: largest number of doors.
        listed: largest number of cells in the list of marks.
        rooms: largest number of rooms that the marks hold.
        arguments: up to eight integers for the generator.
        actions: how many of the seven actions the level takes.

    Raises:
        ValueError: for a grid that is too large for the state, or too many arguments.
    """

    name: str
    base: str
    width: int
    height: int
    horizon: int
    blocks: tuple[str, ...]
    begin: Callable[..., Any]
    mission: Callable[[int, int, int, int], str]
    mission_sizes: tuple[int, ...] = ()
    rule: int = PLAIN
    through: bool = False
    room_size: int = 0
    doors: int = 0
    listed: int = 0
    rooms: int = 0
    arguments: tuple[int, ...] = field(default=())
    actions: int = 7
    keywords: tuple[tuple[str, int], ...] = ()

    def __post_init__(self) -> None:
        if len(self.arguments) > MOST_ARGUMENTS:
            raise ValueError(
                f"level {self.name}: expected at most {MOST_ARGUMENTS} arguments, got "
                f"{len(self.arguments)}"
            )
        if self.width * self.height >= -NOWHERE // 2:
            raise ValueError(f"level {self.name}: the grid is too large")

    def missions(self) -> Iterator[tuple[tuple[int, int, int, int], str]]:
        """Every mission of the level, as its numbers and its text."""
        for given in product(*(range(size) for size in self.mission_sizes)):
            a, b, c, d = (*given, 0, 0, 0, 0)[:4]
            yield (a, b, c, d), self.mission(a, b, c, d)


@compiled
def blank(cells: Any, state: Any) -> None:
    """An empty grid without an agent, and a count of draws that starts at 0.

    Args:
        cells: ``(H * W + 1,)`` uint8, of one lane.
        state: ``(K,)`` int32, the numbers of one lane. Its episode is kept.
    """
    for cell in range(len(cells) - 1):
        cells[cell] = EMPTY
    cells[len(cells) - 1] = GREY_WALL
    state[POSITION] = NOWHERE
    state[DIRECTION] = 0
    state[CARRYING] = NOTHING
    state[STEPS] = 0
    state[DRAWS] = 0
    state[OVER] = 0
    for row in range(MISSION, MARKS):
        state[row] = 0
    for row in range(MARKS, len(state)):
        state[row] = NOWHERE
    state[OPENED] = 0
    state[COUNT] = 0
    state[ROOM_COUNT] = 0


@compiled
def wall_rect(
    cells: Any, columns: Any, left: Any, top: Any, width: Any, height: Any
) -> None:
    """Walls around a rectangle of ``width`` by ``height`` cells.

    Args:
        cells: of one lane.
        columns: width of the whole grid.
        left: first column of the rectangle.
        top: first row of the rectangle.
        width: of the rectangle, walls included.
        height: of the rectangle, walls included.
    """
    for x in range(left, left + width):
        cells[top * columns + x] = GREY_WALL
        cells[(top + height - 1) * columns + x] = GREY_WALL
    for y in range(top, top + height):
        cells[y * columns + left] = GREY_WALL
        cells[y * columns + left + width - 1] = GREY_WALL


@compiled
def wall_column(cells: Any, columns: Any, x: Any, top: Any, length: Any) -> None:
    """A wall of ``length`` cells from top to bottom (MiniGrid's ``vert_wall``)."""
    for y in range(top, top + length):
        cells[y * columns + x] = GREY_WALL


@compiled
def wall_row(cells: Any, columns: Any, left: Any, y: Any, length: Any) -> None:
    """A wall of ``length`` cells from left to right (MiniGrid's ``horz_wall``)."""
    for x in range(left, left + length):
        cells[y * columns + x] = GREY_WALL


@compiled
def larger(a: Any, b: Any) -> Any:
    """The larger of two numbers; numba's compiler for GPUs refuses ``max``."""
    return a if a > b else b


@compiled
def smaller(a: Any, b: Any) -> Any:
    """The smaller of two numbers; numba's compiler for GPUs refuses ``min``."""
    return a if a < b else b


@compiled
def free_cell(
    cells: Any,
    state: Any,
    seed: Any,
    params: Any,
    left: Any,
    top: Any,
    width: Any,
    height: Any,
) -> Any:
    """A random empty cell of a rectangle that is not the agent's.

    MiniGrid's ``place_obj``: column and row are drawn until a cell fits.

    Args:
        cells: of one lane.
        state: the numbers of that lane.
        seed: of that lane.
        params: of the level.
        left: first column; less than 0 counts as 0.
        top: first row; less than 0 counts as 0.
        width: of the rectangle; what is beyond the grid is cut off.
        height: of the rectangle; what is beyond the grid is cut off.

    Returns:
        The cell. Nothing is put there.
    """
    columns, rows = params[WIDTH], params[HEIGHT]
    left, top = larger(left, 0), larger(top, 0)
    right, bottom = smaller(left + width, columns), smaller(top + height, rows)
    while True:
        x = integer(state, seed, left, right)
        cell = integer(state, seed, top, bottom) * columns + x
        if cells[cell] == EMPTY and cell != state[POSITION]:
            return cell


@compiled
def place_agent(
    cells: Any,
    state: Any,
    seed: Any,
    params: Any,
    left: Any,
    top: Any,
    width: Any,
    height: Any,
) -> None:
    """Put the agent into a random empty cell of a rectangle, facing anywhere.

    Args:
        cells: of one lane.
        state: the numbers of that lane.
        seed: of that lane.
        params: of the level.
        left: first column of the rectangle.
        top: first row of the rectangle.
        width: of the rectangle.
        height: of the rectangle.
    """
    state[POSITION] = NOWHERE
    state[POSITION] = free_cell(cells, state, seed, params, left, top, width, height)
    state[DIRECTION] = integer(state, seed, 0, 4)


@compiled
def colour(state: Any, seed: Any) -> Any:
    """A random colour; drawn from their names in alphabetical order, as MiniGrid does.

    Args:
        state: the numbers of one lane.
        seed: of that lane.

    Returns:
        Its number, the index into ``cells.COLOURS``.
    """
    return DRAWN_COLOURS[integer(state, seed, 0, 6)]


@compiled
def survey(cells: Any, state: Any, params: Any) -> None:
    """Mark the key, the goal and the door, and count the open doors.

    Of several keys or goals it is the last one, row by row; of doors the first locked
    one, or the first one where none is locked: as ``minigrid_features`` finds them.

    Args:
        cells: of one lane, as the generator leaves them.
        state: the numbers of that lane.
        params: of the level.
    """
    first = locked = NOWHERE
    for cell in range(params[WIDTH] * params[HEIGHT]):
        code = cells[cell]
        if KEY <= code < KEY + 6:
            state[KEY_CELL] = cell
        elif GOAL <= code < GOAL + 6:
            state[GOAL_CELL] = cell
        elif DOOR_OPEN <= code < DOOR_OPEN + 6:
            state[OPENED] += 1
            first = cell if first == NOWHERE else first
        elif DOOR_CLOSED <= code < DOOR_CLOSED + 6:
            first = cell if first == NOWHERE else first
        elif DOOR_LOCKED <= code < DOOR_LOCKED + 6 and locked == NOWHERE:
            locked = cell
    state[DOOR_CELL] = first if locked == NOWHERE else locked


__all__ = [
    "Level",
    "blank",
    "colour",
    "free_cell",
    "integer",
    "larger",
    "place_agent",
    "smaller",
    "survey",
    "wall_column",
    "wall_rect",
    "wall_row",
]

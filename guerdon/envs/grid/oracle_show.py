"""What lanes show, in tensors: the images and features of the oracle.

Reference: Farama MiniGrid, ``Grid.process_vis``, ``MiniGridEnv.gen_obs_grid`` and
``FullyObsWrapper``.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch import Tensor

from guerdon.envs.grid.cells import (
    AGENT,
    BALL,
    BOX,
    DOOR_LOCKED,
    DOOR_OPEN,
    EMPTY,
    ENCODING,
    LAVA,
    NOTHING,
    OPAQUE,
    UNSEEN,
)
from guerdon.envs.grid.features import NAMES
from guerdon.envs.grid.state import (
    ACROSS,
    AIM_CELL,
    BLOCKS,
    CARRIED,
    CARRYING,
    COUNT,
    DIRECTION,
    DOOR_CELL,
    GAP_CELL,
    GOAL_CELL,
    GONE,
    HEIGHT,
    KEY_CELL,
    LIST,
    LISTED,
    OPENED,
    POSITION,
    ROOM_COUNT,
    ROOM_SIZE,
    TARGET_CELL,
    THROUGH,
    TRAP_CELL,
    VIEW,
    WANTED,
    WIDTH,
)
from guerdon.envs.grid.view import FULL
from guerdon.envs.minigrid_features import FACING


class Lanes:
    """Lanes ``low`` to ``high`` of a state as tensors over the same memory.

    Args:
        cells: ``(N, H * W + 1)`` uint8 array of the state; so are the next two.
        numbers: ``(K, N)`` int32.
        seeds: ``(N,)`` int64, None where nothing is drawn.
        params: of the level.
        low: first lane.
        high: the lane after the last one.
    """

    def __init__(
        self, cells: Any, numbers: Any, seeds: Any, params: Any, low: int, high: int
    ) -> None:
        self.cells = torch.from_numpy(cells[low:high])
        self.numbers = torch.from_numpy(numbers[:, low:high])
        self.seeds = torch.zeros(0) if seeds is None else torch.tensor(seeds[low:high])
        self.params: list[int] = params.tolist()
        self.each = torch.arange(high - low)

    def get(self, row: int) -> Tensor:
        """``(n,)`` int64: one quantity of every lane."""
        return self.numbers[row].long()

    def put(self, row: int, values: Tensor, where: Tensor) -> None:
        """Set one quantity of the lanes that ``where`` names."""
        self.numbers[row] = torch.where(where, values.int(), self.numbers[row])

    def code(self, cell: Tensor) -> Tensor:
        """``(n, ...)`` int64: what lies in a cell, or in several, of every lane."""
        flat = cell.reshape(len(cell), -1)
        return self.cells.gather(1, flat).reshape(cell.shape).long()

    def lay(self, cell: Tensor, code: Tensor, where: Tensor) -> None:
        """Put a code into a cell of the lanes that ``where`` names."""
        self.cells[self.each[where], cell[where]] = code[where].to(torch.uint8)

    def place(self, cell: Tensor) -> tuple[Tensor, Tensor]:
        """Column and row of a cell."""
        return cell % self.params[WIDTH], cell // self.params[WIDTH]

    def apart(self, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        """How far ``b`` is to the right of ``a``, and how far below it."""
        (ax, ay), (bx, by) = self.place(a), self.place(b)
        return bx - ax, by - ay

    def cell_at(self, x: Tensor, y: Tensor) -> Tensor:
        """The cell of a column and a row; outside of the grid, the last one."""
        width, height = self.params[WIDTH], self.params[HEIGHT]
        inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
        return torch.where(inside, y * width + x, width * height)

    def ahead(self) -> Tensor:
        """``(n,)`` the cell that the agent faces."""
        x, y = self.place(self.get(POSITION))
        facing = torch.tensor(FACING)[self.get(DIRECTION)]
        return self.cell_at(x + facing[:, 0], y + facing[:, 1])


def near(lanes: Lanes, a: Tensor, b: Tensor) -> Tensor:
    """Whether two cells touch, corners included, or are the same."""
    right, down = lanes.apart(a, b)
    return (right.abs() <= 1) & (down.abs() <= 1)


@cache
def _bytes() -> Tensor:
    """``(CODES, 3)`` uint8: object, colour and state of each code."""
    return torch.tensor(ENCODING)


def images(lanes: Lanes) -> Tensor:
    """What the agents see.

    Returns:
        ``(n, bytes)`` uint8: egocentric, from left to right and from far to near, or
        the whole grid, column by column.
    """
    size = lanes.params[VIEW]
    codes = _whole_grid(lanes) if size == FULL else _egocentric(lanes, size)
    return _bytes()[codes].flatten(1)


def _whole_grid(lanes: Lanes) -> Tensor:
    """``(n, W, H)`` codes with the agent among them."""
    codes = lanes.cells[:, :-1].long()
    codes[lanes.each, lanes.get(POSITION)] = AGENT + lanes.get(DIRECTION)
    grid = codes.reshape(-1, lanes.params[HEIGHT], lanes.params[WIDTH])
    return grid.transpose(1, 2)


def _egocentric(lanes: Lanes, size: int) -> Tensor:
    """``(n, size, size)`` codes: from left to right, then from far to near."""
    x, y = (part[:, None, None] for part in lanes.place(lanes.get(POSITION)))
    facing = torch.tensor(FACING)[lanes.get(DIRECTION)]
    ahead_x, ahead_y = facing[:, 0, None, None], facing[:, 1, None, None]
    aside = (torch.arange(size) - size // 2)[None, :, None]
    away = torch.arange(size - 1, -1, -1)[None, None, :]
    # The agent's right hand is a quarter turn from where it faces.
    column = x + ahead_x * away - ahead_y * aside
    row = y + ahead_y * away + ahead_x * aside
    codes = lanes.code(lanes.cell_at(column, row))
    if not lanes.params[THROUGH]:
        codes = torch.where(_visible(codes), codes, UNSEEN)
    held = lanes.get(CARRYING)
    codes[:, size // 2, size - 1] = torch.where(held == NOTHING, EMPTY, held)
    return codes


def _visible(codes: Tensor) -> Tensor:
    """MiniGrid's ``process_vis``, for many views at once.

    Args:
        codes: ``(n, size, size)``, the agent in the middle of the last line.

    Returns:
        ``(n, size, size)`` bool.
    """
    size = codes.shape[1]
    seen = torch.zeros_like(codes, dtype=torch.bool)
    seen[:, size // 2, size - 1] = True
    clear = ~torch.tensor(OPAQUE)[codes]
    for j in range(size - 1, -1, -1):
        for way, columns in ((1, range(size - 1)), (-1, range(size - 1, 0, -1))):
            for i in columns:
                spreads = seen[:, i, j] & clear[:, i, j]
                seen[:, i + way, j] |= spreads
                if j > 0:
                    seen[:, i + way, j - 1] |= spreads
                    seen[:, i, j - 1] |= spreads
    return seen


def feature_rows(lanes: Lanes) -> Tensor:
    """``(n, W)`` float32: the features of the level's blocks, one after the other."""
    count = lanes.params[BLOCKS]
    blocks = lanes.params[BLOCKS + 1 : BLOCKS + 1 + count]
    columns = [column for block in blocks for column in _READERS[NAMES[block]](lanes)]
    return torch.stack([column.float() for column in columns], dim=1)


def _distance(lanes: Lanes, cell: Tensor) -> Tensor:
    right, down = lanes.apart(lanes.get(POSITION), cell)
    return right.abs() + down.abs()


def _agent(lanes: Lanes) -> list[Tensor]:
    facing = torch.tensor(FACING)[lanes.get(DIRECTION)]
    return [*lanes.place(lanes.get(POSITION)), facing[:, 0], facing[:, 1]]


def _goal(lanes: Lanes) -> list[Tensor]:
    distance = _distance(lanes, lanes.get(GOAL_CELL))
    return [distance, distance == 0]


def _thing(lanes: Lanes, mark: Tensor) -> list[Tensor]:
    """Of a thing that can be carried; one that is gone is where it was."""
    cell = torch.where(mark <= GONE, GONE - mark, mark)
    carried = mark == CARRIED
    distance = torch.where(carried, 0, _distance(lanes, cell))
    return [distance, mark == lanes.ahead(), carried]


def _box(lanes: Lanes) -> list[Tensor]:
    mark = lanes.get(TARGET_CELL)
    return [*_thing(lanes, mark), mark <= GONE]


def _is_open(code: Tensor) -> Tensor:
    return (code >= DOOR_OPEN) & (code < DOOR_OPEN + 6)


def _door(lanes: Lanes) -> list[Tensor]:
    door, position = lanes.get(DOOR_CELL), lanes.get(POSITION)
    right, _ = lanes.apart(door, position)
    inside = right > 0
    if lanes.params[ROOM_SIZE] > 0:
        side = lanes.params[ROOM_SIZE] - 1
        (_, y), (_, door_y) = lanes.place(position), lanes.place(door)
        inside &= (y // side == door_y // side) & (y % side != 0)
    return [*_lock(lanes), inside]


def _lock(lanes: Lanes) -> list[Tensor]:
    door = lanes.get(DOOR_CELL)
    code = lanes.code(door)
    locked = (code >= DOOR_LOCKED) & (code < DOOR_LOCKED + 6)
    return [_distance(lanes, door), lanes.ahead() == door, ~locked, _is_open(code)]


def _two_doors(lanes: Lanes) -> list[Tensor]:
    columns = []
    for mark in (TRAP_CELL, AIM_CELL):
        door = lanes.get(mark)
        is_open = _is_open(lanes.code(door))
        columns += [_distance(lanes, door), lanes.ahead() == door, is_open]
    return columns


def _rooms(lanes: Lanes) -> list[Tensor]:
    x, y = lanes.place(lanes.get(POSITION))
    first = LIST + lanes.params[LISTED]
    number = torch.zeros_like(x)
    for index in range((len(lanes.numbers) - first) // 4):
        left, top, width, height = (lanes.get(first + 4 * index + k) for k in range(4))
        within = (x >= left) & (x < left + width) & (y >= top) & (y < top + height)
        within &= index < lanes.get(ROOM_COUNT)
        number = torch.where(within, index, number)
    distance, ahead = torch.zeros_like(x), torch.zeros_like(x)
    passed = torch.ones_like(x)
    # From the last door to the first one, so that the first one that is shut stays.
    for index in range(lanes.params[LISTED] - 1, -1, -1):
        door = lanes.get(LIST + index)
        shut = (index < lanes.get(COUNT)) & ~_is_open(lanes.code(door.clamp(min=0)))
        distance = torch.where(shut, _distance(lanes, door), distance)
        ahead = torch.where(shut, (lanes.ahead() == door).long(), ahead)
        passed = torch.where(shut, 0, passed)
    return [number, lanes.get(OPENED), distance, ahead, passed]


def _hazard(lanes: Lanes) -> list[Tensor]:
    here = lanes.code(lanes.get(POSITION))
    return [lanes.code(lanes.ahead()) == LAVA, here == LAVA]


def _lava(lanes: Lanes) -> list[Tensor]:
    gap, position = lanes.get(GAP_CELL), lanes.get(POSITION)
    right, down = lanes.apart(gap, position)
    beyond = torch.where(lanes.get(ACROSS) == 0, right, down) > 0
    return [*_hazard(lanes), _distance(lanes, gap), beyond]


def _obstacles(lanes: Lanes) -> list[Tensor]:
    code = lanes.code(lanes.ahead())
    return [(code >= BALL) & (code < BOX)]


def _ends(lanes: Lanes) -> list[Tensor]:
    distance = _distance(lanes, lanes.get(AIM_CELL))
    wrong = lanes.get(POSITION) == lanes.get(TRAP_CELL)
    return [distance, distance == 0, wrong]


def _aim(lanes: Lanes) -> list[Tensor]:
    aim = lanes.get(AIM_CELL)
    return [_distance(lanes, aim), lanes.ahead() == aim]


def _wanted(lanes: Lanes) -> list[Tensor]:
    wanted = lanes.get(WANTED)
    carried = lanes.get(CARRYING) == wanted
    cells = lanes.cells[:, :-1].long()
    (x, y), (columns, rows) = (
        lanes.place(lanes.get(POSITION)[:, None]),
        lanes.place(torch.arange(cells.shape[1])[None]),
    )
    far = lanes.params[WIDTH] + lanes.params[HEIGHT]
    distance = (columns - x).abs() + (rows - y).abs()
    nearest = torch.where(cells == wanted[:, None], distance, far).amin(1)
    ahead = lanes.code(lanes.ahead()) == wanted
    return [torch.where(carried, 0, nearest), ahead, carried]


_READERS = {
    "agent": _agent,
    "goal": _goal,
    "key": lambda lanes: _thing(lanes, lanes.get(KEY_CELL)),
    "door": _door,
    "ball": lambda lanes: _thing(lanes, lanes.get(TARGET_CELL)),
    "box": _box,
    "doors": lambda lanes: [lanes.get(OPENED)],
    "rooms": _rooms,
    "lava": _lava,
    "hazard": _hazard,
    "obstacles": _obstacles,
    "lock": _lock,
    "ends": _ends,
    "aim": _aim,
    "object": lambda lanes: _thing(lanes, lanes.get(TARGET_CELL)),
    "wanted": _wanted,
    "two doors": _two_doors,
}

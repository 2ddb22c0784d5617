"""What the engine is given, checked once and turned into what the kernels take."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from gymnasium import spaces

from guerdon.envs.arrays import Arrays
from guerdon.envs.grid.cells import (
    BEYOND_PICKABLE,
    CODES,
    EMPTY,
    ENCODING,
    GREY_WALL,
)
from guerdon.envs.grid.features import NAMES
from guerdon.envs.grid.levels.base import OBSTACLES, RED_BLUE, UNLOCK, Level
from guerdon.envs.grid.rules import ACTIONS
from guerdon.envs.grid.state import (
    AIM_CELL,
    ARGUMENTS,
    AUTORESET,
    BLOCKS,
    CARRYING,
    COUNT,
    DIRECTION,
    DOOR_CELL,
    DRAWS,
    EPISODE,
    GAP_CELL,
    GOAL_CELL,
    GONE,
    HEIGHT,
    HORIZON,
    KEY_CELL,
    LIST,
    LISTED,
    NOWHERE,
    OVER,
    PARAMS,
    POSITION,
    RECIPROCAL,
    ROOM_COUNT,
    ROOM_SIZE,
    RULE,
    STEPS,
    TARGET_CELL,
    THROUGH,
    TRAP_CELL,
    VIEW,
    WIDTH,
    State,
)
from guerdon.envs.grid.view import FULL, SIZES
from guerdon.envs.minigrid_blocks import describe
from guerdon.types import Array, Layout


def layout_of(level: Level, blocks: Sequence[str]) -> Layout:
    """The features of a level's blocks."""
    size = (level.width, level.height, level.doors)
    return Layout([f for block in blocks for f in describe(block, *size)])


def image_space(shape: tuple[int, int, int]) -> spaces.Box:
    """The space of an image, with the bounds that its three channels really have."""
    bound = np.broadcast_to(ENCODING.max(axis=0), shape)
    return spaces.Box(np.zeros_like(bound), bound.copy(), dtype=np.uint8)


def params_of(level: Level, blocks: Sequence[str], view: int, mode: int) -> np.ndarray:
    """``(PARAMS,)`` int32: what all lanes of an engine share."""
    params = np.zeros(PARAMS, np.int32)
    params[WIDTH], params[HEIGHT] = level.width, level.height
    params[HORIZON], params[RULE] = level.horizon, level.rule
    params[THROUGH], params[ROOM_SIZE] = level.through, level.room_size
    params[LISTED], params[VIEW], params[AUTORESET] = level.listed, view, mode
    params[ARGUMENTS : ARGUMENTS + len(level.arguments)] = level.arguments
    params[RECIPROCAL] = -(-(1 << 20) // level.width)
    params[BLOCKS] = len(blocks)
    numbers = [NAMES.index(block) for block in blocks]
    params[BLOCKS + 1 : BLOCKS + 1 + len(blocks)] = numbers
    params.flags.writeable = False
    return params


def view_of(view: Any) -> int:
    """The size of a view, ``FULL`` for the whole grid.

    Raises:
        ValueError: for a view that is not supported; names those that are.
    """
    if isinstance(view, str) and view == "full":
        return FULL
    if isinstance(view, int) and not isinstance(view, bool) and view in SIZES:
        return view
    sizes = ", ".join(map(str, SIZES))
    raise ValueError(f"view: expected one of {sizes} or 'full', got {view!r}")


def blocks_of(level: Level, blocks: Sequence[str] | None) -> tuple[str, ...]:
    """The blocks of features to compute.

    Raises:
        TypeError: for a text in place of a list of texts.
        ValueError: for a block that is unknown, named twice, or of things that the
            level does not have.
    """
    if blocks is None:
        return level.blocks
    if isinstance(blocks, str):
        raise TypeError(f"blocks: expected a list of texts, got {blocks!r}")
    chosen = tuple(blocks)
    if len(set(chosen)) < len(chosen) or not set(chosen) <= set(level.blocks):
        raise ValueError(
            f"blocks: {level.name} has {', '.join(level.blocks)}, each at most once; "
            f"got {', '.join(map(str, chosen)) or 'none'}"
        )
    return chosen


def actions_of(actions: Any, num_envs: int) -> np.ndarray:
    """``(N,)`` actions; whether they are in 0 to 6, the kernel looks at.

    Raises:
        TypeError: for anything but integers.
        ValueError: for another shape.
    """
    given = np.asarray(actions)
    if given.dtype.kind not in "iu":
        raise TypeError(f"actions: expected integers, got {given.dtype}")
    if given.dtype == np.uint64 and given.size and given.max() >= ACTIONS:
        refuse_actions(given)
    if given.shape != (num_envs,):
        raise ValueError(f"actions: expected shape ({num_envs},), got {given.shape}")
    return given


def refuse_actions(actions: np.ndarray) -> None:
    """Name the first action that is none.

    Raises:
        ValueError: always.
    """
    bad = np.nonzero((actions < 0) | (actions >= ACTIONS))[0]
    raise ValueError(
        f"actions: expected 0 to {ACTIONS - 1}, got {actions[bad[0]]} in lane {bad[0]}"
    )


def seeds_of(seeds: Any, num_envs: int) -> np.ndarray:
    """``(N,)`` int64 seeds.

    Raises:
        TypeError: for anything but integers.
        ValueError: for another shape, or a seed below 0 or above 2^63 - 1.
    """
    given = np.asarray(seeds)
    if given.dtype.kind not in "iu":
        raise TypeError(f"seeds: expected integers, got {given.dtype}")
    if given.shape != (num_envs,):
        raise ValueError(f"seeds: expected shape ({num_envs},), got {given.shape}")
    if given.size and (given.min() < 0 or given.max() > np.iinfo(np.int64).max):
        raise ValueError(
            f"seeds: expected 0 to 2^63 - 1, got {given.min()} to {given.max()}"
        )
    return given.astype(np.int64)


def lanes_of(lanes: Any, num_envs: int) -> np.ndarray:
    """``(N,)`` bool, which lanes; None means all.

    Raises:
        TypeError: for anything but booleans.
        ValueError: for another shape.
    """
    if lanes is None:
        return np.ones(num_envs, np.bool_)
    given = np.array(lanes)
    if given.dtype != np.bool_:
        raise TypeError(f"lanes: expected booleans, got {given.dtype}")
    if given.shape != (num_envs,):
        raise ValueError(f"lanes: expected shape ({num_envs},), got {given.shape}")
    return given


def expect_arrays(out: Any, own: Arrays) -> Arrays:
    """Refuse arrays that the kernels could not write to.

    Raises:
        TypeError: when ``out`` is no Arrays, or an array has another dtype.
        ValueError: for another shape, or an array that is read-only or not contiguous.
    """
    if not isinstance(out, Arrays):
        raise TypeError(f"out: expected Arrays, got {type(out).__name__}")
    for name, given, like in zip(Arrays._fields, out, own, strict=True):
        if not isinstance(given, np.ndarray) or given.dtype != like.dtype:
            kind = getattr(given, "dtype", type(given).__name__)
            raise TypeError(f"out: {name}: expected {like.dtype}, got {kind}")
        if given.shape != like.shape:
            raise ValueError(
                f"out: {name}: expected shape {like.shape}, got {given.shape}"
            )
        if not given.flags.carray:
            raise ValueError(f"out: {name}: expected a contiguous array to write to")
    return out


def expect_valid(state: Any, own: State, params: np.ndarray) -> None:
    """Refuse a state that an engine could not go on from.

    The kernels use what they read as places in arrays, so nothing that points outside
    of a grid may come in.

    Args:
        state: what is to be loaded.
        own: the state of the engine.
        params: of the engine's level.

    Raises:
        TypeError: when ``state`` is no State, or an array has another dtype.
        ValueError: for other shapes, or for values that no state has.
    """
    if not isinstance(state, State):
        raise TypeError(f"state: expected a State, got {type(state).__name__}")
    for name, given, like in zip(State._fields, state, own, strict=True):
        if not isinstance(given, np.ndarray) or given.dtype != like.dtype:
            kind = getattr(given, "dtype", type(given).__name__)
            raise TypeError(f"state: {name}: expected {like.dtype}, got {kind}")
        if given.shape != like.shape:
            raise ValueError(
                f"state: {name}: expected shape {like.shape}, got {given.shape}"
            )
    _expect_in("cells", state.cells[:, :-1], EMPTY, CODES - 1)
    _expect_in("the last cell", state.cells[:, -1], GREY_WALL, GREY_WALL)
    _expect_in("seeds", state.seeds, 0, np.iinfo(np.int64).max)
    last = own.cells.shape[1] - 2
    for name, row, low, high in (
        ("position", POSITION, 0, last),
        ("direction", DIRECTION, 0, 3),
        ("carrying", CARRYING, 0, BEYOND_PICKABLE - 1),
        ("steps", STEPS, 0, params[HORIZON]),
        ("episode", EPISODE, 0, None),
        ("draws", DRAWS, 0, None),
        ("over", OVER, 0, 1),
        ("count", COUNT, 0, params[LISTED]),
        ("rooms", ROOM_COUNT, 0, (len(state.numbers) - LIST - params[LISTED]) // 4),
    ):
        _expect_in(name, state.numbers[row], low, high)
    _expect_marks(state.numbers, params, last)


def _expect_marks(numbers: Array, params: Array, last: int) -> None:
    """Refuse marks that are no cells; one that is looked up must be there, too."""
    cells = [KEY_CELL, TARGET_CELL, GOAL_CELL, DOOR_CELL, GAP_CELL, AIM_CELL, TRAP_CELL]
    marks = numbers[[*cells, *range(LIST, LIST + params[LISTED])]]
    _expect_in("marks", np.where(marks == NOWHERE, 0, marks), GONE - last, last)
    looked_up = []
    blocks = params[BLOCKS + 1 : BLOCKS + 1 + params[BLOCKS]]
    locks = {NAMES.index("door"), NAMES.index("lock")}
    if params[RULE] == UNLOCK or locks.intersection(blocks.tolist()):
        looked_up.append(DOOR_CELL)
    if params[RULE] == RED_BLUE:
        looked_up += [AIM_CELL, TRAP_CELL]
    for row in looked_up:
        _expect_in("marks", numbers[row], 0, last)
    for index in range(params[LISTED]):
        listed = numbers[LIST + index][numbers[COUNT] > index]
        _expect_in("list", listed, 0, last)
        if params[RULE] == OBSTACLES:
            # A step looks at every cell around an obstacle.
            width, height = params[WIDTH], params[HEIGHT]
            _expect_in("column of an obstacle", listed % width, 1, width - 2)
            _expect_in("row of an obstacle", listed // width, 1, height - 2)


def _expect_in(name: str, values: np.ndarray, low: int, high: Any) -> None:
    top = np.iinfo(values.dtype).max if high is None else high
    if values.size and (values.min() < low or values.max() > top):
        raise ValueError(
            f"state: {name}: expected {low} to {top}, got {values.min()} to "
            f"{values.max()}"
        )

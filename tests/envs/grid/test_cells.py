from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from minigrid.core.world_object import Door, Key

from guerdon.envs.grid.cells import (
    AGENT,
    BALL,
    BOX,
    CODES,
    DOOR_CLOSED,
    DOOR_LOCKED,
    DOOR_OPEN,
    EMPTY,
    ENCODING,
    GREY_WALL,
    KEY,
    LAVA,
    OPAQUE,
    PICKABLE,
    WALKABLE,
    YELLOW,
    code_of,
    toggled,
)
from guerdon.envs.grid.export import code_of_thing, thing_of

THINGS = [code for code in range(EMPTY + 1, CODES) if not AGENT <= code < AGENT + 4]
CARRIED = [0, *range(KEY, AGENT)]


@pytest.mark.parametrize("code", THINGS)
def test_every_code_says_of_its_thing_what_minigrid_says(code: int) -> None:
    thing = thing_of(code)
    assert tuple(ENCODING[code]) == thing.encode()
    assert WALKABLE[code] == thing.can_overlap()
    assert PICKABLE[code] == thing.can_pickup()
    assert OPAQUE[code] == (not thing.see_behind())
    assert code_of_thing(thing) == code


def toggled_by_minigrid(code: int, carrying: int) -> int:
    """What MiniGrid's own object becomes, in a grid of one cell."""
    cell: list[Any] = [thing_of(code)]
    held = thing_of(carrying) if carrying else None
    grid = SimpleNamespace(set=lambda x, y, thing: cell.__setitem__(0, thing))
    cell[0].toggle(SimpleNamespace(carrying=held, grid=grid), (0, 0))
    return code_of_thing(cell[0])


def test_toggling_equals_minigrids_for_every_thing_and_everything_carried() -> None:
    for code in THINGS:
        for carrying in CARRIED if code < AGENT or code >= DOOR_LOCKED else (0, KEY):
            assert toggled(code, carrying) == toggled_by_minigrid(code, carrying)


def test_a_box_with_a_key_becomes_that_key() -> None:
    box = code_of("box", "grey", content=KEY + YELLOW)
    assert toggled(box, 0) == KEY + YELLOW
    assert toggled(code_of("box", "grey"), 0) == EMPTY


def test_codes_of_words_and_of_objects_agree() -> None:
    assert code_of_thing(None) == EMPTY
    assert code_of_thing(Door("red", is_locked=True)) == DOOR_LOCKED
    assert (
        code_of_thing(Door("red", is_open=True)) == DOOR_OPEN == code_of("door", "red")
    )
    assert code_of("door", "red", 1) == DOOR_CLOSED
    assert code_of_thing(Key("yellow")) == KEY + YELLOW
    assert code_of("wall", "grey") == GREY_WALL
    assert code_of("lava", "red") == LAVA


@pytest.mark.parametrize(
    ("kind", "colour", "content"),
    [("agent", "red", 0), ("key", "pink", 0), ("box", "red", BALL), ("", "red", 0)],
)
def test_a_thing_without_a_code_is_refused(
    kind: str, colour: str, content: int
) -> None:
    with pytest.raises(ValueError, match="cell: expected"):
        code_of(kind, colour, content=content)


def test_boxes_are_all_there() -> None:
    assert AGENT - BOX == 6 * 7

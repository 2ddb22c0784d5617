"""Keys, balls and boxes that lie about, as Fetch, GoToObject and PutNear draw them.

While such a level is made, the list of marks holds the cells of its things.
"""

from __future__ import annotations

from typing import Any

from guerdon.envs.grid.cells import BALL, BOX, CONTENTS, KEY
from guerdon.envs.grid.compiled import compiled
from guerdon.envs.grid.levels.base import colour, integer
from guerdon.envs.grid.state import LIST, LISTED, NOWHERE

THINGS = ("key", "ball", "box")
"""Kinds in the order of their numbers here."""


@compiled
def make_thing(kind: Any, paint: Any) -> Any:
    """The code of a thing by its kind (an index into ``THINGS``) and its colour."""
    if kind == 0:
        return KEY + paint
    if kind == 1:
        return BALL + paint
    return BOX + CONTENTS * paint


@compiled
def kind_of(code: Any) -> Any:
    """The kind of a thing, an index into ``THINGS``."""
    if code >= BOX:
        return 2
    return 1 if code >= BALL else 0


@compiled
def colour_of(code: Any) -> Any:
    """The colour of a thing, an index into ``cells.COLOURS``."""
    if code >= BOX:
        return (code - BOX) // CONTENTS
    return code - BALL if code >= BALL else code - KEY


@compiled
def new_thing(cells: Any, state: Any, seed: Any, count: Any) -> Any:
    """The code of a random thing that is unlike the first ``count`` of the list."""
    while True:
        kind = integer(state, seed, 0, 3)
        thing = make_thing(kind, colour(state, seed))
        taken = False
        for index in range(count):
            if cells[state[LIST + index]] == thing:
                taken = True
        if not taken:
            return thing


@compiled
def forget_list(state: Any, params: Any) -> None:
    """Clear the list: no rule asks where things lie once the level is made."""
    for index in range(params[LISTED]):
        state[LIST + index] = NOWHERE

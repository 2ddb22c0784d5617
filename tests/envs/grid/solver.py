"""A player that finds its way by breadth-first search on MiniGrid's own grid.

It fetches keys, opens boxes and doors, clears balls out of the way and ends most levels
as they are meant to be ended, so that parity is tested where random actions never come.
"""

from __future__ import annotations

from collections import deque
from typing import Any

import numpy as np

LEFT, RIGHT, FORWARD, PICKUP, DROP, TOGGLE, DONE = range(7)
STEPS = ((1, 0), (0, 1), (-1, 0), (0, -1))

Cell = tuple[int, int]


class Solver:
    """The next action for an unwrapped MiniGrid environment; random where lost."""

    def __init__(self, raw: Any, rng: np.random.Generator) -> None:
        self.raw, self.rng = raw, rng
        self.plan: list[int] = []

    def act(self) -> int:
        if not self.plan:
            self.plan = self.think()
        return self.plan.pop(0)

    def think(self) -> list[int]:
        """The next actions, at least one."""
        raw = self.raw
        for cell, action, on in self.aims():
            found = self.path(cell, on)
            if found is not None:
                return [*found, action]
        if raw.carrying is not None and raw.carrying.type != "key":
            return [self.drop()]
        # What is in the way and what is needed is left to chance.
        for index in self.rng.permutation(len(self.things())):
            cell, thing = self.things()[index]
            if thing.type not in ("key", "ball", "box"):
                continue
            hidden = thing.type == "box" and thing.contains is not None
            if hidden or raw.carrying is None:
                found = self.path(cell, False)
                if found is not None:
                    return [*found, TOGGLE if hidden else PICKUP]
        if raw.carrying is not None:
            return [self.drop()]
        return [int(self.rng.integers(7))]

    def things(self) -> list[tuple[Cell, Any]]:
        grid = self.raw.grid
        return [
            ((i % grid.width, i // grid.width), thing)
            for i, thing in enumerate(grid.grid)
            if thing is not None and thing.type not in ("wall", "lava")
        ]

    def aims(self) -> list[tuple[Cell, int, bool]]:
        """Cells to come to, what to do there, and whether to stand on them."""
        raw, things = self.raw, self.things()
        held = raw.carrying
        aims: list[tuple[Cell, int, bool]] = []
        if hasattr(raw, "success_pos"):
            return [(raw.success_pos, FORWARD, True)]
        if hasattr(raw, "red_door"):
            first = raw.blue_door if raw.red_door.is_open else raw.red_door
            return [(cell, TOGGLE, False) for cell, thing in things if thing is first]
        if hasattr(raw, "move_pos"):
            return self.put_near()
        if hasattr(raw, "target_pos"):
            return [(tuple(map(int, raw.target_pos)), DONE, False)]
        for cell, thing in things:
            wanted = (getattr(raw, "targetType", 0), getattr(raw, "targetColor", 0))
            if thing is getattr(raw, "obj", 0) or (thing.type, thing.color) == wanted:
                if held is None:
                    aims.append((cell, PICKUP, False))
            elif thing.type == "goal":
                aims.append((cell, FORWARD, True))
        for cell, thing in things:
            if thing.type == "door" and thing.is_locked and self.opens(thing):
                aims.append((cell, TOGGLE, False))
        return aims

    def put_near(self) -> list[tuple[Cell, int, bool]]:
        raw = self.raw
        if raw.carrying is None:
            return [(tuple(map(int, raw.move_pos)), PICKUP, False)]
        x, y = (int(number) for number in raw.target_pos)
        cells = [(x + i, y + j) for i in (-1, 0, 1) for j in (-1, 0, 1)]
        return [(cell, DROP, False) for cell in cells if raw.grid.get(*cell) is None]

    def opens(self, door: Any) -> bool:
        held = self.raw.carrying
        return held is not None and (held.type, held.color) == ("key", door.color)

    def drop(self) -> int:
        x, y = self.ahead()
        near = (self.cell(x + i, y + j) for i, j in STEPS)
        if self.cell(x, y) is None and not any(t and t.type == "door" for t in near):
            return DROP
        return int(self.rng.choice([LEFT, FORWARD, DROP], p=[0.4, 0.4, 0.2]))

    def ahead(self) -> Cell:
        dx, dy = STEPS[self.raw.agent_dir]
        return int(self.raw.agent_pos[0]) + dx, int(self.raw.agent_pos[1]) + dy

    def cell(self, x: int, y: int) -> Any:
        grid = self.raw.grid
        inside = 0 <= x < grid.width and 0 <= y < grid.height
        return grid.get(x, y) if inside else None

    def path(self, goal: Cell, on: bool) -> list[int] | None:
        """Actions to stand on ``goal`` or to face it; None if there is no way."""
        raw = self.raw
        start = (int(raw.agent_pos[0]), int(raw.agent_pos[1]), int(raw.agent_dir))
        before: dict[Any, Any] = {start: None}
        queue = deque([start])
        while queue:
            pose = queue.popleft()
            x, y, way = pose
            front = (x + STEPS[way][0], y + STEPS[way][1])
            if (x, y) == goal if on else front == goal:
                return self.actions(before, pose)
            nexts = [((x, y, (way + 3) % 4), [LEFT]), ((x, y, (way + 1) % 4), [RIGHT])]
            thing = self.cell(*front)
            if thing is None or (thing.can_overlap() and thing.type != "lava"):
                nexts.append(((*front, way), [FORWARD]))
            elif thing.type == "door" and not thing.is_locked:
                nexts.append(((*front, way), [TOGGLE, FORWARD]))
            for pose_after, actions in nexts:
                if pose_after not in before:
                    before[pose_after] = (pose, actions)
                    queue.append(pose_after)
        return None

    def actions(self, before: dict[Any, Any], pose: Any) -> list[int]:
        found: list[int] = []
        while before[pose] is not None:
            pose, actions = before[pose]
            found = [*actions, *found]
        return found

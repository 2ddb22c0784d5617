"""A scripted player and an independent reader of MiniGrid levels.

``Walker`` finds its way by breadth-first search over MiniGrid's own grid.
``expected`` reads every feature by searching that grid anew at each step: the slow
oracle of the features.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

import numpy as np

from guerdon.envs.minigrid import LEVELS
from guerdon.envs.table import load_task
from guerdon.envs.task import Task

ONE_OF_A_KIND = [
    load_task(f"guerdon/{name}-v0")
    for name in {level.kind: level.name for level in reversed(LEVELS)}.values()
]
"""A small level of every kind."""

LEFT, RIGHT, FORWARD, PICKUP, DROP, TOGGLE = range(6)
STEPS = [(1, 0), (0, 1), (-1, 0), (0, -1)]

Cell = tuple[int, int]
Pose = tuple[int, int, int]


class Walker:
    """Plays one episode and keeps what it saw."""

    def __init__(self, task: Task, seed: int) -> None:
        self.task = task
        self.env = task.make(engine=task.family)
        _, self.info = self.env.reset(seed=seed)
        self.raw: Any = self.env.unwrapped
        self.ended = False
        self.actions: list[int] = []
        self.rewards: list[float] = []
        self.rows = [self.info["features"]]

    @property
    def now(self) -> Any:
        return self.task.view(self.info)

    def do(self, *actions: int) -> Any:
        for action in actions:
            _, reward, terminated, truncated, self.info = self.env.step(action)
            self.ended = terminated or truncated
            self.actions.append(action)
            self.rewards.append(reward)
            self.rows.append(self.info["features"])
        return self.now

    def find(self, kind: str) -> tuple[int, int]:
        for i, thing in enumerate(self.raw.grid.grid):
            if thing is not None and thing.type == kind:
                return (i % self.raw.grid.width, i // self.raw.grid.width)
        raise LookupError(kind)

    def cell(self, x: int, y: int) -> Any:
        return self.raw.grid.get(x, y)

    def go_to(self, goal: Cell) -> Any:
        return self._walk(lambda pose: pose[:2] == goal)

    def face(self, goal: Cell) -> Any:
        return self._walk(lambda pose: ahead_of(pose) == goal)

    def drop_aside(self, goal: Cell) -> Any:
        """Drop what is carried where the way to face ``goal`` stays free."""

        def is_free(pose: Pose) -> bool:
            cell = ahead_of(pose)
            if self.cell(*cell) is not None:
                return False
            return self._route(pose, lambda p: ahead_of(p) == goal, cell) is not None

        self._walk(is_free)
        return self.do(DROP)

    def _enters(self, cell: Cell, blocked: Cell | None) -> bool:
        thing = self.cell(*cell)
        if cell == blocked:
            return False
        if thing is None or thing.type == "goal":
            return True
        return thing.type == "door" and not thing.is_locked

    def _route(
        self, start: Pose, done: Callable[[Pose], bool], blocked: Cell | None = None
    ) -> list[int] | None:
        """Shortest actions to a pose, by breadth-first search; doors are entered."""
        routes: dict[Pose, list[int]] = {start: []}
        queue = deque([start])
        while queue:
            pose = queue.popleft()
            if done(pose):
                return routes[pose]
            x, y, d = pose
            moves = [((x, y, (d - 1) % 4), LEFT), ((x, y, (d + 1) % 4), RIGHT)]
            if self._enters(ahead_of(pose), blocked):
                moves.append(((*ahead_of(pose), d), FORWARD))
            for after, action in moves:
                if after not in routes:
                    routes[after] = [*routes[pose], action]
                    queue.append(after)
        return None

    def _walk(self, done: Callable[[Pose], bool]) -> Any:
        x, y = map(int, self.raw.agent_pos)
        route = self._route((x, y, int(self.raw.agent_dir)), done)
        assert route is not None, "no way"
        for action in route:
            thing = self.cell(*map(int, self.raw.front_pos))
            closed = thing is not None and thing.type == "door" and not thing.is_open
            if action == FORWARD and closed:
                self.do(TOGGLE)
            self.do(action)
        return self.now


def ahead_of(pose: Pose) -> Cell:
    x, y, direction = pose
    return (x + STEPS[direction][0], y + STEPS[direction][1])


def locked_door(raw: Any) -> tuple[int, int] | None:
    """Cell of the locked door, to be asked right after a reset."""
    for x, y, thing in cells(raw):
        if thing.type == "door" and thing.is_locked:
            return (x, y)
    return None


def cells(raw: Any) -> list[tuple[int, int, Any]]:
    grid = raw.grid
    return [
        (x, y, grid.get(x, y))
        for x in range(grid.width)
        for y in range(grid.height)
        if grid.get(x, y) is not None
    ]


def expected(raw: Any, locked: tuple[int, int] | None) -> dict[str, Any]:
    """Features of any level, read from nothing but the grid as it stands."""
    x, y = map(int, raw.agent_pos)
    dx, dy = STEPS[raw.agent_dir]
    ahead = (x + dx, y + dy)
    things = cells(raw)
    found: dict[str, Any] = {"agent_x": x, "agent_y": y, "facing": (dx, dy)}
    for kind, name in (("key", "key"), ("ball", "target"), ("box", "target")):
        at = [(i, j) for i, j, thing in things if thing.type == kind]
        if at:
            found[f"distance_to_{name}"] = abs(at[0][0] - x) + abs(at[0][1] - y)
            found[f"{name}_ahead"] = ahead == at[0]
            found[f"carrying_{name}"] = False
        elif raw.carrying is not None and raw.carrying.type == kind:
            found[f"distance_to_{name}"] = 0
            found[f"{name}_ahead"] = False
            found[f"carrying_{name}"] = True
    goal = [(i, j) for i, j, thing in things if thing.type == "goal"]
    if goal:
        found["distance_to_goal"] = abs(goal[0][0] - x) + abs(goal[0][1] - y)
        found["at_goal"] = (x, y) == goal[0]
    doors = [thing for _, _, thing in things if thing.type == "door"]
    found["doors_open"] = sum(door.is_open for door in doors)
    if locked is not None:
        door = raw.grid.get(*locked)
        found["distance_to_door"] = abs(locked[0] - x) + abs(locked[1] - y)
        found["door_ahead"] = ahead == locked
        found["door_unlocked"] = not door.is_locked
        found["door_open"] = door.is_open
    lava = [(i, j) for i, j, thing in things if thing.type == "lava"]
    found["lava_ahead"] = ahead in lava
    found["on_lava"] = (x, y) in lava
    for colour in ("red", "blue"):
        for i, j, thing in things:
            if thing.type == "door" and thing.color == colour:
                found[f"distance_to_{colour}_door"] = abs(i - x) + abs(j - y)
                found[f"{colour}_door_ahead"] = ahead == (i, j)
                found[f"{colour}_door_open"] = thing.is_open
    found["obstacle_ahead"] = any(
        ahead == (i, j) for i, j, thing in things if thing.type == "ball"
    )
    if type(raw).__name__ == "MemoryEnv":
        found |= _ends(things, x, y)
    return found


def _ends(things: list[tuple[int, int, Any]], x: int, y: int) -> dict[str, Any]:
    """Which of two things at the end of a corridor is like the one on the left."""
    shown, *ends = sorted(
        ((i, j, thing) for i, j, thing in things if thing.type in ("key", "ball")),
        key=lambda found: found[0],
    )
    middle = shown[1] + 1
    right, wrong = sorted(ends, key=lambda end: end[2].type != shown[2].type)
    # One stands beside the thing, on the side of the corridor.
    places = [(i, j + (1 if j < middle else -1)) for i, j, _ in (right, wrong)]
    return {
        "distance_to_goal": abs(places[0][0] - x) + abs(places[0][1] - y),
        "at_goal": (x, y) == places[0],
        "at_wrong_end": (x, y) == places[1],
    }


def assert_features(task: Task, row: np.ndarray, oracle: dict[str, Any]) -> int:
    """Compare every feature that the oracle knows; returns how many there were."""
    named = task.view({"features": row})
    compared = 0
    for name in named:
        if name in oracle:
            np.testing.assert_array_equal(named[name], oracle[name], err_msg=name)
            compared += 1
    return compared

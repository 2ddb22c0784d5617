"""The table of MiniGrid levels that are tasks.

A level is what its kind is, at a size. Levels whose mission names one of several things
(GoToDoor, GoToObject, Fetch, PutNear) are not here: the observation is the image alone,
so no agent could know which one is meant. The batched engine plays them all the same.
"""

from __future__ import annotations

from typing import NamedTuple


class Kind(NamedTuple):
    """What levels of a kind have in common."""

    blocks: tuple[str, ...]
    """What a reward may see, by blocks of ``minigrid_features``."""
    human: str | None
    """Key of ``minigrid_rewards.HUMAN``; None where no usual dense reward is known."""
    intent: str
    """One sentence that says what the agent should achieve."""
    actions: int = 7
    """How many of MiniGrid's actions there are."""


_KEY = ("agent", "goal", "key", "door")
_BOX = ("agent", "key", "door", "box")
_BALL = ("agent", "key", "door", "doors", "ball")
_SHUT = ("agent", "goal", "key", "lock", "doors")

KINDS = {
    "reach": Kind(
        ("agent", "goal"), "reach",
        "Reach the green goal square in as few steps as possible.",
    ),
    "walls": Kind(
        ("agent", "goal"), "reach",
        "Find the openings in the walls and reach the green goal behind them.",
    ),
    "obstacles": Kind(
        ("agent", "goal", "obstacles"), "reach",
        "Reach the green goal and run into neither a moving ball nor a wall.", 3,
    ),
    "key": Kind(
        _KEY, "key",
        "Pick up the key, unlock the door with it and reach the green goal behind it.",
    ),
    "locked room": Kind(
        _SHUT, "key",
        "Fetch the key from its room, unlock the locked room with it and reach the "
        "green goal in there.",
    ),
    "unlock": Kind(
        ("agent", "key", "door"), None,
        "Pick up the key and open the locked door with it.",
    ),
    "box": Kind(
        _BOX, "pickup",
        "Pick up the box in the other room; the door to it is locked, the key is here.",
    ),
    "blocked box": Kind(
        _BOX, "pickup",
        "Pick up the box in the other room; a ball blocks the locked door to it, the "
        "key is here.",
    ),
    "corridor": Kind(
        _BALL, "pickup",
        "Pick up the ball behind the locked door; the key to that door lies in another "
        "room of the corridor.",
    ),
    "maze": Kind(
        ("agent", "doors", "ball"), None,
        "Pick up the blue ball behind locked doors; keys may be hidden in boxes, and "
        "doors blocked by other balls.",
    ),
    "rooms": Kind(
        ("agent", "goal", "rooms"), "rooms",
        "Open the doors from room to room and reach the green goal in the last one.",
    ),
    "river": Kind(
        ("agent", "goal", "lava"), "lava",
        "Cross the river of lava through its one gap and reach the green goal.",
    ),
    "rivers": Kind(
        ("agent", "goal", "hazard"), "lava",
        "Cross the rivers of lava through their gaps and reach the green goal.",
    ),
    "strips": Kind(
        ("agent", "goal", "hazard"), "lava",
        "Walk around the strips of lava and reach the green goal.",
    ),
    "memory": Kind(
        ("agent", "ends"), "reach",
        "At the end of the corridor, go to the object that was seen at its beginning.",
    ),
    "two doors": Kind(
        ("agent", "two doors"), None,
        "Open the red door first and the blue door after it.",
    ),
}  # fmt: skip


class Level(NamedTuple):
    """One row of the table of levels."""

    name: str
    """Name in our id."""
    kind: str
    """Key of ``KINDS``."""
    width: int
    """Columns of the grid, walls included."""
    height: int
    """Rows of the grid, walls included."""
    horizon: int
    """MiniGrid's own ``max_steps``."""
    budget: int
    """Training steps: RL Zoo's for DoorKey-5x5 and FourRooms. The others are estimates
    of the order of magnitude at which a tabula rasa agent is usually reported, or, for
    the hardest ones, of what one would be given."""
    doors: int = 0
    """Largest number of doors."""
    registered: str = ""
    """MiniGrid's id where it is not ``MiniGrid-NAME-v0``."""
    keywords: tuple[tuple[str, int], ...] = ()
    """What MiniGrid's environment of that id is made with besides."""

    @property
    def base(self) -> str:
        """MiniGrid's id."""
        return self.registered or f"MiniGrid-{self.name}-v0"


K, M = 1_000, 1_000_000

# MiniGrid's v0 of MultiRoom-N4-S5 is misconfigured: it has six rooms. MultiRoom-N7-S8
# is of the papers on exploration and not registered by MiniGrid.
_N7_S8 = (("minNumRooms", 7), ("maxNumRooms", 7), ("maxRoomSize", 8))

LEVELS = (
    Level("Empty-5x5", "reach", 5, 5, 100, 50 * K),
    Level("Empty-Random-5x5", "reach", 5, 5, 100, 50 * K),
    Level("Empty-6x6", "reach", 6, 6, 144, 50 * K),
    Level("Empty-Random-6x6", "reach", 6, 6, 144, 50 * K),
    Level("Empty-8x8", "reach", 8, 8, 256, 100 * K),
    Level("Empty-16x16", "reach", 16, 16, 1024, 1 * M),
    Level("DoorKey-5x5", "key", 5, 5, 250, 100 * K, 1),
    Level("DoorKey-6x6", "key", 6, 6, 360, 300 * K, 1),
    Level("DoorKey-8x8", "key", 8, 8, 640, 1 * M, 1),
    Level("DoorKey-16x16", "key", 16, 16, 2560, 10 * M, 1),
    Level("FourRooms", "reach", 19, 19, 100, 4 * M),
    Level("Unlock", "unlock", 11, 6, 288, 1 * M, 1),
    Level("UnlockPickup", "box", 11, 6, 288, 3 * M, 1),
    Level("BlockedUnlockPickup", "blocked box", 11, 6, 576, 10 * M, 1),
    Level("KeyCorridorS3R1", "corridor", 7, 3, 270, 1 * M, 2),
    Level("KeyCorridorS3R2", "corridor", 7, 5, 270, 3 * M, 5),
    Level("KeyCorridorS3R3", "corridor", 7, 7, 270, 10 * M, 8),
    Level("KeyCorridorS4R3", "corridor", 10, 10, 480, 30 * M, 8),
    Level("KeyCorridorS5R3", "corridor", 13, 13, 750, 100 * M, 8),
    Level("KeyCorridorS6R3", "corridor", 16, 16, 1080, 100 * M, 8),
    Level("MultiRoom-N2-S4", "rooms", 25, 25, 40, 1 * M, 1),
    Level("MultiRoom-N4-S5", "rooms", 25, 25, 80, 10 * M, 3,
          "MiniGrid-MultiRoom-N4-S5-v1"),
    Level("MultiRoom-N6", "rooms", 25, 25, 120, 100 * M, 5),
    Level("MultiRoom-N7-S8", "rooms", 25, 25, 140, 100 * M, 6,
          "MiniGrid-MultiRoom-N6-v0", _N7_S8),
    Level("LockedRoom", "locked room", 19, 19, 190, 30 * M, 6),
    Level("LavaCrossingS9N1", "river", 9, 9, 324, 1 * M),
    Level("LavaCrossingS9N2", "rivers", 9, 9, 324, 3 * M),
    Level("LavaCrossingS9N3", "rivers", 9, 9, 324, 3 * M),
    Level("LavaCrossingS11N5", "rivers", 11, 11, 484, 10 * M),
    Level("SimpleCrossingS9N1", "walls", 9, 9, 324, 1 * M),
    Level("SimpleCrossingS9N2", "walls", 9, 9, 324, 1 * M),
    Level("SimpleCrossingS9N3", "walls", 9, 9, 324, 1 * M),
    Level("SimpleCrossingS11N5", "walls", 11, 11, 484, 3 * M),
    Level("LavaGapS5", "river", 5, 5, 100, 300 * K),
    Level("LavaGapS6", "river", 6, 6, 144, 300 * K),
    Level("LavaGapS7", "river", 7, 7, 196, 300 * K),
    Level("DistShift1", "strips", 9, 7, 252, 300 * K),
    Level("DistShift2", "strips", 9, 7, 252, 300 * K),
    Level("Dynamic-Obstacles-5x5", "obstacles", 5, 5, 100, 300 * K),
    Level("Dynamic-Obstacles-Random-5x5", "obstacles", 5, 5, 100, 300 * K),
    Level("Dynamic-Obstacles-6x6", "obstacles", 6, 6, 144, 300 * K),
    Level("Dynamic-Obstacles-Random-6x6", "obstacles", 6, 6, 144, 300 * K),
    Level("Dynamic-Obstacles-8x8", "obstacles", 8, 8, 256, 1 * M),
    Level("Dynamic-Obstacles-16x16", "obstacles", 16, 16, 1024, 3 * M),
    Level("MemoryS7", "memory", 7, 7, 245, 1 * M),
    Level("MemoryS9", "memory", 9, 9, 405, 3 * M),
    Level("MemoryS11", "memory", 11, 11, 605, 10 * M),
    Level("MemoryS13", "memory", 13, 13, 845, 10 * M),
    Level("MemoryS13Random", "memory", 13, 13, 845, 10 * M),
    Level("MemoryS17Random", "memory", 17, 17, 1445, 30 * M),
    Level("RedBlueDoors-6x6", "two doors", 12, 6, 720, 1 * M, 2),
    Level("RedBlueDoors-8x8", "two doors", 16, 8, 1280, 3 * M, 2),
    Level("ObstructedMaze-1Dl", "maze", 11, 6, 288, 3 * M, 1),
    Level("ObstructedMaze-1Dlh", "maze", 11, 6, 288, 10 * M, 1),
    Level("ObstructedMaze-1Dlhb", "maze", 11, 6, 288, 30 * M, 1),
    Level("ObstructedMaze-2Dl", "maze", 16, 16, 576, 30 * M, 3),
    Level("ObstructedMaze-2Dlh", "maze", 16, 16, 576, 100 * M, 3),
    Level("ObstructedMaze-2Dlhb", "maze", 16, 16, 576, 100 * M, 3,
          "MiniGrid-ObstructedMaze-2Dlhb-v1"),
    Level("ObstructedMaze-1Q", "maze", 16, 16, 720, 100 * M, 3,
          "MiniGrid-ObstructedMaze-1Q-v1"),
    Level("ObstructedMaze-2Q", "maze", 16, 16, 1584, 200 * M, 6,
          "MiniGrid-ObstructedMaze-2Q-v1"),
    Level("ObstructedMaze-Full", "maze", 16, 16, 3600, 200 * M, 12,
          "MiniGrid-ObstructedMaze-Full-v1"),
)  # fmt: skip

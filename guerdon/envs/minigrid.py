"""Tasks over Farama MiniGrid: sparse goals in small rooms.

The observation is the agent's egocentric image alone, ``(7, 7, 3)`` uint8: object,
colour and state of every cell it sees. Fitness is the environment's own return,
``1 - 0.9 t / T`` on success and 0 otherwise.

Reference: Chevalier-Boisvert et al. 2023, "Minigrid & Miniworld", NeurIPS Datasets
and Benchmarks.
"""

from __future__ import annotations

import os
from functools import partial
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np

from guerdon.envs.arrays import ArrayEnv
from guerdon.envs.minigrid_features import READERS, describe, read_blocks
from guerdon.envs.minigrid_rewards import HUMAN
from guerdon.envs.scores import episode_return, positive_return
from guerdon.envs.task import ReferenceReward, Task
from guerdon.extras import require
from guerdon.types import ActionSpec, Layout

ACTION = ActionSpec(
    "discrete", 7, ("left", "right", "forward", "pickup", "drop", "toggle", "done")
)

SPARSE = ReferenceReward(
    None, "MiniGrid's own reward: 1 - 0.9 t / T on success, otherwise 0"
)


class Level(NamedTuple):
    """One row of the table of levels."""

    name: str
    """Name in our id."""
    base: str
    """MiniGrid's id."""
    width: int
    """Columns of the grid, walls included."""
    height: int
    """Rows of the grid, walls included."""
    horizon: int
    """MiniGrid's own ``max_steps``."""
    budget: int
    """Training steps: RL Zoo's for DoorKey-5x5 and FourRooms, else their order."""
    blocks: tuple[str, ...]
    """What a reward may see, by blocks of ``minigrid_features``."""
    human: str
    """Key of ``minigrid_rewards.HUMAN``."""
    intent: str
    """One sentence that says what the agent should achieve."""
    doors: int = 0
    """Largest number of doors."""


_GO = "Reach the green goal square in as few steps as possible."
_KEY = "Pick up the key, unlock the door with it and reach the green goal behind it."
_BOX = "Pick up the box in the other room; the door to it is locked, the key is here."
_BALL = (
    "Pick up the ball behind the locked door; the key to that door lies in another "
    "room of the corridor."
)
_ROOMS = "Open the doors from room to room and reach the green goal in the last one."
_LAVA = "Cross the river of lava through its one gap and reach the green goal."

_SEES_KEY = ("agent", "goal", "key", "door")
_SEES_BALL = ("agent", "key", "door", "doors", "ball")
_SEES_ROOMS = ("agent", "goal", "rooms")

LEVELS = (
    Level(
        "Empty-8x8", "MiniGrid-Empty-8x8-v0", 8, 8, 256, 100_000,
        ("agent", "goal"), "reach", _GO,
    ),
    Level(
        "DoorKey-5x5", "MiniGrid-DoorKey-5x5-v0", 5, 5, 250, 100_000,
        _SEES_KEY, "key", _KEY, 1,
    ),
    Level(
        "DoorKey-6x6", "MiniGrid-DoorKey-6x6-v0", 6, 6, 360, 300_000,
        _SEES_KEY, "key", _KEY, 1,
    ),
    Level(
        "DoorKey-8x8", "MiniGrid-DoorKey-8x8-v0", 8, 8, 640, 1_000_000,
        _SEES_KEY, "key", _KEY, 1,
    ),
    Level(
        "FourRooms", "MiniGrid-FourRooms-v0", 19, 19, 100, 4_000_000,
        ("agent", "goal"), "reach", _GO,
    ),
    Level(
        "UnlockPickup", "MiniGrid-UnlockPickup-v0", 11, 6, 288, 3_000_000,
        ("agent", "key", "door", "box"), "pickup", _BOX, 1,
    ),
    Level(
        "KeyCorridorS3R1", "MiniGrid-KeyCorridorS3R1-v0", 7, 3, 270, 1_000_000,
        _SEES_BALL, "pickup", _BALL, 2,
    ),
    Level(
        "KeyCorridorS3R2", "MiniGrid-KeyCorridorS3R2-v0", 7, 5, 270, 3_000_000,
        _SEES_BALL, "pickup", _BALL, 7,
    ),
    Level(
        "KeyCorridorS3R3", "MiniGrid-KeyCorridorS3R3-v0", 7, 7, 270, 10_000_000,
        _SEES_BALL, "pickup", _BALL, 12,
    ),
    Level(
        "MultiRoom-N2-S4", "MiniGrid-MultiRoom-N2-S4-v0", 25, 25, 40, 1_000_000,
        _SEES_ROOMS, "rooms", _ROOMS, 1,
    ),
    # MiniGrid's v0 of this level is misconfigured: it has six rooms.
    Level(
        "MultiRoom-N4-S5", "MiniGrid-MultiRoom-N4-S5-v1", 25, 25, 80, 10_000_000,
        _SEES_ROOMS, "rooms", _ROOMS, 3,
    ),
    Level(
        "LavaCrossingS9N1", "MiniGrid-LavaCrossingS9N1-v0", 9, 9, 324, 1_000_000,
        ("agent", "goal", "lava"), "lava", _LAVA,
    ),
)  # fmt: skip


class EgocentricImage(gym.ObservationWrapper[Any, Any, Any]):
    """The egocentric image alone, with the bounds that its channels really have.

    MiniGrid declares 0 to 255, which makes libraries take the symbols for a picture
    and divide them by 255.
    """

    def __init__(self, env: gym.Env[Any, Any]) -> None:
        super().__init__(env)
        constants = require("minigrid.core.constants", "minigrid")
        high = (
            max(constants.OBJECT_TO_IDX.values()),
            max(constants.COLOR_TO_IDX.values()),
            # The state of a cell is that of a door, or the facing of an agent.
            max(*constants.STATE_TO_IDX.values(), len(constants.DIR_TO_VEC) - 1),
        )
        size = env.unwrapped.agent_view_size  # type: ignore[attr-defined]
        bound = np.broadcast_to(np.array(high, np.uint8), (size, size, 3))
        self.observation_space = gym.spaces.Box(
            np.zeros_like(bound), bound.copy(), dtype=np.uint8
        )

    def observation(self, observation: Any) -> Any:
        """``(7, 7, 3)`` uint8: object, colour and state of every visible cell."""
        return observation["image"]


def make_minigrid(base: str, **kwargs: Any) -> gym.Env[Any, Any]:
    """A MiniGrid level that shows the egocentric image alone.

    Raises:
        guerdon.extras.MissingExtra: when ``minigrid`` is not installed.
    """
    os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
    require("minigrid", "minigrid")
    return EgocentricImage(gym.make(base, disable_env_checker=True, **kwargs))


def make_lanes(level: str, lanes: int) -> ArrayEnv:
    """So many environments of a level on the batched engine.

    Raises:
        guerdon.extras.MissingExtra: when there is no engine.
    """
    # The engine takes its levels' features from here.
    from guerdon.envs.grid.choose import make_engine

    return make_engine(level, lanes)


def _task(level: Level) -> Task:
    size = (level.width, level.height, level.doors)
    features = [f for block in level.blocks for f in describe(block, *size)]
    return Task(
        id=f"guerdon/{level.name}-v0",
        intent=level.intent,
        make_base=partial(make_minigrid, level.base),
        layout=Layout(features),
        action=ACTION,
        read=partial(read_blocks, tuple(READERS[block] for block in level.blocks)),
        fitness=episode_return,
        success=positive_return,
        rewards={"sparse": SPARSE, "human": HUMAN[level.human]},
        horizon=level.horizon,
        budget=level.budget,
        family="minigrid",
        source=f"Farama MiniGrid, {level.base}",
        extra="minigrid",
        engine=partial(make_lanes, level.name),
    )


TASKS = tuple(_task(level) for level in LEVELS)
"""One task a level."""

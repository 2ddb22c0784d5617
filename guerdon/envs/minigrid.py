"""Tasks over MiniGrid: sparse goals in small rooms.

Where numba is installed they run on the batched engine of ``guerdon.envs.grid``, which
plays MiniGrid's levels byte for byte on random numbers of its own, so a seed gives
another world there than here; else, or with ``engine="minigrid"``, on Farama MiniGrid.

The observation is the agent's egocentric image alone, ``(7, 7, 3)`` uint8: object,
colour and state of every cell it sees. Fitness is the environment's own return,
``1 - 0.9 t / T`` on success and 0 otherwise, but -1 where an episode of
Dynamic-Obstacles ends at a ball or a wall.

Reference: Chevalier-Boisvert et al. 2023, "Minigrid & Miniworld", NeurIPS Datasets
and Benchmarks.
"""

from __future__ import annotations

import os
from functools import partial
from typing import Any

import gymnasium as gym
import numpy as np

from guerdon.envs.minigrid_blocks import describe
from guerdon.envs.minigrid_engine import Grid
from guerdon.envs.minigrid_features import READERS, read_blocks
from guerdon.envs.minigrid_levels import KINDS, LEVELS, Level
from guerdon.envs.minigrid_rewards import HUMAN
from guerdon.envs.scores import episode_return, positive_return
from guerdon.envs.task import ReferenceReward, Task
from guerdon.extras import require
from guerdon.types import ActionSpec, Layout

ACTIONS = ("left", "right", "forward", "pickup", "drop", "toggle", "done")
"""MiniGrid's; a level may take the first of them only."""

SPARSE = ReferenceReward(
    None, "MiniGrid's own reward: 1 - 0.9 t / T on success, otherwise 0"
)

_SPARSE_OBSTACLES = ReferenceReward(
    None,
    "MiniGrid's own reward: 1 - 0.9 t / T on success, -1 for running into a ball or a "
    "wall, otherwise 0",
)


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


def action_of(count: int) -> ActionSpec:
    """The first ``count`` of MiniGrid's actions."""
    return ActionSpec("discrete", count, ACTIONS[:count])


def _task(level: Level) -> Task:
    kind = KINDS[level.kind]
    size = (level.width, level.height, level.doors)
    parts: dict[str, Any] = {
        "make_base": partial(make_minigrid, level.base, **dict(level.keywords)),
        "layout": Layout([f for block in kind.blocks for f in describe(block, *size)]),
        "action": action_of(kind.actions),
        "read": partial(read_blocks, tuple(READERS[block] for block in kind.blocks)),
        "fitness": episode_return,
        "success": positive_return,
        "horizon": level.horizon,
    }
    sparse = _SPARSE_OBSTACLES if level.kind == "obstacles" else SPARSE
    human = {} if kind.human is None else {"human": HUMAN[kind.human]}
    return Task(
        id=f"guerdon/{level.name}-v0",
        intent=kind.intent,
        rewards={"sparse": sparse, **human},
        budget=level.budget,
        family="minigrid",
        source=f"Farama MiniGrid, {level.base}",
        extra="minigrid",
        engine=Grid(level=level.name, **parts),
        **parts,
    )


TASKS = tuple(_task(level) for level in LEVELS)
"""One task a level."""

"""Registers every task with Gymnasium.

Gymnasium 1.x loads no plugins, so this runs when ``guerdon`` is imported, and
``gym.make("guerdon:guerdon/DoorKey-8x8-v0")`` imports it by itself.
"""

from __future__ import annotations

from typing import Any

import gymnasium as gym

from guerdon.envs.table import TASKS
from guerdon.envs.task import TaskEnv


def make_env(task_id: str, **kwargs: Any) -> TaskEnv:
    """Entry point of every registered task; keywords go to the raw environment."""
    return TASKS[task_id].make(**kwargs)


def register_all() -> None:
    """Register all tasks; a second call changes nothing.

    The time limit and the order check are inside, in the raw environment, so that
    the true score is complete at truncation; Gymnasium adds only its passive checker.
    """
    for task_id in TASKS:
        if task_id not in gym.registry:
            gym.register(
                id=task_id,
                entry_point="guerdon.envs.registration:make_env",
                order_enforce=False,
                kwargs={"task_id": task_id},
            )

"""Registers every task with Gymnasium.

Gymnasium 1.x loads no plugins, so this runs when ``guerdon`` is imported, and
``gym.make("guerdon:guerdon/DoorKey-8x8-v0")`` imports it by itself.
"""

from __future__ import annotations

from typing import Any

import gymnasium as gym
from gymnasium.vector import AutoresetMode

from guerdon.envs.table import TASKS


def make_env(task_id: str, **kwargs: Any) -> gym.Env[Any, Any]:
    """Entry point of every registered task; keywords are those of ``Task.make``."""
    return TASKS[task_id].make(**kwargs)


def make_vec_env(
    task_id: str,
    num_envs: int = 1,
    *,
    autoreset_mode: AutoresetMode | str | None = None,
    **kwargs: Any,
) -> gym.vector.VectorEnv[Any, Any, Any]:
    """Entry point of the tasks that have an engine, for many environments at once.

    Gymnasium refuses its own ``vector_kwargs`` where there is such an entry point, so
    what they would say is a keyword here.
    """
    given = {} if autoreset_mode is None else {"autoreset_mode": autoreset_mode}
    return TASKS[task_id].make_vec(num_envs, vector_kwargs=given, **kwargs)


def register_all() -> None:
    """Register all tasks; a second call changes nothing.

    The time limit and the order check are inside, in the raw environment, so that
    the true score is complete at truncation; Gymnasium adds only its passive checker.
    """
    for task_id, task in TASKS.items():
        if task_id not in gym.registry:
            many = None if task.engine is None else f"{__name__}:make_vec_env"
            gym.register(
                id=task_id,
                entry_point=f"{__name__}:make_env",
                vector_entry_point=many,
                order_enforce=False,
                kwargs={"task_id": task_id},
            )

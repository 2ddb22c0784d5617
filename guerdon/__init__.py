"""Guerdon: the workbench for reward design on Gymnasium.

Importing it registers the tasks with Gymnasium and loads nothing heavy: every public
name is imported when it is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from guerdon.envs.registration import register_all

if TYPE_CHECKING:
    from guerdon.envs.custom import task_from_env
    from guerdon.envs.table import load_task, make, tasks
    from guerdon.envs.task import ReferenceReward, Task
    from guerdon.types import (
        Batch,
        Episode,
        Estimate,
        Failure,
        Feature,
        Features,
        Layout,
    )

__version__ = "0.1.0"

_PUBLIC = {
    "Batch": "guerdon.types",
    "Episode": "guerdon.types",
    "Estimate": "guerdon.types",
    "Failure": "guerdon.types",
    "Feature": "guerdon.types",
    "Features": "guerdon.types",
    "Layout": "guerdon.types",
    "ReferenceReward": "guerdon.envs.task",
    "Task": "guerdon.envs.task",
    "load_task": "guerdon.envs.table",
    "make": "guerdon.envs.table",
    "task_from_env": "guerdon.envs.custom",
    "tasks": "guerdon.envs.table",
}
"""Every public name and the module that has it."""

__all__ = [
    "Batch",
    "Episode",
    "Estimate",
    "Failure",
    "Feature",
    "Features",
    "Layout",
    "ReferenceReward",
    "Task",
    "load_task",
    "make",
    "task_from_env",
    "tasks",
]


def __getattr__(name: str) -> Any:
    """Import a public name at its first use (PEP 562)."""
    if name not in _PUBLIC:
        raise AttributeError(f"module 'guerdon' has no attribute {name!r}")
    value = getattr(importlib.import_module(_PUBLIC[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_PUBLIC})


register_all()

"""Guerdon: the workbench for reward design on Gymnasium.

Importing it registers the tasks with Gymnasium and loads nothing heavy: every public
name is imported when it is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from guerdon.interrupt import listen

listen()

from guerdon.envs.registration import register_all  # noqa: E402 - heavy: after listen

if TYPE_CHECKING:
    from guerdon.envs.custom import task_from_env
    from guerdon.envs.table import load_task, make, tasks
    from guerdon.envs.task import ReferenceReward, Task
    from guerdon.reward_design.adapters.gym import RewardWrapper, VectorRewardWrapper
    from guerdon.reward_design.adapters.sb3 import RewardVecEnv
    from guerdon.reward_design.checker import check_task
    from guerdon.reward_design.language import parse, terms
    from guerdon.reward_design.program import RewardProgram, program
    from guerdon.reward_design.reference import reward_for
    from guerdon.reward_design.verify import verify
    from guerdon.run import RunConfig, run_search
    from guerdon.types import (
        ActionSpec,
        Batch,
        Episode,
        Estimate,
        Failure,
        Feature,
        Features,
        Layout,
        Spec,
    )

__version__ = "0.1.0"

_PUBLIC = {
    "ActionSpec": "guerdon.types",
    "Batch": "guerdon.types",
    "Episode": "guerdon.types",
    "Estimate": "guerdon.types",
    "Failure": "guerdon.types",
    "Feature": "guerdon.types",
    "Features": "guerdon.types",
    "Layout": "guerdon.types",
    "ReferenceReward": "guerdon.envs.task",
    "RewardProgram": "guerdon.reward_design.program",
    "RewardVecEnv": "guerdon.reward_design.adapters.sb3",
    "RewardWrapper": "guerdon.reward_design.adapters.gym",
    "RunConfig": "guerdon.run",
    "Spec": "guerdon.types",
    "Task": "guerdon.envs.task",
    "VectorRewardWrapper": "guerdon.reward_design.adapters.gym",
    "check_task": "guerdon.reward_design.checker",
    "load_task": "guerdon.envs.table",
    "make": "guerdon.envs.table",
    "parse": "guerdon.reward_design.language",
    "program": "guerdon.reward_design.program",
    "reward_for": "guerdon.reward_design.reference",
    "run_search": "guerdon.run",
    "task_from_env": "guerdon.envs.custom",
    "tasks": "guerdon.envs.table",
    "terms": "guerdon.reward_design.language",
    "verify": "guerdon.reward_design.verify",
}
"""Every public name and the module that has it."""

__all__ = [
    "ActionSpec",
    "Batch",
    "Episode",
    "Estimate",
    "Failure",
    "Feature",
    "Features",
    "Layout",
    "ReferenceReward",
    "RewardProgram",
    "RewardVecEnv",
    "RewardWrapper",
    "RunConfig",
    "Spec",
    "Task",
    "VectorRewardWrapper",
    "check_task",
    "load_task",
    "make",
    "parse",
    "program",
    "reward_for",
    "run_search",
    "task_from_env",
    "tasks",
    "terms",
    "verify",
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

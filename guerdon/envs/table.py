"""The table of registered tasks, and how a name becomes a task."""

from __future__ import annotations

import difflib
import importlib
import os
import sys
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from guerdon.envs import box2d, classic, minigrid, mujoco
from guerdon.envs.task import Task, TaskEnv

TASKS: Mapping[str, Task] = MappingProxyType(
    {
        task.id: task
        for family in (minigrid, classic, box2d, mujoco)
        for task in family.TASKS
    }
)
"""Every registered task by its id, in the order of the families."""


class UnknownTask(ValueError):
    """No task has this name; the message says which is nearest."""


def tasks() -> list[Task]:
    """Every registered task."""
    return list(TASKS.values())


def load_task(name: str | Task) -> Task:
    """The task of a registered id or of ``module:object``.

    Args:
        name: ``guerdon/DoorKey-8x8-v0``, or ``my_tasks:door`` where the module is
            found from the working folder and the object is a ``Task``, or a
            function without arguments that makes one. A ``Task`` is given back.

    Raises:
        UnknownTask: for an unknown id; names the nearest one.
        ValueError: when the module or the object cannot be found.
        TypeError: when the object is not a task.

    >>> load_task("guerdon/CartPole-v1").horizon
    500
    """
    if isinstance(name, Task):
        return name
    plain = name.removeprefix("guerdon:")
    if plain in TASKS:
        return TASKS[plain]
    if ":" in name and not name.startswith("guerdon:"):
        return _from_module(name)
    raise UnknownTask(f"unknown task {name!r}{_nearest(plain)}")


def make(name: str | Task, **kwargs: Any) -> TaskEnv:
    """One environment of a task; keywords go to the raw environment.

    >>> env = make("guerdon/CartPole-v1")
    >>> env.task.action.names
    ('left', 'right')
    """
    return load_task(name).make(**kwargs)


def _nearest(name: str) -> str:
    """Which id was probably meant, as the end of an error message."""
    keys: dict[str, str] = {}
    for task_id in TASKS:
        full = task_id.lower()
        keys[full] = keys[full.removeprefix("guerdon/")] = task_id
        keys[full.removeprefix("guerdon/").rsplit("-v", 1)[0]] = task_id
    found = difflib.get_close_matches(name.lower(), keys, n=1, cutoff=0.4)
    if found:
        return f"; did you mean {keys[found[0]]!r}?"
    return f"; known: {', '.join(TASKS)}, or module:object for your own"


def _from_module(name: str) -> Task:
    """The object of ``module:object``, looked for from the working folder too."""
    module_name, _, attribute = name.partition(":")
    folder = os.getcwd()
    if folder not in sys.path:
        sys.path.insert(0, folder)
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise
        raise ValueError(
            f"task {name!r}: there is no module {module_name!r}; expected "
            "module:object with a module in the working folder or installed"
        ) from error
    found = getattr(module, attribute, None)
    if found is None:
        known = [key for key, value in vars(module).items() if isinstance(value, Task)]
        raise ValueError(
            f"task {name!r}: module {module_name!r} has no {attribute!r}; "
            f"tasks in it: {', '.join(known) or 'none'}"
        )
    if not isinstance(found, Task) and callable(found):
        found = found()
    if not isinstance(found, Task):
        raise TypeError(
            f"task {name!r}: expected a guerdon.Task, got {type(found).__name__}"
        )
    return found

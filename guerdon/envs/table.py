"""The table of registered tasks, and how a name becomes a task."""

from __future__ import annotations

import difflib
import importlib
import inspect
import os
import re
import sys
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import gymnasium as gym

from guerdon.envs import box2d, classic, minigrid, mujoco
from guerdon.envs.task import Task, part_of_task

TASKS: Mapping[str, Task] = MappingProxyType(
    {
        task.id: task
        for family in (minigrid, classic, box2d, mujoco)
        for task in family.TASKS
    }
)
"""Every registered task by its id, in the order of the families."""


_ABSENT = object()


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
        TypeError: when the name is no text, or the object is not a task.
        Exception: what the module or the function raises comes out as it is, with a
            note that says where it was met.

    >>> load_task("guerdon/CartPole-v1").horizon
    500
    """
    if isinstance(name, Task):
        return name
    if not isinstance(name, str):
        raise TypeError(
            "task: expected a registered id, module:object or a guerdon.Task, got "
            f"{name!r} ({type(name).__name__})"
        )
    plain = name.removeprefix("guerdon:")
    if plain in TASKS:
        return TASKS[plain]
    if ":" in name and not name.startswith("guerdon:"):
        return _from_module(name)
    raise UnknownTask(f"unknown task {name!r}{_nearest(plain)}")


def make(name: str | Task, **kwargs: Any) -> gym.Env[Any, Any]:
    """One environment of a task; keywords are those of ``Task.make``.

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
    _check_words(name, module_name, attribute)
    folder = os.getcwd()
    if folder not in sys.path:
        sys.path.insert(0, folder)
    with part_of_task(f"task {name!r}: importing the module {module_name!r} failed"):
        try:
            module = importlib.import_module(module_name)
        except ModuleNotFoundError as error:
            if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
                raise
            module = None
    if module is None:
        raise ValueError(
            f"task {name!r}: there is no module {module_name!r}; expected "
            "module:object with a module in the working folder or installed"
        )
    found = getattr(module, attribute, _ABSENT)
    if found is _ABSENT:
        known = [key for key, value in vars(module).items() if isinstance(value, Task)]
        raise ValueError(
            f"task {name!r}: module {module_name!r} has no {attribute!r}; "
            f"tasks in it: {', '.join(known) or 'none'} "
            f"({getattr(module, '__file__', None) or 'built in'})"
        )
    return found if isinstance(found, Task) else _made(name, found)


def _check_words(name: str, module: str, attribute: str) -> None:
    """Refuse what cannot be the names of a module and of something in it."""
    if module.endswith(".py") or "/" in module or "\\" in module:
        file = module.removesuffix(".py").replace("\\", "/").strip("./")
        meant = f"{file.replace('/', '.')}:{attribute or 'TASK'}"
        raise ValueError(
            f"task {name!r}: expected the name of a module and not of a file, such as "
            f"{meant!r}"
        )
    # The name of a module is that of a file, which may begin with a digit.
    named = all(re.fullmatch(r"\w+", word) for word in module.split("."))
    if not (named and attribute.isidentifier()):
        raise ValueError(
            f"task {name!r}: expected module:object, such as 'my_tasks:TASK' for TASK "
            "in my_tasks.py"
        )


def _made(name: str, found: Any) -> Task:
    """The task that a function without arguments makes."""
    whose = f"task {name!r}"
    expected = "expected a guerdon.Task, or a function without arguments that makes one"
    if isinstance(found, gym.Env) or _is_class_of(found, gym.Env):
        raise TypeError(
            f"{whose}: this is a gymnasium environment; {expected}: "
            "guerdon.task_from_env makes a task of it"
        )
    if not callable(found) or isinstance(found, type):
        raise TypeError(f"{whose}: {expected}, got {_kind(found)}")
    try:
        inspect.signature(found).bind()
    except (TypeError, ValueError) as error:
        raise TypeError(
            f"{whose}: this is a function that needs arguments ({error}); {expected}"
        ) from None
    with part_of_task(f"{whose}: calling {name.partition(':')[2]}() failed"):
        made = found()
    if not isinstance(made, Task):
        raise TypeError(f"{whose}: {expected}; called, it gave {_kind(made)}")
    return made


def _is_class_of(found: Any, base: type) -> bool:
    return isinstance(found, type) and issubclass(found, base)


def _kind(value: Any) -> str:
    if value is None:
        return "None"
    kind = type(value).__name__
    return f"the class {value.__name__}" if isinstance(value, type) else kind

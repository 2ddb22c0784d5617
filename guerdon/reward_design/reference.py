"""The rewards that a task is trained with: published ones, or a program's text."""

from __future__ import annotations

from typing import Literal

from guerdon.envs.table import load_task
from guerdon.envs.task import Task
from guerdon.reward_design.program import (
    RewardProgram,
    Terms,
    environment_reward,
    merge,
    program,
    renamed,
)

Base = Literal["sparse", "none"]


def reward_for(task: str | Task, reward: str, base: Base = "sparse") -> RewardProgram:
    """The program that a reward's name or text stands for.

    Args:
        task: whose reference rewards and features are meant, or its id.
        reward: a name in ``task.rewards`` (``"sparse"``, ``"human"``): that reward
            alone; or program text in the reward language.
        base: what the text is added to: ``"sparse"`` for the task's sparse reward,
            ``"none"`` when the text is the whole reward. Names ignore it.

    Raises:
        TypeError: for a reward that is no text, or what is no task.
        ValueError: for a name that the task does not have, or another base.
        guerdon.reward_design.language.Rejected: for text that is no program.
    """
    if base not in ("sparse", "none"):
        raise ValueError(f"reward base: expected 'sparse' or 'none', got {base!r}")
    if not isinstance(reward, str):
        raise TypeError(
            "reward: expected the name of one of the task's rewards or the text of a "
            f"program, got {reward!r} ({type(reward).__name__})"
        )
    task = load_task(task)
    if reward in task.rewards:
        return program(_reference(task, reward))
    if reward.strip().isidentifier():
        raise ValueError(
            f"task {task.id}: no reward named {reward.strip()!r}; expected one of "
            f"{', '.join(sorted(task.rewards))}, or the text of a program"
        )
    return _based(task, _written(task, reward), reward, base)


def full_python_reward_for(
    task: Task, text: str, base: Base = "sparse", *, unsafe: bool = False
) -> RewardProgram:
    """The same for a reward in full Python, whose text is EXECUTED; for the jail only.

    Args:
        task: see ``reward_for``.
        text: a module with a function ``reward``; see ``full_python_terms``.
        base: see ``reward_for``.
        unsafe: run it in a process that is not confined.

    Raises:
        PermissionError: when this process is not confined.
        guerdon.reward_design.full_python.BadReward: when it is no reward.
    """
    from guerdon.reward_design.full_python import full_python_terms

    own = full_python_terms(text, task.layout, task.action, unsafe=unsafe)
    return _based(task, own, text, base)


def _based(task: Task, own: Terms, text: str, base: Base) -> RewardProgram:
    """A candidate's terms, added to what they are added to."""
    if base == "none":
        return program(own)
    sparse = _apart(_reference(task, "sparse"), own.names)
    # The base may be written in the language too; the text is what was asked for.
    return program(merge(sparse, own), source=text)


def _apart(base: Terms, taken: tuple[str, ...]) -> Terms:
    """The base's terms under names that a candidate has not used for its own."""
    names = []
    for name in base.names:
        while name in taken:
            name = f"task_{name}"
        names.append(name)
    return renamed(base, *names)


def _reference(task: Task, name: str) -> Terms:
    """The terms of a reference reward."""
    source = task.rewards[name].source
    return environment_reward() if source is None else _written(task, source)


def _written(task: Task, source: str) -> Terms:
    """The terms of a program's text."""
    from guerdon.reward_design import language

    return language.terms(source, task.layout, task.action)

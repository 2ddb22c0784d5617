"""Tables and help texts that the pages show, made from the code when the site is built.

A page names one with ``<!-- generated: NAME -->`` or ``<!-- generated: NAME ARGUMENT
-->`` on a line of its own. Nothing of it is stored, so nothing of it can go stale.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from typing import Any

from guerdon.agents.recipes import recipe_for
from guerdon.envs.table import TASKS, load_task
from guerdon.envs.task import Task
from guerdon.llm.weights import MODELS
from guerdon.reward_design.language.describe import action_line, feature_table
from guerdon.reward_design.language.table import ALIASES, FUNCTIONS, Function

COLUMNS = 78
"""Width of the terminal in which help texts are written."""

MOST_NAMES = 10
"""Tasks that are named one by one where the same is said of all of them."""

_MARKER = re.compile(r"^<!-- generated: (\w+)(?: (\S+))? -->$", re.MULTILINE)


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Put the generated parts in; called by mkdocs for every page."""
    return _MARKER.sub(lambda found: generate(found[1], found[2]), markdown)


def generate(name: str, argument: str | None = None) -> str:
    """One generated part as Markdown.

    Raises:
        KeyError: for a name that nothing generates.
    """
    if name not in PARTS:
        raise KeyError(f"docs: nothing generates {name!r}; known: {', '.join(PARTS)}")
    part = PARTS[name]
    return part(argument) if argument else part()


def table(columns: list[str], rows: list[list[str]]) -> str:
    """A Markdown table; bars in cells are escaped."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(
        "| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |"
        for line in lines
    )


def tasks_table() -> str:
    """Every registered task, one table a family."""
    parts = []
    for family in dict.fromkeys(task.family for task in TASKS.values()):
        rows = [_task_row(t) for t in TASKS.values() if t.family == family]
        columns = ["task", "what the agent should achieve", "actions", "features"]
        parts.append(f"### {family}\n\n" + table([*columns, "horizon", "budget"], rows))
    return "\n\n".join(parts)


def _task_row(task: Task) -> list[str]:
    return [
        f"`{task.id}`",
        task.intent,
        f"{task.action.size} {task.action.kind}",
        str(len(task.layout)),
        f"{task.horizon:,}",
        f"{task.budget:,}",
    ]


def references_table() -> str:
    """The reference rewards of every task."""
    said = [
        (task, (f"`{name}`", reward.origin))
        for task in TASKS.values()
        for name, reward in task.rewards.items()
    ]
    return table(["task", "reward", "where it comes from"], _together(said))


def recipes_table() -> str:
    """The hyper-parameters' sources."""
    said = [
        (task, (algo.upper(), recipe_for(task, algo).source))
        for task in TASKS.values()
        for algo in (("ppo", "sac") if task.action.kind == "continuous" else ("ppo",))
    ]
    return table(["task", "agent", "source of its hyper-parameters"], _together(said))


def _together(said: list[tuple[Task, tuple[str, ...]]]) -> list[list[str]]:
    """Rows of a table; tasks of a family of which the same is said share one."""
    groups: dict[tuple[str, ...], list[Task]] = {}
    for task, cells in said:
        groups.setdefault((task.family, *cells), []).append(task)
    rows = []
    for (family, *cells), found in groups.items():
        whole = sum(task.family == family for task in TASKS.values())
        names = ", ".join(f"`{task.id}`" for task in found)
        if len(found) > MOST_NAMES:
            share = "all" if len(found) == whole else f"{len(found)} of {whole}"
            names = f"{share} of {family}"
        rows.append([names, *cells])
    return rows


def task_page(task_id: str) -> str:
    """One task as a language model sees it."""
    task = load_task(task_id)
    return _block(
        f"{task.intent}\n\n{action_line(task.action)}\n{feature_table(task.layout)}"
    )


def human_reward(task_id: str) -> str:
    """The ``human`` reference reward of a task, in the reward language."""
    return _block((load_task(task_id).rewards["human"].source or "").strip(), "python")


def functions_table() -> str:
    """Functions of the reward language."""
    rows = [_function_row(f) for f in FUNCTIONS.values() if not f.register]
    return table(["function", "gives", "meaning"], rows)


def registers_table() -> str:
    """Functions that remember something within an episode."""
    rows = [_function_row(f) for f in FUNCTIONS.values() if f.register]
    return table(["register", "gives", "meaning"], rows)


def _function_row(function: Function) -> list[str]:
    arguments = ", ".join(
        "number or vector" if kind == "elementwise" else kind
        for kind in function.arguments
    )
    more = ", ..." if function.variadic else ""
    result = function.result
    gives = "as its arguments" if result == "elementwise" else result
    return [f"`{function.name}`({arguments}{more})", gives, function.meaning]


def aliases_table() -> str:
    """What is understood although it is called otherwise here."""
    rows = [[f"`{other}`", f"`{own}`"] for other, own in ALIASES.items()]
    return table(["written", "read as"], rows)


def models_table() -> str:
    """The embedded models and the hashes that their weights must have."""
    rows = [
        [
            f"`embedded:{model.name}`",
            f"`{model.filename}`",
            f"{model.size >> 20:,} MiB",
            model.licence,
            f"`{model.sha256}`",
        ]
        for model in MODELS.values()
    ]
    return table(["model", "file", "size", "licence", "SHA-256"], rows)


def command_help() -> str:
    """Help of the command line, then of every command."""
    first = _help()
    found = re.search(r"\{([a-z,]+)\}", first)
    if found is None:
        raise ValueError("docs: the first line of guerdon --help names no commands")
    parts = [_block(first)]
    for command in found[1].split(","):
        parts.append(f"## guerdon {command}\n\n{_block(_help(command))}")
    return "\n\n".join(parts)


def _help(*command: str) -> str:
    environment = {
        **os.environ,
        "COLUMNS": str(COLUMNS),
        "NO_COLOR": "1",
        "TERM": "dumb",
    }
    done = subprocess.run(
        [sys.executable, "-m", "guerdon", *command, "--help"],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return "\n".join(line.rstrip() for line in done.stdout.strip().splitlines())


def _block(text: str, language: str = "text") -> str:
    return f"```{language}\n{text}\n```"


PARTS: dict[str, Callable[..., str]] = {
    "tasks": tasks_table,
    "references": references_table,
    "recipes": recipes_table,
    "task": task_page,
    "human": human_reward,
    "functions": functions_table,
    "registers": registers_table,
    "aliases": aliases_table,
    "models": models_table,
    "commands": command_help,
}
"""What a page may ask for, by name."""

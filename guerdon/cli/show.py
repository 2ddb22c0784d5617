"""What the commands print for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.markup import escape
from rich.syntax import Syntax
from rich.table import Table

from guerdon.cli.output import Terminal
from guerdon.envs import Task
from guerdon.harmless import harmless
from guerdon.report.profile import PARTS
from guerdon.report.text import share

console = Terminal()


def table(*columns: str, title: str | None = None) -> Table:
    """A plain table of this command line's style."""
    made = Table(title=title, box=None, header_style="bold", pad_edge=False)
    for column in columns:
        made.add_column(column)
    return made


def task_row(task: Task) -> dict[str, Any]:
    """One line of ``guerdon tasks --json``."""
    return {
        "id": task.id,
        "family": task.family,
        "intent": task.intent,
        "horizon": task.horizon,
        "budget": task.budget,
        "features": len(task.layout),
        "extra": task.extra,
    }


def task_table(tasks: Sequence[Task]) -> None:
    """All tasks, one a line."""
    made = table("task", "family", "what the agent should achieve")
    # An id is to be copied: it is never broken.
    made.columns[0].no_wrap = True
    for task in tasks:
        made.add_row(escape(task.id), task.family, escape(task.intent))
    console.print(made)


def task_details(task: Task) -> dict[str, Any]:
    """``guerdon tasks ID --json``: what a model would see, as data."""
    return {
        **task_row(task),
        "source": task.source,
        "action": {
            "kind": task.action.kind,
            "size": task.action.size,
            "names": list(task.action.names),
            "low": [_bound(low) for low in task.action.low],
            "high": [_bound(high) for high in task.action.high],
        },
        "features": [
            {
                "name": f.name,
                "kind": f.kind,
                "shape": list(f.shape),
                "unit": f.unit,
                "low": _bound(f.low),
                "high": _bound(f.high),
                "better": f.better,
                "meaning": f.meaning,
            }
            for f in task.layout
        ],
        "rewards": {
            name: {"source": reward.source, "origin": reward.origin}
            for name, reward in task.rewards.items()
        },
    }


def _bound(value: float) -> float | None:
    """JSON has no infinity."""
    return value if abs(value) < float("inf") else None


def task_page(task: Task) -> None:
    """One task as a language model would see it, and its reference rewards."""
    from guerdon.reward_design.language.describe import action_line, feature_table

    console.print(f"[bold]{escape(task.id)}[/]  {escape(task.intent)}", soft_wrap=True)
    console.print(
        f"horizon {task.horizon} steps, usually reported at {task.budget:,} steps; "
        f"{escape(task.source)}\n",
        soft_wrap=True,
    )
    console.print(escape(action_line(task.action)), soft_wrap=True)
    console.print(escape(feature_table(task.layout)), soft_wrap=True)
    for name, reward in task.rewards.items():
        words = f"\n[bold]{escape(name)} reward[/]: {escape(reward.origin)}"
        console.print(words, soft_wrap=True)
        if reward.source is not None:
            program(reward.source)


def program(source: str) -> None:
    """A reward program in colour."""
    if not console.is_terminal:
        print(harmless(source.rstrip()))  # a file wants the lines as they are
        return
    console.print(
        Syntax(source.rstrip(), "python", background_color="default", word_wrap=True)
    )


def check_page(found: Mapping[str, Any]) -> None:
    """What ``guerdon check`` found out."""
    shares = table("term", "share of the reward on logged steps")
    for name in found["terms"]:
        shares.add_row(escape(name), f"{found['shares'][name]:.0%}")
    work = found["work"]
    console.print(
        f"valid: {_count(len(found['terms']), 'term')}; work: "
        f"{_count(work['operations'], 'operation')} a transition, "
        f"at most {work['limit']:,} are allowed",
        soft_wrap=True,
    )
    console.print(shares)
    console.print(
        f"on {_count(found['transitions'], 'logged step')} of "
        f"{_count(found['episodes'], 'episode')}: "
        f"from {found['low']:.4g} to {found['high']:.4g}, "
        f"not zero on {found['active']:.0%} of them",
        soft_wrap=True,
    )
    rank, preference, farming = (
        "not measured" if found[name] is None else f"{found[name]:.2f}"
        for name in ("rank", "preference", "farming")
    )
    console.print(
        f"rank correlation with the true score: {rank}; better episodes preferred: "
        f"{preference}",
        soft_wrap=True,
    )
    console.print(
        f"most that a failed episode collects: {farming}",
        soft_wrap=True,
    )


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}" + ("" if number == 1 else "s")


def _estimate(value: Mapping[str, Any] | None, percent: bool = False) -> str:
    if value is None:
        return "not measured"
    scale, unit = (100.0, "%") if percent else (1.0, "")
    centre, low, high = (scale * value[k] for k in ("value", "low", "high"))
    digits = ".0f" if percent else ".3g"
    if value["n"] < 2 and low == high:
        return f"{centre:{digits}}{unit} (no interval)"
    return f"{centre:{digits}}{unit} [{low:{digits}}, {high:{digits}}]"


_ROWS = {
    "winner": "the winner",
    "sparse": "sparse reward",
    "human": "human-designed reward",
    "best_of_n": "best of N, no reflection",
}
_HANDS = {
    "model": "the model alone",
    "operators": "the operators alone",
    "both": "both together, ancestors counted",
}


def search_summary(summary: Mapping[str, Any]) -> None:
    """The end of a search: winner, holdout, who found what, and the report."""
    winner = summary["winner"]
    if summary.get("no_model"):
        console.print(f"without a model: {summary['no_model']}", markup=False)
    if winner is None:
        console.print("No candidate could be trained; the report says why.")
    else:
        console.print(
            f"\n[bold]winner[/] {escape(str(winner['id']))} by "
            f"{escape(str(winner['operator']))}, round {escape(str(winner['round']))}"
        )
        program(winner["source"])
    made = table("reward", "true score", "solved", "seeds")
    for name, label in _ROWS.items():
        row = summary["holdout"].get(name)
        seeds = str(row["fitness"]["n"]) if row else "-"
        if name == "best_of_n" and isinstance(n := summary["best_of_n"]["n"], int):
            total = escape(str(summary["candidates"]))
            label = f"best of {n} fresh ones, of {total} in all"
        made.add_row(
            label,
            _estimate(row and row["fitness"]),
            _estimate(row and row["success"], percent=True),
            seeds,
        )
    console.print(made)
    if summary["human_normalised"]:
        console.print(f"human-normalised: {_estimate(summary['human_normalised'])}")
    for origin, words in _HANDS.items():
        found = summary["by_origin"].get(origin)
        if found is None:
            continue  # the summary of a run that an earlier version finished
        best = found["best"]
        score = "nothing" if best is None else f"{best['id']} at {best['fitness']:.3g}"
        count = _count(found["candidates"], "candidate")
        console.print(f"best of {words} ({count}): {score}", markup=False)
    if summary["failures"]:
        words = ", ".join(f"{n} {kind}" for kind, n in summary["failures"].items())
        console.print(f"failed candidates: {words}", markup=False)
    calls = summary.get("calls", {"ok": 0, "failed": 0})
    if calls["failed"]:
        asked = calls["ok"] + calls["failed"]
        console.print(
            f"failed calls of the model: {calls['failed']} of {asked}; operators took "
            "their places",
            soft_wrap=True,
        )
    tokens = summary["tokens"]["prompt"] + summary["tokens"]["completion"]
    console.print(
        f"{tokens:,} tokens, {summary['cpu_seconds'] / 60:.1f} processor minutes of "
        "training"
    )
    if "profile" in summary:
        profile_table(summary["profile"])
    console.print(f"report: {summary['report']}", markup=False, soft_wrap=True)


def profile_table(found: Mapping[str, Any]) -> None:
    """Where the time of the workers went; parts that took none are left out."""
    parts = {name: value for name, value in found["seconds"].items() if value}
    total = found["worker_seconds"]
    if not parts:
        console.print("where the time went: not measured")
        return
    made = table("where the time went", "seconds", "share")
    for name, seconds in parts.items():
        made.add_row(PARTS[name], f"{seconds:,.1f}", share(seconds, total))
    console.print(made)
    words = f"all workers: {total:,.1f} s"
    if found["wall_seconds"] is not None:
        words += f"; on the clock: {found['wall_seconds']:,.1f} s"
    if found["model_call_seconds"]:
        words += f"; answers of the model: {found['model_call_seconds']:,.1f} s"
    console.print(words)


def training_page(found: Mapping[str, Any]) -> None:
    """The true score of one training or evaluation."""
    if found.get("failure"):
        failure = found["failure"]
        console.print(f"failed: {failure['kind']}: {failure['reason']}", markup=False)
        return
    console.print(f"true score: {_estimate(found['fitness'])}")
    console.print(f"solved: {_estimate(found['success'], percent=True)}")
    console.print(f"episodes: {found['episodes']}")
    for name in ("weights", "seconds"):
        if found.get(name) is not None:
            console.print(f"{name}: {found[name]}", markup=False, soft_wrap=True)
    if "profile" in found:
        profile_table(found["profile"])


def doctor_page(found: Mapping[str, Any]) -> None:
    """What is there, what is missing, and what to do about it."""
    made = table("", "what", "found")
    for row in found["checks"]:
        mark = "[green]ok[/]" if row["ok"] else "[yellow]--[/]"
        made.add_row(mark, escape(row["name"]), escape(row["detail"]))
    console.print(made)
    console.print(
        "a search can run here" if found["ok"] else "a search cannot run here"
    )

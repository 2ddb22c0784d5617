"""Live progress of a search or a training, on stderr."""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from rich.console import Group
from rich.live import Live
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

from guerdon.agents.statistics import interval
from guerdon.cli.output import Interrupted, Terminal, complain
from guerdon.envs import load_task
from guerdon.journal import TrainingRecord
from guerdon.llm.budget import Price, estimate, find_price, prompt_size
from guerdon.reward_design.search.ask import usual_request
from guerdon.run import Resources, RunConfig, run_search

_FLAGS = {f.name for f in fields(RunConfig)} | {
    "workers",
    "budget_tokens",
    "budget_usd",
    "cache",
    "executor",
    "ray_address",
}
"""What ``guerdon search`` takes by name, the task apart."""


@dataclass
class _State:
    """What the live display shows."""

    config: RunConfig
    workers: int
    phase: str = "starting"
    proposed: int = 0
    failed: set[str] = field(default_factory=set)
    done: set[tuple[str, str, int]] = field(default_factory=set)
    seconds: list[float] = field(default_factory=list)
    scores: dict[str, dict[int, tuple[int, float]]] = field(default_factory=dict)
    """By candidate and seed, the steps of the leg that went furthest, and its score."""
    episodes: dict[str, list[float]] = field(default_factory=dict)
    """By candidate, true scores of the evaluation's episodes after its last leg."""
    tokens: int = 0
    calls_failed: int = 0
    shares: list[float] = field(default_factory=list)
    note: str = ""
    steps: int | None = None
    """Steps of a training, where they are not those that were asked for."""
    started: float = field(default_factory=time.monotonic)

    def see(self, kind: str, data: Mapping[str, Any]) -> None:
        """Take in one event of the run."""
        if kind == "steps":
            self.steps = int(data["trained"])
        elif kind == "phase":
            self.phase = str(data["name"])
        elif kind == "round":
            self.phase = f"round {data['number']} of {self.config.rounds}"
        elif kind == "candidate":
            self.proposed += 1
            if data["failure"] is not None:
                self.failed.add(str(data["id"]))
        elif kind == "trained":
            self._trained(data["record"])
        elif kind == "training":
            self.shares = list(data["shares"])
        elif kind == "called":
            self.tokens += int(data["tokens"])
        elif kind == "model_failed":
            self.calls_failed += 1
        elif kind == "no_model":
            self.note = f"no model, operators only: {data['reason']}"
        elif kind == "model_down":
            self.note = f"the model fails, operators only for now: {data['reason']}"
        elif kind == "model_up":
            self.note = ""
        elif kind == "weights":
            self.phase = f"fetching the model, {data['done'] / data['total']:.0%}"

    def _trained(self, record: TrainingRecord) -> None:
        self.done.add((record.candidate, record.purpose, record.seed))
        if record.failure is not None and record.purpose == "search":
            self.failed.add(record.candidate)
        if record.wall_seconds is not None:
            self.seconds.append(record.wall_seconds)
        if record.result is not None and record.purpose in ("search", "final"):
            score = float(record.result["fitness"])
            seeds = self.scores.setdefault(record.candidate, {})
            # A race trains in legs; only the last one is what a candidate has reached.
            if record.steps >= seeds.get(record.seed, (0, 0.0))[0]:
                seeds[record.seed] = record.steps, score
                played = record.result.get("evaluation", {}).get("fitness", [])
                self.episodes[record.candidate] = [float(value) for value in played]

    @property
    def trained(self) -> int:
        """Trainings that have a result; the legs of one count once."""
        return len(self.done)

    @property
    def planned(self) -> int:
        """Trainings of the whole run, at most."""
        c = self.config
        rounds = c.rounds * c.candidates * c.search_seeds
        return rounds + c.finalists * c.final_seeds + 4 * c.seeds

    def left(self) -> float | None:
        """Seconds that are left, from the trainings so far."""
        if not self.seconds:
            return None
        mean = sum(self.seconds) / max(1, len(self.done))
        open_share = sum(1.0 - s for s in self.shares)
        waiting = max(0.0, self.planned - self.trained - len(self.shares))
        return mean * (waiting + open_share) / max(1, self.workers)

    def best(self) -> str:
        """Best true score so far, with its interval and what that is over.

        Over the training seeds, of the finals too; where there is one seed alone, over
        the episodes of its evaluation, which says nothing about another seed. As for
        the winner, whoever was trained further and with more seeds comes first.
        """
        if not self.scores:
            return "no score yet"

        def reached(name: str) -> tuple[int, int, float]:
            steps, scores = zip(*self.scores[name].values(), strict=True)
            return min(steps), len(scores), sum(scores) / len(scores)

        name = max(self.scores, key=reached)
        scores = [score for _, score in self.scores[name].values()]
        if len(scores) > 1:
            found = interval(scores)
            over = f"{found.n} seeds"
        elif len(self.episodes[name]) > 1:
            # As ``guerdon evaluate`` has it: most episodes may be equal.
            found = interval(self.episodes[name], trim=0.0)
            over = f"one seed: interval over its {found.n} episodes"
        else:
            return f"{scores[0]:.3g} by {name} (one seed, no interval)"
        bounds = f"[{found.low:.3g}, {found.high:.3g}]"
        return f"{found.value:.3g} {bounds} by {name} ({over})"

    def render(self) -> Group:
        """The display."""
        left = self.left()
        ends = "unknown" if left is None else f"about {_clock(left)}"
        # Trainings begin in the order in which they are asked for.
        begun, waiting = self.shares[: self.workers], self.shares[self.workers :]
        bars = "  ".join(f"{share:3.0%}" for share in begun) or "none"
        lines = [
            f"{self.config.task}  {self.phase}",
            f"candidates: {self.proposed} proposed, {len(self.failed)} failed, "
            f"{self.trained} of at most {self.planned} trainings done",
            f"under way: {bars}" + (f", {len(waiting)} waiting" if waiting else ""),
            f"best true score: {self.best()}",
            f"model: {self.tokens:,} tokens, {self.calls_failed} failed calls",
            f"time: {_clock(time.monotonic() - self.started)}, left: {ends}",
            *([self.note] if self.note else []),
        ]
        return Group(*(Text(line) for line in lines))


def _clock(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes}:{rest:02d}"


def observed_search(
    config: RunConfig, out: Path, resources: Resources, *, quiet: bool
) -> dict[str, Any]:
    """``run_search`` with an estimate before and a live display during the run.

    ``quiet`` leaves the estimate alone, one line on stderr. A finished run is only
    read, and wrong input only refused, without either.
    """
    console = Terminal(stderr=True, quiet=quiet)
    state = _State(config, resources.workers)
    estimated = False
    try:
        with _display(console) as show:

            def observe(kind: str, data: Mapping[str, Any]) -> None:
                nonlocal estimated
                state.see(kind, data)
                if kind == "unsafe":
                    complain(f"guerdon: {data['reason']}")
                    return
                if kind == "steps":
                    return  # the run may still be refused
                if not estimated:
                    estimated = True
                    words = _estimate(config, resources, state.steps)
                    Terminal(stderr=True).print(escape(words), soft_wrap=True)
                if kind in ("no_model", "model_down"):
                    console.print(escape(state.note), soft_wrap=True)
                elif kind == "model_up":
                    console.print("the model answers again", soft_wrap=True)
                if show is not None:
                    show(state.render())
                elif kind == "trained" and not data["kept"]:
                    console.print(_line(state, data["record"]), soft_wrap=True)

            return run_search(config, out, resources, observe)
    except KeyboardInterrupt:
        words = _resume(config, out, resources, as_json=quiet)
        Terminal(stderr=True).print(
            "interrupted; everything finished so far is kept. To go on, run\n  "
            f"{escape(words)}",
            soft_wrap=True,
        )
        raise Interrupted from None


@contextmanager
def _display(console: Terminal) -> Iterator[Callable[[Group], None] | None]:
    """What shows the state of a run; None where there is no terminal."""
    if not console.is_terminal or console.quiet:
        yield None
        return
    with Live(console=console, refresh_per_second=4, transient=True) as live:
        yield live.update


def _line(state: _State, record: TrainingRecord) -> str:
    """One line per training, where there is no terminal to draw on."""
    if record.result is None:
        words = f"failed ({record.failure})"
    else:
        result = record.result
        words = f"true score {result['fitness']:.3g}, solved {result['success']:.0%}"
    return escape(
        f"{_clock(time.monotonic() - state.started)}  {state.phase}  "
        f"{record.candidate} seed {record.seed}: {words}"
    )


def _estimate(
    config: RunConfig, resources: Resources, trained: int | None = None
) -> str:
    """What the run may cost, before anything is spent.

    Args:
        config: as it was asked for.
        resources: with the caps of the budget.
        trained: steps of a training, where they are rounded up.
    """
    state = _State(config, resources.workers)
    words = (
        f"{config.task}: at most {state.planned} trainings of {config.steps:,} steps"
    )
    if trained is not None:
        words += f" (rounded up to {trained:,}, whole rollouts)"
    if config.llm == "sampler":
        return words + ", no language model"
    calls = 2 * config.rounds * config.candidates  # every answer may need a repair
    asked = usual_request(load_task(config.task), config.trust != "language")
    price = _price(config.llm)
    cost = estimate(
        price,
        requests=calls,
        prompt_tokens=prompt_size(asked),
        max_tokens=asked.max_tokens,
    )
    words += f", at most {calls} model calls or some {cost.tokens:,} tokens"
    if cost.usd is not None:
        words += f" (${cost.usd:.2f})"
    elif config.llm.startswith(("openai:", "http")):
        words += " (price not known)"
    caps = []
    if resources.budget_tokens is not None:
        caps.append(f"{resources.budget_tokens:,} tokens")
    if resources.budget_usd is not None:
        caps.append(f"${resources.budget_usd:.2f}")
    return words + (f"; capped at {' and '.join(caps)}" if caps else "")


def _price(uri: str) -> Price | None:
    return (
        find_price(uri.removeprefix("openai:")) if uri.startswith("openai:") else None
    )


def _resume(
    config: RunConfig, out: Path, resources: Resources, *, as_json: bool = False
) -> str:
    """The command that goes on: all values that differ from the defaults.

    The caps of the budget are among them, or the rest of the run would have none.
    """
    words = ["guerdon", "search", config.task, "--out", str(out)]
    given = ((config, RunConfig(task=config.task)), (resources, Resources()))
    for values, default in given:
        for item in fields(default):
            value = getattr(values, item.name)
            if item.name in _FLAGS and value != getattr(default, item.name):
                words += [f"--{item.name.replace('_', '-')}", str(value)]
    return shlex.join([*words, "--json"] if as_json else words)


def observed_training(
    run: Callable[[Callable[[float], None]], dict[str, Any]], *, quiet: bool
) -> dict[str, Any]:
    """A single training with a bar."""
    columns = (TextColumn("training"), BarColumn(), TimeRemainingColumn())
    console = Terminal(stderr=True, quiet=quiet)
    blind = quiet or not console.is_terminal
    with Progress(*columns, console=console, transient=True, disable=blind) as bar:
        shown = bar.add_task("training", total=1.0)
        return run(lambda share: bar.update(shown, completed=share))

"""``run_search``: start, resume or read the run in a folder."""

from __future__ import annotations

import json
import time
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

from guerdon.agents.workers import WorkerPool
from guerdon.envs import Task, load_task
from guerdon.journal import Journal, canonical
from guerdon.journal.file import FILE_NAME, require_free_for_new
from guerdon.llm.budget import Budget, Cost
from guerdon.llm.client import Chat, ModelError, connect
from guerdon.llm.journaled import Journaled
from guerdon.report import write_report
from guerdon.report.build import HTML_NAME
from guerdon.report.summary import summarise
from guerdon.run.config import (
    HOLDOUT_EVALUATION_SEED,
    TRAININGS,
    Observer,
    Resources,
    RunConfig,
)
from guerdon.run.loop import Loop
from guerdon.run.single import require_trainable

ANSWERS = "answers"
"""Folder of bought answers: one that was not journaled yet is not bought again."""

NO_MODEL = "no_model"
"""Where the journal says that a run goes on without the model that was asked for."""


def run_search(
    config: RunConfig,
    folder: Path,
    resources: Resources | None = None,
    observe: Observer = lambda kind, data: None,
) -> dict[str, Any]:
    """Search a reward, or go on with the search in ``folder``, or read its result.

    A finished run is only read; its report is written again where it is missing.

    Args:
        config: what is searched; must be the folder's if it has a run already.
        folder: the run folder.
        resources: what may be used.
        observe: told what happens; also from the thread that asks the model.

    Returns:
        The summary, as the journal keeps it under ``summary``.

    Raises:
        JournalError: for a folder that is not this run's; it is left untouched.
        ValueError: for an unknown task or model; no folder is made then.
        MissingExtra: when the task or the training needs one that is not installed.
        ModelError: when the model cannot be reached at all.
    """
    task = load_task(config.task)
    summary = _finished(config, folder)
    if summary is None:
        summary = _search(config, task, folder, resources or Resources(), observe)
        write_report(folder)
    elif not (folder / HTML_NAME).exists():
        write_report(folder)
    return summary


def _finished(config: RunConfig, folder: Path) -> dict[str, Any] | None:
    """The summary of a finished run of this configuration, without a byte written."""
    if not (folder / FILE_NAME).exists():
        return None
    with Journal.open(folder, readonly=True) as journal:
        summary = journal.meta("summary")
        same = journal.meta("config") == json.loads(canonical(asdict(config)))
    return dict(summary) if summary is not None and same else None


def _search(
    config: RunConfig,
    task: Task,
    folder: Path,
    resources: Resources,
    observe: Observer,
) -> dict[str, Any]:
    """Run what is not in the journal yet, to the summary."""
    with ExitStack() as stack:
        journal = None
        if (folder / FILE_NAME).exists():
            journal = stack.enter_context(_journal(folder, config))
        else:
            require_free_for_new(folder)
        require_trainable(task, config.algo)
        chat = _connect(config, folder, resources, journal, observe)
        if chat is not None:
            stack.callback(chat.close)
        if journal is None:
            # Only now, so that a wrong model or a missing extra leaves no folder.
            journal = stack.enter_context(_journal(folder, config))
        if chat is None and config.llm != "sampler" and not journal.meta(NO_MODEL):
            reason = f"no weights for {config.llm}; operators only"
            journal.set_meta(NO_MODEL, reason)
        if journal.meta("intent") is None:
            journal.set_meta("intent", task.intent)
        if chat is not None:
            chat = Journaled(
                chat,
                journal,
                lambda a: observe("called", {"tokens": a.tokens}),
                shared_cache=resources.cache is not None,
            )
            # Before the chat inside: what its closing breaks off is no failed call.
            stack.callback(chat.close)
        pool = stack.enter_context(
            WorkerPool(
                resources.workers,
                resources.deadline(config.steps),
                folder / TRAININGS,
                function=resources.function,
            )
        )
        _go(Loop(config, task, journal, pool, chat, observe), journal)
        _film(journal, task, observe)
        # A report of the unfinished run must not pass for that of the finished one.
        (folder / HTML_NAME).unlink(missing_ok=True)
        summary = summarise(journal, task)
        journal.set_meta("summary", summary)
        return dict(journal.meta("summary"))


def _journal(folder: Path, config: RunConfig) -> Journal:
    return Journal.open_or_create(folder, asdict(config))


def _go(loop: Loop, journal: Journal) -> None:
    """Run the loop; what has finished is journaled even when it is interrupted."""
    started = time.time()
    journal.add_event("started")
    try:
        loop.go()
    finally:
        loop.collect(wait=False)
        journal.add_event("stopped", {"wall_seconds": time.time() - started})


def _connect(
    config: RunConfig,
    folder: Path,
    resources: Resources,
    journal: Journal | None,
    observe: Observer,
) -> Chat | None:
    """The model, with what the run has spent already."""
    spent = None
    if journal is not None:
        totals = journal.totals()
        spent = Cost(totals.prompt_tokens + totals.completion_tokens, totals.usd)
    budget = Budget(resources.budget_tokens, resources.budget_usd, spent=spent)

    def progress(done: int, total: int) -> None:
        observe("weights", {"done": done, "total": total})

    if journal is not None and journal.meta(NO_MODEL) is not None:
        return None
    try:
        return connect(
            config.llm,
            budget=budget,
            cache=resources.cache or folder / ANSWERS,
            threads=resources.model_threads,
            progress=progress,
        )
    except ModelError as error:
        if not config.llm.startswith("embedded"):
            raise
        # No way to the weights: the sampler goes on alone, said aloud.
        observe(NO_MODEL, {"reason": error.message})
        return None


def _film(journal: Journal, task: Task, observe: Observer) -> None:
    """Film one holdout episode of an agent that was trained with the winner."""
    winner = (journal.meta("selection") or {}).get("winner")
    if winner is None or journal.meta("episode") is not None:
        return
    trained = [t for t in journal.trainings(winner, "holdout") if t.artifact]
    if not trained:
        return
    from guerdon.agents.policies import load_policy
    from guerdon.report.render import render_episode

    observe("phase", {"name": "film"})
    path = journal.folder / "figures" / "winner.gif"
    # A typical agent: neither the luckiest seed nor the one that failed.
    order = sorted(trained, key=lambda t: (float(t.result["fitness"]), t.seed))
    typical = order[len(order) // 2]
    weights = journal.folder / str(typical.artifact)
    try:
        policy = load_policy(weights, task)
        shown = render_episode(task, policy, path, HOLDOUT_EVALUATION_SEED)
    except Exception as error:
        # Simulators raise errors of their own where there is no display. A run
        # without a film is a run all the same; the journal says what is missing.
        reason = f"{type(error).__name__}: {error}"
        journal.add_event("not_filmed", {"reason": reason})
        return
    values = {"seed": shown.seed, "fitness": shown.fitness, "length": shown.length}
    journal.set_meta("episode", values | {"success": shown.success})

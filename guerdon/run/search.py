"""``run_search``: start, resume or read the run in a folder."""

from __future__ import annotations

import json
import os
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

from guerdon.agents.pool import Pool
from guerdon.agents.ray_cluster import require_address
from guerdon.agents.ray_pool import RayPool
from guerdon.agents.server import require_workers
from guerdon.agents.workers import WorkerPool
from guerdon.envs import Task, load_task
from guerdon.extras import require_installed
from guerdon.faults import machine_fault, machine_faults
from guerdon.journal import Journal, JournalError, canonical
from guerdon.journal.file import FILE_NAME, require_free_for_new
from guerdon.llm.budget import Budget, Cost
from guerdon.llm.client import Chat, ModelError, connect
from guerdon.llm.journaled import Journaled, Note, Relay
from guerdon.report import write_report
from guerdon.report.build import HTML_NAME
from guerdon.report.folder import require_inside, require_no_links
from guerdon.report.summary import summarise
from guerdon.run.config import (
    HOLDOUT_EVALUATION_SEED,
    TRAININGS,
    Observer,
    Resources,
    RunConfig,
)
from guerdon.run.crashes import NothingTrains
from guerdon.run.device import require_device
from guerdon.run.loop import Loop
from guerdon.run.single import require_trainable
from guerdon.run.trust import UNSAFE, require_enforced

ANSWERS = "answers"
"""Folder of bought answers: one that was not journaled yet is not bought again."""

_SUMMARY = {
    *("winner", "holdout", "best_of_n", "candidates", "human_normalised"),
    *("by_origin", "failures", "tokens", "cpu_seconds"),
}
"""What the end of a run says in any case."""

NO_MODEL = "no_model"
"""Where the journal says that a run goes on without the model that was asked for."""


def run_search(
    config: RunConfig,
    folder: Path | str,
    resources: Resources | None = None,
    observe: Observer = lambda kind, data: None,
) -> dict[str, Any]:
    """Search a reward, or go on with the search in ``folder``, or read its result.

    A finished run is only read; its report is written again where it is missing. A
    language model that cannot be reached, or fails, leaves its slots to the operators;
    the journal counts its failed calls.

    Args:
        config: what is searched; must be the folder's if it has a run already. The
            steps are rounded up to whole rollouts of the task's recipe, which the
            observer is told as ``steps``.
        folder: the run folder, a path or its text.
        resources: what may be used; by default one training process per core, and one
            on a GPU.
        observe: told what happens; also from the thread that asks the model.

    Returns:
        The summary, as the journal keeps it under ``summary``.

    Raises:
        JournalError: for a folder that is not this run's, or is damaged; it is left
            untouched. ``JournalBusy``, when another process is at it, names that one.
        ValueError: for an unknown task or model, a recording that cannot be read, or a
            device that is not there or does not go with the rest; no folder is made
            then. Also for an environment that raises or gives numbers that are not
            finite in random play, and (``NothingTrains``) when every training crashes
            in the same way, the baseline's too.
        TypeError: for an argument of another type.
        MissingExtra: when the task, the training or the model needs one that is not
            installed; no folder is made then.
        ModelError: when the key of the model is missing; no folder is made then. Also
            when a run that began with the embedded model goes on without its weights.
        OSError: for a disk that is full or not to be written to, or too little memory.
            The same call goes on from what has finished. Also on a platform that has
            no fork server, sessions or process groups; no folder is made there.
        sqlite3.Error: for a journal that somebody else keeps locked.
    """
    if not isinstance(config, RunConfig):
        raise TypeError(f"config: expected a RunConfig, got {type(config).__name__}")
    if not isinstance(folder, str | os.PathLike):
        raise TypeError(f"folder: expected a path, got {type(folder).__name__}")
    if not os.fspath(folder):
        raise ValueError("folder: expected a path, got an empty text; '.' is this one")
    folder = Path(folder)
    require_no_links(folder)
    task = load_task(config.task)
    config = _agreed(config, config.whole(task), folder, observe)
    with machine_faults(folder):
        summary = _finished(config, folder)
        if summary is None:
            given = resources or Resources(workers=config.workers())
            summary = _search(config, task, folder, given, observe)
            write_report(folder)
        elif not (folder / HTML_NAME).exists():
            write_report(folder)
    return summary


def _agreed(
    asked: RunConfig, whole: RunConfig, folder: Path, observe: Observer
) -> RunConfig:
    """The configuration with the steps that are trained.

    A run that an earlier version began keeps the number that it wrote down.
    """
    if asked == whole:
        return whole
    if (folder / FILE_NAME).exists():
        with Journal.open(folder, readonly=True) as journal:
            if journal.meta("config") == json.loads(canonical(asked.as_record())):
                return asked
    if asked.steps != whole.steps:
        observe("steps", {"asked": asked.steps, "trained": whole.steps})
    return whole


def _finished(config: RunConfig, folder: Path) -> dict[str, Any] | None:
    """The summary of a finished run of this configuration, without a byte written."""
    if not (folder / FILE_NAME).exists():
        return None
    with Journal.open(folder, readonly=True) as journal:
        summary = journal.meta("summary")
        same = journal.meta("config") == json.loads(canonical(config.as_record()))
    if summary is None or not same:
        return None
    if not isinstance(summary, dict) or not summary.keys() >= _SUMMARY:
        raise JournalError(
            f"{folder / FILE_NAME}: a summary that cannot be read. Restore the file "
            "from a copy, or use another folder"
        )
    return summary


def _search(
    config: RunConfig,
    task: Task,
    folder: Path,
    resources: Resources,
    observe: Observer,
) -> dict[str, Any]:
    """Run what is not in the journal yet, to the summary."""
    require_workers()
    with ExitStack() as stack:
        journal = None
        if (folder / FILE_NAME).exists():
            journal = stack.enter_context(_journal(folder, config))
        else:
            require_free_for_new(folder)
        require_trainable(task, config.algo)
        require_enforced(config.trust)
        require_device(task, config.device, resources.executor)
        if resources.executor == "ray":
            require_installed("ray", "ray")
            require_address(resources.ray_address)
        if config.trust == "none":
            observe("unsafe", {"reason": UNSAFE})
        relay = Relay()
        budget = _budget(resources, journal)
        chat = _connect(config, folder, resources, journal, observe, relay, budget)
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
                note=_noted(journal, observe),
                relay=relay,
                budget=budget,
            )
            # Before the chat inside: what its closing breaks off is no failed call.
            stack.callback(chat.close)
        pool = stack.enter_context(_pool(resources, config, folder / TRAININGS))
        parts = resources.workers
        _go(Loop(config, task, journal, pool, chat, observe, parts), journal)
        _film(journal, task, observe)
        # A report of the unfinished run must not pass for that of the finished one.
        (folder / HTML_NAME).unlink(missing_ok=True)
        summary = summarise(journal, task)
        journal.set_meta("summary", summary)
        return dict(journal.meta("summary"))


def _pool(resources: Resources, config: RunConfig, folder: Path) -> Pool:
    """Who trains; nothing in a run's results depends on it."""
    deadline_s = resources.deadline(config.steps)
    # Rewards in full Python are trained by SB3 also where populations are asked for.
    alone = config.trainer == "population" and config.trust == "language"
    if resources.executor == "ray":
        return RayPool(
            resources.workers,
            deadline_s,
            folder,
            function=resources.function,
            address=resources.ray_address,
            populations_only=alone,
        )
    return WorkerPool(
        resources.workers,
        deadline_s,
        folder,
        function=resources.function,
        populations_only=alone,
    )


def _journal(folder: Path, config: RunConfig) -> Journal:
    return Journal.open_or_create(folder, config.as_record())


def _noted(journal: Journal, observe: Observer) -> Note:
    def note(kind: str, data: dict[str, Any]) -> None:
        journal.add_event(kind, data)
        observe(kind, data)

    return note


def _go(loop: Loop, journal: Journal) -> None:
    """Run the loop; what has finished is journaled even when it is interrupted."""
    journal.add_event("started")

    def stop() -> None:
        try:
            loop.trainings.collect(wait=False)
        finally:
            wall, seconds = loop.clock.read()
            journal.add_event("stopped", {"wall_seconds": wall, "seconds": seconds})

    try:
        loop.go()
    except BaseException:
        # What broke it off is what the user must hear, not that a full disk takes no
        # more notes either.
        with suppress(OSError, NothingTrains):
            stop()
        raise
    stop()


def _budget(resources: Resources, journal: Journal | None) -> Budget:
    """The budget, with what the run has spent already."""
    spent = None
    if journal is not None:
        totals = journal.totals()
        spent = Cost(totals.prompt_tokens + totals.completion_tokens, totals.usd)
    return Budget(resources.budget_tokens, resources.budget_usd, spent=spent)


def _connect(
    config: RunConfig,
    folder: Path,
    resources: Resources,
    journal: Journal | None,
    observe: Observer,
    relay: Relay,
    budget: Budget,
) -> Chat | None:
    """The model, paid for from the budget; None for operators alone."""
    if journal is not None and journal.meta(NO_MODEL) is not None:
        return None
    totals = journal.totals() if journal is not None else None
    answered = totals.calls_ok + totals.calls_failed if totals is not None else 0

    def progress(done: int, total: int) -> None:
        observe("weights", {"done": done, "total": total})

    try:
        return connect(
            _uri(config, journal),
            budget=budget,
            cache=resources.cache or folder / ANSWERS,
            threads=resources.model_threads,
            progress=progress,
            answered=answered,
            watch=relay,
        )
    except ModelError as error:
        begun = journal is not None and bool(journal.calls() or journal.candidates())
        if begun or not config.llm.startswith("embedded"):
            raise  # the second half of a run needs the model of its first
        # No way to the weights: the sampler goes on alone, said aloud.
        observe(NO_MODEL, {"reason": error.message})
        return None


def _uri(config: RunConfig, journal: Journal | None) -> str:
    """URI of the model; which one ``embedded`` is, a resumed run has in its journal.

    A fresh run takes what fits into the memory that is free.
    """
    calls = journal.calls() if journal is not None else []
    first = calls[0].model if calls else ""
    # Nothing else that stands there is believed: it could lead anywhere.
    if config.llm != "embedded" or not first.startswith("embedded:"):
        return config.llm
    return first.partition("@")[0]


def _film(journal: Journal, task: Task, observe: Observer) -> None:
    """Film one holdout episode of an agent that was trained with the winner."""
    winner = (journal.meta("selection") or {}).get("winner")
    if winner is None or journal.meta("episode") is not None:
        return
    trained = [t for t in journal.trainings(winner, "holdout") if t.artifact]
    if not trained:
        return
    from guerdon.agents.policies import load_policy
    from guerdon.agents.recipes import recipe_for
    from guerdon.report.render import render_episode

    observe("phase", {"name": "film"})
    path = journal.folder / "figures" / "winner.gif"
    # A typical agent: neither the luckiest seed nor the one that failed.
    order = sorted(trained, key=lambda t: (float(t.result["fitness"]), t.seed))
    typical = order[len(order) // 2]
    weights = require_inside(journal.folder, str(typical.artifact))
    try:
        policy = load_policy(weights, task)
        shown = render_episode(
            task,
            policy,
            path,
            HOLDOUT_EVALUATION_SEED,
            deterministic=recipe_for(task).deterministic,
        )
    except Exception as error:
        if machine_fault(error, journal.folder) is not None:
            raise
        # Simulators raise errors of their own where there is no display. A run
        # without a film is a run all the same; the journal says what is missing.
        reason = f"{type(error).__name__}: {error}"
        journal.add_event("not_filmed", {"reason": reason})
        return
    values = {"seed": shown.seed, "fitness": shown.fitness, "length": shown.length}
    journal.set_meta("episode", values | {"success": shown.success})

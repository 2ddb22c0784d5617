"""What a finished run comes to, as JSON: the end of ``guerdon search --json``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from guerdon.agents.statistics import human_normalised, interval, iqm
from guerdon.envs import Task
from guerdon.journal import (
    CandidateRecord,
    Journal,
    Totals,
    TrainingRecord,
    furthest,
)
from guerdon.report.candidate import compared, finalists, lineages
from guerdon.types import Estimate


def summarise(journal: Journal, task: Task) -> dict[str, Any]:
    """Winner, holdout, baselines, failures and cost of a run.

    Args:
        journal: a run whose holdout is done.
        task: the task that was searched.

    Returns:
        Plain JSON. A number that was not measured is null, never zero.
    """
    candidates = {c.id: c for c in journal.candidates()}
    selection = journal.meta("selection") or {}
    config = journal.meta("config") or {}
    names = {
        "winner": selection.get("winner"),
        "sparse": "sparse",
        "human": "human" if "human" in task.rewards else None,
        "best_of_n": selection.get("best_of_n"),
    }
    holdout = {
        row: None
        if name is None
        else _row(_by_seed(journal.trainings(name, "holdout")))
        for row, name in names.items()
    }
    legs = journal.trainings()
    trainings = _by_seed(furthest(legs))
    seeds = _selecting(candidates, trainings)
    totals = journal.totals()
    return {
        "task": task.id,
        "intent": task.intent,
        "llm": config.get("llm"),
        "no_model": journal.meta("no_model"),
        "degraded": _degraded(journal, totals),
        "winner": _winner(candidates, names["winner"], holdout["winner"]),
        "probability_best": selection.get("probability")
        if compared(finalists(selection, trainings, config, seeds), seeds)
        else None,
        "holdout": holdout,
        "best_of_n": {
            "id": names["best_of_n"],
            "n": selection.get("fresh_candidates"),
        },
        "human_normalised": _normalised(holdout),
        "by_origin": _origins(candidates, trainings),
        "failures": _failures(candidates, trainings),
        "tokens": {
            "prompt": totals.prompt_tokens,
            "completion": totals.completion_tokens,
        },
        "calls": {"ok": totals.calls_ok, "failed": totals.calls_failed},
        "usd": totals.usd,
        "budget": journal.meta("budget"),
        "cpu_seconds": sum(t.cpu_seconds or 0.0 for t in legs),
        "environment_steps": sum(t.steps for t in trainings),
        "wall_seconds": _wall_seconds(journal),
        "candidates": len(candidates),
        "trainings": len(trainings),
        "report": "report.html",
    }


def _degraded(journal: Journal, totals: Totals) -> dict[str, Any] | None:
    """How far the operators had to do without the model that was asked for."""
    events = [(e.kind, e.data) for e in journal.events()]
    slots = {
        data["id"]
        for kind, data in events
        if kind == "model_failed" and data["kind"] != "budget"
    }
    times = sum(kind == "model_down" for kind, _ in events)
    if not times and (totals.calls_ok or not slots):
        return None
    return {"slots": len(slots), "times": times, "refused": totals.calls_refused}


def _selecting(
    candidates: Mapping[str, CandidateRecord], trainings: Sequence[TrainingRecord]
) -> Counter[str]:
    """How many seeds selected each candidate that has a true score."""
    return Counter(
        t.candidate
        for t in trainings
        if t.purpose != "holdout" and t.result is not None and t.candidate in candidates
    )


def _by_seed(trainings: list[TrainingRecord]) -> list[TrainingRecord]:
    """In an order that does not depend on which of them finished first."""
    return sorted(trainings, key=lambda t: (t.candidate, t.purpose, t.seed))


def _row(trainings: Sequence[TrainingRecord]) -> dict[str, Any] | None:
    """One reward on fresh seeds: IQM over seeds with its bootstrap interval."""
    done = [t.result for t in trainings if t.result is not None]
    if not done:
        return None
    fitness = [float(result["fitness"]) for result in done]
    success = [float(result["success"]) for result in done]
    return {
        "fitness": interval(fitness)._asdict(),
        "success": interval(success)._asdict(),
        "per_seed": {"fitness": fitness, "success": success},
        "failed": len(trainings) - len(done),
    }


def _winner(
    candidates: Mapping[str, CandidateRecord],
    name: str | None,
    row: Mapping[str, Any] | None,
) -> dict[str, Any] | None:
    record = candidates.get(name or "")
    if record is None:
        return None
    return {
        "id": record.id,
        "source": record.source,
        "operator": record.operator,
        "origin": lineages(candidates.values())[record.id],
        "plan": record.plan,
        "parents": list(record.parents),
        "round": record.round,
        "fitness": row["fitness"] if row else None,
        "success": row["success"] if row else None,
    }


def _normalised(holdout: Mapping[str, Any]) -> dict[str, Any] | None:
    """Human-normalised score; the interval resamples the seeds of all three rewards.

    None where the human reward is not better than the sparse one.
    """
    rows = [holdout[name] for name in ("winner", "sparse", "human")]
    if any(row is None for row in rows):
        return None
    samples = [np.array(row["per_seed"]["fitness"]) for row in rows]
    value = human_normalised(*(iqm(list(s)) for s in samples))
    rng = np.random.default_rng(0)
    draws, gaps = [], []
    for _ in range(1000):
        drawn = [iqm(list(rng.choice(sample, len(sample)))) for sample in samples]
        gaps.append(drawn[2] - drawn[1])
        score = human_normalised(*drawn)
        if score is not None:
            draws.append(score)
    narrow = np.percentile(gaps, 2.5)
    if value is None or narrow <= 0.0:
        return None  # the human reward is not better: there is no scale
    low, high = np.percentile(draws, [2.5, 97.5])
    return Estimate(value, float(low), float(high), len(samples[0]))._asdict()


def _origins(
    candidates: Mapping[str, CandidateRecord], trainings: Sequence[TrainingRecord]
) -> dict[str, dict[str, Any]]:
    """The best that the model alone, the operators alone and both found, by true score.

    Alone is what owes nothing to the other, in itself and in all its ancestors. The
    trainings that selected count, those of the finals too; the holdout never.
    """
    scores: dict[str, list[TrainingRecord]] = {}
    for training in trainings:
        if training.purpose != "holdout" and training.result is not None:
            scores.setdefault(training.candidate, []).append(training)
    lineage = lineages(candidates.values())
    found: dict[str, dict[str, Any]] = {}
    for origin in ("model", "operators", "both"):
        own = [name for name in candidates if lineage[name] == origin]
        best = max(
            ((_mean(scores[name], "fitness"), name) for name in own if name in scores),
            default=None,
        )
        found[origin] = {
            "candidates": len(own),
            "best": None
            if best is None
            else {
                "id": best[1],
                "fitness": best[0],
                "success": _mean(scores[best[1]], "success"),
            },
        }
    return found


def _mean(trainings: Sequence[TrainingRecord], name: str) -> float:
    return float(np.mean([t.result[name] for t in trainings]))


def _failures(
    candidates: Mapping[str, CandidateRecord], trainings: Sequence[TrainingRecord]
) -> dict[str, int]:
    """Failed candidates by class; a candidate counts once.

    A training that failed on the holdout stands in the holdout's row instead.
    """
    failed = {c.id: c.failure for c in candidates.values() if c.failure is not None}
    for training in trainings:
        if training.failure is not None and training.purpose == "search":
            failed.setdefault(training.candidate, training.failure)
    return dict(Counter(failure.kind for failure in failed.values()).most_common())


def _wall_seconds(journal: Journal) -> float | None:
    """Time on the clock of all parts of the run that ended by themselves or by Ctrl-C.

    A part that was killed left no word of its end, so its time is not in the sum.
    """
    spans = [
        asdict(event)["data"]["wall_seconds"]
        for event in journal.events()
        if event.kind == "stopped"
    ]
    return float(sum(spans)) if spans else None

"""What a run folder holds, as one run is compared with another."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from guerdon.journal import CallRecord, Journal
from guerdon.journal.file import FILE_NAME
from guerdon.llm.journaled import AGAIN
from tests.run_jobs import LOG
from tests.soak.model import told


@dataclass(frozen=True)
class Kept:
    """What had reached the disk when a run was struck."""

    calls: set[str]
    trainings: set[str]


def on_disk(folder: Path) -> Kept:
    answers = {p.stem for p in folder.rglob("answers/*/*.json")}
    if not (folder / FILE_NAME).exists():
        return Kept(answers, set())
    with Journal.open(folder, readonly=True) as journal:
        calls = {c.key for c in journal.calls() if not _repeated(c)}
        return Kept(answers | calls, {t.key for t in journal.trainings()})


def _repeated(call: CallRecord) -> bool:
    """Whether a call failed, and another was made in its place."""
    return str(call.failure).startswith(AGAIN)


def questions(folder: Path) -> dict[str, str]:
    """By the key of a call what the model server knows it by."""
    with Journal.open(folder, readonly=True) as journal:
        return {
            c.key: told(
                [
                    {"role": role, "content": text}
                    for role, text in c.request["messages"]
                ],
                c.request["seed"],
            )
            for c in journal.calls()
        }


def begun(folder: Path) -> list[str]:
    log = folder / "trainings" / LOG
    return log.read_text().split() if log.exists() else []


def contents(folder: Path) -> dict[str, Any]:
    """What a run decided and measured, apart from times and from what went wrong."""
    with Journal.open(folder, readonly=True) as journal:
        summary = dict(journal.meta("summary"))
        summary.pop("wall_seconds")
        calls = [c for c in journal.calls() if not _repeated(c)]
        return {
            "summary": summary,
            "candidates": journal.candidates(),
            "trainings": sorted(journal.trainings(), key=lambda t: t.key),
            "rounds": journal.rounds(),
            "calls": sorted((c.key, str(c.answer), str(c.failure)) for c in calls),
            "selection": journal.meta("selection"),
            "config": journal.meta("config"),
            "events": sorted(
                (e.kind, json.dumps(e.data, sort_keys=True))
                for e in journal.events()
                if e.kind not in ("started", "stopped")
            ),
            "files": sorted(
                str(p.relative_to(folder))
                for p in folder.rglob("*.npz")
                if not p.name.startswith(".")
            ),
        }


def difference(mine: Any, calm: Any) -> str:
    if isinstance(mine, dict) and isinstance(calm, dict):
        keys = [k for k in calm if mine.get(k) != calm[k]]
        return "; ".join(f"{k}: {mine.get(k)!r} and {calm[k]!r}" for k in keys)[:600]
    if isinstance(mine, list) and isinstance(calm, list):
        more = [x for x in mine if x not in calm]
        less = [x for x in calm if x not in mine]
        return f"{len(mine)} and {len(calm)}; more {more!r}; less {less!r}"[:600]
    return f"{mine!r} and {calm!r}"[:600]

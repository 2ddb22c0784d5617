"""What a run folder holds, as one run is compared with another."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from guerdon.journal import CallRecord, Journal
from guerdon.journal.file import FILE_NAME
from guerdon.llm.journaled import AGAIN
from tests.soak.controller import WORKERS
from tests.soak.jobs import WORKS, watch_of
from tests.soak.model import told

CLOCKS = {"cpu_seconds", "wall_seconds", "train_seconds", "seconds"}
"""Names of times in what a training left."""


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


@dataclass(frozen=True)
class Work:
    """One training, or several as one population, as its worker told of it."""

    keys: tuple[str, ...]
    end: str
    """``ended`` or ``failed``, or nothing when its worker was killed."""


def works(folder: Path) -> list[Work]:
    """All work that was begun, in order."""
    log = watch_of(folder) / WORKS
    text = log.read_text() if log.exists() else ""
    lines = [json.loads(line) for line in text.splitlines()]
    ends = {x["work"]: x["what"] for x in lines if x["what"] != "begun"}
    return [
        Work(tuple(x["keys"]), ends.get(x["work"], ""))
        for x in lines
        if x["what"] == "begun"
    ]


def _keys(some: Sequence[Work]) -> list[str]:
    return [key for work in some for key in work.keys]


def repeated(before: Sequence[Work], after: Sequence[Work], kept: set[str]) -> int:
    """Trainings that a run which was struck, and then went on, began twice.

    Only what had reached no journal may be: what its workers were at, and what they had
    handed over a moment ago.

    Args:
        before: begun until the run was struck.
        after: begun when it went on, undisturbed.
        kept: keys of the trainings that were in the journal between the two.
    """
    first, second = _keys(before), _keys(after)
    assert len(set(second)) == len(second), "trained twice by a run left in peace"
    assert not kept & set(second), f"trained again: {sorted(kept & set(second))}"
    assert len(set(first)) == len(first), "trained twice before it was struck"
    killed = [work for work in before if not work.end]
    assert len(killed) <= WORKERS, f"{len(killed)} were under way: {killed}"
    over = [w for w in before if w.end == "ended" and not kept.issuperset(w.keys)]
    # The controller looks every 0.2 seconds; one of these trainings takes half of that.
    assert len(over) <= 3 * WORKERS, f"{len(over)} were over and not journaled: {over}"
    again = set(first) & set(second)
    failed = {key for work in before if work.end == "failed" for key in work.keys}
    lost = again - failed
    assert lost <= {*_keys(killed), *_keys(over)}, f"trained again: {lost}"
    return len(again)


def retried(all_works: Sequence[Work], *, worker: bool) -> int:
    """Trainings that a run began twice though its controller lived.

    Args:
        all_works: begun by the run.
        worker: whether one worker was killed: what it was at is trained once more.
    """
    counts = Counter(_keys(all_works))
    again = {key for key, count in counts.items() if count > 1}
    if again:
        assert worker, f"trained again: {sorted(again)}"
        assert max(counts.values()) == 2, f"trained thrice: {counts}"
        one = any(again <= set(work.keys) for work in all_works)
        assert one, f"more than one worker's trainings: {sorted(again)}"
    return len(again)


def contents(folder: Path, *, real: bool = False) -> dict[str, Any]:
    """What a run decided and measured, apart from times and from what went wrong.

    Args:
        folder: of the run.
        real: whether its trainings took their time; else what they took is told by
            them, is the same for each, and is part of the contents.
    """
    with Journal.open(folder, readonly=True) as journal:
        summary = dict(journal.meta("summary"))
        summary.pop("wall_seconds")
        calls = [c for c in journal.calls() if not _repeated(c)]
        trainings: list[Any] = sorted(journal.trainings(), key=lambda t: t.key)
        if real:
            summary = _without_clocks(summary)
            trainings = [_without_clocks(asdict(t)) for t in trainings]
        return {
            "summary": summary,
            "candidates": journal.candidates(),
            "trainings": trainings,
            "rounds": journal.rounds(),
            "calls": sorted((c.key, str(c.answer), str(c.failure)) for c in calls),
            "selection": journal.meta("selection"),
            "config": journal.meta("config"),
            "events": sorted(
                (e.kind, json.dumps(e.data, sort_keys=True))
                for e in journal.events()
                if e.kind not in ("started", "stopped")
            ),
            "files": _digests(folder),
        }


def _without_clocks(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _without_clocks(v) for k, v in value.items() if k not in CLOCKS}
    if isinstance(value, list | tuple):
        return [_without_clocks(item) for item in value]
    return value


def _digests(folder: Path) -> dict[str, str]:
    """Weights, rows, episodes and films, which hold no time, by their names."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.suffix in (".npz", ".safetensors", ".row", ".gif")
        and not path.name.startswith(".")
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

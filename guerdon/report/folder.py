"""A run folder that somebody sent: what it may hold before it is read or written to."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from guerdon.journal import CandidateRecord, JournalError, TrainingRecord
from guerdon.types import Failure

_FOLDERS = ("trainings", "answers", "figures")
"""Folders of a run; what else lies beside the journal is the user's own."""

_FILES = ("journal.", "report.", "bank.npz", ".bank.npz")
"""How the names of a run's own files begin."""


def require_no_links(folder: Path) -> None:
    """Refuse a run folder in which a file or folder of ours is a link.

    What a run writes through a link lands on somebody else's file, and what the report
    reads through one leaves with the report. The folder itself may be a link.

    Raises:
        JournalError: names the link.
    """
    for path in _ours(folder):
        if path.is_symlink():
            raise JournalError(
                f"{path}: expected a file or folder of the run, found a link to "
                f"{os.readlink(path)!r}; nothing was read or written. Remove it, or "
                "copy the run with the files themselves (cp -rL)"
            )


def _ours(folder: Path) -> Iterator[Path]:
    """Everything of a run, without walking through a link."""
    try:
        names = sorted(os.listdir(folder))
    except OSError:  # whoever opens the journal says it better
        return
    for name in names:
        if name in _FOLDERS or name.startswith(_FILES):
            yield folder / name
    for top in _FOLDERS:
        for place, folders, files in os.walk(folder / top):
            for name in (*folders, *files):
                yield Path(place) / name


def require_candidates(folder: Path, records: Iterable[CandidateRecord]) -> None:
    """Refuse candidates with values of other types than the journal writes.

    SQLite keeps any value in any column, so a journal may hold text in the place of a
    number.

    Raises:
        JournalError: names the record and the column.
    """
    for one in records:
        wanted: dict[str, tuple[object, type | tuple[type, ...]]] = {
            "id": (one.id, str),
            "round": (one.round, int),
            "slot": (one.slot, int),
            "operator": (one.operator, str),
            "parents": (one.parents, tuple),
            "source": (one.source, (str, type(None))),
            "plan": (one.plan, (str, type(None))),
            "call_key": (one.call_key, (str, type(None))),
            "failure": (one.failure, (Failure, type(None))),
        }
        _require(folder, f"candidate {one.id!r:.60}", wanted)
        if not all(isinstance(parent, str) for parent in one.parents):
            raise _wrong(folder, f"candidate {one.id!r:.60}", "parents")
        _require_failure(folder, f"candidate {one.id!r:.60}", one.failure)


def require_trainings(folder: Path, records: Iterable[TrainingRecord]) -> None:
    """The same for trainings.

    Raises:
        JournalError: names the record and the column.
    """
    number = (int, float, type(None))
    for one in records:
        wanted: dict[str, tuple[object, type | tuple[type, ...]]] = {
            "key": (one.key, str),
            "candidate": (one.candidate, str),
            "seed": (one.seed, int),
            "steps": (one.steps, int),
            "cpu_seconds": (one.cpu_seconds, number),
            "wall_seconds": (one.wall_seconds, number),
            "artifact": (one.artifact, (str, type(None))),
            "failure": (one.failure, (Failure, type(None))),
        }
        _require(folder, f"training {one.key!r:.60}", wanted)
        _require_failure(folder, f"training {one.key!r:.60}", one.failure)


def _require_failure(folder: Path, whose: str, failure: Failure | None) -> None:
    if failure is not None:
        wanted: dict[str, tuple[object, type | tuple[type, ...]]] = {
            "failure.kind": (failure.kind, str),
            "failure.reason": (failure.reason, str),
            "failure.line": (failure.line, (int, type(None))),
        }
        _require(folder, whose, wanted)


def _require(
    folder: Path,
    whose: str,
    wanted: dict[str, tuple[object, type | tuple[type, ...]]],
) -> None:
    for name, (value, kinds) in wanted.items():
        if not isinstance(value, kinds):
            raise _wrong(folder, whose, name)


def _wrong(folder: Path, whose: str, name: str) -> JournalError:
    return JournalError(
        f"{folder}: the journal's {whose} cannot be read: {name} is of another type. "
        "Restore the file from a copy, or use another folder"
    )

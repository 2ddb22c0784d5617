"""Where the time of a run went, from its trainings and from what its clock noted."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from guerdon.agents.seconds import checked_seconds
from guerdon.journal import EventRecord, Journal, TrainingRecord
from guerdon.report.measure import as_number, dig

PARTS = {
    "acting": "acting: the networks choose actions",
    "environment": "environments: they take a step",
    "rewards": "rewards: every step is paid",
    "update": "update: the networks learn",
    "training": "training, not divided (Stable-Baselines3)",
    "evaluation": "evaluation by the true score",
    "other": "other: begin and end of trainings, files, trainings that failed",
    "model": "waiting: no work before the model has answered",
    "waiting": "waiting: no work for other reasons",
}
"""Parts of the workers' time in the order in which they are shown, in words."""

MOST_SECONDS = 1e9
"""No part of a run takes thirty years."""


@dataclass(frozen=True)
class Profile:
    """The time of all workers, divided.

    Two workers have twice the time on the clock, whether they are busy or not.
    """

    parts: Mapping[str, float | None]
    """Seconds by part; None for one that was not measured."""
    model_calls: float
    """Seconds on the clock that answers of the model took; trainings may go on."""
    wall: float | None
    """Seconds on the clock of the parts of the run that came to an end."""

    @property
    def total(self) -> float:
        """Seconds of all workers."""
        return sum(self.known.values())

    @property
    def known(self) -> dict[str, float]:
        """Parts that were measured and took any time."""
        return {name: value for name, value in self.parts.items() if value}

    def as_json(self) -> dict[str, Any]:
        """Plain JSON; a part that was not measured is null, never zero."""
        return {
            "seconds": dict(self.parts),
            "worker_seconds": self.total,
            "wall_seconds": self.wall,
            "model_call_seconds": self.model_calls,
        }


def profile_of(
    trainings: Iterable[TrainingRecord],
    events: Iterable[EventRecord],
    model_calls: float = 0.0,
) -> Profile:
    """Divide the time of a run; what is malformed is left out.

    Args:
        trainings: all of the journal, every leg of a race by itself.
        events: of the journal.
        model_calls: seconds that answers of the model took.
    """
    parts: dict[str, float | None] = dict.fromkeys(PARTS)
    for training in trainings:
        result = training.result
        for name, value in divided(
            dig(result, "seconds"),
            _seconds(dig(result, "wall_seconds")),
            _seconds(dig(result, "train_seconds")),
        ).items():
            parts[name] = (parts[name] or 0.0) + value
    stops = [event.data for event in events if event.kind == "stopped"]
    noted = {
        name: _total(dig(data, "seconds", name) for data in stops)
        for name in ("busy", "model", "waiting")
    }
    if noted["busy"] is not None:
        # A part of the run that was killed noted nothing, but its trainings count.
        told = sum(value for value in parts.values() if value is not None)
        parts["other"] = max(0.0, noted["busy"] - told)
        parts["model"], parts["waiting"] = noted["model"], noted["waiting"]
    wall = _total(dig(data, "wall_seconds") for data in stops)
    return Profile(parts, _seconds(model_calls) or 0.0, wall)


def divided(seconds: Any, wall: float | None, train: float | None) -> dict[str, float]:
    """Parts of one training: those that it measured, or training and evaluation.

    >>> divided(None, wall=5.0, train=3.0)
    {'training': 3.0, 'evaluation': 2.0}
    """
    if wall is None:
        return {}
    if seconds is not None:
        try:
            return checked_seconds(seconds, wall)
        except (TypeError, ValueError, OverflowError):
            pass  # somebody else wrote this journal; the whole may still be sound
    if train is None or train > wall:
        return {}
    return {"training": train, "evaluation": wall - train}


def read_profile(folder: Path) -> Profile:
    """The profile of a run folder, whose journal is only read.

    Raises:
        JournalError: when the folder has no sound journal.
    """
    with Journal.open(folder, readonly=True) as journal:
        calls = journal.totals().seconds
        return profile_of(journal.trainings(), journal.events(), calls)


def training_profile(
    seconds: Mapping[str, float] | None, wall: float, train: float
) -> Profile:
    """The profile of a single training, which has one worker and waits for nothing."""
    parts: dict[str, float | None] = dict.fromkeys(PARTS)
    parts |= divided(seconds, wall, train)
    told = sum(value for value in parts.values() if value is not None)
    parts["other"] = max(0.0, wall - told)
    return Profile(parts, 0.0, wall)


def _seconds(value: Any) -> float | None:
    """Seconds that a part of a run may take; None for anything else."""
    found = as_number(value)
    return found if found is not None and 0.0 <= found <= MOST_SECONDS else None


def _total(values: Iterable[Any]) -> float | None:
    known = [x for value in values if (x := _seconds(value)) is not None]
    return sum(known) if known else None

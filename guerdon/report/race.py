"""The races of a run: who was trained how far, and why no further.

The journal notes the legs of every beat and what became of them. Scores and bounds are
measured again from the trainings, so they stand nowhere twice.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from guerdon.journal import EventRecord, TrainingRecord
from guerdon.report.html import cell, ident, nothing, row, table
from guerdon.report.measure import as_number, dig
from guerdon.report.text import NOT_MEASURED, escape, number, percent
from guerdon.reward_design.search.race import lower_bounds

STATES = {
    "paused": "stopped at {steps} steps",
    "finished": "trained to the end",
    "dropped": "dropped at {steps} steps: no better than before, worse than the best",
    "failed": "failed before {steps} steps",
}
"""What becomes of a candidate, in words."""

MOST_RUNGS = 10
"""Columns of a table; a race by rungs has no more."""

MOST_ROWS = 300
"""Rows of a table; the rest are in the JSON."""

_RULES = ("rungs", "eta", "confidence", "leg", "total")

Scores = dict[int, dict[str, np.ndarray]]
"""True scores of episodes, by steps and candidate."""


@dataclass
class Mark:
    """A candidate on a rung."""

    steps: int
    score: float | None
    """Mean true score; None for one that failed."""
    bound: float | None = None
    """Lower bound of its paired improvement over the mean of the rung, when it last
    counted: when it went on, or else at the end."""
    chance: bool = False
    """Whether it came here by chance."""


@dataclass
class Racer:
    """A candidate in a race."""

    id: str
    marks: list[Mark] = field(default_factory=list)
    state: str = "paused"

    @property
    def steps(self) -> int:
        """Environment steps that it was trained for."""
        known = [mark.steps for mark in self.marks if mark.score is not None]
        return max(known, default=0)

    @property
    def words(self) -> str:
        """What became of it."""
        last = self.marks[-1].steps
        return STATES[self.state].format(steps=f"{last:,}")


@dataclass
class RacedRound:
    """The race of one round."""

    round: int
    rules: dict[str, Any]
    """As the race told them: its rungs, or the steps of a pull."""
    whole: int | None
    """Steps of a full training."""
    seeds: int
    """Training seeds of each candidate."""
    racers: dict[str, Racer] = field(default_factory=dict)

    @property
    def rungs(self) -> list[int]:
        """Environment steps of the rungs, lowest first; none of a bandit's race."""
        found = self.rules.get("rungs")
        known = found if isinstance(found, list) else []
        return sorted({step for step in map(_whole, known) if step})[:MOST_RUNGS]

    @property
    def spent(self) -> int:
        """Environment steps of all of them."""
        return self.seeds * sum(racer.steps for racer in self.racers.values())

    @property
    def unraced(self) -> int | None:
        """What it would have been had all been trained to the end."""
        return self.whole and self.seeds * self.whole * len(self.racers)

    def ranked(self) -> list[Racer]:
        """Those that came furthest first, of these the best score."""

        def place(racer: Racer) -> tuple[float, float]:
            scores = [m.score for m in racer.marks if m.score is not None]
            return -racer.steps, -(scores[-1] if scores else -np.inf)

        return sorted(self.racers.values(), key=place)

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "round": self.round,
            "rules": self.rules,
            "steps": self.spent,
            "steps_without_a_race": self.unraced,
            "candidates": self.ranked(),
        }


def races_of(
    events: Iterable[EventRecord],
    trainings: Sequence[TrainingRecord],
    config: Mapping[str, Any],
) -> list[RacedRound]:
    """The races that a journal tells of; what is malformed is left out.

    Args:
        events: of the journal.
        trainings: all of it, every leg by itself.
        config: of the run.
    """
    if config.get("race") == "none":
        return []
    seeds = _whole(config.get("search_seeds")) or 1
    measured = _measured(trainings, seeds)
    found: dict[int, RacedRound] = {}
    reached: dict[int, Scores] = {}
    for event in events:
        which = _whole(dig(event.data, "round"))
        if which is None:
            continue
        if event.kind == "race":
            rules = {k: event.data[k] for k in _RULES if k in event.data}
            whole = _whole(config.get("steps"))
            found.setdefault(which, RacedRound(which, rules, whole, seeds))
            reached.setdefault(which, {})
        legs = dig(event.data, "legs")
        known = found.get(which)
        if event.kind == "raced" and known is not None and isinstance(legs, list):
            _beat(known, reached[which], legs, measured)
    for which, known in found.items():
        for steps, on_rung in reached[which].items():
            _bounds(known, on_rung, steps, only=None)
    return [found[which] for which in sorted(found)]


def _beat(
    known: RacedRound, reached: Scores, legs: list[Any], measured: Scores
) -> None:
    """One beat: the bounds of those who left, then what they came to."""
    sound = [leg for leg in legs if _sound(leg)]
    for start in {leg["start"] for leg in sound} & reached.keys():
        leavers = {leg["id"] for leg in sound if leg["start"] == start}
        _bounds(known, reached[start], start, only=leavers)
    for leg in sound:
        name, stop = leg["id"], leg["stop"]
        racer = known.racers.setdefault(name, Racer(name))
        racer.state = leg["state"]
        scores = measured.get(stop, {}).get(name)
        mark = Mark(stop, None, chance=leg["chance"])
        if scores is not None and racer.state != "failed":
            mark.score = float(scores.mean())
            reached.setdefault(stop, {})[name] = scores
        racer.marks.append(mark)


def _bounds(
    known: RacedRound,
    on_rung: dict[str, np.ndarray],
    steps: int,
    only: set[str] | None,
) -> None:
    """Write down the bounds of a rung as it stands, those of leavers for good."""
    confidence = as_number(known.rules.get("confidence"))
    lengths = {len(scores) for scores in on_rung.values()}
    if confidence is None or not 0.0 < confidence < 1.0 or len(lengths) != 1:
        return
    for name, low in lower_bounds(on_rung, confidence).items():
        if only is not None and name not in only:
            continue
        for mark in known.racers[name].marks:
            if mark.steps == steps and mark.bound is None:
                mark.bound = low


def _sound(leg: Any) -> bool:
    return (
        isinstance(leg, Mapping)
        and isinstance(leg.get("id"), str)
        and isinstance(leg.get("chance"), bool)
        and isinstance(leg.get("state"), str)
        and leg["state"] in STATES
        and _whole(leg.get("start")) is not None
        and bool(_whole(leg.get("stop")))
    )


def _whole(value: Any) -> int | None:
    known = as_number(value)
    if known is None or isinstance(value, bool | float) or not 0 <= known <= 1e15:
        return None
    return int(known)


def _measured(trainings: Sequence[TrainingRecord], seeds: int) -> Scores:
    """Scores of all legs that every seed has, in the order of the seeds."""
    legs: dict[tuple[int, str], list[np.ndarray]] = {}
    for training in sorted(trainings, key=lambda t: t.seed):
        scores = dig(training.result, "evaluation", "fitness")
        if training.purpose != "search" or not isinstance(scores, list) or not scores:
            continue
        known = [as_number(score) for score in scores]
        if None not in known:
            place = training.steps, training.candidate
            legs.setdefault(place, []).append(np.array(known, float))
    found: Scores = {}
    for (steps, name), parts in legs.items():
        if len(parts) >= seeds:
            found.setdefault(steps, {})[name] = np.concatenate(parts)
    return found


# The section ------------------------------------------------------------------------


def section(races: Sequence[RacedRound]) -> str:
    """All races as tables, in HTML."""
    if not races:
        return nothing("The journal tells of no race.")
    return "".join(_round(known) for known in races) + (
        '<p class="note">Every number is a mean true score; in brackets stands the '
        "lower bound of the paired improvement over the mean of all on that rung, "
        "which says who goes on. An asterisk marks who came to a rung by chance and "
        "not by a score. One that lost a race may still be a parent.</p>"
    )


def _round(known: RacedRound) -> str:
    words = [f"{len(known.racers)} candidates."]
    if known.rungs:
        steps = " / ".join(f"{rung:,}" for rung in known.rungs)
        words.append(f"Rungs at {steps} environment steps")
        eta = as_number(known.rules.get("eta"))
        words[-1] += f"; the best 1/{eta:.0f} of each go on." if eta else "."
    elif leg := _whole(known.rules.get("leg")):
        words.append(f"Legs of {leg:,} environment steps, one at a time.")
    spent = f"{known.spent:,} steps in all"
    if known.unraced:
        share = percent(known.spent / known.unraced)
        spent += f", {share} of the {known.unraced:,} of training all to the end"
    words.append(f"{spent}.")
    body = _by_rung(known) if known.rungs else _by_leg(known)
    return f"<h3>Round {known.round}</h3><p>{escape(' '.join(words), 1000)}</p>{body}"


def _by_rung(known: RacedRound) -> str:
    rows = []
    for racer in known.ranked()[:MOST_ROWS]:
        marks = {mark.steps: mark for mark in racer.marks}
        cells = [
            cell(_shown(marks[rung])) if rung in marks else '<td class="n"></td>'
            for rung in known.rungs
        ]
        rows.append(row(_name(racer), *cells, f"<td>{escape(racer.words)}</td>"))
    head = [f"{rung:,} steps" for rung in known.rungs]
    return table(("Candidate", *head, "What became of it"), rows)


def _by_leg(known: RacedRound) -> str:
    rows = [
        row(
            _name(racer),
            cell(str(len(racer.marks))),
            cell(f"{racer.steps:,}"),
            cell(number(racer.marks[-1].score)),
            f"<td>{escape(racer.words)}</td>",
        )
        for racer in known.ranked()[:MOST_ROWS]
    ]
    head = ("Candidate", "Legs", "Steps", "Last true score", "What became of it")
    return table(head, rows)


def _name(racer: Racer) -> str:
    return f'<th scope="row">{ident(racer.id)}</th>'


def _shown(mark: Mark) -> str:
    if mark.score is None:
        return NOT_MEASURED
    words = number(mark.score)
    if mark.bound is not None:
        words += f" [{mark.bound:+.3g}]"
    return f"{words} *" if mark.chance else words

"""What stands above the contents of the page: the result, and what it stands on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from guerdon.report import captions
from guerdon.report.data import RunData
from guerdon.report.text import aloud, escape, missing, number, percent
from guerdon.types import Estimate


def headline(data: RunData) -> str:
    """The result in one sentence that can be read aloud; plain text."""
    if data.winner is None:
        return _headline_without_winner(data)
    found = data.holdout[0].fitness
    if found is None:
        lead = "the winning reward" if data.finished else "the best reward so far"
        score = data.winner.fitness
        reached = (
            "has no true score yet"
            if score is None
            else f"reaches a true score of {aloud(score)} on {_seeds(score.n)} of the "
            "search; it has not been measured on fresh seeds"
        )
        return f"On {data.task}, {lead} ({data.winner.id}) {reached}."
    compared = [
        f"{aloud(other.fitness)} with the {other.label}"
        for other in data.holdout[1:]
        if other.id in ("sparse", "human") and other.fitness is not None
    ]
    against = ", against " + " and ".join(compared) if compared else ""
    return (
        f"On {data.task}, an agent trained with the reward that this search found "
        f"reaches a true score of {aloud(found)} on {_seeds(found.n, 'fresh ')}"
        f"{against}."
    )


def _headline_without_winner(data: RunData) -> str:
    tried = len(data.candidates)
    failed = sum(candidate.failure is not None for candidate in data.candidates)
    if tried == 0:
        return f"On {data.task}, no candidate has been proposed yet."
    if failed == tried:
        every = "the only candidate" if tried == 1 else f"all {tried} candidates"
        return f"On {data.task}, {every} failed, so there is no winner."
    return (
        f"On {data.task}, none of the {tried} candidates has a true score yet "
        f"({failed} failed)."
    )


def _seeds(n: int, kind: str = "") -> str:
    return f"{n} {kind}seed{'s' if n != 1 else ''}"


def top(data: RunData) -> str:
    """Headline, what was asked, whether it is finished, and four numbers."""
    parts = [
        '<p class="kicker">Guerdon reward search report</p>',
        f"<h1>{escape(headline(data))}</h1>",
    ]
    if data.intent:
        parts.append(f'<p class="lead">The task: {escape(data.intent)}</p>')
    if not data.finished:
        parts.append(
            '<p class="banner"><strong>This run is unfinished.</strong> '
            f"{len(data.rounds)} rounds are complete; the numbers below are what has "
            "been measured so far. Run the same command again to go on.</p>"
        )
    if data.summary.get("no_model"):
        parts.append(
            '<p class="banner"><strong>Without a language model.</strong> '
            f"{escape(str(data.summary['no_model']))}</p>"
        )
    degraded = data.summary.get("degraded")
    if isinstance(degraded, Mapping):
        parts.append(_without_model(degraded))
    first = data.holdout[0] if data.winner is not None else None
    tiles = [
        _tile("True score, fresh seeds", first.fitness if first else None),
        _tile("Episodes solved", first.success if first else None, as_percent=True),
        _tile("Human-normalised score", data.human_normalised),
        f"<div class='tile'><dt>Candidates</dt><dd>{len(data.candidates)}"
        f"<small>{sum(c.failure is None for c in data.candidates)} without failure, "
        f"{data.cost.trainings} trainings</small></dd></div>",
    ]
    return "\n".join([*parts, f'<dl class="tiles">{"".join(tiles)}</dl>'])


def _without_model(degraded: Mapping[str, Any]) -> str:
    """The model was there and failed, at least for a time."""
    times, slots = degraded.get("times"), degraded.get("slots")
    left = f" It was left alone {times} times after failing in a row." if times else ""
    return (
        '<p class="banner"><strong>The language model failed.</strong> '
        f"Operators alone filled {escape(str(slots))} of its slots.{escape(left)}</p>"
    )


def _tile(label: str, estimate: Estimate | None, as_percent: bool = False) -> str:
    if estimate is None:
        return f'<div class="tile"><dt>{label}</dt><dd>{missing()}</dd></div>'
    show = percent if as_percent else number
    detail = (
        f"{show(estimate.low)} to {show(estimate.high)}, {_seeds(estimate.n)}"
        if estimate.n > 1
        else captions.ONE_SEED
    )
    return (
        f'<div class="tile"><dt>{label}</dt><dd>{show(estimate.value)}'
        f"<small>{detail}</small></dd></div>"
    )

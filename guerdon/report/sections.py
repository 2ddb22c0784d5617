"""The sections of the page, in the order in which a reader asks.

Plain functions from ``RunData`` to HTML. Every word that is not ours goes through
``escape`` or ``highlight``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from guerdon.report import captions
from guerdon.report.candidate import Candidate
from guerdon.report.data import HoldoutRow, Maker, RunData
from guerdon.report.html import cell, details, facts, ident, nothing, row, table
from guerdon.report.text import (
    NAME_CAP,
    NOT_MEASURED,
    aloud,
    duration,
    escape,
    highlight,
    interval,
    missing,
    number,
    percent,
)
from guerdon.types import Estimate

Chart = Callable[[str, str, str], str]
"""``(name, alternative text, caption) -> HTML``; empty where nothing was measured."""

_MAX_CANDIDATES = 300
_AUTHORS = {
    "model": "written by the language model",
    "operators": "an operator of the search",
    "reference": "a reference",
}
_ORIGINS = {"model": "language model", "operators": "search", "reference": "-"}


# Headline ---------------------------------------------------------------------------


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


# Holdout ----------------------------------------------------------------------------


def holdout(data: RunData, chart: Chart) -> str:
    """The winner against its baselines on seeds that selected nothing."""
    rows = [_holdout_row(found, data) for found in data.holdout]
    head = ("Reward", "True score", "Episodes solved", "Fresh seeds", "Each seed")
    normalised = (
        f"Human-normalised score of the winner: {interval(data.human_normalised)} "
        "(0 is the sparse reward, 1 the human-designed one; not measured where the "
        "human-designed one is not better)."
    )
    return (
        table(head, rows)
        + f'<p class="note">{escape(captions.holdout_table(data))}</p>'
        + f"<p>{escape(normalised)}</p>"
        + chart(
            "holdout",
            "True score of the winner and of the baselines on fresh seeds",
            captions.holdout_chart(data),
        )
    )


def _holdout_row(found: HoldoutRow, data: RunData) -> str:
    winner = data.winner is not None and found.id == data.winner.id
    identity = data.best_of_n if found.id == "best-of-n" else found.id
    label = escape(found.label)
    if winner or identity != found.id:
        label += f" {ident(identity)}"
    n = NOT_MEASURED if found.fitness is None else str(found.fitness.n)
    if found.failed:
        n += f", {found.failed} failed"
    each = ", ".join(number(value, 2) for value in found.per_seed[:20])
    cells = [
        f'<th scope="row">{label}</th>',
        cell(interval(found.fitness)),
        cell(interval(found.success, as_percent=True)),
        cell(n),
        f"<td>{escape(each) if each else missing()}</td>",
    ]
    return f"<tr{' class=winner' if winner else ''}>{''.join(cells)}</tr>"


# The winner -------------------------------------------------------------------------


def winner(data: RunData, chart: Chart) -> str:
    """The program, who made it, and what its terms paid."""
    if data.winner is None:
        return nothing("There is no winner to show.")
    record = data.winner.record
    made = (
        f"{ident(record.id)}, made in round {record.round} by "
        f"{escape(record.operator, NAME_CAP)} ({_AUTHORS[data.winner.origin]})."
    )
    made += f" {captions.chosen(data)}"
    plan = f"<p>What its author wanted: <q>{escape(record.plan)}</q></p>"
    return (
        f"<p>{made}</p>{plan if record.plan else ''}"
        + _source(data.winner)
        + chart(
            "term_shares",
            "Share of each term in the winner's reward over training",
            captions.term_shares(data),
        )
    )


_CLAIMED = (
    "<p>Full Python, which ran apart from everything else. Its true scores were "
    "measured where it never ran; its learning curve, reward and shares are what it "
    "says of itself.</p>"
)


def _source(candidate: Candidate) -> str:
    if candidate.record.source is None:
        return nothing("It has no program.")
    failure = candidate.failure
    text = highlight(candidate.record.source, failure.line if failure else None)
    return (_CLAIMED if candidate.full_python else "") + text


# Charts with a paragraph ------------------------------------------------------------


def curves(data: RunData, chart: Chart) -> str:
    """Learning curves of every candidate."""
    return chart(
        "learning_curves",
        "True score over training for all candidates",
        captions.learning_curves(data),
    ) or nothing("No learning curve has been recorded.")


def scatter(data: RunData, chart: Chart) -> str:
    """True score against designed reward."""
    return chart(
        "true_against_designed",
        "True score against designed reward, one point per candidate",
        "Every reward has a scale of its own, so only the vertical axis compares "
        "candidates. Far right and low: an agent that was paid well for the wrong "
        "thing.",
    ) or nothing("Fewer than two candidates have both scores.")


# Who found what ---------------------------------------------------------------------


def makers(data: RunData, chart: Chart) -> str:
    """What the model and the operators found, then each operator by itself."""
    head = ("Candidates", "Without failure", "Best true score", "Best one")
    return (
        table(("Made by", *head), [_maker(maker) for maker in data.origins])
        + "<h3>By operator</h3>"
        + table(
            ("Operator", "Made by", *head),
            [_maker(maker, _ORIGINS[maker.origin]) for maker in data.operators],
        )
        + '<p class="note">Best true score: mean over the seeds of the search, which '
        "also selected; the fresh seeds above are the fair measure.</p>"
    )


def _maker(maker: Maker, origin: str = "") -> str:
    return row(
        f'<th scope="row">{escape(maker.name, NAME_CAP)}</th>',
        f"<td>{origin}</td>" if origin else "",
        cell(str(maker.candidates)),
        cell(str(maker.valid)),
        cell(number(maker.fitness)),
        f"<td>{ident(maker.best) if maker.best else missing()}</td>",
    )


# Failures ---------------------------------------------------------------------------


def failures(data: RunData, chart: Chart) -> str:
    """Classes of failure with one example each."""
    if not data.failures:
        return nothing("No candidate failed.")
    rows, examples = [], []
    for found in data.failures:
        failure = found.example.failure if found.example else None
        reason = escape(failure.reason) if failure else missing()
        rows.append(
            row(
                f'<th scope="row">{escape(found.kind, NAME_CAP)}</th>',
                cell(str(found.count)),
                f"<td>{reason}</td>",
            )
        )
        if found.example is not None and found.example.record.source:
            title = f"{escape(found.kind, NAME_CAP)}: {ident(found.example.id)}"
            where = f", line {failure.line}" if failure and failure.line else ""
            examples.append(details(title + where, _source(found.example)))
    return table(("Class", "Candidates", "For example"), rows) + "".join(examples)


# Genealogy --------------------------------------------------------------------------


def genealogy(data: RunData, chart: Chart) -> str:
    """The winner's ancestors, newest first."""
    if not data.genealogy:
        return nothing("There is no winner to trace.")
    rows, programs = [], []
    for distance, candidate in data.genealogy:
        back = "this one" if distance == 0 else f"{distance} back"
        if isinstance(candidate, str):
            rows.append(
                row(
                    cell(back),
                    f"<td>{ident(candidate)}</td>",
                    '<td colspan="3">not in the journal</td>',
                )
            )
            continue
        parents = " ".join(ident(name) for name in candidate.record.parents[:8])
        rows.append(
            row(
                cell(back),
                f"<td>{ident(candidate.id)}</td>",
                f"<td>{escape(candidate.record.operator, NAME_CAP)}</td>",
                f"<td>{parents or 'none: written afresh'}</td>",
                cell(interval(candidate.fitness)),
            )
        )
        if distance and candidate.record.source:
            programs.append(details(ident(candidate.id), _source(candidate)))
    head = (
        "Generation",
        "Candidate",
        "Operator",
        "Parents",
        "True score in the search",
    )
    return table(head, rows) + "".join(programs)


# Cost -------------------------------------------------------------------------------


def cost(data: RunData, chart: Chart) -> str:
    """Tokens, money and time."""
    spent = data.cost
    asked = spent.calls.calls_ok + spent.calls.calls_failed
    money = NOT_MEASURED if spent.usd is None else f"${spent.usd:,.4f}"
    if asked == 0 and not spent.usd:
        money = "none: no model was called"
    rows = {
        "Language model": data.llm or NOT_MEASURED,
        "Calls": f"{spent.calls.calls_ok} answered, {spent.calls.calls_failed} failed"
        + (f", {refused} not made" if (refused := spent.calls.calls_refused) else ""),
        "Time waiting for the model": duration(spent.calls.seconds if asked else None),
        "Prompt tokens": _count(spent.prompt_tokens),
        "Answer tokens": _count(spent.completion_tokens),
        "Money": money,
        "Trainings": f"{spent.trainings} finished, {spent.failed_trainings} failed",
        "Environment steps asked for": _count(spent.steps),
        "Processor time": duration(spent.cpu_seconds),
        "Time on the clock": duration(spent.wall_seconds),
    }
    if asked == 0:
        rows["Time waiting for the model"] = "none: no model was called"
    return facts(rows)


def _count(value: float | None) -> str:
    return NOT_MEASURED if value is None else f"{value:,.0f}"


# Again ------------------------------------------------------------------------------


def again(data: RunData, chart: Chart) -> str:
    """Command, configuration and versions."""
    config = {str(k): v for k, v in data.public_config.items()}
    return (
        f'<pre class="wrap"><code>{escape(data.command, 2000)}</code></pre>'
        + details("Configuration", facts(config))
        + details("Versions", facts(dict(data.versions)))
    )


def everybody(data: RunData, chart: Chart) -> str:
    """All candidates, folded away."""
    rows = []
    for candidate in data.candidates[:_MAX_CANDIDATES]:
        source = candidate.record.source
        code = details("program", _source(candidate)) if source else missing()
        state = candidate.failure.kind if candidate.failure else candidate.state
        rows.append(
            row(
                f'<th scope="row">{ident(candidate.id)}</th>',
                f"<td>{escape(candidate.record.operator, NAME_CAP)}</td>",
                f"<td>{escape(state, NAME_CAP)}</td>",
                cell(interval(candidate.fitness)),
                cell(interval(candidate.proxy)),
                f"<td>{code}</td>",
            )
        )
    head = ("Candidate", "Operator", "State", "True score", "Designed reward", "Code")
    left_out = len(data.candidates) - _MAX_CANDIDATES
    more = f"<p>{left_out} more are in report.json.</p>" if left_out > 0 else ""
    title = f"{len(data.candidates)} candidates in the order of their making"
    note = f'<p class="note">{escape(captions.all_candidates(data))}</p>'
    return details(title, table(head, rows) + note + more)

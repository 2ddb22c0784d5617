"""The sections of the page, in the order in which a reader asks.

Plain functions from ``RunData`` to HTML. Every word that is not ours goes through
``escape`` or ``highlight``.
"""

from __future__ import annotations

from collections.abc import Callable

from guerdon.report import captions
from guerdon.report.candidate import Candidate
from guerdon.report.data import HoldoutRow, Maker, RunData
from guerdon.report.html import cell, details, facts, ident, nothing, row, table
from guerdon.report.profile import PARTS
from guerdon.report.text import (
    NAME_CAP,
    NOT_MEASURED,
    duration,
    escape,
    highlight,
    interval,
    missing,
    number,
    share,
)

Chart = Callable[[str, str, str], str]
"""``(name, alternative text, caption) -> HTML``; empty where nothing was measured."""

_MAX_CANDIDATES = 300
_AUTHORS = {
    "model": "written by the language model",
    "operators": "an operator of the search",
    "reference": "a reference",
}
_ORIGINS = {"model": "language model", "operators": "search", "reference": "-"}
_HANDS = {
    "model": "All its ancestors were written by the language model too.",
    "operators": "The language model wrote none of its ancestors.",
    "both": "Counting its ancestors, the model and the operators had a hand in it.",
}


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
    if found.of is not None:
        label += f" (N = {found.of} of {len(data.candidates)} candidates)"
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
    if record.parents and data.winner.origin != "reference":
        made += f" {_HANDS[data.lineage(data.winner)]}"
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
    """What model and operators found alone and together, then each operator."""
    head = ("Candidates", "Without failure", "Best true score", "Best one")
    return (
        table(("Made by", *head), [_maker(maker) for maker in data.origins])
        + "<h3>By operator</h3>"
        + table(
            ("Operator", "Made by", *head),
            [_maker(maker, _ORIGINS[maker.origin]) for maker in data.operators],
        )
        + '<p class="note">Alone is what owes nothing to the other, in itself and in '
        "all its ancestors; an operator stands under who wrote its last change. Best "
        "true score: mean over the seeds of the search, which also selected; the "
        "fresh seeds above are the fair measure.</p>"
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
        "Time of the model's answers": duration(spent.calls.seconds if asked else None),
        "Prompt tokens": _count(spent.prompt_tokens),
        "Answer tokens": _count(spent.completion_tokens),
        "Money": money,
        "Trainings": f"{spent.trainings} finished, {spent.failed_trainings} failed",
        "Environment steps asked for": _count(spent.steps),
        "Processor time": duration(spent.cpu_seconds),
        "Time on the clock": duration(spent.wall_seconds),
    }
    if asked == 0:
        rows["Time of the model's answers"] = "none: no model was called"
    return facts(rows)


def _count(value: float | None) -> str:
    return NOT_MEASURED if value is None else f"{value:,.0f}"


# Where the time went ----------------------------------------------------------------


def times(data: RunData, chart: Chart) -> str:
    """What the workers did with their time."""
    found = data.profile
    if not found.total:
        return nothing("No part of the time has been measured.")
    rows = [
        row(
            f'<th scope="row">{escape(PARTS[name])}</th>',
            cell(duration(seconds)),
            cell(share(seconds, found.total)),
        )
        for name, seconds in found.known.items()
    ]
    return (
        table(("Part", "Time of all workers", "Share"), rows)
        + f'<p class="note">{escape(captions.times(data))}</p>'
        + chart(
            "time",
            "Shares of the workers' time",
            "Everything that the workers did, and what they waited for.",
        )
    )


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

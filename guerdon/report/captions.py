"""Words under tables and charts: they promise what was measured and no more."""

from __future__ import annotations

from guerdon.report import measure
from guerdon.report.data import RunData
from guerdon.report.text import duration, percent

ONE_SEED = "one seed, no interval"


def chosen(data: RunData) -> str:
    """How sure it is that the best finalist was chosen; empty before the choice."""
    if data.probability_best is not None:
        return (
            "After the finalists' extra seeds it is the best of them with "
            f"probability {percent(data.probability_best)}."
        )
    if not data.finished:
        return ""
    if data.only_finalist:
        return "It was the only finalist, so it was compared with no other."
    return (
        "No finalist was trained with a second seed, so how sure it is that this is "
        "the best of them was not measured."
    )


def holdout_table(data: RunData) -> str:
    """What the values of the table are; an interval is promised where there is one."""
    seeds = _fresh_seeds(data)
    if not seeds:
        return "No fresh seed has been trained and evaluated yet."
    if max(seeds) < 2:
        return (
            "One seed, no interval: each value is that of one fresh training seed, "
            "which no choice of the search has seen. Another seed may score otherwise."
        )
    note = (
        "Each value is the interquartile mean over fresh training seeds, which no "
        "choice of the search has seen, with its 95 % bootstrap interval"
    )
    return f"{note}; one seed has no interval." if min(seeds) < 2 else f"{note}."


def holdout_chart(data: RunData) -> str:
    """What bars and circles are."""
    if max(_fresh_seeds(data), default=0) < 2:
        return "Each open circle is one seed; one seed has no interval."
    return "Bars are the intervals of the table; each open circle is one seed."


def _fresh_seeds(data: RunData) -> list[int]:
    return [row.fitness.n for row in data.holdout if row.fitness is not None]


def term_shares(data: RunData) -> str:
    """What the shares are of."""
    trainings = [] if data.winner is None else data.shown_trainings(data.winner.id)
    found = measure.shares(trainings)
    seeds = "mean over seeds" if found and found.seeds > 1 else "one seed"
    return (
        f"Share of each term in the reward's absolute size per episode, {seeds}. A "
        "term that pays most early and little later was a stepping stone."
    )


def learning_curves(data: RunData) -> str:
    """What lines and bands are."""
    lines = data.curves.all
    several = max((line.seeds for line in lines), default=0) > 1
    score = "Mean over seeds of the true score" if several else "True score"
    bands = (
        "bands are 95 % bootstrap intervals of that mean"
        if several
        else "every line is one seed, so there are no bands"
    )
    words = (
        f"{score} of the episodes that ended in the span before each point, in which "
        f"every environment ends at least one; {bands}. The winner and the references "
        "are shown on their fresh seeds where these were run, other candidates on "
        "the seeds of the search."
    )
    if {len(line.steps) for line in lines} == {1}:
        words += " The trainings were so short that each of them is one point."
    if data.curves.dropped:
        words += (
            " Candidates that were dropped before every environment had ended an "
            "episode have no line: of theirs only the quick successes had ended."
        )
    return words


def all_candidates(data: RunData) -> str:
    """What the numbers of the long table are."""
    seeds = [c.fitness.n for c in data.candidates if c.fitness is not None]
    if max(seeds, default=0) < 2:
        return "One seed each."
    return "Mean over seeds, with the lowest and the highest seed."


def times(data: RunData) -> str:
    """Whose time it is, and what the numbers leave out."""
    found = data.profile
    words = (
        "All time of all workers, busy or not: two workers have twice the time on the "
        "clock."
    )
    if found.model_calls:
        words += (
            f" Answers of the model took {duration(found.model_calls)}; only while a "
            "worker had nothing to train was that waiting."
        )
    if found.parts["training"]:
        words += " Stable-Baselines3's trainings are measured as a whole."
    if data.config.get("trust", "language") != "language":
        words += " Rewards in full Python tell themselves how long they were trained."
    if found.parts["waiting"] is None:
        words += " How long workers waited has not been noted yet."
    return words

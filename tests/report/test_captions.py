"""Small runs: the words promise no more than what was measured."""

from __future__ import annotations

import html
import re
from pathlib import Path

import pytest
from synthetic_run import CONFIG, SOURCE, training

from guerdon.journal import CandidateRecord, Journal
from guerdon.report import captions, figures, write_report
from guerdon.report.data import RunData
from guerdon.report.look import LIGHT


def tiny(folder: Path, *, seeds: int = 1, candidates: int = 1, points: int = 1) -> Path:
    """A finished run whose candidates have one seed of the search each."""
    config = CONFIG | {"finalists": 3}
    with Journal.create(folder, config) as journal:
        for slot in range(candidates):
            name = f"r1-c{slot:02d}"
            journal.add_candidate(
                CandidateRecord(
                    id=name, round=1, slot=slot, operator="sample", source=SOURCE
                )
            )
        jobs = [(f"r1-c{slot:02d}", 0, "search") for slot in range(candidates)]
        for name in ("r1-c00", "sparse"):
            jobs += [(name, 1000 + seed, "holdout") for seed in range(seeds)]
        for job in jobs:
            record = training(*job, 0.9)
            ends = [1000 * (place + 1) for place in range(points)]
            curve = {"steps": ends, "fitness": [0.5] * points, "terms": {}}
            record.result["curve"] = curve
            journal.add_training(record)
        probability = 1.0 if candidates == 1 else 0.0
        journal.set_meta("selection", {"winner": "r1-c00", "probability": probability})
        journal.set_meta("summary", {"winner": {"id": "r1-c00"}})
    return folder


def words_of(folder: Path) -> str:
    page = write_report(folder).read_text("utf-8").partition("</head>")[2]
    return " ".join(html.unescape(re.sub("<[^>]*>", " ", page)).split())


@pytest.mark.usefixtures("without_charts")
def test_one_finalist_has_no_probability_and_one_seed_no_interval(
    tmp_path: Path,
) -> None:
    text = words_of(tiny(tmp_path / "run"))
    assert "It was the only finalist, so it was compared with no other." in text
    assert "probability" not in text
    assert "One seed, no interval: each value is that of one fresh" in text
    assert "one seed, no interval" in text
    assert "bootstrap" not in text
    assert "One seed each." in text


@pytest.mark.usefixtures("without_charts")
def test_finalists_without_a_second_seed_are_not_said_to_be_compared(
    tmp_path: Path,
) -> None:
    text = words_of(tiny(tmp_path / "run", candidates=2))
    assert "No finalist was trained with a second seed" in text
    assert "probability" not in text


@pytest.mark.usefixtures("without_charts")
def test_two_seeds_have_their_interval(tmp_path: Path) -> None:
    data = RunData(tiny(tmp_path / "run", seeds=2))
    assert captions.holdout_table(data).endswith("its 95 % bootstrap interval.")
    assert captions.holdout_chart(data).startswith("Bars are the intervals")


def test_a_reward_with_one_seed_among_others_is_told(tmp_path: Path) -> None:
    folder = tiny(tmp_path / "run", seeds=2)
    with Journal.open(folder) as journal:
        journal.add_training(training("human", 1000, "holdout", 0.5))
    note = captions.holdout_table(RunData(folder))
    assert note.endswith("bootstrap interval; one seed has no interval.")


@pytest.mark.parametrize(
    ("seeds", "points", "expected", "absent"),
    [
        (1, 1, ("no bands", "each of them is one point"), "bootstrap"),
        (1, 5, ("no bands",), "one point"),
        (2, 5, ("Mean over seeds", "95 % bootstrap intervals"), "no bands"),
    ],
)
def test_the_caption_of_the_curves_says_what_is_drawn(
    tmp_path: Path, seeds: int, points: int, expected: tuple[str, ...], absent: str
) -> None:
    data = RunData(tiny(tmp_path / "run", seeds=seeds, points=points))
    words = captions.learning_curves(data)
    assert all(part in words for part in expected)
    assert absent not in words


@pytest.mark.parametrize("points", [1, 2, 5])
def test_the_axis_of_the_steps_begins_at_the_start_of_training(
    tmp_path: Path, points: int
) -> None:
    from matplotlib.figure import Figure

    data = RunData(tiny(tmp_path / "run", points=points))
    axes = Figure().add_subplot()
    figures.learning_curves(axes, data, LIGHT)
    low, high = axes.get_xlim()
    assert low == 0
    # One point stands inside of the frame, and a line ends at its edge.
    assert high == pytest.approx(1000 * points * (1.03 if points == 1 else 1.0))


def test_a_candidate_dropped_before_its_failures_ended_has_no_line(
    tmp_path: Path,
) -> None:
    from matplotlib.figure import Figure

    folder = tiny(tmp_path / "run", candidates=2, points=5)

    def lines() -> int:
        axes = Figure().add_subplot()
        figures.learning_curves(axes, RunData(folder), LIGHT)
        return len(axes.lines)

    before = lines()
    with Journal.open(folder) as journal:
        name = "r1-c02"
        journal.add_candidate(
            CandidateRecord(id=name, round=1, slot=2, operator="sample", source=SOURCE)
        )
        record = training(name, 0, "search", 0.9)
        curve = {"steps": [200, 400], "fitness": [None, 0.9], "terms": {}}
        record.result["curve"] = curve
        journal.add_training(record)
    assert lines() == before
    words = captions.learning_curves(RunData(folder))
    assert "only the quick successes had ended" in words


def test_before_the_holdout_nothing_is_promised(tmp_path: Path) -> None:
    Journal.create(tmp_path / "run", CONFIG).close()
    data = RunData(tmp_path / "run")
    assert captions.holdout_table(data).startswith("No fresh seed has been trained")
    assert captions.chosen(data) == ""

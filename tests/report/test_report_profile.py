"""Where the time went: sums by hand, on the page, and from a hostile journal."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from guerdon.journal import EventRecord, Journal, TrainingRecord
from guerdon.report import write_report
from guerdon.report.profile import profile_of, read_profile, training_profile

POPULATION = {
    "wall_seconds": 10.0,
    "train_seconds": 8.0,
    "seconds": {
        "acting": 1.0,
        "environment": 2.0,
        "rewards": 0.5,
        "update": 4.0,
        "evaluation": 1.5,
    },
}
SB3 = {"wall_seconds": 6.0, "train_seconds": 5.0, "seconds": None}


def trained(result: Any) -> TrainingRecord:
    return TrainingRecord(
        key="k", candidate="c", seed=0, purpose="search", steps=1, result=result
    )


def stopped(wall: Any, **seconds: Any) -> EventRecord:
    return EventRecord(kind="stopped", data={"wall_seconds": wall, "seconds": seconds})


def parts(*results: Any) -> dict[str, float]:
    return profile_of(map(trained, results), []).known


def test_parts_of_all_trainings_and_the_rest_are_the_whole_time_of_the_workers() -> (
    None
):
    events = [
        EventRecord(kind="started"),
        stopped(8.0, busy=12.0, model=3.0, waiting=1.0),  # 2 workers x 8 s
        stopped(4.0, busy=6.0, model=0.0, waiting=2.0),  # and 2 x 4 s after a break
    ]
    found = profile_of([trained(POPULATION), trained(SB3)], events, model_calls=5.0)
    assert found.parts == {
        "acting": 1.0,
        "environment": 2.0,
        "rewards": 0.5,
        "update": 4.0,
        "training": 5.0,
        "evaluation": 1.5 + 1.0,
        "other": 18.0 - 9.0 - 6.0,
        "model": 3.0,
        "waiting": 3.0,
    }
    assert found.total == 2 * (8.0 + 4.0)
    assert found.wall == 12.0
    assert found.model_calls == 5.0


def test_what_was_not_noted_is_unknown_and_never_zero() -> None:
    found = profile_of([trained(POPULATION)], [EventRecord(kind="started")])
    unknown = {name for name, value in found.parts.items() if value is None}
    assert unknown == {"training", "other", "model", "waiting"}
    assert found.wall is None
    assert profile_of([trained(None)], []).total == 0.0


def test_trainings_of_a_part_that_was_killed_leave_nothing_over() -> None:
    found = profile_of([trained(SB3)], [stopped(2.0, busy=1.0, model=0.0, waiting=1.0)])
    assert found.parts["other"] == 0.0
    assert found.total == 7.0


@pytest.mark.parametrize(
    "seconds",
    [
        *("text", 5.0, [1.0], {"acting": "1"}, {"acting": None}, {"acting": True}),
        *({"acting": -1.0}, {"acting": math.inf}, {"acting": math.nan}),
        *({"acting": 10**400}, {"acting": 10.1}, {"acting": 9.0, "update": 9.0}),
        *({"<script>": 1.0}, {"acting": 1.0, "other": 1.0}),
    ],
)
def test_parts_that_cannot_be_are_left_out_for_what_is_known_of_the_whole(
    seconds: Any,
) -> None:
    assert parts(POPULATION | {"seconds": seconds}) == {
        "training": 8.0,
        "evaluation": 2.0,
    }


@pytest.mark.parametrize("wall", [None, "x", -1.0, 1e300, 10**400, math.nan, True])
@pytest.mark.parametrize("name", ["wall_seconds", "train_seconds"])
def test_a_whole_that_cannot_be_measures_nothing(name: str, wall: Any) -> None:
    # JSON's true is the number 1, and the rest of SB3's six seconds is more than it.
    found = parts(SB3 | {name: wall})
    assert sum(found.values()) <= 6.0
    if wall is not True:
        assert found == {}


@pytest.mark.parametrize(
    "event",
    [
        EventRecord(kind="stopped", data=None),
        EventRecord(kind="stopped", data=[1]),
        EventRecord(kind="stopped", data={"wall_seconds": {}, "seconds": [3]}),
        stopped("x", busy="long", model=-3.0, waiting=10**400),
        stopped(1e12, busy=1e12, model=math.inf, waiting=None),
    ],
)
def test_notes_that_are_none_are_ignored(event: EventRecord) -> None:
    found = profile_of([trained(SB3)], [event])
    assert found.known == {"training": 5.0, "evaluation": 1.0}
    assert found.wall is None
    json.dumps(found.as_json(), allow_nan=False)


def test_a_training_alone_is_divided_with_nothing_to_wait_for() -> None:
    found = training_profile(None, 6.0, 5.0)
    assert found.known == {"training": 5.0, "evaluation": 1.0}
    found = training_profile(POPULATION["seconds"], 10.0, 8.0)  # type: ignore[arg-type]
    assert found.parts["other"] == pytest.approx(1.0)
    assert found.total == pytest.approx(10.0)


def test_the_report_shows_every_part_and_their_sum_is_the_workers_time(
    finished_run: Path,
) -> None:
    page = (finished_run / "report.html").read_text("utf-8")
    section = page.partition('<section id="time">')[2].partition("</section>")[0]
    # 58 trainings; each number is 58 times that of one.
    for cells in (
        ("networks choose actions", "9 min 40 s", "21 %"),
        ("they take a step", "3 min 52 s", "9 %"),
        ("every step is paid", "1 min 56 s", "4 %"),
        ("networks learn", "19 min 20 s", "43 %"),
        ("by the true score", "1 min 56 s", "4 %"),
        ("begin and end of trainings", "6 min 36 s", "15 %"),
        ("before the model has answered", "1 min 0 s", "2 %"),
        ("for other reasons", "40 s", "1 %"),
    ):
        row = next(row for row in section.split("<tr>") if cells[0] in row)
        assert all(cell in row for cell in cells), (cells, row)
    assert "Answers of the model took 1 min 15 s" in section
    assert "data:image/svg+xml" in section
    found = json.loads((finished_run / "report.json").read_text())["profile"]
    assert found == read_profile(finished_run).as_json()
    assert found["worker_seconds"] == 2 * found["wall_seconds"] == 2 * 1350.0
    assert sum(value or 0.0 for value in found["seconds"].values()) == 2700.0


def section_of(folder: Path) -> str:
    page = write_report(folder).read_text("utf-8")
    return page.partition('<section id="time">')[2].partition("</section>")[0]


@pytest.mark.usefixtures("without_charts")
def test_an_unfinished_run_says_that_waiting_is_not_known(
    run_folder: Callable[..., Path],
) -> None:
    assert "has not been noted yet" in section_of(run_folder(finished=False))


@pytest.mark.usefixtures("without_charts")
def test_a_run_without_a_training_says_that_nothing_was_measured(
    failed_run: Path,
) -> None:
    assert "No part of the time has been measured" in section_of(failed_run)


def test_a_hostile_journal_has_a_page_without_its_numbers(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    with Journal.create(folder, {"task": "t"}) as journal:
        bad = POPULATION | {"seconds": {"<script>alert(1)</script>": 1e300}}
        journal.add_training(trained(bad))
        journal.add_event("stopped", {"wall_seconds": "<b>", "seconds": {"busy": []}})
    section = section_of(folder)
    assert "<script" not in section
    assert "<b>" not in section
    assert "80 %" in section  # the 8 of 10 seconds that the training took

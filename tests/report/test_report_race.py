"""Races as the report tells of them, beside small ones worked out by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from synthetic_run import CONFIG

from guerdon.journal import EventRecord, Journal, TrainingRecord
from guerdon.report import write_report
from guerdon.report.race import RacedRound, races_of, section
from guerdon.reward_design.search.race import paired

RULES = {"round": 1, "rungs": [100, 200], "eta": 2, "confidence": 0.8}
SCORES = {
    ("a", 100): [0.4, 0.6],
    ("b", 100): [0.3, 0.3],
    ("c", 100): [0.0, 0.2],
    ("a", 200): [0.9, 0.7],
    ("c", 200): [0.1, 0.1],
}


def leg(name: str, start: int, stop: int, state: str, chance: bool = False) -> Any:
    return {
        "id": name,
        "start": start,
        "stop": stop,
        "state": state,
        "chance": chance,
    }


FIRST = [
    leg("a", 0, 100, "paused"),
    leg("b", 0, 100, "paused"),
    leg("c", 0, 100, "paused"),
    leg("d", 0, 100, "failed"),
]
SECOND = [leg("a", 100, 200, "finished"), leg("c", 100, 200, "finished", chance=True)]


def trained(name: str, steps: int, scores: list[Any]) -> TrainingRecord:
    return TrainingRecord(
        key=f"{name}-{steps}",
        candidate=name,
        seed=0,
        purpose="search",
        steps=steps,
        result={"evaluation": {"fitness": scores}, "fitness": 0.5},
    )


TRAININGS = [trained(name, steps, scores) for (name, steps), scores in SCORES.items()]


def events(*beats: list[Any], rules: Any = RULES) -> list[EventRecord]:
    told = [
        EventRecord(kind="raced", data={"round": 1, "beat": n, "legs": legs})
        for n, legs in enumerate(beats)
    ]
    return [EventRecord(kind="race", data=rules), *told]


def the_race(*beats: list[Any], steps: int = 200) -> RacedRound:
    config = {"steps": steps, "search_seeds": 1}
    (found,) = races_of(events(*beats), TRAININGS, config)
    return found


def test_scores_and_bounds_are_those_of_the_trainings() -> None:
    found = the_race(FIRST, SECOND)
    assert found.rungs == [100, 200]
    mean = np.mean([SCORES["a", 100], SCORES["b", 100], SCORES["c", 100]], axis=0)
    for name in "abc":
        mark = found.racers[name].marks[0]
        own = np.array(SCORES[name, 100])
        assert mark.score == pytest.approx(own.mean())
        assert mark.bound == pytest.approx(paired(own, mean, 0.8).low)
    assert [mark.chance for mark in found.racers["c"].marks] == [False, True]
    assert found.racers["d"].marks[0].score is None
    assert [racer.id for racer in found.ranked()] == ["a", "c", "b", "d"]
    # a and c 200 each, b 100, d none; all four to the end would have been 800.
    assert (found.spent, found.unraced) == (500, 800)


def test_a_bound_is_the_one_that_decided_and_not_moved_by_who_comes_later() -> None:
    late = [leg("a", 100, 200, "finished"), leg("c", 0, 100, "paused")]
    found = the_race(FIRST[:2], late)
    pair = np.mean([SCORES["a", 100], SCORES["b", 100]], axis=0)
    three = np.mean([SCORES[name, 100] for name in "abc"], axis=0)
    bounds = {name: found.racers[name].marks[0].bound for name in "ab"}
    own = {name: np.array(SCORES[name, 100]) for name in "ab"}
    assert bounds["a"] == pytest.approx(paired(own["a"], pair, 0.8).low)
    assert bounds["b"] == pytest.approx(paired(own["b"], three, 0.8).low)


def test_the_section_says_what_became_of_everybody() -> None:
    dropped = [*SECOND[:1], leg("c", 100, 200, "dropped", chance=True)]
    page = section([the_race(FIRST, dropped)])
    assert "Rungs at 100 / 200 environment steps; the best 1/2 of each go on." in page
    assert "62 % of the 800 of training all to the end" in page
    assert "trained to the end" in page
    assert "dropped at 200 steps" in page
    assert "stopped at 100 steps" in page
    assert "failed before 100 steps" in page
    assert page.count(" *</td>") == 1
    assert "no race" in section([])


def test_legs_of_a_bandit_are_counted() -> None:
    rules = {"round": 1, "leg": 100, "total": 300}
    config = {"steps": 400}
    found = races_of(events(FIRST, SECOND, rules=rules), TRAININGS, config)
    page = section(found)
    assert "Legs of 100 environment steps" in page
    assert '<td class="n">2</td><td class="n">200</td><td class="n">0.8</td>' in page


@pytest.mark.parametrize(
    "broken",
    [
        None, 3, [], {"id": "a"}, leg("a", 0, 100, "flew"), leg("a", -1, 100, "paused"),
        leg("a", 0, 0, "paused"), leg("a", 0, 10**400, "paused"), {**FIRST[0], "id": 7},
        {**FIRST[0], "state": ["paused"]}, {**FIRST[0], "chance": "yes"},
    ],
)  # fmt: skip
def test_what_is_malformed_is_left_out(broken: Any) -> None:
    found = the_race([broken, *FIRST])
    assert len(found.racers["a"].marks) == 1
    assert set(found.racers) == set("abcd")
    assert races_of(events(rules=broken), [], {}) == []
    assert races_of([EventRecord(kind="raced", data=broken)], [], {}) == []


def test_scores_of_another_number_have_no_bound() -> None:
    odd = [
        trained("b", 100, [0.3, 0.3, 0.3]),
        *(t for t in TRAININGS if t.key != "b-100"),
    ]
    (found,) = races_of(events(FIRST), odd, {"steps": 200})
    assert found.racers["a"].marks[0].bound is None
    assert found.racers["b"].marks[0].score == pytest.approx(0.3)
    unknown = [trained("a", 100, [0.3, None]), trained("b", 100, [])]
    (found,) = races_of(events(FIRST), unknown, {"steps": 200})
    assert found.racers["a"].marks[0].score is None


def test_a_run_without_a_race_has_no_such_section(tmp_path: Path) -> None:
    dropped = [SECOND[0], leg("c", 100, 200, "dropped", chance=True)]
    for number, race in enumerate(("halving", "none")):
        folder = tmp_path / str(number)
        with Journal.create(
            folder, CONFIG | {"race": race, "search_seeds": 1}
        ) as journal:
            for event in events(FIRST, dropped):
                journal.add_event(event.kind, event.data)
            for training in TRAININGS:
                journal.add_training(training)
        page = write_report(folder).read_text("utf-8")
        told = json.loads((folder / "report.json").read_text("utf-8"))["races"]
        assert ('id="race"' in page) == bool(told) == (race == "halving")
        assert (folder / "figures" / "race.png").exists() == bool(told)
    raced = json.loads((tmp_path / "0" / "report.json").read_text("utf-8"))["races"]
    assert raced[0]["steps"] == 500
    assert raced[0]["candidates"][0]["marks"][1]["score"] == pytest.approx(0.8)

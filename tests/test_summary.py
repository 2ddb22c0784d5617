"""The summary of a journal that was written by hand."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from guerdon.journal import CandidateRecord, Journal, TrainingRecord
from guerdon.report.summary import summarise
from guerdon.types import Failure
from tests.reward_design.search.small import TASK


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    with Journal.create(tmp_path / "run", {"llm": "sampler"}) as found:
        yield found


def candidate(journal: Journal, name: str, operator: str, **more: Any) -> None:
    journal.add_candidate(
        CandidateRecord(
            id=name, round=1, slot=0, operator=operator, source="def", **more
        )
    )


def training(
    journal: Journal, name: str, purpose: Any, seed: int, fitness: float | None
) -> None:
    result = None if fitness is None else {"fitness": fitness, "success": fitness / 2}
    failure = Failure("crashed", "no") if result is None else None
    journal.add_training(
        TrainingRecord(
            key=f"{name}-{purpose}-{seed}",
            candidate=name,
            seed=seed,
            purpose=purpose,
            steps=1,
            result=result,
            failure=failure,
            cpu_seconds=1.0,
        )
    )


@pytest.mark.parametrize(
    ("named", "most", "finals", "expected"),
    [
        (["a", "b"], 3, {"a": 0.5, "b": 0.5}, 0.7),  # two that were compared
        (["a", "b"], 3, {"a": 0.5, "b": None}, 0.7),  # the second seed of one failed
        (["a"], 3, {"a": 0.5}, None),  # one alone, whatever the command allowed
        (["a", "b"], 1, {"a": 0.5, "b": 0.5}, 0.7),  # what was, not what was asked
        (["a", "b"], 3, {}, None),  # no second seed, so no spread
        # A run of an earlier version names none: those with seeds of the finals.
        (None, 3, {"a": 0.5, "b": None}, 0.7),
        (None, 3, {"a": 0.5}, None),
        (None, 3, {}, None),
    ],
)
def test_a_probability_is_stated_where_finalists_were_compared(
    tmp_path: Path,
    named: list[str] | None,
    most: int,
    finals: dict[str, float | None],
    expected: float | None,
) -> None:
    selection = {"winner": "a", "probability": 0.7}
    more = {} if named is None else {"finalists": named}
    with Journal.create(tmp_path / "other", {"finalists": most}) as journal:
        for name in ("a", "b", "c"):
            candidate(journal, name, "sample")
            training(journal, name, "search", 0, 0.5)
        for name, fitness in finals.items():
            training(journal, name, "final", 1, fitness)
        training(journal, "sparse", "holdout", 1000, 0.1)
        journal.set_meta("selection", selection | more)
        assert summarise(journal, TASK)["probability_best"] == expected


def test_each_origin_is_judged_by_search_and_finals_and_never_by_the_holdout(
    journal: Journal,
) -> None:
    for name, operator in (
        ("m1", "model_fresh"),
        ("m2", "model_cross"),
        ("o1", "cross"),
    ):
        candidate(journal, name, operator)
    training(journal, "m1", "search", 0, 0.9)
    training(journal, "m1", "final", 1, 0.1)  # the mean is .5
    training(journal, "m2", "search", 0, 0.6)
    training(journal, "m2", "holdout", 1000, 0.0)
    training(journal, "o1", "search", 0, 0.25)
    found = summarise(journal, TASK)["by_origin"]
    assert found["model"] == {
        "candidates": 2,
        "best": {"id": "m2", "fitness": 0.6, "success": 0.3},
    }
    assert found["operators"] == {
        "candidates": 1,
        "best": {"id": "o1", "fitness": 0.25, "success": 0.125},
    }


def test_a_failed_candidate_counts_once_and_a_failed_holdout_not_at_all(
    journal: Journal,
) -> None:
    candidate(journal, "a", "sample", failure=Failure("syntax", "no"))
    candidate(journal, "b", "sample")
    training(journal, "b", "search", 0, None)
    training(journal, "b", "search", 1, None)
    training(journal, "sparse", "holdout", 1000, None)
    training(journal, "sparse", "holdout", 1001, 0.5)
    found = summarise(journal, TASK)
    assert found["failures"] == {"syntax": 1, "crashed": 1}
    assert found["holdout"]["sparse"]["failed"] == 1


def test_holdout_rows_stand_in_the_order_of_the_seeds_and_not_of_finishing(
    journal: Journal,
) -> None:
    for seed, fitness in ((1002, 0.3), (1000, 0.1), (1003, 0.4), (1001, 0.2)):
        training(journal, "sparse", "holdout", seed, fitness)
    row = summarise(journal, TASK)["holdout"]["sparse"]
    assert row["per_seed"]["fitness"] == [0.1, 0.2, 0.3, 0.4]
    # Of four seeds the interquartile mean leaves out one at either end.
    assert row["fitness"]["value"] == pytest.approx(0.25)
    assert row["fitness"]["n"] == 4


def test_what_was_not_measured_is_null(journal: Journal) -> None:
    found = summarise(journal, TASK)
    assert found["winner"] is None
    assert found["human_normalised"] is None
    assert found["usd"] is None
    assert found["wall_seconds"] is None
    assert set(found["holdout"].values()) == {None}


def test_time_on_the_clock_is_that_of_the_parts_that_ended(journal: Journal) -> None:
    journal.add_event("stopped", {"wall_seconds": 2.5})
    journal.add_event("started")
    journal.add_event("stopped", {"wall_seconds": 4.0})
    assert summarise(journal, TASK)["wall_seconds"] == 6.5

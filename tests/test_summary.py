"""The summary of a journal that was written by hand."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from guerdon.journal import CandidateRecord, Journal, TrainingRecord
from guerdon.report.candidate import lineages
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


# A family tree by hand: what each one is made from, and who had a hand in it.
FAMILY: dict[str, tuple[str, tuple[str, ...], str]] = {
    "m1": ("model_fresh", (), "model"),
    "m2": ("model_mutate", ("m1",), "model"),
    "m3": ("model_cross", ("m1", "m2"), "model"),
    "o1": ("sample", (), "operators"),
    "o2": ("cross", ("o1", "o1"), "operators"),
    "b1": ("cross", ("m1", "m2"), "both"),  # an operator crossed the model's programs
    "b2": ("model_simplify", ("o2",), "both"),
    "b3": ("mutate", ("b4",), "both"),  # its grandparent is the model's
    "b4": ("fit", ("m3",), "both"),
    "lost": ("simplify", ("nobody",), "operators"),
    "ring1": ("mutate", ("ring2",), "operators"),
    "ring2": ("mutate", ("ring1",), "operators"),
}


def test_alone_is_what_owes_nothing_to_the_other_in_any_ancestor(
    journal: Journal,
) -> None:
    for place, (name, (operator, parents, _)) in enumerate(FAMILY.items()):
        candidate(journal, name, operator, parents=parents)
        training(journal, name, "search", 0, place / 16)
    expected = {name: origin for name, (_, _, origin) in FAMILY.items()}
    assert lineages(journal.candidates()) == expected
    journal.set_meta("selection", {"winner": "b4"})
    summary = summarise(journal, TASK)
    found = summary["by_origin"]
    assert {k: v["candidates"] for k, v in found.items()} == {
        "model": 3,
        "operators": 5,
        "both": 4,
    }
    # The last of each has the best score.
    assert {k: v["best"]["id"] for k, v in found.items()} == {
        "model": "m3",
        "operators": "ring2",
        "both": "b4",
    }
    assert found["both"]["best"]["fitness"] == list(FAMILY).index("b4") / 16
    assert summary["winner"]["origin"] == "both"


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

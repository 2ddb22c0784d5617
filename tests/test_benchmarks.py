"""What the benchmarks compute themselves; what they measure is not tested here."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks.corpus import chosen, corpus
from benchmarks.fast_learning import compared
from benchmarks.fast_racing import (
    COLUMNS as RACED,
)
from benchmarks.fast_racing import (
    WHOLE,
    Table,
    is_whole,
    racing_rows,
    replay,
    stops,
)
from benchmarks.fast_table import Claim, rows_of
from benchmarks.harness import keep, median_row, ratio_row, turns
from benchmarks.ranks import agreement
from benchmarks.records import Records
from benchmarks.trainers import BLOCK, TASK, policies
from guerdon.reward_design.search.race import Full

COLUMNS = ("task", "seed", "score")


@pytest.mark.parametrize("half", ["a,1", "a,1,", "a,1,0.", "a"])
def test_a_cut_measurement_goes_on_without_its_half_line(
    half: str, tmp_path: Path
) -> None:
    path = tmp_path / "x.csv"
    records = Records(path, COLUMNS, key=2)
    records.add({"task": "a", "seed": 0, "score": 0.5})
    path.write_text(path.read_text() + half)
    again = Records(path, COLUMNS, key=2)
    assert again.has("a", 0)
    assert not again.has("a", 1)
    again.add({"task": "a", "seed": 1, "score": True})
    assert path.read_text() == "task,seed,score\na,0,0.5\na,1,1\n"
    assert [row["score"] for row in Records(path, COLUMNS, key=2).of("a")] == [
        "0.5",
        "1",
    ]


def test_records_with_other_columns_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    Records(path, COLUMNS, key=2)
    with pytest.raises(ValueError, match="move it away"):
        Records(path, ("task", "seed"), key=1)


def test_sides_take_turns_and_the_order_alternates() -> None:
    seen: list[str] = []

    def side(name: str, seconds: float) -> float:
        seen.append(name)
        return seconds

    found = turns({"a": lambda: side("a", 2.0), "b": lambda: side("b", 6.0)}, 2)
    assert seen == ["a", "b", "a", "b", "b", "a"]
    row = ratio_row(found["a"], found["b"])
    assert (row["ratio"], row["low"], row["high"]) == (3.0, 3.0, 3.0)
    assert median_row(np.array([1.0, 2.0, 9.0]), "x")["x"] == 2.0


def test_a_busy_machine_spoils_times_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.getloadavg", lambda: (99.0, 99.0, 99.0))
    keep("times", "x", {}, tmp_path)
    keep("counts", "x", {}, tmp_path, timed=False)
    told = {p.stem: json.loads(p.read_text()) for p in tmp_path.iterdir()}
    assert not told["times"]["valid"]
    assert told["counts"]["valid"]
    assert told["counts"]["load"] == 99.0


@pytest.mark.parametrize(
    ("shift", "verdict"),
    [(5.0, "equal or better"), (0.0, "equal or better"), (-50.0, "worse")],
)
def test_learning_is_judged_by_the_margin(shift: float, verdict: str) -> None:
    theirs = 100.0 + np.random.default_rng(0).normal(0, 1, 10)
    found = compared(theirs + shift, theirs, random=0.0)
    assert found["verdict"] == verdict
    assert found["margin"] == pytest.approx(0.1 * found["sb3, iqm"])


def test_learning_with_too_much_noise_is_undecided() -> None:
    noisy = np.array([0.0, 200.0] * 5)
    assert compared(noisy, np.full(10, 100.0), random=0.0)["verdict"] == "undecided"


def table(budget: int, goods: list[float]) -> Table:
    """Candidates whose scores grow evenly to what they are worth."""
    places = stops(budget, len(goods))
    return {
        str(i): {stop: np.full(4, good * stop / budget) for stop in places}
        for i, good in enumerate(goods)
    }


def test_a_replay_without_racing_takes_all_steps_and_picks_the_best() -> None:
    goods = [0.1, 0.9, 0.5, 0.3]
    race = replay(Full(8 * BLOCK), 4, table(8 * BLOCK, goods), list("0123"))
    best = race.best()
    assert best is not None
    assert best.name == "1"
    assert race.spent == 4 * 8 * BLOCK


def recorded(path: Path, budget: int, tables: list[Table]) -> Records:
    records = Records(path, RACED, key=5)
    for seed, one in enumerate(tables):
        for name, scores in one.items():
            who = {"task": TASK, "budget": budget, "seed": seed, "candidate": name}
            for stop, values in scores.items():
                text = " ".join(map(str, values))
                row = {"steps": stop, "fitness": values.mean(), "scores": text}
                records.add(who | row)
    return records


def test_a_policy_that_chose_nothing_has_the_best_score_as_its_regret(
    tmp_path: Path,
) -> None:
    budget, goods = 24 * BLOCK, [0.1, 0.9, 0.5, 0.3]
    good = table(budget, goods)
    nobody: Table = {name: {} for name in good}
    records = recorded(tmp_path / "x.csv", budget, [good, good, nobody])
    rows = racing_rows(records, 4, budget, 3)
    for row in rows.values():
        assert row["nothing chosen"] == 1
        assert row["no worse than full"] == 2
    # Under the third seed 1 was the best of the two others: 0.9 is lost.
    assert rows["full"]["regret"] == pytest.approx(0.9 / 3)
    assert rows["full"]["regret of full"] == pytest.approx(0.9 / 3)


def test_a_seed_is_recorded_when_all_of_it_is_there(tmp_path: Path) -> None:
    budget = 24 * BLOCK
    whole, part = table(budget, [0.1, 0.9]), table(budget, [0.1, 0.9])
    del part["1"][budget]
    records = recorded(tmp_path / "x.csv", budget, [whole, part, part])
    assert [is_whole(records, 2, budget, seed) for seed in range(3)] == [
        True, False, False,
    ]  # fmt: skip
    who = {"task": TASK, "budget": budget, "seed": 2, "candidate": WHOLE}
    records.add(who | {"steps": 2, "fitness": 0.0, "scores": ""})
    again = Records(records.path, RACED, key=5)
    assert is_whole(again, 2, budget, 2)  # one of it has failed
    assert not is_whole(again, 3, budget, 2)


def test_every_policy_finds_all_that_it_asks_for_in_the_table(tmp_path: Path) -> None:
    budget, goods = 24 * BLOCK, [0.1, 0.9, 0.5, 0.3] * 4
    records = recorded(tmp_path / "x.csv", budget, [table(budget, goods)] * 3)
    rows = racing_rows(records, 16, budget, 3)
    assert set(rows) == set(policies(budget, 16))
    assert rows["full"]["times fewer steps"] == 1.0
    for name in ("full", "halving, eta 2", "halving, eta 4"):
        assert rows[name]["no worse than full"] == 3
        assert rows[name]["regret"] == pytest.approx(0.0, abs=1e-12)
    assert rows["halving, eta 2"]["times fewer steps"] > 2


def test_candidates_that_failed_are_left_out_of_the_agreement() -> None:
    found = agreement([1.0, 2.0, None, 3.0, 4.0], [2.0, 4.0, 9.0, 6.0, 8.0])
    assert (found["spearman"], found["count"]) == (pytest.approx(1.0), 4)
    assert agreement([1.0, 1.0, 1.0], [1.0, 2.0, 3.0])["spearman"] is None


def test_a_choice_of_the_corpus_has_all_kinds_and_a_larger_one_contains_it() -> None:
    kinds = {entry.kind for entry in corpus(TASK)}
    assert {entry.kind for entry in chosen(TASK, 16)} == kinds
    assert {*chosen(TASK, 16)} <= {*chosen(TASK, 40)}
    assert chosen(TASK, 100) == corpus(TASK)


@pytest.mark.parametrize(
    ("value", "lower", "verdict"),
    [
        (5.0, False, "aim"),
        (3.5, False, "gate"),
        (2.0, False, "below"),
        (2.0, True, "aim"),
        (3.5, True, "gate"),
        (5.0, True, "below"),
    ],
)
def test_the_table_says_what_is_met(
    value: float, lower: bool, verdict: str, tmp_path: Path
) -> None:
    gate, aim = (4.0, 3.0) if lower else (3.0, 4.0)
    claim = Claim("x", "file", "^row", gate, aim, lower=lower)
    (row,) = rows_of(claim, tmp_path)
    assert row["measured"] == "not measured"
    kept = {"valid": True, "rows": {"row": {"ratio": value}, "other": {}}}
    (tmp_path / "file.json").write_text(json.dumps(kept))
    (row,) = rows_of(claim, tmp_path)
    assert (row["measured"], row["verdict"]) == (value, verdict)

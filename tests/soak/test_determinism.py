"""The same seeds give the same journal, byte for byte, apart from times."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from guerdon.journal import Journal
from guerdon.journal.file import FILE_NAME
from guerdon.run import Resources, RunConfig, run_search
from tests.test_run import FAKE, SMALL, Model

TIMES = {
    "calls": {"ts", "seconds"},
    "trainings": {"ts", "cpu_seconds", "wall_seconds"},
    "candidates": {"ts"},
    "rounds": {"ts"},
    "events": {"ts"},
}
"""Columns that hold a time, of every table but ``meta``."""

ROLLOUT = 4096
"""Environment steps of one rollout on a grid task, 64 lanes of 64 steps."""

CLOCKS = {"created", "wall_seconds", "cpu_seconds", "train_seconds", "seconds", "ts"}
"""Names of times inside JSON."""


@pytest.fixture(autouse=True)
def _quick_report(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("guerdon.run.search.write_report", lambda folder: None)


def tables(folder: Path) -> dict[str, list[Any]]:
    """Every row of every table without its times, in an order of its own.

    The rows of the trainings stand in the order in which they finished, which is a
    time; so do the numbers of the rows.
    """
    with closing(sqlite3.connect(folder / FILE_NAME)) as db:
        db.row_factory = sqlite3.Row
        names = [
            name
            for (name,) in db.execute(
                "SELECT name FROM sqlite_master WHERE type='table'"
            )
            if not name.startswith("sqlite_")
        ]
        assert set(names) == {"meta", *TIMES}
        return {name: list(_rows(db, name)) for name in names}


def _rows(db: sqlite3.Connection, table: str) -> Iterator[Any]:
    left_out = TIMES.get(table, set())
    ordered = table != "trainings"
    rows = [dict(row) for row in db.execute(f"SELECT * FROM {table} ORDER BY rowid")]
    if table == "trainings":
        rows.sort(key=lambda row: row["key"])
    for row in rows:
        # The seal is a sum over all rows, those that hold a time among them.
        if table == "meta" and row["key"] in ("created", "seal"):
            continue
        yield {
            name: _without_clocks(value)
            for name, value in row.items()
            if name not in left_out and (ordered or name != "id")
        }


def _without_clocks(value: Any) -> Any:
    """The very text, unless it is JSON with a time inside."""
    if not isinstance(value, str) or not value.startswith("{"):
        return value
    data = json.loads(value)
    if not CLOCKS & set(data):
        return value
    return {name: item for name, item in data.items() if name not in CLOCKS}


def files(folder: Path) -> dict[str, bytes]:
    """Weights and recorded episodes, by their paths in the run folder."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.suffix in (".npz", ".safetensors", ".gif")
    }


def test_a_search_without_a_model_is_the_same_with_one_worker_and_with_two(
    tmp_path: Path,
) -> None:
    config = replace(SMALL, candidates=6, search_seeds=2)
    for name, workers in (("a", 2), ("b", 2), ("c", 1)):
        run_search(config, tmp_path / name, replace(FAKE, workers=workers))
    first = tables(tmp_path / "a")
    assert len(first["trainings"]) > 20
    assert len(first["candidates"]) == 12
    assert tables(tmp_path / "b") == first
    assert tables(tmp_path / "c") == first
    recorded = files(tmp_path / "a")
    assert len(recorded) > 20
    assert files(tmp_path / "b") == files(tmp_path / "c") == recorded


def test_a_replayed_search_is_the_same_with_one_worker_and_with_two(
    tmp_path: Path,
) -> None:
    model = Model()
    config = replace(SMALL, candidates=6, llm=model.uri)
    run_search(config, tmp_path / "live", FAKE)
    model.server.close()
    recording = tmp_path / "recording.jsonl"
    with recording.open("w") as file:
        for path in sorted((tmp_path / "live" / "answers").rglob("*.json")):
            entry = json.loads(path.read_text())
            line = {"key": entry["key"], "answer": entry["answer"]}
            file.write(json.dumps(line) + "\n")
    config = replace(config, llm=f"replay:{recording}")
    for name, workers in (("a", 2), ("b", 2), ("c", 1)):
        run_search(config, tmp_path / name, replace(FAKE, workers=workers))
    first = tables(tmp_path / "a")
    assert len(first["calls"]) > 2
    assert tables(tmp_path / "b") == tables(tmp_path / "c") == first
    assert files(tmp_path / "b") == files(tmp_path / "c") == files(tmp_path / "a")
    # And it is the search that was recorded, but for the price and the name.
    live = tables(tmp_path / "live")
    for table in ("candidates", "trainings", "rounds"):
        assert first[table] == live[table]


def test_real_trainings_are_the_same_with_one_worker_and_with_two(
    tmp_path: Path,
) -> None:
    config = RunConfig(
        task="tests.agents.countdown_task:TASK",
        llm="sampler",
        candidates=2,
        rounds=1,
        steps=64,
        seeds=1,
        finalists=1,
        final_seeds=0,
        eval_episodes=2,
    )
    for workers in (1, 2):
        run_search(config, tmp_path / str(workers), Resources(workers=workers))
    with Journal.open(tmp_path / "1", readonly=True) as journal:
        assert all(t.result is not None for t in journal.trainings())
    assert tables(tmp_path / "1") == tables(tmp_path / "2")
    assert files(tmp_path / "1") == files(tmp_path / "2")


def test_a_real_race_of_a_population_is_the_same_twice(tmp_path: Path) -> None:
    pytest.importorskip("numba")
    config = RunConfig(
        task="guerdon/Empty-5x5-v0",
        llm="sampler",
        candidates=3,
        rounds=1,
        steps=2 * ROLLOUT,
        seeds=1,
        finalists=1,
        final_seeds=0,
        eval_episodes=2,
        trainer="population",
        race="halving",
        rungs=2,
    )
    for name in ("a", "b"):
        run_search(config, tmp_path / name, Resources(workers=2))
    with Journal.open(tmp_path / "a", readonly=True) as journal:
        trained = [t for t in journal.trainings() if t.purpose == "search"]
    assert all(t.result is not None for t in trained)
    # The race did put candidates down: some were trained half the way only.
    assert {t.steps for t in trained} == {ROLLOUT, 2 * ROLLOUT}
    assert tables(tmp_path / "a") == tables(tmp_path / "b")
    recorded = files(tmp_path / "a")
    assert {Path(name).suffix for name in recorded} >= {".npz", ".safetensors"}
    assert recorded == files(tmp_path / "b")


def test_another_seed_is_another_journal(tmp_path: Path) -> None:
    one = replace(SMALL, candidates=2, rounds=1, seeds=1, finalists=1)
    for seed in (0, 1):
        run_search(replace(one, seed=seed), tmp_path / str(seed), FAKE)
    assert tables(tmp_path / "0") != tables(tmp_path / "1")

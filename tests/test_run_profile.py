"""Where the time of whole runs went: the clock by hand, and real and scripted runs."""

from __future__ import annotations

import json
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from guerdon.cli import main, show
from guerdon.journal import Journal
from guerdon.llm.client import Answer, Message, Request
from guerdon.report.profile import PARTS, Profile, read_profile
from guerdon.run import Resources, run_search
from guerdon.run.clock import Clock, TimedChat
from tests.test_run import (  # noqa: F401 - fixtures
    COUNTDOWN,
    FAKE,
    SMALL,
    Model,
    Seen,
    _no_keys_from_outside,
    _quick_report,
    model,
)

SLACK = 1e-6
"""Rounding of sums."""


class Now:
    """A clock that stands until it is told."""

    def __init__(self) -> None:
        self.seconds = 100.0

    def __call__(self) -> float:
        return self.seconds


def stops(folder: Path) -> list[dict[str, Any]]:
    with Journal.open(folder, readonly=True) as journal:
        return [e.data for e in journal.events() if e.kind == "stopped"]


def adds_up(found: Profile, workers: int) -> None:
    """Parts are at least zero, and together at most all time that there was."""
    assert found.wall is not None
    assert all(value >= 0.0 for value in found.known.values())
    assert found.total <= workers * found.wall + SLACK
    assert found.parts["waiting"] is not None


# --- the clock --------------------------------------------------------------------


def test_a_clock_divides_the_time_of_its_places() -> None:
    now = Now()
    clock = Clock(2, now)
    now.seconds += 1.0  # nothing under way: 2 waiting
    clock.trainings(1)
    now.seconds += 4.0  # 4 busy, 4 waiting
    with clock.model():
        now.seconds += 2.0  # 2 busy, 2 for the model
        clock.trainings(5)
        now.seconds += 8.0  # 16 busy: more work than places
        with clock.model():
            clock.trainings(0)
            now.seconds += 0.5  # 1 for the model
        now.seconds += 0.5  # one that writes is enough: 1 for the model
    now.seconds += 3.0  # 6 waiting
    wall, seconds = clock.read()
    assert wall == 19.0
    assert seconds == {"busy": 22.0, "model": 4.0, "waiting": 12.0}
    assert sum(seconds.values()) == 2 * wall


def test_a_clock_may_be_read_while_it_runs() -> None:
    now = Now()
    clock = Clock(1, now)
    now.seconds += 1.0
    assert clock.read() == (1.0, {"busy": 0.0, "model": 0.0, "waiting": 1.0})
    clock.trainings(1)
    now.seconds += 2.0
    assert clock.read() == (3.0, {"busy": 2.0, "model": 0.0, "waiting": 1.0})


def test_a_chat_tells_the_clock_also_when_it_fails() -> None:
    now = Now()

    class Slow:
        model = "slow"
        closed = False

        def chat(self, request: Request) -> Answer:
            now.seconds += 2.0
            if request.seed:
                raise RuntimeError("no")
            return Answer("text", 0, 0, None, 2.0, "slow")

        def close(self) -> None:
            self.closed = True

    inner, clock = Slow(), Clock(1, now)
    chat = TimedChat(inner, clock)
    asked = Request((Message("user", "hello"),))
    assert chat.chat(asked).text == "text"
    with pytest.raises(RuntimeError, match="no"):
        chat.chat(replace(asked, seed=1))
    now.seconds += 1.0
    assert clock.read()[1] == {"busy": 0.0, "model": 4.0, "waiting": 1.0}
    assert chat.model == "slow"
    chat.close()
    assert inner.closed


def test_threads_change_a_clock_together() -> None:
    clock = Clock(1)

    def write() -> None:
        for _ in range(200):
            with clock.model():
                pass

    threads = [threading.Thread(target=write) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    before = clock.read()[1]["model"]
    wall, seconds = clock.read()
    assert seconds["model"] == before  # nobody writes any more
    assert sum(seconds.values()) == pytest.approx(wall)


# --- runs -------------------------------------------------------------------------


@pytest.mark.parametrize("trainer", ["sb3", "population"])
def test_a_run_notes_all_time_of_its_workers(trainer: Any, tmp_path: Path) -> None:
    run_search(replace(SMALL, trainer=trainer), tmp_path, FAKE)
    (noted,) = stops(tmp_path)
    places = FAKE.workers * noted["wall_seconds"]
    assert sum(noted["seconds"].values()) == pytest.approx(places)
    assert noted["seconds"]["busy"] > 0.0
    assert noted["seconds"]["model"] == 0.0


def test_a_run_that_was_broken_off_notes_both_parts(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        run_search(SMALL, tmp_path, FAKE, Seen("trained", 4))
    run_search(SMALL, tmp_path, replace(FAKE, workers=1))
    first, second = stops(tmp_path)
    assert sum(first["seconds"].values()) == pytest.approx(2 * first["wall_seconds"])
    assert sum(second["seconds"].values()) == pytest.approx(second["wall_seconds"])


def test_a_slow_model_is_waited_for(
    model: Model,  # noqa: F811
    tmp_path: Path,
) -> None:
    model.delay = 0.3
    config = replace(SMALL, llm=model.uri, rounds=1, trainer="population", steps=8192)
    run_search(config, tmp_path, FAKE)
    found = read_profile(tmp_path)
    assert found.model_calls >= 0.3
    assert found.parts["model"] is not None
    # At the first question at the latest both workers have nothing to do yet.
    assert 0.3 <= found.parts["model"] <= FAKE.workers * (found.wall or 0.0)


def test_real_trainings_are_divided_and_add_up(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small = "--candidates 2 --rounds 1 --seeds 1 --finalists 1 --final-seeds 0"
    words = f"search {COUNTDOWN} --llm sampler --steps 64 --eval-episodes 2 {small}"
    for trainer in ("sb3", "population"):
        folder = tmp_path / trainer
        call = [*words.split(), "--trainer", trainer, "--out", str(folder)]
        assert main([*call, "--workers", "2", "--json"]) == 0
        assert "profile" not in json.loads(capsys.readouterr().out)
        found = read_profile(folder)
        adds_up(found, workers=2)
        divided = {"acting", "environment", "rewards", "update"}
        expected = divided if trainer == "population" else {"training"}
        assert expected | {"evaluation"} <= set(found.known)
        assert not (divided | {"training"}) - expected & set(found.known)
        # A finished run is only read, and knows it still.
        assert main([*call, "--profile", "--json"]) == 0
        summary = json.loads(capsys.readouterr().out)
        assert summary["profile"] == found.as_json()
        assert main([*call, "--profile"]) == 0
        table = capsys.readouterr().out
        for name in PARTS:
            assert (PARTS[name][:20] in table) == (name in found.known), name


def test_a_training_alone_shows_where_its_time_went(
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = ["train", COUNTDOWN, "--steps", "64", "--eval-episodes", "2"]
    assert main(words) == 0
    assert "where the time went" not in capsys.readouterr().out
    assert main([*words, "--profile", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["profile"]
    told = sum(value or 0.0 for value in found["seconds"].values())
    assert told == pytest.approx(found["wall_seconds"]) == found["worker_seconds"]
    assert found["seconds"]["training"] > 0.0
    show.profile_table(found)
    table = capsys.readouterr().out
    assert "where the time went" in table
    assert f"all workers: {found['wall_seconds']:,.1f} s" in table


def test_nothing_in_a_run_depends_on_whether_it_is_profiled(tmp_path: Path) -> None:
    # It is no part of the configuration: the same folder goes on with and without.
    assert "profile" not in Resources.__dataclass_fields__
    assert "profile" not in type(SMALL).__dataclass_fields__

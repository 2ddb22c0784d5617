"""The fast part of the crash harness; ``make soak`` runs two hundred points."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from guerdon.journal import JournalBusy
from guerdon.run import run_search
from guerdon.run.config import TRAININGS
from tests.jail.tools import eventually, lives
from tests.soak.contents import Work, contents, repeated, retried
from tests.soak.kill import Ground, Outcome
from tests.soak.points import KINDS, RACE, SEARCH, Point, points
from tests.soak.processes import ROOT, environment

pytestmark = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="workers are found in /proc"
)

FAST = replace(SEARCH, candidates=5, rounds=1, seeds=1, finalists=1, final_seeds=0)


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ground]:
    folder = tmp_path_factory.mktemp("soak")
    with Ground(folder, FAST, reports=(False,)) as found:
        yield found


@pytest.fixture(scope="module")
def race(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ground]:
    folder = tmp_path_factory.mktemp("race")
    with Ground(folder, replace(RACE, candidates=5), reports=(False,)) as found:
        yield found


# One point of every kind.
SOME = {
    p.kind: replace(p, report=False, race=False) for p in points(len(KINDS), seed=20)
}


@pytest.mark.parametrize("point", SOME.values(), ids=SOME)
def test_a_run_that_is_struck_goes_on_and_ends_as_if_nothing_had_been(
    ground: Ground, point: Point
) -> None:
    outcome = ground.try_point(point)
    assert outcome.errors == []
    assert outcome.killed


@pytest.mark.parametrize("kind", ["time", "all after a rename"])
def test_a_race_that_is_struck_goes_on_and_ends_as_if_nothing_had_been(
    race: Ground, kind: str
) -> None:
    outcome = race.try_point(Point(0, kind, 0.5, False, race=True))
    assert outcome.errors == []
    assert outcome.killed


def test_the_points_are_the_seeds_and_every_kind_comes_before_any_comes_again() -> None:
    assert list(points(40, seed=3)) == list(points(40, seed=3)) != list(points(40, 4))
    first = [p.kind for p in points(2 * len(KINDS), seed=3)]
    for half in (first[: len(KINDS)], first[len(KINDS) :]):
        assert sorted(half) == sorted(KINDS)


def test_a_third_of_the_points_strikes_a_race() -> None:
    some = list(points(200, seed=0))
    assert 60 <= sum(p.race for p in some) <= 67
    assert {p.kind for p in some if p.race} == {*KINDS} - {"model server"}


def test_only_what_was_under_way_may_be_trained_again() -> None:
    kept, over, killed = Work(("a",), "ended"), Work(("b",), "ended"), Work(("c",), "")
    before = [kept, over, killed]
    again = [Work(("b",), "ended"), Work(("c", "d"), "ended")]
    assert repeated(before, again, {"a"}) == 2
    with pytest.raises(AssertionError, match=r"trained again: \['a'\]"):
        repeated(before, [kept], {"a"})
    with pytest.raises(AssertionError, match="3 were under way"):
        repeated([killed, Work(("e",), ""), Work(("f",), "")], again, set())
    with pytest.raises(AssertionError, match="7 were over and not journaled"):
        repeated([Work((key,), "ended") for key in "tuvwxyz"], [], set())
    leg = Work(("c", "d"), "")
    assert retried([kept, leg, Work(("c", "d"), "ended")], worker=True) == 2
    with pytest.raises(AssertionError, match="more than one worker"):
        retried([killed, over, killed, over], worker=True)
    with pytest.raises(AssertionError, match="trained thrice"):
        retried([killed, killed, killed], worker=True)
    with pytest.raises(AssertionError, match="trained again"):
        retried([killed, killed], worker=False)


def test_the_model_server_ends_with_who_started_it(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from tests.soak.processes import Server"
    )
    code += "; print(Server(Path(sys.argv[1])).process.pid, flush=True)"
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)],
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    assert eventually(lambda: not lives(int(done.stdout)))


def test_what_the_harness_finds_is_not_nothing(ground: Ground) -> None:
    # A run with another result, and one without its report, are both told.
    folder = ground.folder / "other"
    run = ground.controller(folder, report=False)
    run.communicate(timeout=60)
    point = Point(900, "event", 0.0, False)
    honest, ground.calm = ground.calm, {**ground.calm, "selection": {"winner": "r9"}}
    with pytest.raises(AssertionError, match="selection differs"):
        ground._compare(folder, point, 0, Outcome(point))
    ground.calm = honest
    recorded = next(folder.rglob("*.npz"))
    data = recorded.read_bytes()
    recorded.write_bytes(data[:-1])
    with pytest.raises(AssertionError, match="files differs"):
        ground._compare(folder, point, 0, Outcome(point))
    recorded.write_bytes(data)
    with pytest.raises(AssertionError, match="cut off"):
        ground._compare(folder, replace(point, report=True), 0, Outcome(point))
    (folder / "report.html").unlink()
    with pytest.raises(AssertionError, match=r"report\.html"):
        ground._compare(folder, point, 0, Outcome(point))


def test_a_second_process_on_the_folder_is_refused_with_the_pid_of_the_first(
    ground: Ground,
) -> None:
    folder = ground.folder / "shared"
    first = ground.controller(folder, report=False)
    end = time.monotonic() + 30
    while not (folder / TRAININGS).exists():
        assert time.monotonic() < end
        time.sleep(0.01)
    os.kill(first.pid, signal.SIGSTOP)
    try:
        with pytest.raises(JournalBusy, match=f"by process {first.pid}") as caught:
            run_search(ground.config, folder)
        assert caught.value.pid == first.pid
    finally:
        os.kill(first.pid, signal.SIGCONT)
        first.communicate(timeout=60)
    assert first.returncode == 0
    assert contents(folder) == ground.calm

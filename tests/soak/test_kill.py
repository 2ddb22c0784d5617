"""The fast part of the crash harness; ``make soak`` runs two hundred points."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import replace

import pytest

from guerdon.journal import JournalBusy
from guerdon.run import run_search
from guerdon.run.config import TRAININGS
from tests.soak.contents import contents
from tests.soak.kill import KINDS, SEARCH, Ground, Outcome, Point, points

pytestmark = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="workers are found in /proc"
)

FAST = replace(SEARCH, candidates=5, rounds=1, seeds=1, finalists=1, final_seeds=0)


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ground]:
    folder = tmp_path_factory.mktemp("soak")
    with Ground(folder, FAST, reports=(False,)) as found:
        yield found


# One point of every kind.
SOME = {p.kind: replace(p, report=False) for p in points(len(KINDS), seed=20)}


@pytest.mark.parametrize("point", SOME.values(), ids=SOME)
def test_a_run_that_is_struck_goes_on_and_ends_as_if_nothing_had_been(
    ground: Ground, point: Point
) -> None:
    outcome = ground.try_point(point)
    assert outcome.errors == []
    assert outcome.killed


def test_the_points_are_the_seeds_and_every_kind_comes_before_any_comes_again() -> None:
    assert list(points(40, seed=3)) == list(points(40, seed=3)) != list(points(40, 4))
    first = [p.kind for p in points(2 * len(KINDS), seed=3)]
    for half in (first[: len(KINDS)], first[len(KINDS) :]):
        assert sorted(half) == sorted(KINDS)


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

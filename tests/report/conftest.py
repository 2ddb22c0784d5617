"""Run folders for the report's tests; the costly one is written once."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from synthetic_run import write_failed_run, write_run

from guerdon.report import build, write_report
from guerdon.report.build import CHARTS


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run with its report; tests only read it."""
    folder = write_run(tmp_path_factory.mktemp("report") / "run")
    write_report(folder)
    return folder


@pytest.fixture
def run_folder(tmp_path: Path) -> Callable[..., Path]:
    """``run_folder(finished=..., hostile=...)`` writes a run and gives its folder."""
    return lambda **options: write_run(tmp_path / "run", **options)


@pytest.fixture
def copy_of_run(tmp_path: Path, finished_run: Path) -> Path:
    """The journal of a finished run, to write a report of."""
    shutil.copytree(
        finished_run,
        tmp_path / "run",
        ignore=shutil.ignore_patterns("report.*", "figures"),
    )
    return tmp_path / "run"


@pytest.fixture
def failed_run(tmp_path: Path) -> Path:
    """A run in which every candidate failed."""
    return write_failed_run(tmp_path / "run")


@pytest.fixture
def without_charts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Charts take seconds; a test that is not about them does without."""
    none = {name: (lambda data: False, paint) for name, (_, paint) in CHARTS.items()}
    monkeypatch.setattr(build, "CHARTS", none)

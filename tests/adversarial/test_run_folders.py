"""A run folder that somebody sent: read, shown, and never obeyed."""

from __future__ import annotations

import json
import os
import re
import sys
import time
from contextlib import suppress
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from guerdon.cli import main
from guerdon.envs import load_task
from guerdon.journal import Journal, JournalError
from guerdon.report import build, write_report
from guerdon.report.build import CHARTS
from guerdon.run import Resources, RunConfig, run_search
from tests.adversarial.folders import SPELL, put, put_json, write_run

QUICK = Resources(workers=1, function="tests.adversarial.jobs:train")
TRAP = "adversarial_trap"
"""A module that makes a file when it is imported."""


@pytest.fixture(autouse=True)
def _without_charts(
    monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    if "charts" not in request.fixturenames:
        none = {k: (lambda data: False, paint) for k, (_, paint) in CHARTS.items()}
        monkeypatch.setattr(build, "CHARTS", none)


@pytest.fixture
def charts() -> None:
    """For the test that draws."""


@pytest.fixture
def trap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file that the import of ``TRAP`` would make."""
    place = tmp_path / "code"
    place.mkdir()
    sprung = tmp_path / "sprung"
    text = f"open({str(sprung)!r}, 'w').close()\nTASK = None\n"
    (place / f"{TRAP}.py").write_text(text)
    monkeypatch.chdir(place)
    monkeypatch.syspath_prepend(str(place))
    return sprung


class Page(HTMLParser):
    """What a browser would make of a report."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def require_harmless(self) -> None:
        for tag, attributes in self.tags:
            assert tag not in ("script", "iframe", "object", "embed", "form", "base")
            for name, value in attributes.items():
                assert not name.startswith("on"), (tag, name)
                target = (value or "").strip().lower()
                if name in ("src", "srcset", "href", "action"):
                    assert target.startswith(("data:image/", "#")), (tag, value)


def require_harmless_report(folder: Path) -> None:
    text = (folder / "report.html").read_text("utf-8")
    Page(text).require_harmless()
    assert "default-src 'none'" in text
    for letter in ("\x1b", "\x07", "\u202e", "\u2066"):
        assert letter not in text
        assert letter not in (folder / "report.json").read_text("utf-8")
    json.loads((folder / "report.json").read_text("utf-8"))


# --- names of modules ---------------------------------------------------------------


@pytest.mark.parametrize("task", [f"{TRAP}:TASK", f"{TRAP}:open", "os:system"])
def test_the_report_imports_nothing_that_a_folder_names(
    tmp_path: Path, trap: Path, task: str, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_run(tmp_path / "run", task=task)
    assert main(["report", str(folder)]) == 0
    assert main(["report", str(folder), "--json"]) == 0
    assert TRAP not in sys.modules
    assert not trap.exists()
    require_harmless_report(folder)


def test_a_search_imports_the_task_of_the_command_and_no_other(
    tmp_path: Path, trap: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_run(tmp_path / "run", task=f"{TRAP}:TASK", llm="sampler")
    before = (folder / "journal.sqlite").read_bytes()
    words = ["search", "guerdon/CartPole-v1", "--out", str(folder), "--llm", "sampler"]
    assert main(words) == 2
    assert "another configuration" in capsys.readouterr().err
    assert (folder / "journal.sqlite").read_bytes() == before
    assert TRAP not in sys.modules
    assert not trap.exists()


# --- hostile contents ---------------------------------------------------------------


@pytest.mark.usefixtures("charts")
def test_a_report_shows_hostile_texts_and_obeys_none(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run")
    write_report(folder)
    require_harmless_report(folder)
    assert "&lt;script&gt;alert(1)" in (folder / "report.html").read_text("utf-8")


COLUMNS = [
    *(("candidates", c) for c in ("id", "round", "slot", "operator", "parents")),
    *(("candidates", c) for c in ("source", "plan", "failure", "screening")),
    *(("trainings", c) for c in ("candidate", "seed", "purpose", "steps", "result")),
    *(("trainings", c) for c in ("failure", "cpu_seconds", "wall_seconds", "artifact")),
    *(("calls", c) for c in ("prompt_tokens", "usd", "seconds", "failure")),
    *(("meta", "value"), ("rounds", "summary"), ("events", "data")),
]
VALUES: list[Any] = [
    SPELL,
    json.dumps(SPELL),
    json.dumps([SPELL]),
    json.dumps({"kind": SPELL, "reason": [SPELL], "line": SPELL}),
    json.dumps({"kind": "slow", "reason": SPELL, "line": SPELL}),
    json.dumps({"fitness": [1e308, "x"], "curve": {"steps": SPELL, "terms": [1]}}),
    "[" * 20_000,
    "1" + "0" * 400,
    json.dumps({"fitness": 10**400, "success": True, "curve": {"terms": {SPELL: [1]}}}),
    b"\xff\xfe",
    -1,
    1e308,
    None,
]


@pytest.fixture(scope="module")
def pattern(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The journal of a run, to be changed."""
    folder = write_run(tmp_path_factory.mktemp("pattern") / "run")
    with Journal.open(folder) as journal:
        journal.add_event("started", {})
    return (folder / "journal.sqlite").read_bytes()


@pytest.mark.parametrize(("table", "column"), COLUMNS, ids=str)
def test_a_value_of_any_kind_in_any_column_is_refused_or_shown(
    tmp_path: Path, pattern: bytes, table: str, column: str
) -> None:
    for number, value in enumerate(VALUES):
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / "journal.sqlite").write_bytes(pattern)
        try:
            put(folder, table, column, value)
        except Exception:
            continue  # SQLite itself holds the column to something
        with suppress(JournalError):
            write_report(folder)
        if (folder / "report.html").exists():
            require_harmless_report(folder)


@pytest.mark.parametrize("name", ["/etc/passwd", "../../etc/passwd", "a\\\\..\\\\b"])
@pytest.mark.parametrize("column", ["artifact", "result"])
def test_a_journal_that_names_files_elsewhere_is_refused_with_status_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], column: str, name: str
) -> None:
    asked = RunConfig(task="guerdon/CartPole-v1", llm="sampler")
    folder = write_run(
        tmp_path / "run", **asked.whole(load_task(asked.task)).as_record()
    )
    value = json.dumps({"fitness": 1.0, "episodes": name})
    put(folder, "trainings", column, name if column == "artifact" else value)
    assert main(["report", str(folder)]) == 2
    assert "expected a path that stays inside its folder" in capsys.readouterr().err
    assert not (folder / "report.html").exists()


def test_a_finished_run_is_shown_without_a_letter_that_a_terminal_obeys(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = RunConfig(task="guerdon/CartPole-v1", llm="sampler")
    whole = asked.whole(load_task(asked.task))
    folder = write_run(tmp_path / "run", **whole.as_record())
    words = ["search", asked.task, "--out", str(folder), "--llm", "sampler"]
    assert main(words) == 0
    shown = capsys.readouterr()
    for letter in ("\x1b", "\x07", "\u202e", "\u2066"):
        assert letter not in shown.out
        assert letter not in shown.err
    assert "owned" in shown.out  # spelled out, not left out
    assert main([*words, "--json"]) == 0
    json.loads(capsys.readouterr().out)


# --- links ----------------------------------------------------------------------------

LINKS = [
    "report.html",
    "report.html.new",
    "report.json.new",
    "figures",
    "figures/holdout.png",
    "figures/winner.gif",
    "trainings",
    "trainings/abc.stderr",
    "bank.npz",
    "answers",
    "journal.sqlite-wal",
    "journal.lock",
]


@pytest.mark.parametrize("name", LINKS)
def test_a_link_in_a_run_folder_is_refused_by_report_and_search(
    tmp_path: Path, name: str
) -> None:
    folder = write_run(tmp_path / "run")
    outside = tmp_path / "outside"
    precious = outside / "precious"
    outside.mkdir()
    precious.write_text("mine")
    link = folder / name
    link.parent.mkdir(exist_ok=True)
    link.unlink(missing_ok=True)
    link.symlink_to(precious if "." in name else outside)
    with pytest.raises(JournalError, match="found a link to"):
        write_report(folder)
    with pytest.raises(JournalError, match="found a link to"):
        run_search(RunConfig(task="guerdon/CartPole-v1", llm="sampler"), folder, QUICK)
    assert [p.name for p in outside.iterdir()] == ["precious"]
    assert precious.read_text() == "mine"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the platform has no pipes")
@pytest.mark.parametrize(
    "name", ["journal.sqlite", "bank.npz", "journal.lock", "figures/winner.png"]
)
def test_a_pipe_in_a_run_folder_is_refused_at_once(tmp_path: Path, name: str) -> None:
    folder = write_run(tmp_path / "run")
    pipe = folder / name
    pipe.parent.mkdir(exist_ok=True)
    pipe.unlink(missing_ok=True)
    os.mkfifo(pipe)
    words = f"{re.escape(name)}: expected a file or folder of the run, found a pipe"
    begun = time.monotonic()
    with pytest.raises(JournalError, match=words):
        write_report(folder)
    with pytest.raises(JournalError, match=words):
        run_search(RunConfig(task="guerdon/CartPole-v1", llm="sampler"), folder, QUICK)
    assert main(["report", str(folder)]) == 2
    assert time.monotonic() - begun < 20  # a pipe that is opened would wait for ever
    assert not (folder / "report.html").exists()


@pytest.mark.parametrize("name", ["report.html.new", "report.json.new"])
def test_a_second_name_of_somebodys_file_is_not_written_through(
    tmp_path: Path, name: str
) -> None:
    folder = write_run(tmp_path / "run")
    precious = tmp_path / "precious"
    precious.write_text("mine")
    os.link(precious, folder / name)
    write_report(folder)
    assert precious.read_text() == "mine"


@pytest.mark.usefixtures("charts")
def test_a_second_name_among_the_figures_is_not_written_through(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run")
    precious = tmp_path / "precious"
    precious.write_text("mine")
    (folder / "figures").mkdir()
    os.link(precious, folder / "figures" / "holdout.png")
    write_report(folder)
    assert precious.read_text() == "mine"
    assert (folder / "figures" / "holdout.png").read_bytes().startswith(b"\x89PNG")


def test_a_link_to_the_whole_folder_is_the_users_own(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run")
    (tmp_path / "latest").symlink_to(folder)
    (folder / "notes").symlink_to(tmp_path)
    write_report(tmp_path / "latest")
    assert (folder / "report.html").exists()


def test_a_picture_that_is_no_picture_is_not_shown(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run")
    (folder / "figures").mkdir()
    (folder / "figures" / "winner.gif").write_text("<script>alert(1)</script>")
    (folder / "figures" / "winner.png").mkdir()
    write_report(folder)
    require_harmless_report(folder)
    assert "No episode of the winner" in (folder / "report.html").read_text()


def test_a_journal_that_says_something_else_than_its_schema_is_refused(
    tmp_path: Path,
) -> None:
    folder = write_run(tmp_path / "run")
    put_json(folder, "meta", "value", {"task": 1})
    write_report(folder)  # every meta value is an object now, and none is believed
    require_harmless_report(folder)

"""Whole searches with the embedded model for real, undisturbed, killed and resumed."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from guerdon.journal import Journal
from guerdon.llm import embedded as room
from guerdon.llm.budget import Budget
from guerdon.llm.client import ModelError, connect
from guerdon.llm.embedded import Embedded
from guerdon.llm.endpoint import Endpoint
from guerdon.run import Resources, run_search
from tests import test_run
from tests.llm.conftest import ROOT, ask, gone
from tests.llm.with_tiny import CARTPOLE

# The wheel of an optional extra; it is loaded by the server's process, not by ours.
if importlib.util.find_spec("xllamacpp") is None:
    pytest.skip("xllamacpp is not installed", allow_module_level=True)

SMALL = replace(test_run.SMALL, llm="embedded:tiny", candidates=6)
FAKE = Resources(workers=1, function="tests.run_jobs:train")


class Watched:
    """Every embedded model that is opened, and every request that reaches a server."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.opened: list[Embedded] = []
        self.asked: list[str] = []
        opener, send = room.open_embedded, Endpoint._send

        def open_and_keep(*args: Any, **kwargs: Any) -> Embedded:
            self.opened.append(opener(*args, **kwargs))
            return self.opened[-1]

        def spy(endpoint: Endpoint, arguments: dict[str, Any], deadline: float) -> Any:
            self.asked.append(json.dumps(arguments, sort_keys=True))
            return send(endpoint, arguments, deadline)

        monkeypatch.setattr(room, "open_embedded", open_and_keep)
        monkeypatch.setattr(Endpoint, "_send", spy)

    def kill(self) -> None:
        pid = self.opened[-1].pid
        if pid is not None:
            os.kill(pid, signal.SIGKILL)


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch, pinned: Path) -> Watched:
    monkeypatch.setattr(
        "guerdon.run.search.write_report",
        lambda folder: (folder / "report.html").write_text("quick"),
    )
    return Watched(monkeypatch)


def observer(kind: str, act: Callable[[int], None]) -> Callable[[str, Any], None]:
    """Acts at every event of a kind, with its number."""
    seen: list[str] = []

    def observe(told: str, data: Any) -> None:
        if told == kind:
            seen.append(told)
            act(len(seen))

    return observe


def test_a_search_goes_on_though_its_server_is_killed_again_and_again(
    tmp_path: Path, watched: Watched
) -> None:
    kills: list[int] = []

    def kill(number: int) -> None:
        if number % 2:
            kills.append(number)
            watched.kill()

    summary = run_search(SMALL, tmp_path / "run", FAKE, observer("called", kill))
    with Journal.open(tmp_path / "run", readonly=True) as journal:
        calls, totals = journal.calls(), journal.totals()
        written = [c for c in journal.candidates() if c.operator.startswith("model")]
    assert summary["no_model"] is None
    assert [c.failure for c in calls] == [None] * len(calls)
    assert len(calls) >= 3
    assert written
    (model,) = watched.opened
    # The last kill may have come after the last answer.
    assert model.starts - 1 in (len(kills), len(kills) - 1)
    assert len({c.key for c in calls}) == len(calls) == totals.calls_ok
    assert summary["tokens"]["completion"] == sum(
        c.completion_tokens or 0 for c in calls
    )
    assert all((c.completion_tokens or 0) > 20 for c in calls)
    pid = model.pid
    assert pid is None or gone(pid)


def test_a_resumed_search_asks_nothing_twice(tmp_path: Path, watched: Watched) -> None:
    def stop(number: int) -> None:
        if number == 2:
            raise KeyboardInterrupt

    folder = tmp_path / "run"
    with pytest.raises(KeyboardInterrupt):
        run_search(SMALL, folder, FAKE, observer("called", stop))
    with Journal.open(folder, readonly=True) as journal:
        before = journal.calls()
    assert len(before) >= 2
    asked = list(watched.asked)
    summary = run_search(SMALL, folder, FAKE)
    with Journal.open(folder, readonly=True) as journal:
        after = journal.calls()
    assert after[: len(before)] == before
    assert len(after) > len(before)
    assert len({c.key for c in after}) == len(after)
    assert len(watched.asked) == len(set(watched.asked)) == len(after)
    assert watched.asked[: len(asked)] == asked
    assert summary["winner"] is not None
    # The same search without a break comes to the same programs.
    whole = run_search(SMALL, tmp_path / "whole", FAKE)
    assert whole["winner"]["source"] == summary["winner"]["source"]


def test_a_budget_of_tokens_holds_for_the_embedded_model(pinned: Path) -> None:
    budget = Budget(tokens=100)
    chat = connect("embedded:tiny", budget=budget)
    assert chat is not None
    answers = []
    kinds = []
    for seed in range(8):
        try:
            answers.append(chat.chat(ask(max_tokens=8, seed=seed)))
        except ModelError as error:
            kinds.append(error.kind)
    chat.close()
    assert answers
    assert kinds
    assert set(kinds) == {"budget"}
    assert budget.spent.tokens == sum(a.tokens for a in answers) <= 100


@pytest.mark.skipif(os.name != "posix", reason="looks a process up with ps")
def test_a_search_that_is_killed_leaves_no_server_and_can_be_resumed(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "run"
    words = [sys.executable, "-m", "tests.llm.with_tiny", str(tmp_path / "weights")]
    words += ["search", CARTPOLE, "--llm", "embedded:tiny", "--out", str(folder)]
    words += ["--candidates", "2", "--rounds", "1", "--steps", "100", "--seeds", "1"]
    words += ["--finalists", "1", "--final-seeds", "0", "--eval-episodes", "2"]
    words += ["--workers", "1", "--json"]
    env = os.environ | {"OMP_NUM_THREADS": "1"}
    quiet = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    first = subprocess.Popen(words, cwd=ROOT, env=env, **quiet)  # type: ignore[call-overload]
    try:
        server = _server_of(first.pid, 60.0)
        before = _first_calls(folder, 60.0)
    finally:
        first.kill()
        first.communicate()
    assert gone(server)
    second = subprocess.run(words, cwd=ROOT, env=env, check=False, **quiet)  # type: ignore[call-overload]
    assert second.returncode == 0, second.stderr
    summary = json.loads(second.stdout)
    with Journal.open(folder, readonly=True) as journal:
        calls = journal.calls()
    assert calls[: len(before)] == before
    assert len({c.key for c in calls}) == len(calls)
    assert summary["no_model"] is None
    assert summary["tokens"]["prompt"] == sum(c.prompt_tokens or 0 for c in calls)


def _server_of(parent: int, seconds: float) -> int:
    """The server that a process has started."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        shown = subprocess.run(
            ["ps", "-o", "pid=,args=", "--ppid", str(parent)],
            capture_output=True,
            check=False,
            text=True,
        )
        for line in shown.stdout.splitlines():
            if "guerdon.llm.server" in line:
                return int(line.split()[0])
        time.sleep(0.05)
    raise AssertionError("no server was started")


def _first_calls(folder: Path, seconds: float) -> list[Any]:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        with Journal.open(folder, readonly=True) as journal:
            calls = journal.calls()
        if calls:
            return calls
        time.sleep(0.05)
    raise AssertionError("no call was journaled")

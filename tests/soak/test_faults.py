"""Searches with a model server that fails, lies, and comes back."""

from __future__ import annotations

import functools
import random
import resource
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from guerdon.cli.progress import observed_search
from guerdon.journal import Journal
from guerdon.llm.client import ModelError
from guerdon.llm.endpoint import Endpoint
from guerdon.llm.secret import Secret
from guerdon.report import build
from guerdon.report.build import CHARTS
from guerdon.run import Resources, run_search
from tests.llm.conftest import Reply, ask
from tests.soak.faults import (
    FAILING,
    GOOD,
    LYING,
    SLOW,
    TIMEOUT,
    FaultyServer,
    account,
    hurry,
)
from tests.test_run import FAKE, SMALL, records, without_times

SEARCH = replace(SMALL, candidates=16, rounds=2)


@pytest.fixture(autouse=True)
def _no_keys_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_API_KEY", "GUERDON_API_KEY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(f"{name}_FILE", raising=False)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    hurry(monkeypatch)


@pytest.fixture
def quiet_report(monkeypatch: pytest.MonkeyPatch) -> None:
    def write(folder: Path) -> None:
        (folder / "report.html").write_text("quick")

    monkeypatch.setattr("guerdon.run.search.write_report", write)


@pytest.fixture
def no_charts(monkeypatch: pytest.MonkeyPatch) -> None:
    """The page has its words; its charts take longer than the search."""
    none = {k: (lambda data: False, paint) for k, (_, paint) in CHARTS.items()}
    monkeypatch.setattr(build, "CHARTS", none)


@pytest.mark.usefixtures("quiet_report")
@pytest.mark.parametrize(("share", "seed"), [(0.1, 10), (0.3, 30), (0.3, 0), (0.6, 60)])
def test_a_search_completes_with_every_call_accounted_for_though_many_fail(
    tmp_path: Path, share: float, seed: int
) -> None:
    server = FaultyServer(seed, failing=share)
    config = replace(SEARCH, candidates=20, rounds=3, llm=server.uri)
    resources = replace(FAKE, budget_tokens=400_000)
    summary = run_search(config, tmp_path, resources)
    server.close()
    found = account(tmp_path, server)
    failed = sum(not a.answered for a in server.log)
    assert len(server.log) >= 20
    assert abs(failed - share * len(server.log)) <= 6
    assert found["answered"] >= 5
    assert found["tokens"] <= 400_000
    assert summary["candidates"] == 60
    assert summary["winner"] is not None
    assert summary["by_origin"]["model"]["candidates"] > 0
    assert summary["calls"] == {
        "ok": found["answered"],
        "failed": found["asked"] - found["answered"],
    }


@pytest.mark.usefixtures("quiet_report")
@pytest.mark.parametrize("cap", [2_000, 4_000])
def test_the_budget_is_kept_by_a_server_that_fails_and_lies(
    tmp_path: Path, cap: int
) -> None:
    server = FaultyServer(seed=3, failing=0.3, lying=0.5)
    config = replace(SEARCH, llm=server.uri)
    summary = run_search(config, tmp_path, replace(FAKE, budget_tokens=cap))
    server.close()
    assert 0 < account(tmp_path, server)["tokens"] <= cap
    assert summary["budget"] is not None
    assert summary["winner"] is not None


@pytest.mark.usefixtures("quiet_report")
def test_a_resumed_run_pays_no_answer_again_and_counts_what_failed_before(
    tmp_path: Path,
) -> None:
    server = FaultyServer(seed=4, failing=0.3)
    config = replace(SEARCH, llm=server.uri)
    capped = replace(FAKE, budget_tokens=400_000)
    seen = []

    def stop(kind: str, data: Any) -> None:
        seen.append(kind)
        if seen.count("called") == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_search(config, tmp_path, capped, stop)
    with Journal.open(tmp_path, readonly=True) as journal:
        before = journal.totals()
    assert before.calls_failed > 0
    summary = run_search(config, tmp_path, capped)
    server.close()
    found = account(tmp_path, server)
    assert found["answered"] > 4
    assert summary["calls"]["failed"] >= before.calls_failed
    assert without_times(run_search(config, tmp_path)) == without_times(summary)


@pytest.mark.usefixtures("quiet_report")
def test_a_finished_run_says_the_same_of_a_server_with_the_same_schedule(
    tmp_path: Path,
) -> None:
    # Faults that depend on no clock.
    only = ("429", "500", "nothing", "empty answer", "no choices", "not UTF-8")
    kept = []
    for name in "ab":
        server = FaultyServer(seed=5, failing=0.4, only=only)
        patched = replace(SEARCH, llm="http://127.0.0.1:1/v1#tiny")
        with pytest.MonkeyPatch.context() as patch:
            there = functools.partial(_elsewhere, server.server.url)
            patch.setattr("guerdon.llm.client.endpoint_address", there)
            run_search(patched, tmp_path / name, FAKE)
        server.close()
        kept.append(records(tmp_path / name))
    # The endpoint's name is in every key, and so is its port.
    for found in kept:
        found["calls"] = sorted(str(c[1]) for c in found["calls"])
        found["candidates"] = [replace(c, call_key=None) for c in found["candidates"]]
    assert kept[0] == kept[1]


def _elsewhere(url: str, uri: str) -> tuple[str, str]:
    return url, "tiny"


@pytest.mark.usefixtures("no_charts")
def test_the_breaker_opens_and_closes_and_the_user_is_told_on_screen_and_in_the_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = [0.0]
    hurry(monkeypatch, attempts=1, limit=2, rest=30.0, clock=lambda: now[0])
    server = FaultyServer(seed=6, failing=1.0, only=("500", "hang up"))
    config = replace(SEARCH, llm=server.uri, rounds=3)
    events: list[str] = []
    heal = Journal.add_round

    def add_round(self: Journal, *args: Any) -> None:
        # After the first round the server is well again.
        server.failing = server.lying = 0.0
        now[0] += 31.0
        heal(self, *args)

    monkeypatch.setattr(Journal, "add_round", add_round)
    summary = observed_search(config, tmp_path, FAKE, quiet=False)
    server.close()
    said = capsys.readouterr().err
    assert "the model fails, operators only for now: server: " in said
    assert "the model answers again" in said
    account(tmp_path, server)
    with Journal.open(tmp_path, readonly=True) as journal:
        events = [e.kind for e in journal.events() if e.kind.startswith("model_")]
        calls = [c.failure or "" for c in journal.calls()]
        by_round = [(c.round, c.operator) for c in journal.candidates()]
    assert [e for e in events if e != "model_failed"] == ["model_down", "model_up"]
    # Two calls opened it; the others of that round were never made.
    assert sum(c.startswith("server: ") for c in calls) == 2
    assert sum(c.startswith("breaker: ") for c in calls) >= 1
    made = {r for r, operator in by_round if operator.startswith("model_")}
    assert made == {2, 3}
    assert summary["degraded"]["times"] == 1
    assert summary["degraded"]["slots"] == events.count("model_failed") >= 3
    page = (tmp_path / "report.html").read_text()
    assert "The language model failed." in page
    assert "not made" in page


@pytest.mark.usefixtures("no_charts")
def test_a_model_that_never_answers_is_said_in_the_report(tmp_path: Path) -> None:
    server = FaultyServer(seed=7, failing=1.0, only=("500",))
    config = replace(SMALL, llm=server.uri)
    summary = run_search(config, tmp_path, FAKE)
    server.close()
    assert summary["winner"] is not None
    assert summary["degraded"]["slots"] > 0
    assert "The language model failed." in (tmp_path / "report.html").read_text()
    calm = run_search(SMALL, tmp_path / "calm", FAKE)
    assert calm["degraded"] is None
    assert "language model failed" not in (tmp_path / "calm/report.html").read_text()


# --- one call ---------------------------------------------------------------------


@pytest.fixture(scope="module")
def healthy() -> Iterator[FaultyServer]:
    server = FaultyServer(seed=0, failing=0.0, lying=0.0)
    chat = Endpoint(server.server.url, "tiny", key=Secret(""))
    # The first call imports the package, which takes its time.
    chat.chat(ask("hello"))
    chat.close()
    yield server
    server.close()


@pytest.mark.parametrize("name", FAILING)
def test_a_failing_call_is_an_error_in_time_in_little_memory_and_without_the_key(
    name: str, healthy: FaultyServer
) -> None:
    server = healthy.server
    server.decide = lambda body: FAILING[name](healthy._good("00000000", []), _rng())
    _rng = functools.partial(random.Random, 1)
    key = "sk-canary-0123456789"
    chat = Endpoint(server.url, "tiny", key=Secret(key), timeout=TIMEOUT)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started = time.monotonic()
    with pytest.raises(ModelError) as caught:
        chat.chat(ask("hello"))
    seconds = time.monotonic() - started
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    chat.close()
    assert seconds < 2.0 < SLOW, seconds
    assert grown < 24 << 10  # in KiB
    assert key not in str(caught.value)
    assert caught.value.__context__ is None
    assert len(str(caught.value)) < 500
    # Where an answer was on its way, the most that it may have cost is counted.
    free = name.startswith(
        ("429", "50", "401", "redirect", "error", "hang up in the h")
    )
    paid = caught.value.completion_tokens
    if name not in ("hang up", "no HTTP"):
        assert (paid == 0) == (free or name == "gzip bomb in an error"), paid


@pytest.mark.parametrize("name", LYING)
def test_a_lying_answer_is_an_answer_with_believable_tokens(
    name: str, healthy: FaultyServer
) -> None:
    good = healthy._good("00000000", [])
    healthy.server.decide = lambda body: LYING[name](good, random.Random(1))
    chat = Endpoint(healthy.server.url, "tiny", key=Secret(""), timeout=TIMEOUT)
    answer = chat.chat(ask("hello", max_tokens=200))
    chat.close()
    assert answer.text
    assert 0 < answer.tokens < 200 + 4096 + 200
    assert answer.estimated or name == "two choices"


def test_good_answers_follow_all_of_that(healthy: FaultyServer) -> None:
    healthy.server.decide = lambda body: Reply(healthy._good("00000000", []))
    chat = Endpoint(healthy.server.url, "tiny", key=Secret(""), timeout=TIMEOUT)
    assert chat.chat(ask("hello")).text == GOOD.format(weight=1.0)
    chat.close()


def test_light_workers_are_what_these_searches_train_with() -> None:
    assert Resources(workers=2, function="tests.run_jobs:train") == FAKE

"""A fresh machine without a way to the embedded weights still searches, said aloud."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from guerdon.journal import Journal
from guerdon.llm.client import Answer, ModelError, Request
from guerdon.run import run_search
from tests.test_run import FAKE, GOOD, SMALL, Seen

EMBEDDED = replace(SMALL, llm="embedded")


def refuse(uri: str, **_: Any) -> None:
    raise ModelError(f"no weights for {uri}", "server")


def test_operators_go_on_alone_and_a_resumed_run_stays_without_a_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("guerdon.run.search.connect", refuse)
    config, folder = replace(SMALL, llm="embedded"), tmp_path / "run"
    seen = Seen("trained", 2)
    with pytest.raises(KeyboardInterrupt):
        run_search(config, folder, FAKE, seen)
    assert seen.of("no_model") == [{"reason": "no weights for embedded"}]

    def must_not_connect(uri: str, **_: Any) -> None:
        raise AssertionError("a run without a model asked for one when resumed")

    monkeypatch.setattr("guerdon.run.search.connect", must_not_connect)
    summary = run_search(config, folder, FAKE)
    assert "operators only" in summary["no_model"]
    assert summary["winner"] is not None
    assert "Without a language model" in (folder / "report.html").read_text()
    with Journal.open(folder, readonly=True) as journal:
        assert not any(c.operator.startswith("model") for c in journal.candidates())


def test_an_endpoint_that_the_user_named_is_not_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("guerdon.run.search.connect", refuse)
    config = replace(SMALL, llm="http://127.0.0.1:9/v1#tiny")
    with pytest.raises(ModelError, match="no weights"):
        run_search(config, tmp_path / "run", FAKE)
    assert not (tmp_path / "run").exists()


class Weights:
    """An embedded model of this name, as ``connect`` opens it."""

    def __init__(self, name: str) -> None:
        self.name = name

    @property
    def model(self) -> str:
        return f"embedded:{self.name}@0123456789ab"

    def chat(self, request: Request) -> Answer:
        text = GOOD.format(weight=1 + (request.seed or 0) % 1000 / 1000)
        return Answer(text, 10, 5, 0.0, 0.0, self.model)

    def close(self) -> None: ...


def broken_off(folder: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    """A run that began where the smaller of two models fits."""
    monkeypatch.setattr("guerdon.run.search.connect", lambda uri, **_: Weights("tiny"))
    with pytest.raises(KeyboardInterrupt):
        run_search(EMBEDDED, folder, FAKE, Seen(kind, 1))


def test_a_resumed_run_has_the_embedded_model_that_it_began_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken_off(tmp_path, monkeypatch, "called")
    asked: list[str] = []

    def connect(uri: str, **_: Any) -> Weights:
        asked.append(uri)
        # More memory is free by now: left to itself it would be the larger one.
        return Weights(uri.partition(":")[2] or "large")

    monkeypatch.setattr("guerdon.run.search.connect", connect)
    run_search(EMBEDDED, tmp_path, FAKE)
    assert asked == ["embedded:tiny"]
    with Journal.open(tmp_path, readonly=True) as journal:
        models = [call.model for call in journal.calls()]
    assert len(models) > 1
    assert set(models) == {"embedded:tiny@0123456789ab"}


def test_a_journal_leads_to_no_model_but_an_embedded_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Weights, "model", "http://elsewhere.example/v1#m@1")
    broken_off(tmp_path, monkeypatch, "called")
    asked: list[str] = []

    def connect(uri: str, **_: Any) -> None:
        asked.append(uri)
        raise ModelError("enough seen", "server")

    monkeypatch.setattr("guerdon.run.search.connect", connect)
    with pytest.raises(ModelError, match="enough seen"):
        run_search(EMBEDDED, tmp_path, FAKE)
    assert asked == ["embedded"]


@pytest.mark.parametrize("kind", ["called", "candidate", "trained"])
def test_a_run_that_began_with_weights_waits_for_them_and_is_not_spoilt(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken_off(tmp_path, monkeypatch, kind)
    with Journal.open(tmp_path, readonly=True) as journal:
        before = journal.candidates()
    monkeypatch.setattr("guerdon.run.search.connect", refuse)
    with pytest.raises(ModelError, match="no weights"):
        run_search(EMBEDDED, tmp_path, FAKE)
    with Journal.open(tmp_path, readonly=True) as journal:
        assert journal.meta("no_model") is None
        assert journal.candidates() == before
    monkeypatch.setattr("guerdon.run.search.connect", lambda uri, **_: Weights("tiny"))
    summary = run_search(EMBEDDED, tmp_path, FAKE)
    calm = run_search(EMBEDDED, tmp_path / "calm", FAKE)
    assert summary["winner"] == calm["winner"]
    assert "no_model" not in summary or not summary["no_model"]

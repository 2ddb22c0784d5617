"""A fresh machine without a way to the embedded weights still searches, said aloud."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from guerdon.journal import Journal
from guerdon.llm.client import ModelError
from guerdon.run import run_search
from tests.test_run import FAKE, SMALL, Seen


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

"""Fixtures of the grid's tests."""

from __future__ import annotations

import pytest

from guerdon.envs.grid import threads


@pytest.fixture
def eager_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Share out a few hundred lanes too, so that tests of threads stay small."""
    monkeypatch.setattr(threads, "FEWEST", 256)

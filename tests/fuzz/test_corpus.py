"""The kept corpus: every input that ever reached new code, or once broke something."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fuzz.one_input import Broken, one_input

CORPUS = sorted((Path(__file__).parent / "corpus").iterdir())


def test_every_kept_input_is_refused_with_a_reason_or_runs() -> None:
    ran = [path for path in CORPUS if one_input(path.read_bytes()) is not None]
    # A corpus of refusals alone would test the parser and nothing behind it.
    assert len(ran) >= 20
    assert len(CORPUS) - len(ran) >= 20


def test_a_property_that_does_not_hold_is_found(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("tests.fuzz.one_input.CLAMP", 0.0)
    text = b"\0def reward(prev, action, now, params):\n    return {'a': now.speed}\n"
    with pytest.raises(Broken, match="beyond the clamp"):
        one_input(text)

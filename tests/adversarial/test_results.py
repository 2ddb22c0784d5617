"""Results of trainings that nobody vouches for."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from guerdon.agents.answers import answer_of
from guerdon.agents.sb3 import train
from guerdon.agents.training import TrainingJob, TrainingResult, outcome_to_json
from guerdon.run import train_one
from guerdon.types import Failure
from tests.adversarial.artifacts import CARTPOLE

pytestmark = pytest.mark.usefixtures("nothing_escapes")

JOB = TrainingJob(CARTPOLE, "sparse", 32, 0)


@pytest.fixture(scope="module")
def honest(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    found = train(TrainingJob(CARTPOLE, "sparse", 32, 0, eval_episodes=1))
    assert isinstance(found, TrainingResult)
    return json.loads(found.to_json()) | {"job": JOB.key}


FORGED: dict[str, Callable[[dict[str, Any]], Any]] = {
    "another job's": lambda r: r | {"job": "0" * 64},
    "a score that is no number": lambda r: r | {"fitness": [float("nan")]},
    "an infinite score": lambda r: r | {"fitness": [float("inf")]},
    "a score in words": lambda r: r | {"fitness": ["1e9"]},
    "a flag as score": lambda r: r | {"fitness": [True]},
    "no scores": lambda r: r | {"fitness": [], "success": [], "length": []},
    "one score more": lambda r: r | {"fitness": r["fitness"] * 2},
    "a field more": lambda r: r | {"winner": True},
    "a field less": lambda r: {k: v for k, v in r.items() if k != "curve"},
    "a curve that is none": lambda r: r | {"curve": 7},
    "an unknown failure": lambda r: {"failure": {"kind": "x", "reason": "", "line": 1}},
    "a list": lambda r: [r],
    "weights elsewhere": lambda r: r | {"weights": "../../etc/passwd"},
    "episodes elsewhere": lambda r: r | {"episodes": "/etc/passwd"},
    "weights that are no file": lambda r: r | {"weights": ["a"]},
    "half a step": lambda r: r | {"steps": 0.5},
    "seconds in words": lambda r: r | {"wall_seconds": "soon"},
    "endless seconds": lambda r: r | {"cpu_seconds": float("inf")},
    "a failure in a list": lambda r: {
        "failure": {"kind": "slow", "reason": ["x"], "line": 1}
    },
    "a failure nowhere": lambda r: {
        "failure": {"kind": "slow", "reason": "x", "line": "1"}
    },
}


@pytest.mark.parametrize("name", FORGED)
def test_a_forged_result_is_a_failure_of_its_candidate(
    honest: dict[str, Any], name: str
) -> None:
    assert isinstance(answer_of(json.dumps(honest).encode(), JOB), TrainingResult)
    found = answer_of(json.dumps(FORGED[name](honest)).encode(), JOB)
    assert isinstance(found, Failure)
    assert found.kind in ("crashed", "non_finite")


def test_a_failure_is_kept_without_what_a_terminal_obeys() -> None:
    failure = Failure("crashed", "a\x1b]0;owned\x07\u202eb\nc")
    found = answer_of(outcome_to_json(failure).encode(), JOB)
    assert found == Failure("crashed", "a\\u001b]0;owned\\u0007\\u202eb\nc")


@pytest.mark.parametrize("text", [b"", b"\xff\xfe", b"{", b"null", b"R" * 99, b"1e999"])
def test_an_answer_that_is_no_json_is_a_failure_of_its_candidate(text: bytes) -> None:
    assert isinstance(answer_of(text, JOB), Failure)


def test_a_result_of_somebody_is_replaced_and_never_believed(tmp_path: Path) -> None:
    out, precious = tmp_path / "out", tmp_path / "precious"
    out.mkdir()
    precious.write_text("mine")
    (out / "result.json").symlink_to(precious)
    found = train_one(CARTPOLE, "sparse", steps=32, eval_episodes=1, out=out)
    assert precious.read_text() == "mine"
    assert not (out / "result.json").is_symlink()
    written = json.loads((out / "result.json").read_text())
    assert written["fitness"] == [found["fitness"]["value"]]

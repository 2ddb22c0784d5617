import hashlib
import json
from dataclasses import replace

import numpy as np
import pytest

from guerdon.agents.training import (
    Curve,
    TrainingJob,
    TrainingResult,
    Trouble,
    outcome_from_json,
    outcome_to_json,
)
from guerdon.types import Failure

JOB = TrainingJob(task="guerdon/CartPole-v1", reward="sparse", steps=10, seed=3)

RESULT = TrainingResult(
    job=JOB.key,
    fitness=(1.0, 0.0),
    success=(True, False),
    length=(5, 6),
    proxy=2.5,
    curve=Curve((5, 10), (0, 1), (None, 1.0), (None, 1.0), (None, 2.5), (None, 5.0),
                {"near": (None, 0.5)}),
    steps=10,
    cpu_seconds=0.1,
    wall_seconds=0.2,
    train_seconds=0.15,
    weights="w.safetensors",
)  # fmt: skip


def test_a_job_survives_json_and_keeps_its_key() -> None:
    again = TrainingJob.from_json(JOB.to_json())
    assert again == JOB
    assert again.key == hashlib.sha256(JOB.to_json().encode()).hexdigest()


def test_the_key_is_that_of_the_sorted_compact_json() -> None:
    values = json.loads(JOB.to_json())
    text = json.dumps(dict(reversed(values.items())), sort_keys=True)
    assert JOB.to_json() == text.replace(", ", ",").replace(": ", ":")


def test_jobs_that_differ_anywhere_have_different_keys() -> None:
    others = [
        TrainingJob("guerdon/CartPole-v1", "sparse", 10, 4),
        TrainingJob("guerdon/CartPole-v1", "human", 10, 3),
        TrainingJob("guerdon/CartPole-v1", "sparse", 10, 3, base="none"),
        TrainingJob("guerdon/CartPole-v1", "sparse", 10, 3, eval_seed=1),
    ]
    assert len({job.key for job in [JOB, *others]}) == 5


@pytest.mark.parametrize(
    "outcome", [RESULT, Failure("syntax", "no", 3), Trouble(28, "full", "/run/w.npz")]
)
def test_outcomes_survive_json(outcome: TrainingResult | Failure | Trouble) -> None:
    assert outcome_from_json(outcome_to_json(outcome)) == outcome


def test_means_are_over_the_evaluation_episodes() -> None:
    assert RESULT.mean_fitness == 0.5
    assert RESULT.success_rate == 0.5


@pytest.mark.parametrize(
    "text",
    [
        "[]",
        "{}",
        '{"failure": {"kind": "bored", "reason": "", "line": null}}',
        '{"failure": {"kind": "slow"}}',
        '{"task": "x"}',
    ],
)
def test_json_of_something_else_is_rejected(text: str) -> None:
    with pytest.raises(ValueError, match=r"expected fields|unknown 'bored'"):
        outcome_from_json(text)


@pytest.mark.parametrize(
    "values",
    [
        *({"steps": 0}, {"seed": -1}, {"eval_episodes": 0}, {"base": "x"}),
        *({"algo": "dqn"}, {"seed": 2**31}, {"steps": 2**53 + 1}),
    ],
)
def test_a_job_out_of_range_is_rejected(values: dict[str, int]) -> None:
    plain = {"task": "t", "reward": "sparse", "steps": 1, "seed": 0}
    with pytest.raises(ValueError, match=next(iter(values))):
        TrainingJob(**plain | values)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "values",
    [
        *({"steps": 1.5}, {"steps": True}, {"seed": "3"}, {"eval_episodes": None}),
        *({"task": 3}, {"reward": None}),
    ],
)
def test_a_job_of_other_types_is_rejected_by_name(values: dict[str, object]) -> None:
    plain = {"task": "t", "reward": "sparse", "steps": 1, "seed": 0}
    with pytest.raises(TypeError, match=f"{next(iter(values))}: expected"):
        TrainingJob(**plain | values)  # type: ignore[arg-type]


def test_numpy_numbers_make_the_same_job_as_python_s() -> None:
    steps: int = np.int64(10)  # type: ignore[assignment]
    made = TrainingJob("guerdon/CartPole-v1", "sparse", steps, np.int32(3))  # type: ignore[arg-type]
    assert made == JOB
    assert made.key == JOB.key


def test_parts_of_the_time_survive_json_and_reach_the_journal() -> None:
    parts = {"acting": 0.05, "update": 0.1}
    made = replace(RESULT, seconds=parts)
    assert outcome_from_json(made.to_json()) == made
    assert made.as_record()["seconds"] == parts
    assert RESULT.as_record()["seconds"] is None


@pytest.mark.parametrize(
    "parts",
    [
        *([], 1.0, "acting", {"acting": "1"}, {"acting": True}, {"acting": None}),
        *({"acting": -0.1}, {"acting": float("nan")}, {"acting": float("inf")}),
        *({"acting": 0.3}, {"acting": 0.15, "update": 0.15}),  # of 0.2 seconds
        *({"sleeping": 0.1}, {"": 0.0}),
    ],
)
def test_parts_that_a_worker_cannot_have_measured_are_refused(parts: object) -> None:
    values = json.loads(RESULT.to_json()) | {"seconds": parts}
    with pytest.raises((TypeError, ValueError), match="seconds"):
        outcome_from_json(json.dumps(values))

"""What a worker says, read as the untrusted JSON that it is."""

from __future__ import annotations

import json
from dataclasses import replace

from guerdon.agents.claims import Learned
from guerdon.agents.training import (
    Outcome,
    TrainingJob,
    TrainingResult,
    Trouble,
    Work,
    jobs_of,
    not_finite,
    outcome_from_json,
)
from guerdon.harmless import harmless
from guerdon.types import Failure

Outcomes = Outcome | Trouble | list[Outcome | Trouble]
"""Of all jobs of some work: one for all of them, or one for each."""

Answer = Outcomes | Learned
"""What a worker says."""


def share_of(text: bytes) -> float:
    """What a worker says of its progress; 0 where that is no number."""
    try:
        share = float(text[:16])
    except ValueError:
        return 0.0
    return share if 0.0 <= share <= 1.0 else 0.0


def answer_of(text: bytes, work: Work) -> Answer:
    """A worker's answer, read as the untrusted JSON that it is."""
    jobs = jobs_of(work)
    learned = json.dumps({"learned": jobs[0].key}).encode()
    if jobs[0].trust == "none" and text == learned:
        return Learned(jobs[0].key)
    try:
        if isinstance(work, TrainingJob):
            return _outcome(text, work)
        values = json.loads(text)
        if not isinstance(values, list):
            return _outcome(text, jobs[0])  # such as the machine's trouble
        if len(values) != len(jobs):
            raise ValueError(f"{len(values)} results of {len(jobs)} jobs")
        found = [
            _outcome(json.dumps(v), job) for v, job in zip(values, jobs, strict=True)
        ]
    except (
        *(ValueError, TypeError, KeyError, AttributeError),
        *(RecursionError, OverflowError),
    ) as error:
        return Failure("crashed", f"answer is not a training result: {error}")
    return found


def _outcome(text: bytes | str, job: TrainingJob) -> Outcome | Trouble:
    """One outcome; ValueError and its like when it is none."""
    outcome = outcome_from_json(text)
    if isinstance(outcome, TrainingResult) and outcome.job != job.key:
        return Failure("crashed", f"answer belongs to another job, {outcome.job[:12]}")
    if isinstance(outcome, Trouble):
        return outcome
    if isinstance(outcome, Failure):
        return replace(outcome, reason=harmless(outcome.reason))
    return not_finite(outcome) or outcome


def of_job(answer: Answer) -> Outcome | Trouble | Learned:
    """The answer to a single job."""
    if isinstance(answer, list):
        return Failure("crashed", "answer is not a training result")
    return answer


def of_leg(answer: Answer) -> Outcomes:
    """The answers to the jobs of a leg, or one for all of them."""
    if isinstance(answer, Learned):
        return Failure("crashed", "answer is not a list of training results")
    return answer

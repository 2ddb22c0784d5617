"""Trainings for the tests of whole runs: scores from a hash, in no time at all."""

from __future__ import annotations

import errno
import hashlib
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from guerdon.agents.evaluate import save_episodes
from guerdon.agents.training import (
    Curve,
    Leg,
    TrainingJob,
    TrainingResult,
    outcome_to_json,
)
from guerdon.envs import load_task
from guerdon.reward_design.language import parse
from guerdon.types import Episode, Failure

LOG = "ran.log"
"""File among the artefacts with the key of every training that was begun."""

LEGS = "legs.log"
"""The same of every leg: where it began and ended, and how many jobs it had."""

Progress = Callable[[float], None]


def train(payload: bytes, folder: Path, progress: Progress) -> bytes:
    """A score that depends on the job alone; one reward in eight fails."""
    if b'"jobs"' in payload:
        leg = Leg.from_json(payload)
        with (folder / LEGS).open("a") as log:
            log.write(f"{leg.start} {leg.jobs[0].steps} {len(leg.jobs)}\n")
        parts = [train(j.to_json().encode(), folder, progress) for j in leg.jobs]
        return b"[" + b",".join(parts) + b"]"
    job = TrainingJob.from_json(payload)
    with (folder / LOG).open("a") as log:
        log.write(f"{job.key}\n")
    digest = hashlib.sha256(job.reward.encode()).digest()
    if digest[0] < 32 and job.reward not in ("sparse", "human"):
        return outcome_to_json(Failure("crashed", "as it was told to")).encode()
    # Jobs do not finish in the order in which they were begun.
    time.sleep(hashlib.sha256(payload).digest()[0] / 255 * 0.1)
    return outcome_to_json(_result(job, digest[1] / 255, folder)).encode()


def train_on_a_full_disk(payload: bytes, folder: Path, progress: Progress) -> bytes:
    """The fourth training and all after it find no room."""
    if len((folder / LOG).read_text().split() if (folder / LOG).exists() else ()) > 2:
        raise OSError(errno.ENOSPC, "No space left on device", str(folder / "w.npz"))
    return train(payload, folder, progress)


def crash(payload: bytes, folder: Path, progress: Progress) -> bytes:
    """Every training crashes in the same line, with a text of its own."""
    job = TrainingJob.from_json(payload)
    reason = f"RuntimeError: step {job.key[:4]} (env.py:9, step)"
    return outcome_to_json(Failure("crashed", reason)).encode()


def crash_candidates(payload: bytes, folder: Path, progress: Progress) -> bytes:
    """Every program crashes, and the baseline trains."""
    job = TrainingJob.from_json(payload)
    return (train if job.reward == "sparse" else crash)(payload, folder, progress)


def endless(payload: bytes, folder: Path, progress: Progress) -> bytes:
    """A result whose true score is no number."""
    job = TrainingJob.from_json(payload)
    result = replace(_result(job, 0.5, folder), fitness=(0.5, float("nan")))
    return outcome_to_json(result).encode()


def fail(payload: bytes, folder: Path, progress: Progress) -> bytes:
    """A training that never works."""
    return outcome_to_json(Failure("non_finite", "as it was told to")).encode()


def _result(job: TrainingJob, score: float, folder: Path) -> TrainingResult:
    task = load_task(job.task)
    names: tuple[str, ...] = ("task",)
    if job.reward not in ("sparse", "human"):
        names += parse(job.reward, task.layout, task.action).names
    luck = int(job.key[:2], 16) / 255
    fitness = (score, score + 0.1 * luck)
    episodes = f"{job.key}.npz"
    save_episodes(folder / episodes, (_episode(job),))
    return TrainingResult(
        job=job.key,
        fitness=fitness,
        success=tuple(value > 0.5 for value in fitness),
        length=(4, 4),
        proxy=score * 2,
        curve=Curve(
            steps=(1, 2),
            episodes=(1, 1),
            fitness=(None, score),
            success=(None, score),
            proxy=(None, score),
            length=(None, 4.0),
            terms={name: (None, luck + place) for place, name in enumerate(names)},
        ),
        steps=job.steps,
        cpu_seconds=0.5,
        wall_seconds=0.5,
        train_seconds=0.4,
        episodes=episodes,
    )


def _episode(job: TrainingJob) -> Episode:
    task = load_task(job.task)
    rng = np.random.default_rng(int(job.key[:8], 16))
    return Episode(
        layout=task.layout,
        features=rng.uniform(0, 10, (5, task.layout.width)).astype(np.float32),
        action=rng.integers(2, size=4),
        reward=-np.ones(4),
        terminated=True,
        truncated=False,
        info={"fitness": -4.0, "success": True},
    )

"""What the jail costs: the start of a job, and the speed of a training inside.

Claim: from the request until the jail is shut around a warm job takes less than 50 ms
(median), and a PPO training inside is at most 3 % slower than the same training in a
worker that is not confined. The start is measured twice: of a job that has nothing to
do, which is the jail alone, and of a training, which makes its environments and takes
their first steps before the jail is shut; each row says by itself whether it is under
50 ms. The two sides of the training run the same function on the same job, and take
turns; compared are the seconds of the learning itself. Before the clock counts, both
must have seen the same first episodes.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.harness import alternated, keep
from guerdon.agents.child import Child
from guerdon.agents.claims import Claims, claim_name, claim_of, split
from guerdon.agents.confined import LEARN, PREPARE
from guerdon.agents.server import start_server
from guerdon.agents.training import TrainingJob
from guerdon.jail import Jail, Limits

STARTS = 200
TRAININGS = 40
"""Starts of a training; each is trained for one rollout."""

WARM = 0.05
"""Seconds that a start may take."""

STEPS = 16_384
TEXT = """
def reward(prev, action, now, params):
    return {"up": 1.0 - np.square(now.pole_angle), "still": -np.abs(now.cart_velocity)}
"""
LIMITS = Limits(seconds=300.0, cpu_seconds=300)


def nothing(payload: str) -> Callable[[Any], list[bytes]]:
    """A job that has nothing to do."""
    return lambda progress: [b"done"]


def job(trust: Any, steps: int = STEPS) -> TrainingJob:
    """The same training for both sides."""
    task = "guerdon/CartPole-v1"
    return TrainingJob(task, TEXT, steps, 0, base="none", trust=trust)


def read(claim: bytes) -> Claims:
    """What a training says about itself."""
    claims, _ = split(claim)
    assert isinstance(claims, Claims), claims
    return claims


def inside(jail: Jail) -> Claims:
    """A training in the jail."""
    claim = claim_of(jail.run(PREPARE, job("jail").to_json(), LIMITS))
    assert isinstance(claim, bytes), claim
    return read(claim)


def outside(folder: Path) -> Claims:
    """The same in a worker."""
    one = job("none")
    child = Child(LEARN, folder, folder / "stderr")
    child.connection.send_bytes(one.to_json().encode())
    while child.next_message()[:1] != b"R":
        pass
    child.reap()
    return read((folder / claim_name(one)).read_bytes())


def starts(jail: Jail, function: str, payload: str, count: int) -> dict[str, Any]:
    """Milliseconds from the request until the jail is shut, and to the end.

    Args:
        jail: its server has started.
        function: makes the job while everything is open.
        payload: of the job.
        count: how often it is started; once more before that warms up.
    """
    shut, whole = [], []
    for number in range(count + 1):
        began = time.perf_counter()
        answer = jail.run(function, payload, LIMITS)
        seconds = time.perf_counter() - began
        assert answer.reason is None, answer
        assert answer.shut_after is not None, answer
        if number > 0:
            whole.append(seconds)
            shut.append(answer.shut_after)
    median = float(np.median(shut))
    return {
        "shut, median ms": 1e3 * median,
        "shut, 95th percentile ms": 1e3 * float(np.percentile(shut, 95)),
        "to the end, median ms": 1e3 * float(np.median(whole)),
        "under 50 ms": median < WARM,
        "jobs": count,
    }


def main() -> None:
    """Measure and keep."""
    start_server()
    began = time.perf_counter()
    with (
        Jail(("guerdon.agents.preload", "benchmarks.jail")) as jail,
        tempfile.TemporaryDirectory() as folder,
    ):
        cold = time.perf_counter() - began
        first, second = outside(Path(folder)), inside(jail)
        assert first.curve.episodes[:4] == second.curve.episodes[:4]
        rows = {
            "server, seconds to start once": cold,
            "start of a job": starts(jail, "benchmarks.jail:nothing", "", STARTS),
            "start of a training": starts(
                jail, PREPARE, job("jail", 1).to_json(), TRAININGS
            ),
            "training": alternated(
                lambda: outside(Path(folder)).seconds, lambda: inside(jail).seconds
            ),
        }
    keep("jail", "make bench", rows)


if __name__ == "__main__":
    main()

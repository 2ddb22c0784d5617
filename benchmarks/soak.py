"""Two hundred struck runs, and searches with a model server that fails.

    python -m benchmarks.soak [POINTS]

Every point kills the controller, a worker or the model server of a small search at a
seeded moment, or fills its disk; then the run goes on and is compared with the
undisturbed one. A search with failing calls must account for every one of them.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from benchmarks.harness import keep
from guerdon.run import run_search
from tests.soak.faults import FaultyServer, account, hurry
from tests.soak.kill import Ground, Outcome, points
from tests.test_run import FAKE, SMALL

BUDGET = 2_000_000
"""Tokens that a search with a failing server may use."""


def strike(count: int, seed: int) -> dict[str, Any]:
    """Kill points: how many were struck, resumed, lost, repeated."""
    started = time.monotonic()
    outcomes: list[Outcome] = []
    with tempfile.TemporaryDirectory() as folder, Ground(Path(folder)) as ground:
        for point in points(count, seed):
            outcome = ground.try_point(point)
            outcomes.append(outcome)
            word = "; ".join(outcome.errors) or "as if nothing had been"
            print(f"{point.number + 1:4d}/{count}  {point.kind:20s} {word}", flush=True)
    errors = [o.errors for o in outcomes if o.errors]
    texts = [" ".join(found) for found in errors]
    repeated = ("paid for again", "trained again")
    return {
        "points": count,
        "seed": seed,
        "struck": sum(o.killed for o in outcomes),
        "resumed to the same result": count - len(errors),
        "lost": sum(not any(word in text for word in repeated) for text in texts),
        "repeated": sum(any(word in text for word in repeated) for text in texts),
        "answers under way when struck, asked for again": sum(
            o.under_way for o in outcomes
        ),
        "by kind": dict(Counter(o.point.kind for o in outcomes)),
        "errors": errors[:20],
        "seconds": round(time.monotonic() - started, 1),
    }


def fail(share: float, seed: int) -> dict[str, Any]:
    """A search with a share of failing calls, and its accounts."""
    started = time.monotonic()
    server = FaultyServer(seed, failing=share)
    config = replace(SMALL, candidates=40, rounds=4, llm=server.uri)
    with tempfile.TemporaryDirectory() as name, pytest.MonkeyPatch.context() as patch:
        hurry(patch)
        summary = run_search(config, Path(name), replace(FAKE, budget_tokens=BUDGET))
        found = account(Path(name), server)
    server.close()
    return {
        "completed": summary["candidates"] == 160 and summary["winner"] is not None,
        "calls": found["asked"],
        "answered": found["answered"],
        "failed": found["asked"] - found["answered"],
        "kinds of failure shown": len(server.faults),
        "tokens": found["tokens"],
        "budget": BUDGET,
        "candidates of the model": summary["by_origin"]["model"]["candidates"],
        "seconds": round(time.monotonic() - started, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("points", nargs="?", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    rows: dict[str, Any] = {}
    for share in (0.1, 0.3, 0.6):
        rows[f"{share:.0%} of calls fail"] = fail(share, asked.seed)
    rows["kill points"] = strike(asked.points, asked.seed)
    keep("soak", "make soak", rows)
    found = rows["kill points"]
    if found["resumed to the same result"] < asked.points:
        raise SystemExit(1)


if __name__ == "__main__":
    main()

"""What the soak finds: struck runs, failing models, hostile programs; and its verdict.

Apart from ``benchmarks.soak``, whose top level every worker imports.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from guerdon.run import RunConfig, run_search
from tests.adversarial.programs import ALL, CATEGORIES
from tests.adversarial.rejections import rejections
from tests.adversarial.test_whole_search import (
    WON,
    alone,
    fenced,
    measured_otherwise,
    misjudged,
    search_for,
    search_in_jail,
    traces,
)
from tests.soak.faults import FaultyServer, account, hurry
from tests.soak.kill import Ground, Outcome
from tests.soak.points import RACE, REAL, SEARCH, Point
from tests.soak.processes import words
from tests.test_run import FAKE, SMALL

BUDGET = 2_000_000
"""Tokens that a search with a failing server may use."""

SHARES = (0.1, 0.3, 0.6)
"""Of the calls that fail."""

REAL_POINTS = 4
"""Struck searches whose populations learn indeed."""

Rows = dict[str, dict[str, Any]]


def told(rows: Rows, name: str, part: Callable[[], dict[str, Any]]) -> None:
    """Keep what a part finds, and what went wrong in it."""
    try:
        rows[name] = part()
    except Exception as error:
        rows[name] = rows.get(name, {}) | {"went wrong": words(error)}
        print(f"{name}: {rows[name]['went wrong']}", flush=True)


# --- kill points --------------------------------------------------------------------


def strike(
    rows: Rows, name: str, some: Iterable[Point], *, real: bool = False
) -> dict[str, Any]:
    """Strike runs; the row is there from the first point on, if all is broken off.

    Args:
        rows: where the row goes.
        name: of the row.
        some: the points.
        real: whether trainings learn indeed.
    """
    started = time.monotonic()
    asked, outcomes = list(some), list[Outcome]()
    grounds: dict[bool, Ground] = {}
    rows[name] = struck(asked, outcomes)
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        for point in asked:
            if point.race not in grounds:
                config: RunConfig = RACE if point.race else SEARCH
                ground = (
                    Ground(Path(folder) / "real", REAL, (False,), real=True)
                    if real
                    else Ground(Path(folder) / config.trainer, config)
                )
                grounds[point.race] = stack.enter_context(ground)
            outcome = grounds[point.race].try_point(point)
            outcomes.append(outcome)
            word = "; ".join(outcome.errors) or "as if nothing had been"
            if not outcome.killed:
                word = f"never struck; {word}"
            kind = f"{point.kind}{', race' if point.race else ''}"
            print(f"{len(outcomes):4d}/{len(asked)}  {kind:28s} {word}", flush=True)
            seconds = round(time.monotonic() - started, 1)
            rows[name] = struck(asked, outcomes) | {"seconds": seconds}
    return rows[name]


def struck(asked: Sequence[Point], outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """How many were struck, resumed, lost, repeated."""
    errors = [o.errors for o in outcomes if o.errors]
    texts = [" ".join(found) for found in errors]
    again = ("paid for", "trained")
    return {
        "points": len(asked),
        "in races": sum(p.race for p in asked),
        "struck": sum(o.killed for o in outcomes),
        "resumed to the same result": sum(o.killed and not o.errors for o in outcomes),
        "lost": sum(not any(word in text for word in again) for text in texts),
        "repeated": sum(any(word in text for word in again) for text in texts),
        "answers under way when struck, asked for again": sum(
            o.under_way for o in outcomes
        ),
        "trainings in no journal when struck, begun again": sum(
            o.repeated for o in outcomes
        ),
        "by kind": dict(Counter(o.point.kind for o in outcomes)),
        "errors": errors[:20],
    }


# --- a model that fails -------------------------------------------------------------


def fail(share: float, seed: int) -> dict[str, Any]:
    """A search with a share of failing calls, and its accounts."""
    started = time.monotonic()
    server = FaultyServer(seed, failing=share)
    config = replace(SMALL, candidates=40, rounds=4, llm=server.uri)
    found: dict[str, int] = {}
    accounts = "agree"
    with tempfile.TemporaryDirectory() as name, pytest.MonkeyPatch.context() as patch:
        hurry(patch)
        capped = replace(FAKE, budget_tokens=BUDGET)
        try:
            summary = run_search(config, Path(name), capped)
        finally:
            server.close()
        try:
            found = account(Path(name), server)
        except AssertionError as error:
            accounts = words(error)
    used = sum(summary["tokens"].values())
    return {
        "completed": summary["candidates"] == 160 and summary["winner"] is not None,
        "accounts": accounts,
        "calls": found.get("asked"),
        "answered": found.get("answered"),
        "failed": found["asked"] - found["answered"] if found else None,
        "kinds of failure shown": len(server.faults),
        "tokens": used,
        "budget": BUDGET,
        "candidates of the model, alone or with the operators": sum(
            summary["by_origin"][hands]["candidates"] for hands in ("model", "both")
        ),
        "seconds": round(time.monotonic() - started, 1),
    }


# --- hostile programs ---------------------------------------------------------------


def attack() -> dict[str, Any]:
    """Hostile programs against the language, and through whole searches."""
    started = time.monotonic()
    refusals = rejections()
    with tempfile.TemporaryDirectory() as name:
        fakes, jail = Path(name) / "language", Path(name) / "jail"
        fakes.mkdir()
        with alone(fakes):
            run, _, summary = search_for(fakes, ALL, fenced)
        escapes = [str(path) for path in traces(fakes)]
        changed = misjudged(run)
        trained = {}
        if sys.platform.startswith("linux"):
            jail.mkdir()
            with alone(jail):
                some = [one for one in CATEGORIES["H"] if one.jail != "timed_out"]
                jailed, trained, _ = search_in_jail(jail, some)
                changed += measured_otherwise(jail / "run", jailed)
            escapes += [str(path) for path in traces(jail)]
    escapes += [
        one
        for one, training in trained.items()
        if training.failure is None and WON in training.result["curve"]["terms"]
    ]
    return {
        "programs": len(ALL),
        "by category": refusals["programs"],
        "refused by the language, by category": refusals["refused"],
        "refusals without a line": refusals["without_line"],
        "slowest refusal, ms": round(1e3 * refusals["worst_seconds"], 2),
        "slowest refusal": refusals["worst"],
        "answers of a model in a whole search": summary["calls"]["ok"],
        "trained in the jail": len(trained),
        "escapes": len(escapes),
        "changed fitness": len(changed),
        "errors": (escapes + changed)[:20],
        "seconds": round(time.monotonic() - started, 1),
    }


# --- the verdict --------------------------------------------------------------------


def wanting(
    rows: Mapping[str, Mapping[str, Any]], expected: Sequence[str]
) -> list[str]:
    """What is not as it is claimed, in words; nothing where all of it is.

    Args:
        rows: by name.
        expected: names of all the rows that there should be.
    """
    found = [f"{name}: missing" for name in expected if name not in rows]
    for name, row in rows.items():
        if "went wrong" in row:
            found.append(f"{name}: {row['went wrong']}")
        elif "points" in row:
            for what in ("struck", "resumed to the same result"):
                if row[what] != row["points"]:
                    found.append(f"{name}: {what} {row[what]} of {row['points']}")
        elif "completed" in row:
            if not row["completed"]:
                found.append(f"{name}: not completed")
            if row["accounts"] != "agree":
                found.append(f"{name}: {row['accounts']}")
            if row["tokens"] > row["budget"]:
                found.append(f"{name}: {row['tokens']} tokens of {row['budget']}")
        else:
            for what in ("escapes", "changed fitness", "refusals without a line"):
                if row[what]:
                    found.append(f"{name}: {what}: {row[what]}")
    return found

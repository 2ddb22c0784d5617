"""How Guerdon measures: both sides alternated, a median ratio with its interval.

A result is marked invalid when more is running than the machine has cores. Sides are
told the same thing and checked to give the same thing before any clock starts.
"""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

RESULTS = Path(__file__).parent / "results"
PAIRS = 9


def alternated(
    first: Callable[[], float | None],
    second: Callable[[], float | None],
    pairs: int = PAIRS,
) -> dict[str, Any]:
    """Seconds of both sides, run turn about, and the ratio second / first.

    Args:
        first: the side that is the measure; gives its seconds where the call itself is
            not what is measured.
        second: the side whose cost is asked for.
        pairs: how often both run; one more pair before that warms up.
    """
    first(), second()
    seconds = np.zeros((pairs, 2))
    for pair in range(pairs):
        order = (0, 1) if pair % 2 == 0 else (1, 0)
        for side in order:
            started = time.perf_counter()
            own = (first, second)[side]()
            whole = time.perf_counter() - started
            seconds[pair, side] = whole if own is None else own
    ratios = seconds[:, 1] / seconds[:, 0]
    found: Any = stats.bootstrap(
        [ratios], np.median, rng=np.random.default_rng(0), method="percentile"
    ).confidence_interval
    return {
        "ratio": float(np.median(ratios)),
        "low": float(found.low),
        "high": float(found.high),
        "first_seconds": float(np.median(seconds[:, 0])),
        "second_seconds": float(np.median(seconds[:, 1])),
        "pairs": pairs,
    }


def seconds_of(run: Callable[[], Any], repeats: int) -> float:
    """Median seconds of one call."""
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        run()
        times.append(time.perf_counter() - started)
    return float(np.median(times))


def machine() -> dict[str, Any]:
    """What it was measured on."""
    return {
        "python": platform.python_version(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "system": platform.platform(),
        "numpy": version("numpy"),
        "date": time.strftime("%Y-%m-%d"),
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    names = [x.split(":", 1)[1].strip() for x in lines if x.startswith("model name")]
    return names[0] if names else platform.processor()


def keep(name: str, command: str, rows: Mapping[str, Any]) -> None:
    """Print the rows and keep them as ``results/NAME.json``."""
    load = os.getloadavg()[0]
    cores = os.cpu_count() or 1
    result = {
        "command": command,
        "machine": machine(),
        "load": round(load, 2),
        "valid": load <= cores + 0.5,
        "rows": rows,
    }
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    path.write_text(json.dumps(result, indent=1, allow_nan=False) + "\n")
    print(f"{name}: {'valid' if result['valid'] else 'INVALID, the machine was busy'}")
    for key, row in rows.items():
        print(f"  {key}: {row}")
    print(
        f"  kept in {path.relative_to(Path.cwd())}"
        if path.is_relative_to(Path.cwd())
        else f"  kept in {path}"
    )

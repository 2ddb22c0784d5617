"""How Guerdon measures: both sides alternated, a median ratio with its interval.

A result is marked invalid when more was running than the machine has cores, at its end
or at any turn before. Sides are told the same thing and checked to give the same thing
before any clock starts.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import subprocess
import time
from collections.abc import Callable, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

RESULTS = Path(__file__).parent / "results"
QUICK = Path("runs/bench-quick")
"""Where what is no measurement goes."""
PAIRS = 9
THREADS = ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS")
LIBRARIES = ("torch", "numba", "gymnasium", "minigrid", "stable-baselines3", "mujoco")

_STARTED = time.monotonic()
_loads: list[float] = []
"""Load of the machine at every turn of this process."""


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
    seconds = turns({"first": first, "second": second}, pairs)
    return ratio_row(seconds["first"], seconds["second"])


def turns(
    sides: Mapping[str, Callable[[], float | None]], rounds: int, *, warm: bool = True
) -> dict[str, np.ndarray]:
    """Seconds ``(rounds,)`` of every side, run turn about.

    Args:
        sides: by name; one gives its seconds where the call itself is not what is
            measured.
        rounds: how often all run.
        warm: whether all run once before that.
    """
    names = list(sides)
    if warm:
        for run in sides.values():
            run()
    seconds = {name: np.zeros(rounds) for name in names}
    for number in range(rounds):
        _loads.append(os.getloadavg()[0])
        for name in names if number % 2 == 0 else names[::-1]:
            started = time.perf_counter()
            own = sides[name]()
            whole = time.perf_counter() - started
            seconds[name][number] = whole if own is None else own
    return seconds


def ratio_row(first: np.ndarray, second: np.ndarray) -> dict[str, Any]:
    """The median of ``second / first``, pair by pair, with its interval.

    Args:
        first: ``(P,)`` seconds of the side that is the measure.
        second: ``(P,)`` seconds of the side whose cost is asked for.
    """
    return {
        **median_row(second / first, "ratio"),
        "first_seconds": float(np.median(first)),
        "second_seconds": float(np.median(second)),
        "pairs": len(first),
    }


def median_row(values: np.ndarray, name: str) -> dict[str, float]:
    """A median with the ends of its 95 % bootstrap interval."""
    low = high = float(np.median(values))
    if len({*values.tolist()}) > 1:
        found: Any = stats.bootstrap(
            [values], np.median, rng=np.random.default_rng(0), method="percentile"
        ).confidence_interval
        low, high = float(found.low), float(found.high)
    return {name: float(np.median(values)), "low": low, "high": high}


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
        "processor": processor(),
        "cores": os.cpu_count(),
        "threads": {name: os.environ.get(name) for name in THREADS},
        "commit": commit(),
        "system": platform.platform(),
        "numpy": version("numpy"),
        **{name: version(name) for name in LIBRARIES if _installed(name)},
        "date": time.strftime("%Y-%m-%d"),
    }


def commit() -> str | None:
    """What is measured, with a mark where files were changed since."""
    command = ["git", "describe", "--always", "--dirty"]
    try:
        done = subprocess.run(
            command, cwd=RESULTS.parent, capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()


def cpu_seconds() -> float:
    """Of this process and of those that it has waited for."""
    spent = map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(one.ru_utime + one.ru_stime for one in spent)


def _installed(name: str) -> bool:
    try:
        version(name)
    except PackageNotFoundError:
        return False
    return True


def processor() -> str:
    """Its name."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    names = [x.split(":", 1)[1].strip() for x in lines if x.startswith("model name")]
    return names[0] if names else platform.processor()


def parsed(parser: argparse.ArgumentParser) -> argparse.Namespace:
    """The options, among them ``--quick`` and ``--out``, which all of them take."""
    parser.add_argument(
        "--quick", action="store_true", help="only see whether it runs, in seconds"
    )
    parser.add_argument("--out", type=Path, help="folder of what is kept")
    given = parser.parse_args()
    if given.out is None:
        given.out = QUICK if given.quick else RESULTS
    given.out.mkdir(parents=True, exist_ok=True)
    return given


def keep(
    name: str,
    command: str,
    rows: Mapping[str, Any],
    folder: Path = RESULTS,
    *,
    timed: bool = True,
) -> None:
    """Print the rows and keep them as ``NAME.json`` in a folder.

    Args:
        name: of the file.
        command: what made them.
        rows: what was measured.
        folder: where the file goes.
        timed: they are times or made from times, which a busy machine spoils; counts,
            scores and equal bytes are the same on any.
    """
    load = max([*_loads, os.getloadavg()[0]])
    cores = os.cpu_count() or 1
    result = {
        "command": command,
        "machine": machine(),
        "load": round(load, 2),
        "valid": not timed or load <= cores + 0.5,
        "wall_seconds": round(time.monotonic() - _STARTED, 1),
        "cpu_seconds": round(cpu_seconds(), 1),
        "rows": rows,
    }
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.json"
    path.write_text(json.dumps(result, indent=1, allow_nan=False) + "\n")
    print(f"{name}: {'valid' if result['valid'] else 'INVALID, the machine was busy'}")
    for key, row in rows.items():
        print(f"  {key}: {row}")
    print(
        f"  kept in {path.relative_to(Path.cwd())}"
        if path.is_relative_to(Path.cwd())
        else f"  kept in {path}"
    )

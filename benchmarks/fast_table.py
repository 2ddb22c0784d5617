"""All that is claimed about the fast path in one table, the losing rows too.

    make bench-fast          runs every benchmark, one after the other, and this
    make bench-fast QUICK=1  only sees whether all of it runs

Reads what the benchmarks have kept, puts gate, aim and measurement side by side, and
writes ``fast.json``. A row without a measurement says so.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.harness import machine, parsed

ORDER = (
    *("fast_engine", "fast_blocks", "fast_screening", "fast_ppo", "fast_search"),
    *("fast_whole", "fast_solve", "fast_racing", "corpus", "screen_rank"),
    *("fast_learning", "fast_memory"),
)
"""The quick ones first."""


class Claim(NamedTuple):
    """What is claimed of some rows of a file."""

    what: str
    file: str
    rows: str
    """Pattern of their names."""
    gate: float | None = None
    aim: float | None = None
    value: str = "ratio"
    """Its place in the row, keys with dots between them."""
    lower: bool = False
    """Whether less is better."""
    beside: tuple[str, ...] = ()
    """Keys of what is told beside the value."""
    needs: str | None = None
    """Key of what must be true besides."""


_SB3 = r"K = 1, .*: SB3 on MiniGrid"
_SCREEN = "seconds for 100 in one pass"

CLAIMS = (
    Claim(
        "engine vs MiniGrid SyncVectorEnv, steps/s",
        *("fast_engine", r"SyncVectorEnv / engine", 400, 1500),
        beside=("ours, steps/s",),
    ),
    Claim(
        "its Gymnasium face vs MiniGrid SyncVectorEnv",
        *("fast_engine", "SyncVectorEnv / GridVectorEnv"),
    ),
    Claim("cost of a step", "fast_engine", "cost of a step", 1.15, 1.05, lower=True),
    Claim("engine vs EnvPool's MiniGrid", "fast_engine", "EnvPool", 10, 30),
    Claim(
        "single env vs MiniGrid",
        *("fast_engine", "gym.make", 8, 20),
        beside=("ours, steps/s",),
    ),
    Claim(
        "wall time to solve DoorKey-8x8 vs SB3",
        *("fast_solve", "SB3 on MiniGrid / ours", 5, 10),
        beside=("seeds of ours", "seeds of SB3"),
    ),
    Claim("seeds solved", "fast_solve", "^ours$", 9, 10, "solved", beside=("seeds",)),
    Claim(
        "seeds solved by SB3",
        *("fast_solve", "^SB3 on MiniGrid$", None, None, "solved"),
        beside=("seeds",),
    ),
    Claim("PPO vs SB3", "fast_ppo", _SB3 + " / ours", 3, 5, beside=("ours, steps/s",)),
    Claim("PPO vs SB3", "fast_ppo", _SB3 + " with two"),
    Claim("PPO vs SB3", "fast_ppo", "SB3 on our engine"),
    *(
        Claim("population vs solo", "fast_ppo", rf"K = \d+, {name}: solo", gate, aim)
        for name, gate, aim in (
            ("minibatch=64", 3.0, 4.0),
            ("minibatch=256", 1.6, 2.2),
            ("minibatch=1024", 0.9, 1.1),
        )
    ),
    Claim("population vs solo", "fast_ppo_recipe", r"K = \d+, minibatch=512: solo"),
    Claim("population vs solo", "fast_ppo", "two cores"),
    Claim("population vs solo", "fast_ppo_recipe", "two cores"),
    Claim("population vs solo, MuJoCo", "fast_ppo_mujoco", "solo / population"),
    Claim(
        "PPO vs SB3, MuJoCo",
        *("fast_ppo_mujoco", "SB3 / ours"),
        beside=("ours, steps/s",),
    ),
    Claim("marginal cost", "fast_ppo", "/ one alone", 0.45, 0.3, lower=True),
    Claim(*("marginal cost", "fast_ppo_recipe", "/ one alone", 0.45, 0.3), lower=True),
    Claim(
        "candidates/min vs Eureka-style loop",
        *("fast_search", "^all trained", 10, None),
        beside=("ours, candidates/min",),
    ),
    Claim(
        "candidates/min vs Eureka-style loop",
        *("fast_search", "^racing:", 10, 25),
        beside=("ours, candidates/min",),
    ),
    Claim(
        "ranking agreement",
        *("fast_search", "ranking agreement", None, None, "spearman"),
    ),
    Claim(
        "racing: times fewer steps",
        *("fast_racing", "halving|UCB|D3RB", 2.5, 4, "times fewer steps"),
        beside=("no worse than full", "seeds", "regret", "regret of full"),
        needs="holds",
    ),
    Claim(
        "whole search, minutes",
        *("fast_whole", "rounds", 15, 5, "minutes"),
        lower=True,
    ),
    Claim("learning vs SB3", "fast_learning", "", value="verdict"),
    Claim(
        "Memory level: IQM with a GRU less without",
        *("fast_memory", "difference", None, None, "difference"),
        beside=("with, iqm", "without, iqm", "seeds", "steps"),
    ),
    Claim(
        "right where a sign was seen 16 steps ago, with a GRU",
        *("fast_memory", "a sign", None, None, "with, mean"),
        beside=("without, mean", "seeds", "steps"),
    ),
    Claim(
        "100 screened, seconds", "fast_screening", "", 1.0, None, _SCREEN, lower=True
    ),
    Claim("rewards, one pass vs one by one", "fast_blocks", "one by one"),
    Claim("screen vs trained, Spearman", "screen_rank", "bank", value="all.spearman"),
)


class Cited(NamedTuple):
    """A figure of others, which was not measured here."""

    what: str
    figure: str
    device: str
    source: str


CITED = (
    Cited(
        "XLand-MiniGrid, training",
        "10^12 steps in under two days: at least 5.8 million steps/s",
        "several A100",
        "its README",
    ),
    Cited(
        "Craftax, training",
        "10^9 steps in under an hour: at least 0.28 million steps/s",
        "RTX 4090, i9-13900K",
        "craftaxenv.github.io",
    ),
    Cited(
        "JaxMARL, training",
        "14 times per run, 12,500 times with many runs side by side",
        "A100",
        "arXiv:2311.10090 and its documentation",
    ),
)
"""JAX suites on a GPU: rates that nothing here reaches."""


def run_all(given: argparse.Namespace) -> list[str]:
    """Every benchmark in a process of its own; the names of those that broke off."""
    broken = []
    for name in given.only:
        command = [sys.executable, "-m", f"benchmarks.{name}"]
        command += ["--quick"] * given.quick
        if name != "corpus":  # what it makes is data, no result
            command += ["--out", str(given.out)]
        print(f"--- {name}", flush=True)
        if subprocess.run(command, check=False).returncode:
            broken.append(name)
    return broken


def rows_of(claim: Claim, folder: Path) -> Iterator[dict[str, Any]]:
    """The table's rows of a claim."""
    shared = {"claim": claim.what, "gate": claim.gate, "aim": claim.aim}
    path = folder / f"{claim.file}.json"
    if not path.exists():
        yield shared | {"of": claim.rows, "measured": "not measured", "verdict": ""}
        return
    kept = json.loads(path.read_text())
    for name, row in kept["rows"].items():
        if not re.search(claim.rows, name):
            continue
        value = row if isinstance(row, str) else _inside(row, claim.value)
        if value is None:
            continue
        found = shared | {"of": name, "measured": value, "valid": kept["valid"]}
        if isinstance(row, dict):
            found |= {key: row[key] for key in ("low", "high") if key in row}
            found["beside"] = {key: row.get(key) for key in claim.beside}
        fails = claim.needs is not None and not row.get(claim.needs)
        yield found | {"verdict": "below" if fails else _verdict(claim, value)}


def _inside(row: Any, path: str) -> Any:
    for key in path.split("."):
        row = row.get(key) if isinstance(row, dict) else None
    return row


def _verdict(claim: Claim, value: Any) -> str:
    if isinstance(value, str) or claim.gate is None:
        return ""
    sign = -1 if claim.lower else 1
    if claim.aim is not None and sign * value >= sign * claim.aim:
        return "aim"
    return "gate" if sign * value >= sign * claim.gate else "below"


def shown(row: dict[str, Any]) -> str:
    """One line of the table."""

    def number(value: Any) -> str:
        if value is None:
            return "-"
        return f"{value:.4g}" if isinstance(value, float) else str(value)

    measured = number(row["measured"])
    if row.get("low") is not None and not isinstance(row["measured"], str):
        measured += f" ({number(row['low'])} to {number(row['high'])})"
    beside = ", ".join(
        f"{key} {number(value)}" for key, value in row.get("beside", {}).items()
    )
    if not row.get("valid", True):
        beside += " [machine was busy]"
    return (
        f"{row['claim']:<44} {row['of']:<62} {number(row['gate']):>6} "
        f"{number(row['aim']):>6} {measured:<28} {row['verdict']:<6} {beside}"
    ).rstrip()


def main() -> int:
    """Run if asked for, print and keep; 1 where a benchmark broke off."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--run", action="store_true", help="run the benchmarks first")
    options.add_argument("--only", nargs="+", default=list(ORDER), choices=ORDER)
    given = parsed(options)
    broken = run_all(given) if given.run else []
    rows = [row for claim in CLAIMS for row in rows_of(claim, given.out)]
    head = {"claim": "claim", "of": "measured on", "gate": "gate", "aim": "aim"}
    print(shown(head | {"measured": "measured", "verdict": "met"}))
    for row in rows:
        print(shown(row))
    print("published by others, not measured here:")
    for one in CITED:
        print(f"  {one.what}: {one.figure} ({one.device}; {one.source})")
    kept = {
        "command": "make bench-fast",
        "machine": machine(),
        "rows": rows,
        "not measured here": [one._asdict() for one in CITED],
    }
    path = given.out / "fast.json"
    path.write_text(json.dumps(kept, indent=1, allow_nan=False) + "\n")
    print(f"kept in {path}")
    if broken:
        print(f"broke off: {', '.join(broken)}", file=sys.stderr)
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())

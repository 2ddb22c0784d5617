"""A synthetic run folder with every kind of content that a report can show."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

from guerdon.journal import (
    CallRecord,
    CandidateRecord,
    Journal,
    TrainingRecord,
)
from guerdon.types import Failure

INTENT = "Pick up the key, open the door and reach the green goal."
TASK = "guerdon/DoorKey-8x8-v0"
CONFIG = {
    "task": TASK,
    "llm": "embedded:coder-1.5b",
    "candidates": 8,
    "rounds": 3,
    "steps": 100_000,
    "seeds": 5,
    "search_seeds": 2,
    "algo": None,
    "api_key": "sk-do-not-show",
}
SOURCE = '''PARAMS = {"w_key": 1.0, "temperature": 0.5}
def reward(prev, action, now, params):
    """Come closer to the key, then to the door."""
    near = exp(-now.distance_to_key / params.temperature)  # 1 when there
    got_key = where(now.carrying_key and not prev.carrying_key, 1.0, 0.0)
    opened = first_time(now.door_open)
    if now.door_open:
        near = 1.0 - now.distance_to_goal / 16.0
    return {"approach": near, "pickup": params.w_key * got_key, "door": 2.0 * opened}
'''
SECONDS = {
    "acting": 10.0,
    "environment": 4.0,
    "rewards": 2.0,
    "update": 20.0,
    "evaluation": 2.0,
}
"""Of each training's 42 seconds; 4 are left over for the rest."""
HOSTILE = '<script>alert("x")</script></style><img src=x onerror=alert(1)>'
BROKEN = "def reward(prev, action, now, params):\n    import os\n    return {}\n"


def result(
    final: float, seed: int, proxy: float = 5.0, points: int = 20, steps: int = 100_000
) -> dict[str, Any]:
    """A training's result with a noisy curve that rises to ``final``."""
    noise = np.random.default_rng(seed)
    done = np.linspace(1 / points, 1, points)
    rise = final / (1 + np.exp(-12 * (done - 0.5)))
    fitness = np.clip(rise + 0.03 * noise.standard_normal(points), 0, 1)
    terms = {
        "approach": (proxy * (1.2 - done)).tolist(),
        "pickup": (proxy * 0.6 * done).tolist(),
        "door": (-proxy * 0.9 * done**2).tolist(),
    }
    curve = {
        "steps": (done * steps).round().astype(int).tolist(),
        "fitness": [None, *fitness[1:].tolist()],
        "success": (fitness > 0.1).astype(float).tolist(),
        "proxy": (proxy * done).tolist(),
        "length": (640 - 500 * rise).tolist(),
        "terms": terms,
    }
    score = float(np.clip(final + 0.05 * noise.standard_normal(), 0, 1))
    return {
        "curve": curve,
        "evaluation": {"fitness": [score], "success": [score > 0.1], "length": [90]},
        "fitness": score,
        "success": min(1.0, 1.05 * score),
        "proxy": proxy,
        "steps": steps,
        "cpu_seconds": 40.0,
        "wall_seconds": 42.0,
        "train_seconds": 40.0,
        "seconds": SECONDS,
        "weights": None,
        "episodes": None,
    }


def training(
    candidate: str, seed: int, purpose: str, final: float, proxy: float = 5.0
) -> TrainingRecord:
    return TrainingRecord(
        key=f"{candidate}-{seed}-{purpose}",
        candidate=candidate,
        seed=seed,
        purpose=purpose,  # type: ignore[arg-type]
        steps=100_000,
        result=result(final, seed, proxy),
        cpu_seconds=40.0,
        wall_seconds=42.0,
    )


def estimate(value: float, width: float, n: int = 5) -> dict[str, float]:
    return {"value": value, "low": value - width, "high": value + width, "n": n}


def holdout(value: float, width: float) -> dict[str, Any]:
    seeds = [value - width, value - width / 2, value, value + width / 3, value + width]
    return {
        "fitness": estimate(value, width),
        "success": estimate(min(1.0, value * 1.04), width / 2),
        "per_seed": {"fitness": seeds, "success": seeds},
    }


SUMMARY: dict[str, Any] = {
    "task": TASK,
    "intent": INTENT,
    "llm": CONFIG["llm"],
    "winner": {
        "id": "r2-c01",
        "source": SOURCE,
        "operator": "mutate",
        "parents": ["r1-c02"],
        "round": 2,
        "fitness": estimate(0.9, 0.03, 2),
        "success": estimate(0.95, 0.02, 2),
    },
    "holdout": {
        "winner": holdout(0.912, 0.04),
        "sparse": holdout(0.15, 0.1),
        "human": holdout(0.55, 0.2),
        "best_of_n": holdout(0.78, 0.09),
    },
    "best_of_n": {"id": "r0-c06", "n": 8},
    "human_normalised": estimate(1.905, 0.4),
    "by_origin": {
        "model": {
            "best": {"id": "r2-c01", "fitness": 0.9, "success": 0.95},
            "candidates": 10,
        },
        "operators": {
            "best": {"id": "r1-c05", "fitness": 0.7, "success": 0.8},
            "candidates": 14,
        },
    },
    "failures": {"forbidden": 2, "constant": 2, "timed_out": 1},
    "tokens": {"prompt": 81_234, "completion": 9_876},
    "usd": None,
    "cpu_seconds": 1830.0,
    "wall_seconds": 1012.0,
    "candidates": 24,
    "trainings": 60,
    "report": "report.html",
}

OPERATORS = ["model_fresh", "model_mutate", "mutate", "cross", "sample"]
FAILURES = {
    "r0-c03": Failure("forbidden", "import is not part of the language", 2),
    "r1-c06": Failure("forbidden", "import is not part of the language", 2),
    "r0-c05": Failure("constant", "no term changes on the logged transitions"),
    "r2-c07": Failure("constant", "no term changes on the logged transitions"),
}


def candidate(round_: int, slot: int, hostile: bool) -> CandidateRecord:
    name = f"r{round_}-c{slot:02d}"
    operator = OPERATORS[(round_ + slot) % len(OPERATORS)]
    winner = name == "r2-c01"
    parents = {"r2-c01": ("r1-c02",), "r1-c02": ("r0-c01", "r0-c04")}.get(name, ())
    failure = FAILURES.get(name)
    if hostile and slot == 3:
        failure = Failure("forbidden", HOSTILE * 50, 2)
    text = BROKEN if failure and failure.kind == "forbidden" else SOURCE
    if hostile and slot == 2:
        text = f'def reward(p, a, n, q):\n    return {{"{HOSTILE}": 1.0}}'
    return CandidateRecord(
        id=name,
        round=round_,
        slot=slot,
        operator=HOSTILE * 20 if hostile and slot == 2 else operator,
        parents=parents,
        source=text,
        plan=HOSTILE if hostile else "Pay for the door as well." if winner else None,
        failure=Failure("forbidden", HOSTILE * 50, 2)
        if hostile and slot == 3
        else failure,
        screening={"rank": 0.1},
        call_key="c" if operator.startswith("model") or winner else None,
    )


def write_calls(journal: Journal) -> None:
    for n in range(10):
        journal.add_call(
            CallRecord(
                key=f"call-{n}",
                model="coder-1.5b",
                request={"n": n},
                answer="code",
                prompt_tokens=8000,
                completion_tokens=900,
                seconds=7.5,
            )
        )
    journal.add_call(CallRecord(key="late", model="coder-1.5b", failure="timed out"))


def write_candidates(journal: Journal, hostile: bool) -> None:
    noise = np.random.default_rng(7)
    for round_ in range(3):
        for slot in range(8):
            record = candidate(round_, slot, hostile)
            journal.add_candidate(record)
            if record.failure is not None:
                continue
            if record.id == "r2-c06":
                journal.add_training(
                    TrainingRecord(
                        key="late",
                        candidate=record.id,
                        seed=0,
                        purpose="search",
                        steps=100_000,
                        failure=Failure("timed_out", "took longer than 600 s"),
                        wall_seconds=600.0,
                    )
                )
                continue
            final = 0.9 if record.id == "r2-c01" else float(noise.beta(1, 2)) * 0.85
            proxy = float(np.exp(noise.normal(2, 1.2)))
            for seed in (0, 1):
                journal.add_training(training(record.id, seed, "search", final, proxy))
        journal.add_round(round_, {"best": "r2-c01"})


def write_run(folder: Path, *, finished: bool = True, hostile: bool = False) -> Path:
    """A run folder; unfinished ones have neither a holdout nor a summary."""
    name = HOSTILE if hostile else TASK
    with Journal.create(folder, CONFIG | {"task": name}) as journal:
        journal.set_meta("intent", HOSTILE if hostile else INTENT)
        write_calls(journal)
        write_candidates(journal, hostile)
        if finished:
            selection = {"winner": "r2-c01", "best_of_n": "r0-c06", "probability": 0.9}
            journal.set_meta("selection", selection)
            scores = {"r2-c01": 0.91, "sparse": 0.15, "human": 0.55, "r0-c06": 0.78}
            for who, score in scores.items():
                for seed in range(100, 105):
                    journal.add_training(training(who, seed, "holdout", score))
            changes = {"task": name, "intent": HOSTILE} if hostile else {}
            journal.set_meta("summary", SUMMARY | changes)
            # 58 trainings of 42 seconds, on two workers.
            noted = {"busy": 2600.0, "model": 60.0, "waiting": 40.0}
            journal.add_event("started")
            journal.add_event("stopped", {"wall_seconds": 1350.0, "seconds": noted})
    return folder


def write_failed_run(folder: Path) -> Path:
    """A run in which every candidate failed."""
    with Journal.create(folder, CONFIG) as journal:
        for slot in range(3):
            journal.add_candidate(
                CandidateRecord(
                    id=f"r0-c{slot:02d}",
                    round=0,
                    slot=slot,
                    operator="model_fresh",
                    source=BROKEN if slot else None,
                    failure=Failure("syntax", "expected a function, got nothing", 1),
                    call_key="c",
                )
            )
        journal.set_meta("summary", {"winner": None, "usd": math.nan})
    return folder

"""Run folders and weights that somebody sent, with what they should not hold."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from typing import Any

from guerdon.journal import CandidateRecord, Journal, TrainingRecord
from guerdon.types import Failure

MARKUP = "<script>alert(1)</script><img src=x onerror=alert(1)>\"'[link=http://x]"
TERMINAL = "\x1b]0;owned\x07\x1b[2J\u202e\u2066"
SPELL = MARKUP + TERMINAL
CURVE = {
    "steps": [1, 2],
    "episodes": [1, 1],
    "fitness": [0.0, 1.0],
    "success": [0.0, 1.0],
    "proxy": [0.0, 1.0],
    "length": [1.0, 1.0],
    "terms": {"a": [0.0, 1.0]},
}


def training(
    name: str, purpose: str = "search", key: str = "", **changes: Any
) -> TrainingRecord:
    result = {"fitness": 0.5, "success": 0.5, "proxy": 1.0, "curve": CURVE}
    values = {
        "key": key or f"{name}-{purpose}",
        "candidate": name,
        "seed": 0,
        "purpose": purpose,
        "steps": 100,
        "result": result,
        "cpu_seconds": 1.0,
        "wall_seconds": 1.0,
    }
    return TrainingRecord(**values | changes)


def write_run(folder: Path, **config: Any) -> Path:
    """A small finished run whose every text is hostile."""
    values = {"task": "guerdon/CartPole-v1", "llm": SPELL, "finalists": 1} | config
    with Journal.create(folder, values) as journal:
        journal.set_meta("intent", SPELL)
        for slot in range(2):
            journal.add_candidate(
                CandidateRecord(
                    id=f"r1-c{slot:02d}",
                    round=1,
                    slot=slot,
                    operator="model_fresh" if slot else SPELL,
                    source=f"# {SPELL}\ndef reward(p, a, n, q):\n    return 1",
                    plan=SPELL,
                    failure=Failure("forbidden", SPELL, 1) if slot else None,
                    call_key="c",
                )
            )
        journal.add_training(training("r1-c00"))
        journal.add_training(training("r1-c00", "holdout"))
        journal.add_training(training("sparse", "holdout"))
        journal.add_round(1, {"best": "r1-c00"})
        journal.set_meta("selection", {"winner": "r1-c00", "best_of_n": SPELL})
        journal.set_meta("command", SPELL)
        row = {
            "fitness": {"value": 0.5, "low": 0.4, "high": 0.6, "n": 2},
            "success": {"value": 0.5, "low": 0.4, "high": 0.6, "n": 2},
            "per_seed": {"fitness": [0.5], "success": [0.5]},
            "failed": 0,
        }
        best = {"id": SPELL, "fitness": 0.5, "success": 0.5}
        summary = {
            "task": SPELL,
            "intent": SPELL,
            "llm": SPELL,
            "no_model": SPELL,
            "winner": {
                "id": "r1-c00",
                "source": f"# {SPELL}\n",
                "operator": SPELL,
                "plan": SPELL,
                "parents": [SPELL],
                "round": SPELL,
                "fitness": row["fitness"],
                "success": row["success"],
            },
            "holdout": {"winner": row, "sparse": row, "human": None, "best_of_n": None},
            "best_of_n": {"id": SPELL, "n": 1},
            "human_normalised": None,
            "by_origin": {
                "model": {"candidates": 1, "best": best},
                "operators": {"candidates": 1, "best": best},
            },
            "failures": {SPELL: 1},
            "tokens": {"prompt": 0, "completion": 0},
            "calls": {"ok": 0, "failed": 0},
            "usd": None,
            "budget": None,
            "cpu_seconds": 1.0,
            "wall_seconds": 1.0,
            "candidates": 2,
            "trainings": 3,
            "report": "report.html",
        }
        journal.set_meta("summary", summary)
    return folder


def put(folder: Path, table: str, column: str, value: Any) -> None:
    """Write into a journal past everything that would refuse it."""
    db = sqlite3.connect(folder / "journal.sqlite")
    try:
        db.execute("DELETE FROM meta WHERE key = 'seal'")
        db.execute(f"UPDATE {table} SET {column} = ?", (value,))
        db.commit()
    finally:
        db.close()


def put_json(folder: Path, table: str, column: str, value: Any) -> None:
    put(folder, table, column, json.dumps(value))

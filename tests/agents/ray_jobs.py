"""Jobs that look for, and lose, the actor above them; see ``scripted_jobs``."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import scripted_jobs

from guerdon.agents.training import Leg, TrainingJob, outcome_to_json


def run(payload: bytes, folder: Path, progress: Callable[[float], None]) -> bytes:
    """``ACTION:FOLDER``; the folder is the test's, for notes that outlive a node."""
    if "jobs" in json.loads(payload):
        return _leg(Leg.from_json(payload), folder)
    asked = TrainingJob.from_json(payload)
    action, _, place = asked.reward.partition(":")
    if not place:
        return scripted_jobs.run(payload, folder, progress)
    answer = scripted_jobs.result_of(asked).to_json().encode()
    note = Path(place) / f"{action}-{asked.seed}.json"
    match action:
        case "lose once" if note.exists():
            return answer
        case "lose once" | "lose always":
            note.write_text("")
            os.kill(_actor(), signal.SIGKILL)
        case "family":
            child = subprocess.Popen(["sleep", "600"]).pid
            partial = note.with_suffix(".partial")
            pids = {"pids": [os.getpid(), child, _actor()], "scratch": str(folder)}
            partial.write_text(json.dumps(pids))
            os.replace(partial, note)
            progress(0.5)
    time.sleep(600)
    raise AssertionError(asked.reward)


def _leg(leg: Leg, folder: Path) -> bytes:
    """A row is its seed, and what it has gone on with before it."""
    answers = []
    for one in leg.jobs:
        before = folder / f"{replace(one, steps=max(leg.start, 1)).key}.row"
        row = str(one.seed)
        if leg.start:
            row = f"0 {row}" if before.read_text() == row else "wrong"
        (folder / f"{one.key}.row").write_text(row)
        answers.append(outcome_to_json(scripted_jobs.result_of(one)))
    return f"[{','.join(answers)}]".encode()


def _actor() -> int:
    """The server that forked this process was started by the actor."""
    found = _parent(os.getppid())
    assert b"ray::" in Path(f"/proc/{found}/cmdline").read_bytes()
    return found


def _parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])

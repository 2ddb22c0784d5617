"""Jobs for the workers' tests: what a job does stands in its ``reward``."""

import ctypes
import errno
import json
import math
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from guerdon.agents.training import Curve, Leg, TrainingJob, TrainingResult


def job(action: str, seed: int = 0) -> TrainingJob:
    return TrainingJob(
        task="scripted", reward=action, steps=1, seed=seed, trainer="population"
    )


def result_of(asked: TrainingJob) -> TrainingResult:
    return TrainingResult(
        job=asked.key,
        fitness=(float(asked.seed),),
        success=(True,),
        length=(1,),
        proxy=None,
        curve=Curve(),
        steps=1,
        cpu_seconds=0.0,
        wall_seconds=0.0,
        train_seconds=0.0,
    )


def run(payload: bytes, folder: Path, progress: Callable[[float], None]) -> bytes:
    if b'"jobs"' in payload:
        jobs = Leg.from_json(payload).jobs
        if jobs[0].reward == "alone" and len(jobs) > 1:
            raise MemoryError(f"cannot hold {len(jobs)}")
        answers = (run(one.to_json().encode(), folder, progress) for one in jobs)
        return b"[" + b",".join(answers) + b"]"
    asked = TrainingJob.from_json(payload)
    note = folder / f"{asked.reward}-{asked.seed}.json"
    answer = result_of(asked).to_json().encode()
    match asked.reward:
        case "answer" | "alone":
            return answer
        case "progress":
            progress(0.5)
            (folder / f".{asked.key}.npz.1.partial").write_bytes(b"half")
            time.sleep(600)
        case "interrupted":
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.05)
            return answer
        case "slow":
            time.sleep(0.8)
            return answer
        case "raise":
            raise RuntimeError("a speaking message")
        case "exit":
            print("last words", file=sys.stderr, flush=True)
            os._exit(3)
        case "out of memory":
            os.kill(os.getpid(), signal.SIGKILL)
            time.sleep(600)
        case "killed once":
            if not note.exists():
                note.write_text("")
                os.kill(os.getpid(), signal.SIGKILL)
                time.sleep(600)
            return answer
        case "memory":
            raise MemoryError("cannot hold that")
        case "memory once":
            if not note.exists():
                note.write_text("")
                raise MemoryError("cannot hold that")
            return answer
        case "full disk":
            raise OSError(errno.ENOSPC, "No space left on device", str(note))
        case "file limit":
            resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
            note.write_bytes(b"x" * 2000)
        case "own file":
            Path("/proc/nothing").write_text("x")
        case "infinite":
            return replace(result_of(asked), fitness=(math.inf,)).to_json().encode()
        case "empty":
            nothing = replace(result_of(asked), fitness=(), success=(), length=())
            return nothing.to_json().encode()
        case "huge":
            return b"x" * (9 * 2**20)
        case "garbage":
            return b'{"fitness": 1}'
        case "impostor":
            return result_of(job("other")).to_json().encode()
        case "family":
            _note(note, subprocess.Popen(["sleep", "600"]).pid)
            time.sleep(600)
        case "abandon":
            _note(note, subprocess.Popen(["sleep", "600"]).pid)
            os._exit(4)
        case "leave behind":
            _note(note, subprocess.Popen(["sleep", "600"]).pid)
            return answer
        case "stuck":
            # Sleeps in C without letting go of the interpreter: no Python runs here.
            _note(note, 0)
            ctypes.PyDLL(None).sleep(600)
    raise AssertionError(asked.reward)


def _note(path: Path, child: int) -> None:
    environment = Path("/proc/self/environ").read_bytes().decode(errors="replace")
    partial = path.with_suffix(".partial")
    partial.write_text(
        json.dumps(
            {
                "pids": [os.getpid(), *([child] if child else [])],
                "environment": [
                    *environment.split("\0"),
                    *map(str, os.environ.items()),
                ],
                "threads": os.environ.get("OMP_NUM_THREADS"),
            }
        )
    )
    os.replace(partial, path)

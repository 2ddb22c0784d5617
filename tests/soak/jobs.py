"""Trainings that say when they begin and end, and that die where they are told to.

What they say lies beside the run folder ``NAME``, in ``NAME.watch``, where no full disk
and no end of the run touches it: a line in ``WORKS`` for every beginning and end, and,
where there is a ``PLAN``, a byte for every moment that any worker comes to.
"""

from __future__ import annotations

import json
import os
import secrets
import signal
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from guerdon.agents.training import Leg, TrainingJob
from tests import run_jobs
from tests.soak.controller import Hooks

WORKS, PLAN = "works", "plan"
"""Files in the folder beside the run's."""

Progress = Callable[[float], None]


@dataclass(frozen=True)
class Plan:
    """At which moment, counted over all workers, one of them is killed."""

    moment: str = "never"
    count: int = 0
    controller: bool = False
    """Whether the controller is killed with it."""


def watch_of(run: Path) -> Path:
    """The folder beside that of a run."""
    return run.with_name(f"{run.name}.watch")


def write_plan(run: Path, plan: Plan) -> None:
    watch_of(run).mkdir()
    (watch_of(run) / PLAN).write_text(json.dumps(asdict(plan)))


def seen(run: Path, moment: str) -> int:
    """How often the workers of a run came to a moment."""
    path = watch_of(run) / moment
    return path.stat().st_size if path.exists() else 0


class SharedHooks(Hooks):
    """Counts the moments of all workers, and ends this one at the planned moment."""

    def __init__(self, watch: Path) -> None:
        self.plan = Plan(**json.loads((watch / PLAN).read_text()))
        self.watch = watch
        super().__init__(self.plan.moment, self.plan.count)

    def due(self, moment: str) -> bool:
        number = _append(self.watch / moment, b".")
        return moment == self.moment and number == self.count

    def strike(self) -> None:
        if self.plan.controller:
            controller = _parent(os.getppid())
            words = Path(f"/proc/{controller}/cmdline").read_bytes().split(b"\0")
            # It may be dead already, and the server of the workers somebody else's.
            if words[1:] and words[1].endswith(b"soak/controller.py"):
                os.kill(controller, signal.SIGKILL)
        super().strike()


def _parent(pid: int) -> int:
    stat = Path(f"/proc/{pid}/stat").read_text()
    return int(stat.rpartition(")")[2].split()[1])


def _append(path: Path, data: bytes) -> int:
    """Append to a file; gives its size, which no other append is given."""
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        os.write(handle, data)
        return os.lseek(handle, 0, os.SEEK_CUR)
    finally:
        os.close(handle)


def train(payload: bytes, folder: Path, progress: Progress) -> bytes:
    """A training in no time."""
    return _watched(run_jobs.train, payload, folder, progress)


def learn(payload: bytes, folder: Path, progress: Progress) -> bytes:
    """A training indeed."""
    from guerdon.agents.population import run_leg
    from guerdon.agents.sb3 import run_job

    real = run_leg if b'"jobs"' in payload else run_job
    return _watched(real, payload, folder, progress)


def _watched(
    work: Callable[[bytes, Path, Progress], bytes],
    payload: bytes,
    folder: Path,
    progress: Progress,
) -> bytes:
    watch = watch_of(folder.parent)
    watch.mkdir(exist_ok=True)
    number = secrets.token_hex(8)

    def say(what: str, keys: list[str]) -> None:
        line = json.dumps({"work": number, "what": what, "keys": keys})
        _append(watch / WORKS, f"{line}\n".encode())

    if b'"jobs"' in payload:
        keys = [job.key for job in Leg.from_json(payload).jobs]
    else:
        keys = [TrainingJob.from_json(payload).key]
    say("begun", keys)
    if (watch / PLAN).exists():
        SharedHooks(watch).install()
    try:
        answer = work(payload, folder, progress)
    except Exception:
        say("failed", keys)
        raise
    say("ended", keys)
    return answer

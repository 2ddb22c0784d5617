"""The far end of ``guerdon.agents.ray_pool``: one place for trainings on a node.

Ray runs a ``Node`` as an actor. It trains with the pool of the local executor, in
processes of its own: so a deadline, a crash, a kill and the jail mean on every node
what they mean at home, and no reward is ever run in a process that Ray knows.

Only bytes pass between it and the controller: jobs as JSON, outcomes as JSON, and the
contents of the files that the outcomes name. Transitions stay where they were made.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from guerdon.agents.training import (
    Leg,
    Outcome,
    TrainingJob,
    TrainingResult,
    Trouble,
    Work,
    jobs_of,
    outcome_to_json,
)
from guerdon.agents.workers import WorkerPool
from guerdon.faults import machine_fault, whole_file
from guerdon.types import Failure

MAX_FILE = 1 << 30
"""Bytes of the largest file that travels, and of the largest that is read again."""

_DISTRIBUTIONS = ("guerdon", "numpy", "gymnasium", "torch", "stable-baselines3")


def versions() -> dict[str, str]:
    """What decides whether two machines train alike, by name."""
    found = {"python": platform.python_version()}
    for name in _DISTRIBUTIONS:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "none"
    return found


def named(job: TrainingJob, outcome: Outcome | Trouble) -> list[str]:
    """Files that a result names: each is called after its job.

    Raises:
        ValueError: for a result that names a file of another job.
    """
    if not isinstance(outcome, TrainingResult):
        return []
    names = [name for name in (outcome.weights, outcome.episodes) if name is not None]
    for name in names:
        if not name.startswith(f"{job.key}.") or "/" in name:
            raise ValueError(f"expected a file {job.key[:12]}.*, got {name[:80]!r}")
    return names


def optional(work: Work, job: TrainingJob) -> list[str]:
    """Files that a training may leave besides: its row, and what its worker printed."""
    return [f"{job.key}.row", f"{work.key}.stderr"]


def rows_before(work: Work) -> list[str]:
    """Files of the rows that a leg goes on with; it can do without them."""
    if not isinstance(work, Leg) or not work.start:
        return []
    return [f"{replace(job, steps=work.start).key}.row" for job in work.jobs]


class Node:
    """One place for trainings; every method takes and gives plain bytes and numbers."""

    def open(
        self,
        function: str,
        deadline_s: float,
        paths: Sequence[str],
        populations_only: bool = False,
    ) -> bytes:
        """Make ready for jobs.

        Args:
            function: ``module:name`` of what a worker runs.
            deadline_s: seconds after which a training is killed.
            paths: where the controller finds modules; what is missing here is left out.
            populations_only: see ``WorkerPool``.

        Returns:
            JSON: the node's name and versions, or its trouble.
        """
        _forget_main()
        sys.path.extend(p for p in paths if p not in sys.path and os.path.isdir(p))
        about = {"node": platform.node(), "versions": versions()}
        try:
            self._scratch = Path(tempfile.mkdtemp(prefix="guerdon-"))
            self._pool = WorkerPool(
                1,
                deadline_s,
                self._scratch,
                function=function,
                populations_only=populations_only,
            )
        except OSError as error:
            return json.dumps(about | {"trouble": _trouble(error)}).encode()
        self._under_way: dict[str, Work] = {}
        return json.dumps(about).encode()

    def begin(self, payload: bytes, names: Sequence[str], *contents: bytes) -> None:
        """Start a job or a leg.

        Args:
            payload: its JSON.
            names: of the files that it goes on with.
            contents: of those files.

        Raises:
            ValueError: for files that are not of this leg.
        """
        values = json.loads(payload)
        work: Work
        if "jobs" in values:
            work = Leg.from_json(payload)
        else:
            work = TrainingJob.from_json(payload)
        if not set(names) <= set(rows_before(work)):
            raise ValueError(f"expected files of the rows of the leg, got {names}")
        for name, content in zip(names, contents, strict=True):
            with whole_file(self._scratch / name) as partial:
                partial.write_bytes(content)
        self._under_way |= {job.key: work for job in jobs_of(work)}
        self._pool.submit(work)

    def look(self, seconds: float) -> list[bytes]:
        """What has happened, after at most so many seconds of waiting.

        Returns:
            JSON with the shares of what is under way and with what is done; then the
            contents of the files of what is done, in the order in which it names them.
        """
        done: list[dict[str, Any]] = []
        contents: list[bytes] = []
        for job, outcome in self._pool.poll(seconds):
            work = self._under_way.pop(job.key)
            told, files = self._gathered(work, job, outcome)
            sizes = [[name, len(content)] for name, content in files.items()]
            done.append({"job": job.key, "outcome": told, "files": sizes})
            contents += files.values()
            if work not in self._under_way.values():
                self._tidy(work)
        shares = {
            job.key: self._pool.progress(job)
            for work in self._under_way.values()
            for job in jobs_of(work)
            if job.key in self._under_way
        }
        return [json.dumps({"shares": shares, "done": done}).encode(), *contents]

    def close(self) -> None:
        """Kill what runs and delete what it left."""
        self._pool.close()
        shutil.rmtree(self._scratch, ignore_errors=True)

    def _gathered(
        self, work: Work, job: TrainingJob, outcome: Outcome | Trouble
    ) -> tuple[str, Mapping[str, bytes]]:
        """An outcome as JSON, and its files."""
        files = {}
        try:
            for name in named(job, outcome):
                files[name] = _content(self._scratch / name)
            for name in optional(work, job):
                if (self._scratch / name).exists():
                    files[name] = _content(self._scratch / name)
        except (ValueError, OSError) as error:
            fault = machine_fault(error, self._scratch)
            files = {}
            outcome = Failure("crashed", str(error))
            if fault is not None:
                outcome = Trouble.of(fault)
        return outcome_to_json(outcome), files

    def _tidy(self, work: Work) -> None:
        """Delete the files of finished work."""
        for key in (work.key, *(job.key for job in jobs_of(work))):
            for path in self._scratch.glob(f"{key}.*"):
                path.unlink(missing_ok=True)
        for name in rows_before(work):
            (self._scratch / name).unlink(missing_ok=True)


def _content(path: Path) -> bytes:
    """A whole file, if it is one and not too large to travel."""
    if path.is_symlink() or not path.is_file():
        raise ValueError(f"{path.name}: expected a file")
    size = path.stat().st_size
    if size > MAX_FILE:
        raise ValueError(f"{path.name}: {size} bytes; the limit is {MAX_FILE}")
    return path.read_bytes()


def _trouble(error: OSError) -> dict[str, Any]:
    trouble = Trouble.of(machine_fault(error, None) or error)
    return {"number": trouble.number, "text": trouble.text, "file": trouble.file}


def _forget_main() -> None:
    """Keep Ray's own main module out of the workers.

    multiprocessing runs the main file of a process again in each that it starts, and
    this one would load Ray there, which takes longer than a small training.
    """
    vars(sys.modules["__main__"]).pop("__file__", None)

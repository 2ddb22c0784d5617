"""Trainings in processes of their own, which a deadline or a crash cannot outlive.

Every job runs in a fresh process, forked from a server that has torch and the rest
loaded, as the leader of its own process group. Jobs and answers are JSON over a
pipe; weights and recordings are files in the run folder. Nothing is unpickled from
a worker.

A worker dies with its whole process group: at its deadline, when the pool closes,
and when the controller disappears. For the last case it watches the pipe, whose
other end only the controller holds; should the interpreter be stuck in foreign
code, the kernel kills the worker after the server, which the controller holds too.

As with every use of ``multiprocessing``, a script that makes a pool needs
``if __name__ == "__main__":``.
"""

from __future__ import annotations

import multiprocessing
import multiprocessing.forkserver
import multiprocessing.resource_tracker
import os
import queue
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection, wait
from pathlib import Path
from types import TracebackType
from typing import Self

from guerdon.agents.training import (
    Outcome,
    TrainingJob,
    TrainingResult,
    outcome_from_json,
)
from guerdon.agents.worker import MAX_ANSWER, serve
from guerdon.types import Failure

JOB_FUNCTION = "guerdon.agents.sb3:run_job"
"""``module:name`` of ``(payload, folder, progress) -> answer``, bytes in and out."""

STDERR_TAIL = 2000
"""Bytes of a dead worker's stderr that its failure shows."""

_PASSED = (
    *("PATH", "HOME", "USER", "LANG", "LC_", "TZ", "TMP", "TEMP", "XDG_", "GUERDON_"),
    *("PYTHON", "VIRTUAL_ENV", "CONDA_PREFIX", "LD_LIBRARY_PATH", "DYLD_", "COVERAGE"),
    *("NUMBA_", "TORCH_", "CUDA_", "MUJOCO_", "SDL_", "PYGAME_", "PYOPENGL_", "EGL_"),
    *("LIBGL_", "MESA_", "DISPLAY", "WAYLAND_DISPLAY"),
)
"""Names or prefixes of what a worker may see of the environment; no key is there."""

_SECRETS = ("KEY", "TOKEN", "SECRET", "PASSWORD")

_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")

# multiprocessing reads a dead child's exit code from a pipe that every ``start``
# polls for all children, so no two threads may do either at once.
_multiprocessing = threading.Lock()


class _Child:
    """A worker process and what the controller does to it."""

    def __init__(self, function: str, folder: Path, stderr: Path) -> None:
        context = multiprocessing.get_context("forkserver")
        self.connection: Connection
        self.connection, theirs = context.Pipe()
        self._process = context.Process(
            target=serve,
            args=(theirs, function, str(folder), str(stderr)),
            name="guerdon-worker",
            daemon=True,
        )
        try:
            with _multiprocessing:
                self._process.start()
        except BaseException:
            self.connection.close()
            raise
        finally:
            theirs.close()
        self._killing = threading.Lock()
        self._gone = False

    def next_message(self) -> bytes:
        """The next message; EOFError when the worker is dead.

        A grandchild may hold the pipe open, so the process itself is watched too.
        """
        ready = wait([self.connection, self._process.sentinel])
        if self.connection not in ready:
            raise EOFError
        return self.connection.recv_bytes(MAX_ANSWER + 1)

    def kill(self) -> None:
        """Kill the whole process group; harmless when it is gone.

        A live worker proves that its process id is still its own. After its death
        the id may belong to a stranger if a process of that id exists; if there is
        none, a group of that id can only be what the worker left behind.
        """
        with self._killing:
            if self._gone:
                return
            pid = self._process.pid
            if pid is None:
                return
            dead = bool(wait([self._process.sentinel], timeout=0))
            if dead and Path(f"/proc/{pid}").exists():
                return
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(pid, signal.SIGKILL)
            if not dead:
                # It may not have reached its own group yet.
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)

    def reap(self) -> int | None:
        """Kill what is left, and give the exit code; negative for a signal."""
        self.kill()
        wait([self._process.sentinel], timeout=10)
        with self._killing, _multiprocessing:
            self._gone = True
            code = self._process.exitcode
            if code is not None:
                self._process.close()
        self.connection.close()
        return code


class WorkerPool:
    """Runs trainings, a fixed number at a time.

    Args:
        workers: processes at a time, at least 1; one per core.
        deadline_s: seconds after which a job is killed.
        run_dir: folder for the files of the jobs; made if missing.
        function: ``module:name`` of what a worker runs; tests bring their own.

    Use it as a context manager: leaving it kills what still runs.

    Raises:
        ValueError: for fewer than one worker or a deadline that is not positive.
    """

    def __init__(
        self,
        workers: int,
        deadline_s: float,
        run_dir: Path,
        *,
        function: str = JOB_FUNCTION,
    ) -> None:
        if workers < 1:
            raise ValueError(f"workers: expected at least 1, got {workers}")
        if not deadline_s > 0:
            raise ValueError(f"deadline_s: expected more than 0, got {deadline_s}")
        run_dir.mkdir(parents=True, exist_ok=True)
        self._deadline = deadline_s
        self._folder = run_dir.resolve()
        self._function = function
        self._waiting: queue.SimpleQueue[TrainingJob | None] = queue.SimpleQueue()
        self._finished: queue.SimpleQueue[tuple[TrainingJob, Outcome]]
        self._finished = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._open: dict[str, float] = {}
        self._children: set[_Child] = set()
        self._closed = False
        _start_server()
        self._threads = [
            threading.Thread(target=self._supervise, name=f"worker-{i}", daemon=True)
            for i in range(workers)
        ]
        for thread in self._threads:
            thread.start()

    def submit(self, job: TrainingJob) -> None:
        """Queue a job.

        Raises:
            RuntimeError: when the pool is closed.
            ValueError: when the same job is under way already.
        """
        with self._lock:
            if self._closed:
                raise RuntimeError("submit: the pool is closed")
            if job.key in self._open:
                raise ValueError(f"submit: job {job.key[:12]} is under way already")
            self._open[job.key] = 0.0
        self._waiting.put(job)

    @property
    def pending(self) -> int:
        """Jobs that were submitted and not handed back yet."""
        with self._lock:
            return len(self._open)

    def progress(self, job: TrainingJob) -> float:
        """Finished share of a job, 0 to 1; 0 while it waits, 1 when it is done."""
        with self._lock:
            return self._open.get(job.key, 1.0)

    def poll(self, timeout: float = 0.0) -> list[tuple[TrainingJob, Outcome]]:
        """What has finished since the last call; waits at most ``timeout`` for one."""
        found: list[tuple[TrainingJob, Outcome]] = []
        with suppress(queue.Empty):
            if timeout > 0 and self.pending:
                found.append(self._finished.get(timeout=timeout))
            while True:
                found.append(self._finished.get_nowait())
        with self._lock:
            for job, _ in found:
                self._open.pop(job.key, None)
        return found

    def as_completed(
        self, timeout: float | None = None
    ) -> Iterator[tuple[TrainingJob, Outcome]]:
        """Jobs with their outcomes in the order in which they finish.

        Ends when every submitted job was handed back; more may be submitted while
        it runs.

        Args:
            timeout: seconds for the whole iteration; None waits for ever.

        Raises:
            TimeoutError: when the time is over and jobs are still under way.
        """
        end = None if timeout is None else time.monotonic() + timeout
        while self.pending:
            left = 1.0 if end is None else end - time.monotonic()
            found = self.poll(max(0.0, min(1.0, left)))
            if not found and end is not None and time.monotonic() >= end:
                raise TimeoutError(f"{self.pending} trainings are still under way")
            yield from found

    def close(self) -> None:
        """Kill what runs and forget what waits."""
        with self._lock:
            self._closed = True
            children = list(self._children)
        for child in children:
            child.kill()
        for _ in self._threads:
            self._waiting.put(None)
        for thread in self._threads:
            thread.join()
        with self._lock:
            self._open.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _supervise(self) -> None:
        """One thread per place: starts a worker, listens to it, buries it."""
        while (job := self._waiting.get()) is not None:
            if self._closed:
                continue
            try:
                outcome = self._run(job)
            except Exception as error:
                outcome = Failure(
                    "crashed", f"worker could not run: {type(error).__name__}: {error}"
                )
            if not self._closed:
                self._finished.put((job, outcome))

    def _run(self, job: TrainingJob) -> Outcome:
        stderr = self._folder / f"{job.key}.stderr"
        child = _Child(self._function, self._folder, stderr)
        expired = threading.Event()

        def expire() -> None:
            expired.set()
            child.kill()

        deadline = threading.Timer(self._deadline, expire)
        deadline.daemon = True
        with self._lock:
            self._children.add(child)
            closed = self._closed
        if closed:
            child.kill()
        deadline.start()
        answer: Outcome | None = None
        try:
            answer = self._listen(child, job)
        except (EOFError, ConnectionError):
            pass  # It is dead; its exit code and its stderr say why.
        finally:
            deadline.cancel()
            code = child.reap()
            with self._lock:
                self._children.discard(child)
        for half in self._folder.glob(f".{job.key}.*.partial"):
            half.unlink(missing_ok=True)
        if answer is not None:
            stderr.unlink(missing_ok=True)
            return answer
        if expired.is_set():
            return Failure("timed_out", f"no result within {self._deadline:g} seconds")
        return Failure("crashed", _epitaph(code, stderr))

    def _listen(self, child: _Child, job: TrainingJob) -> Outcome:
        """Follow a worker's messages to its answer."""
        child.connection.send_bytes(job.to_json().encode())
        while True:
            try:
                message = child.next_message()
            except OSError as error:
                if isinstance(error, ConnectionError):
                    raise
                return Failure(
                    "crashed", f"answer larger than the limit of {MAX_ANSWER} bytes"
                )
            if message[:1] == b"P":
                with self._lock:
                    self._open[job.key] = float(message[1:])
                continue
            return _answer(message[1:], job)


def _answer(text: bytes, job: TrainingJob) -> Outcome:
    """A worker's answer, read as the untrusted JSON that it is."""
    try:
        outcome = outcome_from_json(text)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        return Failure("crashed", f"answer is not a training result: {error}")
    if isinstance(outcome, TrainingResult) and outcome.job != job.key:
        return Failure("crashed", f"answer belongs to another job, {outcome.job[:12]}")
    return outcome


def _epitaph(code: int | None, stderr: Path) -> str:
    """How a worker died, with the end of what it printed."""
    if code is not None and code < 0:
        how = f"killed by {signal.Signals(-code).name}"
    else:
        how = f"exit code {code}"
    tail = b""
    with suppress(OSError), stderr.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - STDERR_TAIL))
        tail = file.read()
    text = tail.decode(errors="replace").strip()
    return f"worker died: {how}" + (f"\n{text}" if text else "")


def _start_server() -> None:
    """Start the server that workers are forked from, without the user's keys."""
    with _multiprocessing, _worker_environment(), _deaf_to_ctrl_c():
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["guerdon.agents.preload"])
        multiprocessing.forkserver.ensure_running()


@contextmanager
def _deaf_to_ctrl_c() -> Iterator[None]:
    """What is started meanwhile never hears Ctrl-C: its death is the controller's.

    The server ignores it by itself, but only after seconds of imports.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    # Its start would let the signal through again.
    multiprocessing.resource_tracker.ensure_running()
    old = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, old)


@contextmanager
def _worker_environment() -> Iterator[None]:
    """What workers see of the environment, for the moment of starting the server."""
    saved = dict(os.environ)
    for name in saved:
        if not name.startswith(_PASSED) or any(part in name for part in _SECRETS):
            del os.environ[name]
    os.environ.update(dict.fromkeys(_THREADS, "1"))
    try:
        yield
    finally:
        for name in _THREADS:
            os.environ.pop(name, None)
        os.environ.update(saved)

"""A real code model on the processor, without any service.

The model runs in a child process of ours, because a crash in its C++ must not end a
training. The child listens on the loopback, wants a random key, and dies with us.

``python -m guerdon.llm.embedded coder-1.5b`` fetches the weights of a model.
"""

from __future__ import annotations

import json
import os
import queue
import secrets
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO

from guerdon.closing import Closing
from guerdon.llm.budget import FREE
from guerdon.llm.client import Answer, ModelError, Request, nearest
from guerdon.llm.endpoint import Endpoint
from guerdon.llm.secret import Secret
from guerdon.llm.weights import HINT, MODELS, Progress, Weights, locate

CONTEXT = 4096
"""Tokens of prompt and answer together."""

_PASSED_ON = ("PATH", "LANG", "LC_ALL", "TMPDIR", "TEMP", "SYSTEMROOT")


def _command() -> list[str]:
    return [sys.executable, "-P", "-s", "-m", "guerdon.llm.server"]


def _cores() -> int:
    """Processors that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _environment(threads: int) -> dict[str, str]:
    """What the child sees of ours: no keys, no proxies, no settings of the hub."""
    env = {k: os.environ[k] for k in _PASSED_ON if k in os.environ}
    env["PYTHONPATH"] = str(Path(__file__).resolve().parents[2])
    env["OMP_NUM_THREADS"] = str(threads)
    return env


class _Child:
    """One running server."""

    def __init__(
        self, command: Sequence[str], settings: dict[str, object], ready_timeout: float
    ) -> None:
        # A file, not a pipe: nobody reads what the server says unless it dies.
        self._log: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115
        try:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._log,
                env=_environment(int(str(settings["threads"]))),
                # Ctrl-C in a terminal is for us; we end the server when we are done.
                start_new_session=True,
            )
        except OSError as error:
            self._log.close()
            raise ModelError(
                f"the server of the embedded model cannot start ({error})", "server"
            ) from None
        self._settings = settings
        self._ready_timeout = ready_timeout

    @property
    def alive(self) -> bool:
        return self.process.poll() is None

    def ready(self) -> str:
        """Hand over the settings and wait for the address."""
        timeout = self._ready_timeout
        stdin, stdout = self.process.stdin, self.process.stdout
        if stdin is None or stdout is None:
            raise RuntimeError("the server was started without pipes")
        lines: queue.Queue[bytes] = queue.Queue()
        reader = threading.Thread(target=lambda: lines.put(stdout.readline(4096)))
        reader.daemon = True
        reader.start()
        try:
            stdin.write(json.dumps(self._settings).encode() + b"\n")
            stdin.flush()
            line = lines.get(timeout=timeout)
            return str(json.loads(line)["address"])
        except queue.Empty:
            raise ModelError(
                f"the embedded model was not loaded within {timeout:g} s", "timeout"
            ) from None
        except (OSError, ValueError, KeyError, TypeError):
            raise ModelError(
                f"the server of the embedded model ended at its start ({self.said()})",
                "server",
            ) from None

    def said(self) -> str:
        """Exit status and the end of what the server wrote."""
        try:
            status: object = self.process.wait(timeout=1.0)
        except subprocess.TimeoutExpired:
            status = "still running"
        size = self._log.seek(0, os.SEEK_END)
        self._log.seek(max(0, size - 800))
        tail = self._log.read().decode("utf-8", "replace")
        return f"status {status}: {' '.join(tail.split()) or 'it said nothing'}"

    def stop(self) -> None:
        """Kill the server; it holds nothing worth saving."""
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                try:
                    pipe.close()
                except BrokenPipeError:
                    # Settings that the server did not live to read.
                    continue
        self._log.close()


class Embedded(Closing):
    """A chat with a model in a child process, started at the first request.

    A server that dies in the middle of a call is started once more and the call is
    repeated; a request that kills it twice is the request's fault.

    Args:
        weights: which model.
        path: its file.
        threads: most threads of the server. There are never more than this process
            has cores: they spin at barriers, and one core too few makes it ten times
            slower.
        context: tokens of prompt and answer together.
        timeout: seconds for one call.
        ready_timeout: seconds until the model must be loaded.
        command: starts the server; for tests.

    Raises:
        ValueError: for a number out of range.
    """

    def __init__(
        self,
        weights: Weights,
        path: Path,
        *,
        threads: int = 1,
        context: int = CONTEXT,
        timeout: float = 600.0,
        ready_timeout: float = 120.0,
        command: Sequence[str] | None = None,
    ) -> None:
        if threads < 1 or context < 256 or not timeout > 0:
            raise ValueError(
                "embedded model: expected threads >= 1, context >= 256 and timeout > 0,"
                f" got {threads}, {context} and {timeout}"
            )
        self.weights = weights
        self.path = path
        self.threads = min(threads, _cores())
        self.context = context
        self.timeout = timeout
        self.ready_timeout = ready_timeout
        self._command = list(command) if command is not None else _command()
        self._lock = threading.Lock()
        self._child: _Child | None = None
        self._endpoint: Endpoint | None = None
        self._closings = 0
        self.starts = 0
        """How often a server was started."""
        self.address = ""
        """Where the last one listens or listened."""

    @property
    def model(self) -> str:
        """Name of the model and the first digits of its hash."""
        return f"embedded:{self.weights.name}@{self.weights.sha256[:12]}"

    @property
    def pid(self) -> int | None:
        """Process of the server, while there is one."""
        return None if self._child is None else self._child.process.pid

    def chat(self, request: Request) -> Answer:
        """Answer one request; the server takes one at a time.

        Raises:
            ModelError: when there is no usable answer.
            MissingExtra: when xllamacpp is not installed.
        """
        closings = self._closings
        with self._lock:
            for _ in range(2):
                if self._closings != closings:
                    break
                try:
                    return self._running().chat(request)
                except ModelError as error:
                    if not self._is_dead(error) and self._closings == closings:
                        raise
            what = "ended twice" if self._closings == closings else "was stopped"
            raise ModelError(
                f"the server of the embedded model {what} during the same request",
                "server",
            )

    def close(self) -> None:
        """Stop the server and break off its answer; a request would start it again."""
        self._closings += 1
        # Who waits for the answer holds the lock, for minutes where a model is large:
        # that must not be what an interrupted run waits for.
        if (child := self._child) is not None:
            child.process.kill()
        with self._lock:
            self._stop()

    def _is_dead(self, error: ModelError) -> bool:
        """Whether the server died under a call; leaves no hanging one behind."""
        child = self._child
        if child is None:
            return False
        if error.kind == "server" and error.retryable:
            try:
                # The connection breaks a moment before the process is gone.
                child.process.wait(timeout=2.0)
            except subprocess.TimeoutExpired:
                return False
        dead = not child.alive
        if dead or error.kind == "timeout":
            self._stop()
        return dead

    def _running(self) -> Endpoint:
        if self._child is not None and not self._child.alive:
            self._stop()
        if self._endpoint is None:
            from guerdon.extras import require

            require("openai", "llm")
            key = Secret(secrets.token_urlsafe(32))
            settings: dict[str, object] = {
                "model": str(self.path),
                "key": key.reveal(),
                "threads": self.threads,
                "context": self.context,
            }
            self.starts += 1
            self._child = _Child(self._command, settings, self.ready_timeout)
            try:
                self.address = self._child.ready()
            except BaseException:
                self._stop()
                raise
            self._endpoint = Endpoint(
                f"{self.address}/v1",
                self.weights.name,
                key=key,
                timeout=self.timeout,
                grammar=True,
                price=FREE,
                name=self.model,
            )
        return self._endpoint

    def _stop(self) -> None:
        endpoint, self._endpoint = self._endpoint, None
        child, self._child = self._child, None
        if endpoint is not None:
            endpoint.close()
        if child is not None:
            child.stop()


def free_memory() -> int | None:
    """Bytes of memory that a new process could have; None where nobody says."""
    try:
        lines = Path("/proc/meminfo").read_text("ascii").splitlines()
        fields = dict(line.split(":", 1) for line in lines if ":" in line)
        return int(fields["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        return None


def candidates_for(name: str | None) -> list[Weights]:
    """The model of a name, or without one all of them, best first.

    Raises:
        ValueError: for an unknown name; names the nearest one.
    """
    if name is None:
        return list(MODELS.values())
    if name not in MODELS:
        raise ValueError(
            f"unknown embedded model {name!r}; known: {', '.join(MODELS)}; the nearest "
            f"one is {nearest(name, MODELS)!r}"
        )
    return [MODELS[name]]


def open_embedded(
    name: str | None,
    *,
    threads: int = 1,
    timeout: float = 600.0,
    progress: Progress | None = None,
    find: Callable[..., Path] = locate,
) -> Embedded:
    """The embedded model of a name, or without one the best that fits.

    Raises:
        ValueError: for an unknown name; names the nearest one.
        ModelError: when the weights cannot be had; says what was tried.
        MissingExtra: when xllamacpp, or openai that asks its server, is not installed.
    """
    from guerdon.extras import require, require_installed

    candidates = candidates_for(name)
    require_installed("openai", "llm")
    require("xllamacpp", "embedded")
    memory = free_memory()
    failures: list[str] = []
    closed: set[str] = set()
    for weights in candidates:
        if name is None and memory is not None and memory < weights.memory:
            failures.append(
                f"{weights.name} needs {weights.memory >> 20} MiB of memory and "
                f"{memory >> 20} MiB are free"
            )
            continue
        try:
            path = find(weights.name, progress=progress, closed=closed)
        except ModelError as error:
            failures.append(error.message.removesuffix(HINT))
            continue
        return Embedded(weights, path, threads=threads, timeout=timeout)
    raise ModelError("; ".join(failures) + HINT, "server")


def main(arguments: Sequence[str]) -> int:
    """Fetch the weights of a model and say where they are."""
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn

    if len(arguments) > 1 or (arguments and arguments[0] not in MODELS):
        print(f"usage: python -m guerdon.llm.embedded [{'|'.join(MODELS)}]")
        return 2
    name = arguments[0] if arguments else next(iter(MODELS))
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn())
    try:
        with Progress(*columns, transient=True) as bar:
            task = bar.add_task(f"fetching {name}", total=MODELS[name].size)
            path = locate(
                name, progress=lambda done, _: bar.update(task, completed=done)
            )
    except ModelError as error:
        print(error)
        return 1
    print(f"{name} ({MODELS[name].licence}): {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

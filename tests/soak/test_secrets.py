"""A canary for a key: planted, echoed by the server, and found nowhere."""

from __future__ import annotations

import itertools
import os
import re
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests.llm.conftest import FakeServer, Reply, completion
from tests.soak.processes import ROOT, children

pytestmark = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="memory is read in /proc"
)

LANGUAGE = """# plan: {echo}
PARAMS = {{"w": {weight}}}
def reward(prev, action, now, params):
    return {{"gain": params.w * (prev.left - now.left)}}  # {echo}
"""
PYTHON = """# plan: sort, and say {echo}
def reward(prev, action, now, params):
    both = np.sort(np.stack([prev.left, now.left], axis=-1), axis=-1)
    return {{"gain": {weight} * (both[..., 1] - both[..., 0])}}
"""
BROKEN = "def reward(prev, action, now, params):\n    return {echo}\n"


class Echo:
    """A server that sends the key back in every place that it has."""

    def __init__(self, *statuses: int) -> None:
        self.server = FakeServer()
        self.server.decide = self.decide
        self.statuses = itertools.cycle(statuses)
        self.number = itertools.count()

    def decide(self, body: dict[str, Any]) -> Reply:
        key = self.server.keys[-1] or ""
        headers = {"X-Echo": key, "X-Request-Id": key, "Set-Cookie": f"key={key}"}
        if len(body["messages"]) == 1:
            return Reply({"error": {"message": f"no grammars, {key}"}}, 400, headers)
        status, number = next(self.statuses), next(self.number)
        if status != 200:
            text = f"status {status} for {key}"
            return Reply({"error": {"message": text, "code": key}}, status, headers)
        text = (LANGUAGE, PYTHON, BROKEN)[number % 3]
        answer = text.format(echo=key, weight=1 + number / 8)
        return Reply(completion(answer, usage=(900, 60)), 200, headers)


class Spy(threading.Thread):
    """Reads environment and memory of every process that a controller starts."""

    def __init__(self, pid: int, canary: str) -> None:
        super().__init__(daemon=True)
        self.pid, self.canary = pid, canary.encode()
        self.read: dict[int, str] = {}
        """Command lines of the processes whose memory was read."""
        self.parents: dict[int, int] = {}
        self.found: list[str] = []
        self.over = threading.Event()

    def run(self) -> None:
        seen: dict[int, int] = {}
        while not self.over.is_set():
            for pid in self._descendants(self.pid):
                # Once when it is new, and later when it is at work.
                if seen.setdefault(pid, 0) < 2:
                    seen[pid] += 1
                    self._look(pid)
            time.sleep(0.05)

    def servers(self, name: str) -> set[int]:
        """Processes that the controller started with this in their command line."""
        own = {pid for pid in self.read if self.parents[pid] == self.pid}
        return {pid for pid in own if name in self.read[pid]}

    def _descendants(self, pid: int) -> Iterator[int]:
        for child in children(pid):
            self.parents[child] = pid
            yield child
            yield from self._descendants(child)

    def _look(self, pid: int) -> None:
        with suppress(OSError, ValueError):
            # Between its fork and its exec a child is still a copy of its parent.
            for _ in range(3):
                where = self._places(pid)
                if not where:
                    return
                time.sleep(0.3)
            name = Path(f"/proc/{pid}/cmdline").read_bytes()[:200]
            self.found.append(f"{pid} {name!r}: {where}")

    def _places(self, pid: int) -> list[str]:
        where, size = [], 0
        proc = Path(f"/proc/{pid}")
        command = (proc / "cmdline").read_bytes().decode(errors="replace")
        if self.canary in (proc / "environ").read_bytes():
            where.append("environment")
        if self.canary in (proc / "cmdline").read_bytes():
            where.append("command line")
        with (proc / "mem").open("rb", buffering=0) as memory:
            for line in (proc / "maps").read_text().splitlines():
                span, rights = line.split()[:2]
                if not rights.startswith("rw"):
                    continue
                low, high = (int(x, 16) for x in span.split("-"))
                with suppress(OSError, OverflowError):
                    memory.seek(low)
                    data = memory.read(high - low)
                    size += len(data)
                    if self.canary in data:
                        where.append(line)
            if size:
                self.read[pid] = command
        return where


def run(
    tmp_path: Path, echo: Echo, *words: str, **env: str
) -> tuple[subprocess.CompletedProcess[str], Spy, str]:
    """A search by the command line with a canary for a key."""
    # Made here, so that no process has it from this file.
    canary = f"sk-canary-{secrets.token_hex(12)}"
    command = [sys.executable, "-m", "tests.soak.loud", "search"]
    command += ["tests.agents.countdown_task:TASK", "--llm", f"{echo.server.url}#tiny"]
    command += ["--out", str(tmp_path / "run"), "--steps", "64", "--rounds", "1"]
    command += ["--seeds", "1", "--finalists", "1", "--final-seeds", "0"]
    command += ["--eval-episodes", "2", "--workers", "2", *words]
    keys = {"GUERDON_API_KEY": canary, "OPENAI_API_KEY": canary, "OPENAI_LOG": "debug"}
    # The socket of the workers' server lies there, and its path must be short.
    scratch = Path(tempfile.mkdtemp(prefix="g"))
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        env={
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(ROOT),
            "OMP_NUM_THREADS": "1",
            "TMPDIR": str(scratch),
            **keys,
            **env,
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    spy = Spy(process.pid, canary)
    spy.start()
    stdout, stderr = process.communicate(timeout=240)
    spy.over.set()
    spy.join()
    echo.server.close()
    done = subprocess.CompletedProcess(command, process.returncode, stdout, stderr)
    assert any(canary in (key or "") for key in echo.server.keys), stderr[-2000:]
    # Not even half of it.
    half = re.compile(re.escape(canary[:20]).encode())
    for path in [*tmp_path.rglob("*"), *scratch.rglob("*")]:
        assert not path.is_file() or not half.search(path.read_bytes()), path
    shutil.rmtree(scratch)
    assert not half.search(stdout.encode())
    assert not half.search(stderr.encode())
    assert spy.found == []
    return done, spy, canary


def test_a_search_in_the_jail_leaves_the_key_in_no_file_log_worker_or_memory(
    tmp_path: Path,
) -> None:
    echo = Echo(200, 200, 200, 401, 200)
    done, spy, _ = run(tmp_path, echo, "--candidates", "5", "--trust", "jail")
    assert done.returncode == 0, done.stderr[-3000:]
    # It was there: in the server's headers, which the logs show, and in the programs.
    assert "X-Echo" in done.stderr
    assert "plan: Bearer ***" in _texts(tmp_path / "run")
    assert '"full_python":true' in _texts(tmp_path / "run")
    # The server of the workers and a worker, the server of the jail and a jailed job.
    looked = {"forkserver"}
    # Jobs are not dumpable: only root may look.
    looked |= {"guerdon.jail.zygote"} if os.geteuid() == 0 else set()
    for name in looked:
        servers = spy.servers(name)
        assert servers, spy.read
        forks = {pid for pid in spy.read if spy.parents[pid] in servers}
        assert forks, (name, spy.read, spy.parents)
    assert spy.servers("guerdon.jail.zygote")


def test_a_search_whose_every_call_fails_shows_the_key_to_nobody(
    tmp_path: Path,
) -> None:
    echo = Echo(401, 403, 422, 307)
    done, spy, _ = run(tmp_path, echo, "--candidates", "6", LIGHT="1")
    assert done.returncode == 0, done.stderr[-3000:]
    assert "status 401 for Bearer ***" in _texts(tmp_path / "run")
    assert any("forkserver" in command for command in spy.read.values())


def test_the_spy_finds_a_key_where_there_is_one() -> None:
    code = "import os, time; key = os.environ['KEY'] * 2; print(flush=True)"
    code = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {code!r}"
    code += " + '; time.sleep(60)'])"
    parent = subprocess.Popen(
        [sys.executable, "-c", code],
        env={"KEY": "sk-canary-0123", "PATH": os.environ["PATH"]},
        stdout=subprocess.PIPE,
    )
    assert parent.stdout is not None
    parent.stdout.readline()
    spy = Spy(parent.pid, "sk-canary-0123")
    (child,) = spy._descendants(parent.pid)
    spy._look(child)
    os.kill(child, signal.SIGKILL)
    parent.wait()
    parent.stdout.close()
    (found,) = spy.found
    assert "environment" in found
    assert "[heap]" in found or "rw-p" in found


def test_a_crash_inside_the_http_library_shows_the_key_to_nobody(
    tmp_path: Path,
) -> None:
    done, _, _ = run(tmp_path, Echo(200), CRASH="1", GUERDON_DEBUG="1")
    assert done.returncode != 0
    assert "RuntimeError: as it was told to" in done.stderr
    assert "openai" in done.stderr


def _texts(folder: Path) -> str:
    """Everything in the journal that is text."""
    return (folder / "journal.sqlite").read_bytes().decode(errors="replace")

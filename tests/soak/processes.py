"""The processes of the harness: its model server, and the workers of others."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
import traceback
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 120.0
"""Seconds after which a run counts as hanging."""


class Server:
    """The model server's process, always on one port."""

    def __init__(self, folder: Path) -> None:
        self.log = folder / "model.log"
        self.port = 0
        self.start()

    def start(self) -> None:
        words = [sys.executable, "-m", "tests.soak.model", str(self.port)]
        self.process = subprocess.Popen(
            [*words, str(self.log)],
            cwd=ROOT,
            env=environment(),
            stdout=subprocess.PIPE,
        )
        assert self.process.stdout is not None
        self.port = int(self.process.stdout.readline())

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()

    def paid(self, since: int = 0, until: int | None = None) -> list[str]:
        """Questions that were answered, in order, in these lines of the log."""
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        some = lines[since:until]
        return [line.split()[1] for line in some if line.startswith("paid")]

    def lines(self) -> int:
        return len(self.log.read_text().splitlines()) if self.log.exists() else 0


def environment(**more: str) -> dict[str, str]:
    return {
        "PYTHONPATH": str(ROOT),
        "PATH": os.environ.get("PATH", "/usr/bin:/bin"),
        "OMP_NUM_THREADS": "1",
        **more,
    }


def ended(process: subprocess.Popen[str]) -> str:
    try:
        stdout, stderr = process.communicate(timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        raise
    assert process.returncode == 0, f"{process.returncode}: {stderr}"
    return stdout


def kill_a_worker(process: subprocess.Popen[str], rng: random.Random) -> bool:
    """SIGKILL for one of the workers; False when the run ended before there was one."""
    while process.poll() is None:
        servers = [
            pid
            for pid in children(process.pid)
            if b"forkserver" in _read(f"/proc/{pid}/cmdline")
        ]
        workers = [pid for server in servers for pid in children(server)]
        try:
            if workers:
                os.kill(rng.choice(workers), signal.SIGKILL)
                return True
        except ProcessLookupError:
            pass  # it was over in this moment: another one
        time.sleep(0.01)
    return False


def children(pid: int) -> list[int]:
    found: list[int] = []
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        found += map(int, _read(str(path)).split())
    return found


def _read(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError:
        return b""


def can_mount() -> bool:
    """Whether this user may mount a file system in a namespace of their own."""
    command = ["unshare", "-rm", "sh", "-c", "mount -t tmpfs none /tmp"]
    try:
        done = subprocess.run(command, capture_output=True, check=False)
    except OSError:
        return False
    return done.returncode == 0


def words(error: BaseException) -> str:
    """What an error says; an assertion that has no words says its line."""
    lines = [frame.line or "" for frame in traceback.extract_tb(error.__traceback__)]
    text = str(error) or "".join(lines[-1:])
    return f"{type(error).__name__}: {text[-1500:]}"

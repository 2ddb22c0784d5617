"""What several tests of the jail need."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from guerdon.jail import Answer, Jail, Limits

ROOT = Path(__file__).parents[2]
QUICK = Limits(seconds=20, cpu_seconds=10, memory=2 << 30, scratch_size=1 << 20)

linux_only = pytest.mark.skipif(sys.platform != "linux", reason="not Linux")


def run_text(jail: Jail, text: str, limits: Limits = QUICK) -> Answer:
    return jail.run("tests.jail.jobs:run_text", text, limits)


def answer_of(jail: Jail, text: str, limits: Limits = QUICK) -> str:
    found = run_text(jail, text, limits)
    assert found.reason is None, found
    return found.parts[0].decode()


def python(text: str, *arguments: str, **options: object) -> str:
    """What a program prints, in a process of its own."""
    found = subprocess.run(
        [sys.executable, "-c", text, *arguments],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        **options,  # type: ignore[call-overload]
    )
    assert found.returncode == 0, found.stderr
    return str(found.stdout)


def children(pid: int) -> list[int]:
    """Processes that ``pid`` has forked and that live."""
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                status = Path("/proc", name, "stat").read_text()
            except OSError:
                continue
            state, parent = status.rpartition(")")[2].split()[:2]
            if int(parent) == pid and state != "Z":
                found.append(int(name))
    return found


def lives(pid: int) -> bool:
    """Whether a process runs; a zombie does not."""
    try:
        status = Path("/proc", str(pid), "stat").read_text()
    except OSError:
        return False
    return status.rpartition(")")[2].split()[0] != "Z"


def eventually(true: Callable[[], object], seconds: float = 10.0) -> bool:
    """Whether something becomes true in time."""
    until = time.monotonic() + seconds
    while not true():
        if time.monotonic() > until:
            return False
        time.sleep(0.01)
    return True

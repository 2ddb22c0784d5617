"""A key in the controller is nowhere in the server, nor in its jobs."""

from __future__ import annotations

import os
import secrets
import threading
from pathlib import Path

import pytest

from guerdon.jail import Jail
from tests.jail.tools import QUICK, children, linux_only

pytestmark = linux_only

_CHUNK = 1 << 24


def memory_holds(pid: int, needle: bytes) -> bool:
    """Whether the memory of a process has some bytes anywhere."""
    root = Path("/proc", str(pid))
    with open(root / "mem", "rb", buffering=0) as memory:
        for line in (root / "maps").read_text().splitlines():
            span, rights, *rest = line.split()
            # The file behind what cannot be written holds no key.
            if "w" not in rights or rest[-1] in ("[vvar]", "[vsyscall]"):
                continue
            start, end = (int(edge, 16) for edge in span.split("-"))
            for at in range(start, end, _CHUNK):
                memory.seek(at)
                try:
                    data = memory.read(min(_CHUNK + len(needle), end - at))
                except OSError:
                    continue
                if needle in data:
                    return True
    return False


def test_memory_of_server_and_job_hold_no_key_of_the_controller(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    key = secrets.token_hex(24)
    kept = [f"sk-{key}", {"key": f"Bearer {key}"}]
    monkeypatch.setenv("OPENAI_API_KEY", f"sk-{key}")
    begun, stop = threading.Event(), threading.Event()
    mark = "the payload " + secrets.token_hex(24)
    text = f"kept = {mark!r}\nimport time; progress(1.0); time.sleep(60)"
    with Jail(("numpy",)) as jail:
        thread = threading.Thread(
            target=jail.run,
            args=("tests.jail.jobs:run_text", text, QUICK),
            kwargs={"progress": lambda share: begun.set(), "cancelled": stop},
        )
        thread.start()
        assert begun.wait(20)
        (job,) = children(jail.pid)
        # Jobs are not dumpable: only root may look.
        looked = [jail.pid, *([job] if os.geteuid() == 0 else [])]
        try:
            assert memory_holds(os.getpid(), key.encode()), "the search finds nothing"
            for pid in looked:
                assert not memory_holds(pid, key.encode())
                environment = Path("/proc", str(pid), "environ").read_bytes()
                command = Path("/proc", str(pid), "cmdline").read_bytes()
                assert key.encode() not in environment + command
                assert b"KEY" not in environment
            if job in looked:
                assert memory_holds(job, mark.encode()), "the search finds nothing"
        finally:
            stop.set()
            thread.join()
    assert kept

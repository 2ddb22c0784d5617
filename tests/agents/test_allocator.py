"""What freed memory costs, seen from the system's side."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

from guerdon.agents import allocator

FAULTS = """
import resource, sys

import numpy as np
from guerdon.agents.allocator import keep_freed_memory

if sys.argv[1] == "kept":
    assert keep_freed_memory()

def used():
    together = [np.ones(1 << 18, np.float32) for _ in range(64)]

used()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
used()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc is asked")
def test_an_array_that_follows_another_needs_no_fresh_pages() -> None:
    def faults(how: str) -> int:
        command = [sys.executable, "-c", FAULTS, how]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        return int(done.stdout)

    assert 20 * faults("kept") < faults("given back")


def test_another_system_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    assert not allocator.keep_freed_memory()

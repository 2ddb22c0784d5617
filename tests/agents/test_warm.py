"""What the server of the workers loads, and how it ends."""

from __future__ import annotations

import gc
import subprocess
import sys
from pathlib import Path

from guerdon.agents import warm

SERVER = """
import subprocess, sys
from guerdon.agents import preload_populations

preload_populations.GRACE = 600.0
if sys.argv[1:]:
    work = "import sys, time; time.sleep(0.3); open(sys.argv[1], 'w').close()"
    subprocess.Popen(
        [sys.executable, "-c", work, sys.argv[1]], stdout=subprocess.DEVNULL
    )
print("ends")
"""


def server(*arguments: str) -> str:
    """What a process prints that ends like the server; far from its last moment."""
    command = [sys.executable, "-c", SERVER, *arguments]
    done = subprocess.run(
        command, capture_output=True, text=True, check=True, timeout=300
    )
    return done.stdout


def test_what_is_not_there_is_left_out_and_the_collector_goes_on() -> None:
    sys.modules.pop("colorsys", None)
    warm.load("no_such_module_at_all", "colorsys")
    gc.unfreeze()
    assert "colorsys" in sys.modules
    assert gc.isenabled()


def test_a_server_without_workers_ends_at_once() -> None:
    assert server() == "ends\n"


def test_a_server_ends_after_its_workers(tmp_path: Path) -> None:
    done = tmp_path / "done"
    assert server(str(done)) == "ends\n"
    assert done.exists()

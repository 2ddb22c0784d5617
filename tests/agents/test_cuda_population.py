"""Populations on the engine for a GPU, in numba's simulator: no hardware was seen."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

SIMULATOR = {"NUMBA_ENABLE_CUDASIM": "1", "NUMBA_DISABLE_JIT": "1"}
HERE = Path(__file__).parent


def test_all_that_simulated_cuda_says_holds_in_the_simulator() -> None:
    """``simulated_cuda`` is a file of tests; numba reads its switches only once."""
    words = ["-m", "pytest", "-q", "-p", "no:cacheprovider", "simulated_cuda.py"]
    done = subprocess.run(
        [sys.executable, *words],
        cwd=HERE,
        env=os.environ | SIMULATOR | {"PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    written = (HERE / "simulated_cuda.py").read_text("utf-8").count("\ndef test_")
    found = re.search(r"^(\d+) passed in", done.stdout, re.MULTILINE)
    assert found is not None, done.stdout
    assert int(found.group(1)) >= written

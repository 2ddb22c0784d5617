"""The kernels for a GPU through numba's CUDA compiler, without GPU and toolkit."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from numba import cuda

from guerdon.envs.grid.levels import LEVELS


@pytest.mark.skipif(
    getattr(cuda, "implementation", "Built-in") != "Built-in",
    reason="the package numba-cuda has other insides; there, run the kernels on a GPU",
)
def test_every_kernel_is_typed_and_lowered_and_becomes_ptx() -> None:
    script = Path(__file__).parent / "lowering.py"
    environment = {k: v for k, v in os.environ.items() if not k.startswith("NUMBA_")}
    done = subprocess.run(
        [sys.executable, "-W", "error", str(script)],
        env=environment | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    families = {level.begin for level in LEVELS.values()}
    assert done.stdout.count("lowered ") == len(families)
    assert done.stdout.count("written ") == 2

"""What the server of the workers loads, and that it can do without."""

import os
import subprocess
import sys

import pytest


def said(text: str) -> str:
    """What a fresh interpreter prints."""
    done = subprocess.run(
        [sys.executable, "-c", text],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_workers_server_has_the_population_and_no_thread() -> None:
    told = said(
        "import threading, guerdon.agents.warm, sys\n"
        "print('guerdon.agents.population' in sys.modules, len(threading.enumerate()))"
    )
    assert told.split() == ["True", "1"]


def test_what_the_jail_preloads_is_no_population() -> None:
    told = said(
        "import guerdon.agents.preload, sys\n"
        "names = ('guerdon.agents.population', 'guerdon.agents.warm')\n"
        "print([name in sys.modules for name in names])"
    )
    assert told.split("\n")[0] == "[False, False]"


@pytest.mark.parametrize("change", ["sys.modules['numba'] = None", "pass"])
def test_warming_loads_what_is_compiled_and_compiles_nothing(
    change: str, tmp_path: object
) -> None:
    told = said(
        f"import sys, os, pathlib; {change}\n"
        f"os.environ['NUMBA_CACHE_DIR'] = {str(tmp_path)!r}\n"
        "import guerdon.agents.warm as warm\n"
        f"kept = pathlib.Path({str(tmp_path)!r}).rglob('*.nb?')\n"
        "print(warm._is_compiled(), len(list(kept)))"
    )
    assert told.split() == ["False", "0"]


def test_warming_is_the_first_use_of_every_compiled_function() -> None:
    told = said(
        "import guerdon.agents.warm as warm, numpy as np\n"
        "warm.warm()\n"
        "from guerdon.agents import scatter\n"
        "from guerdon.envs.grid.choose import make_engine\n"
        "engine = make_engine('Empty-5x5', 3)\n"
        "count = lambda: len(scatter._loops.signatures)\n"
        "before = count()\n"
        "codes = np.zeros((2, 4, 5, 3), np.uint8)\n"
        "offsets = np.arange(15, dtype=np.int32).reshape(5, 3)\n"
        "total = np.zeros((2, 15, 6), np.float32)\n"
        "grad = np.ones((2, 4, 6), np.float32)\n"
        "scatter.scatter_sum(codes, offsets, np.ones(3, np.int64), grad, total)\n"
        "print(before, count(), total.sum())"
    )
    assert told.split() == ["1", "1", "720.0"]

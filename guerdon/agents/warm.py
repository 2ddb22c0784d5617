"""Imported by the server of the workers after ``preload``: what populations begin with.

The jail's server does without it: populations are never trained there.
"""

import gc
import importlib
from pathlib import Path

import numpy as np

from guerdon.agents import scatter
from guerdon.envs.grid.choose import make_engine

__all__: list[str] = []


def _is_compiled() -> bool:
    """Whether machine code is on disk; to make it takes longer than some trainings."""
    stats = getattr(scatter._loops, "stats", None)
    if stats is None or not stats.cache_path:
        return False
    return any(Path(stats.cache_path).glob("scatter._loops*.nbi"))


def warm() -> None:
    """Load the compiled code once for all workers: .4 s. It makes no threads."""
    engine = make_engine("Empty-5x5", 1)
    engine.reset(np.arange(1))
    engine.step(np.zeros(1, np.int64))
    codes, total = np.zeros((1, 1, 1, 1), np.uint8), np.zeros((1, 1, 1), np.float32)
    offsets, radix = np.zeros((1, 1), np.int32), np.ones(1, np.int64)
    scatter.scatter_sum(codes, offsets, radix, total.copy(), total)


importlib.import_module("guerdon.agents.population")
if _is_compiled():
    warm()
gc.collect()
gc.freeze()

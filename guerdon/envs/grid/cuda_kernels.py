"""The kernels of ``cuda``: the engine's own functions, one lane a thread.

Numba compiles the functions of ``kernel`` and ``levels`` for a GPU when a kernel here
calls them, from the same source as for a CPU. What a GPU could do otherwise is fuse the
product and the difference in ``1 - 0.9 t / T``; a test shows that no reward of any
level changes by it.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

from guerdon.envs.grid.kernel import show, step_lane
from guerdon.envs.grid.state import AUTORESET, NEXT_STEP
from guerdon.extras import MissingExtra

try:
    # Numba's own, or that of the package numba-cuda, which takes its place.
    cuda: Any = importlib.import_module("numba.cuda")
    config: Any = importlib.import_module("numba").config
except ImportError as error:
    raise MissingExtra(
        "numba.cuda is not installed; grids on a GPU need it: pip install "
        "'guerdon[grid,torch]' 'numba-cuda[cu12]' ('numba-cuda[cu13]' for CUDA 13)"
    ) from error


class DeviceKernels(NamedTuple):
    """What a level runs on a GPU."""

    step: Any
    """``kernel.step`` without ``low`` and ``high``, then the new episodes."""
    begin: Any
    """``begin`` of the level, without ``low`` and ``high``."""
    show: Any
    """``kernel.show`` without ``low`` and ``high``."""


@cuda.jit  # type: ignore[untyped-decorator]
def show_all(
    lanes: Any, cells: Any, numbers: Any, params: Any, table: Any, obs: Any,
    features: Any,
) -> None:  # fmt: skip
    """``kernel.show`` of one lane."""
    lane = cuda.grid(1)
    if lane < len(lanes):
        show(lanes, cells, numbers, params, table, obs, features, lane, lane + 1)


@cache
def kernels_of(begin: Callable[..., Any]) -> DeviceKernels:
    """The kernels of levels with this ``begin``; compiled at their first launch."""

    @cuda.jit  # type: ignore[untyped-decorator]
    def begin_all(
        lanes: Any, cells: Any, numbers: Any, seeds: Any, params: Any
    ) -> None:
        lane = cuda.grid(1)
        if lane < len(lanes):
            begin(lanes, cells, numbers, seeds, params, lane, lane + 1)

    @cuda.jit  # type: ignore[untyped-decorator]
    def step_all(
        actions: Any, cells: Any, numbers: Any, seeds: Any, params: Any, table: Any,
        fresh: Any, obs: Any, final_obs: Any, reward: Any, terminated: Any,
        truncated: Any, features: Any, first: Any, fitness: Any, success: Any,
    ) -> None:  # fmt: skip
        lane = cuda.grid(1)
        if lane < len(actions) and step_lane(
            actions, cells, numbers, seeds, params, table, fresh, obs, final_obs,
            reward, terminated, truncated, features, first, fitness, success, lane,
        ):  # fmt: skip
            begin(fresh, cells, numbers, seeds, params, lane, lane + 1)
            show(fresh, cells, numbers, params, table, obs, first, lane, lane + 1)
            if params[AUTORESET] == NEXT_STEP:
                for column in range(first.shape[1]):
                    features[lane, column] = first[lane, column]

    return DeviceKernels(step_all, begin_all, show_all)

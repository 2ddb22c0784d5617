"""The engine for a device: compiled for a CPU, for a GPU, or in plain tensors."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from functools import cache
from typing import Any

from guerdon.envs.grid import compiled
from guerdon.envs.grid.engine import Autoreset, GridEngine
from guerdon.envs.grid.levels.base import Level
from guerdon.extras import require_installed

BACKENDS = ("auto", "numba", "torch")


class SlowEngine(UserWarning):
    """The grid engine runs without its compiler."""


def make_engine(
    level: str | Level,
    num_envs: int = 1,
    *,
    device: str = "cpu",
    backend: str = "auto",
    threads: int | None = None,
    view: int | str = 7,
    autoreset: Autoreset = "same_step",
    blocks: Sequence[str] | None = None,
) -> GridEngine | Any:
    """An engine with ``num_envs`` lanes of a level.

    Args:
        level: its name, ``DoorKey-8x8``, or a ``Level``.
        num_envs: how many lanes.
        device: ``cpu``, or ``cuda`` or ``cuda:N`` for an NVIDIA GPU.
        backend: ``auto`` takes numba and, with a warning, falls back to torch where
            numba is missing on a CPU; ``numba`` and ``torch`` take just that.
        threads: of a CPU; see ``GridEngine``. So are the rest.
        view: see ``GridEngine``.
        autoreset: see ``GridEngine``.
        blocks: see ``GridEngine``.

    Returns:
        ``GridEngine`` or ``TorchGridEngine``, whose arrays are NumPy's, or
        ``CudaGridEngine``, whose arrays are tensors on the GPU. The numbers are equal.

    Raises:
        guerdon.extras.MissingExtra: when what the engine needs is not installed.
        RuntimeError: when there is no such GPU.
        TypeError: for arguments of another type.
        ValueError: for an unknown device, backend, level, view, mode or block.
    """
    if not isinstance(device, str):
        raise TypeError(f"device: expected a text, got {type(device).__name__}")
    if backend not in BACKENDS:
        raise ValueError(
            f"backend: expected one of {', '.join(BACKENDS)}, got {backend!r}"
        )
    shared: dict[str, Any] = {"view": view, "autoreset": autoreset, "blocks": blocks}
    if device.partition(":")[0] == "cuda":
        if backend == "torch":
            raise ValueError("backend: 'torch' runs on device='cpu' only")
        require_installed("torch", "torch")
        from guerdon.envs.grid.cuda import CudaGridEngine

        return CudaGridEngine(level, num_envs, device=device, **shared)
    if device != "cpu":
        raise ValueError(
            f"device: grids run on 'cpu', 'cuda' or 'cuda:N', got {device!r}"
        )
    if backend == "auto" and compiled.numba is None and _has_torch():
        backend = "torch"
        _warn_of_slowness()
    if backend == "torch":
        require_installed("torch", "torch")
        from guerdon.envs.grid.oracle import TorchGridEngine

        return TorchGridEngine(level, num_envs, threads=threads, **shared)
    return GridEngine(level, num_envs, threads=threads, **shared)


def _has_torch() -> bool:
    from importlib.util import find_spec

    return find_spec("torch") is not None


@cache
def _warn_of_slowness() -> None:
    """Say it once in a process."""
    warnings.warn(
        "numba cannot be imported, so grids run in plain tensors: the same numbers, "
        "but tens to hundreds of times slower. To have the compiled engine: pip "
        "install 'guerdon[grid]'",
        SlowEngine,
        stacklevel=3,
    )

"""The batched engine as a task's ``engine``; loaded and compiled at its first use."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from guerdon.envs.arrays import ArrayEnv
from guerdon.extras import require_installed
from guerdon.types import ActionSpec, Layout

if TYPE_CHECKING:
    # The engine takes its levels' features from this side, so it is loaded later.
    from guerdon.envs.grid.vector import GridEnv, GridVectorEnv
    from guerdon.envs.task import Task
    from guerdon.envs.tensors import TensorEnv

PARTS = ("make_base", "layout", "action", "read", "fitness", "success", "horizon")
"""Parts of a task that the engine has built in."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Grid:
    """Plays one level in compiled code.

    Args:
        level: its name.
        make_base: the task's part that the engine stands for; so are the others. A
            task that has another one cannot be played by the engine.
        layout: see ``make_base``.
        action: see ``make_base``.
        read: see ``make_base``.
        fitness: see ``make_base``.
        success: see ``make_base``.
        horizon: see ``make_base``.
    """

    name: ClassVar[str] = "grid"

    level: str
    make_base: Callable[..., Any]
    layout: Layout
    action: ActionSpec
    read: Callable[..., Any]
    fitness: Callable[..., Any]
    success: Callable[..., Any]
    horizon: int

    def plays(self, task: Task) -> bool:
        """Whether a task is still the one that the engine has built in."""
        return all(getattr(task, name) == getattr(self, name) for name in PARTS)

    def installed(self) -> bool:
        """Whether its compiler is there."""
        from guerdon.envs.grid.compiled import has_compiler

        return has_compiler()

    def __call__(self, lanes: int) -> ArrayEnv:
        """So many lanes; in plain tensors, with a warning, without the compiler."""
        from guerdon.envs.grid.choose import make_engine

        return make_engine(self.level, lanes)

    def require_device(self, device: str) -> None:
        """Refuse a device that the grids could not run on.

        Raises:
            guerdon.extras.MissingExtra: when torch, or numba with CUDA support, is not
                installed.
            RuntimeError: when there is no GPU that both can use.
            ValueError: for another device.
        """
        require_installed("torch", "torch")
        from guerdon.envs.grid.cuda_device import require_gpu

        require_gpu(device)

    def on_device(self, lanes: int, device: str) -> TensorEnv:
        """So many lanes on a GPU; raises as ``require_device`` does."""
        require_installed("torch", "torch")
        from guerdon.envs.grid.cuda import CudaGridEngine

        return CudaGridEngine(self.level, lanes, device=device)

    def make(self, **kwargs: Any) -> GridEnv:
        """One environment.

        Raises:
            guerdon.extras.MissingExtra: names the extra that brings the compiler.
        """
        from guerdon.envs.grid.vector import GridEnv

        return GridEnv(self.level, **kwargs)

    def make_vec(self, num_envs: int, **kwargs: Any) -> GridVectorEnv:
        """Many environments; raises as ``make`` does."""
        from guerdon.envs.grid.vector import GridVectorEnv

        return GridVectorEnv(self.level, num_envs, **kwargs)

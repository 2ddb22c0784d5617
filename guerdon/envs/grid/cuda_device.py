"""A GPU that torch and numba share: how it is found, handed tensors, and given work."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor

from guerdon.envs.grid.compiled import require_compiler

THREADS = 128
"""Lanes that a block of threads takes."""


def require_gpu(name: str) -> None:
    """Refuse a GPU that torch and numba could not share; holds nothing of it.

    Args:
        name: ``cuda`` or ``cuda:N``.

    Raises:
        guerdon.extras.MissingExtra: when numba, or its CUDA support, is not installed.
        RuntimeError: when there is no driver, or torch was not built for it; says what
            to do.
        ValueError: for another name.
    """
    require_compiler()
    from guerdon.envs.grid.cuda_kernels import config, cuda

    kind, _, number = name.partition(":")
    if kind != "cuda" or not (number.isdecimal() or name == "cuda"):
        raise ValueError(f"device: expected 'cuda' or 'cuda:0', got {name!r}")
    if config.ENABLE_CUDASIM:
        _expect_plain_python(config)
    else:
        _expect_gpu(name, cuda)


class Device:
    """One GPU; the CPU where numba's simulator plays a GPU.

    Args:
        name: ``cuda`` or ``cuda:N``.

    Raises:
        guerdon.extras.MissingExtra: when numba, or its CUDA support, is not installed.
        RuntimeError: when there is no driver or no such GPU, or torch was not built for
            it; says what to do.
        ValueError: for another name.
    """

    def __init__(self, name: str) -> None:
        require_gpu(name)
        from guerdon.envs.grid.cuda_kernels import config, cuda

        self._cuda = cuda
        self.simulated = bool(config.ENABLE_CUDASIM)
        if self.simulated:
            self.name, self.torch = name, torch.device("cpu")
            return
        number = name.partition(":")[2]
        index = int(number) if number else torch.cuda.current_device()
        if index >= torch.cuda.device_count():
            raise RuntimeError(
                f"device {name!r}: this machine has {torch.cuda.device_count()} GPU(s)"
            )
        self.name, self.torch = f"cuda:{index}", torch.device("cuda", index)
        self._streams: dict[int, Any] = {0: 0}

    def hand(self, tensor: Tensor) -> Any:
        """A tensor as numba's array over the same memory, which it keeps alive."""
        if self.simulated:
            from numba.cuda.simulator.cudadrv import devicearray

            fake: Any = devicearray.FakeCUDAArray
            return fake(tensor.numpy())
        with self._here():
            return self._cuda.as_cuda_array(tensor)

    def launch(self, kernel: Any, lanes: int, *handed: Any) -> None:
        """Put a kernel on torch's current stream, one thread a lane."""
        threads = min(THREADS, lanes)
        with self._here():
            kernel[-(-lanes // threads), threads, self._stream()](*handed)

    def _stream(self) -> Any:
        """Torch's current stream as numba's; 0 is the default one of both."""
        if self.simulated:
            return 0
        number = torch.cuda.current_stream(self.torch).cuda_stream
        if number not in self._streams:
            self._streams[number] = self._cuda.external_stream(number)
        return self._streams[number]

    def _here(self) -> AbstractContextManager[Any]:
        """With this GPU as numba's current one."""
        if self.simulated:
            return nullcontext()
        chosen: AbstractContextManager[Any] = self._cuda.gpus[self.torch.index]
        return chosen


def _expect_plain_python(config: Any) -> None:
    """Refuse a simulator that would come across compiled functions."""
    if not config.DISABLE_JIT:
        raise RuntimeError(
            "numba's CUDA simulator runs Python functions only: set "
            "NUMBA_DISABLE_JIT=1 beside NUMBA_ENABLE_CUDASIM=1"
        )


def _expect_gpu(name: str, cuda: Any) -> None:
    """Refuse a machine without a GPU that both torch and numba can use."""
    if not torch.cuda.is_available():
        raise RuntimeError(
            f"device {name!r}: torch finds no GPU. It takes an NVIDIA GPU, its driver, "
            "and torch built for CUDA (see https://pytorch.org). Grids also run on "
            "device='cpu'"
        )
    if not cuda.is_available():
        raise RuntimeError(
            f"device {name!r}: numba finds no GPU or no CUDA toolkit "
            f"({cuda.cuda_error()}); pip install 'numba-cuda[cu12]', or 'cu13' for "
            "CUDA 13, brings what it needs besides the driver"
        )

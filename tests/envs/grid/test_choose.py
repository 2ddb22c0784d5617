"""Which engine a device gets."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from numba import cuda
from twins import expect_twins, in_another_process

from guerdon.envs.grid import choose, compiled
from guerdon.envs.grid.choose import SlowEngine, make_engine
from guerdon.envs.grid.engine import GridEngine
from guerdon.envs.grid.oracle import TorchGridEngine
from guerdon.extras import MissingExtra


def test_a_cpu_gets_the_compiled_engine() -> None:
    engine = make_engine("DoorKey-5x5", 3, threads=2, view=5, blocks=("key",))
    assert type(engine) is GridEngine
    assert (engine.num_envs, engine.threads, engine.view) == (3, 2, 5)
    assert engine.blocks == ("key",)


def test_tensors_are_taken_where_they_are_asked_for() -> None:
    engine = make_engine("DoorKey-5x5", 3, backend="torch")
    assert type(engine) is TorchGridEngine
    expect_twins(make_engine("DoorKey-5x5", 3), engine, 3, seed=0)


def test_a_missing_compiler_is_one_warning_that_names_the_extra(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(compiled, "numba", None)
    choose._warn_of_slowness.cache_clear()
    with pytest.warns(SlowEngine, match=r"guerdon\[grid\]"):
        engine = make_engine("Empty-5x5", 2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert type(make_engine("Empty-5x5", 2)) is TorchGridEngine
    engine.reset(np.arange(2))
    assert engine.step(np.full(2, 2)).features[:, 0].tolist() == [2.0, 2.0]
    with pytest.raises(MissingExtra, match=r"guerdon\[grid\]"):
        make_engine("Empty-5x5", 2, backend="numba")


def test_without_compiler_and_torch_the_compiler_is_asked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(compiled, "numba", None)
    monkeypatch.setattr(choose, "_has_torch", lambda: False)
    with pytest.raises(MissingExtra, match=r"guerdon\[grid\]"):
        make_engine("Empty-5x5")


@pytest.mark.parametrize(
    ("wrong", "error", "message"),
    [
        ({"device": "mps"}, ValueError, "'cpu', 'cuda' or 'cuda:N', got 'mps'"),
        ({"device": 0}, TypeError, "device: expected a text"),
        ({"backend": "jax"}, ValueError, "auto, numba, torch, got 'jax'"),
        ({"device": "cuda", "backend": "torch"}, ValueError, "device='cpu' only"),
        ({"device": "cuda:1a"}, ValueError, "expected 'cuda' or 'cuda:0'"),
    ],
)
def test_a_choice_that_there_is_not_is_refused(
    wrong: dict[str, str], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        make_engine("Empty-5x5", **wrong)  # type: ignore[arg-type]


def test_without_a_gpu_torch_says_what_is_needed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(RuntimeError, match="an NVIDIA GPU, its driver, and torch"):
        make_engine("Empty-5x5", device="cuda")


def test_without_a_toolkit_numba_says_what_is_needed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(cuda, "is_available", lambda: False)
    with pytest.raises(RuntimeError, match=r"numba-cuda\[cu12\]"):
        make_engine("Empty-5x5", device="cuda")


def test_a_gpu_that_there_is_not_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(cuda, "is_available", lambda: True)
    with pytest.raises(RuntimeError, match=r"this machine has 1 GPU\(s\)"):
        make_engine("Empty-5x5", device="cuda:3")


WITHOUT_CUDA = """
import sys
sys.modules["numba.cuda"] = None
import pytest
from guerdon.envs.grid.choose import make_engine
from guerdon.extras import MissingExtra
with pytest.raises(MissingExtra, match="numba-cuda"):
    make_engine("Empty-5x5", device="cuda")
"""


def test_without_cuda_support_in_numba_the_package_is_named(tmp_path: Path) -> None:
    in_another_process(WITHOUT_CUDA, tmp_path)

"""``guerdon doctor`` where a search cannot run: exit status 1, and every row told."""

from __future__ import annotations

import importlib.metadata
import json
import multiprocessing
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from guerdon.cli import main

ROOT = Path(__file__).parents[2]

Doctor = Any
"""``doctor() -> (status, found, rows by name)``."""


@pytest.fixture
def doctor(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Doctor:
    """The command in this process, but for the layers of the jail."""
    monkeypatch.setattr("guerdon.cli.doctor.probe", list)

    def call() -> tuple[int, dict[str, Any], dict[str, Any]]:
        status = main(["doctor", "--json"])
        found = json.loads(capsys.readouterr().out)
        return status, found, {row["name"]: row for row in found["checks"]}

    return call


def test_a_machine_that_can_search_has_status_0(doctor: Doctor) -> None:
    status, found, rows = doctor()
    assert (status, found["ok"]) == (0, True)
    for name in ("platform", "numpy", "torch", "stable-baselines3", "safetensors"):
        assert rows[name]["ok"], rows[name]
    assert len(rows) == len(found["checks"])


@pytest.mark.parametrize(
    ("name", "remedy"),
    [
        ("torch", "pip install 'guerdon[torch]'"),
        ("stable-baselines3", "pip install 'guerdon[sb3]'"),
        ("safetensors", "pip install 'guerdon[sb3]'"),
        ("scipy", "pip install 'guerdon'"),
    ],
)
def test_what_a_search_needs_and_is_not_installed_has_status_1(
    name: str, remedy: str, doctor: Doctor, monkeypatch: pytest.MonkeyPatch
) -> None:
    really = importlib.metadata.version

    def version(asked: str) -> str:
        if asked == name:
            raise importlib.metadata.PackageNotFoundError(asked)
        return really(asked)

    monkeypatch.setattr(importlib.metadata, "version", version)
    status, found, rows = doctor()
    assert (status, found["ok"], rows[name]["ok"]) == (1, False, False)
    assert rows[name]["detail"] == f"not installed: {remedy}"
    assert ("GPU" in rows) == (name != "torch")


def test_what_no_search_needs_may_be_missing(
    doctor: Doctor, monkeypatch: pytest.MonkeyPatch
) -> None:
    really = importlib.metadata.version

    def version(asked: str) -> str:
        if asked in ("mujoco", "matplotlib", "openai"):
            raise importlib.metadata.PackageNotFoundError(asked)
        return really(asked)

    monkeypatch.setattr(importlib.metadata, "version", version)
    status, found, rows = doctor()
    assert (status, found["ok"], rows["mujoco"]["ok"]) == (0, True, False)


def test_without_a_fork_server_or_process_groups_the_status_is_1(
    doctor: Doctor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(multiprocessing, "get_all_start_methods", lambda: ["spawn"])
    status, found, rows = doctor()
    assert (status, found["ok"], rows["platform"]["ok"]) == (1, False, False)
    assert "of a search need: a fork server; use Linux" in rows["platform"]["detail"]
    monkeypatch.undo()  # pytest itself may end processes by their group
    monkeypatch.setattr("guerdon.cli.doctor.probe", list)
    for name in ("setsid", "killpg"):
        monkeypatch.delattr(os, name)
    status, _, rows = doctor()
    assert status == 1
    assert "need: sessions, process groups; use" in rows["platform"]["detail"]


def test_a_driver_that_fails_is_told_and_needs_no_search(
    doctor: Doctor, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> bool:
        raise RuntimeError("CUDA driver initialization failed")

    monkeypatch.setattr(torch.cuda, "is_available", fail)
    status, _, rows = doctor()
    assert (status, rows["GPU"]["ok"]) == (0, False)
    assert "CUDA driver initialization failed" in rows["GPU"]["detail"]


@pytest.mark.parametrize(
    "error",
    [
        "OSError('libtorch_cpu.so: cannot open shared object file')",
        "RuntimeError('built for another NumPy')",
        "ModuleNotFoundError(\"No module named 'torch._C'\", name='torch._C')",
    ],
)
def test_a_torch_that_does_not_load_is_a_row_and_not_the_end(
    error: str, tmp_path: Path
) -> None:
    (tmp_path / "torch.py").write_text(f"raise {error}\n")
    found = subprocess.run(
        [sys.executable, "-m", "guerdon", "doctor", "--json"],
        env={**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert found.returncode == 1, found.stderr
    told = json.loads(found.stdout)
    rows = {row["name"]: row for row in told["checks"]}
    assert told["ok"] is False
    assert rows["torch"]["ok"] is False
    assert "but it does not load: " in rows["torch"]["detail"]
    assert error.partition("(")[0] in rows["torch"]["detail"]
    assert "GPU" not in rows
    # What comes after it is told as well.
    assert rows["gymnasium"]["ok"]
    assert "--trust jail" in rows

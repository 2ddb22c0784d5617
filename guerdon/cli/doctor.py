"""What this machine has for a search: looked up or tried out, not guessed."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from collections.abc import Sequence
from typing import Any

from guerdon.jail import probe
from guerdon.llm.reach import reach

EXTRAS = {
    "torch": "torch",
    "stable-baselines3": "sb3",
    "safetensors": "sb3",
    "numba": "grid",
    "minigrid": "minigrid",
    "box2d": "box2d",
    "mujoco": "mujoco",
    "openai": "llm",
    "xllamacpp": "embedded",
    "matplotlib": "report",
    "ray": "ray",
}
"""Distributions and the extra that brings each of them."""

NEEDED = ("torch", "stable-baselines3", "safetensors")
"""What a search cannot do without."""


def examine(llm: Sequence[str] = ()) -> dict[str, Any]:
    """One row for everything that was tried.

    Args:
        llm: endpoints to ask whether they answer, ``http(s)://...#MODEL`` or
            ``openai:MODEL``; the request costs nothing.

    Raises:
        ValueError: for an address that names no endpoint.

    Returns:
        ``{"ok": bool, "checks": [{"name", "ok", "detail"}]}``; ``ok`` says whether a
        search can run here.
    """
    rows = [
        _row("python", True, f"{platform.python_version()} on {platform.platform()}"),
        _row("processors", True, str(_cores())),
        _threads(),
        _memory(),
    ]
    missing = []
    for name, extra in {"numpy": "", "gymnasium": "", "scipy": "", **EXTRAS}.items():
        try:
            rows.append(_row(name, True, importlib.metadata.version(name)))
        except importlib.metadata.PackageNotFoundError:
            missing.append(name)
            detail = f"not installed: pip install 'guerdon[{extra}]'"
            rows.append(_row(name, False, detail))
    if "torch" not in missing:
        rows.append(_gpu())
    rows += _jail()
    rows += [_row(f"model {uri}", *reach(uri)) for uri in llm]
    rows += _weights()
    return {"ok": not set(NEEDED) & set(missing), "checks": rows}


def _row(name: str, ok: bool, detail: str) -> dict[str, Any]:
    return {"name": name, "ok": ok, "detail": detail}


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _memory() -> dict[str, Any]:
    from guerdon.llm.embedded import free_memory

    free = free_memory()
    if free is None:
        return _row("free memory", False, "cannot be read on this platform")
    return _row("free memory", free > 2 << 30, f"{free / (1 << 30):.1f} GiB")


def _threads() -> dict[str, Any]:
    """Workers set it to 1; more make small networks slower."""
    value = os.environ.get("OMP_NUM_THREADS")
    detail = f"OMP_NUM_THREADS={value}" if value else "one per processor by default"
    return _row("threads", True, detail)


def _jail() -> list[dict[str, Any]]:
    """The layers of ``--trust jail``, each of them tried out."""
    layers = probe()
    rows = [
        _row(
            f"jail: {layer.name}",
            layer.ok,
            layer.detail if layer.ok else f"{layer.detail}: {layer.fix}",
        )
        for layer in layers
    ]
    absent = [layer.name for layer in layers if not layer.ok]
    detail = f"refuses: no {', '.join(absent)}" if absent else "all layers hold"
    return [*rows, _row("--trust jail", not absent, detail)]


def _gpu() -> dict[str, Any]:
    import torch

    if not torch.cuda.is_available():
        return _row("GPU", False, "none that torch can use; not needed")
    return _row("GPU", True, torch.cuda.get_device_name(0))


def _weights() -> list[dict[str, Any]]:
    from guerdon.llm.weights import MODELS, find_here, is_offline, model_folder

    rows = []
    for name, model in MODELS.items():
        path, ours = find_here(model), model_folder() / model.filename
        if path is not None:
            detail = f"{path}, SHA-256 {model.sha256[:12]}... as pinned"
        elif is_offline():
            detail = "not here; downloads are switched off by the environment"
        elif ours.is_file():
            detail = f"{ours} is not the pinned file; it will be fetched again"
        else:
            detail = f"not fetched yet; {model.size >> 20} MiB at first use"
        rows.append(_row(f"weights of {name}", path is not None, detail))
    return rows

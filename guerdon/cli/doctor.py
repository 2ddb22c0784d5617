"""What this machine has for a search: looked up or tried out, not guessed."""

from __future__ import annotations

import importlib
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

CORE = ("numpy", "gymnasium", "scipy")
"""Distributions that come with Guerdon itself."""

NEEDED = {
    "torch": "torch",
    "stable-baselines3": "stable_baselines3",
    "safetensors": "safetensors",
}
"""What a search cannot do without, beside the core, and the module that is loaded."""

_MOST_REASON = 300
"""Characters of an error that a row quotes."""


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
    needed = [_platform(), *(_installed(name) for name in (*CORE, *NEEDED))]
    rows = [
        _row("python", True, f"{platform.python_version()} on {platform.platform()}"),
        _row("processors", True, str(_cores())),
        _threads(),
        _memory(),
        *needed,
        *(_installed(name) for name in EXTRAS if name not in NEEDED),
    ]
    if any(row["name"] == "torch" and row["ok"] for row in needed):
        rows.append(_gpu())
    rows += _jail()
    rows += [_row(f"model {uri}", *reach(uri)) for uri in llm]
    rows += _weights()
    return {"ok": all(row["ok"] for row in needed), "checks": rows}


def _row(name: str, ok: bool, detail: str) -> dict[str, Any]:
    return {"name": name, "ok": ok, "detail": detail}


def _platform() -> dict[str, Any]:
    """What workers need of the system; Windows has none of it."""
    from guerdon.agents.server import absent_here

    absent = absent_here()
    if not absent:
        return _row("platform", True, "has what the workers of a search need")
    return _row(
        "platform",
        False,
        f"{platform.system()} lacks here what the workers of a search need: "
        f"{', '.join(absent)}; use Linux (a virtual machine or a container)",
    )


def _installed(name: str) -> dict[str, Any]:
    """Its version; what a search cannot do without is also loaded."""
    try:
        version = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        what = f"guerdon[{EXTRAS[name]}]" if name in EXTRAS else "guerdon"
        return _row(name, False, f"not installed: pip install '{what}'")
    try:
        if name in NEEDED:
            importlib.import_module(NEEDED[name])
    except Exception as error:
        # Whatever a broken library raises: here it is what was to be found out.
        return _row(name, False, f"{version}, but it does not load: {_reason(error)}")
    return _row(name, True, version)


def _reason(error: Exception) -> str:
    words = " ".join(str(error).split())[:_MOST_REASON]
    return f"{type(error).__name__}: {words}"


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

    try:
        if not torch.cuda.is_available():
            return _row("GPU", False, "none that torch can use; not needed")
        return _row("GPU", True, torch.cuda.get_device_name(0))
    except Exception as error:
        # A driver that fails is no reason to say nothing about the rest.
        return _row("GPU", False, f"torch cannot use it: {_reason(error)}; not needed")


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

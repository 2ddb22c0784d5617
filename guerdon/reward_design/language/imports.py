"""Imports that change nothing, and the refusal of all others.

Models begin a program with ``import numpy as np`` or ``from math import exp`` by
habit. Such a line is overlooked where it gives every name the meaning that it has
here anyway. One that gives a name another meaning, such as ``from numpy import
minimum as max``, would make the program read as something that it does not do.
"""

from __future__ import annotations

import ast

from guerdon.reward_design.language.table import (
    ALIASES,
    CONSTANTS,
    FUNCTIONS,
    MODULES,
)
from guerdon.reward_design.language.tree import Rejected
from guerdon.types import MAX_NAME

_SHORT = {"numpy": "np"}
"""The one usual short name of a module."""

_IMPORTABLE = MODULES - set(_SHORT.values())

_ADVICE = "drop the line: every function is known without it, as exp(x) or np.exp(x)"


def check_import(node: ast.Import | ast.ImportFrom) -> None:
    """Overlook a harmless import.

    Raises:
        Rejected: for any other one.
    """
    if isinstance(node, ast.Import):
        for alias in node.names:
            _check_module(alias, node.lineno)
        return
    module = node.module or ""
    known = _IMPORTABLE | {"__future__", "typing"}
    if node.level or module.split(".")[0] not in known:
        raise _refused("." * node.level + module, node.lineno)
    for alias in node.names:
        if module in ("__future__", "typing"):
            _check_annotation(module, alias, node.lineno)
        else:
            _check_function(module, alias, node.lineno)


def _refused(name: str, line: int) -> Rejected:
    return Rejected(
        "forbidden", f"nothing is imported here: {name[:MAX_NAME]!r}; {_ADVICE}", line
    )


def _check_module(alias: ast.alias, line: int) -> None:
    """``import numpy``, ``import numpy as np``; no module under another's name."""
    name = alias.name
    if name not in _IMPORTABLE | {"typing"}:
        raise _refused(name, line)
    if alias.asname not in (None, name, _SHORT.get(name)):
        raise Rejected(
            "forbidden",
            f"{name!r} is not renamed to {alias.asname[:MAX_NAME]!r} here; "
            f"write 'import {name}' or drop the line",
            line,
        )


def _check_annotation(module: str, alias: ast.alias, line: int) -> None:
    """``from typing import Dict``: names for annotations, which nothing reads."""
    name = alias.name
    if alias.asname not in (None, name) or _meaning(name) is not None or name == "*":
        raise _refused(f"{module}.{name}", line)


def _check_function(module: str, alias: ast.alias, line: int) -> None:
    """``from math import exp``: a function or constant under its own meaning."""
    inner = module.split(".")[1:]  # numpy.linalg.norm is known as linalg.norm
    meaning = _meaning(".".join([*inner, alias.name]))
    if meaning is None:
        raise _refused(f"{module}.{alias.name}", line)
    name = alias.asname or alias.name
    if _meaning(name) != meaning:
        raise Rejected(
            "forbidden",
            f"{alias.name!r} is not renamed to {name[:MAX_NAME]!r} here; write "
            f"{meaning}{'' if meaning in CONSTANTS else '(...)'} and drop the line",
            line,
        )


def _meaning(name: str) -> str | None:
    """What a name means in the language; None where it means nothing."""
    name = ALIASES.get(name, name)
    known = name in FUNCTIONS or name in CONSTANTS or name == "pow"
    return name if known else None

"""Optional parts of Guerdon, loaded at use; an absent one is an error that names it."""

from __future__ import annotations

import importlib
import importlib.util
from types import ModuleType


class MissingExtra(ImportError):
    """An optional dependency is not installed."""


def require(module: str, extra: str) -> ModuleType:
    """Import ``module`` or say which extra brings it.

    Raises:
        MissingExtra: names the module, the extra and the command to install it.

    >>> require("json", "core").__name__
    'json'
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is not None and not module.startswith(error.name):
            raise
        raise MissingExtra(
            f"{module} is not installed; it comes with the extra {extra!r}: "
            f"pip install 'guerdon[{extra}]'"
        ) from error


def require_installed(module: str, extra: str) -> None:
    """Refuse like ``require``, but without importing what is heavy.

    Raises:
        MissingExtra: names the module, the extra and the command to install it.
    """
    if importlib.util.find_spec(module) is None:
        require(module, extra)

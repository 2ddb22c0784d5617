"""What a server loads once, so that the workers forked from it start warm."""

import gc
import importlib
from contextlib import suppress


def load(*modules: str) -> None:
    """Import what is there; an absent extra is the business of the job that needs it.

    Args:
        modules: their full names.
    """
    # The collector would look through all that is loaded again and again, and find
    # nothing: a quarter of the time. What it never visits stays shared after a fork.
    gc.disable()
    for module in modules:
        with suppress(ImportError):
            importlib.import_module(module)
    gc.freeze()
    gc.enable()

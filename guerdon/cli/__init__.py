"""The command line: ``guerdon tasks | check | search | train | evaluate | ...``."""

from guerdon.cli.main import main

__all__ = ["main"]

"""The command line: ``guerdon tasks | check | search | train | evaluate | ...``."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; see ``guerdon.cli.entry.main``."""
    try:
        # Here and not above, so that Ctrl-C while it loads ends without a traceback.
        from guerdon.cli import entry
    except KeyboardInterrupt:
        return 130
    return entry.main(arguments)

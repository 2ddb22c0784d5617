"""Imported by the server of worker processes, which train populations at least.

Whoever imports this ends only after its children, or after ``GRACE``.
"""

import atexit
import os
import sys
import time

from guerdon.agents.warm import load

GRACE = 1.0
"""Seconds for the workers at the server's end; they need some thousandths."""

load(
    "guerdon.agents.population",
    "guerdon.reward_design.language",
    "guerdon.envs.grid.choose",
)


def _let_workers_end_first() -> None:
    """Wait for the workers, which end when the controller does, as this server does.

    A worker then kills its whole group. When the server is gone, the kernel kills the
    worker alone, and what that had started would live on.
    """
    nothing = os.open(os.devnull, os.O_WRONLY)
    for output in (sys.stdout, sys.stderr):
        output.flush()
    for descriptor in (1, 2):  # nobody who reads it to its end shall wait for this
        os.dup2(nothing, descriptor)
    end = time.monotonic() + GRACE
    while time.monotonic() < end:
        try:
            os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        time.sleep(0.005)


atexit.register(_let_workers_end_first)

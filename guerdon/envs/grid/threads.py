"""The lanes of a kernel, shared out among threads.

The kernels release the interpreter's lock, so ordinary threads do. Numba's own parallel
loops would need every kernel compiled twice, and their thread pools do not outlive a
fork, which is how trainers are started.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any

FEWEST = 2048
"""Lanes below which one thread is faster than handing work over: measured, 256 lanes on
two threads cost four times as much as on one, 4,096 lanes four fifths."""


class Team:
    """Runs a kernel over ranges of lanes.

    Args:
        lanes: how many there are.
        threads: how many threads to use where that pays.
    """

    def __init__(self, lanes: int, threads: int) -> None:
        parts = max(1, min(threads, lanes // (FEWEST // 2)))
        parts = 1 if lanes < FEWEST else parts
        edges = [lanes * part // parts for part in range(parts + 1)]
        self.ranges = list(pairwise(edges))
        self._pool: ThreadPoolExecutor | None = None
        self._process = -1

    def run(self, kernel: Callable[..., Any], *args: Any) -> list[Any]:
        """Call ``kernel(*args, low, high)`` for every range.

        Returns:
            What the calls returned, in the order of the lanes.
        """
        (low, high), *others = self.ranges
        if not others:
            return [kernel(*args, low, high)]
        pool = self._threads(len(others))
        waiting = [pool.submit(kernel, *args, *edges) for edges in others]
        try:
            mine = kernel(*args, low, high)
        finally:
            rest = [future.result() for future in waiting]
        return [mine, *rest]

    def _threads(self, count: int) -> ThreadPoolExecutor:
        if self._pool is None or self._process != os.getpid():
            # Threads do not come along when a process is forked.
            self._pool = ThreadPoolExecutor(count, thread_name_prefix="grid")
            self._process = os.getpid()
        return self._pool

    def close(self) -> None:
        """End the threads."""
        if self._pool is not None and self._process == os.getpid():
            self._pool.shutdown()
        self._pool = None

"""An actor on a Ray cluster, seen from the controller."""

from __future__ import annotations

import os
import sys
import threading
import time
from contextlib import suppress
from typing import Any

from guerdon.agents.ray_node import Node
from guerdon.agents.training import Work
from guerdon.harmless import harmless

LOOK_S = 0.5
"""Seconds that an actor waits for news before it says that there are none."""

SILENCE_S = 120.0
"""Seconds without a word after which an actor counts as lost."""

_GOODBYE_S = 10.0
"""Seconds that an actor may take to kill its workers and clean up."""


class Gone(Exception):
    """An actor is lost, with what it did."""

    def __init__(self, text: str, *, memory: bool = False) -> None:
        super().__init__(text)
        self.memory = memory


class Closed(Exception):
    """The pool was closed meanwhile."""


class Actor:
    """A ``Node`` on the cluster, and what the controller does to it."""

    def __init__(self, ray: Any, closed: threading.Event) -> None:
        self._ray, self._closed = ray, closed
        self._place = ray.remote(Node).options(
            num_cpus=1, max_restarts=0, max_task_retries=0, scheduling_strategy="SPREAD"
        )
        self._handle: Any = None

    def open(self, function: str, deadline_s: float, populations_only: bool) -> bytes:
        """Have it made ready, as soon as the cluster has room."""
        self._handle = self._place.remote()
        paths = [os.path.abspath(path) for path in sys.path]
        answer = self._handle.open.remote(function, deadline_s, paths, populations_only)
        return bytes(self._answer(answer, None))

    def begin(self, work: Work, files: dict[str, bytes]) -> None:
        """Hand it work, with the files that it goes on with."""
        payload = work.to_json().encode()
        asked = self._handle.begin.remote(payload, list(files), *files.values())
        self._answer(asked, SILENCE_S)

    def look(self) -> list[bytes]:
        """Its news."""
        parts = self._answer(self._handle.look.remote(LOOK_S), SILENCE_S)
        if not isinstance(parts, list) or any(type(p) is not bytes for p in parts):
            raise Gone("an actor that does not answer in bytes")
        return parts

    def _answer(self, asked: Any, patience: float | None) -> Any:
        """What it answers.

        Raises:
            Gone: when it is dead, raises an error, or is silent for too long.
            Closed: when the pool is closed meanwhile.
        """
        end = None if patience is None else time.monotonic() + patience
        errors = self._ray.exceptions
        try:
            while not self._ray.wait([asked], timeout=LOOK_S)[0]:
                if self._closed.is_set():
                    raise Closed
                if end is not None and time.monotonic() > end:
                    raise Gone(f"a node that was silent for {patience:g} seconds")
            return self._ray.get(asked)
        except errors.RayError as error:
            words = harmless(" ".join(str(error).split()))[:500]
            memory = isinstance(error, errors.OutOfMemoryError)
            raise Gone(f"a node or its actor died: {words}", memory=memory) from error

    def dismiss(self) -> None:
        """Have it kill its workers and clean up, then end it."""
        with suppress(self._ray.exceptions.RayError):  # it may be dead already
            self._ray.wait([self._handle.close.remote()], timeout=_GOODBYE_S)
        self.kill()

    def kill(self) -> None:
        """End it; its workers die with it."""
        if self._handle is not None:
            with suppress(self._ray.exceptions.RayError):
                self._ray.kill(self._handle)

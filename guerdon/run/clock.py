"""How long the workers of a run were busy, and how long they waited for what."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from guerdon.llm.client import Answer, Chat, Request


class Clock:
    """Adds up the time of a number of places for trainings, from now on.

    A place is busy while it has work, and else waits: for the model while one writes,
    else for trainings in other places or for the search itself. The three are all the
    time that there is: places x time on the clock.

    Args:
        places: trainings at a time.
        now: seconds; tests bring their own.
    """

    def __init__(self, places: int, now: Callable[[], float] = time.monotonic) -> None:
        self._places, self._now = places, now
        self._lock = threading.Lock()
        self._began = self._last = now()
        self._busy = self._writing = 0
        self._seconds = dict.fromkeys(("busy", "model", "waiting"), 0.0)

    def trainings(self, count: int) -> None:
        """So many trainings or populations are under way from now on."""
        with self._lock:
            self._advance()
            self._busy = min(count, self._places)

    @contextmanager
    def model(self) -> Iterator[None]:
        """A model writes inside."""
        self._write(1)
        try:
            yield
        finally:
            self._write(-1)

    def read(self) -> tuple[float, dict[str, float]]:
        """Seconds on the clock, and of all places by what they did."""
        with self._lock:
            self._advance()
            return self._last - self._began, dict(self._seconds)

    def _write(self, change: int) -> None:
        with self._lock:
            self._advance()
            self._writing += change

    def _advance(self) -> None:
        """Book the time since the last change; under the lock."""
        now = self._now()
        gone, self._last = now - self._last, now
        self._seconds["busy"] += gone * self._busy
        why = "model" if self._writing else "waiting"
        self._seconds[why] += gone * (self._places - self._busy)


class TimedChat:
    """A chat whose time a clock knows.

    Args:
        inner: answers.
        clock: of the run.
    """

    def __init__(self, inner: Chat, clock: Clock) -> None:
        self._inner, self._clock = inner, clock

    @property
    def model(self) -> str:
        """Identity of the model."""
        return self._inner.model

    def chat(self, request: Request) -> Answer:
        """Answer one request.

        Raises:
            ModelError: when there is no usable answer.
        """
        with self._clock.model():
            return self._inner.chat(request)

    def close(self) -> None:
        """Free what the chat holds."""
        self._inner.close()

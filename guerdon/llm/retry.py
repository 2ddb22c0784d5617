"""Patience with endpoints that fail, and an end to it."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from typing import Protocol

from guerdon.llm.client import Answer, Chat, ModelError, Request

Clock = Callable[[], float]


class Watch(Protocol):
    """Told what the caller of a chat does not see."""

    def again(self, request: Request, error: ModelError, seconds: float) -> None:
        """A call failed after some seconds and will be repeated."""

    def breaker(self, is_open: bool, reason: str) -> None:
        """The endpoint is left alone from now on, or answers again."""


class Unwatched:
    """Tells nobody."""

    def again(self, request: Request, error: ModelError, seconds: float) -> None:
        """Nobody is told."""

    def breaker(self, is_open: bool, reason: str) -> None:
        """Nobody is told."""


class Breaker:
    """Stops asking an endpoint that fails every time.

    After ``limit`` failed calls in a row it is open: ``check`` raises at once. After
    ``cool_down`` seconds it lets one call through; success closes it.

    Args:
        limit: failed calls in a row that open it, at least 1.
        cool_down: seconds that it stays open.
        clock: seconds that only grow.

    Raises:
        ValueError: for a number out of range.
    """

    def __init__(
        self, limit: int = 5, cool_down: float = 60.0, clock: Clock = time.monotonic
    ) -> None:
        if limit < 1 or not cool_down > 0:
            raise ValueError(
                f"breaker: expected limit >= 1 and cool_down > 0, got {limit} and "
                f"{cool_down}"
            )
        self.limit = limit
        self.cool_down = cool_down
        self._clock = clock
        self._lock = threading.Lock()
        self._failures = 0
        self._open_until = -float("inf")

    def check(self) -> None:
        """Let a call through or refuse it.

        Raises:
            ModelError: kind ``breaker``, while the breaker is open.
        """
        with self._lock:
            if self._failures < self.limit:
                return
            now = self._clock()
            if now < self._open_until:
                raise ModelError(
                    f"the endpoint failed {self._failures} times in a row; it is left "
                    f"alone for another {self._open_until - now:.0f} s",
                    "breaker",
                )
            # This call is the trial; the others wait for its result.
            self._open_until = now + self.cool_down

    def succeeded(self) -> bool:
        """A call came back with an answer; whether that closed the breaker."""
        with self._lock:
            was_open = self._failures >= self.limit
            self._failures = 0
            return was_open

    def failed(self) -> bool:
        """A call failed after all its attempts; whether that opened the breaker."""
        with self._lock:
            self._failures += 1
            self._open_until = self._clock() + self.cool_down
            return self._failures == self.limit


class Retrying:
    """A chat that asks again when the failure may pass.

    The wait doubles from ``base_delay`` and is drawn between half and all of that, so
    that many clients do not come back at once. ``Retry-After`` is kept to, but makes no
    wait shorter; a server that asks for more than ``max_delay`` is not waited for.

    Args:
        chat: what answers.
        attempts: calls per request, at least 1.
        base_delay: seconds before the second attempt.
        max_delay: longest wait in seconds.
        seed: seed of the jitter.
        breaker: when to stop asking at all.
        sleep: waits for some seconds.
        watch: told of calls that are repeated, and of the breaker.

    Raises:
        ValueError: for less than one attempt.
    """

    def __init__(
        self,
        chat: Chat,
        *,
        attempts: int = 4,
        base_delay: float = 1.0,
        max_delay: float = 60.0,
        seed: int = 0,
        breaker: Breaker | None = None,
        sleep: Callable[[float], None] = time.sleep,
        watch: Watch | None = None,
    ) -> None:
        if attempts < 1:
            raise ValueError(f"attempts: expected at least 1, got {attempts}")
        self._chat = chat
        self.attempts = attempts
        self.base_delay = base_delay
        self.max_delay = max_delay
        self._random = random.Random(seed)
        self._lock = threading.Lock()
        self._breaker = breaker or Breaker()
        self._sleep = sleep
        self._watch = watch or Unwatched()
        self._closed = False

    @property
    def model(self) -> str:
        """Identity of the model."""
        return self._chat.model

    def chat(self, request: Request) -> Answer:
        """Answer one request, in as many attempts as it takes and may take.

        Raises:
            ModelError: from the last attempt, or from the open breaker.
        """
        self._breaker.check()
        attempt = 0
        while True:
            attempt += 1
            started = time.perf_counter()
            try:
                answer = self._chat.chat(request)
            except ModelError as error:
                delay = self._delay(error, attempt)
                if self._closed:
                    raise
                if delay is None:
                    # A budget that ran out says nothing about the endpoint.
                    if error.kind != "budget" and self._breaker.failed():
                        self._watch.breaker(True, str(error))
                    raise
                self._watch.again(request, error, time.perf_counter() - started)
            else:
                if self._breaker.succeeded():
                    self._watch.breaker(False, "")
                return answer
            self._sleep(delay)
            if self._closed:
                # Asked now, it would be bought for nobody.
                raise ModelError("the chat was closed between two attempts", "server")

    def close(self) -> None:
        """Close the chat inside, and ask no more."""
        self._closed = True
        self._chat.close()

    def _delay(self, error: ModelError, attempt: int) -> float | None:
        """Seconds until the next attempt; None when there is none."""
        if not error.retryable or attempt >= self.attempts:
            return None
        with self._lock:
            jitter = self._random.uniform(0.5, 1.0)
        delay = min(self.max_delay, self.base_delay * 2.0 ** (attempt - 1)) * jitter
        if error.retry_after is None:
            return delay
        # "At once" from a server that fails is no leave to hammer it.
        late = error.retry_after > self.max_delay
        return None if late else max(delay, error.retry_after)

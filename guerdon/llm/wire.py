"""The way to a server: one HTTP call that ends in time, in bounded memory.

A timeout of an HTTP library is for one read, so a server that sends one byte a second
holds a call for ever, in its headers as well as in its body. Libraries also read the
body of an error to its end, and unpack what a server says is compressed. None of that
is left to the server here.
"""

from __future__ import annotations

import importlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any, Self

from guerdon.closing import Closing
from guerdon.llm.client import ModelError

BODY_CAP = 4 << 20
"""Most bytes of a response that are read."""


class Deadline(Closing):
    """Ends an HTTP call at a moment, whatever the server is doing.

    Use it as a context manager around the call.

    Args:
        end: moment on the monotonic clock, in seconds.
    """

    def __init__(self, end: float) -> None:
        self.end = end
        self.answering = False
        """The server has begun to answer, and not with an error."""
        self.connected = False
        """There was a connection, so the server may have read the request."""
        self._lock = threading.Lock()
        self._over = False
        self._socket: socket.socket | None = None
        self._timer = threading.Timer(self.left, self._expire)
        self._timer.daemon = True

    @property
    def left(self) -> float:
        """Seconds until the end."""
        return max(0.0, self.end - time.monotonic())

    @property
    def passed(self) -> bool:
        """Whether the end has come."""
        return time.monotonic() >= self.end

    def __enter__(self) -> Self:
        self._timer.start()
        return super().__enter__()

    def close(self) -> None:
        """The call has ended by itself."""
        self._timer.cancel()
        with self._lock:
            self._socket = None

    def trace(self, name: str, info: dict[str, Any]) -> None:
        """Told by the HTTP library what it does; learns the socket."""
        if not name.endswith(("connect_tcp.complete", "start_tls.complete")):
            return
        with self._lock:
            self.connected = True
            self._socket = info["return_value"].get_extra_info("socket")
            if self._over:
                self._shut()

    def _expire(self) -> None:
        with self._lock:
            self._over = True
            self._shut()

    def _shut(self) -> None:
        """Wake whoever reads; closing alone would leave it asleep."""
        if self._socket is not None:
            with suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)


def http_client(openai: Any, *, local: bool, current: Callable[[], Deadline]) -> Any:
    """An HTTP client for the openai package.

    Args:
        openai: the package.
        local: the server is on our own machine.
        current: the deadline of the call that this thread is making.
    """

    def begin(request: Any) -> None:
        request.extensions["trace"] = current().trace

    def bound(response: Any) -> None:
        deadline = current()
        deadline.answering = response.status_code < 300
        packed = response.headers.get("content-encoding", "identity")
        if packed.strip().lower() not in ("", "identity"):
            # A few kilobytes of it may unpack to as many gigabytes.
            raise ModelError(
                "the server sent a compressed answer, which it was not asked for",
                "malformed",
                retryable=True,
            )
        # What a server calls its text is a codec of Python's, and some of them raise.
        response.encoding = "utf-8"
        room = importlib.import_module(type(response).__module__.partition(".")[0])
        response.stream = _bounded(room.SyncByteStream, response.stream, deadline)

    return openai.DefaultHttpxClient(
        # A proxy has no business with our own machine, and a redirect none with our
        # key.
        trust_env=not local,
        follow_redirects=False,
        headers={"Accept-Encoding": "identity"},
        # A new connection for every call: its socket is known, and never stale.
        limits=_limits(openai),
        event_hooks={"request": [begin], "response": [bound]},
    )


def _limits(openai: Any) -> Any:
    room = openai.DefaultHttpxClient.__mro__[1].__module__.partition(".")[0]
    return importlib.import_module(room).Limits(max_keepalive_connections=0)


def _bounded(base: type, stream: Any, deadline: Deadline) -> Any:
    """A stream of ``base`` that gives up on too many bytes and at the deadline."""

    class Bounded(base):  # type: ignore[misc]
        def __iter__(self) -> Iterator[bytes]:
            size = 0
            for chunk in stream:
                size += len(chunk)
                if size > BODY_CAP:
                    raise ModelError(
                        f"the server sent more than {BODY_CAP >> 20} MiB", "malformed"
                    )
                if deadline.passed:
                    raise ModelError(
                        "the server was still sending its answer at the deadline",
                        "timeout",
                        retryable=True,
                    )
                yield chunk

        def close(self) -> None:
            stream.close()

    return Bounded()

"""The controller's side of the jail: asks, listens, kills, and believes nothing."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path

from guerdon.closing import Closing
from guerdon.jail.confine import Limits
from guerdon.jail.job import GRACE, Answer, Disobedient, JailError, Job
from guerdon.jail.layers import Layer, missing
from guerdon.jail.zygote import ENVIRONMENT, MAX_MESSAGE, READY

_START_SECONDS = 120.0
_SEND_SECONDS = 30.0

# An isolated interpreter does not look where this one found Guerdon; unbuffered, so
# that no job prints what the server has begun to.
_START = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "from guerdon.jail.zygote import main; main()"
)


class TooLarge(ValueError):
    """A payload that no message to the server holds."""


class Jail(Closing):
    """A server that forks confined jobs, and the only way to talk to it.

    Args:
        preload: modules that the server imports once, so that jobs start warm.
        layers: what this machine can enforce; None asks ``probe``.

    Jobs may run side by side, from several threads. Use it as a context manager:
    leaving it kills what still runs. When this process dies, all jobs die.

    Raises:
        JailError: when a layer is missing, with its name and what helps; or the server
            does not start.
    """

    def __init__(
        self, preload: tuple[str, ...] = (), layers: list[Layer] | None = None
    ) -> None:
        absent = missing(layers)
        if absent:
            raise JailError(
                "the jail refuses to run without "
                + "; ".join(
                    f"{layer.name} ({layer.detail}): {layer.fix}" for layer in absent
                )
            )
        self._lock = threading.Lock()
        self._closed = False
        with ExitStack() as opened:
            try:
                self._control, theirs = socket.socketpair(
                    socket.AF_UNIX, socket.SOCK_SEQPACKET
                )
                opened.callback(self._control.close)
                with theirs:
                    # A nameless file for what the server prints while it starts.
                    self._errors = opened.enter_context(tempfile.TemporaryFile())
                    self._server = self._spawn(theirs)
            except OSError as error:
                raise JailError(f"the jail's server did not start: {error}") from error
            opened.pop_all()
        try:
            self._wait_until_ready(preload)
        except BaseException:
            self.close()
            raise

    def _spawn(self, control: socket.socket) -> subprocess.Popen[bytes]:
        paths = json.dumps([path for path in sys.path if path])
        return subprocess.Popen(
            [sys.executable, "-I", "-u", "-c", _START, paths],
            stdin=control.fileno(),
            stdout=self._errors,
            stderr=self._errors,
            env=ENVIRONMENT,
            cwd="/",
            close_fds=True,
            start_new_session=True,
        )

    def _wait_until_ready(self, preload: tuple[str, ...]) -> None:
        self._control.settimeout(_START_SECONDS)
        start = {"preload": preload, "parent": os.getpid()}
        try:
            self._control.sendall(json.dumps(start).encode())
            reason = "" if self._control.recv(16) == READY else "it died"
        except OSError as error:
            reason = str(error)
        if reason:
            self._errors.seek(0)
            tail = self._errors.read().decode(errors="replace")[-2000:].strip()
            raise JailError(f"the jail's server did not start: {reason}\n{tail}")
        # Should the server hang, asking it must not hang too.
        self._control.settimeout(_SEND_SECONDS)

    @property
    def pid(self) -> int:
        """Process id of the server."""
        return self._server.pid

    def run(
        self,
        function: str,
        payload: str,
        limits: Limits | None = None,
        *,
        progress: Callable[[float], None] | None = None,
        cancelled: threading.Event | None = None,
    ) -> Answer:
        """One job, from its start to its end; when this returns or raises, it is dead.

        Args:
            function: ``module:name`` of trusted code that gets the payload before the
                jail is shut, and gives a function of a callback for progress that is
                called afterwards and gives a list of bytes.
            payload: text for it.
            limits: what it may use.
            progress: told the share that is done, 0 to 1, by what the job claims.
            cancelled: kills the job when set.

        Raises:
            JailError: when the server is gone.
            OSError: when this process can make no folder, or open nothing more; or the
                machine cannot fork the job, or not shut the jail around it.
            TooLarge: for a payload that is.
        """
        limits = Limits() if limits is None else limits
        with tempfile.TemporaryDirectory(
            prefix="guerdon-jail-", ignore_cleanup_errors=True
        ) as scratch:
            for place in range(limits.scratch_files):
                Path(scratch, str(place)).touch()
            message = _request(function, payload, limits, scratch)
            return self._hear(message, Job.open(limits, progress), cancelled)

    def _hear(
        self,
        message: bytes,
        opened: tuple[Job, ExitStack, list[int]],
        cancelled: threading.Event | None,
    ) -> Answer:
        """Ask for a job and hear it out; it is dead afterwards, come what may."""
        job, theirs, descriptors = opened
        try:
            with theirs:
                self._ask(message, descriptors)
            return job.listen(cancelled, self._alive)
        except BaseException as error:
            # Ctrl-C, a callback that raises, a server that is broken.
            if isinstance(error, Disobedient):
                self._server.kill()
            job.kill()
            job.wait(GRACE)
            raise
        finally:
            job.close()

    def _ask(self, message: bytes, descriptors: list[int]) -> None:
        with self._lock:
            if self._closed:
                raise JailError("the jail is closed")
            try:
                socket.send_fds(self._control, [message], descriptors)
            except OSError as error:
                raise JailError(f"the jail's server is gone ({error})") from error

    def _alive(self) -> bool:
        return self._server.poll() is None

    def close(self) -> None:
        """Kill the server and every job."""
        with self._lock:
            self._closed = True
            self._control.close()
        # It kills its jobs when the socket closes; should it hang, the kernel does.
        try:
            self._server.wait(timeout=2)
        except subprocess.TimeoutExpired:
            self._server.kill()
            self._server.wait()
        self._errors.close()


def _request(function: str, payload: str, limits: Limits, scratch: str) -> bytes:
    """A message to the server.

    Raises:
        TooLarge: for a payload that is.
    """
    message = json.dumps(
        {
            "function": function,
            "payload": payload,
            "limits": asdict(limits),
            "scratch": scratch,
        }
    ).encode()
    if len(message) > MAX_MESSAGE:
        raise TooLarge(
            f"jail: expected a request of at most {MAX_MESSAGE} bytes, got "
            f"{len(message)}"
        )
    return message

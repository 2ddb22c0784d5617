"""A Ray cluster to train on: somebody's, or one of this machine alone.

Whoever reaches the ports of a cluster runs what he likes in it. One that is started
here therefore listens to this machine only, asks for a token, and ends with the process
that started it; and of the environment it knows no more than a worker does.
"""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

from guerdon.agents.server import worker_environment
from guerdon.extras import require
from guerdon.harmless import harmless

STORE_BYTES = 80 * 2**20
"""Memory for messages of a cluster that is started here, near the least Ray accepts."""

_ANSWER_S = 10.0
"""Seconds in which a cluster answers, if there is one."""

_OURS = {
    # It would send what it knows of this machine to its makers.
    "RAY_USAGE_STATS_ENABLED": "0",
    # Under "uv run" it would send the whole working directory to the nodes.
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
    # What Ray will do by itself; until it does, it warns.
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}

_LOCAL = {
    # Addresses inside this machine, as on systems where Ray knows no clusters.
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    # Who is killed for want of memory is the system's choice, as without Ray.
    "RAY_memory_monitor_refresh_ms": "0",
    "RAY_AUTH_MODE": "token",
}

_EARLY = (
    "ray: it was imported before Guerdon could shut it off from the network; import it "
    "later, or call ray.init yourself, and the trainings run on that cluster"
)

_shut = threading.Event()
"""Set once Ray was imported here in the environment of a cluster for this machine."""


class Cluster:
    """A connection to Ray; the one that this process has already, if there is one.

    Args:
        address: ``HOST:PORT`` or ``auto`` for a cluster that this machine is part of;
            None for the one in the environment's ``RAY_ADDRESS``, or for a new one of
            this machine alone.
        cpus: processors of a new one; it starts one training on each.

    Raises:
        MissingExtra: when Ray is not installed.
        ValueError: for an address that Ray would only reach by a client of its own; and
            where a new cluster would be open to others, since Ray was imported already.
        OSError: when there is no cluster at the address, or none can be started.
    """

    def __init__(self, address: str | None, cpus: int) -> None:
        wanted = require_address(address)
        early = "ray" in sys.modules and not _shut.is_set()
        self._folder: str | None = None
        with _environment(local=wanted is None):
            self.ray: Any = require("ray", "ray")
            self._ours = not self.ray.is_initialized()
            if self._ours and wanted is None:
                if early:
                    raise ValueError(_EARLY)
                _shut.set()
                # Sockets lie there, and the system bounds the length of their paths.
                self._folder = tempfile.mkdtemp(prefix="g")
                # What is struck down there leaves its files in it.
                os.environ["TMPDIR"] = self._folder
            if self._ours:
                self._connect(wanted, cpus)

    def _connect(self, address: str | None, cpus: int) -> None:
        settings: dict[str, Any] = {"address": address}
        if address is None:
            settings = {
                "address": "local",
                "num_cpus": cpus,
                "num_gpus": 0,
                "object_store_memory": STORE_BYTES,
                "include_dashboard": False,
                "_temp_dir": self._folder,
            }
        try:
            if address is not None:
                _require_answer(address)
            with _own_signals():
                self.ray.init(log_to_driver=False, configure_logging=False, **settings)
        except (
            *(OSError, RuntimeError, ValueError, AssertionError),
            self.ray.exceptions.RayError,
        ) as error:
            self.leave()
            raise OSError(_refusal(address, error)) from error
        except BaseException:
            self.leave()
            raise

    def leave(self) -> None:
        """End the connection, and the cluster with it if it was started here."""
        if self._ours:
            with _own_signals():
                self.ray.shutdown()
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)


def require_address(address: str | None) -> str | None:
    """The address of the cluster that is meant, or None for a new one.

    Raises:
        ValueError: for the address of a Ray client.
    """
    found = address or os.environ.get("RAY_ADDRESS") or None
    if found is not None and "://" in found:
        raise ValueError(
            f"ray_address: expected HOST:PORT or auto, got {found!r}; run the search "
            "on a machine that has joined the cluster (ray start --address=HOST:PORT)"
        )
    return None if found == "local" else found


def _require_answer(address: str) -> None:
    """Ray itself would wait for minutes for a cluster that is not there.

    Raises:
        OSError: when nobody listens at ``HOST:PORT``.
        ValueError: for an address of another form.
    """
    host, _, port = address.rpartition(":")
    if address != "auto":
        socket.create_connection((host.strip("[]"), int(port)), _ANSWER_S).close()


def _refusal(address: str | None, error: Exception) -> str:
    reason = harmless(" ".join(str(error).split()))[:500] or type(error).__name__
    if address is None:
        return f"ray: no cluster could be started on this machine ({reason})"
    return (
        f"ray: no cluster at {address} ({reason}); give the address of one that this "
        "machine has joined (ray start --address=HOST:PORT), or none for one of this "
        "machine alone"
    )


@cache
def _token() -> str:
    """Ray remembers the first token of a process, so there is one for each."""
    return secrets.token_hex(32)


@contextmanager
def _environment(*, local: bool) -> Iterator[None]:
    """What Ray sees of the environment, and hands on to what it starts.

    Ray reads part of it when it is imported, and part when it connects. A cluster that
    runs already has an environment of its own, and is sent nothing of this one.
    """
    ours = _OURS | (_LOCAL | {"RAY_AUTH_TOKEN": _token()} if local else {})
    changed = (*ours, "TMPDIR") if local else ours
    saved = dict(os.environ)
    try:
        if local:
            with worker_environment():
                os.environ.update(ours)
                yield
        else:
            os.environ.update(ours)
            yield
    finally:
        for name in changed:
            os.environ.pop(name, None)
        os.environ.update(saved)


@contextmanager
def _own_signals() -> Iterator[None]:
    """Ray puts a handler of its own in the place of ours; put ours back."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before or signal.SIG_DFL)

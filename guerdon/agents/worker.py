"""What runs in a worker process; see ``guerdon.agents.workers``."""

from __future__ import annotations

import ctypes
import importlib
import os
import signal
import sys
import threading
from multiprocessing import forkserver
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from guerdon.agents.allocator import keep_freed_memory
from guerdon.agents.training import Trouble, outcome_to_json
from guerdon.faults import machine_fault
from guerdon.types import Failure

MAX_ANSWER = 8 * 2**20
"""Bytes of the largest answer."""

_PR_SET_PDEATHSIG = 1
"""From Linux's prctl.h."""


def serve(connection: Connection, function: str, folder: str, stderr: str) -> None:
    """Run one job and wait to be killed.

    The worker leaves its death to the controller even after its answer: as long as
    it lives, nobody else can own its process group.

    Args:
        connection: gives the job and takes messages: ``P`` and a share of progress,
            or ``R`` and the answer, which may be the machine's trouble.
        function: ``module:name`` of the job function.
        folder: where the job writes its files.
        stderr: file that takes everything that is printed.
    """
    os.setsid()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _die_with_server()
    keep_freed_memory()
    try:
        payload = connection.recv_bytes()
    except EOFError:  # the controller was gone before it said what to do
        os._exit(0)
    threading.Thread(target=_watch, args=(connection,), daemon=True).start()

    def progress(share: float) -> None:
        connection.send_bytes(b"P%.4f" % share)

    try:
        _print_to(stderr)
        module, _, name = function.partition(":")
        job = getattr(importlib.import_module(module), name)
        answer = job(payload, Path(folder), progress)
    except Exception as error:
        fault = machine_fault(error, Path(folder))
        if fault is None:
            raise
        answer = outcome_to_json(Trouble.of(fault)).encode()
    if len(answer) > MAX_ANSWER:
        reason = f"answer of {len(answer)} bytes; the limit is {MAX_ANSWER}"
        answer = outcome_to_json(Failure("crashed", reason)).encode()
    connection.send_bytes(b"R" + answer)
    threading.Event().wait()


def _watch(connection: Connection) -> None:
    """Die with everything that was started here once the controller is gone."""
    try:
        connection.recv_bytes()
    finally:
        os.killpg(0, signal.SIGKILL)


def _print_to(path: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.close(descriptor)


def _die_with_server() -> None:
    """Have the kernel kill this process when the server it was forked from ends.

    The server ends when nobody holds its lifeline any more. Every worker inherits
    it, to start processes of its own through the server; a worker that lets go of
    it leaves it to the controller alone.
    """
    if not sys.platform.startswith("linux"):
        return
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    server: Any = forkserver._forkserver
    lifeline = server._forkserver_alive_fd
    if lifeline is not None:
        os.close(lifeline)
        server._forkserver_alive_fd = None

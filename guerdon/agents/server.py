"""The server that workers are forked from, without the user's keys."""

from __future__ import annotations

import multiprocessing
import multiprocessing.forkserver
import multiprocessing.resource_tracker
import os
import platform
import signal
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

from guerdon.agents.child import serialised
from guerdon.environment import names_secret

_PASSED = (
    *("PATH", "HOME", "USER", "LANG", "LC_", "TZ", "TMP", "TEMP", "XDG_", "GUERDON_"),
    *("PYTHON", "VIRTUAL_ENV", "CONDA_PREFIX", "LD_LIBRARY_PATH", "DYLD_", "COVERAGE"),
    *("NUMBA_", "TORCH_", "CUDA_", "MUJOCO_", "SDL_", "PYGAME_", "PYOPENGL_", "EGL_"),
    *("LIBGL_", "MESA_", "DISPLAY", "WAYLAND_DISPLAY"),
)
"""Names or prefixes of what a worker may see of the environment; no key is there."""

_ADDRESS = "/pymp-12345678/listener-12345678"
"""Where multiprocessing puts the socket of its server, below the temporary folder."""

_MOST_ADDRESS = 107 if sys.platform == "linux" else 103
"""Bytes of ``sun_path`` without the last, see unix(7) and, for BSD, unix(4)."""

_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


def server_pid() -> int | None:
    """Process id of the server; another one stands for another server."""
    pid: int | None = multiprocessing.forkserver._forkserver._forkserver_pid  # type: ignore[attr-defined]
    return pid


def server_died() -> bool:
    """Whether the server is gone, as when memory ran out; leaves it to be buried.

    macOS cannot tell before Python 3.13; there its death is a worker's.
    """
    pid = server_pid()
    if pid is None or not hasattr(os, "waitid"):
        return False
    with serialised:
        try:
            flags = os.WEXITED | os.WNOHANG | os.WNOWAIT
            return os.waitid(os.P_PID, pid, flags) is not None
        except ChildProcessError:
            return False  # another thread has just replaced it


def absent_here() -> list[str]:
    """What the workers of a search need and this platform does not have."""
    there = {
        "a fork server": "forkserver" in multiprocessing.get_all_start_methods(),
        "sessions": hasattr(os, "setsid"),
        "process groups": hasattr(os, "killpg"),
    }
    return [name for name, found in there.items() if not found]


def require_workers() -> None:
    """Refuse where no worker process could be started.

    Raises:
        OSError: where the platform lacks what workers need.
    """
    absent = absent_here()
    if absent:
        # Without a number of the system: nothing is wrong with disk or memory.
        raise OSError(
            f"{platform.system()} lacks here what worker processes need: "
            f"{', '.join(absent)}; search on Linux (a virtual machine or a container). "
            "guerdon check, and guerdon train with rewards in the language, need none"
        )


def start_server(populations_only: bool = False) -> None:
    """Start the server that workers are forked from, without the user's keys.

    Args:
        populations_only: do not load what training with SB3 takes, which is half of
            four seconds; a worker that trains so all the same then loads it by itself.
            Nothing changes for a server that runs already.

    Raises:
        OSError: where the platform lacks what workers need, or the path of the folder
            for temporary files is too long.
    """
    require_workers()
    _require_short_address()
    with serialised, worker_environment(), _deaf_to_ctrl_c():
        context = multiprocessing.get_context("forkserver")
        # Two modules, since the jail's own server never trains populations.
        sb3 = [] if populations_only else ["guerdon.agents.preload"]
        context.set_forkserver_preload([*sb3, "guerdon.agents.preload_populations"])
        multiprocessing.forkserver.ensure_running()


def _require_short_address() -> None:
    """The server listens at a path, of which the system takes no more than this."""
    folder = tempfile.gettempdir()
    most = _MOST_ADDRESS - len(_ADDRESS)
    length = len(os.fsencode(folder))
    if length > most:
        # Without a number of the system: nothing is wrong with disk or memory.
        raise OSError(
            f"{folder}: the path of the folder for temporary files has {length} bytes, "
            f"and worker processes need one of at most {most}; set TMPDIR to a shorter "
            "one (TMPDIR=/tmp)"
        )


@contextmanager
def _deaf_to_ctrl_c() -> Iterator[None]:
    """What is started meanwhile never hears Ctrl-C: its death is the controller's.

    The server ignores it by itself, but only after seconds of imports.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    # Its start would let the signal through again.
    multiprocessing.resource_tracker.ensure_running()
    old = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, old)


@contextmanager
def worker_environment() -> Iterator[None]:
    """What workers see of the environment, for the moment of starting the server."""
    saved = dict(os.environ)
    for name in saved:
        if not name.startswith(_PASSED) or names_secret(name):
            del os.environ[name]
    os.environ.update(dict.fromkeys(_THREADS, "1"))
    try:
        yield
    finally:
        for name in _THREADS:
            os.environ.pop(name, None)
        os.environ.update(saved)

"""Which layers of the jail this machine can enforce: tried out, not guessed.

Every layer is put on in a process of its own, which then tries what it forbids.
"""

from __future__ import annotations

import errno
import json
import mmap
import os
import platform
import select
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import NoReturn

from guerdon.jail import confine, landlock, seccomp
from guerdon.jail.zygote import ENVIRONMENT

_SECONDS = 120.0
_ATTEMPT_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer, as it was found.

    Args:
        name: what it is called.
        ok: it was put on, and held.
        detail: what was seen.
        fix: what would bring it, when it is missing.
    """

    name: str
    ok: bool
    detail: str
    fix: str = ""


class _Leak(Exception):
    """The layer could be put on but let something through."""


def missing(layers: list[Layer] | None = None) -> list[Layer]:
    """The layers without which nothing may run in the jail; none when it is whole.

    Args:
        layers: what ``probe`` found; a layer that is not among them counts as missing.
    """
    found = probe() if layers is None else layers
    absent = [layer for layer in found if not layer.ok]
    names = {layer.name for layer in found}
    unknown = [
        Layer(name, False, "not probed", "ask guerdon.jail.probe()")
        for name in ("machine", *_ATTEMPTS)
        if name not in names
    ]
    return absent or unknown


def probe() -> list[Layer]:
    """All layers, tried out now; the first call of a process takes about a second."""
    return list(_probe())


@lru_cache(maxsize=1)
def _probe() -> tuple[Layer, ...]:
    if not sys.platform.startswith("linux"):
        return (
            Layer(
                "linux",
                False,
                f"this is {platform.system()}",
                "use Linux (a virtual machine or a container) for full-Python rewards; "
                "rewards in the language need no jail and work here",
            ),
        )
    start = (
        "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
        "from guerdon.jail.layers import main; main()"
    )
    paths = json.dumps([path for path in sys.path if path])
    try:
        found = subprocess.run(
            [sys.executable, "-I", "-c", start, paths],
            capture_output=True,
            timeout=_SECONDS,
            check=True,
            env=ENVIRONMENT,
        )
        rows = json.loads(found.stdout)
    except (OSError, subprocess.SubprocessError, ValueError) as error:
        said = getattr(error, "stderr", None) or b""
        detail = f"{type(error).__name__}: {said.decode(errors='replace')[-300:]}"
        fix = "let Python start processes of its own, and read its own files"
        return (Layer("probe", False, detail.strip(": \n"), fix),)
    return tuple(Layer(**row) for row in rows)


def main() -> None:
    """Try everything and print the rows as JSON."""
    print(json.dumps([asdict(layer) for layer in _try_all()]))


def _try_all() -> list[Layer]:
    known = seccomp.machine() is not None
    other = "use Linux on x86_64 or aarch64, whose system calls the jail knows"
    rows = [Layer("machine", known, platform.machine(), "" if known else other)]
    for name, (attempt, fix) in _ATTEMPTS.items():
        ok, detail = _apart(attempt)
        fix = fix if known or name not in _BY_NUMBER else other
        rows.append(Layer(name, ok, detail, "" if ok else fix))
    return rows


def _apart(attempt: Callable[[], str]) -> tuple[bool, str]:
    """What ``attempt`` says in a process of its own."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        _say(attempt, write)
    os.close(write)
    said = b""
    with os.fdopen(read, "rb", buffering=0) as pipe:
        while select.select([pipe], [], [], _ATTEMPT_SECONDS)[0]:
            if not (data := pipe.read(500)):
                break
            said += data
        else:
            said = f"nothing for {_ATTEMPT_SECONDS:g} seconds".encode()
    for kill in (os.killpg, os.kill):
        with suppress(ProcessLookupError, PermissionError):
            # Nothing when it has ended; it is ours until we wait for it.
            kill(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    ok = status == 0
    if os.WIFSIGNALED(status) and not said:
        said = f"killed by signal {os.WTERMSIG(status)}".encode()
    return ok, said.decode(errors="replace")


def _say(attempt: Callable[[], str], write: int) -> NoReturn:
    code = 1
    try:
        os.setpgid(0, 0)
        detail, code = attempt(), 0
    except BaseException as error:
        detail = f"{type(error).__name__}: {error}"
    with suppress(OSError):
        os.write(write, detail.encode(errors="replace")[:500])
    os._exit(code)


def _forbidden(act: Callable[[], object], what: str, *numbers: int) -> None:
    """``act`` must fail with one of the error numbers."""
    try:
        act()
    except OSError as error:
        if error.errno in numbers:
            return
        raise
    raise _Leak(f"{what} was still possible")


def _try_no_new_privileges() -> str:
    confine.no_new_privileges()
    if confine.has_new_privileges():
        raise _Leak("the kernel does not show it")
    return "set"


def _try_landlock() -> str:
    confine.no_new_privileges()
    abi = landlock.version()
    landlock.restrict(["/dev/null"], [])
    os.close(os.open("/dev/null", os.O_RDONLY))
    _forbidden(lambda: os.open(__file__, os.O_RDONLY), "reading", errno.EACCES)
    _forbidden(lambda: os.open("/", os.O_RDONLY), "listing", errno.EACCES)
    _forbidden(
        lambda: os.open("/tmp/guerdon-probe", os.O_CREAT | os.O_WRONLY),
        "writing",
        errno.EACCES,
    )
    return f"interface {abi}"


def _try_seccomp() -> str:
    import fcntl  # not on Windows

    confine.no_new_privileges()
    read, _ = os.pipe()
    seccomp.install()
    _forbidden(socket.socket, "a socket", errno.EPERM)
    _forbidden(lambda: fcntl.fcntl(read, fcntl.F_SETOWN, 1), "F_SETOWN", errno.EPERM)
    _forbidden(lambda: os.kill(os.getppid(), 0), "a signal", errno.EPERM)
    _forbidden(
        lambda: mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_EXEC),
        "executable memory",
        errno.EPERM,
    )
    return "filter holds"


def _try_limits() -> str:
    with tempfile.TemporaryFile() as file:
        confine.set_limits(confine.Limits(memory=1 << 30, scratch_size=4096))
        _forbidden(lambda: mmap.mmap(-1, 2 << 30), "2 GiB of memory", errno.ENOMEM)
        _forbidden(lambda: os.ftruncate(file.fileno(), 8192), "a file", errno.EFBIG)
        _forbidden(
            lambda: [os.open("/dev/null", os.O_RDONLY) for _ in range(128)],
            "opening many files",
            errno.EMFILE,
        )
    return "memory, files and their size"


def _try_capabilities() -> str:
    confine.drop_capabilities()
    if confine.has_capabilities():
        raise _Leak("some are left")
    return "none left"


def _try_parent_death() -> str:
    """A job must die with the server that forked it."""
    read, write = os.pipe()
    server = os.fork()
    if server == 0:
        _serve_and_die(write)
    os.close(write)
    os.waitpid(server, 0)
    said = os.read(read, 500)
    if said != _ASKED:
        raise _Leak(said.decode(errors="replace") or "it could not be tried")
    # The pipe closes when the last holder of its other end, the job, is dead.
    if not select.select([read], [], [], _ATTEMPT_SECONDS / 2)[0]:
        raise _Leak("a job outlived its server")
    return "jobs die with their server"


def _serve_and_die(write: int) -> NoReturn:
    """Fork a job, and end when it has asked to die with us."""
    parent = os.getpid()
    asked, ask = os.pipe()
    if os.fork() == 0:
        try:
            confine.die_with_parent(parent)
            os.write(write, _ASKED)
        except OSError as error:
            os.write(write, str(error).encode())
            os._exit(1)
        os.close(ask)
        while True:
            signal.pause()
    os.close(ask)
    os.read(asked, 1)
    os._exit(0)


def _try_descriptors() -> str:
    if not os.listdir("/proc/self/fd") or not os.listdir("/proc/self/task"):
        raise _Leak("/proc is empty")
    return "/proc lists them, and threads"


_BY_NUMBER = ("seccomp", "capabilities")
"""Layers of system calls whose numbers depend on the machine."""

_ASKED = b"asked"
_KERNEL = "use Linux 5.13 or newer with Landlock among the active security modules"

_ATTEMPTS: dict[str, tuple[Callable[[], str], str]] = {
    "no_new_privs": (_try_no_new_privileges, "use Linux 3.5 or newer"),
    "landlock": (
        _try_landlock,
        f"{_KERNEL} (lsm=landlock,...); in a container, let its seccomp profile pass "
        "landlock_create_ruleset, landlock_add_rule and landlock_restrict_self",
    ),
    "seccomp": (
        _try_seccomp,
        "use a kernel with CONFIG_SECCOMP_FILTER; in a container, let its profile pass "
        "the call seccomp",
    ),
    "rlimits": (
        _try_limits,
        "let processes lower their own limits (prlimit64) and write to the folder for "
        "temporary files",
    ),
    "capabilities": (_try_capabilities, "let processes give up capabilities (capset)"),
    "parent_death": (_try_parent_death, "let processes call prctl(PR_SET_PDEATHSIG)"),
    "descriptors": (_try_descriptors, "mount /proc"),
}

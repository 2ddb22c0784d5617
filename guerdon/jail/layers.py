"""Which layers of the jail this machine can enforce: tried out, not guessed.

Every layer is put on in a process of its own, which then tries what it forbids.
"""

from __future__ import annotations

import errno
import fcntl
import json
import mmap
import os
import platform
import resource
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import lru_cache

from guerdon.jail import confine, landlock, seccomp

_SECONDS = 60.0


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
    """The layers without which nothing may run in the jail; none when it is whole."""
    return [layer for layer in (probe() if layers is None else layers) if not layer.ok]


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
        )
        rows = json.loads(found.stdout)
    except (OSError, subprocess.SubprocessError, ValueError) as error:
        return (Layer("probe", False, f"could not run: {error}", "see the message"),)
    return tuple(Layer(**row) for row in rows)


def main() -> None:
    """Try everything and print the rows as JSON."""
    print(json.dumps([asdict(layer) for layer in _try_all()]))


def _try_all() -> list[Layer]:
    known = seccomp.machine()
    rows = [
        Layer(
            "machine",
            known is not None,
            platform.machine(),
            "the filter of system calls is written for x86_64 and aarch64 only",
        )
    ]
    for name, (attempt, fix) in _ATTEMPTS.items():
        ok, detail = _apart(attempt)
        rows.append(Layer(name, ok, detail, "" if ok else fix))
    return rows


def _apart(attempt: Callable[[], str]) -> tuple[bool, str]:
    """What ``attempt`` says in a process of its own."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            detail, code = attempt(), 0
        except BaseException as error:
            detail = f"{type(error).__name__}: {error}"
        with suppress(OSError):
            os.write(write, detail.encode(errors="replace")[:500])
        os._exit(code)
    os.close(write)
    with os.fdopen(read, "rb") as pipe:
        said = pipe.read().decode(errors="replace")
    _, status = os.waitpid(pid, 0)
    code = os.waitstatus_to_exitcode(status)
    if code < 0:
        return False, f"the probe was killed by {signal.Signals(-code).name}"
    return code == 0, said


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
    with open("/proc/self/status") as status:
        if "NoNewPrivs:\t1" not in status.read():
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
    confine.no_new_privileges()
    read, _ = os.pipe()
    seccomp.install()
    _forbidden(socket.socket, "a socket", errno.EPERM)
    _forbidden(lambda: fcntl.fcntl(read, fcntl.F_SETOWN, 1), "F_SETOWN", errno.EPERM)
    _forbidden(lambda: os.kill(os.getppid(), 0), "a signal", errno.EPERM)
    _forbidden(os.setsid, "leaving the group", errno.EPERM)
    _forbidden(
        lambda: mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_EXEC),
        "executable memory",
        errno.EPERM,
    )
    return "filter holds"


def _try_limits() -> str:
    resource.setrlimit(resource.RLIMIT_NOFILE, (8, 8))
    _forbidden(
        lambda: [os.open("/dev/null", os.O_RDONLY) for _ in range(16)],
        "opening many files",
        errno.EMFILE,
    )
    resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))
    _forbidden(lambda: mmap.mmap(-1, 2 << 30), "2 GiB of memory", errno.ENOMEM)
    return "memory and files"


def _try_capabilities() -> str:
    confine.drop_capabilities()
    with open("/proc/self/status") as status:
        lines = dict(line.split(":", 1) for line in status if ":" in line)
    left = [name for name in ("CapEff", "CapPrm") if int(lines[name], 16)]
    if left:
        raise _Leak(f"{', '.join(left)} not empty")
    return "none left"


def _try_parent_death() -> str:
    """A grandchild must die with the process that forked it."""
    read, write = os.pipe()
    middle = os.fork()
    if middle == 0:
        if os.fork() == 0:
            confine.die_with_parent(os.getppid())
            os.write(write, b"x")
            signal.pause()
        os.read(read, 1)
        os._exit(0)
    os.close(write)
    os.waitpid(middle, 0)
    # The pipe closes when the last holder of its other end, the grandchild, is dead.
    os.read(read, 1)
    return "jobs die with their server"


def _try_descriptors() -> str:
    if not os.listdir("/proc/self/fd") or not os.listdir("/proc/self/task"):
        raise _Leak("/proc is empty")
    return "/proc lists them"


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
    "rlimits": (_try_limits, "let processes lower their own limits (prlimit64)"),
    "capabilities": (_try_capabilities, "let processes give up capabilities (capset)"),
    "parent_death": (_try_parent_death, "let processes call prctl(PR_SET_PDEATHSIG)"),
    "descriptors": (_try_descriptors, "mount /proc"),
}

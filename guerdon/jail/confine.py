"""All layers put on, in the order in which each still permits the next.

After ``confine`` the process can compute, read the libraries, write to a few files that
exist already, and use the descriptors that it holds; and nothing else, for ever.
"""

from __future__ import annotations

import ctypes
import errno
import os
import signal
import struct
import sys
import sysconfig
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from guerdon.jail import landlock, seccomp
from guerdon.jail.syscalls import CAPGET, CAPSET

PR_SET_PDEATHSIG, PR_SET_DUMPABLE = 1, 4
PR_SET_NO_NEW_PRIVS, PR_GET_NO_NEW_PRIVS = 38, 39
_CAPABILITY_VERSION_3 = 0x20080522

_COUNTS = {
    "cpu_seconds": (1, 1 << 31),
    "memory": (1, 1 << 48),
    "answer": (1, (1 << 32) - 1),
    "scratch_files": (0, 32),
    "scratch_size": (1, 1 << 40),
}
"""Least and most of each limit that is a whole number."""

_shut = False


@dataclass(frozen=True, slots=True)
class Limits:
    """What a job may use.

    Args:
        seconds: wall-clock seconds after which it is killed.
        cpu_seconds: processor seconds after which it is killed.
        memory: bytes of address space; torch alone takes about 1 GiB.
        answer: bytes of the largest answer, all parts together.
        scratch_files: files that it may write, made beforehand: ``0``, ``1``, ...
        scratch_size: bytes of each of them.

    Raises:
        TypeError: for something that is no number, or not a whole one.
        ValueError: for a number that is no limit.
    """

    seconds: float = 3600.0
    cpu_seconds: int = 3600
    memory: int = 4 << 30
    answer: int = 64 << 20
    scratch_files: int = 4
    scratch_size: int = 16 << 20

    def __post_init__(self) -> None:
        if isinstance(self.seconds, bool) or not isinstance(self.seconds, float | int):
            raise TypeError(f"seconds: expected a number, got {self.seconds!r}")
        if not 0 < self.seconds <= sys.float_info.max:
            raise ValueError(
                f"seconds: expected a finite number above 0, got {self.seconds}"
            )
        for name, (least, most) in _COUNTS.items():
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int):
                raise TypeError(f"{name}: expected a whole number, got {value!r}")
            if not least <= value <= most:
                raise ValueError(f"{name}: expected {least} to {most}, got {value}")


def die_with_parent(parent: int) -> None:
    """Have the kernel kill this process when ``parent``, which forked it, ends."""
    _prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def confine(limits: Limits, scratch: Sequence[str]) -> None:
    """Give up everything that a computation does not need, for good.

    Args:
        limits: rlimits to set.
        scratch: existing files that may be written.

    Raises:
        OSError: when one layer cannot be put on; the process must end then.
    """
    threads = os.listdir("/proc/self/task")
    if len(threads) > 1:
        # Landlock holds for the thread that asks for it.
        raise OSError(errno.EBUSY, f"{len(threads)} threads run; expected one")
    set_limits(limits)
    drop_capabilities()
    no_new_privileges()
    _prctl(PR_SET_DUMPABLE, 0)
    landlock.restrict(readable(), scratch)
    seccomp.install()
    global _shut
    _shut = True


def is_confined() -> bool:
    """Whether ``confine`` has shut the jail around this process."""
    return _shut


def no_new_privileges() -> None:
    """No program that is started from here gains rights that we do not have."""
    _prctl(PR_SET_NO_NEW_PRIVS, 1)


def has_new_privileges() -> bool:
    """Whether programs that are started from here may still gain rights."""
    return _prctl(PR_GET_NO_NEW_PRIVS, 0) != 1


def drop_capabilities() -> None:
    """Give up the powers of root, where there are any."""
    _capabilities(CAPSET, ctypes.create_string_buffer(24))


def has_capabilities() -> bool:
    """Whether any power of root is left, in use or to be taken up."""
    held = ctypes.create_string_buffer(24)
    _capabilities(CAPGET, held)
    # Effective, permitted and inheritable, 32 bits of each, twice.
    sets = struct.unpack("=6I", held.raw)
    return any(sets[place] for place in (0, 1, 3, 4))


def _capabilities(call: tuple[int, int], sets: ctypes.Array[ctypes.c_char]) -> None:
    here = seccomp.machine()
    if here is None:
        raise OSError(errno.ENOSYS, "unknown machine")
    libc = ctypes.CDLL(None, use_errno=True)
    header = struct.pack("=Ii", _CAPABILITY_VERSION_3, 0)
    if libc.syscall(ctypes.c_long(call[here.column]), header, sets) != 0:
        name = "capset" if call == CAPSET else "capget"
        raise OSError(ctypes.get_errno(), f"{name} failed")


@cache
def readable() -> tuple[str, ...]:
    """Where Python, the libraries and this package are, and three devices.

    Not the whole of ``sys.prefix`` or ``/usr``: people keep their projects, and the
    keys to them, in such places as ``/usr/src/app``.
    """
    paths = {"/dev/null", "/dev/urandom", "/proc/cpuinfo"}
    prefixes = ("/", "/usr", sys.prefix, sys.base_prefix, sys.exec_prefix)
    paths |= {os.path.join(p, lib) for p in prefixes for lib in ("lib", "lib64")}
    names = ("stdlib", "platstdlib", "purelib", "platlib")
    paths |= {sysconfig.get_path(name) for name in names}
    packages = ("site-packages", "dist-packages")
    paths |= {path for path in sys.path if Path(path).name in packages}
    paths.add(str(Path(__file__).parents[1]))
    return tuple(sorted(path for path in paths if path not in ("", "/")))


def first_to_go() -> None:
    """When memory runs out, let the kernel take this process, not a better one."""
    with suppress(OSError), open("/proc/self/oom_score_adj", "w") as score:
        score.write("1000")


def set_limits(limits: Limits) -> None:
    """Bound what this process may use, for good.

    Raises:
        OSError: when the kernel refuses.
        ValueError: when the kernel refuses.
    """
    import resource  # not on Windows

    for what, value in (
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_CPU, limits.cpu_seconds),
        (resource.RLIMIT_NOFILE, 64),
        (resource.RLIMIT_FSIZE, limits.scratch_size),
        (resource.RLIMIT_MEMLOCK, 0),
        (resource.RLIMIT_MSGQUEUE, 0),
        (resource.RLIMIT_AS, limits.memory),
    ):
        hard = resource.getrlimit(what)[1]
        if hard != resource.RLIM_INFINITY:
            value = min(value, hard)
        resource.setrlimit(what, (value, value))


def _prctl(option: int, value: int) -> int:
    libc = ctypes.CDLL(None, use_errno=True)
    longs = [ctypes.c_long(v) for v in (option, value, 0, 0, 0)]
    result = int(libc.prctl(*longs))
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"prctl {option}: {os.strerror(number)}")
    return result

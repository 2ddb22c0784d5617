"""The filter of system calls: an allow-list, written as classic BPF by hand.

What is not named fails with EPERM. Neither processes nor threads may start: nothing
but the number of processes of a user bounds threads, and nothing at all those of root.
Memory that is there stays as executable as it is, none becomes so; signals reach only
the process itself; files are a matter of Landlock.

Reference:
    Linux ``Documentation/userspace-api/seccomp_filter.rst``.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct
from typing import NamedTuple

from guerdon.jail.syscalls import (
    ABSENT,
    ARCHITECTURES,
    CHECKED,
    DEADLY,
    PLAIN,
    SECCOMP,
    Architecture,
)

ALLOW = 0x7FFF0000
KILL = 0x80000000
ERRNO = 0x00050000

LOAD, AND = 0x20, 0x54
EQUAL, AT_LEAST, RETURN = 0x15, 0x35, 0x06

# Linux's numbers, not those of the system that this file happens to be read on.
EPERM, EAGAIN, ENOSYS = 1, 11, 38
_PROT_EXEC = 0x4
_CLONE_THREAD = 0x10000
_PR_SET_NAME, _PR_GET_NAME = 15, 16
_O_ACCMODE, _O_TRUNC, _O_ASYNC = 0o3, 0o1000, 0o20000
_F_SETFL = 4
_FCNTL = (0, 1, 2, 3, 1030)
"""F_DUPFD, F_GETFD, F_SETFD, F_GETFL, F_DUPFD_CLOEXEC.

No F_SETOWN, F_SETSIG, F_SETLEASE or F_NOTIFY: they send signals elsewhere.
"""
_IOCTL = (0x5401, 0x5413, 0x541B, 0x5421, 0x5450, 0x5451)
"""TCGETS, TIOCGWINSZ, FIONREAD, FIONBIO, FIONCLEX, FIOCLEX."""

_SET_MODE_FILTER, _FLAG_TSYNC = 1, 1


class Instruction(NamedTuple):
    """One instruction of classic BPF."""

    code: int
    if_true: int
    if_false: int
    k: int


def machine() -> Architecture | None:
    """What the filter knows about this machine; None when it knows nothing."""
    if struct.calcsize("P") != 8:
        return None
    return ARCHITECTURES.get(platform.machine())


def program(pid: int, here: Architecture) -> list[Instruction]:
    """The filter for the process ``pid``."""
    lines = [
        _load(4),
        Instruction(EQUAL, 1, 0, here.audit),
        _give(KILL),
        _load(0),
    ]
    if here.foreign is not None:
        lines += [Instruction(AT_LEAST, 0, 1, here.foreign), _give(KILL)]

    def on(names: dict[str, tuple[int | None, int | None]], verdict: int) -> None:
        for numbers in names.values():
            number = numbers[here.column]
            if number is not None:
                lines.extend((Instruction(EQUAL, 0, 1, number), _give(verdict)))

    on(PLAIN, ALLOW)
    on(ABSENT, ERRNO | ENOSYS)
    on(DEADLY, KILL)
    for name, block in _checks(pid).items():
        number = CHECKED[name][here.column]
        if number is not None:
            lines += [Instruction(EQUAL, 0, len(block), number), *block]
    return [*lines, _give(ERRNO | EPERM)]


def _checks(pid: int) -> dict[str, list[Instruction]]:
    """Blocks that end in a verdict for every call of ``CHECKED``."""
    allow = _give(ALLOW)
    return {
        "mmap": [*_without(2, _PROT_EXEC), allow],
        "mprotect": [*_without(2, _PROT_EXEC), allow],
        "clone": _no_process(),
        "tgkill": _one_of(0, (pid,)),
        "fcntl": _file_control(),
        "ioctl": _one_of(1, _IOCTL),
        "prctl": _one_of(0, (_PR_SET_NAME, _PR_GET_NAME)),
        # Limits of oneself may be looked at, not set.
        "prlimit64": [*_zero(0), *_zero(2), allow],
        "open": _opening(1),
        "openat": _opening(2),
    }


def _no_process() -> list[Instruction]:
    """Without threads most libraries go on with one; a process is no accident."""
    return [
        _argument(0),
        Instruction(AND, 0, 0, _CLONE_THREAD),
        Instruction(EQUAL, 0, 1, _CLONE_THREAD),
        _give(ERRNO | EAGAIN),
        _give(KILL),
    ]


def _file_control() -> list[Instruction]:
    """Harmless commands, and flags but the one that has signals sent."""
    flags = Instruction(AND, 0, 0, _O_ASYNC)
    none = Instruction(EQUAL, 0, 1, 0)
    set_flags = [_argument(2), flags, none, _give(ALLOW), _deny()]
    return [
        _argument(1),
        Instruction(EQUAL, 0, len(set_flags), _F_SETFL),
        *set_flags,
        *_one_of(1, _FCNTL),
    ]


def _opening(flags: int) -> list[Instruction]:
    """Any flags but two, which argument number ``flags`` holds.

    Old Landlocks let a file be emptied by who opens it to read, and every Landlock
    lets the access mode 3 (neither read nor write) reach the driver of a device.
    """
    return [
        _argument(flags),
        Instruction(AND, 0, 0, _O_ACCMODE | _O_TRUNC),
        *_refuse(_O_TRUNC),
        *_refuse(_O_ACCMODE),
        *_refuse(_O_ACCMODE | _O_TRUNC),
        _give(ALLOW),
    ]


def _without(argument: int, bits: int) -> list[Instruction]:
    """Deny an argument with one of the bits; else go on."""
    masked = Instruction(AND, 0, 0, bits)
    return [_argument(argument), masked, Instruction(EQUAL, 1, 0, 0), _deny()]


def _refuse(value: int) -> list[Instruction]:
    """Deny what is loaded if it is ``value``; else go on."""
    return [Instruction(EQUAL, 0, 1, value), _deny()]


def _one_of(argument: int, values: tuple[int, ...]) -> list[Instruction]:
    """Allow these values of an argument and no other."""
    tests = [(Instruction(EQUAL, 0, 1, value), _give(ALLOW)) for value in values]
    return [_argument(argument), *(step for test in tests for step in test), _deny()]


def _zero(argument: int) -> list[Instruction]:
    """Deny an argument that is not zero, all 64 bits of it; else go on."""
    halves = (_argument(argument), _argument(argument, high=True))
    return [s for h in halves for s in (h, Instruction(EQUAL, 1, 0, 0), _deny())]


def _load(offset: int) -> Instruction:
    return Instruction(LOAD, 0, 0, offset)


def _argument(place: int, high: bool = False) -> Instruction:
    """Load half of a 64-bit argument of the call; both machines are little-endian."""
    return _load(16 + 8 * place + 4 * high)


def _give(verdict: int) -> Instruction:
    return Instruction(RETURN, 0, 0, verdict)


def _deny() -> Instruction:
    return _give(ERRNO | EPERM)


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_void_p))


def install() -> None:
    """Filter the system calls of all threads of this process, for good.

    ``no_new_privs`` must be set.

    Raises:
        OSError: when the kernel refuses, or the machine is unknown.
    """
    here = machine()
    if here is None:
        raise OSError(errno.ENOSYS, f"no filter for {platform.machine()}")
    lines = program(os.getpid(), here)
    raw = b"".join(struct.pack("=HBBI", *line) for line in lines)
    buffer = ctypes.create_string_buffer(raw, len(raw))
    whole = _Program(len(lines), ctypes.addressof(buffer))
    libc = ctypes.CDLL(None, use_errno=True)
    result = libc.syscall(
        ctypes.c_long(SECCOMP[here.column]),
        ctypes.c_uint(_SET_MODE_FILTER),
        ctypes.c_uint(_FLAG_TSYNC),
        ctypes.byref(whole),
    )
    if result != 0:
        number = ctypes.get_errno() if result < 0 else errno.EBUSY
        raise OSError(number, f"seccomp: {os.strerror(number)}")

"""The filter against an interpreter and a table that know nothing of its source."""

from __future__ import annotations

import itertools
import random

import pytest

from guerdon.jail import seccomp
from guerdon.jail.syscalls import ARCHITECTURES
from tests.jail import bpf

PID = 4321
ALLOW, KILL = 0x7FFF0000, 0x80000000
EPERM, EAGAIN, ENOSYS = (0x00050000 | number for number in (1, 11, 38))

# Read off asm/unistd_64.h and asm-generic/unistd.h, each by its own names.
FREE = {
    "x86_64": {
        *(0, 1, 3, 4, 5, 6, 7, 8, 11, 12, 13, 14, 15, 17, 18, 19, 20, 21, 23, 24, 25),
        *(28, 32, 33, 35, 39, 60, 63, 74, 75, 77, 79, 89, 96, 97, 98, 99, 100, 102),
        *(104, 107, 108, 110, 111, 121, 124, 131, 143, 145, 146, 147, 186, 201, 202),
        *(204, 217, 218, 219, 228, 229, 230, 231, 262, 267, 269, 270, 271, 273, 292),
        *(309, 318, 332, 334, 439),
    },
    "aarch64": {
        *(17, 23, 24, 46, 48, 57, 61, 62, 63, 64, 65, 66, 67, 68, 72, 73, 78, 79, 80),
        *(82, 83, 93, 94, 96, 98, 99, 101, 113, 114, 115, 120, 121, 123, 124, 125),
        *(126, 128, 132, 134, 135, 139, 153, 155, 156, 160, 163, 165, 168, 169, 172),
        *(173, 174, 175, 176, 177, 178, 179, 214, 215, 216, 233, 278, 291, 293, 439),
    },
}
FATAL = {
    "x86_64": {57, 58, 59, 101, 165, 248, 249, 250, 272, 298, 308, 321, 322, 425},
    "aarch64": {40, 97, 117, 217, 218, 219, 221, 241, 268, 280, 281, 425},
}
UNKNOWN = {435, 437}
JUDGED = {
    "x86_64": {
        "mmap": 9,
        "mprotect": 10,
        "clone": 56,
        "tgkill": 234,
        "fcntl": 72,
        "ioctl": 16,
        "prctl": 157,
        "prlimit64": 302,
        "open": 2,
        "openat": 257,
    },
    "aarch64": {
        "mmap": 222,
        "mprotect": 226,
        "clone": 220,
        "tgkill": 131,
        "fcntl": 25,
        "ioctl": 29,
        "prctl": 167,
        "prlimit64": 261,
        "openat": 56,
    },
}
AUDIT = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}


def verdict(machine: str, number: int, arguments: tuple[int, ...] = ()) -> int:
    lines = seccomp.program(PID, ARCHITECTURES[machine])
    return bpf.run(lines, number, arguments, AUDIT[machine])


def policy(name: str, a: tuple[int, ...]) -> int:
    """What DESIGN says, in terms of the arguments as the kernel takes them."""
    low = [value % (1 << 32) for value in a]
    if name in ("mmap", "mprotect"):
        return EPERM if a[2] & 4 else ALLOW
    if name == "clone":
        return EAGAIN if a[0] & 0x10000 else KILL
    if name == "tgkill":
        return ALLOW if low[0] == PID else EPERM
    if name == "fcntl":
        if low[1] == 4:
            return EPERM if a[2] & 0o20000 else ALLOW
        return ALLOW if low[1] in (0, 1, 2, 3, 1030) else EPERM
    if name == "ioctl":
        terminal = (0x5401, 0x5413)
        plain = (0x541B, 0x5421, 0x5450, 0x5451)
        return ALLOW if low[1] in terminal + plain else EPERM
    if name == "prctl":
        return ALLOW if low[0] in (15, 16) else EPERM
    if name == "prlimit64":
        return ALLOW if a[0] == a[2] == 0 else EPERM
    flags = a[1] if name == "open" else a[2]
    mode, empties = flags & 3, flags & 0o1000
    return EPERM if mode == 3 or (mode == 0 and empties) else ALLOW


@pytest.mark.parametrize("machine", AUDIT)
def test_every_number_has_the_verdict_of_the_table(machine: str) -> None:
    judged = set(JUDGED[machine].values())
    for number in range(601):
        if number in judged:
            continue
        expected = EPERM
        if number in FREE[machine]:
            expected = ALLOW
        elif number in FATAL[machine]:
            expected = KILL
        elif number in UNKNOWN:
            expected = ENOSYS
        for a in ((0,) * 6, (2**64 - 1,) * 6):
            assert verdict(machine, number, a) == expected, (number, a)


INTERESTING = (
    *(0, 1, 2, 3, 4, 5, 7, 8, 9, 10, 11, 15, 16, 22, 38),
    *(0o1000, 0o1001, 0o1002, 0o1003, 0o20000, 0o20002, 0o101, 0o20200000),
    *(1026, 1030, 1031, 0x5401, 0x5412, 0x5413, 0x541B, 0x5421, 0x5450, 0x5451),
    *(0x5452, 0x8901, 0x10000, 0x3D0F00, 0x10010000, 0x40010000, 0x11, 0x4111),
    *(PID, PID + 1, -PID, 1 << 32, (1 << 32) | PID, (1 << 32) | 4, (1 << 63), -1),
)


@pytest.mark.parametrize("machine", AUDIT)
def test_arguments_are_judged_as_the_policy_says(machine: str) -> None:
    lines = seccomp.program(PID, ARCHITECTURES[machine])
    draw = random.Random(0)
    for name, number in JUDGED[machine].items():
        pairs = list(itertools.product(INTERESTING, repeat=2))
        for first, second in pairs:
            other = draw.choice(INTERESTING)
            for a in (
                (first, second, other, other, other, other),
                (other, first, second, other, other, other),
                (first, other, second, other, other, other),
            ):
                a = tuple(value % (1 << 64) for value in a)
                found = bpf.run(lines, number, a, AUDIT[machine])
                assert found == policy(name, a), (name, a)


@pytest.mark.parametrize("machine", AUDIT)
def test_the_arguments_that_are_allowed_exist(machine: str) -> None:
    """An oracle for the oracle: what Python and the libraries do every day."""
    on = JUDGED[machine]
    assert verdict(machine, on["mmap"], (0, 4096, 3, 0x22)) == ALLOW
    assert verdict(machine, on["openat"], (-100, 1, 0o2000000)) == ALLOW
    assert verdict(machine, on["openat"], (-100, 1, 0o1101, 0o666)) == ALLOW
    assert verdict(machine, on["tgkill"], (PID, PID, 6)) == ALLOW
    assert verdict(machine, on["prlimit64"], (0, 7, 0, 1 << 40)) == ALLOW


@pytest.mark.parametrize("machine", AUDIT)
def test_another_architecture_is_killed_whatever_it_asks_for(machine: str) -> None:
    lines = seccomp.program(PID, ARCHITECTURES[machine])
    i386, arm, mips = 0x40000003, 0x40000028, 0x8
    others = {*AUDIT.values(), i386, arm, mips, 0} - {AUDIT[machine]}
    for other in others:
        for number in (0, 1, 39, 60, 120, 400):
            assert bpf.run(lines, number, (), other) == KILL


def test_numbers_of_the_x32_convention_are_killed() -> None:
    for number in (0, 1, 39, 59, 257, 520):
        assert verdict("x86_64", 0x40000000 | number) == KILL
    assert verdict("x86_64", -1) == KILL


@pytest.mark.parametrize("machine", AUDIT)
def test_a_kernel_would_load_it(machine: str) -> None:
    lines = seccomp.program(PID, ARCHITECTURES[machine])
    assert len(lines) <= 4096
    assert lines[-1].code == 0x06
    for at, (code, if_true, if_false, k) in enumerate(lines):
        assert 0 <= k < 1 << 32
        if code in (0x15, 0x35):
            assert 0 <= if_true < 256
            assert 0 <= if_false < 256
            assert at + 1 + max(if_true, if_false) < len(lines)
        else:
            assert if_true == if_false == 0

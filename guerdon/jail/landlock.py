"""What a process may open, by the kernel's Landlock; raw system calls, no library.

Reference:
    Linux ``Documentation/userspace-api/landlock.rst``.
"""

from __future__ import annotations

import ctypes
import errno
import os
import stat
import struct
from collections.abc import Iterable

from guerdon.jail.syscalls import LANDLOCK

EXECUTE, WRITE_FILE, READ_FILE, READ_DIR = 1 << 0, 1 << 1, 1 << 2, 1 << 3
TRUNCATE = 1 << 14

_RIGHTS = {1: (1 << 13) - 1, 2: (1 << 14) - 1, 3: (1 << 15) - 1, 5: (1 << 16) - 1}
"""All rights on files, by the version that brought them."""

_CREATE_VERSION = 1
_RULE_PATH_BENEATH = 1


def version() -> int:
    """Version of Landlock's interface; 0 when the kernel has none or hides it."""
    found = _call(LANDLOCK[0], None, 0, _CREATE_VERSION)
    return max(found, 0)


def restrict(readable: Iterable[str], writable: Iterable[str]) -> None:
    """Let this thread, and those it starts, open nothing else, for good.

    ``no_new_privs`` must be set. What is open already stays open.

    Args:
        readable: files, and folders with all that is in them.
        writable: existing files that may also be written. No file can be made,
            renamed or deleted anywhere.

    Raises:
        OSError: when the kernel refuses.
    """
    abi = version()
    if abi < 1:
        raise OSError(errno.ENOSYS, "Landlock is not available")
    rights = _RIGHTS[max(known for known in _RIGHTS if known <= abi)]
    # Versions 4 and 6 add TCP ports and signals: with no rule, all are denied.
    fields = [rights, *([3] if abi >= 4 else []), *([3] if abi >= 6 else [])]
    attributes = struct.pack(f"={len(fields)}Q", *fields)
    ruleset = _checked(_call(LANDLOCK[0], attributes, len(attributes), 0))
    try:
        for path in readable:
            _allow(ruleset, path, (READ_FILE | READ_DIR) & rights)
        for path in writable:
            _allow(ruleset, path, (READ_FILE | WRITE_FILE | TRUNCATE) & rights)
        _checked(_call(LANDLOCK[2], ruleset, 0))
    finally:
        os.close(ruleset)


def _allow(ruleset: int, path: str, rights: int) -> None:
    try:
        opened = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        # What cannot be reached now cannot be read later either.
        return
    try:
        if not stat.S_ISDIR(os.fstat(opened).st_mode):
            rights &= READ_FILE | WRITE_FILE | TRUNCATE
        rule = struct.pack("=Qi", rights, opened)
        _checked(_call(LANDLOCK[1], ruleset, _RULE_PATH_BENEATH, rule, 0))
    finally:
        os.close(opened)


def _call(number: int, *arguments: int | bytes | None) -> int:
    libc = ctypes.CDLL(None, use_errno=True)
    whole = [a if not isinstance(a, int) else ctypes.c_long(a) for a in arguments]
    return int(libc.syscall(ctypes.c_long(number), *whole))


def _checked(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"Landlock: {os.strerror(number)}")
    return result

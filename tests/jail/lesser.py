"""A command on a machine with less than this one.

    python -m tests.jail.lesser '{"deny": [["seccomp"], 1, null]}' COMMAND...

What is taken away stays away from every process that the command starts.
"""

from __future__ import annotations

import ctypes
import json
import os
import sys
from collections.abc import Callable
from typing import Any

from tests.jail.deny import deny

_PER_LINUX32 = 0x0008
_CLONE_NEWNS, _CLONE_NEWUSER = 0x00020000, 0x10000000
_MS_REC, _MS_PRIVATE = 16384, 1 << 18
_NOBODY = 65534


def _checked(result: int) -> None:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def pretend_32_bits() -> None:
    """Have the system call its machine one of 32 bits, for which there is no filter."""
    _checked(ctypes.CDLL(None, use_errno=True).personality(_PER_LINUX32))


def hide_proc() -> None:
    """Put an empty file system over /proc, in a view that only we have."""
    libc = ctypes.CDLL(None, use_errno=True)
    if os.geteuid() != 0:
        _checked(libc.unshare(_CLONE_NEWUSER | _CLONE_NEWNS))
    else:
        _checked(libc.unshare(_CLONE_NEWNS))
    _checked(libc.mount(b"none", b"/", None, _MS_REC | _MS_PRIVATE, None))
    _checked(libc.mount(b"none", b"/proc", b"tmpfs", 0, None))


def become_nobody() -> None:
    """Lose the rights of root; Python's own files may belong to root alone."""
    if os.geteuid() != 0:
        return
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_CLONE_NEWUSER) < 0:
        os.setgroups([])
        os.setresgid(_NOBODY, _NOBODY, _NOBODY)
        os.setresuid(_NOBODY, _NOBODY, _NOBODY)


TAKE: dict[str, Callable[..., None]] = {
    "deny": deny,
    "32 bits": pretend_32_bits,
    "proc": hide_proc,
    "root": become_nobody,
}


def main() -> None:
    """Take away, and become the command."""
    what: dict[str, Any] = json.loads(sys.argv[1])
    for name, arguments in what.items():
        TAKE[name](*arguments)
    os.execv(sys.argv[2], sys.argv[2:])


if __name__ == "__main__":
    main()

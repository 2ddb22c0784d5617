"""What the C library does with memory that an agent lets go of."""

from __future__ import annotations

import ctypes
import sys

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD = -1, -2, -3
"""From glibc's malloc.h."""

_LARGEST = 1 << 25
"""Bytes; glibc takes no larger threshold for memory of its own."""


def keep_freed_memory() -> bool:
    """Let this process keep what it frees, for the next array of that size.

    A gradient is some arrays of a megabyte, made and thrown away thousands of times.
    glibc gives each back to the system, and the system gives fresh pages for the next:
    a tenth to a quarter of a training. For processes that are there to train, since
    what they once needed they hold to their end.

    Returns:
        Whether the C library does so; elsewhere than with glibc nothing changes.
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    wanted = {_MMAP_THRESHOLD: _LARGEST, _TRIM_THRESHOLD: 1 << 30, _TOP_PAD: 1 << 26}
    return mallopt is not None and all(mallopt(*pair) for pair in wanted.items())

"""Classic BPF, interpreted: what a kernel would make of a filter of system calls."""

from __future__ import annotations

import struct
from collections.abc import Sequence

MASK = (1 << 32) - 1


def run(
    program: Sequence[tuple[int, int, int, int]],
    number: int,
    arguments: Sequence[int],
    architecture: int,
) -> int:
    """The verdict on one call.

    Raises:
        ValueError: where a kernel would refuse to load the filter.
    """
    six = [a % (1 << 64) for a in (*arguments, *[0] * 6)][:6]
    data = struct.pack("<IIQ6Q", number % (1 << 32), architecture, 0, *six)
    accumulator, at = 0, 0
    for _ in range(len(program)):
        if at >= len(program):
            raise ValueError("it runs over its end")
        code, if_true, if_false, k = program[at]
        at += 1
        if code == 0x06:  # return a constant
            return k
        if code == 0x20:  # load an aligned word
            if k % 4 or not 0 <= k <= len(data) - 4:
                raise ValueError(f"it reads at {k}")
            (accumulator,) = struct.unpack_from("<I", data, k)
        elif code == 0x54:
            accumulator &= k & MASK
        elif code == 0x15:
            at += if_true if accumulator == k else if_false
        elif code == 0x35:
            at += if_true if accumulator >= k else if_false
        else:
            raise ValueError(f"unknown instruction {code:#x}")
    raise ValueError("it gives no verdict")

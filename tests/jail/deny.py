"""A machine with less than this one: filters that refuse, or only pretend, to obey."""

from __future__ import annotations

import ctypes
import json
import struct
import sys

_CALLS = {
    "x86_64": {
        "landlock_create_ruleset": 444,
        "landlock_restrict_self": 446,
        "seccomp": 317,
        "capset": 126,
        "prctl": 157,
        "prlimit64": 302,
        "setrlimit": 160,
        "getdents64": 217,
        "clone": 56,
    },
    "aarch64": {
        "landlock_create_ruleset": 444,
        "landlock_restrict_self": 446,
        "seccomp": 277,
        "capset": 91,
        "prctl": 167,
        "prlimit64": 261,
        "setrlimit": 164,
        "getdents64": 61,
        "clone": 220,
    },
}


def deny(calls: list[str], error: int, first: int | None = None) -> None:
    """Let calls fail with an error number; 0 has them do nothing and say all is well.

    Args:
        calls: names.
        error: error number.
        first: only where the first argument is this.
    """
    import platform

    numbers = [_CALLS[platform.machine()][name] for name in calls]
    lines: list[tuple[int, int, int, int]] = []
    for number in numbers:
        lines += [(0x20, 0, 0, 0)]
        if first is None:
            lines += [(0x15, 0, 1, number)]
        else:
            lines += [(0x15, 0, 3, number), (0x20, 0, 0, 16), (0x15, 0, 1, first)]
        lines += [(0x06, 0, 0, 0x00050000 | error)]
    lines += [(0x06, 0, 0, 0x7FFF0000)]
    raw = b"".join(struct.pack("=HBBI", *line) for line in lines)
    libc = ctypes.CDLL(None, use_errno=True)
    buffer = ctypes.create_string_buffer(raw, len(raw))
    program = struct.pack("=HxxxxxxQ", len(lines), ctypes.addressof(buffer))
    set_filter, mode_filter = 22, 2
    if libc.prctl(set_filter, mode_filter, program, 0, 0) != 0:
        # Without the powers of root, a filter needs no_new_privs.
        libc.prctl(38, 1, 0, 0, 0)
        assert libc.prctl(set_filter, mode_filter, program, 0, 0) == 0


def main() -> None:
    """Deny what the command line says and print what is missing then."""
    from dataclasses import asdict

    from guerdon.jail import layers

    calls, error, first = json.loads(sys.argv[1])
    layers._ATTEMPT_SECONDS = 1.0
    deny(calls, error, first)
    print(json.dumps([asdict(row) for row in layers._try_all()]))


if __name__ == "__main__":
    main()

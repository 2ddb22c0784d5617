"""What the tests run inside the jail."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from typing import Any


def denied(act: Callable[[], Any]) -> str:
    """Name of the error that ``act`` runs into, or ``"possible"``."""
    try:
        act()
    except OSError as error:
        return errno.errorcode.get(error.errno or 0, str(error))
    except (ImportError, MemoryError, RuntimeError, ValueError) as error:
        return type(error).__name__
    return "possible"


def call(number: int, *arguments: Any) -> None:
    """A raw system call."""
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    longs = [ctypes.c_long(a) if isinstance(a, int) else a for a in arguments]
    if libc.syscall(ctypes.c_long(number), *longs) < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def run_text(payload: str) -> Any:
    """Jailed: ``exec`` of the payload, whose ``answer`` comes out."""
    import ctypes
    import socket
    import threading

    def job(progress: Any) -> list[bytes]:
        tools = (ctypes, os, socket, threading)
        scope: dict[str, Any] = {tool.__name__: tool for tool in tools}
        scope |= {"progress": progress, "denied": denied, "call": call}
        exec(payload, scope)
        return [str(scope.get("answer")).encode()]

    return job


def run_parts(payload: str) -> Any:
    """Jailed: ``exec`` of the payload, whose ``parts`` come out as they are."""

    def job(progress: Any) -> list[bytes]:
        scope: dict[str, Any] = {"progress": progress, "os": os}
        exec(payload, scope)
        return scope["parts"]

    return job


def echo(payload: str) -> Any:
    """Jailed: nothing; the payload comes out."""
    return lambda progress: [payload.encode("utf-16", "surrogatepass")]


def fail(payload: str) -> Any:
    """Trusted code that fails before the jail is shut."""
    raise LookupError(payload)

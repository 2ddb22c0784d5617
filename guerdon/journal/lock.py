"""One process at a time in a run folder."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

__all__ = ["NAME", "FolderBusy", "FolderLock", "is_held"]

NAME = "journal.lock"

# Windows locks are mandatory, so the locked byte lies far behind the pid's text,
# which a refused process must still be able to read.
_LOCKED_BYTE = 4096

if sys.platform == "win32":
    import msvcrt

    def _try_lock(fd: int) -> bool:
        os.lseek(fd, _LOCKED_BYTE, os.SEEK_SET)
        try:
            msvcrt.locking(fd, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True

else:
    import fcntl

    def _try_lock(fd: int) -> bool:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


class FolderBusy(RuntimeError):
    """Another process holds the folder; ``pid`` is its number where it is known."""

    def __init__(self, folder: Path, pid: int | None) -> None:
        holder = f"process {pid}" if pid is not None else "another process"
        super().__init__(
            f"{folder} is in use by {holder}; wait until it has finished, or stop it"
        )
        self.pid = pid


class FolderLock:
    """A lock file with the holder's pid, held until ``release`` or the process's end.

    The kernel drops the lock with the process, so a lock that was left by a killed
    run is free and is simply taken over; the pid in the file is for people only.

    Args:
        folder: the run folder; it must exist.
        create: make the lock file where there is none. Without it a folder that has
            no lock file is left as it is, and ``held`` is False.

    Raises:
        FolderBusy: another process (or another object of this one) holds it.
    """

    def __init__(self, folder: Path, *, create: bool) -> None:
        self._fd: int | None = None
        self.path = folder / NAME
        flags = os.O_RDWR | (os.O_CREAT if create else 0)
        flags |= getattr(os, "O_NOFOLLOW", 0)
        try:
            fd = os.open(self.path, flags, 0o644)
        except FileNotFoundError:
            return
        if not _lock_soon(fd):
            pid = _read_pid(fd)
            os.close(fd)
            raise FolderBusy(folder, pid)
        self._fd = fd

    @property
    def held(self) -> bool:
        """Whether this object holds the lock."""
        return self._fd is not None

    def sign(self) -> None:
        """Write this process's pid, so that a refused process can name it.

        Raises:
            OSError: when it cannot be written; names the file.
        """
        if self._fd is not None:
            try:
                os.ftruncate(self._fd, 0)
                os.lseek(self._fd, 0, os.SEEK_SET)
                os.write(self._fd, f"{os.getpid()}\n".encode())
            except OSError as error:
                raise OSError(error.errno, error.strerror, str(self.path)) from error

    def release(self) -> None:
        """Give the folder back. The file stays: removing it would race with others."""
        if self._fd is not None:
            fd, self._fd = self._fd, None
            os.close(fd)


def is_held(folder: Path) -> bool:
    """Whether a living process holds the folder; changes nothing in it."""
    try:
        FolderLock(folder, create=False).release()
    except FolderBusy:
        return True
    except PermissionError:
        # A folder that we may not write to: whoever may is not asked here.
        return False
    return False


def _lock_soon(fd: int) -> bool:
    # ``is_held`` takes the lock for an instant; that is not a reason to refuse.
    for _ in range(5):
        if _try_lock(fd):
            return True
        time.sleep(0.01)
    return False


def _read_pid(fd: int) -> int | None:
    os.lseek(fd, 0, os.SEEK_SET)
    text = os.read(fd, 32).decode("ascii", "replace").strip()
    return int(text) if text.isascii() and text.isdigit() else None

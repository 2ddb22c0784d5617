"""Whose fault an error is: the machine's, or that of a line of somebody's code."""

from __future__ import annotations

import errno
import os
import shutil
import sysconfig
import tempfile
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

REASON_LENGTH = 500
"""Characters of an error that a reason quotes; torch prints whole tensors."""

AGAIN = "run the same command again; it goes on from what has finished"
"""How the message of every fault of the machine ends."""

_ALWAYS = {
    errno.ENOSPC: "make room",
    errno.EDQUOT: "make room within the quota",
    errno.EFBIG: "allow larger files (ulimit -f)",
    errno.EIO: "look at the disk (full, over its quota, or failing?)",
    errno.EMFILE: "allow more open files (ulimit -n), or use fewer workers",
    errno.ENFILE: "allow more open files, or use fewer workers",
    errno.ENOMEM: "free some memory, or use fewer workers",
    errno.ESTALE: "mount the folder again",
}
"""What helps, by errors that no code can be blamed for."""

_IN_FOLDER = {
    errno.EROFS: "make the folder writable",
    errno.EACCES: "make the folder writable",
    errno.EPERM: "make the folder writable",
    errno.ENOENT: "put the folder back",
}
"""The same for files of ours; on other files it is whoever asks for them."""

_LITTLE = 1 << 20
"""Bytes below which a disk counts as full."""


def machine_fault(error: BaseException, folder: Path | None) -> OSError | None:
    """The error as one that names place and way out, if the machine is at fault.

    A full disk, a lost right to write in the run's folder or too little memory say
    nothing about the code that happened to run: that code may do well elsewhere.

    Args:
        error: what was raised.
        folder: where the run writes, if it writes at all.

    Returns:
        ``OSError`` with the file and advice, or None when code is to blame.
    """
    if isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and "DefaultCPUAllocator" in str(error)
    ):
        text = " ".join(str(error).split())[:REASON_LENGTH]
        return _fault(errno.ENOMEM, f"out of memory ({text})" if text else "", None)
    if not isinstance(error, OSError) or error.errno is None:
        return None
    if AGAIN in str(error.strerror):
        return error
    if error.errno in _ALWAYS:
        return _fault(error.errno, "", error.filename or _full(folder))
    if error.errno == errno.ENOENT and "temporary directory" in str(error.strerror):
        return _fault(errno.ENOSPC, str(error.strerror), tempfile.tempdir)
    if error.errno in _IN_FOLDER and _is_inside(error.filename, folder):
        return _fault(error.errno, "", error.filename)
    return None


def _fault(number: int, text: str, file: object) -> OSError:
    advice = _ALWAYS.get(number) or _IN_FOLDER[number]
    words = f"{text or os.strerror(number)}; {advice} and {AGAIN}"
    return OSError(number, words, None if file is None else str(file))


def _full(folder: Path | None) -> Path | None:
    """The place that is full; the system does not say where a write has failed."""
    return full_place(folder, Path(tempfile.tempdir or "/tmp")) or folder


def full_place(*places: Path | None) -> Path | None:
    """The first of these folders whose disk is full; None where all have room."""
    for place in places:
        try:
            if place is not None and shutil.disk_usage(place).free < _LITTLE:
                return place
        except OSError:
            continue
    return None


def _is_inside(file: object, folder: Path | None) -> bool:
    if folder is None or not isinstance(file, str | bytes | os.PathLike):
        return False
    path, whole = (Path(os.path.abspath(os.fsdecode(p))) for p in (file, folder))
    return path.is_relative_to(whole)


@contextmanager
def machine_faults(folder: Path | None) -> Iterator[None]:
    """Errors that are the machine's come out as ``machine_fault`` words them.

    Raises:
        OSError: names the place and the way out.
    """
    try:
        yield
    except (OSError, MemoryError) as error:
        fault = machine_fault(error, folder)
        if fault is None or fault is error:
            raise
        raise fault from error


def make_folder(folder: Path) -> None:
    """Make a folder to write to, with those above it that are missing.

    Raises:
        OSError: names the folder and says why it cannot be made. It has no number,
            where the next try would end in the same way whatever the user repairs.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        fault = machine_fault(error, None)
        if fault is not None:
            raise fault from error
        words = f"the folder cannot be made ({error.strerror})"
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise OSError(error.errno, words, str(folder)) from error
        raise OSError(f"{folder}: {words}; choose another") from error


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A path to write to, which takes the place of ``path`` once all is written.

    What could not be written to its end is deleted.

    Raises:
        OSError: names ``path`` where the system does not say what it could not write.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        yield partial
        os.replace(partial, path)
    except BaseException as error:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno and error.filename is None:
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise


def blame(error: BaseException) -> str:
    """An error in a line or two, with the innermost line of the user's own code.

    >>> try:
    ...     int("three")
    ... except ValueError as error:
    ...     blame(error).partition(" (")[0]
    "ValueError: invalid literal for int() with base 10: 'three'"
    """
    frames = traceback.extract_tb(error.__traceback__)
    # A library that raises was called with something that it could not take.
    own = [frame for frame in frames if not _is_library(frame.filename)]
    try:
        words = str(error)[:REASON_LENGTH]
    except Exception as second:  # an error of the user's own that cannot say itself
        words = f"its message cannot be made ({type(second).__name__})"
    message = f"{type(error).__name__}: {words}"
    if not frames:
        return message
    frame = (own or frames)[-1]
    return f"{message} ({Path(frame.filename).name}:{frame.lineno}, {frame.name})"


def _is_library(file: str) -> bool:
    """Whether a file is Python's, an installed package's or ours."""
    names = ("stdlib", "platstdlib", "purelib", "platlib")
    homes = {sysconfig.get_path(name) for name in names}
    homes.add(os.path.dirname(os.path.abspath(__file__)))
    return file.startswith("<") or any(
        os.path.abspath(file).startswith(os.path.join(home, "")) for home in homes
    )

"""The journal's file: whose it is, whether it is sound, and how it is opened.

A folder that is not ours is never written to, so every check here reads the raw
bytes, or a copy, before SQLite may create a single file beside it.
"""

from __future__ import annotations

import errno
import importlib.metadata
import os
import platform
import shutil
import sqlite3
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from guerdon.faults import machine_faults
from guerdon.journal import seal
from guerdon.journal.lock import NAME as LOCK_NAME
from guerdon.journal.records import canonical

FILE_NAME = "journal.sqlite"
APPLICATION_ID = 0x67756572  # "guer": the mark by which we know our own files
SCHEMA = 1

_NEW_NAME = f"{FILE_NAME}.new"
_MAGIC = b"SQLite format 3\x00"
_HEADER_BYTES = 100
_USER_VERSION = slice(60, 64)  # offsets: https://www.sqlite.org/fileformat.html §1.3
_APPLICATION_ID = slice(68, 72)
_BUSY_SECONDS = 30.0

_ERRNO = {
    sqlite3.SQLITE_FULL: errno.ENOSPC,
    sqlite3.SQLITE_IOERR: errno.EIO,
    sqlite3.SQLITE_READONLY: errno.EROFS,
    sqlite3.SQLITE_CANTOPEN: errno.EACCES,
    sqlite3.SQLITE_PERM: errno.EACCES,
    sqlite3.SQLITE_NOMEM: errno.ENOMEM,
}
"""What SQLite's primary codes say about the machine."""

_TABLES = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE calls (id INTEGER PRIMARY KEY AUTOINCREMENT, key TEXT NOT NULL,
    ts REAL, model TEXT, request TEXT, answer TEXT, prompt_tokens INTEGER,
    completion_tokens INTEGER, usd REAL, seconds REAL, failure TEXT);
CREATE INDEX calls_by_key ON calls (key);
CREATE UNIQUE INDEX one_answer_per_key ON calls (key) WHERE failure IS NULL;
CREATE TABLE candidates (id TEXT PRIMARY KEY, round INTEGER, slot INTEGER,
    operator TEXT, parents TEXT, source TEXT, plan TEXT, failure TEXT,
    screening TEXT, call_key TEXT);
CREATE TABLE trainings (key TEXT PRIMARY KEY, candidate TEXT, seed INTEGER,
    purpose TEXT, steps INTEGER, result TEXT, failure TEXT, cpu_seconds REAL,
    wall_seconds REAL, artifact TEXT);
CREATE INDEX trainings_by_candidate ON trainings (candidate, purpose);
CREATE TABLE rounds (idx INTEGER PRIMARY KEY, summary TEXT);
CREATE TABLE events (id INTEGER PRIMARY KEY AUTOINCREMENT, ts REAL, kind TEXT,
    data TEXT);
"""

_REPORTED_PACKAGES = (
    "guerdon",
    "numpy",
    "scipy",
    "gymnasium",
    "torch",
    "stable-baselines3",
    "minigrid",
    "mujoco",
    "numba",
    "openai",
    "xllamacpp",
)


class JournalError(ValueError):
    """A run folder that cannot be used, or a record that contradicts a written one."""


class JournalBusy(JournalError):
    """Another process writes this journal; ``pid`` is its number where known."""

    def __init__(self, message: str, pid: int | None) -> None:
        super().__init__(message)
        self.pid = pid


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """SQLite's errors that are the disk's come out as the system's, with the file.

    Raises:
        OSError: for a disk that is full, failing or not to be written to.
    """
    with machine_faults(path.parent):
        try:
            yield
        except sqlite3.Error as error:
            # The low byte is the primary code, the rest says where it happened.
            code = getattr(error, "sqlite_errorcode", None)
            number = None if code is None else _ERRNO.get(code & 0xFF)
            if number is None:
                raise
            raise OSError(number, os.strerror(number), str(path)) from error


def require_free_for_new(folder: Path) -> None:
    """Refuse a folder that has a run or anything else in it.

    Raises:
        JournalError: says what is there.
    """
    if not folder.exists():
        return
    if not folder.is_dir():
        raise JournalError(f"{folder}: expected a folder, got a file")
    names = sorted(item.name for item in folder.iterdir())
    if FILE_NAME in names:
        raise JournalError(f"{folder} already holds a run; open it, or use another")
    # Left by a process that was killed while it made its journal; nothing is in them.
    foreign = [name for name in names if name not in (LOCK_NAME, _NEW_NAME)]
    if foreign:
        shown = ", ".join(repr(name) for name in foreign[:3])
        more = f" and {len(foreign) - 3} more" if len(foreign) > 3 else ""
        raise JournalError(
            f"{folder} holds other files ({shown}{more}) and no {FILE_NAME}; "
            "it was left untouched. Use an empty or a new folder"
        )


def require_ours(path: Path) -> None:
    """Refuse a file that Guerdon did not write, from its first 100 bytes.

    Raises:
        JournalError: says what was found in its place.
    """
    try:
        with path.open("rb") as handle:
            header = handle.read(_HEADER_BYTES)
    except FileNotFoundError:
        raise JournalError(
            f"{path.parent}: expected a run folder with a {FILE_NAME}, found none"
        ) from None
    except OSError as error:
        raise JournalError(f"{path}: cannot be read: {error.strerror}") from error
    if len(header) < _HEADER_BYTES or not header.startswith(_MAGIC):
        raise _refused(path, "the file is not an SQLite database")
    mark = int.from_bytes(header[_APPLICATION_ID], "big")
    if mark != APPLICATION_ID:
        raise _refused(
            path,
            f"another program's database (application id {mark:#x}, expected "
            f"{APPLICATION_ID:#x})",
        )
    if path.with_name(f"{path.name}-journal").exists():
        # SQLite would write what it says over what was checked, and delete the file
        # that it names. Ours keep a write-ahead log and never leave one.
        raise _refused(path, "a rollback journal beside it, which is not ours")
    version = int.from_bytes(header[_USER_VERSION], "big")
    if version != SCHEMA:
        newer = " (a newer Guerdon wrote it: update this one)"
        raise _refused(
            path,
            f"schema {version}, but this Guerdon reads schema {SCHEMA}"
            + (newer if version > SCHEMA else ""),
        )


def require_sound(path: Path) -> None:
    """Refuse a damaged file; for a folder that no other process writes to.

    Raises:
        JournalError: with what SQLite found.
    """
    connection, scratch = open_untouched(path)
    connection.close()
    if scratch is not None:
        scratch.cleanup()


def open_untouched(
    path: Path,
) -> tuple[sqlite3.Connection, tempfile.TemporaryDirectory[str] | None]:
    """Open a file that nobody writes to, check it, and create nothing beside it.

    A killed run leaves a write-ahead log, and SQLite would have to write in the
    folder to read it; so the two files are copied to the returned folder first.

    Raises:
        JournalError: the file is damaged.
    """
    log = path.with_name(f"{path.name}-wal")
    scratch, opened = None, path
    options = "mode=ro&immutable=1"
    try:
        if log.exists() and log.stat().st_size:
            # A damaged header may leave files that Windows still holds open.
            scratch = tempfile.TemporaryDirectory(
                prefix="guerdon-", ignore_cleanup_errors=True
            )
            for source in (path, log):
                _copy(source, Path(scratch.name) / source.name)
            opened, options = Path(scratch.name) / path.name, "mode=rw"
        connection = _connect(opened, options)
        try:
            # Foreign tables may hold expressions that the other checks would compute.
            _check_tables(connection, path)
            _check_integrity(connection, path)
            _check_seal(connection, path)
        except BaseException:
            connection.close()
            raise
    except BaseException:
        if scratch is not None:
            scratch.cleanup()
        raise
    return connection, scratch


def _copy(source: Path, target: Path) -> None:
    try:
        shutil.copyfile(source, target)
    except OSError as error:
        # The system names the file that was read, and it is the other that is full.
        raise OSError(error.errno, error.strerror, str(target)) from error


def open_shared(path: Path) -> sqlite3.Connection:
    """Open to read beside a living writer, through its own ``-wal`` and ``-shm``."""
    connection = _connect(path, "mode=ro")
    try:
        _check_tables(connection, path)
    except BaseException:
        connection.close()
        raise
    return connection


def open_to_write(path: Path) -> sqlite3.Connection:
    """Open as the only writer; a commit is on the disk when it returns."""
    with disk_errors(path):
        connection = _connect(path, "mode=rw")
    try:
        with disk_errors(path):
            (mode,) = connection.execute("PRAGMA journal_mode").fetchone()
            if mode != "wal":  # new: the change itself must leave no file behind
                connection.execute("PRAGMA journal_mode = MEMORY")
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")
        _check_tables(connection, path)
    except BaseException:
        connection.close()
        raise
    return connection


def write_new(folder: Path, config: Any) -> None:
    """Write a journal with this configuration; it appears whole or not at all."""
    new = folder / _NEW_NAME
    new.unlink(missing_ok=True)
    with (
        disk_errors(folder / FILE_NAME),
        closing(sqlite3.connect(new, isolation_level=None)) as db,
    ):
        db.execute("PRAGMA journal_mode = MEMORY")  # no second file; the first is new
        db.execute("PRAGMA synchronous = FULL")
        db.executescript(
            f"BEGIN; PRAGMA application_id = {APPLICATION_ID}; "
            f"PRAGMA user_version = {SCHEMA}; {_TABLES} COMMIT;"
        )
        meta = {"config": config, "created": time.time(), "versions": versions()}
        rows = [(key, canonical(value)) for key, value in meta.items()]
        db.execute("BEGIN")
        db.executemany("INSERT INTO meta VALUES (?, ?)", rows)
        seal.write(db)
        db.execute("COMMIT")
    os.replace(new, folder / FILE_NAME)
    if os.name == "posix":  # a rename is on the disk once its folder is
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def versions() -> dict[str, str]:
    """Python, the platform, and the installed packages that decide a result."""
    found = {"python": platform.python_version(), "platform": platform.platform()}
    for package in _REPORTED_PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _connect(path: Path, options: str) -> sqlite3.Connection:
    connection = sqlite3.connect(
        f"{path.absolute().as_uri()}?{options}",
        uri=True,
        isolation_level=None,  # transactions are spelled out
        check_same_thread=False,  # the journal has its own lock
        timeout=_BUSY_SECONDS,
    )
    connection.row_factory = sqlite3.Row
    # A shared run folder may hold views and triggers that we did not write.
    connection.execute("PRAGMA trusted_schema = OFF")
    return connection


def _check_integrity(connection: sqlite3.Connection, path: Path) -> None:
    try:
        findings = connection.execute("PRAGMA integrity_check(3)").fetchall()
    except sqlite3.DatabaseError as error:
        raise _refused(path, f"the file is damaged: {error}") from error
    lines = [str(row[0]) for row in findings]
    if lines != ["ok"]:
        raise _refused(path, f"the file is damaged: {'; '.join(lines)[:300]}")


def _check_seal(connection: sqlite3.Connection, path: Path) -> None:
    """Refuse rows in which bytes have changed since they were written."""
    try:
        whole = seal.holds(connection)
    except sqlite3.DatabaseError as error:
        raise _refused(path, f"the file is damaged: {error}") from error
    if not whole:
        raise _refused(
            path, "the file is damaged: its rows are not those that were written"
        )


def _check_tables(connection: sqlite3.Connection, path: Path) -> None:
    """Refuse tables that are not ours to the letter.

    A view in the place of a table may never end, and reading it runs somebody's SQL.
    """
    try:
        with disk_errors(path):
            found = _tables(connection)
    except sqlite3.DatabaseError as error:
        raise _refused(path, f"the file is damaged: {error}") from error
    with closing(sqlite3.connect(":memory:")) as ours:
        ours.executescript(_TABLES)
        if found != _tables(ours):
            raise _refused(path, "tables that Guerdon did not make")


def _tables(connection: sqlite3.Connection) -> set[tuple[str, str, str, str | None]]:
    query = "SELECT type, name, tbl_name, sql FROM sqlite_master"
    return {(row[0], row[1], row[2], row[3]) for row in connection.execute(query)}


def _refused(path: Path, what: str) -> JournalError:
    return JournalError(
        f"{path}: expected a Guerdon journal, found {what}. It was left untouched; "
        "use another folder, or restore the file from a copy"
    )

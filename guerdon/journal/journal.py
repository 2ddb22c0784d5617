"""The journal itself: opening, writing once, reading back."""

from __future__ import annotations

import dataclasses
import sqlite3
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from guerdon.closing import Closing
from guerdon.faults import make_folder
from guerdon.journal import file, seal
from guerdon.journal.file import FILE_NAME, JournalBusy, JournalError
from guerdon.journal.lock import FolderBusy, FolderLock, is_held
from guerdon.journal.records import (
    CallRecord,
    CandidateRecord,
    EventRecord,
    Purpose,
    Record,
    RoundRecord,
    Totals,
    TrainingRecord,
    canonical,
    loads,
    pack,
    unpack,
)


class Journal(Closing):
    """A run folder's journal; make one with ``create``, ``open`` or ``open_or_create``.

    It may be shared by threads. Reading does not change a byte in the folder; writing
    is for one process at a time. What cannot be written, because the disk is full or
    fails, is an ``OSError`` with the file; what was written before stays readable.
    """

    def __init__(
        self,
        folder: Path,
        connection: sqlite3.Connection,
        lock: FolderLock | None,
        scratch: tempfile.TemporaryDirectory[str] | None = None,
    ) -> None:
        self.folder = folder
        self.readonly = lock is None
        self._connection = connection
        self._lock = lock
        self._scratch = scratch
        self._mutex = threading.RLock()

    @classmethod
    def create(cls, folder: str | Path, config: Mapping[str, Any]) -> Journal:
        """Start a journal in a folder that is empty or does not exist yet.

        Raises:
            JournalError: the folder has a journal or other files; nothing is touched.
            JournalBusy: another process is just doing the same.
        """
        folder = Path(folder)
        file.require_free_for_new(folder)
        canonical(config)  # a configuration that JSON cannot hold makes no folder
        make_folder(folder)
        lock = _acquire(folder, create=True)
        try:
            file.require_free_for_new(folder)  # somebody may have been faster
            lock.sign()
            file.write_new(folder, config)
            return cls(folder, file.open_to_write(folder / FILE_NAME), lock)
        except BaseException:
            lock.release()
            raise

    @classmethod
    def open(cls, folder: str | Path, readonly: bool = False) -> Journal:
        """Open the journal of ``folder``.

        Raises:
            JournalError: there is none, or it is foreign or damaged; the folder is
                left as it was, byte for byte.
            JournalBusy: another process writes it (never when ``readonly``).
        """
        folder = Path(folder)
        path = folder / FILE_NAME
        file.require_ours(path)
        if readonly:
            if is_held(folder):
                return cls(folder, file.open_shared(path), None)
            connection, scratch = file.open_untouched(path)
            return cls(folder, connection, None, scratch)
        lock = _acquire(folder, create=False)
        try:
            file.require_sound(path)
            if not lock.held:
                lock = _acquire(folder, create=True)
            lock.sign()
            return cls(folder, file.open_to_write(path), lock)
        except BaseException:
            lock.release()
            raise

    @classmethod
    def open_or_create(cls, folder: str | Path, config: Mapping[str, Any]) -> Journal:
        """Resume the run in ``folder`` if it has one with this config, else start it.

        Raises:
            JournalError: the run there has another config; names the differing keys.
        """
        if not (Path(folder) / FILE_NAME).exists():
            return cls.create(folder, config)
        asked = loads(canonical(config))
        journal = cls.open(folder)
        try:
            _require_same_config(Path(folder), journal.meta("config"), asked)
        except BaseException:
            journal.close()
            raise
        return journal

    def close(self) -> None:
        """Close the file and give the folder back; may be called twice."""
        with self._mutex:
            self._connection.close()
            if self._lock is not None:
                self._lock.release()
            if self._scratch is not None:
                self._scratch.cleanup()
                self._scratch = None

    # Writing -----------------------------------------------------------------------

    def set_meta(self, key: str, value: Any) -> None:
        """Write ``value`` (any JSON) under ``key``, once."""
        text = canonical(value)
        with self._transaction() as db:
            new = db.execute("INSERT OR IGNORE INTO meta VALUES (?, ?)", (key, text))
            if new.rowcount:
                seal.add(db, "meta", new.lastrowid)
            (written,) = db.execute(
                "SELECT value FROM meta WHERE key = ?", (key,)
            ).fetchone()
            if written != text:
                raise _contradiction("meta", key)

    def add_call(self, record: CallRecord) -> None:
        """Record a call. Every failed one counts; an answer is written once."""
        repeatable = record.failure is not None
        self._add("calls", record, "" if repeatable else "key = ? AND failure IS NULL")

    def add_candidate(self, record: CandidateRecord) -> None:
        """Record a candidate, once."""
        self._add("candidates", record, "id = ?")

    def add_training(self, record: TrainingRecord) -> None:
        """Record a training that has finished or failed, once."""
        self._add("trainings", record, "key = ?")

    def add_round(self, idx: int, summary: Any) -> None:
        """Record a finished round, once."""
        self._add("rounds", RoundRecord(idx=idx, summary=summary), "idx = ?")

    def add_event(self, kind: str, data: Any = None) -> None:
        """Record that something happened now."""
        self._add("events", EventRecord(kind=kind, data=data), "")

    def _add(self, table: str, record: Any, where: str) -> None:
        """Insert ``record`` unless it stands there already.

        ``where`` finds the row of the record's first field; empty: always insert.
        """
        row = pack(record)
        same = unpack(type(record), row)  # what nobody could read is not written
        columns, marks = ", ".join(row), ", ".join("?" * len(row))
        with self._transaction() as db:
            if where:
                key = next(iter(row.values()))
                # No caller's text in these statements: names are this module's own.
                found = db.execute(
                    f"SELECT {columns} FROM {table} WHERE {where}", (key,)
                ).fetchone()
                if found is not None:
                    if unpack(type(record), dict(found)) != same:
                        raise _contradiction(table, str(key))
                    return
            values = tuple(row.values())
            insert = f"INSERT INTO {table} ({columns}) VALUES ({marks})"
            seal.add(db, table, db.execute(insert, values).lastrowid)

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        if self.readonly:
            raise JournalError(f"{self.folder}: this journal was opened to read only")
        with self._mutex, file.disk_errors(self.folder / FILE_NAME):
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
                self._connection.execute("COMMIT")
            except BaseException:
                # A full disk makes SQLite roll back by itself.
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise

    # Reading -----------------------------------------------------------------------

    def meta(self, key: str) -> Any:
        """What was written under ``key``; None when nothing was."""
        rows = self._rows("SELECT value FROM meta WHERE key = ?", key)
        try:
            return loads(rows[0]["value"]) if rows else None
        except ValueError as error:
            raise JournalError(f"{self.folder / FILE_NAME}: {key}: {error}") from error

    def call(self, key: str) -> CallRecord | None:
        """The answered call of this key; None where none was answered."""
        found = self._read(CallRecord, "calls WHERE key = ? AND failure IS NULL", key)
        return found[0] if found else None

    def calls(self) -> list[CallRecord]:
        """Every call, failed ones too, in the order of writing."""
        return self._read(CallRecord, "calls ORDER BY id")

    def candidates(self) -> list[CandidateRecord]:
        """Every candidate in the order of writing."""
        return self._read(CandidateRecord, "candidates ORDER BY rowid")

    def training(self, key: str) -> TrainingRecord | None:
        """The training of this key; None where it has not ended yet."""
        found = self._read(TrainingRecord, "trainings WHERE key = ?", key)
        return found[0] if found else None

    def trainings(
        self, candidate: str | None = None, purpose: Purpose | None = None
    ) -> list[TrainingRecord]:
        """Trainings in the order of writing; each argument narrows them."""
        where = "(?1 IS NULL OR candidate = ?1) AND (?2 IS NULL OR purpose = ?2)"
        return self._read(
            TrainingRecord,
            f"trainings WHERE {where} ORDER BY rowid",
            candidate,
            purpose,
        )

    def rounds(self) -> list[RoundRecord]:
        """Finished rounds in order."""
        return self._read(RoundRecord, "rounds ORDER BY idx")

    def events(self) -> list[EventRecord]:
        """Events in the order of writing."""
        return self._read(EventRecord, "events ORDER BY id")

    def totals(self) -> Totals:
        """Tokens, money and time of all calls so far."""
        return Totals.of(self.calls())

    def _rows(self, statement: str, *values: Any) -> list[sqlite3.Row]:
        with self._mutex:
            try:
                with file.disk_errors(self.folder / FILE_NAME):
                    return self._connection.execute(statement, values).fetchall()
            except sqlite3.DatabaseError as error:
                raise JournalError(f"{self.folder / FILE_NAME}: {error}") from error

    def _read(self, kind: type[Record], tail: str, *values: Any) -> list[Record]:
        columns = ", ".join(f.name for f in dataclasses.fields(kind))  # type: ignore[arg-type]
        rows = self._rows(f"SELECT rowid AS line, {columns} FROM {tail}", *values)
        records = []
        for row in rows:
            try:
                records.append(unpack(kind, dict(row)))
            except (TypeError, ValueError) as error:
                raise JournalError(
                    f"{self.folder / FILE_NAME}, {tail.split()[0]}, row {row['line']}: "
                    f"a {kind.__name__} that cannot be read: {error}. Restore the file "
                    "from a copy, or use another folder"
                ) from error
        return records


def _acquire(folder: Path, *, create: bool) -> FolderLock:
    try:
        return FolderLock(folder, create=create)
    except FolderBusy as busy:
        raise JournalBusy(str(busy), busy.pid) from None


def _contradiction(table: str, key: str) -> JournalError:
    return JournalError(
        f"{table}: {key!r} stands in the journal with another content; what is written "
        "once is never changed. Where another version of Guerdon began this run, let "
        "that one finish it, or use another folder"
    )


def _require_same_config(folder: Path, recorded: Any, asked: Any) -> None:
    old, new = dict(_leaves(recorded)), dict(_leaves(asked))
    differing = [
        f"{key} is {old.get(key, 'absent')!r} there and {new.get(key, 'absent')!r} here"
        for key in sorted(old.keys() | new.keys())
        if old.get(key, _ABSENT) != new.get(key, _ABSENT)
    ]
    if differing:
        raise JournalError(
            f"{folder} holds a run with another configuration: "
            f"{'; '.join(differing)}. Use the same values to resume it, or another "
            "folder for a new run"
        )


_ABSENT = object()


def _leaves(value: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict) and value:
        for key, item in value.items():
            yield from _leaves(item, f"{prefix}.{key}" if prefix else key)
    else:
        yield prefix, value

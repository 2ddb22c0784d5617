"""A sum over all rows of a journal, by which bytes that changed on the disk are found.

SQLite finds a damaged tree, not a damaged text: a few bytes overwritten inside a row
are a row like any other. So the journal keeps the sum of the digests of its rows, and
every commit writes it together with the row. The order of the rows does not matter.

    seal = sum(digest(table, row)) mod 2**128

It is against accidents. Who changes a journal on purpose can change its seal too.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Sequence
from typing import Any

KEY = "seal"
"""Where ``meta`` has it; a journal of an earlier version has none."""

TABLES = ("meta", "calls", "candidates", "trainings", "rounds", "events")

_BYTES = 16


def write(db: sqlite3.Connection) -> None:
    """Seal a new journal."""
    db.execute("INSERT INTO meta VALUES (?, ?)", (KEY, _text(_of_all(db))))


def add(db: sqlite3.Connection, table: str, rowid: int | None) -> None:
    """Take a row into the seal, in the transaction that has inserted it."""
    found = db.execute("SELECT value FROM meta WHERE key = ?", (KEY,)).fetchone()
    if found is None:
        return
    # As it is read back: a column may have made another type of a value.
    row = db.execute(f"SELECT * FROM {table} WHERE rowid = ?", (rowid,)).fetchone()
    seal = int(json.loads(found[0]), 16) + _of_row(table, tuple(row))
    db.execute("UPDATE meta SET value = ? WHERE key = ?", (_text(seal), KEY))


def holds(db: sqlite3.Connection) -> bool:
    """Whether the rows are those that were written, as far as anybody can tell.

    Raises:
        sqlite3.Error: for text that cannot be read at all.
    """
    found = db.execute("SELECT value FROM meta WHERE key = ?", (KEY,)).fetchone()
    return found is None or bool(found[0] == _text(_of_all(db)))


def _of_all(db: sqlite3.Connection) -> int:
    return sum(
        _of_row(table, tuple(row))
        for table in TABLES
        for row in db.execute(f"SELECT * FROM {table}")
        if not (table == "meta" and row[0] == KEY)
    )


def _of_row(table: str, row: Sequence[Any]) -> int:
    text = repr((table, *row)).encode("utf-8", "backslashreplace")
    return int.from_bytes(hashlib.blake2b(text, digest_size=_BYTES).digest(), "big")


def _text(seal: int) -> str:
    return json.dumps(f"{seal % (1 << 8 * _BYTES):x}")

"""Results that are kept as they come: a long measurement can be cut and go on."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


class Records:
    """A CSV file with a row a result; what stands there is not measured again.

    Args:
        path: of the file.
        columns: of all rows; those of the key come first.
        key: how many columns say which result it is.

    Raises:
        ValueError: for a file with other columns.
    """

    def __init__(self, path: Path, columns: Sequence[str], key: int) -> None:
        self.path, self.columns, self._key = path, list(columns), key
        self.rows: dict[tuple[str, ...], dict[str, str]] = {}
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            self._write([self.columns], "w")
            return
        with path.open(newline="") as file:
            # A cut run may have left half a line, which may look like a whole one.
            found = csv.DictReader(x for x in file if x.endswith("\n"))
            if found.fieldnames != self.columns:
                raise ValueError(
                    f"{path}: expected columns {self.columns}, got {found.fieldnames}; "
                    "move it away to begin anew"
                )
            for row in found:
                if None not in row and None not in row.values():
                    self.rows[self._key_of(row)] = row
        whole = [list(row.values()) for row in self.rows.values()]
        self._write([self.columns, *whole], "w")

    def has(self, *key: object) -> bool:
        """Whether this was measured already."""
        return tuple(map(str, key)) in self.rows

    def add(self, *rows: Mapping[str, Any]) -> None:
        """Keep results at once, those given together together."""
        lines = []
        for row in rows:
            texts = {name: _text(row[name]) for name in self.columns}
            self.rows[self._key_of(texts)] = texts
            lines.append([texts[name] for name in self.columns])
        self._write(lines, "a")

    def of(self, *key: object) -> list[dict[str, str]]:
        """Rows whose keys begin so."""
        begin = tuple(map(str, key))
        return [row for k, row in self.rows.items() if k[: len(begin)] == begin]

    def _key_of(self, row: Mapping[str, str]) -> tuple[str, ...]:
        return tuple(row[name] for name in self.columns[: self._key])

    def _write(self, lines: Sequence[Sequence[str]], mode: str) -> None:
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows(lines)
        # In one piece: rows given together are kept together.
        with self.path.open(f"{mode}b", buffering=0) as file:
            file.write(text.getvalue().encode())


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return str(int(value))
    return f"{value:.6g}" if isinstance(value, float) else str(value)

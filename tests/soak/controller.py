"""A whole run in a process of its own, which SIGKILLs itself at the k-th such moment.

    python tests/soak/controller.py FOLDER CONFIG MOMENT COUNT

``MOMENT`` is one of ``MOMENTS``, or ``never``. In the environment, ``quick`` for
``REPORT`` leaves the report out, and ``real`` for ``JOBS`` trains indeed. A run that
ends prints how often it saw each moment.
"""

import builtins
import io
import json
import os
import signal
import sqlite3
import sys
from collections import Counter
from pathlib import Path
from typing import Any

MOMENTS = (
    "in a transaction",
    "before a commit",
    "after a commit",
    "before a rename",
    "after a rename",
    "file opened",
    "half a file written",
    "before a deletion",
    "event",
)

WORKERS = 2
"""Processes that train side by side."""


class Hooks:
    """Counts the moments, and ends the process at one of them."""

    def __init__(self, moment: str, count: int) -> None:
        self.moment, self.count = moment, count
        self.seen: Counter[str] = Counter()

    def due(self, moment: str) -> bool:
        self.seen[moment] += 1
        return moment == self.moment and self.seen[moment] == self.count

    def hit(self, moment: str) -> None:
        if self.due(moment):
            self.strike()

    def strike(self) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def install(self) -> None:
        """Only in this process, and only after everything is imported."""
        self._sqlite()
        self._renames()
        self._files()

    def _sqlite(self) -> None:
        hooks, connect = self, sqlite3.connect

        class Connection(sqlite3.Connection):
            def execute(self, sql: str, *values: Any) -> sqlite3.Cursor:
                if sql == "COMMIT":
                    hooks.hit("before a commit")
                cursor = super().execute(sql, *values)
                if sql == "COMMIT":
                    hooks.hit("after a commit")
                elif sql.startswith("INSERT"):
                    hooks.hit("in a transaction")
                return cursor

        def counting(*args: Any, **settings: Any) -> Any:
            return connect(*args, factory=Connection, **settings)

        sqlite3.connect = counting

    def _renames(self) -> None:
        replace, unlink = os.replace, os.unlink

        def counting_replace(*args: Any, **settings: Any) -> None:
            self.hit("before a rename")
            replace(*args, **settings)
            self.hit("after a rename")

        def counting_unlink(*args: Any, **settings: Any) -> None:
            self.hit("before a deletion")
            unlink(*args, **settings)

        os.replace, os.unlink = counting_replace, counting_unlink

    def _files(self) -> None:
        opening, texts, data = io.open, Path.write_text, Path.write_bytes

        def counting_open(file: Any, mode: str = "r", *args: Any, **more: Any) -> Any:
            found = opening(file, mode, *args, **more)
            if set(mode) & set("wax+"):
                self.hit("file opened")
            return found

        def halves(write: Any) -> Any:
            def counting(path: Path, content: Any, *args: Any, **more: Any) -> Any:
                if self.due("half a file written"):
                    write(path, content[: len(content) // 2], *args, **more)
                    self.strike()
                return write(path, content, *args, **more)

            return counting

        io.open = builtins.open = counting_open
        Path.write_text, Path.write_bytes = halves(texts), halves(data)


def main(folder: str, config: str, moment: str, count: str) -> None:
    # Imported here, since every worker imports this file's top level too.
    from guerdon.agents import workers
    from guerdon.run import Resources, RunConfig, run_search, search
    from tests.run_controller import _start_light_server

    real = os.environ.get("JOBS") == "real"
    if not real:
        workers.start_server = _start_light_server
    hooks = Hooks(moment, int(count))
    if os.environ.get("REPORT") == "quick":
        search.write_report = lambda folder: (folder / "report.html").write_text("")
    function = f"tests.soak.jobs:{'learn' if real else 'train'}"
    resources = Resources(workers=WORKERS, function=function)
    hooks.install()
    run_search(
        RunConfig(**json.loads(config)),
        Path(folder),
        resources,
        lambda kind, data: hooks.hit("event"),
    )
    print(json.dumps(hooks.seen))


if __name__ == "__main__":
    main(*sys.argv[1:])

"""A run folder that somebody sent: what it may hold before it is read or written to."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from guerdon.journal import JournalError

_FOLDERS = ("trainings", "answers", "figures")
"""Folders of a run; what else lies beside the journal is the user's own."""

_FILES = ("journal.", "report.", "bank.npz", ".bank.npz")
"""How the names of a run's own files begin."""


def require_no_links(folder: Path) -> None:
    """Refuse a run folder in which a file or folder of ours is a link or a pipe.

    What a run writes through a link lands on somebody else's file, and what the report
    reads through one leaves with the report. The folder itself may be a link.

    Raises:
        JournalError: names the link, or what is neither file nor folder.
    """
    for path in _ours(folder):
        try:
            mode = path.lstat().st_mode
        except FileNotFoundError:  # of a run that is under way
            continue
        if not (stat.S_ISLNK(mode) or stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
            # A pipe never begins, and a device never ends.
            raise JournalError(
                f"{path}: expected a file or folder of the run, found a pipe, a socket "
                "or a device; nothing was read or written. Remove it"
            )
        if stat.S_ISLNK(mode):
            raise JournalError(
                f"{path}: expected a file or folder of the run, found a link to "
                f"{os.readlink(path)!r}; nothing was read or written. Remove it, or "
                "copy the run with the files themselves (cp -rL)"
            )


def _ours(folder: Path) -> Iterator[Path]:
    """Everything of a run, without walking through a link."""
    try:
        names = sorted(os.listdir(folder))
    except OSError:  # whoever opens the journal says it better
        return
    for name in names:
        if name in _FOLDERS or name.startswith(_FILES):
            yield folder / name
    for top in _FOLDERS:
        for place, folders, files in os.walk(folder / top):
            for name in (*folders, *files):
                yield Path(place) / name


def require_inside(folder: Path, name: str) -> Path:
    """The file of a run that its journal names, which must lie in the folder.

    Raises:
        JournalError: names a file that some link of the user's leads out of it.
    """
    path = folder / name
    if not path.resolve().is_relative_to(folder.resolve()):
        raise JournalError(f"{path}: expected a file of the run, found one outside")
    return path

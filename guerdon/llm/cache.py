"""Answers that were bought once, on disk by the hash of what was asked."""

from __future__ import annotations

import contextlib
import json
import os
import threading
import warnings
from pathlib import Path
from weakref import WeakValueDictionary

from guerdon.llm.client import Answer, Chat, Request


class CacheWarning(UserWarning):
    """The cache could not be read or written; the answer is good all the same."""


class Cached:
    """A chat that never buys the same answer twice.

    Entries are files ``ab/abcdef….json`` under ``folder``, written beside and moved
    into place, so a reader never sees half of one. A file that is not an entry counts
    as a miss and is kept as ``.corrupt``.

    Args:
        chat: what answers when the cache does not.
        folder: made when the first answer is kept.
    """

    def __init__(self, chat: Chat, folder: Path) -> None:
        self._chat = chat
        self.folder = folder
        self._guard = threading.Lock()
        self._locks: WeakValueDictionary[str, threading.Lock] = WeakValueDictionary()

    @property
    def model(self) -> str:
        """Identity of the model."""
        return self._chat.model

    def chat(self, request: Request) -> Answer:
        """Answer from the cache, or buy the answer and keep it.

        Raises:
            ModelError: from the chat inside; failures are not kept.
        """
        key = request.key(self.model)
        with self._guard:
            lock = self._locks.setdefault(key, threading.Lock())
        # One lock per question: two threads that ask the same thing buy it once.
        with lock:
            answer = self._read(key)
            if answer is not None:
                return answer.from_cache()
            answer = self._chat.chat(request)
            self._write(key, request, answer)
            return answer

    def close(self) -> None:
        """Close the chat inside."""
        self._chat.close()

    def path(self, key: str) -> Path:
        """File of the entry for ``key``."""
        return self.folder / key[:2] / f"{key}.json"

    def _read(self, key: str) -> Answer | None:
        path = self.path(key)
        try:
            entry = json.loads(path.read_text("utf-8"))
            if not isinstance(entry, dict) or entry.get("key") != key:
                raise ValueError("the entry is not the one that its name says")
            return Answer.from_json(entry.get("answer"))
        except FileNotFoundError:
            return None
        except OSError as error:
            warnings.warn(
                f"cache entry {path} cannot be read ({error.strerror}); asking again",
                CacheWarning,
                stacklevel=4,
            )
        except (ValueError, RecursionError) as error:
            aside = path.with_suffix(".corrupt")
            with contextlib.suppress(OSError):
                # In a folder that is read-only, it stays where it is.
                os.replace(path, aside)
            warnings.warn(
                f"cache entry {path.name} is corrupt ({error}); kept as {aside.name}",
                CacheWarning,
                stacklevel=4,
            )
        return None

    def _write(self, key: str, request: Request, answer: Answer) -> None:
        path = self.path(key)
        beside = path.with_suffix(f".{os.getpid()}-{threading.get_ident()}.tmp")
        entry = {"key": key, "answer": answer.as_json(), "request": request.as_json()}
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            beside.write_text(json.dumps(entry), "utf-8")
            os.replace(beside, path)
        except OSError as error:
            # The answer is paid for; a full disk must not lose it.
            with contextlib.suppress(OSError):
                beside.unlink()
            warnings.warn(
                f"cache folder {self.folder} cannot be written ({error.strerror}); "
                "this answer will be bought again next time",
                CacheWarning,
                stacklevel=4,
            )

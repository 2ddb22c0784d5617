"""Models without a model: answers from a file, for replays and for tests."""

from __future__ import annotations

import json
import stat
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import cast, get_args

from guerdon.checks import integer
from guerdon.llm.budget import count_tokens, prompt_size
from guerdon.llm.client import Answer, Chat, ErrorKind, ModelError, Request

LARGEST = 64 << 20
"""Bytes of the largest file of answers that is read."""


def _lines(path: Path) -> Iterator[tuple[int, object]]:
    """Numbered JSON values of a JSONL file."""
    for number, line in enumerate(_text(path).splitlines(), 1):
        if line.strip():
            try:
                yield number, json.loads(line)
            except (ValueError, RecursionError):
                raise ValueError(
                    f"{path}, line {number}: expected one JSON value"
                ) from None


def _text(path: Path) -> str:
    try:
        found = path.stat()
        # A device never ends, and a pipe may never begin.
        if not stat.S_ISREG(found.st_mode):
            raise ValueError(
                f"recorded answers: expected a regular file, and {path} is "
                f"{_KINDS.get(stat.S_IFMT(found.st_mode), 'something else')}"
            )
        with path.open("rb") as file:
            data = file.read(LARGEST + 1)
        if len(data) > LARGEST:
            raise ValueError(
                f"recorded answers: expected at most {LARGEST:,} bytes, and {path} has "
                f"{max(found.st_size, len(data)):,}"
            )
        return data.decode("utf-8").replace("\r\n", "\n")
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(
            f"recorded answers: {path} cannot be read ({type(error).__name__})"
        ) from None


_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
}


class Replay:
    """Recorded answers, found by the content of the request.

    Each line of the file is ``{"key": ..., "answer": {...}}`` as ``Recorder`` writes
    it. Where a request was recorded twice, the first answer holds.

    Raises:
        ValueError: when the file cannot be read or a line is not a recording.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._answers: dict[str, Answer] = {}
        for number, line in _lines(path):
            if not isinstance(line, dict) or not isinstance(line.get("key"), str):
                raise ValueError(
                    f"{path}, line {number}: expected an object with a 'key'"
                )
            try:
                answer = Answer.from_json(line.get("answer"))
            except ValueError as error:
                raise ValueError(f"{path}, line {number}: {error}") from None
            self._answers.setdefault(line["key"], answer)
        self._models = sorted({a.model for a in self._answers.values()})

    @property
    def model(self) -> str:
        """The recorded model, where the file holds one only."""
        return self._models[0] if len(self._models) == 1 else f"replay:{self.path}"

    def chat(self, request: Request) -> Answer:
        """The recorded answer.

        Raises:
            ModelError: kind ``server``, for a request that was not recorded.
        """
        for model in self._models:
            answer = self._answers.get(request.key(model))
            if answer is not None:
                return answer.from_cache()
        raise ModelError(
            f"{self.path} holds no answer to this request (of {len(self._answers)} "
            f"recorded, for {', '.join(self._models) or 'no model'}); a changed "
            "prompt, seed or grammar is another request",
            "server",
        )

    def close(self) -> None:
        """Nothing is held."""


class Recorder:
    """A chat that appends every answer to a file that ``Replay`` reads."""

    def __init__(self, chat: Chat, path: Path) -> None:
        self._chat = chat
        self.path = path
        self._lock = threading.Lock()

    @property
    def model(self) -> str:
        """Identity of the model."""
        return self._chat.model

    def chat(self, request: Request) -> Answer:
        """Answer one request and record it.

        Raises:
            ModelError: from the chat inside; failures are not recorded.
        """
        answer = self._chat.chat(request)
        line = {"key": request.key(answer.model), "answer": answer.as_json()}
        with self._lock, self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        return answer

    def close(self) -> None:
        """Close the chat inside."""
        self._chat.close()


class Scripted:
    """Answers from a file, in order, whatever is asked.

    A ``.jsonl`` file holds one answer a line: a JSON string, or an object
    ``{"error": kind, "message": ...}`` for a failure. Any other file holds texts
    with a line ``---`` between them.

    Args:
        path: the file.
        cycle: begin again after the last answer, rather than fail.
        skip: answers that were given already, in an earlier part of a run.

    Raises:
        ValueError: when the file cannot be read or holds no answer, or for a negative
            number of answers to skip.
        TypeError: for a number of them that is no whole number.
    """

    def __init__(self, path: Path, *, cycle: bool = False, skip: int = 0) -> None:
        self.path = path
        self.cycle = cycle
        self._lock = threading.Lock()
        self._next = integer("skip", skip)
        self._script: list[str | ModelError]
        if path.suffix == ".jsonl":
            self._script = [_scripted(path, n, line) for n, line in _lines(path)]
        else:
            blocks: list[list[str]] = [[]]
            for line in _text(path).splitlines():
                if line.rstrip() == "---":
                    blocks.append([])
                else:
                    blocks[-1].append(line)
            self._script = ["\n".join(block).strip("\n") for block in blocks]
        if not self._script:
            raise ValueError(f"{path}: expected at least one answer, got none")

    @property
    def model(self) -> str:
        """``scripted:`` and the name of the file."""
        return f"scripted:{self.path.name}"

    def chat(self, request: Request) -> Answer:
        """The next answer of the script.

        Raises:
            ModelError: the scripted failure, or kind ``server`` after the last answer.
        """
        with self._lock:
            index = self._next
            self._next += 1
        if index >= len(self._script) and not self.cycle:
            raise ModelError(
                f"{self.path} holds {len(self._script)} answers and this is request "
                f"{index + 1}",
                "server",
            )
        entry = self._script[index % len(self._script)]
        if isinstance(entry, ModelError):
            raise ModelError(entry.message, entry.kind, retryable=entry.retryable)
        return Answer(
            text=entry,
            prompt_tokens=prompt_size(request),
            completion_tokens=count_tokens(entry),
            usd=0.0,
            seconds=0.0,
            model=self.model,
            estimated=True,
        )

    def close(self) -> None:
        """Nothing is held."""


def _scripted(path: Path, number: int, line: object) -> str | ModelError:
    if isinstance(line, str):
        return line
    if isinstance(line, dict) and line.get("error") in get_args(ErrorKind):
        kind = cast(ErrorKind, line["error"])
        retryable = kind in ("timeout", "rate_limit", "server", "empty")
        return ModelError(str(line.get("message", "")), kind, retryable=retryable)
    raise ValueError(
        f"{path}, line {number}: expected a JSON string, or an object with 'error' "
        f"one of {', '.join(get_args(ErrorKind))}"
    )

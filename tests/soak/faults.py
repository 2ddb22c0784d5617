"""A model server that misbehaves by a seeded schedule."""

from __future__ import annotations

import functools
import gzip
import hashlib
import json
import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import pytest

from guerdon.journal import Journal
from guerdon.llm.client import connect
from guerdon.llm.journaled import AGAIN
from guerdon.llm.retry import Breaker, Retrying
from tests.llm.conftest import FakeServer, Reply, completion

TIMEOUT = 1.0
"""Seconds that a client of this server waits for one call."""

SLOW = 3.0
"""Seconds for which the slow faults would go on."""

GOOD = """# plan: count down
PARAMS = {{"w": {weight}}}
def reward(prev, action, now, params):
    return {{"gain": params.w * (prev.left - now.left)}}
"""

_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
_BOMB = gzip.compress(b" " * (32 << 20))
"""Some kilobytes that unpack to 32 MiB."""

Fault = Callable[[Any, random.Random], Reply]
"""A reply in place of a good completion."""


def _busy(status: int, **headers: str) -> Fault:
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    body = {"error": {"message": "busy"}}
    return lambda good, rng: Reply(body, status, names)


def _body(body: object) -> Fault:
    return lambda good, rng: Reply(body)


def _raw(*parts: bytes, pause: float = 0.0) -> Fault:
    def act(out: BinaryIO) -> None:
        for part in parts:
            out.write(part)
            out.flush()
            time.sleep(pause)

    return lambda good, rng: Reply(act=act)


def _slowly(data: bytes, head: bytes = b"") -> Fault:
    """One byte at a time, for ``SLOW`` seconds."""

    def act(out: BinaryIO) -> None:
        out.write(head)
        for place in range(int(SLOW / 0.05)):
            out.write(data[place % len(data) : place % len(data) + 1])
            out.flush()
            time.sleep(0.05)

    return lambda good, rng: Reply(act=act)


def _for_ever(head: bytes, part: bytes) -> Fault:
    """As fast as the client takes it, until it goes."""

    def act(out: BinaryIO) -> None:
        out.write(head)
        end = time.monotonic() + SLOW
        while time.monotonic() < end:
            out.write(part)

    return lambda good, rng: Reply(act=act)


def _mid_stream(good: Any, rng: random.Random) -> Reply:
    data = json.dumps(good).encode()
    cut = rng.randrange(1, len(data))
    head = _HEAD + b"Content-Length: %d\r\n\r\n" % len(data)
    return Reply(act=lambda out: (out.write(head + data[:cut]), None)[1])


def _short_length(good: Any, rng: random.Random) -> Reply:
    data = json.dumps(good).encode()
    head = _HEAD + b"Content-Length: %d\r\n\r\n" % (len(data) // 2)
    return Reply(act=lambda out: (out.write(head + data), None)[1])


def _bomb(status: int) -> Fault:
    headers = {"Content-Encoding": "gzip"}
    return lambda good, rng: Reply(_BOMB, status, headers)


FAILING: dict[str, Fault] = {
    "too slow": lambda good, rng: Reply(good, delay=2 * TIMEOUT),
    "429": _busy(429),
    "429 at once": _busy(429, Retry_After="0"),
    "429 in a thousand days": _busy(429, Retry_After="86400000"),
    "429 yesterday": _busy(429, Retry_After="-86400"),
    "429 in 2015": _busy(429, Retry_After="Wed, 21 Oct 2015 07:28:00 GMT"),
    "429 in 9999": _busy(429, Retry_After="Fri, 31 Dec 9999 23:59:59 GMT"),
    "429 soon": _busy(429, Retry_After="soon"),
    "429 never": _busy(429, Retry_After="1e999"),
    "429 nan": _busy(429, Retry_After="nan", Retry_After_Ms="-inf"),
    "500": _busy(500),
    "502 in a page": lambda good, rng: Reply(b"<html>bad gateway</html>", 502),
    "503 in a moment": _busy(503, Retry_After="0.01"),
    "503 with an endless body": _for_ever(
        b"HTTP/1.1 503 Busy\r\nContent-Type: text/plain\r\n\r\n", b"sorry " * 4096
    ),
    "401": _busy(401),
    "error with status 200": _body({"error": {"message": "out of memory"}}),
    "hang up": lambda good, rng: Reply(drop=True),
    "hang up in the head": _raw(_HEAD[:20]),
    "hang up in mid-stream": _mid_stream,
    "nothing": _body(b""),
    "empty answer": lambda good, rng: Reply(completion("", usage=(40, 1))),
    "no answer": lambda good, rng: Reply(completion(None, usage=(40, 1))),
    "huge body": _body(b" " * (5 << 20)),
    "huge answer": lambda good, rng: Reply(completion("reward " * 150_000)),
    "endless body": _for_ever(_HEAD + b"\r\n", b" " * 65536),
    "not UTF-8": _body(b'{"choices": [{"message": {"content": "\xff\xfe"}}]}'),
    "deep": _body(b"[" * 100_000),
    "no choices": _body({"choices": []}),
    "choices of another kind": _body({"choices": {"0": "hello"}}),
    "content of another kind": _body(completion({"text": "hello"})),
    "another protocol": _body({"answer": "hello"}),
    "null": _body(b"null"),
    "redirect": _busy(307, Location="/v1/chat/completions"),
    "redirect away": _busy(302, Location="http://127.0.0.1:9/v1"),
    "redirect nowhere": _busy(301),
    "garbage for chunks": _raw(
        _HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"zz\r\nno chunk\r\n0\r\n\r\n"
    ),
    "no HTTP": _raw(b"SSH-2.0-OpenSSH_9.9\r\n"),
    "slow body": _slowly(b'{"choices": ', _HEAD + b"Content-Length: 9999\r\n\r\n"),
    "slow head": _slowly(b"X-A: b\r\n", _HEAD),
    "half a body and silence": _raw(
        _HEAD + b"Content-Length: 9999\r\n\r\n", b'{"choices"', pause=SLOW / 4
    ),
    "too short a length": _short_length,
    "gzip bomb": _bomb(200),
    "gzip bomb in an error": _bomb(500),
}
"""Calls that give no answer."""


def _usage(usage: object) -> Fault:
    return lambda good, rng: Reply({**good, "usage": usage})


def _twice(good: Any, rng: random.Random) -> Reply:
    """Two choices where one was asked for."""
    return Reply({**good, "choices": good["choices"] * 2})


def _repeated(good: Any, rng: random.Random) -> Reply:
    return Reply(completion(GOOD.format(weight=0.5), usage=None))


LYING: dict[str, Fault] = {
    "no usage": _usage(None),
    "usage of nothing": _usage({"prompt_tokens": 0, "completion_tokens": 0}),
    "usage below nothing": _usage({"prompt_tokens": -9, "completion_tokens": -9}),
    "usage of a million": _usage({"prompt_tokens": 10**6, "completion_tokens": 10**6}),
    "usage beyond numbers": _usage({"prompt_tokens": 10**30, "completion_tokens": 1}),
    "usage in words": _usage("plenty"),
    "usage that is true": _usage({"prompt_tokens": True, "completion_tokens": True}),
    "two choices": _twice,
    "the same again": _repeated,
    "prose, whatever the grammar": lambda good, rng: Reply(
        completion("I would love to help you with that reward!", usage=None)
    ),
    "half a program": lambda good, rng: Reply(
        completion(GOOD.format(weight=1)[:70], usage=None, finish="length")
    ),
}
"""Calls that give an answer, and not what was asked for."""


@dataclass(frozen=True)
class Asked:
    """One call as the server saw it."""

    content: str
    """Hash of the conversation and its seed."""
    probe: bool
    """It only asked whether the server knows grammars."""
    fault: str | None

    @property
    def answered(self) -> bool:
        """Whether the server gave an answer that somebody has to pay."""
        return self.fault is None or self.fault in LYING

    @property
    def settled(self) -> bool:
        """Whether it was a question about grammars that the server let be settled.

        No words are an answer here: they say that the grammar was not kept.
        """
        empty = self.fault in ("empty answer", "no answer")
        return self.probe and (self.answered or empty)


class FaultyServer:
    """Answers well, lies, or fails, as a seed says.

    Args:
        seed: of the schedule.
        failing: share of calls that give no answer, 0 to 1.
        lying: share of the others that give something else than was asked for.
        only: the failures to choose from; by default all.
    """

    def __init__(
        self,
        seed: int,
        failing: float,
        lying: float = 0.3,
        only: tuple[str, ...] = tuple(FAILING),
    ) -> None:
        self.failing, self.lying, self.only = failing, lying, only
        self.log: list[Asked] = []
        self._seed = seed
        self._lock = threading.Lock()
        self.server = FakeServer()
        self.server.decide = self.decide

    @property
    def uri(self) -> str:
        return f"{self.server.url}#tiny"

    @property
    def faults(self) -> Counter[str]:
        """How often each fault was shown."""
        return Counter(a.fault for a in self.log if a.fault is not None)

    def decide(self, body: dict[str, Any]) -> Reply:
        messages = body["messages"]
        told = json.dumps([messages, body.get("seed")], sort_keys=True)
        content = hashlib.sha256(told.encode()).hexdigest()
        with self._lock:
            number = len(self.log)
            rng = random.Random(f"{self._seed}/{number}")
            fault = self._fault(number, rng)
            self.log.append(Asked(content, len(messages) == 1, fault))
        good = self._good(content, messages)
        found = {**FAILING, **LYING}.get(fault or "")
        return Reply(good) if found is None else found(good, rng)

    def _fault(self, number: int, rng: random.Random) -> str | None:
        # Of every ten calls the same number fails, in an order of their own.
        order = list(range(10))
        random.Random(f"{self._seed}/{number // 10}").shuffle(order)
        if order[number % 10] < 10 * self.failing:
            return rng.choice(self.only)
        return rng.choice(tuple(LYING)) if rng.random() < self.lying else None

    def _good(self, content: str, messages: list[dict[str, str]]) -> dict[str, Any]:
        size = sum(len(m["content"].encode()) for m in messages)
        text = GOOD.format(weight=1 + int(content[:8], 16) % 1000 / 1000)
        return completion(text, usage=(size // 4, len(text) // 3))

    def close(self) -> None:
        self.server.close()


# --- how a search with such a server is run and accounted for ---------------------


def hurry(
    patch: pytest.MonkeyPatch,
    *,
    attempts: int = 4,
    limit: int = 5,
    rest: float = 0.3,
    clock: Callable[[], float] = time.monotonic,
) -> None:
    """The waits of seconds and minutes in hundredths of a second."""

    def retrying(chat: Any, *, attempts: int, **settings: Any) -> Retrying:
        return Retrying(
            chat,
            attempts=attempts,
            base_delay=0.002,
            max_delay=0.02,
            breaker=Breaker(limit, rest, clock),
            **settings,
        )

    patch.setattr("guerdon.llm.retry.Retrying", retrying)
    quick = functools.partial(connect, timeout=TIMEOUT, attempts=attempts)
    patch.setattr("guerdon.run.search.connect", quick)


def account(folder: Path, server: FaultyServer) -> dict[str, int]:
    """Compare the journal with what the server saw, call by call."""
    with Journal.open(folder, readonly=True) as journal:
        calls, totals = journal.calls(), journal.totals()
    made = [c for c in calls if c.failure is None or _was_made(c.failure)]
    answered = [c for c in made if c.failure is None]
    # A question about grammars that was settled is no call of its own; its tokens are
    # those of the first answer.
    asked = [a for a in server.log if not a.settled]
    assert len(made) == len(asked) == totals.calls_ok + totals.calls_failed
    assert len(answered) == sum(a.answered for a in asked) == totals.calls_ok
    assert totals.calls_refused == len(calls) - len(made)
    # What was answered was answered once.
    bought = Counter(a.content for a in asked if a.answered)
    assert set(bought.values()) <= {1}
    assert len({c.key for c in answered}) == len(answered)
    spent = totals.prompt_tokens + totals.completion_tokens
    assert spent == sum(
        (c.prompt_tokens or 0) + (c.completion_tokens or 0) for c in calls
    )
    return {"asked": len(asked), "answered": len(answered), "tokens": spent}


def _was_made(failure: str) -> bool:
    return not failure.removeprefix(AGAIN).startswith(("budget: ", "breaker: "))

"""Any text is a program or a refusal with a line and a reason, in bounded time."""

from __future__ import annotations

import time
from pathlib import Path

from hypothesis import example, given, settings
from hypothesis import strategies as st

from guerdon.reward_design.language import Rejected, Tree, parse
from guerdon.reward_design.language.outline import MAX_TEXT
from guerdon.types import Failure
from tests.fuzz.one_input import one_input
from tests.reward_design.language.conftest import DISCRETE, LAYOUT

CORPUS = [
    path.read_bytes()
    for path in sorted((Path(__file__).parents[2] / "fuzz" / "corpus").iterdir())
]
WORDS = (
    *("def reward(prev, action, now, params):\n", "    return {'a': ", "PARAMS = {"),
    *("if now.open:\n", "else:\n", "for v in now.velocity:\n", "\n    ", "\t", "\\\n"),
    *("(", "[", "{", ")", "not ", "-", "lambda: ", "1 if x else ", ".x", "()", " + 1"),
    *("'", '"""', "#", "\0", "\r", "\f", "\ufeff", "\ud800", "9" * 5000, "1e999"),
)
SECONDS = 5.0
"""Processor seconds for one text; the slowest known takes a small part of it."""


def told(text: str) -> Tree | Failure:
    """What a text is; a refusal says where, and why."""
    began = time.process_time()
    try:
        return parse(text, LAYOUT, DISCRETE)
    except Rejected as error:
        failure = error.failure
    finally:
        assert time.process_time() - began < SECONDS
    lines = text.replace("\r\n", "\n").replace("\r", "\n").count("\n") + 1
    assert failure.line is not None, failure
    assert 1 <= failure.line <= lines, failure
    assert 0 < len(failure.reason) < 2000
    return failure


@settings(max_examples=300, deadline=None)
@given(st.text(st.characters(exclude_categories=())))
def test_any_letters_are_refused_or_read(text: str) -> None:
    told(text)


@settings(max_examples=150, deadline=None)
@given(st.binary())
def test_any_bytes_hold_every_property(data: bytes) -> None:
    one_input(data)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.sampled_from(WORDS), max_size=30), st.integers(1, 5000))
@example(["not "], 5000)
@example([".x"], 5000)
@example([" + 1"], 5000)
@example(["1 if x else "], 5000)
def test_any_words_of_python_however_often_are_refused_or_read(
    words: list[str], times: int
) -> None:
    """Also beyond the cap, and deeper than Python's own parser goes."""
    text = "".join(words)
    told(text)
    told((text * times)[: 2 * MAX_TEXT])
    told(WORDS[0] + WORDS[1] + (text * times)[: MAX_TEXT - 200])


@st.composite
def changed(draw: st.DrawFn) -> bytes:
    """A kept input of the fuzzer with parts of it cut out, repeated and replaced."""
    data = draw(st.sampled_from(CORPUS))
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(data)))
        stop = draw(st.integers(start, min(len(data), start + 60)))
        other = draw(st.sampled_from(CORPUS))
        middle = draw(
            st.one_of(
                st.just(b""),
                st.binary(max_size=4),
                st.sampled_from(WORDS).map(
                    lambda word: word.encode(errors="surrogatepass")
                ),
                st.integers(2, 400).map(lambda n, part=data[start:stop]: part * n),
                st.integers(0, len(other)).map(lambda at, text=other: text[at:]),
            )
        )
        data = data[:start] + middle + data[stop:]
    return data


@settings(max_examples=150, deadline=None)
@given(changed())
def test_any_change_of_a_kept_input_holds_every_property(data: bytes) -> None:
    one_input(data)
    told(data[1:].decode(errors="replace"))

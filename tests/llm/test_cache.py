from __future__ import annotations

import json
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from guerdon.llm.cache import Cached, CacheWarning
from guerdon.llm.client import Answer, ModelError, Request

from .conftest import Fake, ask


def test_second_question_is_answered_from_disk(tmp_path: Path) -> None:
    fake = Fake("one", "two")
    first = Cached(fake, tmp_path).chat(ask())
    again = Cached(fake, tmp_path).chat(ask())
    other = Cached(fake, tmp_path).chat(ask(seed=1))
    assert [first.text, again.text, other.text] == ["one", "one", "two"]
    assert [first.cached, again.cached] == [False, True]
    assert again.tokens == first.tokens


def test_entry_lies_under_the_hash_of_the_question(tmp_path: Path) -> None:
    Cached(Fake("one"), tmp_path).chat(ask())
    key = ask().key("fake")
    assert [p.relative_to(tmp_path) for p in tmp_path.rglob("*") if p.is_file()] == [
        Path(key[:2]) / f"{key}.json"
    ]


def test_failure_is_not_kept(tmp_path: Path) -> None:
    chat = Cached(Fake(ModelError("x", "server"), "ok"), tmp_path)
    with pytest.raises(ModelError):
        chat.chat(ask())
    assert chat.chat(ask()).text == "ok"


def foreign(entry: str) -> str:
    return json.dumps(json.loads(entry) | {"key": "0" * 64})


def wrong_type(entry: str) -> str:
    data = json.loads(entry)
    data["answer"]["text"] = 5
    return json.dumps(data)


@pytest.mark.parametrize(
    "damage",
    [lambda e: e[: len(e) // 2], lambda e: "[" * 99_999, lambda e: "", foreign],
)
def test_corrupt_entry_is_a_miss_and_kept_aside(
    tmp_path: Path, damage: Callable[[str], str]
) -> None:
    chat = Cached(Fake("one", "two"), tmp_path)
    chat.chat(ask())
    path = chat.path(ask().key("fake"))
    broken = damage(path.read_text())
    path.write_text(broken)
    with pytest.warns(CacheWarning, match="is corrupt"):
        assert chat.chat(ask()).text == "two"
    assert path.with_suffix(".corrupt").read_text() == broken
    assert chat.chat(ask()).cached


def test_entry_with_a_wrong_type_is_corrupt(tmp_path: Path) -> None:
    chat = Cached(Fake("one", "two"), tmp_path)
    chat.chat(ask())
    path = chat.path(ask().key("fake"))
    path.write_text(wrong_type(path.read_text()))
    with pytest.warns(CacheWarning, match="field 'text' has another type"):
        assert chat.chat(ask()).text == "two"


def test_paid_answer_survives_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    in_the_way = tmp_path / "file"
    in_the_way.write_text("")
    with pytest.warns(CacheWarning, match="cannot be"):
        assert Cached(Fake("one"), in_the_way).chat(ask()).text == "one"


def test_threads_that_ask_the_same_buy_it_once(tmp_path: Path) -> None:
    calls: list[int] = []
    start = threading.Barrier(4)

    class Slow(Fake):
        def chat(self, request: Request) -> Answer:
            calls.append(1)
            return Answer("one", 1, 1, 0.0, 0.0, "fake")

    chat = Cached(Slow(), tmp_path)

    def work(_: int) -> str:
        start.wait()
        return chat.chat(ask()).text

    with ThreadPoolExecutor(4) as pool:
        assert set(pool.map(work, range(4))) == {"one"}
    assert len(calls) == 1

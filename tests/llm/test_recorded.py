from __future__ import annotations

import math
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from guerdon.llm import recorded
from guerdon.llm.client import Answer, Chat, ModelError, connect
from guerdon.llm.recorded import Recorder, Replay, Scripted

from .conftest import Fake, ask


def test_recording_replays(tmp_path: Path) -> None:
    file = tmp_path / "calls.jsonl"
    recorder = Recorder(Fake("one\n", "zwei ü"), file)
    recorder.chat(ask("a"))
    recorder.chat(ask("b", seed=2))
    replay = Replay(file)
    assert replay.model == "fake"
    assert replay.chat(ask("b", seed=2)).text == "zwei ü"
    assert replay.chat(ask("a")).text == "one\n"
    assert replay.chat(ask("a")).cached


def test_request_that_was_not_recorded_is_an_error(tmp_path: Path) -> None:
    file = tmp_path / "calls.jsonl"
    Recorder(Fake("one"), file).chat(ask("a"))
    with pytest.raises(ModelError, match=r"no answer to this request \(of 1 recorded"):
        Replay(file).chat(ask("a", seed=1))


@pytest.mark.parametrize(
    "line", ["nonsense", "[]", '{"key": "x"}', '{"key": "x", "answer": {}}']
)
def test_bad_recording_names_its_line(tmp_path: Path, line: str) -> None:
    file = tmp_path / "calls.jsonl"
    Recorder(Fake("one"), file).chat(ask())
    with file.open("a") as handle:
        handle.write(line + "\n")
    with pytest.raises(ValueError, match="line 2"):
        Replay(file)


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"gone\.jsonl cannot be read"):
        Replay(tmp_path / "gone.jsonl")


def test_script_answers_in_order_and_then_ends(tmp_path: Path) -> None:
    file = tmp_path / "script.md"
    file.write_text("first\nline\n---\nsecond\n--- not a border\n---\n\nthird\n")
    chat = Scripted(file)
    assert [chat.chat(ask()).text for _ in range(3)] == [
        "first\nline",
        "second\n--- not a border",
        "third",
    ]
    with pytest.raises(ModelError, match="holds 3 answers and this is request 4"):
        chat.chat(ask())


def test_cycling_script_begins_again(tmp_path: Path) -> None:
    file = tmp_path / "script.md"
    file.write_text("a\n---\nb")
    chat = Scripted(file, cycle=True)
    assert [chat.chat(ask()).text for _ in range(3)] == ["a", "b", "a"]


def test_script_of_lines_can_fail(tmp_path: Path) -> None:
    file = tmp_path / "script.jsonl"
    file.write_text('"one\\ntwo"\n{"error": "timeout", "message": "slow"}\n"three"\n')
    chat = Scripted(file)
    assert chat.chat(ask()).text == "one\ntwo"
    with pytest.raises(ModelError, match="timeout: slow"):
        chat.chat(ask())
    assert chat.chat(ask()).text == "three"


def test_bad_script_names_its_line(tmp_path: Path) -> None:
    file = tmp_path / "script.jsonl"
    file.write_text('"one"\n{"error": "bored"}\n')
    with pytest.raises(ValueError, match="line 2: expected a JSON string"):
        Scripted(file)


def test_empty_script_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "script.jsonl"
    file.write_text("\n")
    with pytest.raises(ValueError, match="at least one answer"):
        Scripted(file)


def test_a_script_goes_on_behind_the_answers_that_were_given(tmp_path: Path) -> None:
    file = tmp_path / "script.md"
    file.write_text("a\n---\nb\n---\nc")
    assert Scripted(file, skip=2).chat(ask()).text == "c"
    with pytest.raises(ModelError, match="holds 3 answers and this is request 4"):
        Scripted(file, skip=3).chat(ask())
    chat = connect(f"scripted:{file}", answered=1)
    assert chat is not None
    assert chat.chat(ask()).text == "b"
    with pytest.raises(ValueError, match="skip: expected at least 0, got -1"):
        Scripted(file, skip=-1)


@pytest.mark.parametrize("kind", [Replay, Scripted])
def test_only_a_regular_file_of_some_size_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: Callable[[Path], Chat]
) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ValueError, match=r"regular file, and .*pipe is a pipe"):
        kind(tmp_path / "pipe")
    with pytest.raises(ValueError, match="regular file, and /dev/zero is a device"):
        kind(Path("/dev/zero"))
    with pytest.raises(ValueError, match=r"regular file, and .* is a folder"):
        kind(tmp_path)
    monkeypatch.setattr(recorded, "LARGEST", 100)
    (tmp_path / "large").write_text("x" * 101)
    with pytest.raises(ValueError, match=r"at most 100 bytes, and .*large has 101"):
        kind(tmp_path / "large")
    with (tmp_path / "sparse").open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(ValueError, match=r"has 1,099,511,627,776"):
        kind(tmp_path / "sparse")


@pytest.mark.parametrize(
    ("field", "value"),
    [("prompt_tokens", -1), ("usd", math.inf), ("seconds", math.nan)],
)
def test_a_recorded_number_that_cannot_be_is_refused(field: str, value: float) -> None:
    answer = Answer("a", 1, 1, 0.0, 0.0, "m").as_json() | {field: value}
    with pytest.raises(ValueError, match=f"'{field}': expected a number from 0"):
        Answer.from_json(answer)

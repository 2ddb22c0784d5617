from __future__ import annotations

from pathlib import Path

import pytest

from guerdon.llm.client import ModelError
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

from __future__ import annotations

import copy
import json
import logging
import os
import pickle
from dataclasses import asdict, dataclass
from pathlib import Path
from urllib.parse import quote

import pytest

from guerdon.llm.client import ModelError, connect
from guerdon.llm.endpoint import Endpoint
from guerdon.llm.secret import LONGEST, Secret, find_key

from .conftest import KEY, FakeServer, Reply, ask, completion, error


@dataclass
class Holder:
    key: Secret


def test_a_secret_does_not_print_and_does_not_leave() -> None:
    key = Secret(KEY)
    shown = [
        repr(key),
        str(key),
        f"{key}",
        f"{key:>9}",
        f"{key!r}",
        f"{key} {key!r}",
    ]
    shown += [repr(Holder(key)), str([key]), json.dumps({"key": key}, default=str)]
    shown += [repr(dir(key))]
    assert not any(KEY in text for text in shown)
    for leave in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="does not leave"):
            leave(key)
    with pytest.raises(TypeError, match="does not leave"):
        asdict(Holder(key))
    with pytest.raises(TypeError):
        json.dumps(key)
    with pytest.raises(TypeError):
        vars(key)


@pytest.mark.parametrize(
    "key", ["sk-plain", 'sk-"quoted"', "sk-\\back'slash", "a+b/c=d8"]
)
def test_a_secret_is_found_however_it_is_quoted(key: str) -> None:
    secret = Secret(key)
    forms = [key, json.dumps(key), repr(key), quote(key, safe=""), f"Bearer {key}."]
    for text in forms:
        assert key not in secret.scrub(text)
        assert "***" in secret.scrub(text)
    assert Secret("").scrub("nothing") == "nothing"


def test_a_dummy_for_a_server_without_keys_leaves_answers_alone(
    server: FakeServer,
) -> None:
    program = "def reward(prev, action, now, params):\n    return {'x': now.x}"
    for key, word in (("x", "x"), ("none", "None, none"), (KEY, "***")):
        server.script.append(Reply(completion(f"{program}  # {word or key}")))
        if key == KEY:
            server.script[-1] = Reply(completion(f"{program}  # {KEY}"))
        chat = Endpoint(server.url, "tiny", key=Secret(key))
        try:
            assert chat.chat(ask()).text == f"{program}  # {word}"
        finally:
            chat.close()
    assert server.keys == ["Bearer x", "Bearer none", f"Bearer {KEY}"]


# --- files ------------------------------------------------------------------------


def write(path: Path, text: str | bytes = "sk-file\n", mode: int = 0o600) -> Path:
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    path.chmod(mode)
    return path


@pytest.mark.parametrize("mode", [0o600, 0o400])
def test_openais_key_comes_from_a_file_and_goes_to_openai_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: int
) -> None:
    file = write(tmp_path / "key", mode=mode)
    monkeypatch.setenv("OPENAI_API_KEY_FILE", str(file))
    assert find_key(openai=True).reveal() == "sk-file"
    assert find_key(openai=False).reveal() == ""
    # A file that is named is meant; the variable beside it may be an old one.
    monkeypatch.setenv("OPENAI_API_KEY", "sk-old")
    assert find_key(openai=True).reveal() == "sk-file"
    # What is named for Guerdon comes before what is there for every program.
    monkeypatch.setenv("GUERDON_API_KEY", "sk-guerdon")
    assert find_key(openai=True).reveal() == "sk-guerdon"


@pytest.mark.skipif(not hasattr(os, "getuid"), reason="the platform has no modes")
@pytest.mark.parametrize("mode", [0o644, 0o640, 0o606, 0o660])
def test_a_key_file_that_others_can_open_is_refused_with_the_way_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: int
) -> None:
    file = write(tmp_path / "key", mode=mode)
    monkeypatch.setenv("GUERDON_API_KEY_FILE", str(file))
    with pytest.raises(ModelError, match=f"mode {mode:04o}; run: chmod 600 ") as caught:
        find_key(openai=False)
    assert caught.value.kind == "auth"
    assert "sk-file" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "is empty"),
        ("\n", "is empty"),
        ("s" * (LONGEST + 1), f"has more than {LONGEST} bytes"),
        (b"\xff\xfe", r"cannot be read \(UnicodeDecodeError\)"),
    ],
)
def test_a_file_that_is_no_key_is_refused_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str | bytes, words: str
) -> None:
    file = write(tmp_path / "key", content)
    monkeypatch.setenv("OPENAI_API_KEY_FILE", str(file))
    with pytest.raises(ModelError, match=f"OPENAI_API_KEY_FILE: .*{words}"):
        connect("openai:gpt-5")
    monkeypatch.setenv("OPENAI_API_KEY_FILE", str(tmp_path))
    with pytest.raises(ModelError, match="cannot be read"):
        connect("openai:gpt-5")


def test_a_file_with_two_lines_is_refused_without_showing_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = write(tmp_path / "key", "sk-one\nsk-two\n")
    monkeypatch.setenv("GUERDON_API_KEY_FILE", str(file))
    with pytest.raises(ValueError, match="line break") as caught:
        find_key(openai=False)
    assert "sk-one" not in str(caught.value)


def test_a_key_in_the_address_is_refused() -> None:
    with pytest.raises(ValueError, match=r"no '\?' in the URL") as caught:
        connect("http://127.0.0.1/v1?api_key=hunter2#m")
    assert "hunter2" not in str(caught.value)


# --- what servers send back -------------------------------------------------------


def test_a_key_that_comes_back_reaches_no_log_at_any_level(
    server: FakeServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    chat = Endpoint(server.url, "small", key=Secret(KEY))
    echo = {"X-Echo": f"Bearer {KEY}", "X-Request-Id": KEY, "Location": f"/{KEY}"}
    server.script = [
        Reply(completion(f"your key is {KEY}"), headers=echo),
        Reply({"error": {"message": KEY}}, 401, echo),
        Reply({"error": {"message": KEY}}, 307, echo),
        Reply({"error": {"message": KEY}}, 500, echo),
    ]
    assert chat.chat(ask()).text == "your key is ***"
    for _ in range(3):
        with pytest.raises(ModelError):
            chat.chat(ask())
    chat.close()
    # A handler of the user's own sees the records themselves.
    assert "X-Echo" in caplog.text
    assert KEY not in caplog.text
    for record in caplog.records:
        assert KEY not in f"{record.msg} {record.args} {record.getMessage()}"


@pytest.mark.parametrize("place", range(270, 305, 5))
def test_half_a_key_at_the_edge_of_a_long_message_does_not_show(
    server: FakeServer, place: int
) -> None:
    server.script = [error(500, "x" * place + KEY), Reply({"error": "y" * place + KEY})]
    chat = Endpoint(server.url, "small", key=Secret(KEY))
    for _ in range(2):
        with pytest.raises(ModelError) as caught:
            chat.chat(ask())
        assert KEY[:9] not in str(caught.value)
    chat.close()


def test_a_key_for_a_finish_reason_does_not_show(server: FakeServer) -> None:
    server.script = [Reply(completion("", finish=f"Bearer {KEY}"))]
    chat = Endpoint(server.url, "small", key=Secret(KEY))
    with pytest.raises(ModelError, match=r"finish reason 'Bearer \*\*\*'") as caught:
        chat.chat(ask())
    assert KEY not in str(caught.value)
    chat.close()

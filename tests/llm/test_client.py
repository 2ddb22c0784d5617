from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from guerdon.extras import MissingExtra
from guerdon.llm.budget import Budget
from guerdon.llm.client import Answer, Message, ModelError, Request, connect
from guerdon.llm.endpoint import Endpoint
from guerdon.llm.recorded import Replay, Scripted
from guerdon.llm.secret import Secret

from .conftest import ROOT, ask


def test_key_is_the_same_in_another_process() -> None:
    code = (
        "from guerdon.llm.client import *;"
        "print(Request((Message('user','hü'),),grammar='g',"
        "schema={'b':1,'a':[1.5]}).key('m'))"
    )
    ours = Request(
        (Message("user", "hü"),), grammar="g", schema={"a": [1.5], "b": 1}
    ).key("m")
    theirs = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONHASHSEED": "77", "PYTHONPATH": str(ROOT)},
    )
    assert theirs.stdout.strip() == ours


@pytest.mark.parametrize(
    "change",
    [
        {"temperature": 0.7},
        {"max_tokens": 5},
        {"seed": 1},
        {"grammar": "g"},
        {"schema": {}},
        {"text": "ho"},
    ],
)
def test_key_changes_with_every_field(change: dict[str, Any]) -> None:
    assert ask(**change).key("m") != ask().key("m")
    assert ask().key("m") != ask().key("n")


def test_whole_temperature_is_the_same_question() -> None:
    assert ask(temperature=1).key("m") == ask(temperature=1.0).key("m")


def test_borders_between_messages_count() -> None:
    one = Request((Message("user", "a"), Message("user", "b")))
    other = Request((Message("user", "ab"),))
    assert one.key("m") != other.key("m")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"temperature": math.nan}, "temperature: expected a number in"),
        ({"temperature": -1}, "temperature"),
        ({"max_tokens": 0}, "max_tokens: expected at least 1"),
    ],
)
def test_bad_request_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ask(**change)


def test_request_without_messages_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one message"):
        Request(())


def test_role_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ValueError, match="message role"):
        Message("boss", "hi")  # type: ignore[arg-type]


def test_answer_survives_json() -> None:
    answer = Answer("text", 1, 2, None, 0.5, "m", truncated=True)
    assert Answer.from_json(answer.as_json()) == answer


@pytest.mark.parametrize(
    "change", [{"text": 1}, {"usd": "free"}, {"prompt_tokens": True}, {"extra": 1}]
)
def test_foreign_answer_is_refused(change: dict[str, Any]) -> None:
    data = Answer("text", 1, 2, None, 0.5, "m").as_json() | change
    with pytest.raises(ValueError, match="answer:"):
        Answer.from_json(data)


def test_sampler_is_no_model() -> None:
    assert connect("sampler") is None


def test_a_model_that_is_no_text_is_refused() -> None:
    with pytest.raises(TypeError, match="model: expected text, got 5"):
        connect(5)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("uri", "near"),
    [
        ("sampel", "sampler"),
        ("embeded", "embedded"),
        ("opnai:gpt-5", "openai:MODEL"),
        ("replay:", "replay:FILE"),
        ("scriptd:answers.jsonl", "scripted:FILE"),
    ],
)
def test_unknown_uri_names_the_nearest_one(uri: str, near: str) -> None:
    with pytest.raises(ValueError, match=f"nearest one is .*{near}"):
        connect(uri)


def test_a_bare_name_of_a_model_is_answered_with_its_address_at_openai() -> None:
    with pytest.raises(ValueError, match=r"is 'openai:gpt'$"):
        connect("gpt")


@pytest.mark.parametrize("uri", ["", "a word or two", "xyz:file"])
def test_what_is_like_no_uri_is_answered_with_the_forms_alone(uri: str) -> None:
    with pytest.raises(ValueError, match=r", scripted:FILE$"):
        connect(uri)


def test_unknown_embedded_model_names_the_nearest_one() -> None:
    with pytest.raises(ValueError, match=r"nearest one is 'coder-1\.5b'"):
        connect("embedded:coder-1.6b")


def test_url_without_a_model_is_refused() -> None:
    with pytest.raises(ValueError, match="model's name after '#'"):
        connect("http://127.0.0.1:8000/v1")


def test_key_inside_a_url_is_refused_without_repeating_it() -> None:
    with pytest.raises(ValueError, match="GUERDON_API_KEY") as caught:
        connect("http://user:hunter2@127.0.0.1/v1#m")
    assert "hunter2" not in str(caught.value)


def test_openai_without_a_key_says_where_to_put_it() -> None:
    with pytest.raises(ModelError, match="set OPENAI_API_KEY") as caught:
        connect("openai:gpt-4o-mini")
    assert caught.value.kind == "auth"


def test_openai_key_is_not_for_other_servers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-openai")
    for uri, expected in (("openai:m", "sk-openai"), ("http://10.0.0.1/v1#m", "")):
        chat: Any = connect(uri)
        endpoint = chat._chat
        assert isinstance(endpoint, Endpoint)
        assert endpoint._key.reveal() == expected
        chat.close()


def test_key_comes_from_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "key"
    file.write_text("sk-file\n")
    file.chmod(0o600)
    monkeypatch.setenv("GUERDON_API_KEY_FILE", str(file))
    chat: Any = connect("https://example.org/v1#m")
    assert chat._chat._key.reveal() == "sk-file"
    monkeypatch.setenv("GUERDON_API_KEY_FILE", str(tmp_path / "none"))
    with pytest.raises(ModelError, match="cannot be read"):
        connect("https://example.org/v1#m")


def test_key_that_http_would_print_is_refused() -> None:
    with pytest.raises(ValueError, match="printable ASCII") as caught:
        Secret("sk-1\nsk-2")
    assert "sk-1" not in str(caught.value)


def test_dollar_cap_needs_a_price(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-1")
    assert connect("openai:gpt-4o-mini", budget=Budget(usd=1.0)) is not None
    with pytest.raises(ValueError, match=r"price of .*gpt-7.* is not known"):
        connect("openai:gpt-7", budget=Budget(usd=1.0))


def test_files_open_as_recorded_models(tmp_path: Path) -> None:
    file = tmp_path / "answers.md"
    file.write_text("one")
    assert isinstance(connect(f"scripted:{file}"), Scripted)
    empty = tmp_path / "empty.jsonl"
    empty.write_text("")
    assert isinstance(connect(f"replay:{empty}"), Replay)


def test_error_says_its_kind() -> None:
    assert str(ModelError("too slow", "timeout")) == "timeout: too slow"


def test_importing_the_room_loads_no_client_and_no_runtime() -> None:
    code = (
        "import sys, guerdon.llm, guerdon.llm.endpoint, guerdon.llm.embedded;"
        "print([m for m in ('openai','xllamacpp','torch') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("uri", ["openai:gpt-5", "http://127.0.0.1:9/v1#m", "embedded"])
def test_a_missing_package_is_noticed_when_the_chat_is_opened(
    monkeypatch: pytest.MonkeyPatch, uri: str
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test")
    monkeypatch.setitem(sys.modules, "openai", None)
    with pytest.raises(MissingExtra, match=r"'llm': pip install 'guerdon\[llm\]'"):
        connect(uri)


def test_the_embedded_model_needs_its_engine_before_its_weights(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("GUERDON_CACHE", str(tmp_path))
    monkeypatch.setitem(sys.modules, "xllamacpp", None)
    with pytest.raises(MissingExtra, match=r"pip install 'guerdon\[embedded\]'"):
        connect("embedded:smol")
    assert list(tmp_path.iterdir()) == []


def test_openais_key_never_travels_in_the_clear(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-openai-canary")
    for uri, key in (
        ("https://api.openai.com/v1#gpt-5", "sk-openai-canary"),
        ("http://api.openai.com/v1#gpt-5", ""),
        ("https://api.openai.com.evil.example/v1#gpt-5", ""),
    ):
        chat = connect(uri)
        assert chat._chat._key.reveal() == key  # type: ignore[attr-defined]
        chat.close()


@pytest.mark.parametrize("port", ["abc", "99999", "-1"])
def test_a_port_that_is_none_is_refused_before_anything_is_asked(port: str) -> None:
    with pytest.raises(ValueError, match=f"language model 'http://h:{port}/v1#m'.*ort"):
        connect(f"http://h:{port}/v1#m")

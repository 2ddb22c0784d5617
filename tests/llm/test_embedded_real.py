"""The embedded model for real: llama.cpp's server, with weights of our own making."""

from __future__ import annotations

import http.client
import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from guerdon.envs import load_task
from guerdon.llm.client import ModelError, Request, connect
from guerdon.llm.embedded import Embedded
from guerdon.llm.endpoint import Endpoint
from guerdon.llm.retry import Breaker, Retrying
from guerdon.llm.secret import Secret
from guerdon.llm.weights import Weights
from guerdon.reward_design.language import parse
from guerdon.reward_design.language.grammar import gbnf, json_schema
from guerdon.reward_design.language.tree import Rejected
from tests.llm.conftest import ROOT, ask, gone
from tests.llm.tiny_gguf import FILENAME
from tests.llm.with_tiny import CARTPOLE, DOORKEY

# The wheel of an optional extra; it is loaded by the server's process, not by ours.
if importlib.util.find_spec("xllamacpp") is None:
    pytest.skip("xllamacpp is not installed", allow_module_level=True)
LINUX = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="looks a process up in /proc"
)

LONG = ask(max_tokens=3500, grammar='root ::= "x"{1000} "x"{1000} "x"{1000}')
"""Takes about a second of one processor."""


@pytest.fixture
def chat(tiny: tuple[Weights, Path]) -> Iterator[Embedded]:
    with Embedded(*tiny, timeout=60.0) as found:
        yield found


def started(chat: Embedded) -> int:
    """Process of the server, after an answer."""
    chat.chat(ask(max_tokens=2))
    assert chat.pid is not None
    return chat.pid


def ticks(pid: int) -> int:
    """Time that a process has had on processors, in hundredths of a second."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def prompt(task: Any, **kwargs: Any) -> Request:
    return ask(f"Write a reward. {task.intent}", max_tokens=400, **kwargs)


# --- answers ----------------------------------------------------------------------


@pytest.mark.parametrize("name", [CARTPOLE, DOORKEY])
def test_a_model_that_knows_nothing_writes_programs_under_the_grammar(
    name: str, chat: Embedded
) -> None:
    task = load_task(name)
    texts = set()
    for terms in (1, 2, 3, 4):
        grammar = gbnf(task.layout, task.action, terms=terms)
        answer = chat.chat(prompt(task, grammar=grammar, seed=terms, temperature=0.9))
        tree = parse(answer.text, task.layout, task.action)
        assert len(tree.terms) == terms
        assert not answer.truncated
        assert (answer.usd, answer.estimated) == (0.0, False)
        assert answer.prompt_tokens > 10
        assert 40 < answer.completion_tokens <= 400
        texts.add(answer.text)
    assert len(texts) == 4
    assert chat.starts == 1


def test_an_answer_that_is_cut_begins_as_the_whole_one(chat: Embedded) -> None:
    task = load_task(CARTPOLE)
    asked = prompt(task, grammar=gbnf(task.layout, task.action), seed=3)
    whole = chat.chat(asked)
    cut = chat.chat(replace(asked, max_tokens=40))
    assert (whole.truncated, cut.truncated) == (False, True)
    assert cut.completion_tokens == 40
    assert whole.text.startswith(cut.text)
    parse(whole.text, task.layout, task.action)
    with pytest.raises(Rejected):
        parse(cut.text, task.layout, task.action)


def test_without_a_grammar_the_same_model_writes_no_program(chat: Embedded) -> None:
    task = load_task(CARTPOLE)
    answer = chat.chat(prompt(task, seed=1))
    with pytest.raises(Rejected):
        parse(answer.text, task.layout, task.action)


def test_a_prompt_that_is_too_long_is_refused_and_the_server_lives_on(
    chat: Embedded,
) -> None:
    with pytest.raises(ModelError, match="exceeds the available context") as caught:
        chat.chat(ask("a b " * 5000))
    assert (caught.value.kind, caught.value.retryable) == ("server", False)
    assert chat.chat(ask(max_tokens=2)).text
    assert chat.starts == 1


def test_threads_that_ask_at_once_share_one_server(chat: Embedded) -> None:
    answers: list[str] = []

    def one(seed: int) -> None:
        answers.append(chat.chat(ask(max_tokens=9, seed=seed)).text)

    threads = [threading.Thread(target=one, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(answers) == 4
    assert chat.starts == 1


# --- weights ----------------------------------------------------------------------


def test_a_users_file_is_found_by_its_hash_and_any_other_is_refused(
    pinned: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = connect("embedded:tiny")
    assert found is not None
    assert found.chat(ask(max_tokens=2)).text
    found.close()
    data = bytearray(pinned.read_bytes())
    data[-1] ^= 1
    (tmp_path / FILENAME).write_bytes(data)
    monkeypatch.setenv("GUERDON_MODEL_DIR", str(tmp_path))
    monkeypatch.setenv("GUERDON_CACHE", str(tmp_path / "none"))
    with pytest.raises(ModelError, match="is another file") as caught:
        connect("embedded:tiny")
    assert "switched off" in caught.value.message


@pytest.mark.parametrize("size", [0, 5000, 100_000], ids=str)
def test_a_file_that_is_no_model_says_so(
    size: int, tiny: tuple[Weights, Path], tmp_path: Path
) -> None:
    weights, path = tiny
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(path.read_bytes()[:size])
    with (
        Embedded(weights, broken) as chat,
        pytest.raises(ModelError, match="failed to load model") as caught,
    ):
        chat.chat(ask())
    assert caught.value.kind == "server"
    assert "Traceback" not in caught.value.message


# --- who may ask ------------------------------------------------------------------


def address_of(chat: Embedded) -> tuple[str, int]:
    started(chat)
    parts = urlsplit(chat.address)
    assert parts.hostname is not None
    assert parts.port is not None
    return parts.hostname, parts.port


@pytest.mark.parametrize("key", [None, "", "wrong"], ids=str)
def test_nobody_is_answered_without_the_key(key: str | None, chat: Embedded) -> None:
    host, port = address_of(chat)
    headers = {} if key is None else {"Authorization": f"Bearer {key}"}
    headers["Content-Type"] = "application/json"
    body = json.dumps(
        {"messages": [{"role": "user", "content": "a"}], "prompt": "a", "content": "a"}
    )
    asked = [
        *(("POST", path) for path in ("/v1/chat/completions", "/completion")),
        *(("POST", path) for path in ("/v1/completions", "/tokenize", "/infill")),
        *(("GET", path) for path in ("/v1/models", "/props", "/slots", "/metrics")),
    ]
    for method, path in asked:
        connection = http.client.HTTPConnection(host, port, timeout=10)
        connection.request(method, path, body if method == "POST" else None, headers)
        response = connection.getresponse()
        said = response.read()
        connection.close()
        assert response.status == 401, path
        assert FILENAME.encode() not in said
    chat.chat(ask(max_tokens=2))
    assert chat.starts == 1


def test_a_wrong_key_of_ours_is_an_error_of_kind_auth(chat: Embedded) -> None:
    host, port = address_of(chat)
    endpoint = Endpoint(f"http://{host}:{port}/v1", "tiny", key=Secret("wrong"))
    with pytest.raises(ModelError) as caught:
        endpoint.chat(ask())
    endpoint.close()
    assert caught.value.kind == "auth"


@LINUX
def test_the_server_listens_on_the_loopback_only(chat: Embedded) -> None:
    _, port = address_of(chat)
    held = set()
    for link in Path(f"/proc/{chat.pid}/fd").iterdir():
        target = os.readlink(link)
        if target.startswith("socket:["):
            held.add(target[8:-1])
    listening = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/{chat.pid}/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and fields[9] in held:
                listening.add(fields[1])
    # 127.0.0.1, with its bytes in the order of this machine.
    loopback = "0100007F" if sys.byteorder == "little" else "7F000001"
    assert listening == {f"{loopback}:{port:04X}"}


# --- what the server can ----------------------------------------------------------


def test_a_grammar_is_found_out_once_and_then_used(
    chat: Embedded, monkeypatch: pytest.MonkeyPatch
) -> None:
    host, port = address_of(chat)
    child = chat._endpoint
    assert child is not None
    sent: list[dict[str, Any]] = []
    send = Endpoint._send

    def spy(self: Endpoint, arguments: dict[str, Any], deadline: float) -> Any:
        sent.append(arguments)
        return send(self, arguments, deadline)

    monkeypatch.setattr(Endpoint, "_send", spy)
    url = f"http://{host}:{port}/v1"
    endpoint = Endpoint(url, "tiny", key=child._key, timeout=60.0)
    grammar = 'root ::= "yes" | "no"'
    asked = [ask(f"{i}?", grammar=grammar, max_tokens=9) for i in range(4)]
    threads = [threading.Thread(target=endpoint.chat, args=(a,)) for a in asked[1:]]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert endpoint.chat(asked[0]).text in ("yes", "no")
    endpoint.close()
    grammars = [a["extra_body"]["grammar"] for a in sent]
    assert len(grammars) == 5
    assert grammars.count(grammar) == 4
    assert grammars[0] != grammar


def test_our_json_schema_is_one_that_the_server_decodes_under(chat: Embedded) -> None:
    host, port = address_of(chat)
    child = chat._endpoint
    assert child is not None
    url = f"http://{host}:{port}/v1"
    endpoint = Endpoint(url, "tiny", key=child._key, timeout=60.0, grammar=False)
    task = load_task(CARTPOLE)
    schema = json_schema(task.layout, task.action)
    begun = endpoint.chat(prompt(task, schema=schema, seed=1)).text
    # A model that knows nothing finds no end to the plan, so this is a beginning.
    assert re.match(r'\s*\{\s*"plan"\s*:\s*"', begun)
    # An expression without parts has an end.
    forms = schema["$defs"]["expression"]["anyOf"]
    number, now = forms[:2]
    assert list(now["properties"]) == ["now"]
    leaf = {"anyOf": [number, now]}
    seen = [
        json.loads(endpoint.chat(prompt(task, schema=leaf, seed=i)).text)
        for i in range(4)
    ]
    endpoint.close()
    assert endpoint._schema
    known = [feature.name for feature in task.layout]
    for found in seen:
        if "now" in found:
            assert found["now"] in known
        else:
            assert isinstance(found["const"], int | float)


# --- limits -----------------------------------------------------------------------


@LINUX
def test_there_are_never_more_threads_than_processors(
    tiny: tuple[Weights, Path],
) -> None:
    cores = len(os.sched_getaffinity(0))
    with Embedded(*tiny, threads=4 * cores, timeout=60.0) as many:
        pid = started(many)
        assert many.threads == cores
        before = _thread_ticks(pid)
        many.chat(ask(max_tokens=400, grammar='root ::= "x"{300}'))
        worked = [t for t, spent in _thread_ticks(pid).items() if spent > before[t] + 1]
    assert 1 <= len(worked) <= cores
    with Embedded(*tiny, threads=1, timeout=60.0) as one:
        assert one.threads == 1


def _thread_ticks(pid: int) -> dict[str, int]:
    found = {}
    for task in Path(f"/proc/{pid}/task").iterdir():
        fields = (task / "stat").read_text().rpartition(")")[2].split()
        found[task.name] = int(fields[11]) + int(fields[12])
    return found


def test_an_answer_that_takes_too_long_ends_its_server(
    tiny: tuple[Weights, Path],
) -> None:
    with Embedded(*tiny, timeout=0.3) as chat:
        # The first call also imports what it needs, which no timeout is about.
        pid = started(chat)
        with pytest.raises(ModelError) as caught:
            chat.chat(LONG)
        assert caught.value.kind == "timeout"
        assert chat.pid is None
        assert gone(pid)
        assert started(chat) != pid


# --- death ------------------------------------------------------------------------


@contextmanager
def killer(chat: Embedded, times: int) -> Iterator[list[int]]:
    """Kills the server in the middle of an answer, so many times."""
    idle = ticks(started(chat))
    killed: list[int] = []
    over = threading.Event()

    def work() -> None:
        while len(killed) < times and not over.wait(0.002):
            pid = chat.pid
            if pid is None or pid in killed:
                continue
            try:
                # Only an answer takes so much more than the start did.
                if ticks(pid) >= idle + 15:
                    os.kill(pid, signal.SIGKILL)
                    killed.append(pid)
            except OSError:
                continue

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield killed
    finally:
        over.set()
        thread.join()


@LINUX
def test_a_server_killed_in_the_middle_of_an_answer_is_asked_again(
    chat: Embedded,
) -> None:
    with killer(chat, 1) as killed:
        answer = chat.chat(LONG)
    assert len(killed) == 1
    assert answer.text == "x" * 3000
    assert answer.completion_tokens >= 1000
    assert chat.starts == 2


@LINUX
def test_a_server_that_always_dies_is_left_alone_after_ten_starts(
    chat: Embedded,
) -> None:
    patient = Retrying(chat, attempts=2, breaker=Breaker(limit=5))
    kinds = []
    with killer(chat, 10) as killed:
        for _ in range(7):
            with pytest.raises(ModelError) as caught:
                patient.chat(LONG)
            kinds.append(caught.value.kind)
    assert kinds == ["server"] * 5 + ["breaker"] * 2
    assert (len(killed), chat.starts, chat.pid) == (10, 10, None)
    assert chat.chat(ask(max_tokens=2)).text


def test_a_server_killed_between_answers_is_started_again(chat: Embedded) -> None:
    for i in range(3):
        os.kill(started(chat), signal.SIGKILL)
        assert chat.starts == i + 1
    assert chat.chat(ask(max_tokens=2)).text


def test_the_server_ends_when_its_parent_is_killed(
    tiny: tuple[Weights, Path],
) -> None:
    code = (
        "import sys; from pathlib import Path;"
        "from guerdon.llm.weights import MODELS;"
        "from tests.llm.test_embedded_real import *;"
        f"c = Embedded(replace(MODELS['smol'], name='tiny'), Path({str(tiny[1])!r}));"
        "print(started(c), flush=True);"
        "c.chat(LONG); time.sleep(60)"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, cwd=ROOT
    )
    assert parent.stdout is not None
    with parent.stdout:
        try:
            pid = int(parent.stdout.readline())
            # In the middle of the answer that it was asked for next.
            time.sleep(0.1)
        finally:
            parent.kill()
            parent.wait()
    assert gone(pid)


def test_closing_does_not_wait_for_a_server_that_is_silent(chat: Embedded) -> None:
    pid = started(chat)
    failures: list[str] = []

    def work() -> None:
        with pytest.raises(ModelError) as caught:
            chat.chat(ask())
        failures.append(caught.value.message)

    os.kill(pid, signal.SIGSTOP)
    thread = threading.Thread(target=work)
    thread.start()
    time.sleep(0.2)
    begun = time.monotonic()
    chat.close()
    thread.join()
    assert time.monotonic() - begun < 5
    assert "was stopped" in failures[0]
    assert gone(pid)

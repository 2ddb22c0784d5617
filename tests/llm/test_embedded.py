"""The embedded model with a stand-in for the server; the real one is a benchmark."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from guerdon.llm import embedded as room
from guerdon.llm.client import ModelError
from guerdon.llm.embedded import Embedded, main, open_embedded
from guerdon.llm.retry import Breaker, Retrying
from guerdon.llm.weights import MODELS

from .conftest import ROOT, ask, gone

SMOL = MODELS["smol"]

STAND_IN = r"""
import json, os, signal, sys, threading, time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
settings = json.loads(sys.stdin.readline())
if MODE == "broken":
    sys.exit("this model file is broken")
if MODE == "slow":
    time.sleep(30)
class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def log_message(self, *a): pass
    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        once = settings["model"] + ".crashed"
        asked = body["messages"][0]["content"]
        if asked == "crash" or asked == "crash once" and not os.path.exists(once):
            open(once, "w").close()
            os.kill(os.getpid(), signal.SIGKILL)
        if asked == "half" and not os.path.exists(once):
            open(once, "w").close()
            self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\n{")
            self.wfile.flush()
            os.kill(os.getpid(), signal.SIGKILL)
        if asked == "hang":
            time.sleep(30)
        right = self.headers["Authorization"] == "Bearer " + settings["key"]
        content = json.dumps({
            "right": right, "grammar": body.get("grammar"), "env": sorted(os.environ),
            "argv": " ".join(sys.argv), "settings": settings,
        })
        usage = {"prompt_tokens": 2, "completion_tokens": 100}
        data = {"choices": [{"message": {"content": content}}], "usage": usage}
        data = json.dumps(data).encode()
        head = "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(data)
        self.wfile.write(head.encode() + data)
http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
threading.Thread(target=http.serve_forever, daemon=True).start()
print(json.dumps({"address": "http://127.0.0.1:%d" % http.server_port}), flush=True)
sys.stdin.read()
os._exit(0)
"""

Make = Callable[..., Embedded]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    chats: list[Embedded] = []

    def build(mode: str = "", **kwargs: float) -> Embedded:
        code = f"MODE = {mode!r}\n{STAND_IN}"
        command = [sys.executable, "-c", code]
        chat = Embedded(SMOL, tmp_path / "m.gguf", command=command, **kwargs)  # type: ignore[arg-type]
        chats.append(chat)
        return chat

    yield build
    for chat in chats:
        chat.close()


def test_server_starts_at_the_first_request_and_ends_at_close(make: Make) -> None:
    chat = make()
    assert (chat.pid, chat.starts) == (None, 0)
    answer = chat.chat(ask(grammar="g"))
    pid = chat.pid
    assert pid is not None
    chat.chat(ask())
    assert chat.starts == 1
    chat.close()
    chat.close()
    assert gone(pid)
    assert (answer.tokens, answer.usd) == (102, 0.0)
    assert answer.model == f"embedded:smol@{SMOL.sha256[:12]}"


def test_server_gets_a_key_and_a_grammar_and_none_of_our_secrets(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-1")
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setattr(room, "_cores", lambda: 4)
    said = json.loads(make(threads=3).chat(ask(grammar="g")).text)
    assert said["right"] is True
    assert said["grammar"] == "g"
    assert said["settings"]["threads"] == 3
    assert not {"OPENAI_API_KEY", "HTTP_PROXY", "HOME"} & set(said["env"])
    # The key was scrubbed from what came back, so it is not in the arguments either.
    assert said["settings"]["key"] == "***"
    assert "***" not in said["argv"]


def test_there_are_never_more_threads_than_processors(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "_cores", lambda: 2)
    said = json.loads(make(threads=64).chat(ask()).text)
    assert said["settings"]["threads"] == 2
    assert "OMP_NUM_THREADS" in said["env"]


def test_crash_restarts_the_server_and_repeats_the_call(make: Make) -> None:
    chat = make()
    chat.chat(ask())
    assert chat.chat(ask("crash once")).tokens == 102
    assert chat.starts == 2


def test_server_killed_between_calls_is_started_again(make: Make) -> None:
    chat = make()
    chat.chat(ask())
    assert chat.pid is not None
    os.kill(chat.pid, signal.SIGKILL)
    assert chat.chat(ask()).tokens == 102
    assert chat.starts == 2


def test_server_killed_in_the_middle_of_its_answer_is_asked_again(make: Make) -> None:
    chat = make()
    answer = chat.chat(ask("half"))
    assert answer.tokens == 102
    assert json.loads(answer.text)["right"] is True
    assert chat.starts == 2


def test_a_server_that_always_dies_is_left_alone_after_ten_starts(make: Make) -> None:
    embedded = make()
    chat = Retrying(embedded, attempts=2, breaker=Breaker(limit=5))
    kinds = []
    for _ in range(8):
        with pytest.raises(ModelError) as caught:
            chat.chat(ask("crash"))
        kinds.append(caught.value.kind)
    assert kinds == ["server"] * 5 + ["breaker"] * 3
    assert embedded.starts == 10
    assert embedded.pid is None


def test_closing_breaks_off_an_answer_and_does_not_wait_for_it(make: Make) -> None:
    chat = make()
    chat.chat(ask())
    failures: list[ModelError] = []

    def work() -> None:
        with pytest.raises(ModelError) as caught:
            chat.chat(ask("hang"))
        failures.append(caught.value)

    # The second one waits for the first.
    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    time.sleep(0.3)
    begun = time.monotonic()
    chat.close()
    for thread in threads:
        thread.join()
    assert time.monotonic() - begun < 10
    assert {(f.kind, f.retryable) for f in failures} == {("server", False)}
    assert "was stopped" in failures[0].message
    assert (chat.starts, chat.pid) == (1, None)
    assert chat.chat(ask()).tokens == 102


def test_closing_breaks_off_a_start(make: Make) -> None:
    chat = make("slow")
    failures: list[str] = []

    def work() -> None:
        with pytest.raises(ModelError) as caught:
            chat.chat(ask())
        failures.append(caught.value.message)

    thread = threading.Thread(target=work)
    thread.start()
    while chat.pid is None:
        time.sleep(0.01)
    chat.close()
    thread.join(10)
    assert not thread.is_alive()
    assert "was stopped" in failures[0]
    assert (chat.starts, chat.pid) == (1, None)


def test_request_that_kills_the_server_twice_is_an_error(make: Make) -> None:
    chat = make()
    with pytest.raises(ModelError, match="ended twice during the same") as caught:
        chat.chat(ask("crash"))
    assert (caught.value.kind, caught.value.retryable) == ("server", False)
    assert chat.chat(ask()).tokens == 102


def test_server_that_hangs_is_replaced(make: Make) -> None:
    chat = make(timeout=0.5)
    with pytest.raises(ModelError) as caught:
        chat.chat(ask("hang"))
    assert (caught.value.kind, chat.pid) == ("timeout", None)


def test_server_that_cannot_load_says_why(make: Make) -> None:
    with pytest.raises(ModelError, match="status 1: this model file is broken"):
        make("broken").chat(ask())


def test_server_that_takes_too_long_to_load_is_stopped(make: Make) -> None:
    chat = make("slow", ready_timeout=0.2)
    with pytest.raises(ModelError, match=r"not loaded within 0\.2 s"):
        chat.chat(ask())
    assert chat.pid is None


def test_command_that_does_not_exist_is_a_server_failure(tmp_path: Path) -> None:
    chat = Embedded(SMOL, tmp_path, command=[str(tmp_path / "none")])
    with pytest.raises(ModelError, match="cannot start"):
        chat.chat(ask())


def test_server_ends_when_its_parent_is_killed(tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path;"
        "from tests.llm.conftest import ask; from tests.llm.test_embedded import *;"
        f"c = Embedded(SMOL, Path({str(tmp_path / 'm')!r}),"
        " command=[sys.executable, '-c', 'MODE = 0\\n' + STAND_IN]);"
        "c.chat(ask()); print(c.pid, flush=True); time.sleep(60)"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, cwd=ROOT
    )
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    parent.kill()
    parent.wait()
    parent.stdout.close()
    assert gone(pid)


@pytest.mark.parametrize(
    "bad", [{"threads": 0}, {"context": 10}, {"timeout": 0.0}], ids=str
)
def test_number_out_of_range_is_refused(make: Make, bad: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="embedded model: expected"):
        make(**bad)


def found(*names: str) -> Callable[..., Path]:
    def find(name: str, **_: object) -> Path:
        if name in names:
            return Path(name)
        raise ModelError(f"no weights for {name}", "server")

    return find


def test_best_model_that_fits_is_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    every = found(*MODELS)
    for free, expected in ((8 << 30, "coder-1.5b"), (2 << 30, "coder-0.5b")):
        monkeypatch.setattr(room, "free_memory", lambda free=free: free)
        assert open_embedded(None, find=every).weights.name == expected
    assert open_embedded(None, find=found("smol")).weights.name == "smol"
    # A name is taken at its word.
    assert open_embedded("coder-1.5b", find=every).weights.name == "coder-1.5b"


def test_no_model_at_all_says_why_for_each(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "free_memory", lambda: 2 << 30)
    with pytest.raises(ModelError) as caught:
        open_embedded(None, find=found())
    assert "coder-1.5b needs 3072 MiB" in str(caught.value)
    assert "no weights for coder-0.5b; no weights for smol" in str(caught.value)


def test_fetching_says_where_the_weights_are(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(room, "locate", found("smol"))
    assert main(["smol"]) == 0
    assert capsys.readouterr().out.strip() == "smol (Apache-2.0): smol"
    assert main(["coder-0.5b"]) == 1
    assert "no weights for coder-0.5b" in capsys.readouterr().out
    assert main(["gpt"]) == 2
    assert "usage" in capsys.readouterr().out

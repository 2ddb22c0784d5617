"""A server on the loopback that speaks the chat protocol, as it is told to."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, BinaryIO

import pytest

from guerdon.llm.client import Answer, Message, Request
from guerdon.llm.weights import MODELS, Weights

ROOT = Path(__file__).resolve().parents[2]
"""Where ``guerdon`` and ``tests`` lie."""

KEY = "sk-secret-0123456789"


@dataclass
class Reply:
    """One scripted answer of the server."""

    body: object = None
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    delay: float = 0.0
    drop: bool = False
    """Close the connection without a word."""
    drip: float = 0.0
    """Seconds between the bytes of the body."""
    act: Callable[[BinaryIO], None] | None = None
    """Writes whatever it likes in place of an answer; then the connection closes."""

    def data(self) -> bytes:
        raw = isinstance(self.body, bytes)
        return self.body if raw else json.dumps(self.body).encode()


def completion(
    content: object = "hello",
    *,
    usage: object = (7, 3),
    finish: str = "stop",
) -> dict[str, Any]:
    """A chat completion as servers send it."""
    if isinstance(usage, tuple):
        usage = {"prompt_tokens": usage[0], "completion_tokens": usage[1]}
    message = {"role": "assistant", "content": content}
    choice = {"index": 0, "message": message, "finish_reason": finish}
    return {"id": "x", "object": "chat.completion", "choices": [choice], "usage": usage}


def error(status: int, message: str = "no", **headers: str) -> Reply:
    """A refusal as servers send it."""
    names = {k.replace("_", "-"): v for k, v in headers.items()}
    return Reply({"error": {"message": message}}, status, names)


class _Server(ThreadingHTTPServer):
    def handle_error(self, request: Any, client_address: Any) -> None:
        # A client that hangs up is no news; an error in a test's own server is.
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


class FakeServer:
    """Scripted replies in order, then a plain completion; keeps what was asked."""

    def __init__(self) -> None:
        self.script: list[Reply] = []
        self.decide: Callable[[dict[str, Any]], Reply] | None = None
        self.models: list[str] = []
        self.catalogue: Reply | None = None
        """Told in place of the models."""
        self.bodies: list[dict[str, Any]] = []
        self.keys: list[str | None] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: object) -> None: ...

            def do_GET(self) -> None:
                models = [{"id": m, "object": "model"} for m in outer.models]
                listed = Reply({"object": "list", "data": models})
                self.reply(outer.catalogue or listed)

            def do_POST(self) -> None:
                size = int(self.headers["Content-Length"])
                body = json.loads(self.rfile.read(size))
                outer.bodies.append(body)
                outer.keys.append(self.headers.get("Authorization"))
                if outer.decide is not None:
                    self.reply(outer.decide(body))
                else:
                    script = outer.script
                    self.reply(script.pop(0) if script else Reply(completion()))

            def reply(self, reply: Reply) -> None:
                time.sleep(reply.delay)
                if reply.drop:
                    self.close_connection = True
                    return
                if reply.act is not None:
                    self.close_connection = True
                    with suppress(OSError):
                        reply.act(self.wfile)
                    return
                data = reply.data()
                head = f"HTTP/1.1 {reply.status} X\r\nContent-Length: {len(data)}\r\n"
                head += "Content-Type: application/json\r\n"
                head += "".join(f"{k}: {v}\r\n" for k, v in reply.headers.items())
                try:
                    if not reply.drip:
                        # Head and body in one send, as one packet.
                        self.wfile.write(head.encode() + b"\r\n" + data)
                        return
                    self.wfile.write(head.encode() + b"\r\n")
                    for i in range(len(data)):
                        self.wfile.write(data[i : i + 1])
                        time.sleep(reply.drip)
                except OSError:
                    # The client gave up, which some tests are about.
                    self.close_connection = True

        self.http = _Server(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        self.thread = threading.Thread(target=self.http.serve_forever, args=(0.02,))
        self.thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.http.server_port}/v1"

    def close(self) -> None:
        self.http.shutdown()
        self.http.server_close()
        self.thread.join()


@pytest.fixture
def server() -> Iterator[FakeServer]:
    fake = FakeServer()
    yield fake
    fake.close()


@pytest.fixture(autouse=True)
def _no_keys_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_API_KEY", "GUERDON_API_KEY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(f"{name}_FILE", raising=False)


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> tuple[Weights, Path]:
    """A model that llama.cpp runs and that knows nothing."""
    from tests.llm.with_tiny import write_for_tasks

    folder = tmp_path_factory.mktemp("tiny")
    weights = write_for_tasks(folder)
    assert weights.size < 1 << 20
    return weights, folder / weights.filename


@pytest.fixture
def pinned(tiny: tuple[Weights, Path], monkeypatch: pytest.MonkeyPatch) -> Path:
    """The tiny model stands in the table, and its file where a user keeps weights."""
    weights, path = tiny
    monkeypatch.setitem(MODELS, weights.name, weights)  # type: ignore[arg-type]
    monkeypatch.setenv("GUERDON_MODEL_DIR", str(path.parent))
    monkeypatch.setenv("GUERDON_OFFLINE", "1")
    return path


def ask(text: str = "hi", **kwargs: Any) -> Request:
    return Request((Message("user", text),), **kwargs)


def gone(pid: int, seconds: float = 5.0) -> bool:
    """Whether a process ends within some seconds; a zombie has ended."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        shown = subprocess.run(
            ["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, check=False
        )
        state = shown.stdout.strip()
        if not state or state.startswith(b"Z"):
            return True
        time.sleep(0.05)
    return False


class Fake:
    """A chat that does what a list says: texts and failures, in order."""

    model = "fake"

    def __init__(self, *script: str | Exception) -> None:
        self.script = list(script)
        self.requests: list[Request] = []
        self.closed = 0

    def chat(self, request: Request) -> Answer:
        self.requests.append(request)
        entry = self.script.pop(0)
        if isinstance(entry, Exception):
            raise entry
        return Answer(entry, 5, 2, 0.0, 0.0, self.model)

    def close(self) -> None:
        self.closed += 1

"""Asking an endpoint whether it answers, for nothing."""

from __future__ import annotations

import hashlib
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from guerdon.extras import MissingExtra
from guerdon.llm.client import ModelError
from guerdon.llm.reach import reach
from guerdon.llm.weights import MODELS

KEY = "sk-canary-0123456789"


class Server:
    """Answers every GET with one status and body, and remembers what it was sent."""

    def __init__(self, status: int, body: bytes, location: str = "") -> None:
        self.seen: list[tuple[str, str]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.seen.append((self.path, self.headers.get("Authorization", "")))
                self.send_response(status)
                if location:
                    self.send_header("Location", location)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *args: object) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.uri = f"http://127.0.0.1:{self.http.server_port}/v1#tiny"
        self.thread = threading.Thread(target=self.http.serve_forever)
        self.thread.start()

    def close(self) -> None:
        self.http.shutdown()
        self.http.server_close()
        self.thread.join()


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Iterator[object]:
    monkeypatch.setenv("GUERDON_API_KEY", KEY)
    servers: list[Server] = []

    def start(status: int, body: bytes = b"", location: str = "") -> Server:
        servers.append(Server(status, body, location))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


def listed(*names: str) -> bytes:
    return json.dumps({"data": [{"id": name} for name in names]}).encode()


@pytest.mark.parametrize(
    ("status", "body", "ok", "words"),
    [
        (200, listed("tiny", "other"), True, "answers, and has tiny"),
        (200, listed("other"), True, "tiny is not among the 1 models"),
        (200, b"<html>", True, "answers"),
        (200, b'{"data": 3}', True, "answers"),
        (200, b"[" * 60_000, True, "answers"),
        (404, b"", True, "lists no models"),
        (401, KEY.encode(), False, "refuses the key"),
        (503, b"", False, "HTTP 503"),
    ],
)
def test_what_an_endpoint_says(serve, status, body, ok, words) -> None:
    server = serve(status, body)
    found = reach(server.uri)
    assert found.ok is ok
    assert words in found.detail
    assert KEY not in found.detail
    assert server.seen == [("/v1/models", f"Bearer {KEY}")]


def test_a_key_does_not_follow_a_redirect(serve) -> None:
    thief = serve(200, listed("tiny"))
    server = serve(302, b"", thief.uri.partition("#")[0] + "/models")
    assert reach(server.uri) == (False, "answers with HTTP 302")
    assert thief.seen == []


def test_a_key_for_our_own_machine_is_not_given_to_a_proxy(
    serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy = serve(200, listed("tiny"))
    server = serve(200, listed("tiny"))
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, proxy.uri.partition("/v1")[0])
    assert reach(server.uri).ok
    assert (proxy.seen, len(server.seen)) == ([], 1)
    # Nobody knows this name; who is asked for it is the proxy.
    assert reach("http://model.invalid/v1#tiny").ok
    asked = "http://model.invalid/v1/models"
    assert proxy.seen == [(asked, f"Bearer {KEY}")]


def test_a_server_that_speaks_no_http_is_said_and_not_raised() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def speak() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(4096)
                connection.sendall(b"SSH-2.0-OpenSSH_9\r\n")

        thread = threading.Thread(target=speak)
        thread.start()
        found = reach(f"http://127.0.0.1:{listener.getsockname()[1]}/v1#tiny")
        thread.join()
    assert not found.ok
    assert "no answer" in found.detail
    assert "SSH-2.0" in found.detail


def test_an_answer_that_never_ends_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("guerdon.llm.reach.SECONDS", 0.2)
    over = threading.Event()
    listener = socket.create_server(("127.0.0.1", 0))

    def drip() -> None:
        connection, _ = listener.accept()
        with connection, suppress(OSError):
            connection.sendall(b"HTTP/1.1 200 OK\r\nX: ")
            while not over.wait(0.05):
                connection.sendall(b"x")

    thread = threading.Thread(target=drip)
    thread.start()
    found = reach(f"http://127.0.0.1:{listener.getsockname()[1]}/v1#tiny")
    over.set()
    thread.join()
    listener.close()
    assert not found.ok
    assert "still sending after 0.4 s" in found.detail


def test_openais_key_is_looked_for_by_address_as_a_search_does(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    wanted: list[bool] = []

    def find(*, openai: bool) -> None:
        wanted.append(openai)
        raise ModelError("enough", "auth")

    monkeypatch.setattr("guerdon.llm.reach.find_key", find)
    for uri in (
        "openai:m",
        "https://api.openai.com/v1#m",
        "http://api.openai.com/v1#m",
    ):
        assert reach(uri) == (False, "enough")
    assert wanted == [True, True, False]


def test_nobody_answers_is_said_and_not_raised() -> None:
    found = reach("http://127.0.0.1:9/v1#tiny")
    assert not found.ok
    assert "no answer" in found.detail


def test_a_missing_key_is_said_and_nothing_is_asked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("OPENAI_API_KEY", "GUERDON_API_KEY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(f"{name}_FILE", raising=False)
    found = reach("openai:gpt-5")
    assert not found.ok
    assert "OPENAI_API_KEY" in found.detail


def test_what_is_no_endpoint_is_refused() -> None:
    with pytest.raises(ValueError, match="sampler"):
        reach("sampler")


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two models of a few bytes, and no weights anywhere yet."""
    for name in ("GUERDON_OFFLINE", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("GUERDON_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("GUERDON_MODEL_DIR", str(tmp_path))
    table = {
        name: replace(
            MODELS["smol"],
            name=name,
            filename=f"{name}.gguf",
            size=len(name),
            sha256=hashlib.sha256(name.encode()).hexdigest(),
        )
        for name in ("big", "little")
    }
    monkeypatch.setattr("guerdon.llm.embedded.MODELS", table)
    monkeypatch.setattr("guerdon.llm.reach.free_memory", lambda: 8 << 30)
    return tmp_path


def test_missing_weights_are_said_with_what_happens_then(machine: Path) -> None:
    found = reach("embedded")
    assert not found.ok
    assert "no weights on this machine for big, little" in found.detail
    assert "first tries to fetch big" in found.detail
    assert "--llm sampler" in found.detail
    assert not (machine / "cache").exists()


def test_forbidden_downloads_are_said(
    machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GUERDON_OFFLINE", "1")
    found = reach("embedded:big")
    assert not found.ok
    assert "switched off" in found.detail
    assert "fetch" not in found.detail


def test_weights_are_found_where_a_search_would_find_them(machine: Path) -> None:
    (machine / "little.gguf").write_text("little")
    found = reach("embedded")
    assert found.ok
    assert found.detail.startswith(f"little is here: {machine / 'little.gguf'}")
    assert "first tries to fetch big" in found.detail
    (machine / "big.gguf").write_text("big")
    assert reach("embedded").detail == f"big is here: {machine / 'big.gguf'}"
    assert reach("embedded:little").ok


def test_a_file_with_another_hash_is_none_and_is_left_alone(machine: Path) -> None:
    wrong = machine / "cache" / "models" / "big.gguf"
    wrong.parent.mkdir(parents=True)
    wrong.write_text("bad")
    assert not reach("embedded:big").ok
    assert wrong.read_text() == "bad"


def test_too_little_memory_is_said(
    machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("guerdon.llm.reach.free_memory", lambda: 1 << 20)
    found = reach("embedded")
    assert not found.ok
    assert "too little free memory" in found.detail


def test_a_missing_extra_is_said(
    machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(module: str, extra: str) -> None:
        raise MissingExtra(f"{module} is missing; pip install 'guerdon[{extra}]'")

    monkeypatch.setattr("guerdon.llm.reach.require_installed", missing)
    assert "guerdon[llm]" in reach("embedded").detail


def test_an_unknown_embedded_model_names_the_nearest_one(machine: Path) -> None:
    with pytest.raises(ValueError, match="the nearest one is 'little'"):
        reach("embedded:litle")

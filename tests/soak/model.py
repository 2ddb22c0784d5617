"""A model server in a process of its own, which may be killed and started again.

    python -m tests.soak.model PORT LOG

It answers by what it is asked alone, and appends a line to the log for every question:
``paid HASH`` for an answer that somebody was there to take, else ``gone HASH``. It ends
with the process that started it.
"""

from __future__ import annotations

import hashlib
import json
import os
import socket
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.llm.conftest import completion

PAUSE = 0.03
"""Seconds that an answer takes, so that some calls are under way at any moment."""

GOOD = """# plan: count down
PARAMS = {{"w": {weight}}}
def reward(prev, action, now, params):
    return {{"gain": params.w * (prev.left - now.left)}}
"""
BROKEN = GOOD.replace("now.left", "now.lefft")


def told(messages: list[dict[str, str]], seed: int) -> str:
    """Hash of a question."""
    text = json.dumps([messages, seed], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def answer(content: str) -> tuple[int, dict[str, Any]]:
    """One answer in five is broken, and one in five refused without a second try."""
    number = int(content[:8], 16)
    if number % 5 == 1:
        return 401, {"error": {"message": "not today"}}
    text = BROKEN if number % 5 == 0 else GOOD
    return 200, completion(
        text.format(weight=1 + number % 1000 / 1000), usage=(900, 60)
    )


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    log_file: int

    def log_message(self, *_: object) -> None: ...

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if len(body["messages"]) == 1:  # the question whether it knows grammars
            self.send(400, {"error": {"message": "what is a grammar?"}})
            return
        content = told(body["messages"], body["seed"])
        time.sleep(PAUSE)
        there = self.somebody_is_there()
        if there:
            self.send(*answer(content))
        os.write(self.log_file, f"{'paid' if there else 'gone'} {content}\n".encode())

    def somebody_is_there(self) -> bool:
        try:
            kind = socket.MSG_PEEK | socket.MSG_DONTWAIT
            return self.connection.recv(1, kind) != b""
        except BlockingIOError:
            return True
        except OSError:
            return False

    def send(self, status: int, body: dict[str, Any]) -> None:
        data = json.dumps(body).encode()
        head = f"HTTP/1.1 {status} X\r\nContent-Length: {len(data)}\r\n\r\n"
        self.wfile.write(head.encode() + data)


def end_with(parent: int) -> None:
    """End this process when the one that started it is gone."""
    while os.getppid() == parent:
        time.sleep(0.2)
    os._exit(0)


def main(port: str, log: str) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    Handler.log_file = os.open(log, flags, 0o600)
    server = ThreadingHTTPServer(("127.0.0.1", int(port)), Handler)
    server.daemon_threads = True
    threading.Thread(target=end_with, args=(os.getppid(),), daemon=True).start()
    print(server.server_port, flush=True)
    server.serve_forever(0.05)


if __name__ == "__main__":
    main(*sys.argv[1:])

"""The child process with a stand-in for the native library."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from .conftest import ROOT, gone

LIBRARY = """
import json
from types import SimpleNamespace
class CommonParams(SimpleNamespace):
    def __init__(self):
        super().__init__(model=SimpleNamespace(), cpuparams=SimpleNamespace(),
                         cpuparams_batch=SimpleNamespace())
class Server:
    def __init__(self, params):
        print("a banner of the library", flush=True)
        self.listening_address = json.dumps(params, default=vars)
"""

SETTINGS = {"model": "/m.gguf", "key": "k", "threads": 2, "context": 512}

Child = subprocess.Popen[bytes]


@pytest.fixture
def child(tmp_path: Path) -> Iterator[Child]:
    (tmp_path / "xllamacpp.py").write_text(LIBRARY)
    process = subprocess.Popen(
        [sys.executable, "-m", "guerdon.llm.server"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={"PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"},
    )
    yield process
    process.kill()
    process.wait()
    for pipe in (process.stdin, process.stdout):
        assert pipe is not None
        pipe.close()


def start(child: Child) -> dict[str, object]:
    assert child.stdin is not None
    assert child.stdout is not None
    child.stdin.write(json.dumps(SETTINGS).encode() + b"\n")
    child.stdin.flush()
    said = json.loads(child.stdout.readline())
    params: dict[str, object] = json.loads(said["address"])
    return params


def test_settings_reach_the_library_and_its_banner_does_not_reach_us(
    child: Child,
) -> None:
    params = SimpleNamespace(**start(child))
    assert params.model == {"path": "/m.gguf"}
    assert params.api_keys == ["k"]
    assert params.n_ctx == 512
    assert params.cpuparams == params.cpuparams_batch == {"n_threads": 2}
    assert params.hostnames == ["127.0.0.1"]
    # A port of the system's choice, no page, no download, no memory of old prompts.
    assert (params.port, params.ui, params.offline, params.cache_ram_mib) == (
        0,
        False,
        True,
        0,
    )


def test_every_setting_is_one_of_the_library_itself() -> None:
    code = f"""
import json, xllamacpp
from guerdon.llm.server import _serve
xllamacpp.Server = lambda params: params
p = _serve({SETTINGS!r})
print(json.dumps([p.model.path, p.n_ctx, p.cpuparams.n_threads, p.api_keys,
                  p.hostnames, p.port, p.offline, p.ui]))
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, cwd=ROOT, check=True
    )
    expected = ["/m.gguf", 512, 2, ["k"], ["127.0.0.1"], 0, True, False]
    assert json.loads(done.stdout) == expected


def test_server_ends_with_its_input(child: Child) -> None:
    start(child)
    assert child.stdin is not None
    child.stdin.close()
    assert child.wait(timeout=5) == 0


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the platform cannot fork")
def test_server_ends_with_its_parent_though_its_input_is_held_open(
    tmp_path: Path,
) -> None:
    (tmp_path / "xllamacpp.py").write_text(LIBRARY)
    line = json.dumps(SETTINGS)
    # The parent passes the writing end on to a sleeper and is then killed.
    code = f"""
import os, subprocess, sys, time
p = subprocess.Popen([sys.executable, "-m", "guerdon.llm.server"],
                     stdin=subprocess.PIPE, stdout=subprocess.PIPE)
p.stdin.write({line!r}.encode() + b"\\n"); p.stdin.flush(); p.stdout.readline()
s = subprocess.Popen(["sleep", "60"], pass_fds=[p.stdin.fileno()], stdout=2)
print(p.pid, s.pid, flush=True)
os.kill(os.getpid(), 9)
"""
    env = os.environ | {"PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"}
    parent = subprocess.run(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, env=env, check=False
    )
    server, sleeper = map(int, parent.stdout.split())
    try:
        assert gone(server)
        assert not gone(sleeper, 0.1)
    finally:
        os.kill(sleeper, 9)

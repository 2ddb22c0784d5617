"""On a platform like Windows: programs are read, checked and trained, and no search.

A process of its own loses what Windows does not have before Guerdon is loaded. Other
libraries are loaded before that: what they do there is theirs.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CARTPOLE = "guerdon/CartPole-v1"
UPRIGHT = """PARAMS = {"w": 0.1}
def reward(prev, action, now, params):
    return {"upright": where(now.upright, params.w, 0.0), "gain": delta(now.pole_angle)}
"""
PYTHON = """
def reward(prev, action, now, params):
    return {"last": np.sort(now.cart_position)}
"""
_ELSEWHERE = """
import sys
import asyncio, ctypes, multiprocessing.connection, multiprocessing.forkserver, platform
import multiprocessing.popen_forkserver, multiprocessing.resource_tracker, os, signal
import http.client, socket, sqlite3, ssl, subprocess, tempfile, types, urllib.request
import gymnasium, matplotlib, numpy, rich.console, rich.live, scipy.stats, tyro
import typeguard  # tyro loads it late
if sys.argv[1] == "torch":
    import safetensors.torch, stable_baselines3
assert not [name for name in sys.modules if name.partition(".")[0] == "guerdon"]

ABSENT = ("fcntl", "resource", "pwd", "grp", "termios", "syslog")

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name in ABSENT:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

for name in ABSENT:
    sys.modules.pop(name, None)
sys.meta_path.insert(0, Absent())
sys.platform, platform.system = "win32", lambda: "Windows"
msvcrt = types.ModuleType("msvcrt")
msvcrt.LK_NBLCK, msvcrt.LK_LOCK, msvcrt.LK_UNLCK = 2, 1, 0
msvcrt.locking = lambda descriptor, mode, size: None
sys.modules["msvcrt"] = msvcrt
for module, names in (
    (os, "fork forkpty setsid getsid killpg getpgid setpgid getuid geteuid nice"),
    (os, "sched_getaffinity sched_setaffinity waitid wait mkfifo pipe2 statvfs"),
    (os, "O_NOFOLLOW O_CLOEXEC O_DIRECTORY O_ASYNC O_PATH register_at_fork sysconf"),
    (signal, "SIGKILL SIGHUP SIGCHLD SIGPIPE SIGALRM pthread_sigmask setitimer"),
    (socket, "AF_UNIX SOCK_SEQPACKET"),
):
    for name in names.split():
        if hasattr(module, name):
            delattr(module, name)
"""
_COMMAND = """
from guerdon.cli import main
sys.exit(main(sys.argv[2:]))
"""
_LIBRARY = """
import numpy as np
from guerdon import load_task
from guerdon.reward_design.language import Rejected, parse, terms
from guerdon.reward_design.program import program
from guerdon.types import Batch, Features, Spec

task = load_task(sys.argv[2])
text = open(sys.argv[3]).read()
tree = parse(text, task.layout, task.action)
try:
    parse("import os", task.layout, task.action)
except Rejected as error:
    print(error.failure.line, error.failure.reason)
rows = np.ones((3, 2, task.layout.width), np.float32)
rows[1:] = 2.0
batch = Batch(
    None, np.zeros((2, 2), int), None, Features(task.layout, rows[:-1]),
    Features(task.layout, rows[1:]), np.zeros((2, 2)), np.zeros((2, 2), bool),
    np.zeros((2, 2), bool),
)
design = program(terms(tree, task.layout, task.action))
found, _ = design.apply(design.init(Spec(task.layout, task.action, (2,))), batch)
print(found.terms[..., 0].tolist(), found.terms[..., 1].tolist())
"""


def elsewhere(
    text: str, *words: str | Path, load: str = "no torch"
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", _ELSEWHERE + text, load, *map(str, words)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "reward.py"
    path.write_text(UPRIGHT)
    return path


def test_a_program_is_read_compiled_and_run(file: Path) -> None:
    done = elsewhere(_LIBRARY, CARTPOLE, file)
    assert done.returncode == 0, done.stderr
    refused, values = done.stdout.splitlines()
    assert refused.startswith("1 nothing is imported here: 'os'")
    upright = 0.10000000149011612
    assert values == f"{[[upright] * 2] * 2} [[0.0, 0.0], [0.0, 0.0]]"


def test_a_program_is_checked(file: Path) -> None:
    done = elsewhere(_COMMAND, "check", file, "--task", CARTPOLE, "--json")
    assert done.returncode == 0, done.stderr
    here = subprocess.run(
        [
            sys.executable,
            "-m",
            "guerdon",
            "check",
            str(file),
            "--task",
            CARTPOLE,
            "--json",
        ],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert json.loads(done.stdout) == json.loads(here.stdout)
    file.write_text(UPRIGHT.replace("now.upright", "now.uprigth"))
    done = elsewhere(_COMMAND, "check", file, "--task", CARTPOLE)
    assert done.returncode == 1, done.stderr
    assert f"{file.name}:3: schema: " in done.stderr


def test_an_agent_is_trained(file: Path, tmp_path: Path) -> None:
    words = ["train", CARTPOLE, "--reward", file, "--steps", "64", "--json"]
    out = tmp_path / "out"
    words += ["--eval-episodes", "2", "--out", out]
    done = elsewhere(_COMMAND, *words, load="torch")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["fitness"]["n"] == 2
    assert (out / "result.json").is_file()


@pytest.mark.parametrize("trust", ["language", "jail", "none"])
def test_no_search_begins_and_no_folder_is_made(trust: str, tmp_path: Path) -> None:
    out = tmp_path / "run"
    words = ["search", CARTPOLE, "--llm", "sampler", "--out", out, "--trust", trust]
    done = elsewhere(_COMMAND, *words)
    assert done.returncode == 2, done.stderr
    assert done.stderr == (
        "guerdon: Windows lacks here what worker processes need: a fork server, "
        "sessions, process groups; search on Linux (a virtual machine or a "
        "container). guerdon check, and guerdon train with rewards in the language, "
        "need none\n"
    )
    assert not out.exists()


@pytest.mark.parametrize(
    ("trust", "reason"),
    [("jail", "this is Windows"), ("none", "lacks here what worker processes need")],
)
def test_no_full_python_is_trained(
    trust: str, reason: str, file: Path, tmp_path: Path
) -> None:
    file.write_text(PYTHON)
    out = tmp_path / "out"
    words = ["train", CARTPOLE, "--reward", file, "--trust", trust, "--out", out]
    done = elsewhere(_COMMAND, *words)
    assert done.returncode == 2, done.stderr
    assert reason in done.stderr
    assert not out.exists()


def test_the_doctor_says_that_no_search_can_run() -> None:
    done = elsewhere(_COMMAND, "doctor", "--json", load="torch")
    assert done.returncode == 1, done.stderr
    found = json.loads(done.stdout)
    rows = {row["name"]: row for row in found["checks"]}
    assert found["ok"] is False
    assert rows["platform"]["ok"] is False
    assert rows["platform"]["detail"].startswith("Windows lacks here")
    assert rows["torch"]["ok"]
    assert rows["--trust jail"]["detail"] == "refuses: no linux"

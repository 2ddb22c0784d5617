"""Tasks of users that break in every way: one line, whose file and line, status 2."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from guerdon.cli import main

ENVIRONMENT = """
import gymnasium as gym
import numpy as np
import guerdon


class Counter(gym.Env):
    observation_space = gym.spaces.Box(0, 100, (1,), np.float32)
    action_space = gym.spaces.Discrete(2)

    def __init__(self, bad, render_mode=None):
        self.bad = bad
        if bad == "init":
            raise RuntimeError("no licence")  # line 14

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        if self.bad == "reset":
            raise KeyError("no map")  # line 19
        self.t = 0
        return np.zeros(1, np.float32), {}

    def step(self, action):
        if self.bad == "step" and self.t > 2:
            raise AttributeError("no motor")  # line 25
        self.t += 1
        reward = {"nan": np.nan, "inf": np.inf}.get(self.bad, 0.0)
        return np.full(1, self.t, np.float32), reward, self.t >= 10, False, {}


def make(bad="", **more):
    probed = []

    def maker(**kwargs):
        return Counter(bad if probed else "", **kwargs)

    given = dict(text="Count.", fitness="return", horizon=20, id="Counter")
    task = guerdon.task_from_env(maker, **(given | more))
    probed.append(True)
    return task
"""
TASKS = """
from nasty_environment import make


def zero(episode):
    return 1 / 0  # line 6


def leaves(episode):
    raise SystemExit(0)  # line 10


GOOD = make()
FITNESS = make(fitness=zero)
LEAVES = make(fitness=leaves)
SUCCESS = make(success=zero)
NONE = make(fitness=lambda episode: None)  # line 17
NAN_FITNESS = make(fitness=lambda episode: float("nan"))
INF_FITNESS = make(fitness=lambda episode: float("inf"))
INIT = make("init")
RESET = make("reset")
STEP = make("step")
NAN_REWARD = make("nan")
INF_REWARD = make("inf")


def needs(argument):
    return make()


def gives():
    return 5


def breaks():
    return [][0]  # line 36


NOTHING = None
"""
MODULES = {
    "nasty_environment": ENVIRONMENT,
    "nasty_tasks": TASKS,
    "nasty_syntax": "def broken(:\n",
    "nasty_import": "\nimport no_such_module_at_all\n",
    "nasty_name": "from nasty_environment import nothing\n",
    "nasty_raises": "x = 1\nraise RuntimeError('boom')\n",
    "nasty_mute": "class Mute(Exception):\n    def __str__(self):\n"
    "        raise RuntimeError('nothing to say')\nraise Mute\n",
    "nasty_exits": "import sys\nsys.exit(0)\n",
    "nasty_noise": "import os\nprint('noise')\nos.system('echo more noise')\n"
    "from nasty_tasks import GOOD\n",
    "nasty_argument": "import guerdon\n"
    "T = guerdon.task_from_env('CartPole-v1', text='', fitness='return')\n",
}
PROGRAM = """def reward(prev, action, now, params):
    return {"gain": now.obs - prev.obs}
"""
SMALL = ("--steps", "64", "--eval-episodes", "1")

Refusal = Callable[..., str]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    for name, text in MODULES.items():
        (tmp_path / f"{name}.py").write_text(text)
    (tmp_path / "program.py").write_text(PROGRAM)
    yield tmp_path
    for name in MODULES:
        sys.modules.pop(name, None)


@pytest.fixture
def refusal(folder: Path, capfd: pytest.CaptureFixture[str]) -> Refusal:
    """The one line that a command says, in words and as JSON."""

    def run(*words: str) -> str:
        assert main(list(words)) == 2
        out, err = capfd.readouterr()
        (line,) = err.splitlines()
        assert out == ""
        assert line.startswith("guerdon: ")
        assert main([*words, "--json"]) == 2
        found = json.loads(capfd.readouterr().out)
        assert f"guerdon: {found['error']}" == line
        assert found["kind"]
        return line.removeprefix("guerdon: ")

    return run


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("nasty_syntax:T", ("SyntaxError", "nasty_syntax.py:1")),
        ("nasty_import:T", ("no_such_module_at_all", "nasty_import.py:2")),
        ("nasty_name:T", ("cannot import name 'nothing'", "nasty_name.py:1")),
        ("nasty_raises:T", ("RuntimeError: boom", "nasty_raises.py:2")),
        ("nasty_mute:T", ("Mute", "nasty_mute.py:4")),
        ("nasty_exits:T", ("SystemExit(0)", "nasty_exits.py:2")),
        ("nasty_argument:T", ("text: expected one sentence", "nasty_argument.py:2")),
        ("nasty_tasks:breaks", ("IndexError", "nasty_tasks.py:36, breaks")),
        ("nasty_tasks:needs", ("needs arguments", "'argument'", "without arguments")),
        ("os.path:join", ("needs arguments", "expected a guerdon.Task, or a function")),
        ("nasty_tasks:gives", ("expected a guerdon.Task", "it gave int")),
        ("nasty_tasks:NOTHING", ("expected a guerdon.Task, or a function", "got None")),
        ("nasty_tasks:ABSENT", ("has no 'ABSENT'", "tasks in it: GOOD")),
        ("nasty_environment:Counter", ("gymnasium environment", "task_from_env")),
        ("nasty_tasks.py:GOOD", ("not of a file", "'nasty_tasks:GOOD'")),
        ("./nasty_tasks.py:GOOD", ("not of a file", "'nasty_tasks:GOOD'")),
        ("nasty_tasks:", ("expected module:object",)),
        (":GOOD", ("expected module:object",)),
        (".:GOOD", ("expected module:object",)),
        ("nasty tasks:GOOD", ("expected module:object",)),
        ("nasty_tasks:1GOOD", ("expected module:object",)),
    ],
)
def test_a_task_that_cannot_be_loaded_is_one_line_for_every_command(
    refusal: Refusal, name: str, expected: tuple[str, ...]
) -> None:
    said = {
        refusal("tasks", name),
        refusal("check", "program.py", "--task", name),
        refusal("train", name, *SMALL),
        refusal("search", name, "--llm", "sampler", "--out", "run", *SMALL),
        refusal("evaluate", name, "--policy", "program.py"),
    }
    (line,) = said  # all of them say the same
    assert all(words in line for words in expected), line
    assert not Path("run").exists()


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("FITNESS", ("division by zero", "nasty_tasks.py:6, zero")),
        ("SUCCESS", ("division by zero", "nasty_tasks.py:6, zero")),
        ("LEAVES", ("fitness failed", "SystemExit(0)", "nasty_tasks.py:10, leaves")),
        ("NONE", ("fitness: expected a number, got None", "nasty_tasks.py:17")),
        ("NAN_FITNESS", ("fitness", "nan", "expected a finite number")),
        ("INF_FITNESS", ("fitness", "inf", "expected a finite number")),
        ("NAN_REWARD", ("reward", "nan", "expected a finite number")),
        ("INF_REWARD", ("reward", "inf", "expected a finite number")),
        ("INIT", ("no licence", "nasty_environment.py:14, __init__")),
        ("RESET", ("no map", "nasty_environment.py:19, reset")),
        ("STEP", ("no motor", "nasty_environment.py:25, step")),
    ],
)
def test_a_task_that_breaks_in_play_is_one_line_with_its_place(
    refusal: Refusal, name: str, expected: tuple[str, ...]
) -> None:
    line = refusal("check", "program.py", "--task", f"nasty_tasks:{name}")
    assert all(words in line for words in expected), line


def test_a_search_over_a_broken_fitness_is_refused_with_its_place(
    refusal: Refusal,
) -> None:
    words = ("--llm", "sampler", "--out", "run", "--candidates", "1", "--rounds", "1")
    task = "nasty_tasks:FITNESS"
    assert main(["search", task, *words, *SMALL]) == 2
    # Only what random play needs has been done by then, so nothing was trained.
    assert not list(Path("run").glob("trainings/*.safetensors"))


def test_what_a_task_prints_is_not_on_stdout_beside_the_json(
    folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(["tasks", "nasty_noise:GOOD", "--json"]) == 0
    out, err = capfd.readouterr()
    assert json.loads(out)["id"] == "Counter"
    assert err.split("\n")[:2] == ["noise", "more noise"]


def test_a_training_that_breaks_is_told_with_its_place(
    folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", "nasty_tasks:FITNESS", *SMALL, "--json"]) == 1
    failure = json.loads(capfd.readouterr().out)["failure"]
    assert failure["kind"] == "crashed"
    assert "nasty_tasks.py:6, zero" in failure["reason"]

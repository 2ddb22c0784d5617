"""The command line: what it prints, how it refuses, and with which exit status."""

from __future__ import annotations

import errno
import functools
import inspect
import json
import os
import re
import shlex
import signal
import subprocess
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

import guerdon
from guerdon.cli import commands, entry, main, progress
from guerdon.reward_design.full_python import MAX_TEXT
from guerdon.run import Resources, RunConfig

COUNTDOWN = "tests.agents.countdown_task:TASK"
CARTPOLE = "guerdon/CartPole-v1"
COMMANDS = ("tasks", "check", "search", "train", "evaluate", "report", "doctor")
GOOD = """PARAMS = {"w": 0.5}
def reward(prev, action, now, params):
    return {"gain": params.w * (prev.left - now.left)}
"""
UPRIGHT = """def reward(prev, action, now, params):
    return {"upright": where(now.upright, 0.1, 0.0)}
"""

Run = Any
"""``run(*words) -> (status, stdout, stderr)``."""


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    def call(*words: str | Path) -> tuple[int, str, str]:
        status = main([str(word) for word in words])
        out, err = capsys.readouterr()
        return status, out, err

    return call


def error_of(run: Run, *words: str | Path) -> str:
    """The one line of a refusal, which with ``--json`` is an object on stdout too."""
    status, out, err = run(*words)
    assert (status, out) == (2, "")
    (line,) = err.splitlines()
    assert line.startswith("guerdon: ")
    assert "Traceback" not in err
    status, out, again = run(*words, "--json")
    found = json.loads(out)
    assert (status, again) == (2, err)
    assert f"guerdon: {found['error']}" == line
    assert found["kind"]
    return line


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "reward.py"
    path.write_text(GOOD)
    return path


# --- help ------------------------------------------------------------------------


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_a_command_shows_its_arguments(run: Run, command: str) -> None:
    status, out, err = run(command, "--help")
    assert (status, err) == (0, "")
    assert f"usage: guerdon {command}" in out
    for name, parameter in inspect.signature(
        getattr(commands, command)
    ).parameters.items():
        if parameter.kind == inspect.Parameter.KEYWORD_ONLY:
            assert f"--{name.replace('_', '-')}" in out


def test_help_lists_every_command(run: Run) -> None:
    status, out, _ = run("--help")
    assert status == 0
    assert all(re.search(rf"• {command} ", out) for command in COMMANDS)
    words = " ".join(out.partition("Exit status:")[2].split())
    for number in (0, 1, entry.WRONG_INPUT, entry.BUG, 130, entry.PIPE_CLOSED):
        assert re.search(rf"\b{number}\b", words)


def test_search_takes_the_values_of_a_run_with_the_same_defaults() -> None:
    parameters = inspect.signature(commands.search).parameters
    for item in fields(RunConfig):
        if item.name != "task":
            assert parameters[item.name].default == item.default
    assert parameters["workers"].default == 0
    assert set(parameters) - {f.name for f in fields(RunConfig)} == {
        *("out", "workers", "budget_tokens", "budget_usd", "cache", "json"),
        *("executor", "ray_address", "profile"),
    }


def test_the_module_runs_as_a_program() -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "guerdon", "tasks", "guerdon/CartPol-v1", "--json"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 2
    assert json.loads(ended.stdout)["kind"] == "UnknownTask"
    assert ended.stderr.count("\n") == 1


# --- tasks -------------------------------------------------------------------------


def test_tasks_lists_every_registered_task(run: Run) -> None:
    status, out, _ = run("tasks", "--json")
    rows = json.loads(out)
    assert status == 0
    assert [row["id"] for row in rows] == [task.id for task in guerdon.tasks()]
    assert all(row["intent"] and row["features"] > 0 for row in rows)
    status, table, _ = run("tasks")
    assert status == 0
    assert all(task.id in table for task in guerdon.tasks())


def test_one_task_is_shown_as_a_model_sees_it(run: Run) -> None:
    status, out, _ = run("tasks", CARTPOLE, "--json")
    found = json.loads(out)
    task = guerdon.load_task(CARTPOLE)
    assert status == 0
    assert [f["name"] for f in found["features"]] == [f.name for f in task.layout]
    assert set(found["rewards"]) == set(task.rewards)
    assert found["action"]["names"] == ["left", "right"]
    assert found["action"]["low"] == found["action"]["high"] == []
    _, page, _ = run("tasks", CARTPOLE)
    assert task.intent in page
    assert all(f"- {feature.name} (" in page for feature in task.layout)


def test_the_bounds_of_a_continuous_action_are_told(run: Run) -> None:
    action = json.loads(run("tasks", "guerdon/Pendulum-v1", "--json")[1])["action"]
    assert (action["low"], action["high"]) == ([-2.0], [2.0])  # Nm, Gymnasium's


def test_a_task_may_be_named_with_a_flag(run: Run) -> None:
    plain = run("tasks", CARTPOLE, "--json")
    assert run("tasks", "--task", CARTPOLE, "--json") == plain
    assert run("tasks", f"--task={CARTPOLE}", "--json") == plain


def test_a_task_of_ones_own_is_shown_too(run: Run) -> None:
    status, out, _ = run("tasks", COUNTDOWN, "--json")
    assert status == 0
    assert json.loads(out)["features"][0]["name"] == "left"


# --- check -------------------------------------------------------------------------


def test_a_good_program_is_described(run: Run, file: Path) -> None:
    status, out, _ = run("check", file, "--task", COUNTDOWN, "--json")
    found = json.loads(out)
    assert (status, found["ok"]) == (0, True)
    assert found["terms"] == ["gain"]
    assert found["params"] == {"w": 0.5}
    assert found["shares"] == {"gain": 1.0}
    # An action takes 0 or 1 from the number.
    assert (found["low"], found["high"]) == (0.0, 0.5)
    # Two loads, a difference, a product, and the term is stored.
    assert found["work"]["operations"] == 5
    assert found["work"]["limit"] == 6000
    assert found["transitions"] == 6000
    status, page, _ = run("check", file, "--task", COUNTDOWN)
    assert status == 0
    assert "valid: 1 term; work: 5 operations a transition, at most 6,000" in page


@pytest.mark.parametrize(
    ("text", "kind", "line"),
    [
        (GOOD.replace("now.left", "now.lefft"), "schema", 3),
        ("def reward(prev", "syntax", 1),
        (GOOD.replace("prev.left - now.left", "1.0"), "constant", None),
        ("import os\n" + GOOD, "forbidden", 1),
    ],
)
def test_a_bad_program_is_refused_with_line_and_reason(
    run: Run, file: Path, text: str, kind: str, line: int | None
) -> None:
    file.write_text(text)
    status, out, _ = run("check", file, "--task", COUNTDOWN, "--json")
    found = json.loads(out)
    assert (status, found["ok"]) == (1, False)
    assert (found["failure"]["kind"], found["failure"]["line"]) == (kind, line)
    status, out, err = run("check", file, "--task", COUNTDOWN)
    place = f"{file}:{line}" if line else str(file)
    assert (status, out) == (1, "")
    assert err.startswith(f"{place}: {kind}: {found['failure']['reason']}")


def test_an_unknown_feature_is_named_with_the_nearest_one(run: Run, file: Path) -> None:
    file.write_text(GOOD.replace("now.left", "now.lefft"))
    _, _, err = run("check", file, "--task", COUNTDOWN)
    assert "lefft" in err
    assert "left" in err.replace("lefft", "")


def test_files_that_hold_no_text_are_refused(run: Run, file: Path) -> None:
    missing = error_of(run, "check", "/no/such/file", "--task", COUNTDOWN)
    assert missing == "guerdon: /no/such/file: No such file or directory"
    file.write_bytes(b"\xff\xfe\x00")
    assert "UTF-8" in error_of(run, "check", file, "--task", COUNTDOWN)


def test_a_file_that_is_far_too_long_is_a_program_that_is_refused(
    run: Run, file: Path
) -> None:
    file.write_text("# äöü\n" * 100_000)
    status, out, _ = run("check", file, "--task", COUNTDOWN, "--json")
    assert status == 1
    assert json.loads(out)["failure"]["kind"] == "slow"


def test_a_module_of_python_is_read_whole_or_refused_and_never_cut(
    run: Run, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[str] = []

    def train_one(task: str, reward: str, **more: object) -> dict[str, object]:
        given.append(reward)
        return {"failure": {"kind": "crashed", "reason": "not run", "line": None}}

    monkeypatch.setattr("guerdon.run.train_one", train_one)
    words = ("train", COUNTDOWN, "--reward", file, "--trust", "none", "--json")
    # Up to the cap everything arrives, the second definition at the end too.
    end = "\ndef reward(prev, action, now, params):\n    return {'b': 2.0}\n"
    for letter in ("x", "\u00e4", "\u4e00", "\U0001f600"):
        text = GOOD + "#" + letter * (MAX_TEXT - len(GOOD) - 1 - len(end)) + end
        file.write_text(text, encoding="utf-8")
        assert run(*words)[0] == 1
        assert given.pop() == text
        # Beyond it so much arrives that the length is what is refused.
        file.write_text(text + letter * MAX_TEXT, encoding="utf-8")
        assert run(*words)[0] == 1
        assert len(given.pop()) > MAX_TEXT


def test_a_module_of_python_beyond_the_cap_is_a_training_that_fails(
    run: Run, file: Path
) -> None:
    file.write_text(GOOD + "# \u4e00\n" * MAX_TEXT, encoding="utf-8")
    words = ("train", COUNTDOWN, "--reward", file, "--steps", "64", "--json")
    status, out, _ = run(*words)
    assert (status, json.loads(out)["failure"]["kind"]) == (1, "slow")
    status, out, err = run(*words, "--trust", "none")
    assert status == 1
    assert f"at most {MAX_TEXT} letters" in json.loads(out)["failure"]["reason"]
    assert err.startswith("guerdon: trust none:")


# --- train, evaluate ------------------------------------------------------------------


def test_an_agent_is_trained_and_its_weights_are_evaluated(
    run: Run, tmp_path: Path
) -> None:
    words = ("--steps", "512", "--eval-episodes", "4", "--out", tmp_path / "agent")
    status, out, _ = run("train", CARTPOLE, "--reward", "human", *words, "--json")
    found = json.loads(out)
    assert status == 0
    assert found["steps"] >= 512
    assert 8 <= found["fitness"]["value"] <= 500
    assert found["fitness"]["n"] == found["episodes"] == 4
    weights = found["weights"]
    assert Path(weights).is_file()
    assert json.loads((tmp_path / "agent" / "result.json").read_text())

    words = ("--policy", weights, "--episodes", "3")
    status, out, _ = run("evaluate", CARTPOLE, *words, "--json")
    assert status == 0
    assert json.loads(out)["episodes"] == 3
    assert run("evaluate", "--task", CARTPOLE, *words, "--json")[1] == out
    status, page, _ = run("evaluate", CARTPOLE, *words)
    assert status == 0
    assert "true score: " in page


def test_a_training_with_a_program_from_a_file(run: Run, file: Path) -> None:
    file.write_text(UPRIGHT)
    words = ("--steps", "64", "--eval-episodes", "1")
    status, out, _ = run("train", CARTPOLE, "--reward", file, *words)
    assert status == 0
    assert "true score: " in out


def test_a_training_whose_program_is_refused_has_exit_status_1(
    run: Run, file: Path
) -> None:
    file.write_text("def reward(prev")
    words = ("train", CARTPOLE, "--reward", file, "--steps", "64")
    status, out, _ = run(*words, "--json")
    assert status == 1
    assert json.loads(out)["failure"]["kind"] == "syntax"
    status, out, _ = run(*words)
    assert status == 1
    assert out.startswith("failed: syntax: ")


def test_a_policy_that_is_none_is_refused(run: Run, file: Path) -> None:
    assert "reward.py" in error_of(run, "evaluate", CARTPOLE, "--policy", file)
    assert "no.safetensors" in error_of(
        run, "evaluate", CARTPOLE, "--policy", "no.safetensors"
    )


# --- search, report ----------------------------------------------------------------

SMALL = (
    *("--candidates", "3", "--rounds", "1", "--steps", "64", "--seeds", "2"),
    *("--finalists", "1", "--eval-episodes", "2", "--workers", "2"),
)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trainings that take no time, and charts that are not drawn."""
    fake = functools.partial(Resources, function="tests.run_jobs:train")
    monkeypatch.setattr("guerdon.run.Resources", fake)
    monkeypatch.setattr("guerdon.report.build.CHARTS", {})
    monkeypatch.setattr(
        "guerdon.report.build._Charts.__call__", lambda self, *words: ""
    )


@pytest.mark.usefixtures("quick")
def test_a_search_in_json_prints_one_summary_and_then_the_same_again(
    run: Run, tmp_path: Path
) -> None:
    words = ("search", COUNTDOWN, "--llm", "sampler", "--out", tmp_path / "run", *SMALL)
    status, out, err = run(*words, "--json")
    summary = json.loads(out)
    assert status == 0
    # One line, the estimate; nothing but the summary is on stdout.
    assert err.count("\n") == 1
    assert err.startswith(f"{COUNTDOWN}: at most ")
    assert summary["winner"]["fitness"]["n"] == 2
    assert {"holdout", "failures", "tokens", "best_of_n"} <= set(summary)
    assert Path(summary["report"]).is_file()
    assert run(*words, "--json") == (0, out, "")

    status, out, _ = run("report", tmp_path / "run")
    assert (status, out.strip()) == (0, summary["report"])
    status, out, _ = run("report", tmp_path / "run", "--json")
    assert status == 0
    assert json.loads(out)


@pytest.mark.usefixtures("quick")
def test_without_a_terminal_every_training_is_a_line(run: Run, tmp_path: Path) -> None:
    words = ("search", COUNTDOWN, "--llm", "sampler", "--out", tmp_path, *SMALL)
    status, out, err = run(*words)
    assert status == 0
    lines = err.splitlines()
    assert lines[0].startswith(f"{COUNTDOWN}: at most 13 trainings of 64 steps")
    pattern = r"\d+:\d\d  (round 1 of 1|holdout)  \S+ seed \d+: (true score|failed)"
    assert all(re.match(pattern, line) for line in lines[1:])
    assert sum(" round 1 of 1 " in line for line in lines[1:]) == 3
    assert "\x1b" not in err
    assert "winner" in out
    assert "best of 2 fresh ones, of 3 in all" in out  # one crashed
    assert "best of the model alone (0 candidates): nothing" in out
    assert "best of the operators alone (3 candidates): r1-c0" in out
    assert out.rstrip().endswith(f"report: {tmp_path / 'report.html'}")


def interrupted(*arguments: Any, **more: Any) -> Any:
    raise KeyboardInterrupt


@pytest.mark.parametrize("more", [(), ("--json",)], ids=["in words", "as JSON"])
def test_ctrl_c_says_how_to_go_on_with_all_that_was_given(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, more: tuple[str, ...]
) -> None:
    given: list[tuple[Any, ...]] = []

    def kept(*arguments: Any) -> Any:
        given.append(arguments[:3])
        raise KeyboardInterrupt

    monkeypatch.setattr(progress, "run_search", kept)
    words = (
        *("--llm", "http://localhost:1/v1#my model", "--budget-tokens", "5000"),
        *("--budget-usd", "1.5", "--workers", "7", "--algo", "ppo", "--seed", "3"),
        *("--trust", "none", *more),
    )
    status, out, err = run(
        "search", CARTPOLE, "--out", tmp_path / "a run", *words, *SMALL[:4]
    )
    assert status == 130
    assert bool(out) == bool(more)
    assert "interrupted" in err
    command = shlex.split(err.splitlines()[-1])
    assert ("--json" in command) == bool(more)
    assert command[:2] == ["guerdon", "search"]
    assert run(*command[1:])[0] == 130
    assert given[0] == given[1]
    assert given[0][1] == tmp_path / "a run"
    assert not (tmp_path / "a run").exists()


@pytest.mark.skipif(not hasattr(os, "killpg"), reason="process groups are POSIX")
def test_ctrl_c_in_a_terminal_ends_all_processes_without_a_traceback(
    tmp_path: Path,
) -> None:
    words = ("search", COUNTDOWN, "--llm", "sampler", "--out", tmp_path, *SMALL)
    started = subprocess.Popen(
        [sys.executable, "-m", "guerdon", *map(str, words)],
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert started.stderr is not None
    first = started.stderr.readline()  # the workers are still being made ready
    os.killpg(started.pid, signal.SIGINT)
    _, rest = started.communicate(timeout=60)
    assert started.returncode == 130
    assert first.startswith(f"{COUNTDOWN}: at most")
    assert "Traceback" not in rest
    assert f"guerdon search {COUNTDOWN} --out {tmp_path} --llm sampler" in rest


def test_a_run_with_the_defaults_goes_on_with_few_words(tmp_path: Path) -> None:
    config = RunConfig(task=CARTPOLE)
    words = progress._resume(config, tmp_path, Resources())
    assert words == f"guerdon search {CARTPOLE} --out {tmp_path}"


def test_a_folder_that_is_no_run_is_refused(run: Run, tmp_path: Path) -> None:
    assert "journal" in error_of(run, "report", tmp_path)
    (tmp_path / "mine.txt").write_text("mine")
    words = ("search", CARTPOLE, "--llm", "sampler", "--out", tmp_path)
    assert "left untouched" in error_of(run, *words)
    assert os.listdir(tmp_path) == ["mine.txt"]


def test_a_folder_that_cannot_be_made_is_refused(run: Run, file: Path) -> None:
    words = ("search", COUNTDOWN, "--llm", "sampler", "--out", file / "run")
    assert str(file / "run") in error_of(run, *words)


@pytest.mark.parametrize("command", ["search", "train"])
def test_a_folder_that_cannot_be_made_is_named_with_the_reason(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    def refused(self: Path, *words: Any, **more: Any) -> None:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(self))

    monkeypatch.setattr(Path, "mkdir", refused)
    model = ("--llm", "sampler") if command == "search" else ()
    line = error_of(run, command, COUNTDOWN, *model, "--out", tmp_path / "x")
    assert f"{tmp_path / 'x'}: the folder cannot be made (No such file" in line
    assert "run the same command again" not in line


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("search", CARTPOLE, "--out", ""), "--out: expected a value"),
        (("train", CARTPOLE, "--out="), "--out: expected a value"),
        (("evaluate", CARTPOLE, "--policy", ""), "--policy: expected a value"),
        (("tasks", ""), "task: expected a registered id or module:object"),
        (("tasks", "--task", ""), "task: expected a registered id or module:object"),
        (("check", "", "--task", CARTPOLE), "file: expected a file with a program"),
        (("report", ""), "folder: expected a run folder"),
    ],
)
def test_an_empty_word_is_refused_and_not_taken_for_this_folder(
    run: Run, words: tuple[str, ...], expected: str
) -> None:
    line = error_of(run, *words)
    assert expected in line
    assert "got an empty text" in line


def test_one_term_is_not_called_terms(run: Run, file: Path) -> None:
    file.write_text(
        'def reward(prev, action, now, params):\n    return {"a": now.pole_angle}\n'
    )
    _, out, _ = run("check", file, "--task", CARTPOLE)
    assert re.match(r"valid: 1 term[,;] ", out)


# --- wrong names -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("tasks", "guerdon/DorKey-8x8-v0"), "guerdon/DoorKey-8x8-v0"),
        (("search", "guerdon/CartPol-v1"), "did you mean 'guerdon/CartPole-v1'"),
        (("train", "CartPole"), "did you mean 'guerdon/CartPole-v1'"),
        (("train", CARTPOLE, "--reward", "spars"), "expected sparse, human, or an"),
        (("train", CARTPOLE, "--steps", "0"), "steps: expected at least 1, got 0"),
        (("train", CARTPOLE, "--algo", "sac"), "sac"),
        (("search", CARTPOLE, "--llm", "sampler", "--algo", "sac"), "sac"),
        (("search", CARTPOLE, "--candidates", "0"), "candidates: expected at least 1"),
        (("search", CARTPOLE, "--workers", "-2"), "workers: expected at least 0"),
        (("search", CARTPOLE, "--llm", "embeded"), "nearest one is 'embedded'"),
        (("search", CARTPOLE, "--llm", "embedded:coder-2b"), "coder-1.5b"),
        (("tasks", "no_such_module:TASK"), "no module 'no_such_module'"),
        (("tasks", "tests.agents.countdown_task:TASKS"), "has no 'TASKS'"),
        (("tasks", "tests.agents.countdown_task:HORIZON"), "expected a guerdon.Task"),
    ],
)
def test_a_wrong_name_or_number_is_one_line_that_says_what_to_do(
    run: Run, tmp_path: Path, words: tuple[str, ...], expected: str
) -> None:
    if words[0] == "search":
        words += ("--out", str(tmp_path / "run"))
    assert expected in error_of(run, *words)
    assert not (tmp_path / "run").exists()


def test_an_absent_extra_is_named_with_the_command_that_brings_it(
    run: Run, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [n for n in sys.modules if n.split(".")[0] == "minigrid"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "minigrid", None)
    # With its compiler, the engine needs no MiniGrid.
    monkeypatch.setattr("guerdon.envs.grid.compiled.numba", None)
    file.write_text(
        "def reward(prev, action, now, params):\n"
        '    return {"a": where(now.carrying_key, 1.0, 0.0)}\n'
    )
    words = ("check", file, "--task", "guerdon/DoorKey-5x5-v0")
    assert "pip install 'guerdon[minigrid]'" in error_of(run, *words)


def test_without_the_extra_for_training_no_agent_is_trained(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "stable_baselines3", None)
    words = ("train", CARTPOLE, "--steps", "64", "--out", tmp_path / "agent")
    assert "pip install 'guerdon[sb3]'" in error_of(run, *words)
    assert not (tmp_path / "agent").exists()


@pytest.mark.parametrize(
    "words",
    [(), ("frobnicate",), ("search", CARTPOLE), ("train", CARTPOLE, "--stepps", "3")],
)
def test_words_that_cannot_be_read_are_explained(
    run: Run, words: tuple[str, ...]
) -> None:
    status, out, err = run(*words)
    assert (status, out) == (2, "")
    assert "--help" in err
    status, out, _ = run(*words, "--json")
    assert status == 2
    assert json.loads(out)["kind"] == "UsageError"


def test_a_misspelt_flag_is_answered_with_the_nearest_one(run: Run) -> None:
    _, out, _ = run("train", CARTPOLE, "--stepps", "3", "--json")
    assert "--steps" in json.loads(out)["error"]


def test_a_bug_shows_its_traceback_when_asked_to(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GUERDON_DEBUG", "1")
    with pytest.raises(ValueError, match="unknown task"):
        run("tasks", "guerdon/Nothing-v0")


# --- doctor ---------------------------------------------------------------------------


def test_the_doctor_says_what_is_there(run: Run) -> None:
    status, out, _ = run("doctor", "--json")
    found = json.loads(out)
    assert status == 0
    assert found["ok"] is True
    rows = {row["name"]: row for row in found["checks"]}
    assert rows["gymnasium"]["ok"]
    assert rows["python"]["detail"].startswith(sys.version.split()[0])
    status, page, _ = run("doctor")
    assert status == 0
    assert all(name in page for name in rows)

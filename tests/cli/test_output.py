"""Where the output goes when nobody reads it, and how commands end by a signal."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

# Imported before anything is replaced in the modules that these take names from.
from guerdon.cli import doctor, main, output, progress  # noqa: F401
from guerdon.interrupt import is_command

COUNTDOWN = "tests.agents.countdown_task:TASK"
PROGRAM = """def reward(prev, action, now, params):
    return {"gain": prev.left - now.left}
"""
POSIX = pytest.mark.skipif(os.name != "posix", reason="pipes and signals are POSIX")


def start(*words: str, **more: Any) -> subprocess.Popen[str]:
    given: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(
        [sys.executable, "-m", "guerdon", *words],
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        **(given | more),
    )


@POSIX
@pytest.mark.parametrize(
    "words",
    [
        ("--help",),
        ("tasks",),
        ("tasks", "--json"),
        ("tasks", "guerdon/CartPole-v1"),
        ("tasks", "guerdon/None-v0", "--json"),
    ],
)
def test_a_reader_that_has_gone_ends_a_command_without_a_word(
    words: tuple[str, ...],
) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    started = start(*words, stdout=writer)
    os.close(writer)
    _, err = started.communicate(timeout=60)
    assert started.returncode == 141
    assert [line for line in err.splitlines() if "unknown task" not in line] == []


@POSIX
def test_a_lost_reader_of_stderr_changes_nothing() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    started = start("tasks", "guerdon/None-v0", "--json", stderr=writer)
    os.close(writer)
    out, _ = started.communicate(timeout=60)
    assert started.returncode == 2
    assert json.loads(out)["kind"] == "UnknownTask"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="Linux has /dev/full")
def test_a_full_disk_is_one_line() -> None:
    with open("/dev/full", "w") as full:
        started = start("tasks", stdout=full)
        _, err = started.communicate(timeout=60)
    assert started.returncode == 2
    assert err == (
        "guerdon: the output could not be written: No space left on device\n"
    )


@POSIX
def test_streams_that_are_closed_from_the_beginning_are_no_error() -> None:
    command = f"{sys.executable} -m guerdon --help >&- 2>&-"
    assert subprocess.run(command, shell=True, check=False).returncode == 0


@POSIX
def test_ctrl_c_ends_a_training_with_one_json_and_no_traceback(
    tmp_path: Path,
) -> None:
    # A million steps take minutes, so it is in the middle of them whenever it is told.
    words = ("train", COUNTDOWN, "--steps", "1000000", "--out", str(tmp_path / "out"))
    started = start(*words, "--json")
    while not (tmp_path / "out").exists() and started.poll() is None:
        time.sleep(0.05)
    started.send_signal(signal.SIGINT)
    out, err = started.communicate(timeout=60)
    # A shell shows 130 for both: an exit status, or a death by the signal itself.
    assert started.returncode in (130, -signal.SIGINT)
    assert json.loads(out) == {"error": "interrupted", "kind": "KeyboardInterrupt"}
    assert "Traceback" not in err


@pytest.mark.parametrize(
    "command", ["tasks", "check", "train", "search", "evaluate", "report", "doctor"]
)
def test_ctrl_c_anywhere_is_status_130(
    command: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*words: Any, **more: Any) -> Any:
        raise KeyboardInterrupt

    words = {
        "check": ["p.py", "--task", COUNTDOWN],
        "train": [COUNTDOWN],
        "search": [COUNTDOWN, "--out", "run", "--llm", "sampler"],
        "evaluate": [COUNTDOWN, "--policy", "p"],
        "report": ["run"],
    }
    for place in (
        *("envs.tasks", "envs.load_task", "run.train_one", "run.evaluate_policy"),
        *("cli.progress.run_search", "report.write_report", "cli.doctor.examine"),
    ):
        monkeypatch.setattr(f"guerdon.{place}", interrupted)
    assert main([command, *words.get(command, []), "--json"]) == 130
    out, err = capsys.readouterr()
    assert json.loads(out)["error"] == "interrupted"
    assert "Traceback" not in err


@POSIX
@pytest.mark.parametrize("more", [(), ("--json",)], ids=["in words", "as JSON"])
def test_ctrl_c_while_the_command_is_loaded_is_one_line_and_status_130(
    tmp_path: Path, more: tuple[str, ...]
) -> None:
    # The first thing that the package imports is a module that hears Ctrl-C.
    (tmp_path / "gymnasium").mkdir()
    (tmp_path / "gymnasium" / "__init__.py").write_text(
        "import os, signal\n"
        "try:\n    os.kill(os.getpid(), signal.SIGINT)\n"
        "except BaseException:\n    raise ImportError('half loaded') from None\n"
    )
    ended = subprocess.run(
        [sys.executable, "-m", "guerdon", "tasks", *more],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ended.returncode, ended.stderr) == (130, "guerdon: interrupted\n")
    said = json.loads(ended.stdout) if more else {"error": "interrupted"}
    assert said["error"] == "interrupted"


@POSIX
def test_ctrl_c_is_left_to_the_programs_that_import_the_package() -> None:
    program = (
        "import guerdon, signal; "
        "assert signal.getsignal(signal.SIGINT) is signal.default_int_handler"
    )
    words = [sys.executable, "-c", program, "-m", "guerdon"]
    assert subprocess.run(words, check=False).returncode == 0


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("/bin/python /bin/guerdon search x", True),
        ("python -X dev -m guerdon tasks", True),
        ("python.exe Scripts/guerdon.exe", True),
        ("python -m pytest guerdon", False),
        ("python train.py -m guerdon", False),
        ("python -c pass guerdon", False),
        ("python", False),
        ("", False),
    ],
)
def test_a_process_is_the_command_by_how_it_was_started(
    words: str, expected: bool
) -> None:
    assert is_command(words.split()) is expected


def test_a_reader_of_the_progress_that_has_gone_ends_the_search(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def lost(*words: Any) -> Any:
        output.Terminal(stderr=True).on_broken_pipe()

    monkeypatch.setattr("guerdon.cli.progress.run_search", lost)
    words = ["search", COUNTDOWN, "--llm", "sampler", "--out", str(tmp_path / "run")]
    assert main(words) == 141


def test_a_bug_of_ours_shows_its_traceback_and_is_no_wrong_input(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def bug(*words: Any) -> Any:
        raise AttributeError("our own mistake")

    monkeypatch.setattr("guerdon.envs.tasks", bug)
    assert main(["tasks", "--json"]) == 70
    out, err = capsys.readouterr()
    assert "our own mistake" in json.loads(out)["error"]
    assert "Traceback" in err
    assert "an error in guerdon itself" in err


def test_a_folder_for_a_training_is_looked_at_before_the_training(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "file"
    file.write_text("mine")
    for out in (file, file / "deeper"):
        assert main(["train", COUNTDOWN, "--out", str(out)]) == 2
        assert "expected a folder, found a file" in capsys.readouterr().err
    assert file.read_text() == "mine"
    # Root may write everywhere, so the answer of the system is given by hand.
    monkeypatch.setattr("os.access", lambda *words: False)
    assert main(["train", COUNTDOWN, "--out", str(tmp_path / "new" / "one")]) == 2
    assert f"{tmp_path}: expected a folder to write in" in capsys.readouterr().err


def test_weights_that_are_a_folder_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["evaluate", COUNTDOWN, "--policy", str(tmp_path)]) == 2
    err = capsys.readouterr().err
    assert f"{tmp_path}: expected weights" in err
    assert "found a folder" in err


def test_a_report_without_pillow_has_no_charts_and_says_why(tmp_path: Path) -> None:
    code = (
        "import sys; sys.modules['PIL'] = None\n"
        "from guerdon.journal import Journal, CandidateRecord, TrainingRecord\n"
        "from pathlib import Path\n"
        "with Journal.create(Path('run'), {'task': 'T'}) as journal:\n"
        "    journal.add_candidate(CandidateRecord(id='a', round=1, slot=0,\n"
        "        operator='sample', source='x'))\n"
        "    journal.add_training(TrainingRecord(key='k', candidate='a', seed=0,\n"
        "        purpose='search', steps=1, result={'fitness': 1.0, 'curve':\n"
        "        {'steps': [1], 'fitness': [1.0]}}))\n"
        "from guerdon.cli import main\n"
        "sys.exit(main(['report', 'run']))"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=False,
    )
    assert (ended.returncode, ended.stdout) == (0, "run/report.html\n")
    (line,) = ended.stderr.splitlines()
    assert line.startswith("guerdon: the report has no charts: ")
    assert "PIL" in line
    assert "pip install 'guerdon[report]'" in line
    assert "No charts" in (tmp_path / "run" / "report.html").read_text()
    assert json.loads((tmp_path / "run" / "report.json").read_text())["no_charts"]


@pytest.mark.parametrize("failed", [0, 4])
def test_the_end_of_a_search_counts_failed_calls(
    failed: int, capsys: pytest.CaptureFixture[str]
) -> None:
    from guerdon.cli import show

    show.search_summary(
        {
            "winner": None,
            "holdout": {},
            "best_of_n": {"n": None},
            "candidates": 2,
            "human_normalised": None,
            "by_origin": {},
            "failures": {},
            "tokens": {"prompt": 0, "completion": 0},
            "calls": {"ok": 1, "failed": failed},
            "cpu_seconds": 0.0,
            "report": "report.html",
        }
    )
    said = "failed calls of the model: 4 of 5" in capsys.readouterr().out
    assert said == bool(failed)

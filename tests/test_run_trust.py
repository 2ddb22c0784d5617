"""Searches and trainings whose rewards may be full Python."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from guerdon.agents.training import Trust
from guerdon.agents.workers import WorkerPool
from guerdon.cli import main
from guerdon.jail import Layer
from guerdon.journal import Journal
from guerdon.run import Resources, RunConfig, run_search, train_one, trust

pytestmark = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="the jail is for Linux"
)

COUNTDOWN = "tests.agents.countdown_task:TASK"
LANGUAGE = """# plan: in the language
def reward(prev, action, now, params):
    return {"gain": prev.left - now.left}
"""
PYTHON = """# plan: sort, which the language cannot say
def reward(prev, action, now, params):
    both = np.sort(np.stack([prev.left, now.left], axis=-1), axis=-1)
    return {"gain": both[..., 1] - both[..., 0]}
"""
HOSTILE = """
import os
os.system("touch escaped")
def reward(prev, action, now, params):
    return {"gain": prev.left - now.left}
"""
ANSWERS = [LANGUAGE, PYTHON, HOSTILE, PYTHON]


def config(tmp_path: Path, level: str) -> RunConfig:
    script = tmp_path / "answers.jsonl"
    fenced = [f"```python\n{text}```" for text in ANSWERS]
    script.write_text("".join(json.dumps(text) + "\n" for text in fenced))
    return RunConfig(
        task=COUNTDOWN,
        llm=f"scripted:{script}",
        candidates=6,
        rounds=1,
        steps=64,
        seeds=2,
        finalists=2,
        final_seeds=0,
        eval_episodes=2,
        trust=level,
    )


def test_a_search_trains_full_python_apart_and_the_language_as_ever(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "run"
    found = run_search(config(tmp_path, "jail"), folder, Resources(workers=1))
    with Journal.open(folder, readonly=True) as journal:
        candidates = {c.source: c for c in journal.candidates() if c.source}
        python = candidates[PYTHON]
        assert python.screening == {"full_python": True}
        (training,) = journal.trainings(python.id, "search")
        assert training.failure is None
        assert training.result["curve"]["terms"]["gain"]
        language = candidates[LANGUAGE]
        assert "rank" in language.screening
        hostile = next(c for s, c in candidates.items() if "os.system" in s)
        (training,) = journal.trainings(hostile.id, "search")
        assert training.failure.kind == "crashed"
        assert "SIGSYS" in training.failure.reason
    assert found["winner"] is not None
    assert not list(tmp_path.rglob("escaped"))
    before = (folder / "journal.sqlite").read_bytes()
    assert run_search(config(tmp_path, "jail"), folder) == found
    assert (folder / "journal.sqlite").read_bytes() == before


def test_without_trust_full_python_is_refused_with_its_line(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    run_search(config(tmp_path, "language"), folder, Resources(workers=1))
    with Journal.open(folder, readonly=True) as journal:
        (refused,) = (c for c in journal.candidates() if "os.system" in str(c.source))
        assert refused.failure is not None
        assert refused.failure.line == 1
        assert "'os'" in refused.failure.reason


@pytest.mark.parametrize("level", ["language", "none"])
def test_a_search_says_what_no_trust_means_each_time(
    level: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def quick(*given: Any, **named: Any) -> WorkerPool:
        return WorkerPool(*given, **named | {"function": "tests.run_jobs:train"})

    monkeypatch.setattr("guerdon.run.search.WorkerPool", quick)
    folder = tmp_path / "run"
    words = ["search", COUNTDOWN, "--out", str(folder), "--llm", "sampler"]
    for name in ("candidates", "rounds", "seeds", "finalists", "workers"):
        words += [f"--{name}", "1"]
    words += ["--steps", "64", "--trust", level]
    assert main(words) == 0
    told = " ".join(capsys.readouterr().err.split())
    assert (f"guerdon: {trust.UNSAFE}" in told) == (level == "none")
    # What is only read runs nothing, so there is nothing to be told of.
    assert main(words) == 0
    assert "trust none" not in capsys.readouterr().err


@pytest.mark.parametrize("as_json", [False, True])
def test_the_words_come_before_anything_is_run(
    as_json: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def refuse(*arguments: object, **keywords: object) -> None:
        raise ValueError("no worker was started")

    monkeypatch.setattr("guerdon.run.search.WorkerPool", refuse)
    words = ["search", COUNTDOWN, "--out", str(tmp_path / "run"), "--llm", "sampler"]
    assert main([*words, "--trust", "none", *(["--json"] if as_json else [])]) == 2
    told = capsys.readouterr().err
    assert told.startswith(f"guerdon: {trust.UNSAFE}\n")
    assert "no worker was started" in told


def test_one_training_in_the_jail(tmp_path: Path) -> None:
    shares: list[float] = []
    found = train_one(
        COUNTDOWN,
        PYTHON,
        steps=64,
        eval_episodes=2,
        trust="jail",
        out=tmp_path / "out",
        progress=shares.append,
    )
    assert found["fitness"]["value"] == found["fitness"]["value"]
    assert Path(found["weights"]).is_file()
    alone = train_one(COUNTDOWN, PYTHON, steps=64, eval_episodes=2, trust="none")
    assert alone["fitness"] == found["fitness"]
    failed = train_one(COUNTDOWN, HOSTILE, steps=64, eval_episodes=2, trust="jail")
    assert "SIGSYS" in failed["failure"]["reason"]


@pytest.mark.parametrize("level", ["language", "jail", "none"])
def test_what_the_language_can_say_is_run_as_the_language(level: Trust) -> None:
    only_here = LANGUAGE.replace("now.left}", "where(flag, now.left, 0.0)}").replace(
        "    return", "    flag = now.left > 0.5\n    return"
    )
    found = train_one(COUNTDOWN, only_here, steps=64, eval_episodes=2, trust=level)
    assert found["fitness"]["n"] == 2


def test_a_missing_layer_refuses_before_a_folder_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = Layer("landlock", False, "not in this kernel", "use a newer one")
    monkeypatch.setattr(trust, "missing", lambda: [gone])
    with pytest.raises(
        ValueError, match=r"landlock \(not in this kernel\): use a newer"
    ):
        run_search(config(tmp_path, "jail"), tmp_path / "run")
    assert not (tmp_path / "run").exists()
    with pytest.raises(ValueError, match="landlock"):
        train_one(COUNTDOWN, PYTHON, trust="jail", out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("level", ["all", None, "Jail", 1])
def test_another_trust_is_refused(level: object) -> None:
    with pytest.raises(ValueError, match="trust: expected one of"):
        RunConfig(task=COUNTDOWN, trust=level)

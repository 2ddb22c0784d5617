"""Whole runs on machines that fail, on tasks that crash, and with odd arguments."""

from __future__ import annotations

import errno
import json
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from guerdon.agents.evaluate import evaluate
from guerdon.agents.policies import load_policy
from guerdon.agents.training import TrainingJob, Trouble
from guerdon.envs import load_task
from guerdon.extras import MissingExtra
from guerdon.journal import Journal, JournalError, TrainingRecord
from guerdon.run import Resources, evaluate_policy, run_search, train_one
from guerdon.run.crashes import NothingTrains
from guerdon.types import Failure
from tests.test_run import FAKE, GOOD, SMALL, Seen, begun, records, without_times

CRASH = replace(FAKE, function="tests.run_jobs:crash")
WHOLE = 2048
"""Steps of one rollout of the default recipe: 8 environments of 256 steps."""


@pytest.fixture(autouse=True)
def _quick_report(monkeypatch: pytest.MonkeyPatch) -> None:
    def write(folder: Path) -> None:
        (folder / "report.html").write_text("quick")

    monkeypatch.setattr("guerdon.run.search.write_report", write)


@pytest.fixture(scope="module")
def calm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An undisturbed run."""
    folder = tmp_path_factory.mktemp("calm")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("guerdon.run.search.write_report", lambda folder: None)
        run_search(SMALL, folder, FAKE)
    return folder


def check_goes_on(folder: Path, calm: Path) -> None:
    """The same call again ends as an undisturbed run does."""
    summary = run_search(SMALL, folder, FAKE)
    assert without_times(summary) == without_times(run_search(SMALL, calm))
    assert records(folder) == records(calm)


# --- the machine ------------------------------------------------------------------


def test_a_disk_that_is_full_in_a_training_stops_the_run_and_no_candidate_pays(
    tmp_path: Path, calm: Path
) -> None:
    full = replace(FAKE, function="tests.run_jobs:train_on_a_full_disk")
    with pytest.raises(OSError, match="make room and run the same command again") as e:
        run_search(SMALL, tmp_path, full)
    assert e.value.errno == errno.ENOSPC
    assert e.value.filename == str(tmp_path.resolve() / "trainings" / "w.npz")
    kept = records(tmp_path)["trainings"]
    # Of the three that had room one may have been under way.
    assert 1 <= len(kept) <= 3
    check_goes_on(tmp_path, calm)
    # What had finished was not trained again.
    assert all(begun(tmp_path).count(training.key) == 1 for training in kept)


@pytest.mark.parametrize("method", ["add_training", "add_candidate", "add_round"])
def test_a_journal_without_room_stops_the_run_and_it_goes_on(
    tmp_path: Path, calm: Path, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    whole = getattr(Journal, method)
    left = [0 if method == "add_round" else 3]

    def write(self: Journal, *args: Any) -> None:
        if not left[0]:
            raise OSError(errno.ENOSPC, "No space left on device", "journal.sqlite")
        left[0] -= 1
        whole(self, *args)

    with monkeypatch.context() as patch:
        patch.setattr(Journal, method, write)
        with pytest.raises(OSError, match="run the same command again"):
            run_search(SMALL, tmp_path, FAKE)
    check_goes_on(tmp_path, calm)


@pytest.mark.parametrize("place", ["write_report", "save_episodes"])
def test_a_report_or_a_bank_without_room_is_written_the_next_time(
    tmp_path: Path, calm: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    module = "search" if place == "write_report" else "loop"
    with monkeypatch.context() as patch:
        patch.setattr(f"guerdon.run.{module}.{place}", full)
        with pytest.raises(OSError, match="run the same command again") as caught:
            run_search(SMALL, tmp_path, FAKE)
    assert caught.value.filename is not None
    assert not (tmp_path / "report.html").exists()
    check_goes_on(tmp_path, calm)
    assert (tmp_path / "report.html").exists()


def test_a_folder_that_may_not_be_written_to_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forbidden(self: Path, *_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(self))

    monkeypatch.setattr(Path, "mkdir", forbidden)
    with pytest.raises(PermissionError, match="make the folder writable"):
        run_search(SMALL, tmp_path / "run", FAKE)


# --- everything crashes -----------------------------------------------------------


def test_a_run_in_which_every_training_crashes_alike_stops_at_the_baseline(
    tmp_path: Path, calm: Path
) -> None:
    with pytest.raises(
        NothingTrains,
        match=r"with the sparse reward too: RuntimeError: step .* \(env.py:9, step\)",
    ):
        run_search(replace(SMALL, candidates=24), tmp_path / "many", CRASH)
    assert records(tmp_path / "many")["trainings"] == []
    with pytest.raises(NothingTrains):
        run_search(SMALL, tmp_path / "run", CRASH)
    # After the repair nothing is held against a candidate.
    check_goes_on(tmp_path / "run", calm)


def test_a_single_candidate_that_crashes_is_compared_with_the_baseline_too(
    tmp_path: Path,
) -> None:
    config = replace(SMALL, candidates=1, rounds=1, seeds=1)
    with pytest.raises(NothingTrains):
        run_search(config, tmp_path, CRASH)


def test_candidates_that_crash_beside_a_baseline_that_trains_are_failures(
    tmp_path: Path,
) -> None:
    jobs = replace(FAKE, function="tests.run_jobs:crash_candidates")
    summary = run_search(SMALL, tmp_path, jobs)
    assert summary["failures"] == {"crashed": 8}
    assert summary["winner"] is None
    assert summary["holdout"]["sparse"]["fitness"]["n"] == 2


def test_a_journal_of_crashes_alone_is_compared_with_its_own_baseline(
    tmp_path: Path,
) -> None:
    # As an earlier version left it, which wrote every crash down.
    config = replace(SMALL, steps=WHOLE, rounds=1, seeds=1)
    crash = Failure("crashed", "RuntimeError: no (env.py:9, step)")
    with Journal.create(tmp_path, config.as_record()) as journal:
        job = replace(config.job("sparse", 1000), eval_seed=2_000_000)
        journal.add_training(
            TrainingRecord(
                key=job.key,
                candidate="sparse",
                seed=1000,
                purpose="holdout",
                steps=WHOLE,
                failure=crash,
            )
        )
    with pytest.raises(NothingTrains, match="RuntimeError: no"):
        run_search(config, tmp_path, CRASH)


def test_a_score_that_is_no_number_is_not_finite_and_never_a_score(
    tmp_path: Path,
) -> None:
    config = replace(SMALL, rounds=1, seeds=1)
    summary = run_search(
        config, tmp_path, replace(FAKE, function="tests.run_jobs:endless")
    )
    assert summary["failures"] == {"non_finite": 4}
    assert summary["winner"] is None


# --- steps ------------------------------------------------------------------------


def test_steps_are_rounded_up_once_aloud_and_are_the_same_number_everywhere(
    tmp_path: Path,
) -> None:
    seen = Seen()
    run_search(replace(SMALL, steps=100), tmp_path, FAKE, seen)
    assert seen.of("steps") == [{"asked": 100, "trained": WHOLE}]
    with Journal.open(tmp_path, readonly=True) as journal:
        assert journal.meta("config")["steps"] == WHOLE
        trainings = journal.trainings()
    done = [t for t in trainings if t.result is not None]
    assert {t.steps for t in trainings} == {t.result["steps"] for t in done} == {WHOLE}
    # Both numbers mean the same run.
    again = Seen()
    summary = run_search(replace(SMALL, steps=WHOLE), tmp_path, FAKE, again)
    assert summary == run_search(SMALL, tmp_path, FAKE)
    assert again.events == []


def test_a_run_that_wrote_down_another_number_keeps_it(tmp_path: Path) -> None:
    with Journal.create(tmp_path, SMALL.as_record()):
        pass
    seen = Seen()
    run_search(SMALL, tmp_path, FAKE, seen)
    assert seen.of("steps") == []
    assert {t.steps for t in records(tmp_path)["trainings"]} == {SMALL.steps}


def test_one_training_tells_the_steps_that_it_took(tmp_path: Path) -> None:
    found = train_one(
        "guerdon/CartPole-v1", "sparse", steps=100, eval_episodes=1, out=str(tmp_path)
    )
    assert found["steps"] == 256
    written = json.loads((tmp_path / "result.json").read_text())
    assert written["steps"] == 256
    assert Path(found["weights"]).is_file()
    told = evaluate_policy("guerdon/CartPole-v1", found["weights"], episodes=2, seed=0)
    assert told["episodes"] == 2
    # CartPole's recipe judges the mode, so weights are judged by it too.
    task = load_task("guerdon/CartPole-v1")
    loaded = load_policy(Path(found["weights"]), task)
    mode = evaluate(task, loaded, episodes=2, seed=0, deterministic=True)
    assert told["fitness"]["value"] == np.mean(mode.fitness)
    with pytest.raises(
        ValueError, match=r"trained on guerdon/CartPole-v1 for observations of shape"
    ):
        evaluate_policy("guerdon/LunarLander-v3", found["weights"], episodes=1, seed=0)


# --- models -----------------------------------------------------------------------


def test_a_script_goes_on_where_the_run_was_broken_off(tmp_path: Path) -> None:
    script = tmp_path / "answers.jsonl"
    answers = [GOOD.format(weight=(1 + n) / 16) for n in range(12)]
    script.write_text("".join(json.dumps(text) + "\n" for text in answers))
    config = replace(SMALL, candidates=8, rounds=2, llm=f"scripted:{script}")
    calm = run_search(config, tmp_path / "calm", FAKE)
    for count in (1, 3):
        folder = tmp_path / str(count)
        with pytest.raises(KeyboardInterrupt):
            run_search(config, folder, FAKE, Seen("called", count))
        assert len(records(folder)["calls"]) == count
        assert without_times(run_search(config, folder, FAKE)) == without_times(calm)
        assert records(folder) == records(tmp_path / "calm")


@pytest.mark.parametrize("uri", ["http://127.0.0.1:9/v1#tiny", "embedded"])
def test_a_missing_package_for_the_model_makes_no_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, uri: str
) -> None:
    monkeypatch.setitem(sys.modules, "openai", None)
    with pytest.raises(MissingExtra, match=r"pip install 'guerdon\[llm\]'"):
        run_search(replace(SMALL, llm=uri), tmp_path / "run", FAKE)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("scheme", ["scripted", "replay"])
def test_answers_from_a_device_make_no_folder(tmp_path: Path, scheme: str) -> None:
    config = replace(SMALL, llm=f"{scheme}:/dev/zero")
    with pytest.raises(ValueError, match="/dev/zero is a device"):
        run_search(config, tmp_path / "run", FAKE)
    assert not (tmp_path / "run").exists()


# --- arguments --------------------------------------------------------------------


def test_a_folder_may_be_given_as_text(tmp_path: Path) -> None:
    config = replace(SMALL, candidates=2, rounds=1, seeds=1, finalists=1)
    summary = run_search(config, str(tmp_path / "run"), FAKE)
    assert run_search(config, str(tmp_path / "run")) == summary
    with pytest.raises(TypeError, match="folder: expected a path, got int"):
        run_search(config, 3)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="config: expected a RunConfig, got dict"):
        run_search(asdict(config), tmp_path)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("steps", 1.5, r"a whole number, got 1\.5 \(float\)"),
        ("steps", True, r"a whole number, got True \(bool\)"),
        ("rounds", "3", r"a whole number, got '3' \(str\)"),
        ("seed", None, r"a whole number, got None \(NoneType\)"),
        ("task", 3, r"text, got 3 \(int\)"),
        ("llm", None, r"text, got None \(NoneType\)"),
    ],
)
def test_a_value_of_another_type_is_refused_by_name(
    name: str, value: object, words: str
) -> None:
    with pytest.raises(TypeError, match=f"{name}: expected {words}"):
        replace(SMALL, **{name: value})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("steps", -5), ("seeds", 0), ("candidates", 0), ("final_seeds", -1)),
        *(("seed", -1), ("algo", "dqn"), ("steps", 2**60)),
    ],
)
def test_a_number_out_of_bounds_is_refused_by_name(name: str, value: object) -> None:
    with pytest.raises(ValueError, match=f"{name}: expected .*got {value!r}"):
        replace(SMALL, **{name: value})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "value"),
    [("workers", 1.5), ("workers", True), ("budget_tokens", 10.5), ("deadline_s", "9")],
)
def test_resources_of_another_type_are_refused_by_name(
    name: str, value: object
) -> None:
    with pytest.raises(TypeError, match=f"{name}: expected"):
        Resources(**{name: value})  # type: ignore[arg-type]


# --- journals ---------------------------------------------------------------------


def test_results_that_somebody_else_wrote_are_refused_by_candidate(
    tmp_path: Path,
) -> None:
    with pytest.raises(KeyboardInterrupt):
        run_search(SMALL, tmp_path, FAKE, Seen("trained", 5))
    with Journal.open(tmp_path) as journal, journal._transaction() as db:
        db.execute("DELETE FROM meta WHERE key = 'seal'")
        db.execute('UPDATE trainings SET result = \'{"fitness": "high"}\'')
    with pytest.raises(JournalError, match=r"results of r1-c0\d cannot be read"):
        run_search(SMALL, tmp_path, FAKE)


def test_a_damaged_bank_is_named(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        run_search(SMALL, tmp_path, FAKE, Seen("trained", 1))
    (tmp_path / "bank.npz").write_bytes(b"half")
    with pytest.raises(ValueError, match=r"bank\.npz: expected recorded episodes"):
        run_search(SMALL, tmp_path, FAKE)


def test_a_holdout_training_that_was_killed_twice_is_not_held_against_anybody() -> None:
    """Its gap could never be filled: the run stops and goes on another time."""
    from guerdon.run.trainings import Trainings

    under_way = Trainings.__new__(Trainings)
    job = TrainingJob("guerdon/CartPole-v1", "sparse", 100, 0)
    killed = Failure("crashed", "worker died: killed by SIGKILL\nthe first")
    raised = Failure("crashed", "ValueError: no (task.py:3, step)")
    under_way.open = {job.key: ("sparse", "holdout", job)}
    found = under_way._struck(job, killed)
    assert isinstance(found, Trouble)
    assert "run the same command again" in found.text
    assert under_way._struck(job, raised) is raised
    under_way.open = {job.key: ("r1-c01", "search", job)}
    assert under_way._struck(job, killed) is killed


def test_more_workers_than_a_system_starts_are_refused() -> None:
    with pytest.raises(ValueError, match="workers: expected at most 1024"):
        Resources(workers=100_000)

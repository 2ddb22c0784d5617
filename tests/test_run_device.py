"""Searches and trainings on a GPU: what is remembered, and what is refused at once."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from guerdon.agents import population
from guerdon.agents.training import Leg, TrainingJob, TrainingResult
from guerdon.cli import main
from guerdon.cli import progress as shown
from guerdon.envs import load_task
from guerdon.journal import Journal, JournalError
from guerdon.journal.file import FILE_NAME
from guerdon.report.data import RunData
from guerdon.run import Resources, RunConfig, run_search, search, single, train_one
from tests.run_jobs import LOG
from tests.test_run import (  # noqa: F401 - fixtures
    FAKE,
    SMALL,
    _no_keys_from_outside,
    _quick_report,
)

GRID, CART = "guerdon/DoorKey-5x5-v0", "guerdon/CartPole-v1"
JOB = TrainingJob(GRID, "sparse", 10, 3, trainer="population", whole=20)
ON_GPU = replace(JOB, device="cuda")
ASKED = replace(SMALL, task=GRID, rounds=1, seeds=1, race="none", device="cuda")


@pytest.fixture
def without_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


@pytest.fixture
def as_if_there_were_one(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (search, single):
        monkeypatch.setattr(module, "require_device", lambda *args: None)


# --- jobs and configurations -------------------------------------------------------


def test_what_ran_before_there_was_a_device_keeps_its_key_and_is_read() -> None:
    # From the version before.
    own = "e40caf819c7f7eb18775a3375b16549923339c389344685544e9ce7818753148"
    leg = "93ce4340286873b385ab101b203896c1ec98b38d094f81842476c47d406fcb93"
    assert (JOB.key, Leg((JOB,)).key) == (own, leg)
    text = JOB.to_json()
    assert "device" not in json.loads(text)
    assert TrainingJob.from_json(text) == JOB
    assert Leg.from_json(Leg((JOB,)).to_json()) == Leg((JOB,))
    assert "device" not in RunConfig(task=GRID).as_record()


def test_a_job_on_a_gpu_says_so_and_is_another_one() -> None:
    assert TrainingJob.from_json(ON_GPU.to_json()) == ON_GPU
    assert Leg.from_json(Leg((ON_GPU,)).to_json()) == Leg((ON_GPU,))
    assert ON_GPU.key != JOB.key
    with pytest.raises(ValueError, match="jobs of the same device"):
        Leg((JOB, ON_GPU))
    assert replace(ASKED, trainer="population").job("sparse", 0).device == "cuda"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"device": "tpu"}, r"one of \('cpu', 'cuda'\), got 'tpu'"),
        ({"trainer": "sb3"}, "'sb3' trains on the CPU here, got 'cuda'"),
        (
            {"trust": "jail"},
            r"\(the jail opens no devices\); expected trust 'language'",
        ),
        ({"trust": "none"}, r"\(it is trained by SB3\); expected trust 'language'"),
    ],
)
def test_what_does_not_go_with_a_gpu_is_refused_when_it_is_asked_for(
    changes: dict[str, Any], message: str
) -> None:
    for one in (ON_GPU, ASKED):
        with pytest.raises(ValueError, match=f"^device: .*{message}"):
            replace(one, **changes)


def test_auto_means_a_population_on_a_gpu() -> None:
    whole = replace(ASKED, trainer="auto", race="auto").whole(load_task(GRID))
    assert (whole.trainer, whole.race) == ("population", "halving")
    assert whole.as_record()["device"] == "cuda"
    assert whole.workers() == 1
    with pytest.raises(ValueError, match="CartPole-v1 has none; expected device 'cpu'"):
        replace(ASKED, task=CART).whole(load_task(CART))


# --- searches ------------------------------------------------------------------------


@pytest.mark.usefixtures("as_if_there_were_one")
def test_every_training_of_a_search_is_on_its_device_and_a_resume_keeps_it(
    tmp_path: Path,
) -> None:
    summary = run_search(ASKED, tmp_path, FAKE)
    whole = ASKED.whole(load_task(GRID))
    with Journal.open(tmp_path, readonly=True) as journal:
        assert journal.meta("config") == json.loads(json.dumps(whole.as_record()))
        done = {training.key for training in journal.trainings()}
    assert whole.job("sparse", 1000).device == "cuda"
    begun = (tmp_path / "trainings" / LOG).read_text().split()
    assert set(begun) == done
    held = replace(whole.job("sparse", 1000), eval_seed=2_000_000)
    assert held.key in done
    assert replace(held, device="cpu").key not in done
    assert "--device cuda" in RunData(tmp_path).command
    before = (tmp_path / FILE_NAME).read_bytes()
    assert run_search(ASKED, tmp_path, FAKE) == summary
    with pytest.raises(JournalError, match="device is 'cuda' there and 'absent' here"):
        run_search(replace(ASKED, device="cpu", trainer="population"), tmp_path, FAKE)
    assert (tmp_path / FILE_NAME).read_bytes() == before


@pytest.mark.usefixtures("as_if_there_were_one")
def test_a_search_on_the_cpu_is_not_gone_on_with_on_a_gpu(tmp_path: Path) -> None:
    on_cpu = replace(ASKED, device="cpu", trainer="population")
    with Journal.create(tmp_path, on_cpu.whole(load_task(GRID)).as_record()):
        pass
    with pytest.raises(JournalError, match="device is 'absent' there and 'cuda' here"):
        run_search(ASKED, tmp_path, FAKE)


def test_one_process_trains_on_a_gpu_unless_more_are_asked_for(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    given: list[int] = []

    def noted(config: RunConfig, out: Path, resources: Resources, **more: Any) -> Any:
        given.append(resources.workers)
        raise ValueError("enough")

    monkeypatch.setattr(shown, "observed_search", noted)
    words = ["search", GRID, "--out", str(tmp_path / "run"), "--device"]
    for more in (["cuda"], ["cuda", "--workers", "3"], ["cpu", "--workers", "2"]):
        assert main([*words, *more]) == 2
    assert given == [1, 3, 2]


SEARCH = ["search", "--llm", "openai:gpt-5", "--out"]


@pytest.mark.parametrize(
    ("task", "more", "message"),
    [
        (GRID, [], "torch finds no GPU. It takes an NVIDIA GPU"),
        (GRID, ["--trainer", "sb3"], "trainer 'sb3' trains on the CPU here"),
        (GRID, ["--trust", "jail"], "the jail opens no devices"),
        (GRID, ["--executor", "ray"], "executor 'ray' asks its cluster for no GPU"),
        (CART, [], "guerdon/CartPole-v1 has none; expected device 'cpu'"),
    ],
)
@pytest.mark.usefixtures("without_gpu")
def test_a_search_that_cannot_be_on_a_gpu_is_refused_before_anything_is_bought(
    task: str,
    more: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def never(*args: Any) -> Any:
        raise AssertionError("the model was asked for")

    monkeypatch.setattr(search, "_connect", never)
    out = tmp_path / "run"
    assert main([*SEARCH, str(out), "--task", task, "--device", "cuda", *more]) == 2
    assert message in " ".join(capsys.readouterr().err.split())
    assert not out.exists()


# --- single trainings ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("task", "more", "message"),
    [
        (GRID, [], "torch finds no GPU. It takes an NVIDIA GPU"),
        (CART, [], "guerdon/CartPole-v1 has none; expected device 'cpu'"),
        ("guerdon/Pendulum-v1", ["--algo", "sac"], "guerdon/Pendulum-v1 has none"),
    ],
)
@pytest.mark.usefixtures("without_gpu")
def test_a_training_that_cannot_be_on_a_gpu_is_refused_at_once(
    task: str,
    more: list[str],
    message: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "out"
    words = ["train", task, "--device", "cuda", "--out", str(out), *more]
    assert main(words) == 2
    assert message in " ".join(capsys.readouterr().err.split())
    assert not out.exists()


def test_full_python_is_not_trained_on_a_gpu(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    program = tmp_path / "reward.py"
    program.write_text("import os\ndef reward(prev, action, now, params):\n    ...\n")
    for reward, trust in (
        (str(program), "jail"),
        (str(program), "none"),
        ("human", "jail"),
    ):
        words = ["train", GRID, "--reward", reward, "--device", "cuda"]
        assert main([*words, "--trust", trust]) == 2
        assert "expected trust 'language'" in " ".join(capsys.readouterr().err.split())


@pytest.mark.usefixtures("as_if_there_were_one")
def test_one_training_on_a_gpu_is_a_population_of_one_to_its_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    legs: list[Leg] = []

    def noted(leg: Leg, **more: Any) -> list[TrainingResult]:
        legs.append(leg)
        raise ValueError("enough")

    monkeypatch.setattr(population, "train_leg", noted)
    with pytest.raises(ValueError, match="enough"):
        train_one(GRID, "human", steps=1, seed=4, device="cuda")
    ((job,),) = (leg.jobs for leg in legs)
    assert (job.device, job.trainer) == ("cuda", "population")
    assert (job.reward, job.seed) == ("human", 4)
    assert job.whole == job.steps > 1

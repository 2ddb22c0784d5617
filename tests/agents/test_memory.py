"""A Memory level from its recipe to the file of its policy, and back."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import guerdon
from guerdon.agents import population as module
from guerdon.agents.evaluate import evaluate, load_episodes
from guerdon.agents.policies import TorchPolicy, load_policy
from guerdon.agents.population import config_for, row_file
from guerdon.agents.ppo import Population
from guerdon.agents.recipes import MEMORY, Recipe
from guerdon.agents.row_policy import RowPolicy
from guerdon.agents.sb3 import train as train_by_sb3
from guerdon.agents.training import TrainingJob
from guerdon.envs.task import Task
from guerdon.journal import Journal
from guerdon.report.render import render_episode
from guerdon.run import RunConfig, run_search
from guerdon.run.config import Resources
from tests.agents.legs import result, same, same_weights, train

SMALL = replace(
    MEMORY,
    n_envs=8,
    n_steps=32,
    batch_size=64,
    n_epochs=2,
    net_arch=(16, 16),
    memory=16,
)
BLOCK = SMALL.n_envs * SMALL.n_steps
JOB = TrainingJob(
    task="guerdon/MemoryS7-v0",
    reward="sparse",
    steps=8 * BLOCK,
    seed=0,
    trainer="population",
    whole=8 * BLOCK,
    eval_episodes=3,
    record_episodes=1,
)
OTHER = replace(JOB, seed=1)
TASK = guerdon.load_task(JOB.task)


@pytest.fixture(scope="module", autouse=True)
def _small() -> Iterator[None]:
    def small(task: Task, algo: str | None = None) -> Recipe:
        return SMALL

    before = torch.get_num_threads()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "recipe_for", small)
        yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which two rows were trained to the end."""
    folder = tmp_path_factory.mktemp("memory")
    for outcome in train(JOB, OTHER, folder=folder):
        assert result(outcome).steps == JOB.steps
    return folder


def file_of(job: TrainingJob, folder: Path) -> Path:
    return folder / f"{job.key}.safetensors"


def test_a_row_with_a_memory_goes_on_where_its_leg_ended(
    trained: Path, tmp_path: Path
) -> None:
    half = replace(JOB, steps=JOB.steps // 2)
    train(replace(OTHER, steps=half.steps), half, folder=tmp_path)
    assert (tmp_path / row_file(JOB, half.steps)).is_file()
    (again,) = train(JOB, start=half.steps, folder=tmp_path)
    (whole,) = train(JOB)
    same(again, whole)
    same_weights(file_of(JOB, tmp_path), file_of(JOB, trained))
    (episode,) = load_episodes(tmp_path / f"{JOB.key}.npz", TASK)
    assert episode.length == result(whole).length[0]


def test_the_file_of_a_policy_with_a_memory_has_every_bit_of_it(trained: Path) -> None:
    env = module.arrays_for(TASK, SMALL.n_envs)
    recipe = replace(SMALL, use_sde=False)
    population = Population(
        env, config_for(recipe, JOB.steps), [0], rewards=rewards_of(JOB)
    )
    population.learn(JOB.steps)
    own, read = population.policy(0), load_policy(file_of(JOB, trained))
    env.close()
    assert isinstance(read, RowPolicy)
    assert read.arch == own.arch
    assert read.weights.keys() == own.weights.keys()
    for name, value in own.weights.items():
        assert torch.equal(read.weights[name], value)
    scores = [
        evaluate(TASK, policy, episodes=3, seed=4).fitness for policy in (own, read)
    ]
    assert scores[0] == scores[1]


def rewards_of(job: TrainingJob) -> Any:
    return module.ProgramRewards(TASK, [job.reward], job.base, SMALL.n_envs)


def test_the_film_shows_the_episode_that_the_evaluation_scores(
    trained: Path, tmp_path: Path
) -> None:
    pytest.importorskip("PIL")
    policy = load_policy(file_of(JOB, trained), TASK)
    (expected,) = evaluate(TASK, policy, episodes=1, seed=7).length
    # The second film begins with what is left in the memory of the first.
    for _ in range(2):
        film = render_episode(TASK, policy, tmp_path / "film.gif", 7)
        assert film.length == expected
    assert (tmp_path / "film.gif").stat().st_size > 0


def changed(
    change: Callable[[dict[str, Any], dict[str, torch.Tensor]], object],
) -> Callable[[Path, Path], None]:
    """A file with another header or other tensors."""

    def write(source: Path, target: Path) -> None:
        from safetensors import safe_open

        with safe_open(source, framework="pt") as file:
            header = json.loads(file.metadata()["guerdon"])
        tensors = load_file(source)
        change(header, tensors)
        save_file(tensors, target, metadata={"guerdon": json.dumps(header)})

    return write


BROKEN = {
    "a weight of another shape": changed(
        lambda h, t: t.update({"row.action.bias": torch.zeros(1, 6)})
    ),
    "a weight of another type": changed(
        lambda h, t: t.update({"row.action.bias": torch.zeros(1, 1, 7).double()})
    ),
    "a weight too many": changed(lambda h, t: t.update({"row.x": torch.zeros(1)})),
    "a weight too few": changed(lambda h, t: t.pop("row.memory.hidden.bias")),
    "no number": changed(lambda h, t: t["row.first.bias"].fill_(torch.nan)),
    "a memory of another width": changed(lambda h, t: h["recipe"].update(memory=15)),
    "a memory that no machine has": changed(
        lambda h, t: h["recipe"].update(memory=10**9)
    ),
    "layers that no machine has": changed(
        lambda h, t: h["recipe"].update(net_arch=[10**9, 10**9])
    ),
    "a memory that is a text": changed(lambda h, t: h["recipe"].update(memory="16")),
    "a memory below nothing": changed(lambda h, t: h["recipe"].update(memory=-1)),
    "no memory": changed(lambda h, t: h["recipe"].update(memory=0)),
    "another algorithm": changed(lambda h, t: h["recipe"].update(algo="sac")),
    "other spaces": changed(lambda h, t: h.update(spaces=["one", "two"])),
    "the other format": changed(lambda h, t: h.update(format="guerdon-policy-1")),
}


@pytest.mark.parametrize("what", BROKEN)
def test_a_file_that_is_not_sound_is_refused(
    what: str, trained: Path, tmp_path: Path
) -> None:
    BROKEN[what](file_of(JOB, trained), tmp_path / "policy.safetensors")
    with pytest.raises(ValueError, match=r"^policy\.safetensors: "):
        load_policy(tmp_path / "policy.safetensors", TASK)


def test_sb3_trains_without_the_memory_and_its_file_says_so(tmp_path: Path) -> None:
    job = replace(JOB, trainer="sb3", steps=4096, whole=None, record_episodes=0)
    outcome = result(train_by_sb3(job, folder=tmp_path))
    assert len(outcome.fitness) == 3
    assert isinstance(load_policy(file_of(job, tmp_path), TASK), TorchPolicy)
    from safetensors import safe_open

    with safe_open(file_of(job, tmp_path), framework="pt") as file:
        header = json.loads(file.metadata()["guerdon"])
    expected = json.loads(json.dumps(asdict(MEMORY.without_memory())))
    assert header["recipe"] == expected
    assert "without the memory" in header["recipe"]["source"]


def test_the_mode_of_a_policy_hangs_on_what_it_has_seen(trained: Path) -> None:
    """What is remembered reaches the choice, in the file's policy as in the row."""
    policy = load_policy(file_of(JOB, trained), TASK)
    assert isinstance(policy, RowPolicy)
    rng = np.random.default_rng(0)
    grid = rng.integers(0, 3, size=(2, 7, 7, 3)).astype(np.uint8)
    said = []
    for first in grid:
        policy.forget()
        policy.predict(first[None], deterministic=True, rng=rng, episodes=[0])
        # What it then says of the same observation.
        said.append(policy._say(torch.from_numpy(grid[:1])[None], [0]))
    assert not np.array_equal(said[0], said[1])


def test_a_whole_search_on_a_memory_level_ends_with_its_film(tmp_path: Path) -> None:
    config = RunConfig(
        task=JOB.task,
        llm="sampler",
        candidates=2,
        rounds=1,
        steps=MEMORY.whole_steps(1),
        seeds=1,
        finalists=1,
        final_seeds=0,
        eval_episodes=2,
        trainer="population",
        race="none",
    )
    summary = run_search(config, tmp_path, Resources(workers=2))
    assert summary["failures"] == {}
    with Journal.open(tmp_path, readonly=True) as journal:
        held = journal.trainings(summary["winner"]["id"], "holdout")
        episode = journal.meta("episode")
    assert held
    assert episode is not None
    for training in held:
        policy = load_policy(tmp_path / str(training.artifact), TASK)
        assert isinstance(policy, RowPolicy)
        assert policy.arch.memory == MEMORY.memory
    assert (tmp_path / "figures" / "winner.gif").stat().st_size > 0
    assert "winner.gif" in (tmp_path / "report.html").read_text() or (
        "data:image/gif" in (tmp_path / "report.html").read_text()
    )

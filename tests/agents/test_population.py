"""Legs of a population: put down and taken up in any company, bit by bit."""

from __future__ import annotations

import errno
import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import guerdon
from guerdon.agents import population as module
from guerdon.agents.evaluate import load_episodes
from guerdon.agents.population import (
    arrays_for,
    run_leg,
)
from guerdon.agents.rollout import lane_seeds
from guerdon.agents.training import (
    Leg,
    Outcome,
    TrainingResult,
    outcome_from_json,
)
from guerdon.envs.task import Task
from guerdon.types import Failure
from tests.agents.legs import (
    BAD,
    ENVS,
    GOOD,
    GRID,
    HALF,
    ROWS,
    WHOLE,
    file_of,
    job,
    result,
    same,
    same_episodes,
    same_weights,
    small_recipes,
    train,
)


@pytest.fixture(scope="module", autouse=True)
def _small() -> Iterator[None]:
    with small_recipes():
        yield


@pytest.fixture(scope="module")
def through(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Outcome]]:
    """Three rows trained from beginning to end at once, in their own folder."""
    folder = tmp_path_factory.mktemp("through")
    return folder, train(*ROWS, folder=folder)


@pytest.fixture
def halfway(tmp_path: Path) -> Path:
    """A folder in which the same rows were put down after half, in two companies."""
    train(job(GOOD, 0, HALF), job("human", 1, HALF), folder=tmp_path)
    train(job("sparse", 0, HALF), folder=tmp_path)
    return tmp_path


def test_a_leg_is_the_same_whole_and_in_parts_in_any_company(
    through: tuple[Path, list[Outcome]], halfway: Path
) -> None:
    folder, whole = through
    assert all(file_of(one, halfway).is_file() for one in ROWS)
    assert not any(folder.glob("*.row"))
    again = train(ROWS[1], ROWS[0], start=HALF, folder=halfway)
    again += train(ROWS[2], start=HALF, folder=halfway)
    for place, outcome in zip((1, 0, 2), again, strict=True):
        same(outcome, whole[place])
        found = result(outcome)
        assert found.steps == WHOLE
        assert found.curve.steps[-1] == WHOLE
        assert found.job == ROWS[place].key
        assert found.weights == f"{ROWS[place].key}.safetensors"
        same_weights(halfway / found.weights, folder / found.weights)
        assert found.episodes == f"{ROWS[place].key}.npz"
        same_episodes(halfway / found.episodes, folder / found.episodes)
    assert {*result(whole[0]).curve.terms} == {"task", "key", "door"}
    assert result(whole[0]).proxy is not None
    assert len({result(one).proxy for one in whole}) == 3


def test_a_row_learns_the_same_alone(through: tuple[Path, list[Outcome]]) -> None:
    _, whole = through
    same(train(ROWS[2])[0], whole[2])


def test_a_row_whose_file_is_missing_is_trained_from_the_beginning(
    through: tuple[Path, list[Outcome]], halfway: Path
) -> None:
    file_of(ROWS[0], halfway).unlink()
    found = train(*ROWS[:2], start=HALF, folder=halfway)
    for ours, theirs in zip(found, through[1], strict=False):
        same(ours, theirs)


def test_a_damaged_row_ends_where_a_sound_one_would_have(
    through: tuple[Path, list[Outcome]], halfway: Path
) -> None:
    path = file_of(ROWS[0], halfway)
    path.write_bytes(path.read_bytes()[:-1])
    found = train(*ROWS, start=HALF, folder=halfway)
    for ours, theirs in zip(found, through[1], strict=True):
        same(ours, theirs)


def test_a_start_that_is_no_whole_block_finds_its_row(
    through: tuple[Path, list[Outcome]], tmp_path: Path, caplog: Any
) -> None:
    odd = HALF - 1000
    train(job("sparse", 0, odd), folder=tmp_path)
    (found,) = train(ROWS[1], start=odd, folder=tmp_path)
    same(found, through[1][1])
    assert not caplog.records


def test_recorded_episodes_are_those_of_the_evaluation(
    through: tuple[Path, list[Outcome]],
) -> None:
    folder, whole = through
    task = guerdon.load_task(GRID.task)
    for outcome in map(result, whole):
        assert outcome.episodes is not None
        (episode,) = load_episodes(folder / outcome.episodes, task)
        assert episode.length == outcome.length[0]
        assert episode.info["fitness"] == outcome.fitness[0]
        np.testing.assert_allclose(task.fitness(episode), outcome.fitness[0], rtol=1e-6)


# --- rows that fail ---------------------------------------------------------------


def test_rejected_texts_fail_among_good_rows(
    through: tuple[Path, list[Outcome]],
) -> None:
    found = train(job(BAD, 0), ROWS[0], job("def reward(", 3), job("best", 1))
    same(found[1], through[1][0])
    kinds = [one.kind for one in found if isinstance(one, Failure)]
    assert kinds == ["schema", "syntax", "crashed"]
    assert isinstance(found[3], Failure)
    assert "no reward named 'best'" in found[3].reason


def test_a_leg_of_rejected_texts_alone_is_no_error() -> None:
    found = train(job(BAD, 0), job(BAD, 1))
    assert [one.kind for one in found if isinstance(one, Failure)] == ["schema"] * 2


class Spoiled:
    """An engine with features that are not finite in the lanes of one row."""

    def __init__(self, env: Any, lanes: slice) -> None:
        self._env, self._lanes = env, lanes

    def __getattr__(self, name: str) -> Any:
        return getattr(self._env, name)

    def step(self, actions: np.ndarray, out: Any = None) -> Any:
        found = self._env.step(actions, out)
        found.features[self._lanes] = np.nan
        return found


def test_a_row_that_becomes_not_finite_fails_among_good_rows(
    through: tuple[Path, list[Outcome]],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    made = arrays_for

    def spoiled(task: Task, lanes: int) -> Any:
        env = made(task, lanes)
        return Spoiled(env, slice(ENVS, ENVS + 2)) if lanes == 3 * ENVS else env

    monkeypatch.setattr(module, "arrays_for", spoiled)
    half = train(
        job("sparse", 0, HALF), job(GOOD, 0, HALF), job("human", 1, HALF),
        folder=tmp_path,
    )  # fmt: skip
    assert half[1] == Failure(
        "non_finite",
        "reward term 'key' is not finite; expected a finite number",
    )
    kept = [file_of(one, tmp_path).is_file() for one in ROWS]
    assert kept == [False, True, True]
    found = train(ROWS[1], ROWS[2], start=HALF, folder=tmp_path)
    for ours, theirs in zip(found, through[1][1:], strict=True):
        same(ours, theirs)


def test_a_true_score_that_is_not_finite_fails_its_own_row(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    evaluated = module.evaluate_rows

    def spoiled(*args: Any, **more: Any) -> Any:
        found = evaluated(*args, **more)
        return [found[0], module.NonFinite("the fitness is nan")]

    monkeypatch.setattr(module, "evaluate_rows", spoiled)
    found = train(job("sparse", 0, HALF), job("sparse", 1, HALF))
    result(found[0])
    assert found[1] == Failure("non_finite", "the fitness is nan")


def test_code_that_raises_is_the_failure_of_all(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken(task: Task, lanes: int) -> Any:
        raise RuntimeError("the simulator fell over")

    monkeypatch.setattr(module, "arrays_for", broken)
    found = train(ROWS[0], ROWS[1])
    assert [one.kind for one in found if isinstance(one, Failure)] == ["crashed"] * 2
    assert "the simulator fell over" in str(found[0])


class Odd:
    """An engine that raises in the fifth step when it has the lanes of one seed."""

    def __init__(self, env: Any, steps: list[int]) -> None:
        self._env, self._steps, self._odd = env, steps, False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._env, name)

    def reset(self, seeds: np.ndarray, lanes: Any = None) -> Any:
        self._odd = bool(np.isin(lane_seeds(2, ENVS), seeds).any())
        return self._env.reset(seeds, lanes)

    def step(self, actions: np.ndarray, out: Any = None) -> Any:
        self._steps.append(self._env.num_envs // ENVS)
        if self._odd and len(self._steps) % 5 == 0:
            raise RuntimeError("the simulator fell over")
        return self._env.step(actions, out)


def test_an_environment_that_raises_fails_the_row_to_which_it_happens_alone(
    through: tuple[Path, list[Outcome]], monkeypatch: pytest.MonkeyPatch
) -> None:
    made, steps = arrays_for, [0]

    def odd(task: Task, lanes: int) -> Any:
        return Odd(made(task, lanes), steps)

    monkeypatch.setattr(module, "arrays_for", odd)
    monkeypatch.setattr(module, "PROGRESS_SECONDS", -1.0)
    told: list[float] = []
    found = train(ROWS[0], job("human", 2), ROWS[1], ROWS[2], progress=told.append)
    for ours, theirs in zip((found[0], *found[2:]), through[1], strict=True):
        same(ours, theirs)
    assert isinstance(found[1], Failure)
    assert found[1].kind == "crashed"
    assert "the simulator fell over" in found[1].reason
    assert {4, 2, 1} <= {*steps}
    # Of one half and of the other, as parts of the whole.
    assert told == sorted(told)
    assert told[-1] == 1.0
    assert min(told) < 0.5


def test_too_little_memory_is_no_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(task: Task, lanes: int) -> Any:
        raise MemoryError("does not fit")

    monkeypatch.setattr(module, "arrays_for", full)
    with pytest.raises(MemoryError, match="does not fit"):
        train(ROWS[0])


def test_a_full_disk_is_the_machines_fault_and_leaves_no_half_row(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    write = Path.write_bytes

    def full(self: Path, data: bytes) -> int:
        if ".row" not in self.name:
            return write(self, data)
        write(self, data[:100])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="make room") as caught:
        train(job("sparse", 0, HALF), folder=tmp_path)
    assert caught.value.errno == errno.ENOSPC
    assert caught.value.filename == str(file_of(ROWS[1], tmp_path))
    assert list(tmp_path.iterdir()) == []


# --- stopping and telling -----------------------------------------------------------


def test_a_leg_that_is_stopped_puts_no_row_down(tmp_path: Path) -> None:
    asked = []

    def stop() -> bool:
        asked.append(True)
        return True

    found = train(
        replace(job("sparse", 0, WHOLE), whole=2 * WHOLE),
        folder=tmp_path,
        should_stop=stop,
    )
    assert result(found[0]).steps == HALF
    assert len(asked) == 1
    assert not list(tmp_path.glob("*.row"))


def test_progress_grows_to_the_end_over_all_groups(
    halfway: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PROGRESS_SECONDS", -1.0)
    told: list[float] = []
    train(ROWS[1], job("sparse", 5), start=HALF, folder=halfway, progress=told.append)
    # One row taken up: one block. The other one from the beginning: two blocks.
    assert told == [0.5, 0.75, 1.0]


# --- JSON -----------------------------------------------------------------------------


def test_a_worker_gets_and_gives_json(
    tmp_path: Path, through: tuple[Path, list[Outcome]]
) -> None:
    leg = Leg((ROWS[1], job(BAD, 4)))
    assert Leg.from_json(leg.to_json()) == leg
    answer = run_leg(leg.to_json().encode(), tmp_path, lambda share: None)
    values = json.loads(answer)
    first, second = (outcome_from_json(json.dumps(value)) for value in values)
    assert isinstance(first, TrainingResult)
    same(first, through[1][1])
    assert isinstance(second, Failure)
    assert second.kind == "schema"
    assert {path.name for path in tmp_path.iterdir()} == {first.weights, first.episodes}


def changed(**values: Any) -> str:
    leg = json.loads(Leg((ROWS[0],)).to_json())
    return json.dumps(leg | values)


@pytest.mark.parametrize(
    "text",
    [
        "", "null", "[]", "{}", "[" * 100_000, b"\xff\xfe",
        changed(start=-1), changed(start=WHOLE), changed(start="0"),
        changed(start=1.5), changed(start=True), changed(start=None),
        changed(start=2**60), changed(jobs=[]), changed(jobs=3), changed(jobs={}),
        changed(jobs="ab"), changed(jobs=[None]), changed(jobs=[{}]),
        changed(more=1), '{"jobs": []}',
        changed(jobs=[json.loads(ROWS[0].to_json()) | {"steps": "1"}]),
        changed(jobs=[json.loads(ROWS[0].to_json()) | {"reward": 1}]),
        changed(jobs=[json.loads(ROWS[0].to_json()) | {"seed": -1}]),
        changed(jobs=[json.loads(ROWS[0].to_json()) | {"extra": 1}]),
    ],
)  # fmt: skip
def test_json_that_is_no_leg_is_refused(text: str | bytes, tmp_path: Path) -> None:
    with pytest.raises(ValueError):  # noqa: PT011  each has words of its own
        Leg.from_json(text)
    data = text if isinstance(text, bytes) else text.encode()
    with pytest.raises(ValueError):  # noqa: PT011
        run_leg(data, tmp_path, lambda share: None)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "change",
    [{"steps": HALF}, {"task": "guerdon/Empty-5x5-v0"}, {"base": "none"},
     {"eval_episodes": 5}, {"eval_seed": 3}, {"record_episodes": 0}],
)  # fmt: skip
def test_jobs_that_differ_in_more_than_reward_and_seed_are_refused(
    change: Mapping[str, Any],
) -> None:
    (name,) = change
    with pytest.raises(ValueError, match=f"expected jobs of the same {name}"):
        Leg((ROWS[0], replace(ROWS[1], **change)))


def test_a_leg_needs_jobs_and_a_start_before_their_end() -> None:
    with pytest.raises(ValueError, match="at least one job"):
        Leg(())
    for start in (-1, WHOLE):
        with pytest.raises(ValueError, match="expected a start from 0 to below 8192"):
            Leg(ROWS, start)

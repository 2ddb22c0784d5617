"""Runs whose rounds are races: legs, promotions, late candidates, and resuming."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from guerdon.agents.recipes import recipe_for
from guerdon.envs import load_task
from guerdon.journal import Journal, TrainingRecord
from guerdon.report.data import RunData
from guerdon.report.race import section
from guerdon.reward_design.search.race_bandits import UCB
from guerdon.run import RunConfig, run_search
from guerdon.run.racing import race_of
from guerdon.run.search import _pool
from tests.run_jobs import LEGS, LOG
from tests.test_run import (  # noqa: F401 - fixtures
    COUNTDOWN,
    FAKE,
    SMALL,
    Model,
    Seen,
    _no_keys_from_outside,
    _quick_report,
    model,
)

UNIT = recipe_for(load_task(COUNTDOWN)).whole_steps(1)
RACE = replace(SMALL, candidates=8, steps=8 * UNIT, trainer="population")


def trainings(folder: Path) -> list[TrainingRecord]:
    with Journal.open(folder, readonly=True) as journal:
        return journal.trainings()


def begun(folder: Path) -> list[str]:
    return (folder / "trainings" / LOG).read_text().split()


@pytest.mark.parametrize(
    ("trainer", "trust", "alone"),
    [
        ("population", "language", True),
        ("population", "jail", False),
        ("sb3", "language", False),
    ],
)
def test_sb3_is_loaded_beforehand_unless_only_populations_train(
    trainer: Any, trust: Any, alone: bool, tmp_path: Path, monkeypatch: Any
) -> None:
    told: list[bool] = []
    monkeypatch.setattr("guerdon.agents.workers.start_server", told.append)
    config = replace(SMALL, trainer=trainer, trust=trust)
    with _pool(FAKE, config, tmp_path):
        assert told == [alone]


def test_a_round_is_halved_rung_by_rung_and_the_winner_is_trained_to_the_end(
    tmp_path: Path,
) -> None:
    summary = run_search(RACE, tmp_path, FAKE)
    legs = [t for t in trainings(tmp_path) if t.purpose == "search"]
    first = [t for t in legs if t.candidate.startswith("r1-")]
    reached = Counter(t.steps // UNIT for t in first if t.failure is None)
    assert reached[1] > reached[2] > reached[4] >= reached[8] >= 1
    assert set(reached) == {1, 2, 4, 8}
    # A leg goes on where the one before it ended.
    for line in (tmp_path / "trainings" / LEGS).read_text().splitlines():
        start, stop, _ = (int(word) for word in line.split())
        assert (start // UNIT, stop // UNIT) in {(0, 1), (1, 2), (2, 4), (4, 8), (0, 8)}
    winner = summary["winner"]["id"]
    own = [t for t in legs if t.candidate == winner]
    assert max(t.steps for t in own) == RACE.steps
    held = [t for t in trainings(tmp_path) if t.purpose == "holdout"]
    assert {t.steps for t in held} == {RACE.steps}
    assert len(begun(tmp_path)) == len(set(begun(tmp_path)))
    # The sum counts each candidate by the leg that went furthest.
    assert summary["trainings"] < len(trainings(tmp_path))


def test_without_a_race_every_candidate_is_trained_once(tmp_path: Path) -> None:
    run_search(replace(RACE, race="none"), tmp_path, FAKE)
    assert {t.steps for t in trainings(tmp_path)} == {RACE.steps}


@pytest.mark.parametrize("race", ["ucb", "d3rb"])
def test_bandits_share_out_a_third_of_the_steps(race: str, tmp_path: Path) -> None:
    summary = run_search(replace(RACE, race=race), tmp_path, FAKE)
    first = [t for t in trainings(tmp_path) if t.candidate.startswith("r1-")]
    spent = Counter[str]()
    for training in first:
        if training.purpose == "search":
            spent[training.candidate] = max(spent[training.candidate], training.steps)
    assert 0 < spent.total() <= RACE.steps * RACE.candidates // 3 + 8 * UNIT
    assert len({*spent.values()}) > 1
    # Nobody is left out, and somebody in every round can be chosen.
    assert len(spent) == len({t.candidate for t in first if t.purpose == "search"})
    assert max(spent.values()) == RACE.steps
    assert summary["winner"] is not None
    own = [t for t in trainings(tmp_path) if t.candidate == summary["winner"]["id"]]
    assert max(t.steps for t in own if t.purpose == "search") == RACE.steps


@pytest.mark.parametrize("race", ["ucb", "d3rb"])
def test_a_bandit_that_was_broken_off_goes_on_and_ends_the_same(
    race: str, tmp_path: Path
) -> None:
    config = replace(RACE, race=race)
    undisturbed = run_search(config, tmp_path / "a", FAKE)
    with pytest.raises(KeyboardInterrupt):
        run_search(config, tmp_path / "b", FAKE, Seen("trained", 13))
    resumed = run_search(config, tmp_path / "b", FAKE)
    for name in ("winner", "holdout", "by_origin", "trainings"):
        assert resumed[name] == undisturbed[name], name


@pytest.mark.parametrize("count", [1, 4, 12])
@pytest.mark.parametrize("rungs", [1, 4])
def test_a_bandit_may_pull_every_candidate_once(count: int, rungs: int) -> None:
    config = replace(RACE, race="ucb", candidates=count, rungs=rungs)
    race = race_of(config, UNIT, 0)
    assert isinstance(race, UCB)
    assert race.leg == (RACE.steps if rungs == 1 else UNIT)
    assert race.total == max(race.leg * count, RACE.steps * count // 3 - RACE.steps)


@pytest.mark.parametrize("kind", ["trained", "candidate"])
@pytest.mark.parametrize("count", [1, 6, 13])
def test_a_race_that_was_broken_off_goes_on_and_ends_the_same(
    kind: str, count: int, tmp_path: Path
) -> None:
    undisturbed = run_search(RACE, tmp_path / "a", FAKE)
    with pytest.raises(KeyboardInterrupt):
        run_search(RACE, tmp_path / "b", FAKE, Seen(kind, count))
    resumed = run_search(RACE, tmp_path / "b", FAKE)
    for name in ("winner", "holdout", "by_origin", "trainings"):
        assert resumed[name] == undisturbed[name], name
    done = {t.key for t in trainings(tmp_path / "b")}
    assert done == {t.key for t in trainings(tmp_path / "a")}
    told = [section(RunData(tmp_path / name).races) for name in "ab"]
    assert told[0] == told[1]
    assert "Round 1" in told[0]


def test_the_journal_tells_what_became_of_every_leg(tmp_path: Path) -> None:
    summary = run_search(RACE, tmp_path, FAKE)
    races = RunData(tmp_path).races
    assert [known.round for known in races] == list(range(1, RACE.rounds + 1))
    legs = [t for t in trainings(tmp_path) if t.purpose == "search"]
    for known in races:
        assert known.rungs == [UNIT, 2 * UNIT, 4 * UNIT, 8 * UNIT]
        for racer in known.racers.values():
            own = {t.steps: t for t in legs if t.candidate == racer.id}
            assert [mark.steps for mark in racer.marks] == sorted(own)
            assert (racer.state == "finished") == (racer.steps == RACE.steps)
            for mark in racer.marks:
                result = own[mark.steps].result
                assert (mark.score is None) == (result is None)
                if mark.score is not None:
                    assert result is not None
                    assert mark.score == pytest.approx(result["fitness"])
        assert known.spent < (known.unraced or 0)
        # One of a rung at most goes on by chance.
        lucky = [m.steps for r in known.racers.values() for m in r.marks if m.chance]
        assert len(lucky) == len(set(lucky))
    assert any(m.chance for k in races for r in k.racers.values() for m in r.marks)
    assert summary["winner"]["id"] in {r for known in races for r in known.racers}


def test_one_worker_and_two_race_alike(tmp_path: Path) -> None:
    two = run_search(RACE, tmp_path / "two", FAKE)
    one = run_search(RACE, tmp_path / "one", replace(FAKE, workers=1))
    assert one["winner"] == two["winner"]
    assert one["holdout"] == two["holdout"]


def test_what_a_slow_model_writes_enters_later_and_a_resumed_run_knows_when(
    model: Model,  # noqa: F811
    tmp_path: Path,
) -> None:
    model.delay = 0.3
    config = replace(RACE, llm=model.uri, rounds=1)
    undisturbed = run_search(config, tmp_path / "a", FAKE)
    with Journal.open(tmp_path / "a", readonly=True) as journal:
        beats = [e.data["entered"] for e in journal.events() if e.kind == "beat"]
        entered = {c.id for c in journal.candidates()}
    assert sum(beats) == len(entered) == config.candidates
    assert sum(count > 0 for count in beats) > 1
    seen = Seen("trained", 9)
    with pytest.raises(KeyboardInterrupt):
        run_search(config, tmp_path / "b", FAKE, seen)
    asked = len(model.asked)
    model.delay = 0.0
    resumed = run_search(config, tmp_path / "b", FAKE)
    assert resumed["winner"] is not None
    assert undisturbed["winner"] is not None
    assert len(model.asked) >= asked
    assert len(begun(tmp_path / "b")) == len(set(begun(tmp_path / "b")))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"trainer": "sb3", "race": "halving"}, "'halving' needs trainings"),
        ({"trainer": "jax"}, "trainer: expected one of"),
        ({"race": "hare"}, "race: expected one of"),
        ({"eta": 1}, "eta"),
        ({"rungs": 0}, "rungs"),
        ({"rungs": 11}, "rungs: expected at most 10, got 11"),
    ],
)
def test_what_cannot_race_is_refused(values: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(SMALL, **values)  # type: ignore[arg-type]


def test_a_population_does_not_learn_by_sac() -> None:
    task = load_task("guerdon/Pendulum-v1")
    config = RunConfig(task=task.id, algo="sac", trainer="population")
    with pytest.raises(ValueError, match="'population' learns by ppo"):
        config.whole(task)


def test_auto_is_a_race_where_there_is_an_engine_and_sb3_elsewhere() -> None:
    fast = RunConfig(task="guerdon/DoorKey-6x6-v0")
    slow = RunConfig(task="guerdon/Reacher-v5")
    assert fast.whole(load_task(fast.task)).trainer == "population"
    assert fast.whole(load_task(fast.task)).race == "halving"
    assert slow.whole(load_task(slow.task)).trainer == "sb3"
    assert slow.whole(load_task(slow.task)).race == "none"


def test_a_race_that_no_engine_can_run_is_refused_and_not_left_out() -> None:
    for race in ("halving", "ucb", "d3rb"):
        slow = RunConfig(task="guerdon/Reacher-v5", race=race)  # type: ignore[arg-type]
        with pytest.raises(ValueError, match=f"'{race}' needs trainings that can"):
            slow.whole(load_task(slow.task))
    slow = RunConfig(task="guerdon/Reacher-v5", race="none")
    assert slow.whole(load_task(slow.task)).race == "none"


def test_rungs_are_whole_rollouts() -> None:
    config = replace(RACE, race="halving", steps=10 * UNIT, rungs=3)
    race = race_of(config, UNIT, 0)
    assert [step / UNIT for step in race.rungs] == [3.0, 5.0, 10.0]  # type: ignore[attr-defined]

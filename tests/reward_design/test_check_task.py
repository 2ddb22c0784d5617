"""``guerdon.check_task`` reads the text of reference rewards, and runs it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

import guerdon
from guerdon.envs.checker import CHECKS, TaskCheckError
from guerdon.envs.task import ReferenceReward
from guerdon.reward_design import checker
from guerdon.reward_design.checker import REWARDS_READ, check_task

CARTPOLE = guerdon.load_task("guerdon/CartPole-v1")


def written(body: str) -> str:
    return f"def reward(prev, action, now, params):\n    return {body}\n"


def problems_of(**rewards: Any) -> str:
    made = {
        name: ReferenceReward(text, "a test") if isinstance(text, str) else text
        for name, text in rewards.items()
    }
    with pytest.raises(TaskCheckError) as caught:
        check_task(replace(CARTPOLE, id="changed", rewards=CARTPOLE.rewards | made))
    (problem,) = caught.value.problems
    return problem


def test_the_public_check_is_this_one_and_says_that_it_read_the_rewards() -> None:
    assert guerdon.check_task is check_task
    report = check_task(CARTPOLE)
    assert report.passed == (*(name for name, _ in CHECKS), REWARDS_READ)
    assert report.not_run == ()


@pytest.mark.parametrize("name", ["human", "sparse"])
@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("import os", "forbidden"),
        ("", "schema"),
        ("def reward(prev", "syntax"),
        (written('{"a": now.no_such_feature}'), "schema"),
        (written('{"a": now.upright * "x"}'), ""),
    ],
)
def test_a_text_that_is_no_program_of_the_task_is_found(
    name: str, text: str, kind: str
) -> None:
    problem = problems_of(**{name: text})
    assert problem.startswith(f"{REWARDS_READ}: {name!r} is refused by the reward")
    assert kind in problem


def test_a_program_is_run_on_the_steps_that_were_played(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen = []

    def looked_at(task: Any, record: Any) -> Any:
        batch = played(task, record)
        seen.append(batch)
        return batch

    played = checker._played
    monkeypatch.setattr(checker, "_played", looked_at)
    report = check_task(CARTPOLE, episodes=4)
    texts = sum(r.source is not None for r in CARTPOLE.rewards.values())
    assert len(seen) == 4 * texts
    assert sum(len(batch.reward) for batch in seen) == texts * report.steps
    # CartPole ends by itself: its random episodes terminate at their last step.
    for batch in seen:
        assert batch.terminated[-1, 0]
        assert not batch.terminated[:-1].any()
        assert not batch.truncated.any()


def test_a_reward_of_another_type_is_told_once() -> None:
    assert "'human' is a int, not a ReferenceReward" in problems_of(human=3)


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"episodes": 0}, ValueError, "episodes: expected at least 1"),
        ({"episodes": 1.5}, TypeError, "episodes: expected a whole number, got 1.5"),
        ({"seed": "0"}, TypeError, "seed: expected a whole number"),
        ({"task": None}, TypeError, "task: expected a registered id"),
    ],
)
def test_arguments_of_other_types_are_refused(
    change: dict[str, Any], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        check_task(**({"task": CARTPOLE} | change))

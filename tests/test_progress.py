"""What the live display and the lines of a search say."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from guerdon.cli import progress
from guerdon.envs import load_task
from guerdon.journal import TrainingRecord
from guerdon.llm.budget import Price, estimate, prompt_size
from guerdon.reward_design.search.ask import usual_request
from guerdon.run import Resources, RunConfig
from guerdon.types import Failure

CARTPOLE = "guerdon/CartPole-v1"


def record(
    candidate: str,
    fitness: float | None,
    purpose: Any = "search",
    seed: int = 0,
    steps: int = 1,
    episodes: Sequence[float] = (),
) -> TrainingRecord:
    result: dict[str, Any] | None = None
    if fitness is not None:
        result = {"fitness": fitness, "success": 0.5}
        if episodes:
            result["evaluation"] = {"fitness": list(episodes)}
    return TrainingRecord(
        key=f"{candidate}-{purpose}-{seed}",
        candidate=candidate,
        seed=seed,
        purpose=purpose,
        steps=steps,
        result=result,
        failure=Failure("crashed", "no") if result is None else None,
        wall_seconds=10.0,
    )


def shown(state: progress._State) -> list[str]:
    return [str(line) for line in state.render().renderables]


def test_the_display_counts_candidates_and_trainings() -> None:
    config = RunConfig(task=CARTPOLE, candidates=4, rounds=2, seeds=3, final_seeds=1)
    state = progress._State(config, workers=2)
    assert state.planned == 4 * 2 + 3 * 1 + 4 * 3
    state.see("round", {"number": 1})
    for name, failure in (("a", None), ("b", Failure("syntax", "no")), ("c", None)):
        state.see("candidate", {"id": name, "failure": failure})
    state.see("trained", {"record": record("a", 0.25)})
    state.see("trained", {"record": record("c", None)})
    state.see("training", {"shares": [0.5, 0.0, 0.0]})
    state.see("called", {"tokens": 1200})
    state.see("model_failed", {"id": "b", "kind": "timeout"})
    lines = shown(state)
    assert lines[0] == f"{CARTPOLE}  round 1 of 2"
    assert lines[1] == (
        "candidates: 3 proposed, 2 failed, 2 of at most 23 trainings done"
    )
    assert lines[2] == "under way: 50%   0%, 1 waiting"
    assert lines[3] == "best true score: 0.25 by a (one seed, no interval)"
    assert lines[4] == "model: 1,200 tokens, 1 failed calls"
    # 19 wait and one and a half are under way, at 10 s each on two workers.
    assert lines[5].endswith("left: about 1:42")


def test_the_best_has_an_interval_once_it_has_seeds() -> None:
    state = progress._State(RunConfig(task=CARTPOLE), workers=1)
    for seed, fitness in enumerate((0.2, 0.4)):
        state.see("trained", {"record": record("a", fitness, seed=seed)})
    state.see("trained", {"record": record("b", 0.9, purpose="holdout")})
    assert state.best() == "0.3 [0.2, 0.4] by a (2 seeds)"


def test_the_seeds_of_the_finals_count_and_more_of_them_come_first() -> None:
    state = progress._State(RunConfig(task=CARTPOLE), workers=1)
    for name, fitness in (("a", 0.8), ("b", 0.7)):
        state.see("trained", {"record": record(name, fitness, episodes=(0.7, 0.9))})
    one = "one seed: interval over its 2 episodes"
    assert state.best() == f"0.8 [0.7, 0.9] by a ({one})"
    for seed, fitness in ((1, 0.5), (2, 0.3)):
        final = record("b", fitness, purpose="final", seed=seed)
        state.see("trained", {"record": final})
    # Three seeds, whose interquartile mean leaves out none.
    assert state.best() == "0.5 [0.3, 0.7] by b (3 seeds)"


def test_one_seed_has_the_interval_of_its_last_leg_s_episodes() -> None:
    state = progress._State(RunConfig(task=CARTPOLE), workers=1)
    for steps, episodes in ((1000, (0.0, 0.0)), (2000, (1.0, 0.0, 1.0, 0.0) * 16)):
        mean = sum(episodes) / len(episodes)
        leg = record("a", mean, steps=steps, episodes=episodes)
        state.see("trained", {"record": leg})
    words = re.fullmatch(
        r"0\.5 \[(.+), (.+)\] by a \(one seed: interval over its 64 episodes\)",
        state.best(),
    )
    assert words is not None
    # Of 64 coin flips the mean has a standard error of 1/16.
    assert float(words[1]) == pytest.approx(0.5 - 1.96 / 16, abs=0.03)
    assert float(words[2]) == pytest.approx(0.5 + 1.96 / 16, abs=0.03)


def test_the_legs_of_a_race_are_one_training_and_the_furthest_counts() -> None:
    state = progress._State(RunConfig(task=CARTPOLE), workers=1)
    for steps, fitness in ((1000, 0.0), (2000, 0.1), (4000, 0.9), (8000, 0.95)):
        state.see("trained", {"record": record("a", fitness, steps=steps)})
    state.see("trained", {"record": record("b", 0.99, steps=1000)})
    assert state.trained == 2
    assert state.best() == "0.95 by a (one seed, no interval)"
    # Fifty seconds for two trainings.
    assert state.left() == pytest.approx(25.0 * (state.planned - 2))


def test_a_failed_holdout_training_is_no_failed_candidate() -> None:
    state = progress._State(RunConfig(task=CARTPOLE), workers=1)
    state.see("trained", {"record": record("sparse", None, purpose="holdout")})
    assert "0 failed, 1 of" in shown(state)[1]


@pytest.mark.parametrize(
    ("llm", "resources", "expected"),
    [
        ("sampler", Resources(), "at most 62 trainings of 100,000 steps, no language"),
        ("embedded", Resources(), "at most 72 model calls or some"),
        ("openai:gpt-4o-mini", Resources(), r"\(\$0.0"),
        ("openai:gpt-99", Resources(), r"\(price not known\)"),
        ("openai:gpt-4o", Resources(budget_usd=2.0), r"capped at \$2.00"),
        ("embedded", Resources(budget_tokens=9000), "capped at 9,000 tokens"),
    ],
)
def test_the_estimate_stands_before_the_run(
    llm: str, resources: Resources, expected: str
) -> None:
    config = RunConfig(task=CARTPOLE, llm=llm)
    assert re.search(expected, progress._estimate(config, resources))


def test_the_estimate_is_that_of_the_budget_with_the_task_s_own_prompt() -> None:
    config = RunConfig(task=CARTPOLE, llm="openai:gpt-4o", candidates=5, rounds=2)
    asked = usual_request(load_task(CARTPOLE))
    cost = estimate(
        Price(2.50, 10.00),
        requests=20,  # ten slots, each with a repair
        prompt_tokens=prompt_size(asked),
        max_tokens=400,
    )
    words = progress._estimate(config, Resources())
    assert f"at most 20 model calls or some {cost.tokens:,} tokens" in words
    assert f"(${cost.usd:.2f})" in words
    assert prompt_size(asked) > 20 * len(load_task(CARTPOLE).layout)


def test_with_json_the_estimate_is_one_line_on_stderr_and_nothing_else_is(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    def search(
        config: RunConfig, out: Path, resources: Resources, observe: Any
    ) -> dict[str, Any]:
        observe("phase", {"name": "bank"})
        observe("trained", {"record": record("a", 0.5), "kept": False})
        observe("no_model", {"reason": "none"})
        return {}

    monkeypatch.setattr(progress, "run_search", search)
    config = RunConfig(task=CARTPOLE, llm="sampler")
    progress.observed_search(config, tmp_path, Resources(), quiet=True)
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err == progress._estimate(config, Resources()) + "\n"

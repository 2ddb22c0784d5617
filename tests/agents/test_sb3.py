import errno
import json
import re
import resource
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from stable_baselines3.common.vec_env import DummyVecEnv

from guerdon.agents import curve, sb3
from guerdon.agents.environments import make_env
from guerdon.agents.evaluate import Evaluation, evaluate, load_episodes
from guerdon.agents.policies import load_policy
from guerdon.agents.recipes import recipe_for
from guerdon.agents.sb3 import CurveRecorder, run_job, train
from guerdon.agents.training import (
    Outcome,
    TrainingJob,
    TrainingResult,
    outcome_from_json,
)
from guerdon.agents.vector import (
    EngineVecEnv,
    NonFinite,
    TaskVecEnv,
    finite_program,
    make_vec_env,
)
from guerdon.envs.table import TASKS, load_task
from guerdon.envs.task import Task
from guerdon.reward_design.program import Designed, RewardProgram
from guerdon.types import Failure

CARTPOLE = TASKS["guerdon/CartPole-v1"]
DOORKEY = TASKS["guerdon/DoorKey-5x5-v0"]

UPRIGHT = """
def reward(prev, action, now, params):
    return {"upright": 1.0 - abs(now.pole_angle), "alive": 0.5}
"""


def job(task: str = "guerdon/CartPole-v1", **values: object) -> TrainingJob:
    plain = {"reward": "sparse", "steps": 512, "seed": 0, "eval_episodes": 4}
    return TrainingJob(task=task, **plain | values)  # type: ignore[arg-type]


def done(outcome: Outcome) -> TrainingResult:
    assert isinstance(outcome, TrainingResult), outcome
    return outcome


def test_the_same_job_gives_the_same_result_twice(tmp_path: Path) -> None:
    one, two = (done(train(job(), folder=folder)) for folder in (tmp_path, tmp_path))
    assert one.fitness == two.fitness
    assert one.curve == two.curve
    assert one.steps == 512
    other = done(train(job(seed=1)))
    assert other.curve != one.curve


def test_training_gives_the_global_generators_back() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    train(job(steps=256))
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize(
    ("task", "algo"),
    [
        ("guerdon/CartPole-v1", None),
        ("guerdon/DoorKey-5x5-v0", None),
        ("guerdon/MountainCarContinuous-v0", "ppo"),
        ("guerdon/MountainCarContinuous-v0", "sac"),
        ("guerdon/Pendulum-v1", "sac"),
    ],
)
def test_a_saved_policy_acts_as_the_trained_one(
    tmp_path: Path, task: str, algo: str | None
) -> None:
    asked = job(task, algo=algo, steps=64, eval_episodes=2, record_episodes=1)
    result = done(train(asked, folder=tmp_path))
    assert result.weights is not None
    assert result.episodes is not None
    policy = load_policy(tmp_path / result.weights, TASKS[task])
    again = evaluate(
        TASKS[task],
        policy,
        episodes=2,
        seed=asked.eval_seed,
        deterministic=recipe_for(TASKS[task], algo).deterministic,
        record=1,
    )
    assert again.fitness == result.fitness
    own = load_policy(tmp_path / result.weights)
    env = make_env(TASKS[task])
    seen = np.stack([env.reset(seed=i)[0] for i in range(5)])
    env.close()
    for deterministic in (True, False):
        one, two = (
            p.predict(seen, deterministic=deterministic, rng=np.random.default_rng(0))
            for p in (policy, own)
        )
        np.testing.assert_array_equal(one, two)
    (recorded,) = load_episodes(tmp_path / result.episodes, TASKS[task])
    np.testing.assert_array_equal(recorded.features, again.episodes[0].features)
    np.testing.assert_array_equal(recorded.action, again.episodes[0].action)


def test_a_file_that_is_no_policy_of_ours_is_rejected(tmp_path: Path) -> None:
    save_file({"x": torch.zeros(1)}, tmp_path / "x.safetensors")
    with pytest.raises(ValueError, match="expected a policy of format"):
        load_policy(tmp_path / "x.safetensors", CARTPOLE)


def test_weights_of_another_task_are_rejected(tmp_path: Path) -> None:
    result = done(train(job(steps=256), folder=tmp_path))
    assert result.weights is not None
    other = TASKS["guerdon/LunarLander-v3"]
    with pytest.raises(
        ValueError,
        match=r"trained on guerdon/CartPole-v1 for observations of shape \(4,\) and "
        r"2 choices; guerdon/LunarLander-v3 has .* shape \(8,\) and 4 choices",
    ):
        load_policy(tmp_path / result.weights, other)


def test_weights_without_a_note_of_their_shapes_name_their_task(tmp_path: Path) -> None:
    result = done(train(job(steps=256), folder=tmp_path))
    assert result.weights is not None
    file = tmp_path / result.weights
    with safe_open(file, framework="pt") as opened:
        header = json.loads(opened.metadata()["guerdon"])
        tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
    del header["spaces"]
    save_file(tensors, file, metadata={"guerdon": json.dumps(header)})
    assert load_policy(file, CARTPOLE)
    with pytest.raises(
        ValueError, match="of guerdon/CartPole-v1, and this is guerdon/LunarLander-v3"
    ):
        load_policy(file, TASKS["guerdon/LunarLander-v3"])


def test_the_curve_holds_true_score_and_proxy_apart() -> None:
    result = done(train(job(reward=UPRIGHT, base="none")))
    curve = result.curve
    assert set(curve.terms) == {"upright", "alive"}
    assert sum(curve.episodes) > 5
    known = [i for i, fitness in enumerate(curve.fitness) if fitness is not None]
    assert known[-1] == 19
    for i in known:
        # CartPole's score is the length of an episode; a step alive pays a half.
        assert curve.fitness[i] == pytest.approx(curve.length[i])
        assert curve.terms["alive"][i] == pytest.approx(0.5 * curve.length[i])
        paid = curve.terms["alive"][i] + curve.terms["upright"][i]
        assert curve.proxy[i] == pytest.approx(paid, rel=1e-5)


def test_the_recorder_averages_episodes_by_window() -> None:
    recorder = CurveRecorder(100, ("a",), span=5)
    ends = {10: (1.0, 0, 4.0, 3), 12: (3.0, 1, 6.0, 5), 100: (8.0, 1, 2.0, 7)}
    for step, (fitness, success, proxy, length) in ends.items():
        recorder.num_timesteps = step
        info = {
            "fitness": fitness,
            "success": bool(success),
            "episode_reward": proxy,
            "episode_terms": {"a": proxy / 2},
        }
        recorder._add(info, length)
    curve = recorder.curve()
    assert curve.steps == tuple(range(5, 101, 5))
    assert curve.episodes == (0, 1, 1, *([0] * 16), 1)
    assert curve.fitness[:4] == (None, 1.0, 3.0, None)
    assert curve.success[19] == 1.0
    assert curve.length[2] == 5.0
    assert curve.terms["a"][1] == 2.0
    assert recorder.final_proxy() == 2.0


def test_a_curve_waits_until_every_environment_has_ended_an_episode() -> None:
    recorder = CurveRecorder(100, (), span=15)
    ends = {3: 1.0, 8: 1.0, 15: 0.0, 17: 0.4}  # the failures end at the horizon
    for step, fitness in ends.items():
        recorder.num_timesteps = step
        info = {"fitness": fitness, "success": fitness > 0, "episode_reward": 0.0}
        recorder._add(info | {"episode_terms": {}}, 1)
    curve = recorder.curve()
    assert curve.fitness[:2] == (None, None)
    assert curve.fitness[2] == pytest.approx(2 / 3)
    assert curve.fitness[3] == pytest.approx(1.4 / 3)
    assert curve.fitness[4] == pytest.approx(0.2)
    assert curve.fitness[6] is None


def test_steps_are_rounded_up_to_whole_rollouts() -> None:
    recipe = replace(recipe_for(CARTPOLE), n_envs=8, n_steps=32)
    assert recipe.whole_steps(256) == 256
    assert recipe.whole_steps(257) == 512


@pytest.mark.parametrize(
    ("flaw", "kind", "reason"),
    [
        ("NAN_REWARD", "non_finite", "reward term .* is nan"),
        ("NAN_OBSERVATION", "non_finite", r"observation is not finite at index \[0\]"),
        ("NAN_FITNESS", "non_finite", "fitness of an episode in training is nan"),
        (
            "RAISES",
            "crashed",
            r"RuntimeError: the simulator fell over \(countdown_task.py:\d+, step\)",
        ),
        (
            "NO_FITNESS",
            "crashed",
            r"KeyError: 'score' \(countdown_task.py:\d+, <lambda",
        ),
    ],
)
def test_a_broken_environment_fails_the_candidate(
    flaw: str, kind: str, reason: str
) -> None:
    outcome = train(job(f"countdown_task:{flaw}"))
    assert isinstance(outcome, Failure)
    assert outcome.kind == kind
    assert re.search(reason, outcome.reason)


def test_a_fitness_that_is_no_number_only_in_the_evaluation_is_not_finite(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    broken = load_task("countdown_task:NAN_FITNESS")
    whole = sb3.evaluate

    def evaluated(task: Task, *args: Any, **kwargs: Any) -> Evaluation:
        return whole(broken, *args, **kwargs)

    monkeypatch.setattr(sb3, "evaluate", evaluated)
    outcome = train(job("countdown_task:TASK"))
    assert isinstance(outcome, Failure)
    assert outcome.kind == "non_finite"
    assert "fitness of evaluation episode 0 is nan" in outcome.reason


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        OSError(errno.EDQUOT, "Disk quota exceeded"),
        MemoryError("cannot hold that"),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"),
    ],
)
@pytest.mark.parametrize("place", ["evaluate", "save_policy", "save_episodes"])
def test_what_the_machine_cannot_do_is_raised_and_not_the_candidate_s_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, place: str
) -> None:
    def fails(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(sb3, place, fails)
    with pytest.raises(OSError, match="run the same command again"):
        train(job(steps=256), folder=tmp_path)


def test_weights_on_a_disk_that_is_full_leave_no_half_file(tmp_path: Path) -> None:
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, limit[1]))
    try:
        with pytest.raises(OSError, match="ulimit -f") as caught:
            train(job(steps=256), folder=tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    assert caught.value.filename.endswith(".safetensors")
    assert list(tmp_path.iterdir()) == []


def test_a_rate_that_falls_to_zero_falls_no_further_in_the_last_rollout(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # CartPole's recipe takes 256 steps at least, and its rate falls linearly.
    shares: list[float] = []
    monkeypatch.setattr(
        sb3, "_schedule", lambda start, linear: lambda left: shares.append(left) or 1e-3
    )
    result = done(train(job(steps=100)))
    assert result.steps == 256
    assert min(shares) == 0.0


def test_a_text_that_is_no_program_fails_with_its_line() -> None:
    outcome = train(job(reward="def reward(prev, action, now, params):\n    return ("))
    assert isinstance(outcome, Failure)
    assert outcome.kind == "syntax"
    assert outcome.line == 2


def test_an_unknown_task_fails_the_candidate() -> None:
    outcome = train(job("guerdon/CartPool-v1"))
    assert isinstance(outcome, Failure)
    assert "guerdon/CartPole-v1" in outcome.reason


def test_progress_is_told_and_a_stop_is_heeded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(curve, "PROGRESS_SECONDS", 0.0)
    told: list[float] = []
    result = done(
        train(job(), progress=told.append, should_stop=lambda: len(told) == 10)
    )
    assert told == [8 * n / 512 for n in range(1, 11)]
    assert result.steps == 80


def test_a_worker_s_job_is_json_on_both_sides(tmp_path: Path) -> None:
    asked = job(steps=256)
    answer = run_job(asked.to_json().encode(), tmp_path, lambda share: None)
    outcome = done(outcome_from_json(answer))
    assert outcome.fitness == done(train(asked)).fitness


def constant_program(reward: float, terms: list[float]) -> RewardProgram:
    designed = Designed(np.array([0.0, reward]), np.array([[0.0, 0.0], terms]))
    return RewardProgram(
        ("near", "far"), lambda spec: None, lambda state, batch: (designed, state)
    )


@pytest.mark.parametrize(
    ("reward", "terms", "told"),
    [
        (np.nan, [1.0, np.nan], "reward term 'far' is nan"),
        (np.inf, [np.inf, 1.0], "reward term 'near' is inf"),
        (np.nan, [1.0, 1.0], "after its transforms is nan"),
    ],
)
def test_a_reward_that_is_not_finite_names_the_term(
    reward: float, terms: list[float], told: str
) -> None:
    program = finite_program(constant_program(reward, terms))
    with pytest.raises(NonFinite, match=told):
        program.apply(None, None)  # type: ignore[arg-type]


def test_a_finite_reward_passes_untouched() -> None:
    program = constant_program(1.0, [1.0, 0.0])
    assert finite_program(program).apply(7, None) == program.apply(7, None)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("task", "kind"),
    [(CARTPOLE, TaskVecEnv), (DOORKEY, EngineVecEnv), (DOORKEY, TaskVecEnv)],
)
def test_the_vector_environment_does_what_sb3_s_does(task: Task, kind: type) -> None:
    recipe = replace(recipe_for(task), n_envs=3)
    ours = kind(task, recipe)
    chosen = make_vec_env(task, recipe)
    assert type(chosen) is (TaskVecEnv if task is CARTPOLE else EngineVecEnv)
    assert chosen.env_is_wrapped(DummyVecEnv) == [False] * 3
    chosen.close()
    theirs = DummyVecEnv([lambda: make_env(task) for _ in range(3)])
    ours.seed(4)
    theirs.seed(4)
    np.testing.assert_array_equal(ours.reset(), theirs.reset())
    rng = np.random.default_rng(0)
    ended = 0
    for _ in range(300):
        actions = rng.integers(task.action.size, size=3)
        mine, other = ours.step(actions), theirs.step(actions)
        for a, b in zip(mine[:3], other[:3], strict=True):
            np.testing.assert_array_equal(a, b)
        ended += mine[2].sum()
        for a, b in zip(mine[3], other[3], strict=True):
            assert set(a) == set(b)
            for key in a:
                np.testing.assert_array_equal(a[key], b[key])
                assert type(a[key]) is type(b[key])
        for a, b in zip(ours.reset_infos, theirs.reset_infos, strict=True):
            np.testing.assert_array_equal(a["features"], b["features"])
    assert ended > 2
    np.testing.assert_array_equal(ours.reset(), theirs.reset())
    ours.close()
    theirs.close()


def test_a_training_leaves_nothing_in_the_temporary_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    done(train(job(steps=256)))
    assert list(tmp_path.iterdir()) == []

"""The SB3 adapter against the same hand-made trace, and inside SB3's own loop."""

from __future__ import annotations

import numpy as np
import pytest
from stable_baselines3 import PPO
from stable_baselines3.common.vec_env import DummyVecEnv, VecMonitor

from guerdon.reward_design.adapters.sb3 import RewardVecEnv
from guerdon.reward_design.borders import first, starts
from guerdon.reward_design.program import (
    Terms,
    environment_reward,
    merge,
    program,
    terms_from,
)
from guerdon.reward_design.shaping import potential
from tests.reward_design.toy import ToyEnv, toy_task

TASK = toy_task()


def moved():
    return terms_from(lambda batch: {"moved": batch.now.x - batch.prev.x}, "moved")


def dummy(lanes=2):
    return DummyVecEnv([lambda lane=i: TASK.make(lane=lane) for i in range(lanes)])


def opening():
    def apply(state, batch):
        found, state = starts(state, batch)
        return np.asarray(found, float)[..., None], state

    return Terms(("opening",), lambda spec: first(spec.lead), apply)


def test_the_trace_of_two_environments_is_that_of_the_hand():
    venv = RewardVecEnv(dummy(), program(merge(moved(), opening())))
    venv.reset()
    paid, dones, ends = [], [], []
    for _ in range(6):
        _, reward, done, infos = venv.step(np.array([0, 2]))
        paid.append(reward.tolist())
        dones.append(done.tolist()[0])
        ends.append([info.get("episode_reward") for info in infos])
    assert [row[0] for row in paid] == [2, 1, 1, 2, 1, 2]
    assert [row[1] for row in paid] == [4, 3, 3, 4, 3, 4]
    assert dones == [False, False, True, False, True, False]
    nothing = [None, None]
    assert ends == [nothing, nothing, [4, 10], nothing, [3, 7], nothing]


def test_the_last_info_has_sums_by_term_and_every_info_the_own_reward():
    venv = RewardVecEnv(dummy(1), program(merge(environment_reward(), moved())))
    venv.reset()
    own = []
    for action in (0, 1, 2):
        infos = venv.step(np.array([action]))[3]
        own.append(infos[0]["reward_env"])
    assert own == [0.5, 1.5, 3.0]
    assert infos[0]["episode_terms"] == {"task": 5.0, "moved": 6.0}
    assert infos[0]["fitness"] == 5.0


def test_ends_are_told_apart_by_the_time_limit_flag():
    flags = []

    def look(batch):
        flags.append((batch.terminated.tolist(), batch.truncated.tolist()))
        return {"none": 0.0}

    venv = RewardVecEnv(dummy(1), program(terms_from(look, "none")))
    venv.reset()
    for _ in range(5):
        venv.step(np.array([0]))
    assert flags[2] == ([True], [False])
    assert flags[4] == ([False], [True])
    assert flags[0] == flags[1] == flags[3] == ([False], [False])


def test_a_potential_is_kept_at_a_truncation_and_dropped_at_an_end():
    design = program(environment_reward(), potential(lambda f: f.x))
    venv = RewardVecEnv(dummy(1), design, discount=0.5)
    venv.reset()
    paid = [venv.step(np.array([0]))[1][0] for _ in range(5)]
    # x: 0 1 2 3 | 10 11 12
    assert paid == [
        0.5 + 0.5 * 1 - 0,
        1.0 + 0.5 * 2 - 1,
        1.5 + 0 - 2,
        5.5 + 0.5 * 11 - 10,
        6.0 + 0.5 * 12 - 11,
    ]


def test_observations_in_the_batch_are_those_of_the_true_successor():
    seen = []

    def look(batch):
        seen.append((batch.obs[:, 0].tolist(), batch.next_obs[:, 0].tolist()))
        return {"none": 0.0}

    venv = RewardVecEnv(dummy(), program(terms_from(look, "none")))
    venv.reset()
    for _ in range(4):
        venv.step(np.array([0, 0]))
    assert seen[2:] == [([2, 102], [3, 103]), ([10, 110], [11, 111])]


def test_memory_and_sums_start_again_at_a_reset_in_the_middle_of_an_episode():
    venv = RewardVecEnv(dummy(1), program(merge(opening(), moved())))
    venv.reset()
    venv.step(np.array([1]))
    venv.reset()  # episode 1: truncated at its second step
    first_reward = venv.step(np.array([0]))[1]
    infos = venv.step(np.array([0]))[3]
    assert first_reward.tolist() == [2.0]
    assert infos[0]["episode_terms"] == {"opening": 1.0, "moved": 2.0}


def test_a_wrapper_in_between_does_not_hide_the_first_features():
    venv = RewardVecEnv(VecMonitor(dummy(1)), program(moved()))
    venv.reset()
    paid = [venv.step(np.array([0]))[1][0] for _ in range(5)]
    assert paid == [1.0] * 5
    assert venv.reset_infos[0]["features"][0] == 20.0


def test_rewards_that_go_out_are_not_written_to_again():
    venv = RewardVecEnv(dummy(), program(moved()))
    venv.reset()
    first_reward = venv.step(np.array([0, 1]))[1]
    first_reward[:] = 99  # SB3 adds its bootstrap in place
    second = venv.step(np.array([0, 1]))[1]
    assert second.tolist() == [1.0, 2.0]
    assert first_reward.tolist() == [99.0, 99.0]


def test_ppo_learns_on_it_and_its_monitor_sees_the_designed_return():
    venv = VecMonitor(RewardVecEnv(dummy(), program(moved())))
    model = PPO("MlpPolicy", venv, n_steps=8, batch_size=8, n_epochs=1, seed=0)
    model.learn(32)
    returns = [episode["r"] for episode in model.ep_info_buffer]
    assert returns
    assert all(2 <= value <= 9 for value in returns)


def test_environments_without_a_task_are_refused():
    with pytest.raises(ValueError, match="expected environments of a task"):
        RewardVecEnv(DummyVecEnv([ToyEnv]), program(moved()))
    given = RewardVecEnv(DummyVecEnv([ToyEnv]), program(moved()), task=TASK)
    with pytest.raises(ValueError, match="expected 'features' in the info"):
        given.reset()


def test_what_is_not_a_program_is_refused():
    with pytest.raises(TypeError, match="expected a RewardProgram"):
        RewardVecEnv(dummy(), moved())


def test_what_is_no_vec_env_is_refused() -> None:
    with pytest.raises(TypeError, match="venv: expected a VecEnv"):
        RewardVecEnv(ToyEnv(), program(moved()))  # type: ignore[arg-type]

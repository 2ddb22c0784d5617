"""Both Gymnasium adapters against a trace worked out by hand."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv

from guerdon.reward_design.adapters.gym import RewardWrapper, VectorRewardWrapper
from guerdon.reward_design.borders import first, starts
from guerdon.reward_design.language import terms
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


def makers(lanes=2, task=TASK):
    return [lambda lane=lane: task.make(lane=lane) for lane in range(lanes)]


def vector(design, mode, lanes=2):
    inner = SyncVectorEnv(makers(lanes), autoreset_mode=mode)
    return VectorRewardWrapper(inner, design)


def opening():
    """1 in the first real step of an episode: what a register is built on."""

    def apply(state, batch):
        found, state = starts(state, batch)
        return np.asarray(found, float)[..., None], state

    return Terms(("opening",), lambda spec: first(spec.lead), apply)


@pytest.mark.parametrize("action", [99, -1, 0.5])
def test_an_action_that_the_task_does_not_have_is_refused_and_named(action):
    text = "def reward(prev, action, now, params):\n    return {'a': now.x * action}\n"
    expected = r"whole numbers from 0 to 2 \(3 discrete actions\), got"
    for backend in ("numpy", "numba"):
        design = program(terms(text, TASK.layout, TASK.action, backend=backend))
        env = RewardWrapper(TASK.make(), design)
        env.reset()
        with pytest.raises(ValueError, match=expected):
            env.step(action)
        envs = vector(design, AutoresetMode.SAME_STEP)
        envs.reset()
        envs.action_space = None  # it would only be asked for samples
        with pytest.raises(ValueError, match=rf"{expected} .* at \(1,\)"):
            envs.step(np.array([0, action]))


def test_a_single_environment_pays_the_program_and_keeps_its_own_reward():
    env = RewardWrapper(TASK.make(), program(merge(environment_reward(), moved())))
    _, info = env.reset()
    assert "reward_env" not in info
    steps = [env.step(action) for action in (0, 1, 2)]
    # x: 0 -> 1 -> 3 -> 6, and the environment pays half of it.
    assert [step[1] for step in steps] == [0.5 + 1, 1.5 + 2, 3.0 + 3]
    assert [step[4]["reward_env"] for step in steps] == [0.5, 1.5, 3.0]
    assert [step[2] for step in steps] == [False, False, True]
    assert "episode_terms" not in steps[1][4]
    assert steps[2][4]["episode_terms"] == {"task": 5.0, "moved": 6.0}
    assert steps[2][4]["episode_reward"] == 11.0
    assert steps[2][4]["fitness"] == 5.0


def test_sums_start_again_after_a_reset_even_in_the_middle_of_an_episode():
    env = RewardWrapper(TASK.make(), program(moved()))
    env.reset()
    env.step(2)
    env.reset()  # episode 1 starts at 10 and is truncated at its second step
    env.step(0)
    _, reward, terminated, truncated, info = env.step(1)
    assert (reward, terminated, truncated) == (2.0, False, True)
    assert info["episode_terms"] == {"moved": 3.0}


def test_memory_starts_again_after_a_reset_in_the_middle_of_an_episode():
    env = RewardWrapper(TASK.make(), program(opening()))
    env.reset()
    assert [env.step(0)[1], env.step(0)[1]] == [1.0, 0.0]
    env.reset()
    assert [env.step(0)[1], env.step(0)[1]] == [1.0, 0.0]
    env.reset()
    assert env.step(0)[1] == 1.0


def test_memory_starts_again_only_where_a_vector_was_reset():
    env = vector(program(opening()), AutoresetMode.NEXT_STEP)
    env.reset()
    assert env.step(np.array([0, 0]))[1].tolist() == [1.0, 1.0]
    env.reset(options={"reset_mask": np.array([True, False])})
    assert env.step(np.array([0, 0]))[1].tolist() == [1.0, 0.0]


def test_the_difference_of_a_potential_uses_the_discount_of_the_wrapper():
    design = program(environment_reward(), potential(lambda f: f.x))
    env = RewardWrapper(TASK.make(), design, discount=0.5)
    env.reset()
    assert env.step(0)[1] == 0.5 + 0.5 * 1 - 0
    assert env.step(1)[1] == 1.5 + 0.5 * 3 - 1
    assert env.step(2)[1] == 3.0 + 0 - 3  # a terminal state has no potential


def test_next_step_autoreset_does_not_pay_the_step_that_resets():
    env = vector(program(merge(moved(), opening())), AutoresetMode.NEXT_STEP)
    env.reset()
    paid, own, sums = [], [], []
    for _ in range(7):
        _, reward, _, _, infos = env.step(np.array([0, 2]))
        paid.append(reward.tolist())
        own.append(infos["_reward_env"].tolist())
        if "episode_terms" in infos:
            sums.append((infos["_episode_terms"], infos["episode_terms"]["moved"]))
    # Episode 0 has three steps, then one that resets; episode 1 has two.
    assert [row[0] for row in paid] == [2, 1, 1, 0, 2, 1, 0]
    assert [row[1] for row in paid] == [4, 3, 3, 0, 4, 3, 0]
    assert [row[0] for row in own] == [True, True, True, False, True, True, False]
    assert [(m.tolist(), s.tolist()) for m, s in sums] == [
        ([True, True], [3.0, 9.0]),
        ([True, True], [2.0, 6.0]),
    ]


def test_same_step_autoreset_pays_the_true_successor():
    design = program(merge(moved(), opening()))
    env = vector(design, AutoresetMode.SAME_STEP)
    env.reset()
    paid, totals = [], []
    for _ in range(6):
        _, reward, _, _, infos = env.step(np.array([0, 2]))
        paid.append(reward.tolist())
        totals.append(infos.get("episode_reward", np.zeros(2)).tolist())
    # A successor taken from the reset would be off by the jump between episodes.
    assert [row[0] for row in paid] == [2, 1, 1, 2, 1, 2]
    assert [row[1] for row in paid] == [4, 3, 3, 4, 3, 4]
    assert totals == [[0, 0], [0, 0], [4, 10], [0, 0], [3, 7], [0, 0]]


def test_the_batch_holds_the_last_observation_and_not_the_first_of_the_next_episode():
    seen = []

    def look(batch):
        seen.append((batch.obs.copy(), batch.next_obs.copy()))
        return {"none": 0.0}

    env = vector(program(terms_from(look, "none")), AutoresetMode.SAME_STEP)
    env.reset()
    for _ in range(4):
        env.step(np.array([0, 0]))
    before = [obs[:, 0].tolist() for obs, _ in seen]
    after = [obs[:, 0].tolist() for _, obs in seen]
    assert before == [[0, 100], [1, 101], [2, 102], [10, 110]]
    assert after == [[1, 101], [2, 102], [3, 103], [11, 111]]


def test_workers_in_other_processes_are_followed_too():
    inner = AsyncVectorEnv(makers(), context="forkserver")
    env = VectorRewardWrapper(inner, program(moved()))
    env.reset()
    paid = [env.step(np.array([0, 2]))[1].tolist() for _ in range(5)]
    env.close()
    assert paid == [[1, 3], [1, 3], [1, 3], [0, 0], [1, 3]]


def test_rewards_that_go_out_are_not_written_to_again():
    env = vector(program(moved()), AutoresetMode.SAME_STEP)
    env.reset()
    first_reward = env.step(np.array([0, 1]))[1]
    kept = first_reward.copy()
    env.step(np.array([2, 2]))
    assert np.array_equal(first_reward, kept)
    first_reward[:] = 99
    assert env.step(np.array([0, 0]))[1].tolist() == [1.0, 1.0]


def test_an_environment_without_a_task_is_refused():
    with pytest.raises(ValueError, match="or make a task of it"):
        RewardWrapper(ToyEnv(), program(moved()))
    with pytest.raises(ValueError, match="pass task="):
        VectorRewardWrapper(SyncVectorEnv([ToyEnv]), program(moved()))


def test_a_vector_that_does_not_reset_itself_is_refused():
    with pytest.raises(ValueError, match="NEXT_STEP or SAME_STEP, got"):
        vector(program(moved()), AutoresetMode.DISABLED)


def test_what_is_not_a_program_is_refused():
    with pytest.raises(TypeError, match="expected a RewardProgram"):
        RewardWrapper(TASK.make(), moved())
    with pytest.raises(ValueError, match=r"discount in \[0, 1\], got 2"):
        RewardWrapper(TASK.make(), program(moved()), discount=2)


def test_a_step_before_the_first_reset_is_refused():
    class Careless(gym.Wrapper):
        def step(self, action):
            return np.zeros(1), 0.0, False, False, {"features": np.zeros(4)}

    env = RewardWrapper(Careless(TASK.make()), program(moved()))
    with pytest.raises(RuntimeError, match="call reset"):
        env.step(0)


def test_dictionary_observations_reach_the_program_with_a_leading_axis():
    shapes = []

    class InADictionary(gym.ObservationWrapper):
        def __init__(self, env):
            super().__init__(env)
            self.observation_space = gym.spaces.Dict({"x": env.observation_space})

        def observation(self, observation):
            return {"x": observation}

    def look(batch):
        shapes.append((batch.obs["x"].shape, batch.next_obs["x"].tolist()))
        return {"none": 0.0}

    design = program(terms_from(look, "none"))
    single = RewardWrapper(InADictionary(TASK.make()), design)
    single.reset()
    single.step(0)
    assert shapes == [((1, 1), [[1.0]])]
    shapes.clear()
    inner = SyncVectorEnv(
        [lambda: InADictionary(TASK.make())] * 2,
        autoreset_mode=AutoresetMode.SAME_STEP,
        copy=False,
    )
    many = VectorRewardWrapper(inner, design)
    many.reset()
    for _ in range(3):
        many.step(np.array([0, 0]))
    assert shapes[-1] == ((2, 1), [[3.0], [3.0]])

"""Programs in copies and in other processes: the same bits as where they came from."""

from __future__ import annotations

import copy
import pickle

import gymnasium as gym
import numpy as np
import pytest
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv

from guerdon.envs import load_task
from guerdon.reward_design.adapters.gym import RewardWrapper
from guerdon.reward_design.adapters.sb3 import RewardVecEnv
from guerdon.reward_design.language import terms
from guerdon.reward_design.program import (
    Terms,
    Transform,
    alone,
    environment_reward,
    program,
    terms_from,
)
from guerdon.reward_design.reference import reward_for
from guerdon.reward_design.shaping import (
    chain,
    clip,
    named,
    potential,
    running_norm,
    scalarize,
    scale,
    schedule,
)
from tests.reward_design.traces import random_actions, record, spec_of

CARTPOLE = load_task("guerdon/CartPole-v1")
TEXT = """
def reward(prev, action, now, params):
    return {
        "upright": 1.0 - square(now.pole_angle),
        "nearer": previous_best(-abs(now.cart_position)) + 0.5 * action,
    }
"""


def upright(features):
    return -abs(features.pole_angle)


def same_bits(first, second, task=CARTPOLE):
    batch = record(task, [task.make] * 3, random_actions(task, 40, 3))
    states = [design.init(spec_of(task, (3,))) for design in (first, second)]
    for _ in range(2):
        found = []
        for place, design in enumerate((first, second)):
            designed, states[place] = design.apply(states[place], batch)
            found.append(designed)
        assert found[0].reward.tobytes() == found[1].reward.tobytes()
        assert found[0].terms.tobytes() == found[1].terms.tobytes()


def whole():
    parts = chain(
        potential(upright),
        scale(0.5),
        running_norm(clip=5.0),
        schedule((1.0, 0.0, 10)),
        clip(-1.0, 1.0),
    )
    own = terms(TEXT, CARTPOLE.layout, CARTPOLE.action)
    return program(
        [environment_reward(), own], chain(named(tame=clip(-9.0, 9.0)), parts)
    )


@pytest.mark.parametrize(
    "design",
    [
        whole(),
        reward_for(CARTPOLE, TEXT),
        reward_for(CARTPOLE, "sparse"),
        alone(scale(3.0)),
        program(terms(TEXT, CARTPOLE.layout, CARTPOLE.action), scalarize([1.0, 2.0])),
    ],
    ids=["whole", "text", "sparse", "alone", "scalarize"],
)
@pytest.mark.parametrize(
    "copied", [copy.copy, copy.deepcopy, lambda d: pickle.loads(pickle.dumps(d))]
)
def test_a_copied_program_pays_the_same_bits(design, copied):
    again = copied(design)
    assert (again.names, again.source, again.tags) == (
        design.names,
        design.source,
        design.tags,
    )
    same_bits(design, again)


def test_what_was_changed_by_hand_is_not_copied_as_if_it_were_not():
    design = alone(scale(3.0))
    other = design._replace(apply=lambda state, batch: design.apply(state, batch))
    with pytest.raises((pickle.PicklingError, AttributeError), match="local object"):
        pickle.dumps(other)
    assert copy.deepcopy(other).apply is other.apply


def test_a_record_put_together_by_hand_of_functions_of_a_module_is_copied():
    mine = Terms(("height",), _nothing, _height)
    same_bits(program(mine), pickle.loads(pickle.dumps(program(mine))))
    same = Transform(_nothing, _unchanged, frozenset({"monotone"}))
    assert pickle.loads(pickle.dumps(same)) == same


def _nothing(spec):
    return None


def _height(state, batch):
    return batch.now.pole_angle[..., None], state


def _unchanged(state, batch, r):
    return r, state


def test_a_lambda_is_named_when_it_cannot_be_sent():
    design = program(terms_from(lambda batch: {"a": batch.reward}, "a"))
    with pytest.raises((pickle.PicklingError, AttributeError), match="lambda"):
        pickle.dumps(design)


def test_the_call_that_made_a_part_can_be_read():
    assert repr(clip(-1.0, high=1.0).made) == "clip(-1.0, high=1.0)"


def episode(env, seed=None):
    rng = np.random.default_rng(5)
    paid, done = [], False
    if seed is not None:
        env.reset(seed=seed)
    while not done:
        _, reward, terminated, truncated, _ = env.step(int(rng.integers(2)))
        paid.append(reward)
        done = terminated or truncated
    return paid


def test_a_wrapper_copied_in_the_middle_of_an_episode_goes_on_alike():
    env = RewardWrapper(CARTPOLE.make(), reward_for(CARTPOLE, TEXT))
    env.reset(seed=1)
    env.step(0)
    other = copy.deepcopy(env)
    assert episode(other) == episode(env)


def test_environments_of_sb3_copied_in_the_middle_go_on_alike():
    design = reward_for(CARTPOLE, TEXT)
    venv = RewardVecEnv(DummyVecEnv([CARTPOLE.make]), design)
    venv.seed(2)
    venv.reset()
    venv.step(np.array([1]))
    other = copy.deepcopy(venv)
    for action in np.random.default_rng(0).integers(0, 2, (30, 1)):
        assert venv.step(action)[1].tolist() == other.step(action)[1].tolist()


def test_a_wrapper_sent_to_other_processes_pays_there_what_it_pays_here():
    def make():
        return RewardWrapper(CARTPOLE.make(), reward_for(CARTPOLE, TEXT))

    here = gym.vector.SyncVectorEnv([make, make])
    there = gym.vector.AsyncVectorEnv([make, make])
    try:
        here.reset(seed=3)
        there.reset(seed=3)
        for action in np.random.default_rng(0).integers(0, 2, (30, 2)):
            assert here.step(action)[1].tolist() == there.step(action)[1].tolist()
    finally:
        there.close()


def test_a_program_made_here_works_in_the_workers_of_sb3():
    design = reward_for(CARTPOLE, TEXT)

    def make():
        return RewardWrapper(CARTPOLE.make(), design)

    workers = SubprocVecEnv([make, make], start_method="forkserver")
    paid = RewardVecEnv(
        SubprocVecEnv([CARTPOLE.make, CARTPOLE.make], start_method="forkserver"),
        design,
        task=CARTPOLE,
    )
    try:
        for venv in (workers, paid):
            venv.seed(3)
            venv.reset()
        for action in np.random.default_rng(0).integers(0, 2, (30, 2)):
            assert workers.step(action)[1].tolist() == paid.step(action)[1].tolist()
    finally:
        workers.close()
        paid.close()

"""One recorded trace, paid through every consumer of a reward program.

``record`` plays fixed actions in ``N`` single environments with a hand-rolled loop:
the oracle. The ``pay_*`` functions play the same actions through an adapter and give
``(T, N)`` float32 rewards of the real steps. They work for any task whose episodes
are decided by seeds and actions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from guerdon.envs.task import Task
from guerdon.reward_design.adapters.gym import RewardWrapper, VectorRewardWrapper
from guerdon.reward_design.program import RewardProgram
from guerdon.types import Batch, Features, Spec

Makers = Sequence[Callable[[], gym.Env[Any, Any]]]
DISCOUNT = 0.99


def spec_of(task: Task, lead: tuple[int, ...]) -> Spec:
    return Spec(task.layout, task.action, lead, DISCOUNT, task.horizon)


def random_actions(task: Task, steps: int, lanes: int, seed: int = 0) -> np.ndarray:
    """``(T, N)`` or ``(T, N, A)``, valid for the task."""
    rng = np.random.default_rng(seed)
    if task.action.kind == "discrete":
        return rng.integers(0, task.action.size, (steps, lanes))
    low, high = np.array(task.action.low), np.array(task.action.high)
    drawn = rng.uniform(low, high, (steps, lanes, task.action.size))
    return drawn.astype(np.float32)


def record(task: Task, makers: Makers, actions: np.ndarray, seed: int = 0) -> Batch:
    """The block ``(T, N)`` that the environments themselves give."""
    lanes = [
        _record_one(make(), actions[:, lane], seed + lane)
        for lane, make in enumerate(makers)
    ]
    columns = [np.stack(values, axis=1) for values in zip(*lanes, strict=True)]
    prev, now, reward, terminated, truncated = columns
    return Batch(
        obs=None,
        action=actions,
        next_obs=None,
        prev=Features(task.layout, prev),
        now=Features(task.layout, now),
        reward=reward.astype(np.float32),
        terminated=terminated.astype(bool),
        truncated=truncated.astype(bool),
    )


def _record_one(
    env: gym.Env[Any, Any], actions: np.ndarray, seed: int
) -> tuple[np.ndarray, ...]:
    rows = []
    _, info = env.reset(seed=seed)
    before = info["features"].copy()
    for action in actions:
        _, reward, terminated, truncated, info = env.step(action)
        after = info["features"].copy()
        rows.append((before, after, reward, terminated, truncated))
        if terminated or truncated:
            _, info = env.reset()
            after = info["features"].copy()
        before = after
    env.close()
    return tuple(np.array(column) for column in zip(*rows, strict=True))


def pay_block(program: RewardProgram, task: Task, trace: Batch) -> np.ndarray:
    spec = spec_of(task, trace.reward.shape[1:])
    designed, _ = program.apply(program.init(spec), trace)
    return designed.reward


def at(trace: Batch, index: Any) -> Batch:
    """Rows of a trace."""
    return trace._replace(
        action=trace.action[index],
        prev=Features(trace.prev.layout, trace.prev.rows[index]),
        now=Features(trace.now.layout, trace.now.rows[index]),
        reward=trace.reward[index],
        terminated=trace.terminated[index],
        truncated=trace.truncated[index],
    )


def pay_steps(program: RewardProgram, task: Task, trace: Batch) -> np.ndarray:
    state = program.init(spec_of(task, trace.reward.shape[1:]))
    paid = []
    for time in range(len(trace.reward)):
        designed, state = program.apply(state, at(trace, time))
        paid.append(designed.reward)
    return np.stack(paid)


def pay_single(
    program: RewardProgram, makers: Makers, actions: np.ndarray, seed: int = 0
) -> np.ndarray:
    paid = np.zeros(actions.shape[:2], np.float32)
    for lane, make in enumerate(makers):
        env = RewardWrapper(make(), program, discount=DISCOUNT)
        env.reset(seed=seed + lane)
        for time, action in enumerate(actions[:, lane]):
            _, reward, terminated, truncated, _ = env.step(action)
            assert np.float32(reward) == reward
            paid[time, lane] = reward
            if terminated or truncated:
                env.reset()
        env.close()
    return paid


def pay_vector(
    program: RewardProgram,
    makers: Makers,
    actions: np.ndarray,
    mode: AutoresetMode,
    seed: int = 0,
) -> np.ndarray:
    """Lanes that only reset in a step do not consume an action of the trace."""
    env = VectorRewardWrapper(
        SyncVectorEnv(makers, autoreset_mode=mode), program, discount=DISCOUNT
    )
    steps, lanes = actions.shape[:2]
    env.reset(seed=seed)
    paid = np.full((steps, lanes), np.nan, np.float32)
    place = np.zeros(lanes, int)
    resetting = np.zeros(lanes, bool)
    while (place < steps).any():
        chosen = actions[np.minimum(place, steps - 1), np.arange(lanes)]
        _, reward, terminated, truncated, _ = env.step(chosen)
        assert reward.dtype == np.float32
        assert not reward[resetting].any()
        real = ~resetting & (place < steps)
        paid[place[real], np.flatnonzero(real)] = reward[real]
        place += real
        resetting = (terminated | truncated) & (mode == AutoresetMode.NEXT_STEP)
    env.close()
    return paid


def pay_sb3(
    program: RewardProgram, makers: Makers, actions: np.ndarray, seed: int = 0
) -> np.ndarray:
    from stable_baselines3.common.vec_env import DummyVecEnv

    from guerdon.reward_design.adapters.sb3 import RewardVecEnv

    venv = RewardVecEnv(DummyVecEnv(list(makers)), program, discount=DISCOUNT)
    venv.seed(seed)
    venv.reset()
    paid = []
    for action in actions:
        _, reward, _, _ = venv.step(action)
        assert reward.dtype == np.float32
        paid.append(reward)
    venv.close()
    return np.stack(paid)


def all_ways(
    program: RewardProgram,
    task: Task,
    makers: Makers,
    actions: np.ndarray,
    seed: int = 0,
) -> dict[str, np.ndarray]:
    """``(T, N)`` rewards by consumer. Single and vector are left out for a program
    whose environments are coupled, where they have nothing to agree on."""
    trace = record(task, makers, actions, seed)
    ways = {
        "block": pay_block(program, task, trace),
        "steps": pay_steps(program, task, trace),
        "sb3": pay_sb3(program, makers, actions, seed),
        "same step": pay_vector(
            program, makers, actions, AutoresetMode.SAME_STEP, seed
        ),
    }
    if "coupled" not in program.tags:
        ways["single"] = pay_single(program, makers, actions, seed)
        ways["next step"] = pay_vector(
            program, makers, actions, AutoresetMode.NEXT_STEP, seed
        )
    return ways

"""What a designed reward costs on Stable-Baselines3's CartPole with 8 environments.

Claim: ``RewardVecEnv`` with a ten-term program takes at most 10 % of the steps per
second of a PPO training (the zoo's CartPole recipe). The bare stepping loop, where
nothing learns and CartPole itself costs 7 microseconds a step, is measured too: there
the adapter's share is larger, and the row is published.

Both sides run the same task environments. Before the clock starts, the rewards of the
adapter are compared with those of the program on the recorded trace.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from stable_baselines3 import PPO
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv

from benchmarks.harness import alternated, keep
from guerdon.envs import load_task
from guerdon.reward_design.adapters.sb3 import RewardVecEnv
from guerdon.reward_design.language import terms
from guerdon.reward_design.program import RewardProgram, program

ENVIRONMENTS = 8
STEPS = 2048
TASK = load_task("guerdon/CartPole-v1")

TEXT = """PARAMS = {"a": 0.5, "b": 0.1}
def reward(prev, action, now, params):
    return {
        "alive": 1.0,
        "upright": params.a * exp(-abs(now.pole_angle) / params.b),
        "centre": -params.b * abs(now.cart_position),
        "still": -0.01 * square(now.cart_velocity),
        "steady": -0.01 * square(now.pole_angular_velocity),
        "inside": where(abs(now.cart_position) < 1.0, 0.1, 0.0),
        "gain": params.b * (abs(prev.pole_angle) - abs(now.pole_angle)),
        "drift": prev.cart_position - now.cart_position,
        "swing": tanh(now.pole_angle * now.pole_angular_velocity),
        "push": where(action > 0.5, 0.01, -0.01),
    }
"""


def designed(backend: Any) -> RewardProgram:
    """The ten-term program."""
    return program(terms(TEXT, TASK.layout, TASK.action, backend=backend))


def environments(wrap: Callable[[VecEnv], VecEnv] = lambda venv: venv) -> VecEnv:
    """Eight task environments, as SB3's own helper would make them."""
    return wrap(DummyVecEnv([lambda: Monitor(TASK.make())] * ENVIRONMENTS))


def stepping(venv: VecEnv) -> Callable[[], None]:
    """A loop of random steps."""
    actions = np.random.default_rng(0).integers(0, 2, (STEPS, ENVIRONMENTS))
    venv.seed(0)
    venv.reset()

    def run() -> None:
        for action in actions:
            venv.step(action)

    return run


def learning(venv: VecEnv) -> Callable[[], None]:
    """PPO with the zoo's CartPole numbers; a rate of 0 keeps both paths equal."""
    model = PPO(
        "MlpPolicy",
        venv,
        n_steps=32,
        batch_size=256,
        n_epochs=20,
        gae_lambda=0.8,
        gamma=0.98,
        learning_rate=0.0,
        ent_coef=0.0,
        seed=0,
        device="cpu",
    )

    def run() -> None:
        model.learn(STEPS * 4, reset_num_timesteps=False)

    return run


def check_equal(backend: str) -> None:
    """The adapter pays what the program says about the recorded trace."""
    one = designed(backend)
    venv = environments(lambda v: RewardVecEnv(v, one))
    venv.seed(3)
    venv.reset()
    before = np.stack([info["features"] for info in venv.reset_infos])
    from guerdon.types import Batch, Features, Spec

    state = one.init(Spec(TASK.layout, TASK.action, (ENVIRONMENTS,)))
    rng = np.random.default_rng(1)
    for _ in range(200):
        action = rng.integers(0, 2, ENVIRONMENTS)
        _, rewards, dones, infos = venv.step(action)
        after = np.stack([info["features"] for info in infos])
        batch = Batch(
            obs=None,
            action=action,
            next_obs=None,
            prev=Features(TASK.layout, before),
            now=Features(TASK.layout, after),
            reward=np.ones(ENVIRONMENTS),
            terminated=dones,
            truncated=np.zeros_like(dones),
        )
        expected, state = one.apply(state, batch)
        np.testing.assert_array_equal(rewards, expected.reward)
        first = [
            venv.reset_infos[i]["features"] if done else after[i]
            for i, done in enumerate(dones)
        ]
        before = np.stack(first)


def main() -> None:
    """Measure and keep."""
    torch.set_num_threads(1)
    rows: dict[str, Any] = {}
    for backend in ("numpy", "numba"):
        check_equal(backend)
        for name, measure in (("training", learning), ("bare stepping", stepping)):
            bare = measure(environments())
            one = designed(backend)
            paid = measure(environments(lambda v, one=one: RewardVecEnv(v, one)))
            found = alternated(bare, paid)
            found["share of steps per second"] = 1.0 - 1.0 / found["ratio"]
            rows[f"{name}, {backend}"] = found
    keep("sb3_adapter", "make bench", rows)


if __name__ == "__main__":
    main()

"""Stable-Baselines3 on Farama's MiniGrid, as somebody without Guerdon runs it.

No engine, no features, no reward program: MiniGrid's own environments and view, SB3's
vector env, normalisation and PPO. Given away to it: the observation's true bounds,
without which there is no one-hot reading, and our one-hot layer, which is faster than a
dense one; Gymnasium's checker is left out.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv, VecNormalize

from guerdon.agents.recipes import Recipe
from guerdon.agents.sb3 import make_model
from guerdon.envs.minigrid import make_minigrid


def minigrid_venv(level: str, recipe: Recipe) -> VecEnv:
    """Environments of a MiniGrid level, as SB3's own helper makes them.

    Args:
        level: MiniGrid's id.
        recipe: says how many, and whether rewards are normalised.
    """
    venv: VecEnv = DummyVecEnv([lambda: Monitor(make_minigrid(level))] * recipe.n_envs)
    if recipe.normalize_reward:
        venv = VecNormalize(venv, norm_obs=False, gamma=recipe.discount)
    return venv


def minigrid_model(level: str, recipe: Recipe, steps: int, seed: int) -> BaseAlgorithm:
    """SB3's PPO on a MiniGrid level, with a recipe's numbers.

    Args:
        level: MiniGrid's id.
        recipe: how to learn.
        steps: of the whole training.
        seed: of everything.
    """
    model = make_model(recipe, minigrid_venv(level, recipe), steps, seed)
    model.set_logger(Logger(None, []))
    return model


class BetweenRollouts(BaseCallback):
    """Asks between two rollouts whether to go on.

    Args:
        ask: told the model; False ends the training.
    """

    def __init__(self, ask: Callable[[BaseAlgorithm], bool]) -> None:
        super().__init__()
        self.ask = ask
        self.asking = 0.0
        """Seconds that asking took."""
        self._goes_on = True

    def _on_rollout_start(self) -> None:
        if self.num_timesteps:
            began = time.perf_counter()
            self._goes_on = self.ask(self.model)
            self.asking += time.perf_counter() - began

    def _on_step(self) -> bool:
        return self._goes_on

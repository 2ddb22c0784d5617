"""One candidate of an Eureka-style loop: a process that trains it and says its score.

    python -m benchmarks.eureka_candidate TASK STEPS SEED < reward.txt

SB3's PPO on Farama's own MiniGrid, the reward added step by step, everything imported
anew, as Eureka's loop does (Ma et al. 2023, arXiv:2310.12931: one training subprocess a
candidate). Its score is the mean true return of the last 100 episodes of the training,
so that it need not play any more of them. The hyper-parameters are those of our recipe.
"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import replace

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv

from guerdon.agents.recipes import MINIGRID
from guerdon.agents.sb3 import make_model, training_env
from guerdon.envs import Task, load_task
from guerdon.reward_design.reference import reward_for


def minigrid_task(name: str) -> Task:
    """The task on Farama's MiniGrid."""
    return replace(load_task(name), engine=None)


def environments(task: Task, count: int) -> VecEnv:
    """MiniGrid's environments with the features that a reward reads."""
    return DummyVecEnv([lambda: Monitor(task.make())] * count)


def main(name: str, steps: int, seed: int, source: str) -> float:
    """Train a candidate; its score."""
    torch.set_num_threads(1)
    task = minigrid_task(name)
    base = environments(task, MINIGRID.n_envs)
    venv = training_env(base, MINIGRID, reward_for(task, source))
    model = make_model(MINIGRID, venv, steps, seed)
    model.set_logger(Logger(None, []))
    model.learn(steps)
    returns = [info["r"] for info in model.ep_info_buffer or ()]
    return float(sum(returns) / max(1, len(returns)))


if __name__ == "__main__":
    score = main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.stdin.read())
    print(json.dumps({"fitness": score}))

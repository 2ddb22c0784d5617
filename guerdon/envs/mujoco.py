"""Tasks over Gymnasium's MuJoCo v5 environments.

Reference: Todorov, Erez and Tassa 2012, "MuJoCo: A physics engine for model-based
control"; Towers et al. 2024, "Gymnasium: A standard interface for reinforcement
learning environments".
"""

from __future__ import annotations

from guerdon.envs.mujoco_arms import TASKS as ARMS
from guerdon.envs.mujoco_runners import TASKS as RUNNERS

TASKS = (*ARMS, *RUNNERS)
"""Reacher, InvertedDoublePendulum, Hopper, HalfCheetah, Walker2d and Ant."""

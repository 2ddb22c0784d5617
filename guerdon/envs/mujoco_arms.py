"""MuJoCo tasks that reach and balance."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np

from guerdon.envs.mujoco_common import (
    control_cost,
    joint_features,
    make_mujoco,
    motors,
    torques,
)
from guerdon.envs.scores import full_length
from guerdon.envs.task import ReferenceReward, Task
from guerdon.types import Episode, Feature, Layout

# Reacher.

_REACH = 0.41  # arm of 0.21 m, target within 0.2 m of its root
_RADIUS = 0.05

_REACHER = Layout(
    [
        Feature(
            "fingertip_distance",
            "distance from the fingertip to the target",
            unit="m",
            low=0.0,
            high=_REACH,
            better="lower",
        ),
        Feature(
            "fingertip", "position of the fingertip", "number", (2,), "m", -0.22, 0.22
        ),
        Feature("target", "position of the target", "number", (2,), "m", -0.2, 0.2),
        *joint_features(("shoulder", "elbow")),
        torques(("shoulder", "elbow")),
        control_cost(),
    ]
)


def read_reacher(env: Any, obs: Any, info: Mapping[str, Any]) -> np.ndarray:
    """Feature row of Reacher, float32."""
    data = env.data
    qpos, qvel, ctrl = data.qpos.tolist(), data.qvel.tolist(), data.ctrl.tolist()
    tip = data.body("fingertip").xpos
    aim = data.body("target").xpos
    row = (
        float(np.linalg.norm(tip - aim)),
        tip[0],
        tip[1],
        aim[0],
        aim[1],
        *qpos[:2],
        *qvel[:2],
        *ctrl,
        env._reward_control_weight * sum(u * u for u in ctrl),
    )
    return np.array(row, dtype=np.float32)


def final_closeness(episode: Episode) -> float:
    """Minus the mean distance to the target over the last 10 steps, in metres."""
    columns = episode.layout.columns("fingertip_distance")
    return -float(episode.features[-10:, columns].mean())


def _reached(episode: Episode) -> bool:
    return final_closeness(episode) > -_RADIUS


_REACHER_SPARSE = f"""\
PARAMS = {{"radius": {_RADIUS}}}

def reward(prev, action, now, params):
    return {{"reached": where(now.fingertip_distance < params.radius, 1.0, 0.0)}}
"""

# InvertedDoublePendulum.

_DOUBLE = Layout(
    [
        Feature("cart_position", "position of the cart", unit="m"),
        Feature("cart_velocity", "velocity of the cart", unit="m/s"),
        Feature(
            "pole_angles",
            "of the lower pole from upright, of the upper from the lower one",
            shape=(2,),
            unit="rad",
        ),
        Feature(
            "pole_velocities", "their angular velocities", shape=(2,), unit="rad/s"
        ),
        Feature("tip_x", "sideways position of the upper pole's tip", unit="m"),
        Feature(
            "tip_height",
            "height of the upper pole's tip, 1.2 when upright",
            unit="m",
            low=-1.2001,
            high=1.2001,
            better="higher",
        ),
        Feature(
            "force", "last command to the cart, 1 is full strength", low=-1.0, high=1.0
        ),
        Feature(
            "upright",
            "the tip is higher than 1 m; the episode ends when this turns off",
            "flag",
            low=0.0,
            high=1.0,
            better="higher",
        ),
    ]
)


def read_double_pendulum(env: Any, obs: Any, info: Mapping[str, Any]) -> np.ndarray:
    """Feature row of InvertedDoublePendulum, float32."""
    data = env.data
    qpos, qvel = data.qpos.tolist(), data.qvel.tolist()
    tip_x, _, tip_z = data.site_xpos[0].tolist()
    row = (
        qpos[0],
        qvel[0],
        *qpos[1:],
        *qvel[1:],
        tip_x,
        tip_z,
        float(data.ctrl[0]),
        tip_z > 1.0,
    )
    return np.array(row, dtype=np.float32)


def steps_upright(episode: Episode) -> float:
    """Number of steps after which the tip was still up."""
    columns = episode.layout.columns("upright")
    return float(episode.features[1:, columns].sum())


_FALL = """\
def reward(prev, action, now, params):
    return {"fall": where(now.upright, 0.0, -1.0)}
"""

TASKS = (
    Task(
        id="guerdon/Reacher-v5",
        intent="Bring the fingertip of the arm to the target and hold it there.",
        make_base=partial(make_mujoco, "Reacher-v5"),
        layout=_REACHER,
        action=motors(("shoulder", "elbow")),
        read=read_reacher,
        fitness=final_closeness,
        success=_reached,
        rewards={
            "sparse": ReferenceReward(
                _REACHER_SPARSE,
                "1 a step within 0.05 m, the target of the easy reacher in the "
                "DeepMind Control Suite, Tassa et al. 2018",
            ),
            "human": ReferenceReward(
                None, "Gymnasium's own v5 reward: minus distance less control cost"
            ),
        },
        horizon=50,
        budget=1_000_000,
        family="mujoco",
        source="Gymnasium, Reacher-v5; budget of RL Zoo",
        extra="mujoco",
    ),
    Task(
        id="guerdon/InvertedDoublePendulum-v5",
        intent="Balance the upper of two linked poles by pushing the cart.",
        make_base=partial(make_mujoco, "InvertedDoublePendulum-v5"),
        layout=_DOUBLE,
        action=motors(("cart",)),
        read=read_double_pendulum,
        fitness=steps_upright,
        success=full_length,
        rewards={
            "sparse": ReferenceReward(
                _FALL, "-1 at failure as in Barto, Sutton and Anderson 1983"
            ),
            "human": ReferenceReward(
                None,
                "Gymnasium's own v5 reward: 10 a step upright less the distance and "
                "the velocities of the tip",
            ),
        },
        horizon=1000,
        budget=1_000_000,
        family="mujoco",
        source="Gymnasium, InvertedDoublePendulum-v5; budget of RL Zoo",
        extra="mujoco",
    ),
)
"""Reacher and InvertedDoublePendulum."""

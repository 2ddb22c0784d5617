"""MuJoCo tasks that run, hop or walk forward.

Their fitness is the distance they come forward, in metres, whatever reward they were
trained on. A runner succeeds at the distance that Gymnasium's registered
``reward_threshold`` amounts to when control costs nothing: its forward reward is
``dx / dt`` a step, so that is the threshold less the bonus for staying healthy (1 a
step), times ``dt``.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from guerdon.envs.mujoco_common import (
    control_cost,
    joint_features,
    make_mujoco,
    motors,
    torques,
)
from guerdon.envs.task import ReferenceReward, Task
from guerdon.types import Episode, Feature, Layout

_X = (
    Feature("x_position", "how far forward the torso is", unit="m", better="higher"),
    Feature(
        "x_velocity",
        "mean forward velocity over the last step, 0 after a reset",
        unit="m/s",
        better="higher",
    ),
)


def _healthy(meaning: str) -> Feature:
    return Feature("is_healthy", meaning, "flag", low=0.0, high=1.0, better="higher")


class Body(NamedTuple):
    """What differs between the runners that move in a vertical plane."""

    base: str
    joints: tuple[str, ...]
    goal: float
    """Distance of success in metres; the module says where it comes from."""
    sparse: float
    """Distance in metres from which the sparse reward is paid."""
    origin: str
    intent: str
    healthy: str | None
    """When the body counts as healthy; None where it always does."""
    lift: float = 0.0
    """Height of the torso where the vertical joint is at 0, in metres."""


def _planar_layout(body: Body) -> Layout:
    features = [
        *_X,
        Feature("height", "height of the torso", unit="m"),
        Feature("z_velocity", "velocity of the torso upwards", unit="m/s"),
        Feature("torso_angle", "pitch of the torso, 0 is upright", unit="rad"),
        Feature("torso_angular_velocity", "rate of the pitch", unit="rad/s"),
        *joint_features(body.joints),
        torques(body.joints),
        control_cost(),
    ]
    if body.healthy is not None:
        features.append(_healthy(body.healthy))
    return Layout(features)


def read_planar(
    lift: float, healthy: bool, env: Any, obs: Any, info: Mapping[str, Any]
) -> np.ndarray:
    """Feature row of a body that moves in a vertical plane, float32."""
    data = env.data
    qpos, qvel, ctrl = data.qpos.tolist(), data.qvel.tolist(), data.ctrl.tolist()
    row = [
        qpos[0],
        info.get("x_velocity", 0.0),
        qpos[1] + lift,
        qvel[1],
        qpos[2],
        qvel[2],
        *qpos[3:],
        *qvel[3:],
        *ctrl,
        env._ctrl_cost_weight * sum(u * u for u in ctrl),
    ]
    if healthy:
        row.append(env.is_healthy)
    return np.array(row, dtype=np.float32)


def forward_distance(episode: Episode) -> float:
    """How far the torso came forward in the episode, in metres."""
    x = episode.features[:, episode.layout.columns("x_position")]
    return float(x[-1, 0]) - float(x[0, 0])


def _came_far(goal: float, episode: Episode) -> bool:
    return forward_distance(episode) >= goal


def _beyond(distance: float, origin: str) -> ReferenceReward:
    text = (
        f'PARAMS = {{"distance": {distance}}}\n\n'
        "def reward(prev, action, now, params):\n"
        '    return {"far": where(now.x_position > params.distance, 1.0, 0.0)}\n'
    )
    return ReferenceReward(text, origin)


_VIME = "1 a step beyond 5 m, as SparseHalfCheetah in VIME, Houthooft et al. 2016"
_LIKE_VIME = (
    "1 a step beyond 1 m; the form of VIME's SparseHalfCheetah (Houthooft et al. "
    "2016), the distance that public sparse variants of this body use"
)
_OWN = ReferenceReward(
    None, "Gymnasium's own v5 reward: forward velocity less control cost"
)
_OWN_AND_HEALTH = ReferenceReward(
    None, "Gymnasium's own v5 reward: forward velocity and health less control cost"
)
_LEGS = ("thigh", "leg", "foot")

BODIES = (
    Body(
        base="Hopper-v5",
        joints=_LEGS,
        goal=(3800 - 1000) * 0.008,
        sparse=1.0,
        origin=_LIKE_VIME,
        intent="Hop forward on one leg as far as possible without falling.",
        healthy="height over 0.7 m and pitch within 0.2 rad; the episode ends when off",
    ),
    Body(
        base="HalfCheetah-v5",
        joints=(
            "back_thigh",
            "back_shin",
            "back_foot",
            "front_thigh",
            "front_shin",
            "front_foot",
        ),
        goal=4800 * 0.05,
        sparse=5.0,
        origin=_VIME,
        intent="Run forward as far as possible.",
        healthy=None,
        lift=0.7,
    ),
    Body(
        base="Walker2d-v5",
        joints=(*_LEGS, "left_thigh", "left_leg", "left_foot"),
        # Gymnasium registers no threshold for Walker2d; it is given Hopper's.
        goal=(3800 - 1000) * 0.008,
        sparse=1.0,
        origin=_LIKE_VIME,
        intent="Walk forward on two legs as far as possible without falling.",
        healthy="height 0.8 to 2 m and pitch within 1 rad; the episode ends when off",
    ),
)


def _planar_task(body: Body) -> Task:
    own = _OWN if body.healthy is None else _OWN_AND_HEALTH
    return Task(
        id=f"guerdon/{body.base}",
        intent=body.intent,
        make_base=partial(make_mujoco, body.base),
        layout=_planar_layout(body),
        action=motors(body.joints),
        read=partial(read_planar, body.lift, body.healthy is not None),
        fitness=forward_distance,
        success=partial(_came_far, body.goal),
        rewards={"sparse": _beyond(body.sparse, body.origin), "human": own},
        horizon=1000,
        budget=1_000_000,
        family="mujoco",
        source=f"Gymnasium, {body.base}; budget of RL Zoo",
        extra="mujoco",
    )


# Ant.

_ANT_JOINTS = tuple(
    f"{part}_{leg}" for leg in (1, 2, 3, 4) for part in ("hip", "ankle")
)
_ANT_MOTORS = tuple(
    f"{part}_{leg}" for leg in (4, 1, 2, 3) for part in ("hip", "ankle")
)

_ANT = Layout(
    [
        *_X,
        Feature("y_position", "how far to the left the torso is", unit="m"),
        Feature("y_velocity", "mean velocity to the left, 0 after reset", unit="m/s"),
        Feature("height", "height of the torso", unit="m"),
        Feature("z_velocity", "velocity of the torso upwards", unit="m/s"),
        Feature(
            "uprightness",
            "1 upright, 0 lying on a side, -1 upside down",
            low=-1.0,
            high=1.0,
            better="higher",
        ),
        Feature(
            "angular_velocity", "of the torso, about its axes", shape=(3,), unit="rad/s"
        ),
        *joint_features(_ANT_JOINTS),
        torques(_ANT_MOTORS),
        control_cost(),
        Feature(
            "contact_cost",
            "the environment's own cost of hard contacts",
            low=0.0,
            better="lower",
        ),
        _healthy("height 0.2 to 1 m; the episode ends when this turns off"),
    ]
)


def read_ant(env: Any, obs: Any, info: Mapping[str, Any]) -> np.ndarray:
    """Feature row of Ant, float32.

    The root joint is free: ``qpos`` holds position and unit quaternion
    ``(w, x, y, z)``, whose rotation lifts the torso's own z axis to
    ``1 - 2 (x^2 + y^2)``.
    """
    data = env.data
    qpos, qvel, ctrl = data.qpos.tolist(), data.qvel.tolist(), data.ctrl.tolist()
    tilt = 2.0 * (qpos[4] * qpos[4] + qpos[5] * qpos[5])
    row = (
        qpos[0],
        info.get("x_velocity", 0.0),
        qpos[1],
        info.get("y_velocity", 0.0),
        qpos[2],
        qvel[2],
        max(-1.0, min(1.0, 1.0 - tilt)),
        *qvel[3:6],
        *qpos[7:],
        *qvel[6:],
        *ctrl,
        env._ctrl_cost_weight * sum(u * u for u in ctrl),
        env.contact_cost,
        env.is_healthy,
    )
    return np.array(row, dtype=np.float32)


_ANT_TASK = Task(
    id="guerdon/Ant-v5",
    intent="Walk forward on four legs as far as possible without tipping over.",
    make_base=partial(make_mujoco, "Ant-v5"),
    layout=_ANT,
    action=motors(_ANT_MOTORS),
    read=read_ant,
    fitness=forward_distance,
    success=partial(_came_far, (6000 - 1000) * 0.05),
    rewards={
        "sparse": _beyond(1.0, _LIKE_VIME),
        "human": ReferenceReward(
            None,
            "Gymnasium's own v5 reward: forward velocity and health less the costs of "
            "control and contacts",
        ),
    },
    horizon=1000,
    budget=1_000_000,
    family="mujoco",
    source="Gymnasium, Ant-v5; budget of RL Zoo",
    extra="mujoco",
)

TASKS = (*(_planar_task(body) for body in BODIES), _ANT_TASK)
"""Hopper, HalfCheetah, Walker2d and Ant."""

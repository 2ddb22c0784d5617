"""Tasks over Gymnasium's classic control: CartPole, MountainCar and Pendulum."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import partial
from typing import Any

import gymnasium as gym
import numpy as np

from guerdon.envs.scores import episode_length, episode_return, full_length
from guerdon.envs.task import ReferenceReward, Task
from guerdon.types import ActionSpec, Episode, Feature, Layout


def make_base(base: str, **kwargs: Any) -> gym.Env[Any, Any]:
    """One of Gymnasium's own environments, without its passive checker."""
    return gym.make(base, disable_env_checker=True, **kwargs)


# CartPole. Reference: Barto, Sutton and Anderson 1983, "Neuronlike adaptive elements
# that can solve difficult learning control problems".

_FALL_ANGLE = 12 * 2 * math.pi / 360
_TRACK = 2.4

_CARTPOLE = Layout(
    [
        Feature(
            "cart_position",
            "position of the cart; the track ends at -2.4 and 2.4",
            unit="m",
            low=-2 * _TRACK,
            high=2 * _TRACK,
        ),
        Feature("cart_velocity", "velocity of the cart", unit="m/s"),
        Feature(
            "pole_angle",
            "angle of the pole, 0 is upright; it counts as fallen beyond 0.209",
            unit="rad",
            low=-2 * _FALL_ANGLE,
            high=2 * _FALL_ANGLE,
        ),
        Feature("pole_angular_velocity", "angular velocity of the pole", unit="rad/s"),
        Feature(
            "angle_from_upright",
            "absolute angle of the pole",
            unit="rad",
            low=0.0,
            high=2 * _FALL_ANGLE,
            better="lower",
        ),
        Feature(
            "distance_from_centre",
            "absolute position of the cart",
            unit="m",
            low=0.0,
            high=2 * _TRACK,
            better="lower",
        ),
        Feature(
            "upright",
            "pole within 12 degrees, cart on its track; the episode ends when off",
            "flag",
            low=0.0,
            high=1.0,
            better="higher",
        ),
    ]
)


def read_cartpole(env: Any, obs: Any, info: Mapping[str, Any]) -> np.ndarray:
    """Feature row of CartPole, ``(7,)`` float32."""
    x, x_dot, theta, theta_dot = env.state.tolist()
    tilt, off = abs(theta), abs(x)
    upright = tilt <= _FALL_ANGLE and off <= _TRACK
    row = (x, x_dot, theta, theta_dot, tilt, off, upright)
    return np.array(row, dtype=np.float32)


_CARTPOLE_SPARSE = """\
def reward(prev, action, now, params):
    return {"fall": where(now.upright, 0.0, -1.0)}
"""

# MountainCarContinuous. Reference: Moore 1990, "Efficient memory-based learning for
# robot control".

_CAR = Layout(
    [
        Feature("position", "position of the car", unit="m", low=-1.2, high=0.6),
        Feature("velocity", "velocity of the car", unit="m/step", low=-0.07, high=0.07),
        Feature(
            "speed",
            "absolute velocity",
            unit="m/step",
            low=0.0,
            high=0.07,
            better="higher",
        ),
        Feature("height", "height of the hill at the car", unit="m", low=0.1, high=1.0),
        Feature(
            "energy",
            "mechanical energy, -1 at rest in the valley, 1 on the hilltop; only the "
            "engine raises it",
            low=-1.0,
            high=3.94,
            better="higher",
        ),
        Feature(
            "distance_to_goal",
            "how far the flag at 0.45 still is; the car must swing away from it first",
            unit="m",
            low=0.0,
            high=1.65,
        ),
        Feature(
            "at_goal",
            "the car has reached the flag",
            "flag",
            low=0.0,
            high=1.0,
            better="higher",
        ),
    ]
)

_GRAVITY = 0.0025


def read_car(env: Any, obs: Any, info: Mapping[str, Any]) -> np.ndarray:
    """Feature row of MountainCarContinuous, ``(7,)`` float32.

    The velocity changes by ``-0.0025 cos(3 x)`` a step, the slope of the potential
    ``U(x) = 0.0025 / 3 sin(3 x)``; the energy is ``(v^2 / 2 + U) / (0.0025 / 3)``.
    """
    position, velocity = env.state
    x, v = float(position), float(velocity)
    slope = math.sin(3 * x)
    energy = slope + v * v / 2 * 3 / _GRAVITY
    # Compared as the environment does it: in the state's own precision.
    at_goal = position >= env.goal_position and velocity >= env.goal_velocity
    away = max(0.0, env.goal_position - x)
    row = (x, v, abs(v), slope * 0.45 + 0.55, energy, away, at_goal)
    return np.array(row, dtype=np.float32)


_CAR_HUMAN = """\
PARAMS = {"energy": 10.0, "effort": 0.1}

def reward(prev, action, now, params):
    return {
        "energy": params.energy * (now.energy - prev.energy),
        "effort": -params.effort * action[0] ** 2,
        "goal": where(now.at_goal and not prev.at_goal, 100.0, 0.0),
    }
"""


def car_solved(episode: Episode) -> bool:
    """Whether the car reached the flag."""
    return bool(episode.last.at_goal)


# Pendulum.

_PENDULUM = Layout(
    [
        Feature(
            "angle",
            "angle of the pendulum, 0 is upright",
            unit="rad",
            low=-math.pi,
            high=math.pi,
        ),
        Feature(
            "angular_velocity", "angular velocity", unit="rad/s", low=-8.0, high=8.0
        ),
        Feature(
            "angle_from_upright",
            "absolute angle",
            unit="rad",
            low=0.0,
            high=math.pi,
            better="lower",
        ),
        Feature(
            "height",
            "height of the tip, cosine of the angle",
            unit="m",
            low=-1.0,
            high=1.0,
            better="higher",
        ),
        Feature(
            "torque",
            "torque applied in the last step",
            unit="N m",
            low=-2.0,
            high=2.0,
        ),
    ]
)


def read_pendulum(env: Any, obs: Any, info: Mapping[str, Any]) -> np.ndarray:
    """Feature row of Pendulum, ``(5,)`` float32."""
    theta, theta_dot = env.state.tolist()
    angle = (theta + math.pi) % (2 * math.pi) - math.pi
    torque = 0.0 if env.last_u is None else float(env.last_u)
    row = (angle, theta_dot, abs(angle), math.cos(theta), torque)
    return np.array(row, dtype=np.float32)


_PENDULUM_SPARSE = """\
PARAMS = {"upright": 0.2}

def reward(prev, action, now, params):
    return {"upright": where(now.angle_from_upright < params.upright, 1.0, 0.0)}
"""


def pendulum_upright(episode: Episode) -> bool:
    """Whether the pendulum stood within 0.2 rad during the last 50 steps."""
    columns = episode.layout.columns("angle_from_upright")
    return bool((episode.features[-50:, columns] < 0.2).all())


TASKS = (
    Task(
        id="guerdon/CartPole-v1",
        intent="Keep the pole upright and the cart on its track for 500 steps.",
        make_base=partial(make_base, "CartPole-v1"),
        layout=_CARTPOLE,
        action=ActionSpec("discrete", 2, ("left", "right")),
        read=read_cartpole,
        fitness=episode_length,
        success=full_length,
        rewards={
            "sparse": ReferenceReward(
                _CARTPOLE_SPARSE, "-1 at failure as in Barto, Sutton and Anderson 1983"
            ),
            "human": ReferenceReward(None, "Gymnasium's own reward: 1 a step"),
        },
        horizon=500,
        budget=100_000,
        family="classic",
        source="Gymnasium, CartPole-v1; budget of RL Zoo",
    ),
    Task(
        id="guerdon/MountainCarContinuous-v0",
        intent="Drive the weak car up the right hill to the flag, with little effort.",
        make_base=partial(make_base, "MountainCarContinuous-v0"),
        layout=_CAR,
        action=ActionSpec("continuous", 1, ("force",), (-1.0,), (1.0,)),
        read=read_car,
        fitness=episode_return,
        success=car_solved,
        rewards={
            "sparse": ReferenceReward(
                None, "Gymnasium's own reward: 100 at the flag, -0.1 force^2 a step"
            ),
            "human": ReferenceReward(
                _CAR_HUMAN,
                "the usual hand-made dense reward, written for Guerdon: gain of "
                "mechanical energy, which is what swinging up needs, beside "
                "Gymnasium's own goal and effort",
            ),
        },
        horizon=999,
        budget=20_000,
        family="classic",
        source="Gymnasium, MountainCarContinuous-v0; budget of RL Zoo",
    ),
    Task(
        id="guerdon/Pendulum-v1",
        intent="Swing the pendulum up and hold it upright with little torque.",
        make_base=partial(make_base, "Pendulum-v1"),
        layout=_PENDULUM,
        action=ActionSpec("continuous", 1, ("torque",), (-2.0,), (2.0,)),
        read=read_pendulum,
        fitness=episode_return,
        success=pendulum_upright,
        rewards={
            "sparse": ReferenceReward(
                _PENDULUM_SPARSE, "1 a step within 0.2 rad of upright; our choice"
            ),
            "human": ReferenceReward(
                None, "Gymnasium's own reward: -(angle^2 + 0.1 speed^2 + 0.001 u^2)"
            ),
        },
        horizon=200,
        budget=100_000,
        family="classic",
        source="Gymnasium, Pendulum-v1; budget of RL Zoo",
    ),
)
"""CartPole, MountainCarContinuous and Pendulum."""

"""Task over Gymnasium's Box2D: LunarLander."""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Mapping
from functools import partial
from typing import Any

import gymnasium as gym
import numpy as np

from guerdon.envs.scores import episode_return
from guerdon.envs.task import ReferenceReward, Task
from guerdon.extras import require
from guerdon.types import ActionSpec, Episode, Feature, Layout

# Half the width and half the height of the scene, and the height of the hull over
# its feet, in metres: 600, 400 and 18 pixels at 30 pixels a metre.
_HALF_WIDTH, _HALF_HEIGHT, _LEG = 10.0, 20 / 3, 18 / 30

# Box2D moves a body by at most 2 m and turns it by at most pi / 2 a step of 1/50 s.
_MAX_SPEED, _MAX_SPIN = 100.0, 25.0 * math.pi


def _flag(name: str, meaning: str, better: Any = None) -> Feature:
    return Feature(name, meaning, "flag", low=0.0, high=1.0, better=better)


# Gymnasium's declared bounds are not kept: nothing ends a climb, and turns add up.
_LANDER = Layout(
    [
        Feature(
            "x", "sideways position; the pad is at 0", unit="m", low=-25.0, high=25.0
        ),
        Feature("y", "height over the pad", unit="m"),
        Feature(
            "vx", "sideways velocity", unit="m/s", low=-_MAX_SPEED, high=_MAX_SPEED
        ),
        Feature("vy", "velocity upwards", unit="m/s", low=-_MAX_SPEED, high=_MAX_SPEED),
        Feature("angle", "tilt, 0 is upright; turns add up", unit="rad"),
        Feature(
            "angular_velocity",
            "rate of the tilt",
            unit="rad/s",
            low=-_MAX_SPIN,
            high=_MAX_SPIN,
        ),
        Feature(
            "distance_to_pad",
            "straight distance to the pad",
            unit="m",
            low=0.0,
            better="lower",
        ),
        Feature(
            "speed",
            "length of the velocity",
            unit="m/s",
            low=0.0,
            high=_MAX_SPEED,
            better="lower",
        ),
        _flag("left_leg", "the left leg touches the ground"),
        _flag("right_leg", "the right leg touches the ground"),
        _flag("between_flags", "the lander is over the landing pad", "higher"),
        _flag("crashed", "the hull hit the ground or left the scene", "lower"),
        _flag("at_rest", "the lander has come to rest; the episode ends", "higher"),
    ]
)


def read_lander(env: Any, obs: Any, info: Mapping[str, Any]) -> np.ndarray:
    """Feature row of LunarLander, ``(13,)`` float32, in metres and seconds."""
    hull = env.lander
    x, y = hull.position
    vx, vy = hull.linearVelocity
    left, right = x - env.helipad_x1, env.helipad_x2 - x
    x, y = x - _HALF_WIDTH, y - (env.helipad_y + _LEG)
    row = (
        x,
        y,
        vx,
        vy,
        hull.angle,
        hull.angularVelocity,
        math.hypot(x, y),
        math.hypot(vx, vy),
        # Gymnasium's first leg is the one on the right.
        env.legs[1].ground_contact,
        env.legs[0].ground_contact,
        left >= 0.0 and right >= 0.0,
        env.game_over or abs(x) >= _HALF_WIDTH,
        not hull.awake,
    )
    return np.array(row, dtype=np.float32)


_SPARSE = """\
def reward(prev, action, now, params):
    landed = now.at_rest and now.between_flags and not now.crashed
    return {
        "landed": where(landed, 1.0, 0.0),
        "crash": where(now.crashed, -1.0, 0.0),
    }
"""


def make_lander(base: str, **kwargs: Any) -> gym.Env[Any, Any]:
    """Gymnasium's LunarLander, without its passive checker.

    Raises:
        guerdon.extras.MissingExtra: when Box2D is not installed.
    """
    os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
    with warnings.catch_warnings():
        # Box2D's binding warns while its C code is being set up, and crashes the
        # whole process where warnings are turned into errors.
        warnings.simplefilter("ignore")
        require("Box2D", "box2d")
    return gym.make(base, disable_env_checker=True, **kwargs)


def lander_solved(episode: Episode) -> bool:
    """Whether the return reaches 200, Gymnasium's own threshold of a solution."""
    return episode_return(episode) >= 200.0


TASKS = (
    Task(
        id="guerdon/LunarLander-v3",
        intent="Land softly between the flags with little fuel and come to rest.",
        make_base=partial(make_lander, "LunarLander-v3"),
        layout=_LANDER,
        action=ActionSpec(
            "discrete", 4, ("nothing", "left_engine", "main_engine", "right_engine")
        ),
        read=read_lander,
        fitness=episode_return,
        success=lander_solved,
        rewards={
            "sparse": ReferenceReward(
                _SPARSE,
                "1 for coming to rest between the flags, -1 for a crash; our choice",
            ),
            "human": ReferenceReward(
                None, "Gymnasium's own reward: shaping by position, speed and tilt"
            ),
        },
        horizon=1000,
        budget=1_000_000,
        family="box2d",
        source="Gymnasium, LunarLander-v3; budget of RL Zoo",
        extra="box2d",
    ),
)
"""LunarLander."""

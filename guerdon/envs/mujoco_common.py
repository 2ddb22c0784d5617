"""What the MuJoCo tasks share: making the environment, and features of joints."""

from __future__ import annotations

from typing import Any

import gymnasium as gym

from guerdon.extras import require
from guerdon.types import ActionSpec, Feature


def make_mujoco(base: str, **kwargs: Any) -> gym.Env[Any, Any]:
    """One of Gymnasium's MuJoCo environments, without its passive checker.

    Raises:
        guerdon.extras.MissingExtra: when ``mujoco`` or ``imageio`` is missing.
    """
    mujoco = require("mujoco", "mujoco")
    require("imageio", "mujoco")
    if mujoco.get_mju_user_warning() is None:
        # Without a handler MuJoCo writes MUJOCO_LOG.TXT into the working folder,
        # from version 4 on for every HalfCheetah; a handler of the user's is kept.
        mujoco.set_mju_user_warning(lambda message: None)
    return gym.make(base, disable_env_checker=True, **kwargs)


def control_cost() -> Feature:
    """The environment's own cost of the last commands."""
    meaning = "the environment's own cost of the last commands"
    return Feature("control_cost", meaning, low=0.0, better="lower")


def torques(joints: tuple[str, ...]) -> Feature:
    """The last commands to the motors of ``joints``."""
    return Feature(
        "torques",
        f"last commands to the motors, 1 is full strength: {', '.join(joints)}",
        shape=(len(joints),),
        low=-1.0,
        high=1.0,
    )


def joint_features(joints: tuple[str, ...]) -> tuple[Feature, Feature]:
    """Angles and velocities of ``joints``, as two vectors."""
    shape, names = (len(joints),), ", ".join(joints)
    return (
        Feature("joint_angles", f"angles of {names}", shape=shape, unit="rad"),
        Feature(
            "joint_velocities", f"their velocities: {names}", "number", shape, "rad/s"
        ),
    )


def motors(joints: tuple[str, ...]) -> ActionSpec:
    """One command between -1 and 1 for the motor of every joint."""
    size = len(joints)
    return ActionSpec("continuous", size, joints, (-1.0,) * size, (1.0,) * size)

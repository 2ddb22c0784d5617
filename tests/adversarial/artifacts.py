"""What the attacks by files have in common."""

from __future__ import annotations

import os
from typing import Any

from guerdon.envs import load_task

CARTPOLE = "guerdon/CartPole-v1"
TASK = load_task(CARTPOLE)


class Payload:
    """What a pickle would run."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("touch escaped",)

"""Tasks of every family under names of their own, whose recipes learn early."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from countdown_task import TASK, Countdown

from guerdon.envs.table import load_task

__all__ = ["BOX2D", "MUJOCO", "RAISES_LATE", "READS_LATE"]

BOX2D = replace(load_task("guerdon/LunarLander-v3"), id="short/LunarLander-v3")
MUJOCO = replace(load_task("guerdon/Hopper-v5"), id="short/Hopper-v5")


class Late(Countdown):
    """Does something else in its third episode, when the jail is long shut."""

    def __init__(self, flaw: str) -> None:
        super().__init__()
        self.late = flaw
        self.resets = 0

    def reset(self, **options: Any) -> Any:
        self.resets += 1
        if self.resets == 3 and self.late == "raises":
            raise RuntimeError("no third episode")
        if self.resets == 3 and self.late == "reads":
            Path(__file__).read_text()
        return super().reset(**options)


RAISES_LATE = replace(TASK, make_base=lambda: Late("raises"))
READS_LATE = replace(TASK, make_base=lambda: Late("reads"))

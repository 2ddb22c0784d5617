"""What a run needs of whatever trains for it."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Protocol

from guerdon.agents.training import Outcome, TrainingJob, Trouble, Work


class Pool(AbstractContextManager["Pool"], Protocol):
    """Jobs in, outcomes out, in the order in which they finish; its end kills all."""

    def submit(self, work: Work, /, *, first: bool = False) -> None:
        """Queue a job, or several as a leg, behind the others or ``first`` of them."""

    def poll(self, timeout: float = 0.0) -> list[tuple[TrainingJob, Outcome | Trouble]]:
        """What has finished since the last call; waits at most ``timeout`` for one."""

    def progress(self, job: TrainingJob) -> float:
        """Finished share of a job, 0 to 1; 0 while it waits, 1 when it is done."""

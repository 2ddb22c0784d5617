"""The controller's part of a training in the jail: start it, take what comes out."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from pathlib import Path

from guerdon.agents.child import Killed
from guerdon.agents.claims import Learned, claim_name, claim_of
from guerdon.agents.training import TrainingJob
from guerdon.faults import whole_file
from guerdon.jail import Jail, JailError, Limits
from guerdon.types import Failure

PREPARE = "guerdon.agents.jailed:prepare"
LEARN = "guerdon.agents.jailed:learn_job"
JUDGE = "guerdon.agents.jailed:judge_job"
"""What runs where; only these names are known here, since torch is not."""

_CPU_SHARE = 1.2
"""Processor seconds a job may use per second that it may take, plus a few."""


class Confinement:
    """The jail of a pool; its server starts with the first job that needs it.

    Args:
        folder: where the claims go.
        deadline_s: seconds after which a training is killed.
    """

    def __init__(self, folder: Path, deadline_s: float) -> None:
        self._folder = folder
        self._limits = Limits(
            seconds=deadline_s, cpu_seconds=math.ceil(_CPU_SHARE * deadline_s) + 5
        )
        self._lock = threading.Lock()
        self._jail: Jail | None = None
        self._stop = threading.Event()

    def learn(
        self, job: TrainingJob, progress: Callable[[float], None]
    ) -> Learned | Failure:
        """Train in the jail and write down what came out.

        Raises:
            JailError: when a layer is missing, or the server does not start.
            Killed: when the server died under the job; the next call starts another.
            OSError: when the claim cannot be written.
        """
        jail = self._server()
        try:
            answer = jail.run(
                PREPARE,
                job.to_json(),
                self._limits,
                progress=progress,
                cancelled=self._stop,
            )
        except JailError as error:
            with self._lock:
                if self._jail is jail:
                    self._jail = None
            jail.close()
            raise Killed(str(error)) from error
        claim = claim_of(answer)
        if isinstance(claim, Failure):
            return claim
        with whole_file(self._folder / claim_name(job)) as partial:
            partial.write_bytes(claim)
        return Learned(job.key)

    def _server(self) -> Jail:
        with self._lock:
            if self._jail is None:
                self._jail = Jail(("guerdon.agents.preload",))
            return self._jail

    def close(self) -> None:
        """Kill what runs; the server ends with it."""
        self._stop.set()
        with self._lock:
            jail, self._jail = self._jail, None
        if jail is not None:
            jail.close()

"""The controller's part of a training in the jail: start it, take what comes out.

Whose fault it is when nothing comes out is never decided by the reward's own word:

- Before the jail is shut no line of the reward has run, so whatever fails there is the
  machine's or the task's, and stops the run.
- The server is out of a reward's reach; its death, and a fork that is refused, stop
  the run too. A reward that could bring them about would have escaped, and would gain
  a run that stands still, with nothing booked and nothing changed.
- A kill that nobody here has sent may come from a system without memory, or from the
  reward itself: the job is tried once more, and killed again it has crashed. Were
  this the machine's fault, a reward could stop every run that it is in.
- That a disk is full is not believed but looked up, after the reward's own files are
  gone.
"""

from __future__ import annotations

import errno
import math
import os
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path

from guerdon.agents.child import Killed, Lost
from guerdon.agents.claims import Learned, claim_name, claim_of
from guerdon.agents.training import TrainingJob
from guerdon.faults import full_place, whole_file
from guerdon.jail import Answer, Jail, JailError, Limits, TooLarge
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
            Killed: when a signal that is not ours ended the job.
            Lost: when the job did not begin, or the server died under it; the next
                call starts another.
            OSError: when the claim cannot be written, or the machine cannot fork the
                job or shut the jail around it.
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
            raise Lost(str(error)) from error
        except TooLarge as error:
            return Failure("crashed", str(error))
        claim = self._claim(answer)
        if isinstance(claim, Failure):
            return claim
        with whole_file(self._folder / claim_name(job)) as partial:
            partial.write_bytes(claim)
        return Learned(job.key)

    def _claim(self, answer: Answer) -> bytes | Failure:
        found = claim_of(answer)
        if isinstance(found, Failure) and not self._stop.is_set():
            if answer.shut_after is None:
                raise Lost(f"a job for the jail did not begin: {found.reason}")
            if answer.struck:
                raise Killed(found.reason)
        return found

    def require_room(self) -> None:
        """Ask the disk of the scratch folders, after a crash, whether it is full.

        Raises:
            OSError: when it is full; the job's own files are not what fills it.
        """
        place = full_place(Path(tempfile.gettempdir()))
        if place is not None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(place))

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

"""Crashes that are no candidate's: every training ends in the same one."""

from __future__ import annotations

import re

from guerdon.journal import TrainingRecord
from guerdon.types import Failure

ALIKE = 2
"""Crashes, before anything has worked, that the baseline is asked about."""

_PLACE = re.compile(r"^(\w+): .*\(([^()]+:\d+, [^()]+)\)$", re.DOTALL)
"""Kind and place of an error as ``guerdon.faults.blame`` words it."""


class NothingTrains(ValueError):
    """Every training crashes in the same way, the baseline's too."""


def crashed(training: TrainingRecord) -> bool:
    """Whether a training ended in a crash."""
    return training.failure is not None and training.failure.kind == "crashed"


def way(failure: Failure) -> str:
    """Kind and place of a crash; what it says may differ from time to time.

    >>> way(Failure("crashed", "KeyError: 'x7' (env.py:9, step)"))
    'KeyError env.py:9, step'
    """
    found = _PLACE.match(failure.reason)
    return f"{found[1]} {found[2]}" if found else failure.reason.partition("\n")[0]

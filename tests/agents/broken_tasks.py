"""Tasks that fail before a reward has a part in anything."""

import errno
from dataclasses import replace
from typing import Any

from tests.agents.countdown_task import Countdown, make_task


def _full(*_: Any) -> Countdown:
    raise OSError(errno.ENOSPC, "No space left on device", "/dev/full")


def _broken(*_: Any) -> Countdown:
    raise LookupError("no simulator here")


FULL = replace(make_task(), make_base=_full)
BROKEN = replace(make_task(), make_base=_broken)

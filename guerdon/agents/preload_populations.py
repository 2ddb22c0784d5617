"""Imported by the server of worker processes, which train populations at least."""

import atexit
import time

from guerdon.agents.warm import load

GRACE = 1.0
"""Seconds; a worker needs some thousandths."""

load(
    "guerdon.agents.population",
    "guerdon.reward_design.language",
    "guerdon.envs.grid.choose",
)

# Without a controller this server ends, and the kernel then kills every worker, alone.
# A worker hears of the controller's end too and kills its whole group: let it be first.
atexit.register(time.sleep, GRACE)

"""Imported once by the server that workers are forked from, so that they start warm."""

import gc
import importlib

__all__: list[str] = []

_MODULES = (
    "guerdon.agents.jailed",
    # The first optimiser imports this, which takes longer than a small training.
    "torch._dynamo",
    "guerdon.reward_design.language",
    "safetensors.torch",
    "scipy.stats",
    "minigrid.minigrid_env",
    "guerdon.envs.grid.vector",
)

for _module in _MODULES:
    try:
        importlib.import_module(_module)
    except ImportError:
        # An absent extra is the business of the job that needs it.
        continue

# Objects that the collector never visits again keep their memory shared after a fork.
gc.collect()
gc.freeze()

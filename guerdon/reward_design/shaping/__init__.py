"""Transforms of a reward: records of pure functions, put together with ``chain``.

>>> from guerdon.reward_design.shaping import chain, clip, scale
>>> sorted(chain(scale(2.0), clip(-1.0, 1.0)).tags)
['monotone']
"""

from guerdon.reward_design.shaping.combine import chain, named, scalarize
from guerdon.reward_design.shaping.elementwise import clip, scale
from guerdon.reward_design.shaping.normalization import running_norm
from guerdon.reward_design.shaping.potentials import potential
from guerdon.reward_design.shaping.schedules import schedule

__all__ = [
    "chain",
    "clip",
    "named",
    "potential",
    "running_norm",
    "scalarize",
    "scale",
    "schedule",
]

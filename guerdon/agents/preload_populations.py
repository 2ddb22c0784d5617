"""Imported by a server whose workers train populations."""

from guerdon.agents.warm import load

load(
    "guerdon.agents.population",
    "guerdon.reward_design.language",
    "guerdon.envs.grid.choose",
)

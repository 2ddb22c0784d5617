"""Imported by a server whose workers train with Stable-Baselines3."""

from guerdon.agents.warm import load

load(
    "guerdon.agents.jailed",
    # The first optimiser imports this, which takes longer than a small training.
    "torch._dynamo",
    "guerdon.reward_design.language",
    "safetensors.torch",
    "minigrid.minigrid_env",
    "guerdon.envs.grid.vector",
)

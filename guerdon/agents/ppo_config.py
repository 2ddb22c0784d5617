"""What a population PPO is asked for."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from gymnasium import spaces

from guerdon.agents.layers import Activation
from guerdon.agents.networks import Architecture, Encoder
from guerdon.agents.recipes import Recipe
from guerdon.checks import integer, number
from guerdon.types import ActionSpec

_COUNTS = ("envs", "steps", "minibatch", "epochs")
_SHARES = ("discount", "gae_lambda", "bonus_discount", "bonus_lambda")


@dataclass(frozen=True, slots=True, kw_only=True)
class PPOConfig:
    """How rows learn; all rows alike.

    Raises:
        ValueError: for a number out of its range, a minibatch that does not divide
            the block, or a switch that the device does not have.
        TypeError: for a count that is no whole number, or a weight that is no number.
    """

    envs: int = 8
    """Environments of a row."""
    steps: int = 128
    """Steps of each environment between two updates; together a block."""
    minibatch: int = 256
    """Transitions of a row per gradient step."""
    epochs: int = 4
    """Passes over each block."""
    learning_rate: float = 3e-4
    """Step size of Adam."""
    clip_range: float = 0.2
    """How far the probability ratio counts."""
    total_steps: int | None = None
    """Environment steps of a row in the whole training; for what falls linearly."""
    linear_learning_rate: bool = False
    """Let the step size fall to zero at ``total_steps``."""
    linear_clip_range: bool = False
    """Let the clip range fall to zero at ``total_steps``."""
    discount: float = 0.99
    """Discount per step; reward normalisation uses the same one."""
    gae_lambda: float = 0.95
    """Decay of the generalised advantage."""
    value_clip: float | None = None
    """How far a value may move from the one before the update; None: any way."""
    ent_coef: float = 0.0
    """Weight of the entropy."""
    vf_coef: float = 0.5
    """Weight of the value loss."""
    max_grad_norm: float = 0.5
    """Largest norm of a row's gradient."""
    target_kl: float | None = None
    """A row ends its update when it has moved 1.5 times as far; None: never."""
    normalize_advantage: bool = True
    """Standardise advantages per minibatch and row."""
    normalize_reward: bool = True
    """Divide rewards by the running deviation of their discounted sum, per row."""
    normalize_observation: bool = False
    """Standardise observations by running moments, per row."""
    bonus_discount: float = 0.99
    """Discount of the intrinsic reward."""
    bonus_lambda: float = 0.95
    """Decay of its advantage."""
    bonus_coef: float = 1.0
    """Weight of its advantage beside the extrinsic one."""
    bonus_episodic: bool = False
    """End its return where an episode ends; if not, curiosity outlives death."""
    encoder: Encoder = "vector"
    """How observations are read."""
    hidden: tuple[int, ...] = (64, 64)
    """Widths of the layers, of the policy and of the value apart."""
    activation: Activation = "tanh"
    """Between the layers."""
    shared: bool = False
    """One trunk for policy and value."""
    conv: tuple[tuple[int, int, int], ...] = ((16, 2, 1), (32, 2, 1), (64, 2, 1))
    """Channels, kernel and stride of the convolutions of ``encoder="cnn"``."""
    memory: int = 0
    """Width of a GRU; 0 for none. Sequences stay whole: a minibatch is environments.
    With widths and ``envs`` that fill a processor's vectors, as multiples of 16 and 8
    do, a row learns the same bits alone and among others; else nearly the same."""
    ortho_init: bool = True
    """Orthogonal first weights."""
    log_std_init: float = 0.0
    """First log standard deviation of a Gaussian policy."""
    adam_epsilon: float = 1e-5
    device: str = "cpu"
    """``"cpu"`` or ``"cuda"``: of the networks and the update. Tensors of an env must
    be there too, and stay there; NumPy arrays of one travel at every step."""
    compile: bool = False
    """Let ``torch.compile`` fuse the networks; the loss and Adam stay as they are."""
    cuda_graphs: bool = False
    """Replay acting and gradients as CUDA graphs."""
    bf16: bool = False
    """Multiply matrices in bfloat16; weights stay float32."""

    def __post_init__(self) -> None:
        for name in _COUNTS:
            object.__setattr__(self, name, integer(name, getattr(self, name), 1))
        object.__setattr__(self, "memory", integer("memory", self.memory, 0))
        for name in _SHARES:
            if not 0.0 <= getattr(self, name) <= 1.0:
                value = getattr(self, name)
                raise ValueError(f"{name}: expected 0 to 1, got {value}")
        for name in ("ent_coef", "vf_coef", "bonus_coef", "log_std_init"):
            number(name, getattr(self, name))
        for name in ("value_clip", "target_kl"):
            if getattr(self, name) is not None:
                number(name, getattr(self, name), 0.0)
        if self.total_steps is not None:
            integer("total_steps", self.total_steps, 1)
        for name in ("learning_rate", "clip_range", "max_grad_norm"):
            if not 0.0 < getattr(self, name) < math.inf:
                value = getattr(self, name)
                raise ValueError(f"{name}: expected above 0, got {value}")
        if self.block % self.minibatch:
            raise ValueError(
                f"minibatch: expected a divisor of envs * steps = {self.block}, got "
                f"{self.minibatch}"
            )
        if self.normalize_observation and self.encoder != "vector":
            raise ValueError(
                "normalize_observation: expected encoder 'vector', got "
                f"{self.encoder!r}, which scales what it reads by itself"
            )
        if self.memory and self.minibatch % self.steps:
            raise ValueError(
                "minibatch: with a memory, expected whole sequences, a multiple of "
                f"steps = {self.steps}, got {self.minibatch}"
            )
        linear = self.linear_learning_rate or self.linear_clip_range
        if linear and self.total_steps is None:
            raise ValueError("total_steps: expected a number for what falls linearly")
        if torch.device(self.device).type not in ("cpu", "cuda"):
            raise ValueError(f"device: expected 'cpu' or 'cuda', got {self.device!r}")
        if self.cuda_graphs and self.device == "cpu":
            raise ValueError("cuda_graphs: expected device='cuda', got 'cpu'")

    @property
    def block(self) -> int:
        """Transitions of a row in a block."""
        return self.envs * self.steps

    def architecture(
        self, space: spaces.Box, action: ActionSpec, heads: int = 1
    ) -> Architecture:
        """The network of a row, with so many values."""
        return Architecture.of(
            space,
            action,
            self.encoder,
            hidden=self.hidden,
            activation=self.activation,
            shared=self.shared,
            conv=self.conv,
            memory=self.memory,
            heads=heads,
            orthogonal=self.ortho_init,
            log_std=self.log_std_init,
        )

    @classmethod
    def from_recipe(cls, recipe: Recipe, **changes: Any) -> PPOConfig:
        """The numbers of a recipe; ``total_steps`` for linear ones is a change.

        State-dependent exploration is SB3's alone: here noise is white. A memory needs
        layers that policy and value share.

        Raises:
            ValueError: for a recipe of another algorithm.
        """
        if recipe.algo != "ppo":
            raise ValueError(f"recipe: expected one for 'ppo', got {recipe.algo!r}")
        given = {name: getattr(recipe, name) for name in _SAME}
        given |= {
            "envs": recipe.n_envs,
            "steps": recipe.n_steps,
            "minibatch": recipe.batch_size,
            "epochs": recipe.n_epochs,
            "ent_coef": recipe.ent_coef or 0.0,
            "hidden": recipe.net_arch,
            "encoder": "one_hot" if recipe.one_hot else "vector",
            "log_std_init": recipe.log_std_init or 0.0,
            "shared": recipe.memory > 0,
        }
        return cls(**given | changes)


_SAME = (
    *("learning_rate", "linear_learning_rate", "clip_range", "linear_clip_range"),
    *("discount", "gae_lambda", "vf_coef", "max_grad_norm", "activation"),
    *("normalize_reward", "normalize_observation", "ortho_init", "memory"),
)
"""Fields that a recipe has under the same name."""


def device_of(config: PPOConfig) -> torch.device:
    """The device of a configuration, a GPU with its number.

    Raises:
        ValueError: when there is none.
    """
    name = config.device
    if torch.device(name).type == "cuda" and not torch.cuda.is_available():
        raise ValueError(
            f"device {name!r}: torch finds no CUDA device here; use device='cpu'"
        )
    found = torch.device(name)
    if name == "cuda":
        return torch.device("cuda", torch.cuda.current_device())
    return found


@contextmanager
def enough_memory() -> Iterator[None]:
    """Say what to do when something does not fit.

    Raises:
        MemoryError: instead of what torch and NumPy raise.
    """
    try:
        yield
    except (MemoryError, torch.OutOfMemoryError) as error:
        raise MemoryError(f"{_FULL} ({error})") from error
    except RuntimeError as error:
        if "can't allocate memory" not in str(error):
            raise
        raise MemoryError(f"{_FULL} ({error})") from error


_FULL = (
    "the population does not fit into memory: use fewer candidates or seeds (rows), "
    "fewer environments per row (envs), or shorter blocks (steps)"
)

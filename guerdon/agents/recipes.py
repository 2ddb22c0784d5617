"""Hyper-parameters per task, each with the place where they come from."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from guerdon.envs.task import Task

Algorithm = Literal["ppo", "sac"]

ZOO = "DLR-RM/rl-baselines3-zoo"
"""The collection of tuned agents, read at its commit 22e3ff2 (2026-04-23)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """How an agent is trained on a task.

    Fields of the other algorithm are ignored. Where one has a ``linear_`` twin that
    is true, the number falls linearly to zero over the training.
    """

    algo: Algorithm
    """``"ppo"`` for any action, ``"sac"`` for continuous ones."""
    source: str
    """Where the numbers come from, and where we deviate."""
    n_envs: int = 1
    """Environments that step together."""
    learning_rate: float = 3e-4
    """Step size of Adam."""
    linear_learning_rate: bool = False
    """Let the step size fall to zero."""
    batch_size: int = 64
    """Transitions per gradient step."""
    discount: float = 0.99
    """Discount per step; reward normalisation uses the same one."""
    ent_coef: float | None = 0.0
    """Weight of the entropy; None lets SAC learn it."""
    use_sde: bool = False
    """State-dependent exploration instead of white noise (continuous actions)."""
    sde_sample_freq: int = -1
    """Steps between two draws of that noise; -1 draws once per rollout."""
    log_std_init: float | None = None
    """First log standard deviation of a Gaussian policy; None keeps SB3's."""
    ortho_init: bool = True
    """Orthogonal initial weights (PPO)."""
    activation: Literal["tanh", "relu"] = "tanh"
    """Between the layers."""
    net_arch: tuple[int, ...] = (64, 64)
    """Width of the hidden layers, of the policy and of the value apart."""
    one_hot: bool = False
    """Read a grid of small codes as one-hot instead of as numbers."""
    memory: int = 0
    """Width of a recurrent core (GRU) of the population's PPO, whose policy and value
    then share their layers; 0 for none. SB3 has none: see ``without_memory``."""
    normalize_reward: bool = True
    """Divide rewards by the running deviation of their discounted sum."""
    normalize_observation: bool = False
    """Subtract the running mean of observations and divide by their deviation."""
    deterministic: bool = True
    """Evaluate the mode of the policy instead of sampling from it."""
    n_steps: int = 2048
    """PPO: steps per environment between two updates."""
    n_epochs: int = 10
    """PPO: passes over each rollout."""
    gae_lambda: float = 0.95
    """PPO: decay of the generalised advantage."""
    clip_range: float = 0.2
    """PPO: how far the probability ratio counts."""
    linear_clip_range: bool = False
    """PPO: let the clip range fall to zero."""
    vf_coef: float = 0.5
    """PPO: weight of the value loss."""
    max_grad_norm: float = 0.5
    """PPO: largest norm of a gradient."""
    buffer_size: int = 1_000_000
    """SAC: transitions remembered; never more than the training has steps."""
    learning_starts: int = 100
    """SAC: random steps before the first update."""
    train_freq: int = 1
    """SAC: steps between updates."""
    gradient_steps: int = 1
    """SAC: gradient steps per update."""
    tau: float = 0.005
    """SAC: how fast the target network follows."""

    def __post_init__(self) -> None:
        for name in ("n_envs", "batch_size", "n_steps", "n_epochs", "buffer_size"):
            if getattr(self, name) < 1:
                raise ValueError(
                    f"recipe {name}: expected at least 1, got {getattr(self, name)}"
                )
        if not 0.0 <= self.discount <= 1.0:
            raise ValueError(f"recipe discount: expected 0 to 1, got {self.discount}")
        if not self.learning_rate > 0.0:
            raise ValueError(
                f"recipe learning_rate: expected above 0, got {self.learning_rate}"
            )
        if self.memory < 0:
            raise ValueError(f"recipe memory: expected at least 0, got {self.memory}")

    def without_memory(self) -> Recipe:
        """The recipe as Stable-Baselines3 can follow it.

        Its agents see one observation at a time: on a task that needs a memory they
        learn what can be done without.
        """
        if not self.memory:
            return self
        note = "; trained by Stable-Baselines3, without the memory"
        return replace(self, memory=0, source=self.source + note)

    def whole_steps(self, steps: int) -> int:
        """Environment steps of a training that asks for ``steps``: never fewer.

        PPO learns after whole rollouts, SAC after each ``train_freq``.
        """
        unit = self.n_envs * (self.n_steps if self.algo == "ppo" else self.train_freq)
        return -(-steps // unit) * unit


_SCALE = "reward normalisation added, because a designed reward has no fixed scale"


def _zoo(algo: Algorithm, entry: str, *deviations: str) -> str:
    notes = "".join(f"; {note}" for note in deviations)
    return f"{ZOO} hyperparams/{algo}.yml, {entry}{notes}"


def _ppo(entry: str, *deviations: str, **values: object) -> Recipe:
    """A PPO recipe of the zoo that normalises there, as ours do everywhere."""
    return replace(
        Recipe(
            algo="ppo",
            source=_zoo("ppo", entry, *deviations),
            normalize_observation=True,
        ),
        **values,  # type: ignore[arg-type]
    )


def _sac(entry: str, *deviations: str, **values: object) -> Recipe:
    """A SAC recipe of the zoo, on SB3's defaults: 256 x 256 ReLU, learned entropy."""
    return replace(
        Recipe(
            algo="sac",
            source=_zoo("sac", entry, *deviations),
            batch_size=256,
            ent_coef=None,
            activation="relu",
            net_arch=(256, 256),
            normalize_reward=False,
        ),
        **values,  # type: ignore[arg-type]
    )


MINIGRID = Recipe(
    algo="ppo",
    source=(
        "our own study: on DoorKey-8x8 at 100,000 steps these numbers told good "
        "rewards from bad ones; the zoo's entry for DoorKey-5x5 takes about twenty "
        "times the gradient steps for as many frames"
    ),
    n_envs=64,
    n_steps=64,
    batch_size=512,
    n_epochs=4,
    learning_rate=1e-3,
    ent_coef=0.01,
    one_hot=True,
    deterministic=False,
)

MEMORY = replace(
    MINIGRID,
    source=(
        f"{MINIGRID.source}; with a GRU of 64 numbers, because what to look for is "
        "seen at the beginning only (population; Stable-Baselines3 goes without)"
    ),
    memory=64,
)
"""Of MiniGrid's Memory levels, where no single observation says enough."""

# Published for the v4 MuJoCo tasks; the v5 ones differ in bug fixes only.
_V5 = "published for {old}"
_WIDE: dict[str, object] = {
    "log_std_init": -2.0,
    "ortho_init": False,
    "activation": "relu",
    "net_arch": (256, 256),
}

_PPO: dict[str, Recipe] = {
    "CartPole-v1": _ppo(
        "CartPole-v1",
        _SCALE,
        n_envs=8,
        n_steps=32,
        batch_size=256,
        gae_lambda=0.8,
        discount=0.98,
        n_epochs=20,
        learning_rate=1e-3,
        linear_learning_rate=True,
        linear_clip_range=True,
        normalize_observation=False,
    ),
    "Pendulum-v1": _ppo(
        "Pendulum-v1",
        _SCALE,
        n_envs=4,
        n_steps=1024,
        discount=0.9,
        learning_rate=1e-3,
        use_sde=True,
        sde_sample_freq=4,
        normalize_observation=False,
    ),
    "MountainCarContinuous-v0": _ppo(
        "MountainCarContinuous-v0",
        "batch of 8 instead of 256, which is all that a rollout holds",
        n_steps=8,
        batch_size=8,
        discount=0.9999,
        learning_rate=7.77e-5,
        ent_coef=0.00429,
        clip_range=0.1,
        gae_lambda=0.9,
        max_grad_norm=5.0,
        vf_coef=0.19,
        use_sde=True,
        log_std_init=-3.29,
        ortho_init=False,
    ),
    "LunarLander-v3": _ppo(
        "LunarLander-v3",
        _SCALE,
        n_envs=16,
        n_steps=1024,
        gae_lambda=0.98,
        discount=0.999,
        n_epochs=4,
        ent_coef=0.01,
        normalize_observation=False,
    ),
    "HalfCheetah-v5": _ppo(
        "HalfCheetah-v4",
        _V5.format(old="v4"),
        n_steps=512,
        discount=0.98,
        learning_rate=2.0633e-5,
        ent_coef=0.000401762,
        clip_range=0.1,
        n_epochs=20,
        gae_lambda=0.92,
        max_grad_norm=0.8,
        vf_coef=0.58096,
        **_WIDE,
    ),
    "Hopper-v5": _ppo(
        "Hopper-v4",
        _V5.format(old="v4"),
        batch_size=32,
        n_steps=512,
        discount=0.999,
        learning_rate=9.80828e-5,
        ent_coef=0.00229519,
        n_epochs=5,
        gae_lambda=0.99,
        max_grad_norm=0.7,
        vf_coef=0.835671,
        **_WIDE,
    ),
    "Walker2d-v5": _ppo(
        "Walker2d-v4",
        _V5.format(old="v4"),
        batch_size=32,
        n_steps=512,
        learning_rate=5.05041e-5,
        ent_coef=0.000585045,
        clip_range=0.1,
        n_epochs=20,
        max_grad_norm=1.0,
        vf_coef=0.871923,
    ),
    "Ant-v5": _ppo("Ant-v4", _V5.format(old="v4")),
    "InvertedDoublePendulum-v5": _ppo(
        "InvertedDoublePendulum-v2",
        _V5.format(old="v2"),
        "batch of 128 instead of 512, which is all that a rollout holds",
        batch_size=128,
        n_steps=128,
        discount=0.98,
        learning_rate=0.000155454,
        ent_coef=1.05057e-6,
        clip_range=0.4,
        gae_lambda=0.8,
        vf_coef=0.695929,
    ),
    "Reacher-v5": _ppo(
        "Reacher-v2",
        _V5.format(old="v2"),
        batch_size=32,
        n_steps=512,
        discount=0.9,
        learning_rate=0.000104019,
        ent_coef=7.52585e-8,
        clip_range=0.3,
        n_epochs=5,
        gae_lambda=1.0,
        max_grad_norm=0.9,
        vf_coef=0.950368,
    ),
}

_SAC: dict[str, Recipe] = {
    "Pendulum-v1": _sac("Pendulum-v1", learning_rate=1e-3),
    "MountainCarContinuous-v0": _sac(
        "MountainCarContinuous-v0",
        buffer_size=50_000,
        batch_size=512,
        ent_coef=0.1,
        train_freq=32,
        gradient_steps=32,
        discount=0.9999,
        tau=0.01,
        learning_starts=0,
        use_sde=True,
        log_std_init=-3.67,
        net_arch=(64, 64),
    ),
    **{
        f"{name}-v5": _sac(f"{name}-v4", _V5.format(old="v4"), learning_starts=10_000)
        for name in ("HalfCheetah", "Ant", "Hopper", "Walker2d")
    },
    **{
        f"{name}-v5": _sac("default", learning_starts=10_000)
        for name in ("Reacher", "InvertedDoublePendulum")
    },
}

_DEFAULT_PPO = Recipe(
    algo="ppo",
    source=(
        "defaults of Stable-Baselines3's PPO with 8 environments; observation and "
        "reward normalisation as the zoo uses for most tasks"
    ),
    n_envs=8,
    n_steps=256,
    batch_size=256,
    normalize_observation=True,
)


def recipe_for(task: Task, algo: str | None = None) -> Recipe:
    """The recipe of a task.

    Args:
        task: any task; one that is not ours gets defaults by its kind of action.
        algo: ``"ppo"`` or ``"sac"``; None means PPO, which every task can use.

    Returns:
        Published hyper-parameters where there are some.

    Raises:
        ValueError: for an unknown algorithm, or SAC with discrete actions.
    """
    if algo not in (None, "ppo", "sac"):
        raise ValueError(f"algo: expected 'ppo' or 'sac', got {algo!r}")
    if algo == "sac" and task.action.kind == "discrete":
        raise ValueError(
            f"{task.id}: 'sac' needs continuous actions, and this task has "
            f"{task.action.size} discrete ones; use 'ppo'"
        )
    name = task.id.removeprefix("guerdon/")
    if algo == "sac":
        return _SAC.get(name, _sac("default"))
    if task.family == "minigrid":
        return MEMORY if name.startswith("Memory") else MINIGRID
    if name in _PPO:
        return _PPO[name]
    return replace(_DEFAULT_PPO, deterministic=task.action.kind == "continuous")

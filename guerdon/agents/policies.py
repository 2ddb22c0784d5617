"""Trained policies on disk: weights as safetensors, everything else as JSON in it."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from safetensors import SafetensorError, safe_open
from safetensors.torch import load
from stable_baselines3.common.policies import ActorCriticPolicy, BasePolicy
from stable_baselines3.common.vec_env import VecNormalize
from stable_baselines3.sac.policies import SACPolicy
from torch import nn

from guerdon.agents.encoders import OneHotGrid
from guerdon.agents.environments import make_env
from guerdon.agents.policy_files import (
    FORMAT,
    ROW_FORMAT,
    Normalizer,
    file_bytes,
    in_words,
)
from guerdon.agents.recipes import Recipe
from guerdon.agents.row_files import filled_policy
from guerdon.agents.row_policy import RowPolicy
from guerdon.agents.training import TrainingJob
from guerdon.envs.table import TASKS
from guerdon.envs.task import Task
from guerdon.faults import whole_file

_MAX_HEADER = 1 << 20
"""Bytes that the header of a policy's file may take."""

_MAX_FILE = 1 << 28
"""Bytes of the largest file of a policy that is read; ours have some hundred thousand.
"""

_OF_SB3 = {"epsilon": 1e-8, "limit": 10.0}
"""What ``VecNormalize`` adds to a variance, and where it cuts observations off."""

_ALIAS = "features_extractor."
"""SB3 registers an extractor of its own per head a second time under this name."""


@dataclass(frozen=True, slots=True)
class TorchPolicy:
    """A network of SB3 that draws its actions from the generator it is given."""

    network: BasePolicy
    normalizer: Normalizer | None = None

    def predict(
        self, observations: np.ndarray, *, deterministic: bool, rng: np.random.Generator
    ) -> np.ndarray:
        """``(N, *shape)`` observations to ``(N,)`` or ``(N, A)`` actions."""
        if self.normalizer is not None:
            observations = self.normalizer(observations)
        if deterministic:
            return self._act(observations, deterministic=True)
        # SB3 draws from torch's global generator; borrow it and give it back.
        with torch.random.fork_rng(devices=[]):
            # torch.manual_seed would also queue a call for CUDA, each time anew.
            torch.default_generator.manual_seed(int(rng.integers(2**63)))
            if getattr(_acting_part(self.network), "use_sde", False):
                self.network.reset_noise(len(observations))  # type: ignore[operator]
            return self._act(observations, deterministic=False)

    def _act(self, observations: np.ndarray, deterministic: bool) -> np.ndarray:
        actions, _ = self.network.predict(observations, deterministic=deterministic)
        return np.asarray(actions)


def policy_arguments(recipe: Recipe) -> dict[str, Any]:
    """Keywords of SB3's policy classes for a recipe."""
    arguments: dict[str, Any] = {
        "net_arch": list(recipe.net_arch),
        "activation_fn": {"tanh": nn.Tanh, "relu": nn.ReLU}[recipe.activation],
    }
    if recipe.log_std_init is not None:
        arguments["log_std_init"] = recipe.log_std_init
    if recipe.algo == "ppo":
        arguments["ortho_init"] = recipe.ortho_init
    if recipe.one_hot:
        # One layer per head reads the grid; the remaining widths follow it.
        arguments |= {
            "net_arch": list(recipe.net_arch[1:]),
            "features_extractor_class": OneHotGrid,
            "features_extractor_kwargs": {"features_dim": recipe.net_arch[0]},
            "share_features_extractor": False,
            "normalize_images": False,
        }
    return arguments


def frozen_policy(network: BasePolicy, venv: VecNormalize | None) -> TorchPolicy:
    """A trained network with the observation statistics that it was trained with."""
    network.set_training_mode(False)
    if venv is None or not venv.norm_obs:
        return TorchPolicy(network)
    rms: Any = venv.obs_rms
    normalizer = Normalizer(
        np.array(rms.mean), np.array(rms.var), venv.epsilon, venv.clip_obs
    )
    return TorchPolicy(network, normalizer)


def _acting_part(network: BasePolicy) -> nn.Module:
    """What chooses actions: the actor of SAC, all of PPO's network."""
    return network.actor if isinstance(network, SACPolicy) else network


def save_policy(
    path: Path, policy: TorchPolicy, job: TrainingJob, recipe: Recipe
) -> None:
    """Write a policy, complete or not at all.

    Args:
        path: the file; its folder exists.
        policy: network and observation statistics.
        job: the training that made it.
        recipe: the hyper-parameters that the network was built from.

    Raises:
        OSError: when it cannot be written.
    """
    # The library writes files too, but reports a full disk in words of its own.
    data = policy_bytes(policy, job, recipe)
    with whole_file(path) as partial:
        partial.write_bytes(data)


def policy_bytes(policy: TorchPolicy, job: TrainingJob, recipe: Recipe) -> bytes:
    """A policy in the format of its file; see ``save_policy``."""
    weights = _acting_part(policy.network).state_dict()
    apart = any(name.startswith(f"pi_{_ALIAS}") for name in weights)
    tensors = {
        f"network.{name}": value
        for name, value in weights.items()
        if not (apart and name.startswith(_ALIAS))
    }
    network = policy.network
    told = in_words(network.observation_space, network.action_space)
    return file_bytes(FORMAT, tensors, policy.normalizer, job, recipe, told)


def claimed_policy(data: bytes, task: Task, recipe: Recipe) -> TorchPolicy:
    """A policy from bytes that nobody vouches for; nothing they say is believed.

    The network is the recipe's own, and the bytes may only fill in its numbers.

    Args:
        data: safetensors, as ``policy_bytes`` gives them; their header is ignored.
        task: gives the shapes of the network.
        recipe: gives its layers.

    Raises:
        ValueError: for anything but finite numbers of the right shapes and names.
    """
    network = _network(task, recipe)
    own = _acting_part(network).state_dict()
    expected = {f"network.{name}": value for name, value in own.items()}
    if recipe.normalize_observation:
        shape = network.observation_space.shape or ()
        statistics = torch.zeros(shape, dtype=torch.float64)
        expected |= {f"normalizer.{name}": statistics for name in ("mean", "var")}
    most = sum(value.nbytes for value in expected.values()) + _MAX_HEADER
    if len(data) > most:
        raise ValueError(f"weights: expected at most {most} bytes, got {len(data)}")
    try:
        tensors = load(data)
    except SafetensorError as error:
        raise ValueError(f"weights: no safetensors ({error})") from None
    for name, value in tensors.items():
        wanted = expected.get(name)
        if wanted is None or (value.shape, value.dtype) != (wanted.shape, wanted.dtype):
            raise ValueError(f"weights: unexpected tensor {name[:80]!r}")
        if not torch.isfinite(value).all():
            raise ValueError(f"weights: {name[:80]!r} is not finite")
    _load_weights(Path("weights"), network, tensors, task.id)
    network.set_training_mode(False)
    if not recipe.normalize_observation:
        return TorchPolicy(network)
    if any(name not in tensors for name in ("normalizer.mean", "normalizer.var")):
        raise ValueError("weights: the observation statistics are missing")
    mean, var = (tensors[f"normalizer.{name}"].numpy() for name in ("mean", "var"))
    if (var < 0).any():
        raise ValueError("weights: a variance is negative")
    return TorchPolicy(network, Normalizer(mean, var, **_OF_SB3))


def load_policy(path: Path, task: Task | None = None) -> TorchPolicy | RowPolicy:
    """Read what ``save_policy`` or ``save_row_policy`` wrote, or anybody else.

    Args:
        path: the file.
        task: gives the shapes of the network; None for the registered task that the
            file names. Its own ``module:object`` is never imported.

    Raises:
        ValueError: for a file of another format, or weights that do not fit the task;
            says which observations and actions they were trained for.
    """
    if path.exists() and not (path.is_file() and path.stat().st_size <= _MAX_FILE):
        raise ValueError(f"{path.name}: expected a file of at most {_MAX_FILE} bytes")
    try:
        with safe_open(path, framework="pt") as file:
            text = (file.metadata() or {}).get("guerdon", "{}")
            names = file.keys()
            tensors = {name: file.get_tensor(name) for name in names}
    except SafetensorError as error:
        raise ValueError(
            f"{path}: expected weights of guerdon train (.safetensors): {error}"
        ) from None
    header = _header(path, text)
    try:
        recipe = _recipe(header["recipe"])
        trained = str(header["job"]["task"])
        scale = _normalizer(header["normalizer"], tensors)
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise ValueError(
            f"{path.name}: expected a policy of format {header['format']!r}, got one "
            f"that cannot be read ({type(error).__name__}: {error})"
        ) from None
    if task is None:
        task = TASKS.get(trained.removeprefix("guerdon:"))
    if task is None:
        raise ValueError(
            f"{path.name}: its task {trained!r} is not registered; name the task that "
            "it is for"
        )
    seen, done = spaces_of(task)
    _require_same_spaces(path, header, task, in_words(seen, done))
    _require_numbers(path, tensors, scale, seen)
    numbers = sum(value.numel() for value in tensors.values())
    try:
        if header["format"] == ROW_FORMAT:
            moments = None if scale is None else (scale.mean, scale.var)
            return filled_policy(task, _box(seen), recipe, tensors, moments)
        network = _network(task, recipe, numbers)
    except (ValueError, TypeError, KeyError, AssertionError) as error:
        raise ValueError(f"{path.name}: weights do not fit: {error}") from None
    _load_weights(path, network, tensors, f"{trained}, and this is {task.id}")
    network.set_training_mode(False)
    return TorchPolicy(network, scale)


def _header(path: Path, text: str) -> dict[str, Any]:
    """What a file says about its policy, if it is of our format."""
    try:
        header = json.loads(text)
    except (ValueError, RecursionError):
        header = None
    found = header.get("format") if isinstance(header, dict) else None
    if not isinstance(header, dict) or found not in (FORMAT, ROW_FORMAT):
        raise ValueError(
            f"{path.name}: expected a policy of format {FORMAT!r} or {ROW_FORMAT!r}, "
            f"got {found!r}"
        )
    return header


def _recipe(values: Mapping[str, Any]) -> Recipe:
    """A recipe from a file, with layers that are layers."""
    widths = tuple(values["net_arch"])
    if not all(type(width) is int and width > 0 for width in widths):
        raise ValueError(f"layers of {widths[:8]} numbers")
    recipe = Recipe(**{**values, "net_arch": widths})
    if recipe.algo not in ("ppo", "sac") or (recipe.one_hot and not widths):
        raise ValueError(f"algorithm {recipe.algo!r} with {len(widths)} layers")
    return recipe


def _normalizer(
    values: Mapping[str, Any] | None, tensors: Mapping[str, torch.Tensor]
) -> Normalizer | None:
    if values is None:
        return None
    mean, var = (tensors[f"normalizer.{name}"].numpy() for name in ("mean", "var"))
    return Normalizer(mean, var, float(values["epsilon"]), float(values["limit"]))


def _require_numbers(
    path: Path,
    tensors: Mapping[str, torch.Tensor],
    scale: Normalizer | None,
    seen: spaces.Space[Any],
) -> None:
    """Refuse weights and statistics that give no action."""
    for name, value in tensors.items():
        if not value.is_floating_point() or not torch.isfinite(value).all():
            raise ValueError(f"{path.name}: {name[:80]!r} is not finite numbers")
    if scale and not (
        scale.mean.shape == scale.var.shape == seen.shape
        and (scale.var >= 0).all()
        and 0 < scale.epsilon < math.inf
        and 0 < scale.limit < math.inf
    ):
        raise ValueError(f"{path.name}: observation statistics that cannot be")


def _network(task: Task, recipe: Recipe, numbers: int | None = None) -> BasePolicy:
    """The network of a recipe, if it needs no more ``numbers`` than there are."""
    env = make_env(task)
    try:
        sizes = (math.prod(env.observation_space.shape or (1,)), *recipe.net_arch)
        least = sum(a * b for a, b in pairwise(sizes))
        if numbers is not None and least > numbers:
            raise ValueError(
                f"layers of {recipe.net_arch} take at least {least} numbers, and there "
                f"are {numbers}"
            )
        cls = ActorCriticPolicy if recipe.algo == "ppo" else SACPolicy
        return cls(
            env.observation_space,
            env.action_space,  # type: ignore[arg-type]
            lambda _: recipe.learning_rate,
            use_sde=recipe.use_sde,
            **policy_arguments(recipe),
        )
    finally:
        env.close()  # type: ignore[no-untyped-call]


def spaces_of(task: Task) -> tuple[spaces.Space[Any], spaces.Space[Any]]:
    """What a task's agent sees and does."""
    env = make_env(task)
    env.close()  # type: ignore[no-untyped-call]
    return env.observation_space, env.action_space


def _box(space: spaces.Space[Any]) -> spaces.Box:
    if not isinstance(space, spaces.Box):
        raise ValueError(f"expected a Box to observe, got {space}")
    return space


def _require_same_spaces(
    path: Path, header: dict[str, Any], task: Task, asked: list[str]
) -> None:
    """Refuse a network that sees or does something else than a task's agent."""
    trained = header.get("spaces")
    if trained is not None and not isinstance(trained, list):
        raise ValueError(
            f"{path.name}: spaces: expected a list of texts, got {str(trained)[:80]!r}"
        )
    if trained is not None and trained != asked:
        raise ValueError(
            f"{path.name}: weights do not fit: they were trained on "
            f"{header['job']['task']} for {' and '.join(map(str, trained))}; "
            f"{task.id} has {' and '.join(asked)}"
        )


def _load_weights(
    path: Path, network: BasePolicy, tensors: dict[str, torch.Tensor], tasks: str
) -> None:
    weights = {
        name.removeprefix("network."): value
        for name, value in tensors.items()
        if name.startswith("network.")
    }
    try:
        missing, unexpected = _acting_part(network).load_state_dict(
            weights, strict=False
        )
    except RuntimeError as error:
        raise ValueError(
            f"{path.name}: weights do not fit: they are of {tasks}: {error}"
        ) from error
    missing = [name for name in missing if not name.startswith(_ALIAS)]
    if missing or unexpected:
        raise ValueError(
            f"{path.name}: weights do not fit: they are of {tasks}: missing {missing}, "
            f"unknown {unexpected}"
        )

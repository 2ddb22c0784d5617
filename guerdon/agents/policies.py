"""Trained policies on disk: weights as safetensors, everything else as JSON in it."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from stable_baselines3.common.policies import ActorCriticPolicy, BasePolicy
from stable_baselines3.common.vec_env import VecNormalize
from stable_baselines3.sac.policies import SACPolicy
from torch import nn

from guerdon.agents.encoders import OneHotGrid
from guerdon.agents.environments import make_env
from guerdon.agents.recipes import Recipe
from guerdon.agents.training import TrainingJob
from guerdon.envs.table import load_task
from guerdon.envs.task import Task

FORMAT = "guerdon-policy-1"
"""Name of the file format; the number grows when its reading changes."""

_ALIAS = "features_extractor."
"""SB3 registers an extractor of its own per head a second time under this name."""


@dataclass(frozen=True, slots=True)
class Normalizer:
    """Running statistics of observations, frozen.

    ``clip((x - mean) / sqrt(var + epsilon), -limit, limit)``
    """

    mean: np.ndarray
    var: np.ndarray
    epsilon: float
    limit: float

    def __call__(self, observations: np.ndarray) -> np.ndarray:
        """``(N, *shape)`` observations as the network was trained on them."""
        scaled = (observations - self.mean) / np.sqrt(self.var + self.epsilon)
        clipped: np.ndarray = np.clip(scaled, -self.limit, self.limit)
        return clipped.astype(np.float32)


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
    """
    weights = _acting_part(policy.network).state_dict()
    apart = any(name.startswith(f"pi_{_ALIAS}") for name in weights)
    tensors = {
        f"network.{name}": value.contiguous().clone()
        for name, value in weights.items()
        if not (apart and name.startswith(_ALIAS))
    }
    header: dict[str, Any] = {
        "format": FORMAT,
        "job": json.loads(job.to_json()),
        "recipe": asdict(recipe),
        "normalizer": None,
    }
    if policy.normalizer is not None:
        tensors["normalizer.mean"] = torch.from_numpy(policy.normalizer.mean)
        tensors["normalizer.var"] = torch.from_numpy(policy.normalizer.var)
        header["normalizer"] = {
            "epsilon": policy.normalizer.epsilon,
            "limit": policy.normalizer.limit,
        }
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    save_file(tensors, partial, metadata={"guerdon": json.dumps(header)})
    os.replace(partial, path)


def load_policy(path: Path, task: Task | None = None) -> TorchPolicy:
    """Read what ``save_policy`` wrote.

    Args:
        path: the file.
        task: gives the shapes of the network; None for the task of the policy's job.

    Raises:
        ValueError: for a file of another format, or weights that do not fit the task.
    """
    with safe_open(path, framework="pt") as file:
        header = json.loads((file.metadata() or {}).get("guerdon", "{}"))
        if header.get("format") != FORMAT:
            raise ValueError(
                f"{path.name}: expected a policy of format {FORMAT!r}, got "
                f"{header.get('format')!r}"
            )
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    recipe = Recipe(
        **header["recipe"] | {"net_arch": tuple(header["recipe"]["net_arch"])}
    )
    network = _network(task or load_task(header["job"]["task"]), recipe)
    _load_weights(path, network, tensors)
    network.set_training_mode(False)
    if header["normalizer"] is None:
        return TorchPolicy(network)
    mean, var = (tensors[f"normalizer.{name}"].numpy() for name in ("mean", "var"))
    return TorchPolicy(network, Normalizer(mean, var, **header["normalizer"]))


def _network(task: Task, recipe: Recipe) -> BasePolicy:
    env = make_env(task)
    try:
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


def _load_weights(
    path: Path, network: BasePolicy, tensors: dict[str, torch.Tensor]
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
        raise ValueError(f"{path.name}: weights do not fit: {error}") from error
    missing = [name for name in missing if not name.startswith(_ALIAS)]
    if missing or unexpected:
        raise ValueError(
            f"{path.name}: weights do not fit: missing {missing}, unknown {unexpected}"
        )

"""Populations on disk: tensors as safetensors, everything else as JSON in it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

from guerdon.agents.arrays import Resumable
from guerdon.agents.ppo import BlockReward, Population, PPOConfig, Row
from guerdon.agents.rollout import lane_seeds
from guerdon.envs.arrays import ArrayEnv
from guerdon.faults import whole_file
from guerdon.types import Failure

FORMAT = "guerdon-population-1"
"""Name of the file format; the number grows when its reading changes."""

_LAST = ("obs", "prev", "starts", "seen", "masks")
"""What a rollout carries over to the next block."""


def save_population(path: Path, population: Population) -> None:
    """Write a population, complete or not at all.

    What is loaded goes on bit by bit as this one does, on the same machine, if the env
    and the block rewards are ``Resumable``. Of another env, all episodes begin anew.

    Raises:
        OSError: when it cannot be written.
    """
    header = {
        "format": FORMAT,
        "config": asdict(population.config),
        "rows": [asdict(row) for row in population.rows],
        "adam_steps": population.adam.steps.tolist(),
        "resumable": isinstance(population.env, Resumable),
    }
    tensors = {
        name: value.detach().cpu().contiguous().clone()
        for name, value in _tensors(population)
    }
    tensors |= {
        f"{whose}.{name}": torch.from_numpy(np.ascontiguousarray(values))
        for whose, part in _parts(population)
        if isinstance(part, Resumable)
        for name, values in part.state().items()
    }
    data = save(tensors, metadata={"guerdon": json.dumps(header)})
    with whole_file(path) as partial:
        partial.write_bytes(data)


def load_population(
    path: Path,
    env: ArrayEnv,
    *,
    rewards: BlockReward | None = None,
    bonus: BlockReward | None = None,
    **changes: Any,
) -> Population:
    """Read what ``save_population`` wrote.

    Args:
        path: the file.
        env: like the one of the population that was saved.
        rewards: like the saved ones.
        bonus: the same.
        changes: fields of the configuration that are to be others, such as ``device``.

    Raises:
        ValueError: for a file of another format, or one that does not fit the env.
    """
    with safe_open(path, framework="pt") as file:
        header = _header(path, (file.metadata() or {}).get("guerdon", "{}"))
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    try:
        config = _config(header["config"] | changes)
        rows = [_row(values) for values in header["rows"]]
        seeds = [row.seed for row in rows]
        steps = np.array(header["adam_steps"], np.int64)
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{path.name}: expected a population of format {FORMAT!r}, got one that "
            f"cannot be read ({type(error).__name__}: {error})"
        ) from None
    population = Population(env, config, seeds, rewards=rewards, bonus=bonus)
    population.rows, population.adam.steps = rows, steps
    population.born = 1 + max(row.id for row in rows)
    population.log.table = tensors.pop("log.table").numpy()
    again = header["resumable"] and isinstance(env, Resumable)
    for name, value in _tensors(population):
        if name == "log.table" or (not again and name.startswith(("last.", "open."))):
            continue
        _fill(path, name, value, tensors)
    for whose, part in _parts(population):
        if isinstance(part, Resumable) and (whose != "env" or again):
            part.restore(_state_of(whose, tensors))
    if not again:
        for scale in population.reward_scales:
            scale.state["sum"].zero_()
        worlds = [lane_seeds(row.seed, config.envs, row.blocks) for row in rows]
        arrays = env.reset(np.concatenate(worlds))
        population.acting.take(arrays, slice(0, len(rows)))
    return population


def _tensors(population: Population) -> Iterator[tuple[str, Tensor]]:
    """Everything that a population remembers, under its name in the file."""
    adam, acting, log = population.adam, population.acting, population.log
    groups = {"weights": population.weights, "mean": adam.mean, "square": adam.square}
    for i, scale in enumerate(population.reward_scales):
        groups[f"reward_scale{i}"] = scale.state
    if acting.obs_scale is not None:
        groups["obs_scale"] = acting.obs_scale.state
    for group, values in groups.items():
        for name, value in values.items():
            yield f"{group}.{name}", value
    for name in _LAST:
        values = getattr(acting.rollout, name)
        if values is not None:
            yield f"last.{name}", torch.as_tensor(values[-1])
    if acting.memory is not None:
        yield "last.memory", acting.memory
    yield "open.length", torch.from_numpy(log.length)
    yield "open.proxy", torch.from_numpy(log.proxy)
    yield "log.table", torch.from_numpy(log.table)


def _parts(population: Population) -> Iterator[tuple[str, object]]:
    yield "env", population.env
    yield "rewards", population.rewards
    yield "bonus", population.bonus


def _state_of(whose: str, tensors: Mapping[str, Tensor]) -> dict[str, np.ndarray]:
    start = f"{whose}."
    return {
        name.removeprefix(start): value.numpy()
        for name, value in tensors.items()
        if name.startswith(start)
    }


def _fill(path: Path, name: str, value: Tensor, tensors: Mapping[str, Tensor]) -> None:
    found = tensors.get(name)
    if found is None or (found.shape, found.dtype) != (value.shape, value.dtype):
        got = "none" if found is None else f"{tuple(found.shape)} {found.dtype}"
        raise ValueError(
            f"{path.name}: does not fit: expected {name} of shape "
            f"{tuple(value.shape)} {value.dtype}, got {got}"
        )
    with torch.no_grad():
        value.copy_(found)


def _header(path: Path, text: str) -> dict[str, Any]:
    """What a file says about its population, if it is of our format."""
    try:
        header = json.loads(text)
    except (ValueError, RecursionError):
        header = None
    found = header.get("format") if isinstance(header, dict) else None
    if not isinstance(header, dict) or found != FORMAT:
        raise ValueError(
            f"{path.name}: expected a population of format {FORMAT!r}, got {found!r}"
        )
    return header


def _config(values: Mapping[str, Any]) -> PPOConfig:
    lists = {
        "hidden": tuple(values["hidden"]),
        "conv": tuple(tuple(layer) for layer in values["conv"]),
    }
    return PPOConfig(**{**values, **lists})


def _row(values: Mapping[str, Any]) -> Row:
    failure = values["failure"]
    return Row(**{**values, "failure": failure and Failure(**failure)})

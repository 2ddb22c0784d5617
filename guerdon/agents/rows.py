"""Rows of populations on disk, one file each, and populations put together of them.

What a row has learned and where its environments stand is all in its file, so that any
rows can go on together: those that a race has kept, or those that another machine has
trained so far.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from guerdon.agents.arrays import Resumable
from guerdon.agents.networks import Encoder
from guerdon.agents.ppo import BlockReward, Population, PPOConfig
from guerdon.agents.rollout import lane_seeds
from guerdon.checks import integer
from guerdon.envs.tensors import AnyEnv
from guerdon.faults import whole_file

FORMAT = "guerdon-row-2"
"""Name of the file format; the number grows when its reading changes."""

_MAX_FILE = 1 << 30
"""Bytes of the largest file that is read."""

_PER_LANE = ("last.", "open.", "env.", "rewards.", "bonus.")
"""Beginnings of the names of tensors with a row per environment."""

_OF_OTHERS = ("env", "rewards", "bonus")
"""Groups of tensors that an env and rewards look through themselves."""

_SEEN = ("last.obs", "last.seen")
"""What a network reads first."""


def save_rows(population: Population, paths: Mapping[int, Path]) -> None:
    """Write some rows, each complete or not at all.

    Args:
        population: whose.
        paths: a file for each row to write.

    Raises:
        OSError: when one cannot be written.
    """
    tensors = dict(_tensors(population))
    resumable = isinstance(population.env, Resumable)
    for r, path in paths.items():
        row = population.rows[r]
        header = {
            "format": FORMAT,
            "config": asdict(population.config),
            "seed": row.seed,
            "blocks": row.blocks,
            "adam_steps": int(population.adam.steps[r]),
            "resumable": resumable,
        }
        own = {
            name: _own(name, value, r, population) for name, value in tensors.items()
        }
        header["digest"] = _digest(header, own)
        data = save(own, metadata={"guerdon": json.dumps(header)})
        with whole_file(path) as partial:
            partial.write_bytes(data)


def load_rows(
    paths: Sequence[Path],
    env: AnyEnv,
    *,
    rewards: BlockReward | None = None,
    bonus: BlockReward | None = None,
    expected: tuple[PPOConfig, Sequence[int], int] | None = None,
    **changes: Any,
) -> Population:
    """A population of rows that were written apart or together.

    It goes on bit by bit as they would have, on the same machine, if the env is
    ``Resumable``. Of another env, all episodes begin anew.

    Args:
        paths: a file for each row.
        env: with the environments of all of them, row by row.
        rewards: like those of the rows, in the same order.
        bonus: the same.
        expected: configuration, seeds and environment steps that the rows must have;
            None for whatever the files say.
        changes: fields of the configuration that are to be others, such as ``device``.

    Raises:
        ValueError: for a damaged file or one of another format, rows that were
            configured differently, are not the expected ones or do not fit the env.
    """
    files = [_read(path) for path in paths]
    headers = [header for header, _ in files]
    if expected is not None:
        _require_expected(paths, headers, *expected)
    config = _config(paths[0], headers[0]["config"])
    for path, header in zip(paths, headers, strict=True):
        if header["config"] != headers[0]["config"]:
            raise ValueError(f"{path.name}: configured unlike {paths[0].name}")
    config = PPOConfig(**{**_fields(config), **changes})
    seeds = [header["seed"] for header in headers]
    population = Population(env, config, seeds, rewards=rewards, bonus=bonus)
    for row, header in zip(population.rows, headers, strict=True):
        row.blocks = header["blocks"]
    population.adam.steps[:] = [header["adam_steps"] for header in headers]
    again = isinstance(env, Resumable) and all(h["resumable"] for h in headers)
    tables = [tensors["log.table"].numpy() for _, tensors in files]
    population.log.table = np.concatenate(
        [
            _fitted(table, row.id, population.log.table)
            for table, row in zip(tables, population.rows, strict=True)
        ],
        axis=1,
    )
    parts = [tensors for _, tensors in files]
    _fill(paths, population, parts, again=again)
    if not again:
        _begin_anew(population)
    return population


def _fill(
    paths: Sequence[Path],
    population: Population,
    parts: Sequence[dict[str, Tensor]],
    *,
    again: bool,
) -> None:
    """Give the population what its rows remember."""
    envs = population.config.envs
    for name, value in _tensors(population):
        whose = name.partition(".")[0]
        if name == "log.table" or whose in _OF_OTHERS:
            continue
        if not again and name.startswith(_PER_LANE):
            continue
        rows = value.view(len(parts), envs, *value.shape[1:]) if _lanes(name) else value
        for r, (path, tensors) in enumerate(zip(paths, parts, strict=True)):
            found = tensors.get(name)
            own = rows[r] if _lanes(name) else rows[r : r + 1]
            if name == "open.sums" and found is not None and found.ndim == own.ndim:
                # Rows beside it may have more terms, or have had more.
                width = min(found.shape[1], own.shape[1])
                own.zero_()
                found, own = found[:, :width], own[:, :width]
            if found is None or (found.shape, found.dtype) != (own.shape, own.dtype):
                got = "none" if found is None else f"{tuple(found.shape)} {found.dtype}"
                raise ValueError(
                    f"{path.name}: does not fit: expected {name} of shape "
                    f"{tuple(own.shape)} {own.dtype}, got {got}"
                )
            if name in _SEEN and found.dtype == torch.uint8:
                _require_codes(path, name, found, population)
            with torch.no_grad():
                own.copy_(found)
    for whose, part in _parts(population):
        if isinstance(part, Resumable) and (again or whose != "env"):
            try:
                part.set_lanes(_joined(whose, parts))
            except (ValueError, TypeError, KeyError) as error:
                names = ", ".join(path.name for path in paths)
                raise ValueError(f"{names}: {whose} does not fit: {error}") from None


def _require_codes(
    path: Path, name: str, codes: Tensor, population: Population
) -> None:
    """Refuse codes beyond those that a one-hot layer has weights for."""
    if bool((codes.numpy() > population.env.observation_space.high).any()):
        raise ValueError(f"{path.name}: {name} has codes that the env does not")


def _begin_anew(population: Population) -> None:
    config = population.config
    for scale in population.reward_scales:
        scale.state["sum"].zero_()
    for block in (population.rewards, population.bonus):
        for r in range(len(population.rows)):
            if block is not None:
                block.restart(r)
    worlds = [lane_seeds(row.seed, config.envs, row.blocks) for row in population.rows]
    arrays = population.env.reset(np.concatenate(worlds))
    population.acting.take(arrays, slice(0, len(worlds)))


def _lanes(name: str) -> bool:
    """Whether a tensor has a row per environment, and not one per row."""
    return name.startswith(_PER_LANE) and name != "last.memory"


def _own(name: str, value: Tensor, r: int, population: Population) -> Tensor:
    """What belongs to one row."""
    if name == "log.table":
        return value[:, value[0] == population.rows[r].id].contiguous()
    envs = population.config.envs
    part = value[r * envs : (r + 1) * envs] if _lanes(name) else value[r : r + 1]
    return part.detach().cpu().contiguous().clone()


def _fitted(table: np.ndarray, identity: int, like: np.ndarray) -> np.ndarray:
    """A row's episodes under the identity and with the columns that it has now."""
    fitted = np.zeros((len(like), table.shape[1]))
    width = min(len(table), len(like))
    fitted[:width] = table[:width]
    fitted[0] = identity
    return fitted


def _joined(whose: str, parts: Sequence[Mapping[str, Tensor]]) -> dict[str, np.ndarray]:
    """Arrays of all rows, one after the other; narrow ones are filled up with 0.

    A row that was paid by fewer programs than those beside it now has 0 for the rest,
    which is not looked at.
    """
    start = f"{whose}."
    names = dict.fromkeys(n for part in parts for n in part if n.startswith(start))
    found = {}
    for name in names:
        like = next(part[name] for part in parts if name in part)
        lanes = len(parts[0]["open.length"])
        none = torch.zeros((lanes, *like.shape[1:]), dtype=like.dtype)
        if whose != "rewards" and any(name not in part for part in parts):
            raise ValueError(f"{name} is missing in one of them")
        arrays = [part.get(name, none).numpy() for part in parts]
        if any(a.ndim != like.ndim or a.dtype != arrays[0].dtype for a in arrays):
            raise ValueError(f"{name} is of several kinds")
        if any(len(array) != lanes for array in arrays):
            raise ValueError(f"{name} is not of {lanes} environments")
        if arrays[0].ndim == 2:
            width = max(array.shape[1] for array in arrays)
            arrays = [
                np.pad(array, ((0, 0), (0, width - array.shape[1]))) for array in arrays
            ]
        found[name.removeprefix(start)] = np.concatenate(arrays)
    return found


def _tensors(population: Population) -> Iterator[tuple[str, Tensor]]:
    """Everything that a population remembers, under its name in the files."""
    adam, acting, log = population.adam, population.acting, population.log
    groups = {"weights": population.weights, "mean": adam.mean, "square": adam.square}
    for i, scale in enumerate(population.reward_scales):
        groups[f"reward_scale{i}"] = scale.state
    if acting.obs_scale is not None:
        groups["obs_scale"] = acting.obs_scale.state
    for group, values in groups.items():
        for name, value in values.items():
            yield f"{group}.{name}", value
    for name, tensor in acting.rollout.carried.items():
        yield f"last.{name}", tensor[-1]
    if acting.memory is not None:
        yield "last.memory", acting.memory
    yield "open.length", torch.from_numpy(log.length)
    yield "open.sums", torch.from_numpy(log.sums)
    yield "log.table", torch.from_numpy(log.table)
    for whose, part in _parts(population):
        if isinstance(part, Resumable):
            for name, array in part.get_lanes().items():
                yield f"{whose}.{name}", torch.from_numpy(np.ascontiguousarray(array))


def _parts(population: Population) -> Iterator[tuple[str, object]]:
    yield "env", population.env
    yield "rewards", population.rewards
    yield "bonus", population.bonus


def _digest(header: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> str:
    """Of all that a file says: a bit that has tipped over is a number like others."""
    told = {name: value for name, value in header.items() if name != "digest"}
    found = hashlib.blake2b(json.dumps(told, sort_keys=True).encode(), digest_size=16)
    for name in sorted(tensors):
        array = tensors[name].numpy()
        found.update(f"{name} {array.dtype} {array.shape}".encode())
        found.update(array.tobytes())
    return found.hexdigest()


def _read(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Header and tensors of a file, which may be anybody's."""
    try:
        if not path.is_file():
            raise ValueError("no regular file")
        if path.stat().st_size > _MAX_FILE:
            raise ValueError(f"more than {_MAX_FILE} bytes")
        with safe_open(path, framework="pt") as file:
            text = (file.metadata() or {}).get("guerdon", "{}")
            header = json.loads(text)
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        if not isinstance(header, dict) or header.get("format") != FORMAT:
            raise ValueError("another format")
        for name in ("seed", "blocks", "adam_steps"):
            integer(name, header[name])
        if not isinstance(header["config"], dict):
            raise ValueError("a configuration that is none")
        if not isinstance(header["resumable"], bool):
            raise ValueError("an environment that may or may not go on")
        for name, value in tensors.items():
            _require_sound(name, value)
        if tensors["log.table"].dim() != 2 or tensors["open.length"].dim() != 1:
            raise ValueError("episodes that are none")
        if header["digest"] != _digest(header, tensors):
            raise ValueError("one that is damaged")
    except (SafetensorError, ValueError, TypeError, KeyError, RecursionError) as error:
        raise ValueError(
            f"{path.name}: expected a row of format {FORMAT!r}, got {error}"
        ) from None
    return header, tensors


def _require_sound(name: str, value: Tensor) -> None:
    """Refuse numbers that nobody can have learned."""
    if value.dtype not in _KINDS:
        raise ValueError(f"{name} of {value.dtype}")
    if name.partition(".")[0] in _OF_OTHERS:
        return
    if not torch.isfinite(value).all():
        raise ValueError(f"{name} that is not finite")
    square = name.startswith("square.") or name.endswith((".var", ".count"))
    if square and (value < 0).any():
        raise ValueError(f"{name} that is negative")


_KINDS = {
    *(torch.float32, torch.float64, torch.bool, torch.uint8),
    *(torch.int8, torch.int16, torch.int32, torch.int64),
    *(torch.uint16, torch.uint32, torch.uint64),
}
"""What NumPy knows too."""


def _require_expected(
    paths: Sequence[Path],
    headers: Sequence[Mapping[str, Any]],
    config: PPOConfig,
    seeds: Sequence[int],
    steps: int,
) -> None:
    """Refuse rows that are sound and not the ones that are meant."""
    own = json.loads(json.dumps(asdict(config)))
    for path, header, seed in zip(paths, headers, seeds, strict=True):
        if header["config"] != own:
            raise ValueError(f"{path.name}: configured in another way")
        if header["seed"] != seed:
            raise ValueError(
                f"{path.name}: expected the seed {seed}, got {header['seed']}"
            )
        if header["blocks"] * config.block != steps:
            raise ValueError(
                f"{path.name}: expected {steps} steps, got "
                f"{header['blocks'] * config.block}"
            )


def _config(path: Path, values: Mapping[str, Any]) -> PPOConfig:
    try:
        lists = {
            "hidden": tuple(values["hidden"]),
            "conv": tuple(tuple(layer) for layer in values["conv"]),
        }
        sizes = [*lists["hidden"], *(n for layer in lists["conv"] for n in layer)]
        for size in (*sizes, values["memory"] + 1):
            integer("layer", size, 1)
        known = values["encoder"] in get_args(Encoder)
        if not known or values["activation"] not in ("tanh", "relu"):
            raise ValueError("layers of an unknown kind")
        return PPOConfig(**{**values, **lists})
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{path.name}: a configuration that is none ({error})"
        ) from None


def _fields(config: PPOConfig) -> dict[str, Any]:
    return {name: getattr(config, name) for name in config.__dataclass_fields__}

"""Finds the features of an environment that declares none.

The observation space gives names and bounds, ``info`` gives further numbers, and
seeded random play says which range each of them really took.
"""

from __future__ import annotations

import keyword
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import gymnasium as gym
import numpy as np

from guerdon.envs.task import Reader
from guerdon.types import MAX_NAME, Feature, Layout

NAMED = 8
"""Largest Box whose components become features of their own."""

WIDEST = 256
"""Largest part of an observation that becomes a feature; pictures are larger."""

Path = tuple[Any, ...]
"""Keys and positions that lead from an observation to one of its parts."""


def introspect(env: gym.Env[Any, Any], steps: int, seed: int) -> tuple[Layout, Reader]:
    """Features of an environment, and the function that reads them.

    Args:
        env: any environment; it is reset and played.
        steps: of random play.
        seed: of environment and actions.

    Raises:
        ValueError: when there is nothing that a feature could be made of.
    """
    paths: list[Path] = []
    features: list[Feature] = []
    for path, name, space in _leaves(env.observation_space, (), ""):
        found = _features_of(name, space)
        if found:
            paths.append(path)
            features += found
    rows, columns = _play(env, tuple(paths), steps, seed)
    width = sum(feature.size for feature in features)
    features += [_column_feature(key, values) for key, values in columns.items()]
    if not features:
        raise ValueError(
            f"{env}: no features found in {env.observation_space} or info (parts with "
            f"more than {WIDEST} numbers are left out); give features= and read="
        )
    seen = np.concatenate(
        [
            np.array(rows, dtype=np.float64).reshape(len(rows), width),
            np.array(list(columns.values()), dtype=np.float64).reshape(-1, len(rows)).T,
        ],
        axis=1,
    )
    layout = Layout(_with_ranges(_unique(features), seen))
    return layout, partial(read_parts, tuple(paths), tuple(columns))


def read_parts(
    paths: tuple[Path, ...],
    keys: tuple[str, ...],
    env: Any,
    obs: Any,
    info: Mapping[str, Any],
) -> np.ndarray:
    """One feature row: parts of the observation, then columns of ``info``.

    A column that an ``info`` lacks reads as 0.
    """
    parts = []
    for path in paths:
        part = obs
        for key in path:
            part = part[key]
        parts.append(np.ravel(part))
    if keys:
        parts.append(np.array([float(info.get(key, 0.0)) for key in keys]))
    return np.concatenate(parts).astype(np.float32)


def _leaves(
    space: gym.Space[Any], path: Path, name: str
) -> Iterator[tuple[Path, str, gym.Space[Any]]]:
    """Parts of a nested space with their paths and names."""
    parts: list[tuple[Any, gym.Space[Any]]]
    if isinstance(space, gym.spaces.Dict):
        parts = list(space.spaces.items())
    elif isinstance(space, gym.spaces.Tuple):
        parts = list(enumerate(space.spaces))
    else:
        yield path, name or "obs", space
        return
    for key, part in parts:
        own = key if isinstance(key, str) else f"part_{key}"
        yield from _leaves(part, (*path, key), f"{name}_{own}" if name else own)


def _features_of(name: str, space: gym.Space[Any]) -> list[Feature]:
    """Features of one part of an observation; none for what is not numbers."""
    if isinstance(space, gym.spaces.Discrete):
        low, high = float(space.start), float(space.start + space.n - 1)
        return [_feature(name, f"{name} of the observation", low, high)]
    if isinstance(space, gym.spaces.Box):
        low_bounds, high_bounds = np.ravel(space.low), np.ravel(space.high)
    elif isinstance(space, gym.spaces.MultiDiscrete):
        low_bounds = np.ravel(space.start)
        high_bounds = low_bounds + np.ravel(space.nvec) - 1
    elif isinstance(space, gym.spaces.MultiBinary):
        high_bounds = np.ones(int(np.prod(space.shape)))
        low_bounds = np.zeros_like(high_bounds)
    else:
        return []
    size = low_bounds.size
    if not 1 <= size <= WIDEST:
        return []
    if size > NAMED:
        low, high = _bound(low_bounds.min()), _bound(high_bounds.max())
        meaning = f"{name}, {size} numbers of the observation"
        return [_feature(name, meaning, low, high, (size,))]
    return [
        _feature(
            name if size == 1 else f"{name}_{index}",
            f"component {index} of {name}"
            if size > 1
            else f"{name} of the observation",
            _bound(low),
            _bound(high),
        )
        for index, (low, high) in enumerate(zip(low_bounds, high_bounds, strict=True))
    ]


def _feature(
    name: str, meaning: str, low: float, high: float, shape: tuple[int, ...] = ()
) -> Feature:
    return Feature(_identifier(name), meaning, shape=shape, low=low, high=high)


def _bound(value: Any) -> float:
    """A bound as a float; the largest float32 stands for no bound at all."""
    number = float(value)
    if abs(number) < 1e30:
        return number
    return float("inf") if number > 0 else float("-inf")


def _identifier(name: str) -> str:
    """The nearest name that a reward program can write."""
    plain = re.sub(r"\W+", "_", name, flags=re.ASCII).strip("_")[: MAX_NAME - 2]
    if not plain or not plain[0].isalpha():
        plain = f"f_{plain}"
    return f"{plain}_" if keyword.iskeyword(plain) else plain


def _unique(features: list[Feature]) -> list[Feature]:
    """The same features with a number added to repeated names."""
    taken: set[str] = set()
    unique = []
    for feature in features:
        name, number = feature.name, 2
        while name in taken:
            tail = f"_{number}"
            name, number = feature.name[: MAX_NAME - len(tail)] + tail, number + 1
        taken.add(name)
        unique.append(replace(feature, name=name))
    return unique


def _is_column(key: Any, value: Any) -> bool:
    """Whether an entry of ``info`` is one finite number or flag."""
    if not isinstance(key, str) or key == "TimeLimit.truncated":
        return False
    if not isinstance(value, bool | int | float | np.number | np.bool_):
        return False
    return not isinstance(value, np.complexfloating) and bool(np.isfinite(value))


def _play(
    env: gym.Env[Any, Any], paths: tuple[Path, ...], steps: int, seed: int
) -> tuple[list[np.ndarray], dict[str, list[float | bool]]]:
    """Rows of observation parts and columns of ``info`` in random play."""
    env.action_space.seed(seed)
    obs, info = env.reset(seed=seed)
    observed: list[np.ndarray] = []
    infos: list[Mapping[str, Any]] = []

    def look() -> None:
        observed.append(read_parts(paths, (), env, obs, info) if paths else np.empty(0))
        infos.append(dict(info))

    for _ in range(steps):
        look()
        obs, _, terminated, truncated, info = env.step(env.action_space.sample())
        if terminated or truncated:
            look()  # how an episode ended is often said by its last info alone
            obs, info = env.reset()
    keys = dict.fromkeys(
        key for info in infos for key, value in info.items() if _is_column(key, value)
    )
    columns: dict[str, list[float | bool]] = {}
    for key in keys:
        values = [info[key] for info in infos if key in info]
        # A key that sometimes holds something else could not be read at every step.
        if all(_is_column(key, value) for value in values):
            columns[key] = [info.get(key, type(values[0])(0)) for info in infos]
    return observed, columns


def _column_feature(key: str, values: list[float | bool]) -> Feature:
    """The feature of one column of ``info``; all booleans make a flag."""
    if all(isinstance(value, bool | np.bool_) for value in values):
        meaning = f"info[{key!r}]"
        return Feature(_identifier(key), meaning, "flag", low=0.0, high=1.0)
    return Feature(_identifier(key), f"info[{key!r}]")


def _with_ranges(features: list[Feature], seen: np.ndarray) -> list[Feature]:
    """The features with the range of random play, ``seen`` (rows, W), in words.

    A range that was seen is no bound: ``low`` and ``high`` stay the space's own.
    """
    made, start = [], 0
    for feature in features:
        values = seen[:, start : start + feature.size]
        start += feature.size
        values = values[np.isfinite(values)]
        if feature.kind == "number" and values.size:
            span = f"{values.min():.4g} to {values.max():.4g}"
            meaning = f"{feature.meaning}; random play saw {span}"
            feature = replace(feature, meaning=meaning)
        made.append(feature)
    return made

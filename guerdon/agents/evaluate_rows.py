"""The trusted evaluation of a whole population: fresh arrays, no reward code."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from guerdon.agents.environments import NonFinite
from guerdon.agents.evaluate import Evaluation
from guerdon.agents.networks import Architecture, Weights, forward
from guerdon.agents.normalize import EPSILON, LIMIT
from guerdon.checks import integer
from guerdon.envs.arrays import ArrayEnv, Arrays
from guerdon.envs.task import Task
from guerdon.types import Episode

MakeArrays = Callable[[Task, int], ArrayEnv]
"""Makes an env of so many lanes."""


@dataclass(frozen=True, slots=True)
class Agents:
    """The networks of R rows, apart from how they were trained.

    Args:
        arch: what they look like.
        weights: theirs, ``(R, ...)`` each.
        moments: mean and variance of observations ``(R, *shape)``, where they are
            normalised.
    """

    arch: Architecture
    weights: Weights
    moments: tuple[np.ndarray, np.ndarray] | None = None

    @property
    def rows(self) -> int:
        """How many there are."""
        return len(self.weights["action.weight"])

    def say(self, obs: np.ndarray) -> np.ndarray:
        """``(R, B, *shape)`` observations to what the policies put out."""
        if self.moments is not None:
            mean, var = (moment[:, None] for moment in self.moments)
            obs = ((obs - mean) / np.sqrt(var + EPSILON)).clip(-LIMIT, LIMIT)
        if obs.dtype != np.uint8:
            obs = obs.astype(np.float32)
        state = starts = None
        if self.arch.memory:
            raise ValueError("agents with a memory are evaluated by their RowPolicy")
        with torch.inference_mode():
            seen = torch.from_numpy(np.ascontiguousarray(obs))
            policy: Tensor = forward(
                self.arch, self.weights, seen, state, starts
            ).policy
        return policy.numpy()

    def act(self, obs: np.ndarray, noise: np.ndarray | None) -> np.ndarray:
        """Actions, before any clipping.

        Args:
            obs: ``(R, B, *shape)``.
            noise: ``(B, A)`` standard normal or Gumbel, shared by all rows; None for
                the most likely action.
        """
        policy = self.say(obs)
        if self.arch.continuous:
            if noise is not None:
                std = self.weights["log_std"].detach().exp().numpy()
                policy = policy + std[:, :1] * noise
            return policy.astype(np.float32)
        chosen: np.ndarray = (policy if noise is None else policy + noise).argmax(-1)
        return chosen


@dataclass(slots=True)
class _Kept:
    """What is kept of the recorded episodes, step after step: ``(R, B, ...)``."""

    features: list[np.ndarray] = field(default_factory=list)
    actions: list[np.ndarray] = field(default_factory=list)
    rewards: list[np.ndarray] = field(default_factory=list)


def evaluate_rows(
    task: Task,
    agents: Agents,
    make_arrays: MakeArrays,
    *,
    episodes: int,
    seed: int,
    deterministic: bool = False,
    record: int = 0,
) -> list[Evaluation | NonFinite]:
    """Play the same ``episodes`` episodes with every row.

    Episode ``i`` of every row is started from ``seed + i`` and meets the same noise,
    so two rows can be compared episode by episode.

    Args:
        task: whose episodes.
        agents: R rows.
        make_arrays: makes the environments.
        episodes: of each row, at least 1.
        seed: of the first episode and of the noise.
        deterministic: play the mode of the policies.
        record: episodes of each row, from the first, that are returned in full.

    Returns:
        For every row its evaluation, or what was not finite.

    Raises:
        ValueError: for a number out of range.
    """
    episodes, seed = integer("episodes", episodes, 1), integer("seed", seed)
    rows, record = agents.rows, min(record, episodes)
    env = make_arrays(task, rows * episodes)
    try:
        return _played(
            task, agents, env, episodes, seed, record, deterministic=deterministic
        )
    finally:
        env.close()


def _played(
    task: Task,
    agents: Agents,
    env: ArrayEnv,
    episodes: int,
    seed: int,
    record: int,
    *,
    deterministic: bool,
) -> list[Evaluation | NonFinite]:
    rows, lead = agents.rows, (agents.rows, episodes)
    rng = np.random.default_rng(seed)
    size = task.action.size
    arrays = env.reset(np.tile(np.arange(seed, seed + episodes), rows))
    length = np.zeros(rows * episodes, np.int64)
    ends: dict[str, np.ndarray] = {
        name: np.zeros(rows * episodes, kind)
        for name, kind in (
            *(("fitness", np.float64), ("success", np.bool_)),
            *(("terminated", np.bool_), ("truncated", np.bool_)),
        )
    }
    flaws: dict[int, NonFinite] = {}
    kept, going = _Kept(), np.ones(rows * episodes, np.bool_)
    kept.features.append(_first(arrays.first, lead, record))
    while going.any():
        noise = None
        if not deterministic:
            normal = agents.arch.continuous
            draw = rng.standard_normal if normal else rng.gumbel
            noise = draw(size=(episodes, size))
        actions = agents.act(arrays.obs.reshape(*lead, *arrays.obs.shape[1:]), noise)
        if agents.arch.continuous and len(task.action.low):
            bounds = np.array([task.action.low, task.action.high], np.float32)
            actions = np.clip(actions, *bounds)
        flat = actions.reshape(rows * episodes, *actions.shape[2:])
        if not agents.arch.continuous:
            flat = flat.astype(np.int64)
        arrays = env.step(flat)
        length += going
        _find_flaws(flaws, going, arrays, length, episodes)
        if record and going.reshape(lead)[:, :record].any():
            kept.features.append(_first(arrays.features, lead, record))
            kept.actions.append(_first(flat, lead, record))
            kept.rewards.append(_first(arrays.reward, lead, record))
        going = _noted(ends, going, arrays)
    return [
        flaws.get(r) or _evaluation(task, r, lead, length, ends, kept, record)
        for r in range(rows)
    ]


def _find_flaws(
    flaws: dict[int, NonFinite],
    going: np.ndarray,
    arrays: Arrays,
    length: np.ndarray,
    episodes: int,
) -> None:
    """Note the first thing of each row's episodes that is not finite."""
    obs = arrays.obs.reshape(len(going), -1)
    for what, values in (("reward", arrays.reward[:, None]), ("observation", obs)):
        if values.dtype.kind != "f" or np.isfinite(values).all():
            continue
        for lane in np.flatnonzero(going & ~np.isfinite(values).all(1)):
            row, episode = divmod(int(lane), episodes)
            got = values[lane][~np.isfinite(values[lane])][0]
            error = NonFinite(
                f"the environment's {what} in step {length[lane]} of evaluation "
                f"episode {episode} is {got}; expected a finite number"
            )
            flaws.setdefault(row, error)


def _first(values: np.ndarray, lead: tuple[int, int], record: int) -> np.ndarray:
    """A copy of the recorded lanes, ``(R, record, ...)``."""
    kept: np.ndarray = values.reshape(*lead, *values.shape[1:])[:, :record].copy()
    return kept


def _noted(
    ends: dict[str, np.ndarray], going: np.ndarray, arrays: Arrays
) -> np.ndarray:
    """Note the episodes that ended; which still go on."""
    over = going & (arrays.terminated | arrays.truncated)
    for name, values in ends.items():
        values[over] = getattr(arrays, name)[over]
    still: np.ndarray = going & ~over
    return still


def _evaluation(
    task: Task,
    r: int,
    lead: tuple[int, int],
    length: np.ndarray,
    ends: dict[str, np.ndarray],
    kept: _Kept,
    record: int,
) -> Evaluation | NonFinite:
    """One row's part."""
    own = {name: values.reshape(lead)[r] for name, values in ends.items()}
    lengths, fitness = length.reshape(lead)[r], own["fitness"]
    bad = np.flatnonzero(~np.isfinite(fitness))
    if len(bad):
        return NonFinite(
            f"{task.id}: the fitness of evaluation episode {bad[0]} is "
            f"{fitness[bad[0]]}; expected a finite number"
        )
    recorded = []
    for i in range(record):
        steps = int(lengths[i])
        recorded.append(
            Episode(
                layout=task.layout,
                features=np.stack([row[r, i] for row in kept.features[: steps + 1]]),
                action=np.stack([row[r, i] for row in kept.actions[:steps]]),
                reward=np.array([row[r, i] for row in kept.rewards[:steps]], float),
                terminated=bool(own["terminated"][i]),
                truncated=bool(own["truncated"][i]),
                info={"fitness": float(fitness[i]), "success": bool(own["success"][i])},
            )
        )
    return Evaluation(
        tuple(map(float, fitness)),
        tuple(map(bool, own["success"])),
        tuple(map(int, lengths)),
        tuple(recorded),
    )

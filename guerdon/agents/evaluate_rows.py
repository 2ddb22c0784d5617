"""The trusted evaluation of a whole population: fresh arrays, no reward code."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from guerdon.agents.arrays import Masked, empty_arrays, shrunk
from guerdon.agents.environments import NonFinite
from guerdon.agents.evaluate import Evaluation
from guerdon.agents.layers import Scratch
from guerdon.agents.losses import IMPOSSIBLE
from guerdon.agents.networks import Architecture, Weights, act
from guerdon.agents.normalize import normalized
from guerdon.agents.row_policy import networks_of
from guerdon.checks import integer
from guerdon.envs.arrays import ArrayEnv, Arrays
from guerdon.envs.task import Task
from guerdon.types import Episode

if TYPE_CHECKING:
    from guerdon.agents.ppo import Population

LANES = 512
"""Environments that are made for an evaluation at once, each an object of its own; of
MuJoCo's, one takes a few milliseconds and megabytes."""

BATCHED_LANES = 8192
"""The same of an engine, where a lane is a few kilobytes."""

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
        scratch: memory that every answer uses again.
    """

    arch: Architecture
    weights: Weights
    moments: tuple[np.ndarray, np.ndarray] | None = None
    scratch: Scratch = field(default_factory=Scratch, repr=False)

    @property
    def rows(self) -> int:
        """How many there are."""
        return len(self.weights["action.weight"])

    def some(self, rows: np.ndarray) -> Agents:
        """Some of the rows, ``(M,)`` indices."""
        weights = {name: value[rows] for name, value in self.weights.items()}
        moments = self.moments and (self.moments[0][rows], self.moments[1][rows])
        return Agents(self.arch, weights, moments, self.scratch)

    def say(
        self, obs: np.ndarray, memory: Tensor | None = None
    ) -> tuple[np.ndarray, Tensor | None]:
        """What the policies put out, and what they remember of it.

        Args:
            obs: ``(R, B, *shape)`` one observation of each of B episodes.
            memory: ``(R, B, M)`` of the observations before; None without a memory.
        """
        if self.moments is not None:
            mean, var = (moment[:, None] for moment in self.moments)
            obs = normalized(obs, mean, var)
        if obs.dtype != np.uint8:
            obs = obs.astype(np.float32, copy=False)
        starts = None
        if memory is not None:  # before an episode it is empty already
            starts = torch.zeros(memory.shape[:2], dtype=torch.bool)
        with torch.inference_mode():
            seen = torch.from_numpy(np.ascontiguousarray(obs))
            policy, memory = act(
                self.arch, self.weights, seen, memory, starts, self.scratch
            )
        return policy.numpy(), memory

    def act(self, policy: np.ndarray, noise: np.ndarray | None) -> np.ndarray:
        """Actions, before any clipping.

        Args:
            policy: ``(R, B, A)`` of ``say``.
            noise: ``(B, A)`` standard normal or Gumbel, shared by all rows; None for
                the most likely action.
        """
        if self.arch.continuous:
            if noise is not None:
                std = self.weights["log_std"].detach().exp().numpy()
                policy = policy + std[:, :1] * noise
            return policy.astype(np.float32)
        chosen: np.ndarray = (policy if noise is None else policy + noise).argmax(-1)
        return chosen


def agents_of(population: Population) -> Agents:
    """All rows of a population, wherever it is, with weights of their own."""
    return Agents(population.arch, *networks_of(population))


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
    so two rows can be compared episode by episode. Where the env says which choices
    are possible, no other is made.

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
    record = min(record, episodes)
    most = LANES if task.engine is None else BATCHED_LANES
    each = max(1, most // episodes)
    found: list[Evaluation | NonFinite] = []
    for start in range(0, agents.rows, each):
        some = agents.some(np.arange(start, min(start + each, agents.rows)))
        env = make_arrays(task, some.rows * episodes)
        play = _Play(task, some, env, episodes, record)
        try:
            found += play.through(seed, deterministic)
        finally:
            play.env.close()
    return found


class _Play:
    """The episodes of some rows, side by side.

    The networks are always asked about all episodes of a row: a product of another
    size may have other last bits. Of one that is over they are told the last
    observation again; what they answer counts for nothing.
    """

    def __init__(
        self, task: Task, agents: Agents, env: ArrayEnv, episodes: int, record: int
    ) -> None:
        self.task, self.agents, self.env, self.record = task, agents, env, record
        self.lead = agents.rows, episodes
        self._lanes = np.arange(agents.rows * episodes)
        """Which of all lanes the env has still."""
        self._all = empty_arrays(env)
        self._memory: Tensor | None = None
        if agents.arch.memory:
            self._memory = torch.zeros(*self.lead, agents.arch.memory)
        self._rows, self._asked = np.arange(agents.rows), agents

    def through(self, seed: int, deterministic: bool) -> list[Evaluation | NonFinite]:
        """Play every episode to its end."""
        (rows, episodes), record = self.lead, self.record
        rng = np.random.default_rng(seed)
        continuous = self.agents.arch.continuous
        draw = rng.standard_normal if continuous else rng.gumbel
        seeds = np.tile(np.arange(seed, seed + episodes), rows)
        arrays = self._spread(self.env.reset(seeds))
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
        kept.features.append(_first(arrays.first, self.lead, record))
        while going.any():
            size = episodes, self.task.action.size
            noise = None if deterministic else draw(size=size)
            self._let_go(going)
            flat = self._chosen(arrays.obs, noise)
            arrays = self._spread(self.env.step(flat[self._lanes]))
            length += going
            _find_flaws(flaws, going, arrays, length, episodes)
            if record and going.reshape(self.lead)[:, :record].any():
                kept.features.append(_first(arrays.features, self.lead, record))
                kept.actions.append(_first(flat, self.lead, record))
                kept.rewards.append(_first(arrays.reward, self.lead, record))
            going = _noted(ends, going, arrays)
        return [
            flaws.get(r)
            or _evaluation(self.task, r, self.lead, length, ends, kept, record)
            for r in range(rows)
        ]

    def _let_go(self, going: np.ndarray) -> None:
        """Step no more than twice the lanes that matter, and ask no row in vain."""
        here = going[self._lanes]
        if 2 * here.sum() <= len(here):
            still = np.flatnonzero(here)
            self.env, self._lanes = shrunk(self.env, still), self._lanes[still]
        rows = np.flatnonzero(going.reshape(self.lead).any(1))
        if len(rows) < len(self._rows):
            self._rows, self._asked = rows, self.agents.some(rows)

    def _spread(self, arrays: Arrays) -> Arrays:
        """What the env gave, at its place among all lanes."""
        for values, into in zip(arrays, self._all, strict=True):
            into[self._lanes] = values
        return self._all

    def _chosen(self, obs: np.ndarray, noise: np.ndarray | None) -> np.ndarray:
        """Actions of all lanes as the env takes them; of rows that are over, 0."""
        table = obs.reshape(*self.lead, *obs.shape[1:])
        rows, action = self._rows, self.task.action
        memory = None if self._memory is None else self._memory[rows]
        policy, memory = self._asked.say(table[rows], memory)
        if self._memory is not None and memory is not None:
            self._memory[rows] = memory
        if isinstance(self.env, Masked):
            masks = np.ones((math.prod(self.lead), action.size), np.bool_)
            masks[self._lanes] = self.env.action_masks()
            masks = masks.reshape(*self.lead, -1)[rows]
            policy = np.where(masks, policy, np.float32(IMPOSSIBLE))
        actions = self._asked.act(policy, noise)
        if self.agents.arch.continuous:
            if len(action.low):
                bounds = np.array([action.low, action.high], np.float32)
                actions = np.clip(actions, *bounds)
        else:
            actions = actions.astype(np.int64)
        full = np.zeros((*self.lead, *actions.shape[2:]), actions.dtype)
        full[rows] = actions
        return full.reshape(-1, *actions.shape[2:])


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

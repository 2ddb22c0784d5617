"""The trusted evaluation: fresh environments, no reward code, the true score."""

from __future__ import annotations

import io
import math
import re
import struct
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np

from guerdon.agents.environments import NonFinite, Slots, Step, make_slots
from guerdon.checks import integer
from guerdon.envs.task import Task
from guerdon.faults import whole_file
from guerdon.types import Episode

SLOTS = 64
"""Environments in lock-step; more of them save calls of the policy, not steps."""

MAX_EPISODES = 1 << 30
"""Bytes of the largest file of episodes, unpacked; a bank has a few million."""

_HEADER = re.compile(
    rb"\x93NUMPY\x01\x00..\{'descr': '([<>|][biuf][1-8])', "
    rb"'fortran_order': (True|False), "
    rb"'shape': \((\d{1,12}), ?(\d{0,12})\), \} *\n",
    re.DOTALL,
)
"""An array of numbers with one axis or two, as NumPy begins it."""

_DAMAGED = (
    *(zipfile.BadZipFile, zlib.error, struct.error, EOFError, KeyError, ValueError),
    *(RuntimeError, OverflowError, TypeError),
)
"""What Python's own reader of packed files raises."""

_PER_STEP = ("action", "reward")
_PER_EPISODE = ("length", "terminated", "truncated", "fitness", "success")
_ARRAYS = ("features", *_PER_STEP, *_PER_EPISODE)


class Policy(Protocol):
    """Whatever chooses actions."""

    def predict(
        self, observations: np.ndarray, *, deterministic: bool, rng: np.random.Generator
    ) -> np.ndarray:
        """Actions for a batch.

        Args:
            observations: ``(N, *shape)``.
            deterministic: the most likely action instead of a drawn one.
            rng: the only source of randomness.

        Returns:
            ``(N,)`` choices or ``(N, A)`` numbers.
        """
        ...


@runtime_checkable
class Remembering(Protocol):
    """A policy that remembers what it has seen of every episode."""

    def forget(self) -> None:
        """Other episodes are to come, whatever their numbers."""
        ...

    def predict(
        self,
        observations: np.ndarray,
        *,
        deterministic: bool,
        rng: np.random.Generator,
        episodes: Sequence[int] | None = None,
    ) -> np.ndarray:
        """Like ``Policy``'s, and told which episode each observation belongs to."""
        ...


@dataclass(frozen=True, slots=True)
class Evaluation:
    """True scores, episode ``i`` started from ``seed + i``."""

    fitness: tuple[float, ...]
    success: tuple[bool, ...]
    length: tuple[int, ...]
    """Steps of each episode."""
    episodes: tuple[Episode, ...] = ()
    """The first episodes in full, as many as were asked for."""

    @property
    def steps(self) -> int:
        """Environment steps of all episodes."""
        return sum(self.length)

    @property
    def mean_fitness(self) -> float:
        """Mean true score."""
        return sum(self.fitness) / len(self.fitness)

    @property
    def success_rate(self) -> float:
        """Share of solved episodes."""
        return sum(self.success) / len(self.success)


@dataclass(slots=True)
class _Run:
    """An episode under way in a slot."""

    index: int
    slot: int
    observation: np.ndarray
    steps: int = 0
    features: list[np.ndarray] = field(default_factory=list)
    actions: list[Any] = field(default_factory=list)
    rewards: list[float] = field(default_factory=list)


def evaluate(
    task: Task,
    policy: Policy,
    *,
    episodes: int,
    seed: int,
    deterministic: bool = False,
    record: int = 0,
) -> Evaluation:
    """Play exactly ``episodes`` episodes and report the task's own score of each.

    Episode ``i`` is started from ``seed + i`` whatever the others do, and every
    one is played to its end: counting the first episodes to finish instead would
    favour short ones.

    Args:
        task: makes the environments and knows the true score.
        policy: chooses actions for a batch of observations.
        episodes: number of episodes, at least 1.
        seed: seed of the first episode and of the policy's draws, at least 0.
        deterministic: play the mode of the policy.
        record: number of episodes, from the first, that are returned in full.

    Raises:
        ValueError: for a count or seed out of range.
        TypeError: for a count or seed that is no whole number.
        NonFinite: for a score or a reward of the environment that is not finite.
    """
    episodes, seed = integer("episodes", episodes, 1), integer("seed", seed)
    rng = np.random.default_rng(seed)
    waiting = list(range(episodes - 1, -1, -1))
    count = min(SLOTS, episodes)
    slots = make_slots(task, count)
    if isinstance(policy, Remembering):
        policy.forget()
    ends: dict[int, tuple[Mapping[str, Any], int]] = {}
    recorded: dict[int, Episode] = {}
    try:
        active = [_start(slots, i, waiting.pop(), seed, record) for i in range(count)]
        while active:
            batch = np.stack([run.observation for run in active])
            whose = [run.index for run in active]
            actions = choose(policy, batch, whose, deterministic, rng)
            steps = slots.step([run.slot for run in active], actions)
            going = []
            for run, action, step in zip(active, actions, steps, strict=True):
                _note(run, action, step, record)
                if not (step.terminated or step.truncated):
                    going.append(run)
                    continue
                ends[run.index] = (step.info, run.steps)
                if run.index < record:
                    recorded[run.index] = _episode(task, run, step)
                if waiting:
                    going.append(_start(slots, run.slot, waiting.pop(), seed, record))
            active = going
    finally:
        slots.close()
    return _collect(task, ends, recorded)


def choose(
    policy: Policy,
    observations: np.ndarray,
    episodes: Sequence[int],
    deterministic: bool,
    rng: np.random.Generator,
) -> np.ndarray:
    """Actions of any policy; one that remembers is told the episodes, ``(N,)``."""
    if isinstance(policy, Remembering):
        return policy.predict(
            observations, deterministic=deterministic, rng=rng, episodes=episodes
        )
    return policy.predict(observations, deterministic=deterministic, rng=rng)


def _start(slots: Slots, slot: int, index: int, seed: int, record: int) -> _Run:
    observation, info = slots.begin(slot, seed + index)
    run = _Run(index, slot, observation)
    if index < record:
        run.features.append(np.array(info["features"], np.float32))
    return run


def _note(run: _Run, action: Any, step: Step, record: int) -> None:
    """Follow one episode by a step."""
    run.observation = step.obs
    run.steps += 1
    if not math.isfinite(step.reward):
        raise NonFinite(
            f"the environment's reward in step {run.steps} of evaluation episode "
            f"{run.index} is {step.reward}; expected a finite number"
        )
    if run.index < record:
        run.features.append(np.array(step.info["features"], np.float32))
        run.actions.append(np.array(action))
        run.rewards.append(float(step.reward))


def _episode(task: Task, run: _Run, step: Step) -> Episode:
    return Episode(
        layout=task.layout,
        features=np.stack(run.features),
        action=np.stack(run.actions),
        reward=np.asarray(run.rewards, np.float64),
        terminated=bool(step.terminated),
        truncated=bool(step.truncated),
        info={
            "fitness": float(step.info["fitness"]),
            "success": bool(step.info["success"]),
        },
    )


def _collect(
    task: Task,
    ends: Mapping[int, tuple[Mapping[str, Any], int]],
    recorded: Mapping[int, Episode],
) -> Evaluation:
    order = sorted(ends)
    fitness = tuple(float(ends[i][0]["fitness"]) for i in order)
    bad = [
        i for i, score in zip(order, fitness, strict=True) if not math.isfinite(score)
    ]
    if bad:
        raise NonFinite(
            f"{task.id}: the fitness of evaluation episode {bad[0]} is "
            f"{fitness[bad[0]]}; expected a finite number"
        )
    return Evaluation(
        fitness,
        tuple(bool(ends[i][0]["success"]) for i in order),
        tuple(ends[i][1] for i in order),
        tuple(recorded[i] for i in sorted(recorded)),
    )


def save_episodes(path: Path, episodes: tuple[Episode, ...]) -> None:
    """Write recorded episodes as npz, complete or not at all.

    Args:
        path: the file; its folder exists.
        episodes: at least one, of one task.

    The arrays are ``features (sum(T + 1), W)``, ``action (sum T[, A])``,
    ``reward (sum T)`` and per episode ``length``, ``terminated``, ``truncated``,
    ``fitness`` and ``success``.

    Raises:
        ValueError: when there is no episode.
        OSError: when it cannot be written.
    """
    if not episodes:
        raise ValueError("save_episodes: expected at least one episode, got none")
    with whole_file(path) as partial, partial.open("wb") as file:
        np.savez_compressed(
            file,
            features=np.concatenate([e.features for e in episodes]),
            action=np.concatenate([e.action for e in episodes]),
            reward=np.concatenate([e.reward for e in episodes]),
            length=np.array([e.length for e in episodes]),
            terminated=np.array([e.terminated for e in episodes]),
            truncated=np.array([e.truncated for e in episodes]),
            fitness=np.array([e.info["fitness"] for e in episodes]),
            success=np.array([e.info["success"] for e in episodes]),
        )


def load_episodes(path: Path, task: Task) -> tuple[Episode, ...]:
    """Read what ``save_episodes`` wrote; the file may be anybody's.

    Raises:
        ValueError: when the file is damaged, too large, says something else than its
            arrays hold, or its rows are not as wide as the task's features.
    """
    try:
        data = _arrays(path)
        _require_agreeing(data)
    except _DAMAGED as error:
        raise ValueError(f"{path}: expected recorded episodes, got {error}") from None
    if data["features"].shape[-1] != task.layout.width:
        raise ValueError(
            f"{path.name}: expected {task.layout.width} feature columns for "
            f"{task.id}, got {data['features'].shape[-1]}"
        )
    borders = np.cumsum(data["length"])[:-1]
    features = np.split(data["features"], borders + np.arange(1, len(borders) + 1))
    columns = [np.split(data[name], borders) for name in ("action", "reward")]
    return tuple(
        Episode(
            layout=task.layout,
            features=rows,
            action=action,
            reward=reward,
            terminated=bool(data["terminated"][i]),
            truncated=bool(data["truncated"][i]),
            info={
                "fitness": float(data["fitness"][i]),
                "success": bool(data["success"][i]),
            },
        )
        for i, (rows, action, reward) in enumerate(zip(features, *columns, strict=True))
    )


def _arrays(path: Path) -> dict[str, np.ndarray]:
    """The arrays of a file of episodes, none larger than what the file says.

    NumPy would make an array of any size that a header names, unpack any number of
    zeros, and wait for ever for the first byte of a pipe.
    """
    if not path.is_file():
        raise ValueError("no regular file")
    if path.stat().st_size > MAX_EPISODES:
        raise ValueError(f"more than {MAX_EPISODES} bytes")
    data, left = {}, MAX_EPISODES
    with zipfile.ZipFile(io.BytesIO(path.read_bytes())) as archive:
        for name in _ARRAYS:
            member = archive.getinfo(f"{name}.npy")
            plain = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
            if member.flag_bits & 1 or member.compress_type not in plain:
                raise ValueError(f"{name!r}, which is packed in another way")
            left -= member.file_size
            if left < 0:
                raise ValueError(f"more than {MAX_EPISODES} bytes of arrays")
            data[name] = _array(name, archive.read(member))
    return data


def _array(name: str, text: bytes) -> np.ndarray:
    """One array in NumPy's format, if it is of numbers and as long as it says."""
    head = _HEADER.match(text)
    if head is None:
        raise ValueError(f"{name!r}, which is no array of numbers")
    dtype = np.dtype(head[1].decode())
    shape = tuple(int(size) for size in head.groups()[2:] if size)
    if math.prod(shape) * dtype.itemsize != len(text) - head.end():
        raise ValueError(f"{name!r} that is not as long as it says")
    order: Literal["F", "C"] = "F" if head[2] == b"True" else "C"
    flat = np.frombuffer(text, dtype, offset=head.end())
    return np.array(flat.reshape(shape, order=order), order="C")


def _require_agreeing(data: Mapping[str, np.ndarray]) -> None:
    """Refuse arrays that are not of the same steps and the same episodes."""
    length = data["length"]
    if not len(length) or length.dtype.kind not in "iu" or (length < 1).any():
        raise ValueError("'length', which is no number of steps of each episode")
    for name in _PER_EPISODE:
        if data[name].shape != length.shape:
            raise ValueError(f"{name!r} of shape {data[name].shape}")
    steps = sum(int(n) for n in length)  # without a bound, so it cannot overflow
    for name in _PER_STEP:
        if len(data[name]) != steps:
            raise ValueError(f"{len(data[name])} steps in {name!r}, not {steps}")
    if data["features"].ndim != 2 or len(data["features"]) != steps + len(length):
        raise ValueError(f"'features' of shape {data['features'].shape}")

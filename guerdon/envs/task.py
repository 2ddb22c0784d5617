"""A task: an environment, its true score, and what a reward may see of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import gymnasium as gym
import numpy as np
from gymnasium.envs.registration import EnvSpec
from gymnasium.error import ResetNeeded

from guerdon.checks import integer
from guerdon.envs.arrays import ArrayEnv
from guerdon.types import ActionSpec, Episode, Feature, Features, Layout

if TYPE_CHECKING:
    # It loads torch, which tasks do without.
    from guerdon.envs.tensors import TensorEnv

__all__ = [
    "Engine",
    "Feature",
    "Part",
    "ReferenceReward",
    "Task",
    "TaskEnv",
    "part_of_task",
]

Reader = Callable[[gym.Env[Any, Any], Any, Mapping[str, Any]], np.ndarray]
"""``(unwrapped env, observation, info) -> (W,) float32`` feature row."""


class Part(str):
    """A note on an error: which part of a task, which is a user's code, raised it."""

    __slots__ = ()


@contextmanager
def part_of_task(words: str) -> Iterator[None]:
    """Errors from here on carry ``words`` as a ``Part``; nothing else is changed.

    Args:
        words: what was done with whose part: ``"task 'x': its fitness failed"``.
    """
    try:
        yield
    except (Exception, SystemExit) as error:
        error.add_note(Part(words))
        raise


@dataclass(frozen=True, slots=True)
class ReferenceReward:
    """A published reward to compare with.

    Args:
        source: text in the reward language, or None for the environment's own.
        origin: where it comes from: a paper, a documentation page, a file.

    Raises:
        TypeError: when one of them is no text.
    """

    source: str | None
    origin: str

    def __post_init__(self) -> None:
        _expect("reward source", self.source, (str, type(None)), "a text or None")
        _expect("reward origin", self.origin, str, "a text")


class Engine(Protocol):
    """Plays one task without its raw environment, many episodes at once."""

    @property
    def name(self) -> str:
        """What ``engine=`` calls it."""
        ...

    def plays(self, task: Task) -> bool:
        """Whether it has the features and the true score of this task built in."""
        ...

    def installed(self) -> bool:
        """Whether all that it needs is there."""
        ...

    def __call__(self, lanes: int) -> ArrayEnv:
        """So many environments as arrays."""
        ...

    def require_device(self, device: str) -> None:
        """Refuse a device that it could not run on.

        Raises:
            guerdon.extras.MissingExtra: when what that takes is not installed.
            RuntimeError: when it is not there; says what to do.
            ValueError: for a device that it never runs on.
        """
        ...

    def on_device(self, lanes: int, device: str) -> TensorEnv:
        """So many environments as tensors; raises as ``require_device`` does."""
        ...

    def make(self, **kwargs: Any) -> gym.Env[Any, Any]:
        """One environment, whose infos are those of a ``TaskEnv``.

        Raises:
            guerdon.extras.MissingExtra: when what it needs is not installed.
        """
        ...

    def make_vec(
        self, num_envs: int, **kwargs: Any
    ) -> gym.vector.VectorEnv[Any, Any, Any]:
        """Many of them; raises as ``make`` does."""
        ...


@dataclass(frozen=True, kw_only=True)
class Task:
    """An environment with a true score.

    Args:
        id: the Gymnasium id, ``guerdon/DoorKey-8x8-v0``.
        intent: one sentence that says what the agent should achieve.
        make_base: makes the raw environment; takes Gymnasium's keywords such as
            ``render_mode``.
        layout: the features that a reward may name.
        action: what the agent may do.
        read: reads one feature row from the raw environment.
        fitness: the true score of one episode; higher is better.
        success: whether one episode solved the task.
        rewards: reference rewards by name; ``sparse`` always, ``human`` where one
            is published.
        horizon: steps after which an episode is truncated.
        budget: training steps at which the task is usually reported.
        family: ``minigrid``, ``classic``, ``box2d``, ``mujoco`` or ``custom``.
        source: where the environment comes from.
        extra: name of the optional extra that the raw environment needs.
        engine: plays the task in batches. A copy of a task with other features or
            another score has none, whatever is given here.

    Raises:
        TypeError: for a part of another type.
        ValueError: for an empty id, or a horizon or budget below 1.
    """

    id: str
    intent: str
    make_base: Callable[..., gym.Env[Any, Any]]
    layout: Layout
    action: ActionSpec
    read: Reader
    fitness: Callable[[Episode], float]
    success: Callable[[Episode], bool]
    rewards: Mapping[str, ReferenceReward]
    horizon: int
    budget: int
    family: str = "custom"
    source: str = ""
    extra: str | None = field(default=None)
    engine: Engine | None = None

    def __post_init__(self) -> None:
        _expect("task id", self.id, str, "a text")
        if not self.id.strip():
            raise ValueError(f"task id: expected a name, got {self.id!r}")
        whose = f"task {self.id}"
        for name, kind, words in _KINDS:
            _expect(f"{whose}: {name}", getattr(self, name), kind, words)
        for name in ("horizon", "budget"):
            integer(f"{whose}: {name}", getattr(self, name), least=1)
        if self.engine is not None and not self.engine.plays(self):
            object.__setattr__(self, "engine", None)

    def __deepcopy__(self, memo: dict[int, Any]) -> Task:
        """Itself: a task never changes, and some of its parts cannot be copied."""
        return self

    def fast(self, engine: str | None = None) -> Engine | None:
        """The batched engine to make environments with; None for the raw environment.

        Args:
            engine: its name, or the task's family for the raw environment. None: the
                engine where there is one and it is installed.

        Raises:
            ValueError: for the name of no engine of this task.
        """
        own = self.engine
        if engine is None:
            return own if own is not None and own.installed() else None
        if engine == self.family:
            return None
        if own is not None and engine == own.name:
            return own
        names = [repr(self.family), *([] if own is None else [repr(own.name)])]
        raise ValueError(
            f"task {self.id}: engine: expected {' or '.join(names)}, got {engine!r}"
        )

    def engine_on(self, device: str) -> Engine:
        """The batched engine for a device that is not the CPU.

        Raises:
            ValueError: for a task that has none.
        """
        if self.engine is None:
            raise ValueError(
                f"device: {device!r} takes a task with the batched engine, as levels "
                f"of MiniGrid are, and {self.id} has none; expected device 'cpu'"
            )
        return self.engine

    def make(self, *, engine: str | None = None, **kwargs: Any) -> gym.Env[Any, Any]:
        """One environment of this task.

        Args:
            engine: ``"grid"`` for the batched engine, which MiniGrid's levels have, or
                the task's family for the raw environment. None takes the engine where
                it is installed.
            kwargs: for that environment, such as ``render_mode``.

        Returns:
            A ``TaskEnv``, or an environment of the engine with the same infos.

        Raises:
            ValueError: for the name of no engine of this task.
            guerdon.extras.MissingExtra: names the extra that is not installed.
        """
        fast = self.fast(engine)
        with part_of_task(f"task {self.id}: making its environment failed"):
            if fast is None:
                return TaskEnv(self.make_base(**kwargs), self)
            made = fast.make(**kwargs)
            _name(made, self)
            return made

    def make_vec(
        self,
        num_envs: int,
        *,
        engine: str | None = None,
        vector_kwargs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> gym.vector.VectorEnv[Any, Any, Any]:
        """Several environments of this task in one process.

        Args:
            num_envs: how many.
            engine: as in ``make``.
            vector_kwargs: for the vector environment, such as ``autoreset_mode``: the
                engine's ``GridVectorEnv``, or ``gymnasium.vector.SyncVectorEnv``.
            kwargs: for the environments.

        Raises:
            ValueError: when ``num_envs`` is less than 1; else as ``make``.
        """
        if num_envs < 1:
            raise ValueError(f"num_envs: expected at least 1, got {num_envs}")
        fast = self.fast(engine)
        if fast is not None:
            made = fast.make_vec(num_envs, **(vector_kwargs or {}), **kwargs)
            _name(made, self)
            return made
        makers = [lambda: self.make(engine=self.family, **kwargs)] * num_envs
        return gym.vector.SyncVectorEnv(makers, **(vector_kwargs or {}))

    def view(self, info: Mapping[str, Any]) -> Features:
        """Named features of an ``info`` that the task's environment returned."""
        return Features(self.layout, info["features"])


def _name(env: Any, task: Task) -> None:
    """Let an environment of an engine say of which task it is."""
    env.task, env.spec = task, gym.registry.get(task.id)


_KINDS: tuple[tuple[str, Any, str], ...] = (
    ("intent", str, "a text"),
    ("make_base", Callable, "a function"),
    ("layout", Layout, "a Layout"),
    ("action", ActionSpec, "an ActionSpec"),
    ("read", Callable, "a function"),
    ("fitness", Callable, "a function of an Episode"),
    ("success", Callable, "a function of an Episode"),
    ("rewards", Mapping, "a mapping from names to ReferenceRewards"),
    ("family", str, "a text"),
    ("source", str, "a text"),
    ("extra", (str, type(None)), "a text or None"),
)
"""Parts of a task with what they have to be."""


def _expect(name: str, value: object, kinds: Any, words: str) -> None:
    """Refuse a value of another type."""
    if not isinstance(value, kinds):
        raise TypeError(
            f"{name}: expected {words}, got {value!r} ({type(value).__name__})"
        )


class TaskEnv(gym.Wrapper[Any, Any, Any, Any]):
    """The raw environment of a task, with features and the true score in ``info``.

    Every ``info`` holds ``features``, a ``(W,)`` float32 row (``task.view`` names
    it). The last ``info`` of an episode also holds ``fitness`` and ``success``,
    computed here from the raw rewards, so no outer wrapper can change them.

    Args:
        env: the raw environment, with its own time limit inside.
        task: whose features and score are added.

    Raises:
        gymnasium.error.ResetNeeded: when stepped after the end of an episode.
    """

    def __init__(self, env: gym.Env[Any, Any], task: Task) -> None:
        super().__init__(env)
        self.task = task
        self._raw = env.unwrapped
        self._continuous = task.action.kind == "continuous"
        self._rows: list[bytes] = []
        self._actions: list[Any] = []
        self._rewards: list[float] = []
        self._over = True

    @property
    def spec(self) -> EnvSpec | None:  # type: ignore[override]
        """The registered spec of the task, not that of the environment inside."""
        inner = self._raw.spec
        if inner is not None and inner.id == self.task.id:
            return inner
        return gym.registry.get(self.task.id)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Start an episode; ``info["features"]`` is its first row."""
        try:
            obs, info = self.env.reset(seed=seed, options=options)
            row = self._first_row(obs, info)
        except (Exception, SystemExit) as error:
            error.add_note(self._part("starting an episode"))
            raise
        info["features"] = row
        # Kept as bytes: what a caller does to the row that it got cannot reach
        # the episode that fitness is computed from.
        self._rows = [row.tobytes()]
        self._actions = []
        self._rewards = []
        self._over = False
        return obs, info

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """One step; the last ``info`` of an episode brings the true score."""
        if self._over:
            raise ResetNeeded(f"{self.task.id}: call reset() before step()")
        try:
            obs, reward, terminated, truncated, info = self.env.step(action)
            row = self.task.read(self._raw, obs, info)
            info["features"] = row
            self._rows.append(row.tobytes())
            self._actions.append(np.array(action) if self._continuous else int(action))
            self._rewards.append(float(reward))
            if terminated or truncated:
                self._finish(info, terminated, truncated)
        except (Exception, SystemExit) as error:
            error.add_note(self._part("a step of its environment"))
            raise
        return obs, reward, terminated, truncated, info

    def _part(self, words: str) -> Part:
        return Part(f"task {self.task.id}: {words} failed")

    def _first_row(self, obs: Any, info: Any) -> np.ndarray:
        """The first row of an episode; what a later one is, the checker looks at."""
        row = self.task.read(self._raw, obs, info)
        width = self.task.layout.width
        if not isinstance(row, np.ndarray) or row.dtype != np.float32:
            kind = getattr(row, "dtype", type(row).__name__)
            raise TypeError(f"read: expected a float32 array ({width},), got {kind}")
        if row.shape != (width,):
            raise ValueError(f"read: expected shape ({width},), got {row.shape}")
        return row

    def _finish(self, info: dict[str, Any], terminated: bool, truncated: bool) -> None:
        self._over = True
        width = self.task.layout.width
        rows = np.frombuffer(b"".join(self._rows), dtype=np.float32)
        episode = Episode(
            layout=self.task.layout,
            features=rows.reshape(-1, width),
            action=np.array(self._actions),
            reward=np.array(self._rewards),
            terminated=bool(terminated),
            truncated=bool(truncated),
            info=dict(info),
        )
        info["fitness"] = score_of(self.task, episode)
        info["success"] = solved_by(self.task, episode)


def score_of(task: Task, episode: Episode) -> float:
    """The true score of an episode; whether it is finite is for its user to ask.

    Raises:
        TypeError: for a score that is no number.
    """
    with part_of_task(f"task {task.id}: its fitness failed"):
        score: Any = task.fitness(episode)
        # A text such as "1" would pass through float().
        if isinstance(score, str | bytes) or not hasattr(score, "__float__"):
            words = f"{score!r} ({type(score).__name__}) {place_of(task.fitness)}"
            raise TypeError(f"fitness: expected a number, got {words}")
        return float(score)


def solved_by(task: Task, episode: Episode) -> bool:
    """Whether an episode solved the task."""
    with part_of_task(f"task {task.id}: its success failed"):
        return bool(task.success(episode))


def place_of(function: Any) -> str:
    """Where a function is written, as far as it says so: ``"from tasks.py:3"``."""
    code = getattr(function, "__code__", None)
    return "" if code is None else f"from {code.co_filename}:{code.co_firstlineno}"

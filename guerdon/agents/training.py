"""What a training is asked for and what it answers, as JSON; no torch in sight."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal, Self, get_args

from guerdon.agents.seconds import checked_seconds
from guerdon.checks import MOST, inside, integer, number
from guerdon.types import Failure, FailureKind

EVALUATION_SEED = 1_000_000
"""First seed of the evaluation episodes, far from the seeds of the trainings."""

CURVE_POINTS = 20
"""Windows of a training curve."""

MOST_SEED = 2**31 - 1
"""Largest seed; the generators that SB3 seeds take 32 bits."""

Trust = Literal["language", "jail", "none"]
"""What a reward's text may be, and where it runs."""

Trainer = Literal["sb3", "population"]
"""Who trains: Stable-Baselines3, one agent in a process, or our PPO, many in one."""

Device = Literal["cpu", "cuda"]
"""Where a population and its environments are; other sums, so other last bits."""

_SEEDS = ("seed", "eval_seed")


def require_trainable_on(device: Any, *, trainer: str, trust: str) -> None:
    """Refuse a device on which a trainer does not train.

    Raises:
        ValueError: for an unknown device, or a GPU for other trainings than those of
            populations with rewards in the language.
    """
    if device not in get_args(Device):
        raise ValueError(f"device: expected one of {get_args(Device)}, got {device!r}")
    if device == "cpu":
        return
    if trust != "language":
        why = "the jail opens no devices" if trust == "jail" else "it is trained by SB3"
        raise ValueError(
            f"device: rewards in full Python (trust {trust!r}) are trained on the CPU "
            f"({why}); expected trust 'language', or device 'cpu'"
        )
    if trainer == "sb3":
        raise ValueError(
            f"device: trainer 'sb3' trains on the CPU here, got {device!r}; expected "
            "trainer 'population', or device 'cpu'"
        )


def require_known(trust: Any) -> None:
    """Refuse a trust that is none of the three; ValueError."""
    if trust not in get_args(Trust):
        raise ValueError(f"trust: expected one of {get_args(Trust)}, got {trust!r}")


@dataclass(frozen=True, slots=True)
class TrainingJob:
    """One training, described so that anybody can repeat it.

    Args:
        task: id of a task, or ``module:object``.
        reward: ``"sparse"``, ``"human"`` or the text of a reward program.
        steps: environment steps; rounded up to whole rollouts by the training.
        seed: seed of weights, environments and exploration, below 2^31.
        base: ``"sparse"`` adds the task's sparse reward to a program's terms.
        algo: ``"ppo"``, ``"sac"`` or None for the task's own recipe.
        eval_episodes: episodes of the trusted evaluation afterwards.
        eval_seed: episode ``i`` of the evaluation is reset with ``eval_seed + i``.
        record_episodes: evaluation episodes whose features are kept for the bank.
        trust: what the reward's text may be, and where it runs.
        trainer: who trains.
        whole: steps of the training that this is the beginning of; None: of itself.
        device: where the population and its environments are.

    Raises:
        ValueError: for an unknown base, algorithm or device, a device on which the
            trainer does not train, or a number out of bounds.
        TypeError: for a count that is no whole number, or a name that is no text.
    """

    task: str
    reward: str
    steps: int
    seed: int
    base: Literal["sparse", "none"] = "sparse"
    algo: Literal["ppo", "sac"] | None = None
    eval_episodes: int = 64
    eval_seed: int = EVALUATION_SEED
    record_episodes: int = 8
    trust: Trust = "language"
    trainer: Trainer = "sb3"
    whole: int | None = None
    device: Device = "cpu"

    def __post_init__(self) -> None:
        require_known(self.trust)
        if self.base not in ("sparse", "none"):
            raise ValueError(f"base: expected 'sparse' or 'none', got {self.base!r}")
        if self.algo not in (None, "ppo", "sac"):
            raise ValueError(f"algo: expected 'ppo' or 'sac', got {self.algo!r}")
        for name in ("task", "reward"):
            if not isinstance(getattr(self, name), str):
                raise TypeError(
                    f"{name}: expected text, got {type(getattr(self, name)).__name__}"
                )
        if self.trainer not in get_args(Trainer):
            raise ValueError(
                f"trainer: expected one of {get_args(Trainer)}, got {self.trainer!r}"
            )
        require_trainable_on(self.device, trainer=self.trainer, trust=self.trust)
        least = {"steps": 1, "eval_episodes": 1, "record_episodes": 0}
        for name, low in (least | dict.fromkeys(_SEEDS, 0)).items():
            most = MOST_SEED if name in _SEEDS else MOST
            number = integer(name, getattr(self, name), low, most)
            object.__setattr__(self, name, number)
        if self.whole is not None:
            object.__setattr__(self, "whole", integer("whole", self.whole, self.steps))

    def as_record(self) -> dict[str, Any]:
        """Plain JSON types; the CPU is not named, as before there was a choice."""
        return without_default(asdict(self), "device", "cpu")

    @classmethod
    def of_record(cls, values: Any) -> Self:
        """The job that ``as_record`` told; Value- or TypeError for anything else."""
        if isinstance(values, dict):
            values = {"device": "cpu"} | values
        return cls(**_checked(values, cls))

    def to_json(self) -> str:
        """Canonical JSON: equal jobs give equal text."""
        return json.dumps(self.as_record(), sort_keys=True, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """The job that ``to_json`` wrote; ValueError for anything else."""
        return cls.of_record(json.loads(text))

    @property
    def key(self) -> str:
        """SHA-256 of the canonical JSON: the name of the job and of its files."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()


_COMMON = (
    *("task", "steps", "base", "algo", "trust", "trainer", "whole", "device"),
    *("eval_episodes", "eval_seed", "record_episodes"),
)
"""What the jobs of a group have in common."""


@dataclass(frozen=True, slots=True)
class Leg:
    """Several trainings that go from one number of steps to another together.

    Args:
        jobs: one per row; they differ in reward and seed alone.
        start: environment steps after which their rows were put down; 0 begins anew.

    Raises:
        ValueError: for jobs that cannot be trained together, or a start beyond them.
    """

    jobs: tuple[TrainingJob, ...]
    start: int = 0

    def __post_init__(self) -> None:
        if not self.jobs:
            raise ValueError("leg: expected at least one job, got none")
        first = self.jobs[0]
        for name in _COMMON:
            if any(getattr(job, name) != getattr(first, name) for job in self.jobs):
                raise ValueError(f"leg: expected jobs of the same {name}")
        if (first.trainer, first.trust) != ("population", "language"):
            raise ValueError(
                "leg: expected jobs of trainer 'population' and trust 'language', got "
                f"{first.trainer!r} and {first.trust!r}"
            )
        if not 0 <= self.start < first.steps:
            raise ValueError(
                f"leg: expected a start from 0 to below {first.steps}, got {self.start}"
            )

    def to_json(self) -> str:
        """What ``from_json`` reads."""
        jobs = [job.as_record() for job in self.jobs]
        return json.dumps({"jobs": jobs, "start": self.start}, sort_keys=True)

    @property
    def key(self) -> str:
        """SHA-256 of the canonical JSON."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """The leg that ``to_json`` wrote; ValueError for anything else."""
        try:
            values = json.loads(text)
        except RecursionError:
            raise ValueError("leg: expected jobs and start, got deep nesting") from None
        if not isinstance(values, dict) or set(values) != {"jobs", "start"}:
            raise ValueError("leg: expected jobs and start")
        if not isinstance(values["jobs"], list):
            raise ValueError("leg: expected a list of jobs")
        try:
            start = integer("start", values["start"])
            jobs = [TrainingJob.of_record(job) for job in values["jobs"]]
        except TypeError as error:
            raise ValueError(f"leg: {error}") from None
        return cls(tuple(jobs), start)

    def halves(self) -> tuple[Self, Self]:
        """Two legs that train the same."""
        middle = len(self.jobs) // 2
        cls = type(self)
        return cls(self.jobs[:middle], self.start), cls(self.jobs[middle:], self.start)


Work = TrainingJob | Leg
"""What one worker does: one training, or several as a population."""


def jobs_of(work: Work) -> tuple[TrainingJob, ...]:
    """The trainings of a piece of work."""
    return work.jobs if isinstance(work, Leg) else (work,)


@dataclass(frozen=True, slots=True)
class Curve:
    """Means over the episodes that ended in the span up to the end of each window.

    The span is the time in which every environment ends an episode at least once;
    before it is full, and where no episode ended, there is None. Fitness and success
    are the task's own, proxy is the designed reward that the agent was trained on.
    """

    steps: tuple[int, ...] = ()
    """Environment steps at the end of each window."""
    episodes: tuple[int, ...] = ()
    """Episodes that ended in each window."""
    fitness: tuple[float | None, ...] = ()
    success: tuple[float | None, ...] = ()
    proxy: tuple[float | None, ...] = ()
    length: tuple[float | None, ...] = ()
    terms: Mapping[str, tuple[float | None, ...]] = field(default_factory=dict)
    """Sum per episode of every term, by name."""

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """The curve in plain JSON types, as ``asdict`` gives it."""
        columns = {name: tuple(values[name]) for name in _CURVE_COLUMNS}
        terms = {name: tuple(sums) for name, sums in values["terms"].items()}
        return cls(**columns, terms=terms)


_CURVE_COLUMNS = tuple(f.name for f in fields(Curve) if f.name != "terms")


@dataclass(frozen=True, slots=True)
class TrainingResult:
    """What a finished training gives.

    ``fitness`` and ``success`` come from the trusted evaluation: fresh
    environments, no reward code. ``proxy`` is what the agent was paid, and never
    selects anything.
    """

    job: str
    """Key of the job."""
    fitness: tuple[float, ...]
    """True score of each evaluation episode."""
    success: tuple[bool, ...]
    """Whether each evaluation episode solved the task."""
    length: tuple[int, ...]
    """Steps of each evaluation episode."""
    proxy: float | None
    """Mean designed return of the episodes in the last fifth of the training."""
    curve: Curve
    steps: int
    """Environment steps of the training."""
    cpu_seconds: float
    wall_seconds: float
    train_seconds: float
    """Part of ``wall_seconds`` that the training took; the rest is evaluation."""
    weights: str | None = None
    """Name of the weights' file in the folder of the artefacts."""
    episodes: str | None = None
    """Name of the file with the recorded evaluation episodes."""
    seconds: Mapping[str, float] | None = None
    """Parts of ``wall_seconds`` (``guerdon.agents.seconds.MEASURED``); None where
    they were not told apart."""

    @property
    def mean_fitness(self) -> float:
        """Mean true score."""
        return sum(self.fitness) / len(self.fitness)

    @property
    def success_rate(self) -> float:
        """Share of solved episodes."""
        return sum(self.success) / len(self.success)

    def as_record(self) -> dict[str, Any]:
        """The form that a journal keeps: means first, episodes under ``evaluation``."""
        episodes = {"fitness": self.fitness, "success": self.success}
        return {
            "fitness": self.mean_fitness,
            "success": self.success_rate,
            "proxy": self.proxy,
            "evaluation": episodes | {"length": self.length},
            "curve": asdict(self.curve),
            "steps": self.steps,
            "cpu_seconds": self.cpu_seconds,
            "wall_seconds": self.wall_seconds,
            "train_seconds": self.train_seconds,
            "seconds": self.seconds,
            "weights": self.weights,
            "episodes": self.episodes,
        }

    def to_json(self) -> str:
        """Canonical JSON."""
        return json.dumps(asdict(self), sort_keys=True, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """The result that ``to_json`` wrote; Value- or TypeError for anything else."""
        values = _record(text, cls)
        for name in ("fitness", "success", "length"):
            values[name] = tuple(values[name])
        scores = values["fitness"]
        if not (0 < len(scores) == len(values["success"]) == len(values["length"])):
            raise ValueError("expected fitness, success and length of each episode")
        if any(isinstance(s, bool) or not isinstance(s, int | float) for s in scores):
            raise ValueError("expected a number as the fitness of each episode")
        for name in ("cpu_seconds", "wall_seconds", "train_seconds"):
            number(name, values[name])
        if values["seconds"] is not None:
            wall = values["wall_seconds"]
            values["seconds"] = checked_seconds(values["seconds"], wall)
        for name in ("weights", "episodes"):
            # It comes from a process that may have run anything.
            if values[name] is not None:
                inside(name, values[name])
        integer("steps", values["steps"])
        return cls(**values | {"curve": Curve.from_dict(values["curve"])})


@dataclass(frozen=True, slots=True)
class Trouble:
    """The machine could not do a training, which says nothing about the candidate.

    It is never journaled: when the disk has room again, the training is simply done.
    """

    number: int
    """The system's ``errno``."""
    text: str
    """What is the matter and what helps."""
    file: str | None = None

    @classmethod
    def of(cls, fault: OSError) -> Self:
        """The trouble that ``guerdon.faults.machine_fault`` has worded."""
        file = None if fault.filename is None else str(fault.filename)
        return cls(fault.errno or 0, str(fault.strerror or fault), file)

    def error(self) -> OSError:
        """The error again, to be raised."""
        return OSError(self.number, self.text, self.file)


Outcome = TrainingResult | Failure
"""A training either gives a result or says why not; never a made-up number."""


def not_finite(outcome: Outcome) -> Failure | None:
    """The failure of a result with a true score that is no number, else None."""
    if isinstance(outcome, TrainingResult):
        for i, score in enumerate(outcome.fitness):
            if not math.isfinite(score):
                return Failure(
                    "non_finite",
                    f"the fitness of evaluation episode {i} is {score}; expected a "
                    "finite number",
                )
    return None


def outcome_to_json(outcome: Outcome | Trouble) -> str:
    """A result, a failure or the machine's trouble as JSON."""
    if isinstance(outcome, Trouble):
        return json.dumps({"trouble": asdict(outcome)}, sort_keys=True)
    if isinstance(outcome, Failure):
        return json.dumps({"failure": asdict(outcome)}, sort_keys=True)
    return outcome.to_json()


def outcome_from_json(text: str | bytes) -> Outcome | Trouble:
    """What ``outcome_to_json`` wrote.

    Raises:
        ValueError: when the text is none of the three.
    """
    values = json.loads(text)
    if isinstance(values, dict) and "trouble" in values:
        trouble = _checked(values["trouble"], Trouble)
        integer("number", trouble["number"])
        return Trouble(**trouble | {"text": str(trouble["text"])})
    if not isinstance(values, dict) or "failure" not in values:
        return TrainingResult.from_json(text)
    failure = _checked(values["failure"], Failure)
    if failure["kind"] not in get_args(FailureKind):
        raise ValueError(f"failure kind: unknown {failure['kind']!r}")
    if not isinstance(failure["reason"], str):
        raise ValueError("failure reason: expected text")
    if failure["line"] is not None:
        integer("failure line", failure["line"])
    return Failure(**failure)


def without_default(record: dict[str, Any], name: str, value: Any) -> dict[str, Any]:
    """A record without a field that has the value that it had before it was added."""
    return {k: v for k, v in record.items() if k != name or v != value}


def _record(text: str | bytes, cls: type) -> dict[str, Any]:
    return _checked(json.loads(text), cls)


def _checked(values: Any, cls: type) -> dict[str, Any]:
    """The fields of a record, refused when a name is missing or unknown."""
    names = {f.name for f in fields(cls)}
    if not isinstance(values, dict) or set(values) != names:
        got = sorted(values) if isinstance(values, dict) else type(values).__name__
        raise ValueError(f"{cls.__name__}: expected fields {sorted(names)}, got {got}")
    return values

"""What determines a run, and what it may use."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, Self, get_args

from guerdon.agents.ray_cluster import require_address
from guerdon.agents.recipes import recipe_for
from guerdon.agents.training import (
    EVALUATION_SEED,
    MOST_SEED,
    Device,
    TrainingJob,
    Trust,
    require_known,
    require_trainable_on,
    without_default,
)
from guerdon.agents.workers import JOB_FUNCTION
from guerdon.checks import MOST, integer, number
from guerdon.envs import Task
from guerdon.reward_design.search import SearchConfig
from guerdon.reward_design.search.race import MOST_RUNGS

HOLDOUT_SEED = 1000
"""First training seed of the holdout, far from the seeds of the search."""

HOLDOUT_EVALUATION_SEED = 2 * EVALUATION_SEED
"""First episode seed of the holdout; nothing was selected on these episodes."""

TRAININGS = "trainings"
"""Folder of weights and recorded episodes inside the run folder."""

BANK = "bank.npz"
"""Episodes that the screen begins with, inside the run folder."""

MOST_WORKERS = 1024
"""More are a slip of the hand, and no system starts their threads."""

_COUNTS = (
    *("candidates", "rounds", "steps", "seeds", "search_seeds"),
    *("finalists", "final_seeds", "eval_episodes", "seed"),
)

Executor = Literal["local", "ray"]
"""Where trainings run: in processes of this machine, or on a Ray cluster."""

RaceName = Literal["auto", "halving", "ucb", "d3rb", "none"]
"""How the steps of a round are shared out among its candidates."""

Observer = Callable[[str, Mapping[str, Any]], None]
"""Told what happens: ``(kind, data)``; used for the live progress."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunConfig:
    """Everything that determines a search.

    Args:
        task: id of a task, or ``module:object``.
        llm: URI of the language model; ``sampler`` for none.
        candidates: programs trained in each round.
        rounds: rounds of proposing, training and reflecting.
        steps: environment steps of every training; a run rounds them up to whole
            rollouts of the recipe (``whole``) and then speaks of no other number.
        seeds: fresh training seeds of the holdout.
        search_seeds: training seeds of every candidate during the rounds.
        finalists: best candidates that get more seeds.
        final_seeds: most additional seeds of a finalist.
        eval_episodes: episodes of the trusted evaluation after each training.
        algo: ``ppo``, ``sac``, or None for the task's recipe.
        seed: seed of everything that the search draws.
        trust: ``"language"``, or where rewards that are full Python run: in the
            ``"jail"``, or with ``"none"`` in a process with your rights.
        trainer: ``"population"`` for our PPO on many candidates at once, ``"sb3"`` for
            Stable-Baselines3 on each; ``"auto"`` is the first where the task has a
            batched engine.
        race: how a population's steps are shared out: ``"halving"``, ``"ucb"``,
            ``"d3rb"``, or ``"none"`` for full trainings of all; ``"auto"`` is halving,
            and none with SB3.
        eta: halving: the best ``1 / eta`` of a rung go on.
        rungs: halving: number of rungs, 1 to 10; the others get a leg of the lowest one
            at a time.
        device: ``"cuda"`` puts populations and their engines on an NVIDIA GPU, which
            has never been done on hardware; the trusted evaluation stays on the CPU.

    Raises:
        ValueError: for a number out of bounds, an unknown algorithm, trust or device,
            or a device on which the trainer does not train.
        TypeError: for a count that is no whole number, or a name that is no text.
    """

    task: str
    llm: str = "embedded"
    candidates: int = 12
    rounds: int = 3
    steps: int = 100_000
    seeds: int = 5
    search_seeds: int = 1
    finalists: int = 3
    final_seeds: int = 2
    eval_episodes: int = 32
    algo: Literal["ppo", "sac"] | None = None
    seed: int = 0
    trust: Trust = "language"
    trainer: Literal["auto", "population", "sb3"] = "auto"
    race: RaceName = "auto"
    eta: int = 2
    rungs: int = 4
    device: Device = "cpu"

    def __post_init__(self) -> None:
        require_known(self.trust)
        require_trainable_on(self.device, trainer=self.trainer, trust=self.trust)
        for name, known in (
            ("trainer", ("auto", "population", "sb3")),
            ("race", get_args(RaceName)),
        ):
            if getattr(self, name) not in known:
                value = getattr(self, name)
                raise ValueError(f"{name}: expected one of {known}, got {value!r}")
        if self.trainer == "sb3" and self.race not in ("auto", "none"):
            raise ValueError(
                f"race: {self.race!r} needs trainings that can be put down, which "
                "trainer 'sb3' has not; expected 'none', or trainer 'population'"
            )
        for name, low, high in (("eta", 2, MOST), ("rungs", 1, MOST_RUNGS)):
            count = integer(name, getattr(self, name), low, high)
            object.__setattr__(self, name, count)
        for name in ("task", "llm"):
            value = getattr(self, name)
            if not isinstance(value, str):
                raise TypeError(
                    f"{name}: expected text, got {value!r} ({type(value).__name__})"
                )
        if self.algo not in (None, "ppo", "sac"):
            raise ValueError(f"algo: expected 'ppo' or 'sac', got {self.algo!r}")
        most = {"seeds": MOST_SEED - HOLDOUT_SEED}
        for name in _COUNTS:
            low = 0 if name in ("seed", "final_seeds") else 1
            count = integer(name, getattr(self, name), low, most.get(name, MOST))
            object.__setattr__(self, name, count)
        self.search()

    def whole(self, task: Task) -> Self:
        """The same with what ``auto`` means for the task and the steps really taken.

        The steps are those that every training really takes, never fewer.

        Raises:
            ValueError: for an algorithm that cannot act in the task, a race where
                trainings cannot be put down, or a GPU and a task without the engine.
        """
        recipe = recipe_for(task, self.algo)
        trainer, race = self.trainer, self.race
        if self.device != "cpu":
            task.engine_on(self.device)
            trainer = "population"
        elif trainer == "auto":
            fast = task.engine is not None and find_spec("numba") is not None
            trainer = "population" if fast and recipe.algo == "ppo" else "sb3"
        if trainer == "population" and recipe.algo != "ppo":
            raise ValueError(
                f"trainer: 'population' learns by ppo, not by {recipe.algo!r}; "
                "expected trainer 'sb3', or algo 'ppo'"
            )
        if trainer == "sb3" and race not in ("auto", "none"):
            raise ValueError(
                f"race: {race!r} needs trainings that can be put down, and "
                f"{task.id} is trained by 'sb3' here; expected 'none', or trainer "
                "'population'"
            )
        if race == "auto" or trainer == "sb3":
            race = "halving" if trainer == "population" else "none"
        steps = recipe.whole_steps(self.steps)
        return replace(self, steps=steps, trainer=trainer, race=race)

    def search(self) -> SearchConfig:
        """The part that the search itself needs."""
        return SearchConfig(
            candidates=self.candidates,
            rounds=self.rounds,
            search_seeds=self.search_seeds,
            finalists=self.finalists,
            final_seeds=self.final_seeds,
            seed=self.seed,
        )

    def job(self, reward: str, seed: int) -> TrainingJob:
        """A training of the rounds with ``reward`` (a name or a program's text)."""
        return TrainingJob(
            task=self.task,
            reward=reward,
            steps=self.steps,
            seed=seed,
            algo=self.algo,
            eval_episodes=self.eval_episodes,
            trainer="population" if self.trainer == "population" else "sb3",
            whole=self.steps if self.trainer == "population" else None,
            device=self.device if self.trainer == "population" else "cpu",
        )

    def as_record(self) -> dict[str, Any]:
        """What a run folder remembers; the CPU is not named, as in older folders."""
        return without_default(asdict(self), "device", "cpu")

    def workers(self) -> int:
        """Training processes by default: one on a GPU, else one per core."""
        return 1 if self.device == "cuda" else cores()


def cores() -> int:
    """Processors that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Resources:
    """What a run may use; another choice resumes the same run.

    Args:
        workers: training processes at a time; one per core of this machine by default.
            Each that trains on a GPU has a context of its own there.
        budget_tokens: most tokens of the language model, or None.
        budget_usd: most US dollars, or None.
        deadline_s: seconds after which one training is killed, and a population after
            as many times that as it has trainings; None for a generous estimate from
            the steps.
        model_threads: threads of the embedded model.
        cache: folder of bought answers that runs share; by default each run keeps its
            own beside its journal.
        function: ``module:name`` of what a worker runs; tests bring their own.
        executor: ``"local"``, or ``"ray"`` for a cluster, which gives the same results.
        ray_address: ``HOST:PORT`` or ``auto`` of a cluster that this machine has
            joined; None for the environment's ``RAY_ADDRESS``, or for a cluster of this
            machine alone.

    Raises:
        ValueError: for a number out of bounds, an unknown executor, or an address that
            is none.
        TypeError: for a value of another type.
    """

    workers: int = field(default_factory=cores)
    budget_tokens: int | None = None
    budget_usd: float | None = None
    deadline_s: float | None = None
    model_threads: int = 1
    cache: Path | None = None
    function: str = JOB_FUNCTION
    executor: Executor = "local"
    ray_address: str | None = None

    def __post_init__(self) -> None:
        self._require_place()
        for name in ("workers", "model_threads"):
            count = integer(name, getattr(self, name), 1, MOST_WORKERS)
            object.__setattr__(self, name, count)
        if self.budget_tokens is not None:
            tokens = integer("budget_tokens", self.budget_tokens)
            object.__setattr__(self, "budget_tokens", tokens)
        for name in ("budget_usd", "deadline_s"):
            value = getattr(self, name)
            if value is not None:
                number(name, value, 0.0)
        if self.deadline_s == 0:
            raise ValueError(f"deadline_s: expected more than 0, got {self.deadline_s}")
        if self.cache is not None:
            object.__setattr__(self, "cache", Path(self.cache))

    def _require_place(self) -> None:
        if self.executor not in get_args(Executor):
            known = get_args(Executor)
            raise ValueError(
                f"executor: expected one of {known}, got {self.executor!r}"
            )
        address: Any = self.ray_address
        if address is None:
            return
        if not isinstance(address, str):
            kind = type(address).__name__
            raise TypeError(f"ray_address: expected text, got {kind}")
        if self.executor != "ray":
            raise ValueError(
                f"ray_address: {address!r} is of no use to the executor "
                f"{self.executor!r}; it takes executor 'ray'"
            )
        require_address(address)

    def deadline(self, steps: int) -> float:
        """Seconds that a training may take: a hundred steps a second, and a start."""
        return 300.0 + steps / 100.0 if self.deadline_s is None else self.deadline_s

"""Single trainings and evaluations, in this process."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Literal

from guerdon.agents.recipes import recipe_for
from guerdon.agents.server import require_workers
from guerdon.agents.statistics import interval, share_interval
from guerdon.agents.training import (
    Device,
    Leg,
    Outcome,
    TrainingJob,
    Trouble,
    Trust,
    require_trainable_on,
)
from guerdon.checks import integer
from guerdon.envs import Task, load_task
from guerdon.extras import MissingExtra, require_installed
from guerdon.faults import (
    blame,
    machine_fault,
    machine_faults,
    make_folder,
    whole_file,
)
from guerdon.report.profile import training_profile
from guerdon.reward_design.language import Rejected, parse
from guerdon.run.config import Resources
from guerdon.run.device import require_device
from guerdon.run.trust import require_enforced
from guerdon.types import Failure

NAMES = ("sparse", "human")
"""Rewards that are named, not written."""


def require_trainable(task: Task, algo: Literal["ppo", "sac"] | None = None) -> None:
    """Refuse what every training of this task would fail at.

    Raises:
        MissingExtra: when torch, SB3 or what the environment needs is not installed.
        ValueError: for an algorithm that cannot act in this task, or an environment
            that cannot be made.
    """
    # Looked for and not loaded: the controller of a search trains nothing itself.
    for module in ("torch", "stable_baselines3", "safetensors"):
        require_installed(module, "sb3")
    with _users_code(f"{task.id}: the environment cannot be made"):
        task.make().close()  # type: ignore[no-untyped-call]
    recipe_for(task, algo)


@contextmanager
def _users_code(what: str) -> Iterator[None]:
    """Words an error of somebody's environment, whatever its kind."""
    try:
        yield
    except MissingExtra:
        raise
    except Exception as error:
        fault = machine_fault(error, None)
        if fault is not None:
            raise fault from error
        raise ValueError(f"{what}: {blame(error)}") from error


def train_one(
    task: str,
    reward: str,
    *,
    base: Literal["sparse", "none"] = "sparse",
    algo: Literal["ppo", "sac"] | None = None,
    steps: int = 100_000,
    seed: int = 0,
    eval_episodes: int = 32,
    out: Path | str | None = None,
    progress: Callable[[float], None] | None = None,
    trust: Trust = "language",
    device: Device = "cpu",
) -> dict[str, Any]:
    """Train one agent and give its true score.

    A reward of the language is trained in this process, one in full Python in the
    jail, or with trust ``"none"`` in a process of its own. Stable-Baselines3 trains on
    the CPU; on a GPU it is our PPO, as a population of one.

    Args:
        task: id of a task, or ``module:object``.
        reward: ``"sparse"``, ``"human"`` or the text of a program.
        trust: what the text may be, and where it runs; see ``TrainingJob``.
        base: what a program's terms are added to.
        algo: ``ppo``, ``sac``, or None for the task's recipe.
        steps: environment steps; rounded up to whole rollouts of the recipe.
        seed: seed of the training.
        eval_episodes: episodes of the evaluation afterwards.
        out: folder for weights, episodes and ``result.json``.
        device: ``"cuda"`` for an NVIDIA GPU and a task with the batched engine; it has
            never been run on hardware.
        progress: told the finished share.

    Returns:
        ``fitness`` and ``success`` as estimates over the evaluation's episodes,
        ``steps`` as they were trained and ``profile``, where the time went; or
        ``failure``.

    Raises:
        ValueError: for an unknown task, a number out of bounds or a wrong algorithm,
            or an environment that cannot be made; for the jail where a layer of it is
            missing; for a device that is not there, or does not go with the rest.
        TypeError: for an argument of another type.
        MissingExtra: names the extra that is not installed.
        OSError: for a disk that is full or not to be written to, or too little memory.
    """
    if isinstance(out, str) and not out:
        raise ValueError("out: expected a folder, got an empty text")
    require_trainable_on(device, trainer="population", trust=trust)
    job = TrainingJob(
        task=task,
        reward=reward,
        steps=steps,
        seed=seed,
        base=base,
        algo=algo,
        eval_episodes=eval_episodes,
        trust="language" if reward in NAMES else trust,
        trainer="sb3" if device == "cpu" else "population",
        device=device,
    )
    one = load_task(task)
    if job.trust != "language" and _is_program(reward, one):
        job = replace(job, trust="language")
    require_trainable(one, algo)
    # Weights and result name the steps that were taken, not those asked for.
    job = replace(job, steps=recipe_for(one, algo).whole_steps(job.steps))
    require_enforced(job.trust)
    if device != "cpu":
        require_device(one, device)
        job = replace(job, whole=job.steps)
    if job.trust != "language":
        require_workers()
    if out is not None:
        out = Path(out)
        make_folder(out)
    outcome = _trained(job, out, progress)
    if isinstance(outcome, Failure):
        return {"task": task, "failure": asdict(outcome)}
    found = _scores(outcome.fitness, outcome.success) | {
        "task": task,
        "proxy": outcome.proxy,
        "steps": outcome.steps,
        "seconds": round(outcome.wall_seconds, 2),
        "profile": training_profile(
            outcome.seconds, outcome.wall_seconds, outcome.train_seconds
        ).as_json(),
        "weights": None if out is None else str(out / (outcome.weights or "")),
    }
    if out is not None:
        with machine_faults(out), whole_file(out / "result.json") as partial:
            partial.write_text(outcome.to_json() + "\n")
    return found


def _is_program(text: str, task: Task) -> bool:
    """Whether the language can say it: then it never needs more trust than that."""
    try:
        parse(text, task.layout, task.action)
    except Rejected:
        return False
    return True


def _trained(
    job: TrainingJob, out: Path | None, progress: Callable[[float], None] | None
) -> Outcome:
    """Here, or where the job's trust says."""
    if job.trainer == "population":
        from guerdon.agents.population import train_leg

        with machine_faults(out):
            return train_leg(Leg((job,)), folder=out, progress=progress)[0]
    if job.trust == "language":
        from guerdon.agents.sb3 import train

        return train(job, folder=out, progress=progress)
    from guerdon.agents.workers import WorkerPool

    with (
        tempfile.TemporaryDirectory(prefix="guerdon-train-") as folder,
        WorkerPool(1, Resources().deadline(job.steps), out or Path(folder)) as pool,
    ):
        pool.submit(job)
        while not (found := pool.poll(0.2)):
            if progress is not None:
                progress(pool.progress(job))
    ((_, outcome),) = found
    if isinstance(outcome, Trouble):
        raise outcome.error()
    return outcome


def evaluate_policy(
    task: str, policy: Path | str, *, episodes: int, seed: int
) -> dict[str, Any]:
    """The true score of saved weights on fresh episodes.

    Actions are chosen as when a training is judged: drawn from the policy, or its mode
    where the recipe of the task says so.

    Raises:
        ValueError: for a file that holds no policy of this task (says what the weights
            take and give, and what the task has), a number out of bounds, or an
            environment that raises or gives a score that is not finite.
        TypeError: for an argument of another type.
        OSError: for a file that cannot be read.
        MissingExtra: names the extra that is not installed.
    """
    policy = Path(policy)
    episodes, seed = integer("episodes", episodes, 1), integer("seed", seed)
    one = load_task(task)
    require_trainable(one)
    from guerdon.agents.evaluate import evaluate
    from guerdon.agents.policies import load_policy

    loaded = load_policy(policy, one)
    with _users_code(f"{one.id}: the evaluation broke off"):
        found = evaluate(
            one,
            loaded,
            episodes=episodes,
            seed=seed,
            deterministic=recipe_for(one).deterministic,
        )
    return {"task": one.id, **_scores(found.fitness, found.success)}


def _scores(fitness: Sequence[float], success: Sequence[bool]) -> dict[str, Any]:
    """Estimates over episodes."""
    return {
        "fitness": interval(list(fitness), trim=0.0)._asdict(),
        "success": share_interval([float(s) for s in success])._asdict(),
        "episodes": len(fitness),
    }

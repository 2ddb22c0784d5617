"""Single trainings and evaluations, in this process."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

from guerdon.agents.recipes import recipe_for
from guerdon.agents.statistics import interval, share_interval
from guerdon.agents.training import TrainingJob
from guerdon.envs import Task, load_task
from guerdon.extras import require
from guerdon.types import Failure


def require_trainable(task: Task, algo: Literal["ppo", "sac"] | None = None) -> None:
    """Refuse what every training of this task would fail at.

    Raises:
        MissingExtra: when torch, SB3 or what the environment needs is not installed.
        ValueError: for an algorithm that cannot act in this task.
    """
    # Looked for and not loaded: the controller of a search trains nothing itself.
    for module in ("torch", "stable_baselines3", "safetensors"):
        if importlib.util.find_spec(module) is None:
            require(module, "sb3")
    task.make().close()  # type: ignore[no-untyped-call]
    recipe_for(task, algo)


def train_one(
    task: str,
    reward: str,
    *,
    base: Literal["sparse", "none"] = "sparse",
    algo: Literal["ppo", "sac"] | None = None,
    steps: int = 100_000,
    seed: int = 0,
    eval_episodes: int = 32,
    out: Path | None = None,
    progress: Callable[[float], None] | None = None,
) -> dict[str, Any]:
    """Train one agent in this process and give its true score.

    Args:
        task: id of a task, or ``module:object``.
        reward: ``"sparse"``, ``"human"`` or the text of a program.
        base: what a program's terms are added to.
        algo: ``ppo``, ``sac``, or None for the task's recipe.
        steps: environment steps.
        seed: seed of the training.
        eval_episodes: episodes of the evaluation afterwards.
        out: folder for weights, episodes and ``result.json``.
        progress: told the finished share.

    Returns:
        ``fitness`` and ``success`` as estimates over the evaluation's episodes, or
        ``failure``.

    Raises:
        ValueError: for an unknown task, a wrong number or algorithm.
        MissingExtra: names the extra that is not installed.
    """
    job = TrainingJob(
        task=task,
        reward=reward,
        steps=steps,
        seed=seed,
        base=base,
        algo=algo,
        eval_episodes=eval_episodes,
    )
    require_trainable(load_task(task), algo)
    from guerdon.agents.sb3 import train

    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
    outcome = train(job, folder=out, progress=progress)
    if isinstance(outcome, Failure):
        return {"task": task, "failure": asdict(outcome)}
    found = _scores(outcome.fitness, outcome.success) | {
        "task": task,
        "proxy": outcome.proxy,
        "steps": outcome.steps,
        "seconds": round(outcome.wall_seconds, 2),
        "weights": None if out is None else str(out / (outcome.weights or "")),
    }
    if out is not None:
        (out / "result.json").write_text(outcome.to_json() + "\n")
    return found


def evaluate_policy(
    task: str, policy: Path, *, episodes: int, seed: int
) -> dict[str, Any]:
    """The true score of saved weights on fresh episodes.

    Raises:
        ValueError: for a file that holds no policy of this task.
        MissingExtra: names the extra that is not installed.
    """
    one = load_task(task)
    require_trainable(one)
    from safetensors import SafetensorError

    from guerdon.agents.evaluate import evaluate
    from guerdon.agents.policies import load_policy

    try:
        loaded = load_policy(policy, one)
    except SafetensorError as error:
        raise ValueError(
            f"{policy}: expected weights of guerdon train (.safetensors): {error}"
        ) from None
    found = evaluate(one, loaded, episodes=episodes, seed=seed)
    return {"task": one.id, **_scores(found.fitness, found.success)}


def _scores(fitness: Sequence[float], success: Sequence[bool]) -> dict[str, Any]:
    """Estimates over episodes."""
    return {
        "fitness": interval(list(fitness), trim=0.0)._asdict(),
        "success": share_interval([float(s) for s in success])._asdict(),
        "episodes": len(fitness),
    }

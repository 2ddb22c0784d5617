"""The conformance kit: what every task, ours or yours, has to keep.

guerdon.check_task(task)

The text of reference rewards is read where the language is, by
``guerdon.reward_design.checker``, which adds that check to the ones here.
"""

from __future__ import annotations

import importlib.util
import re
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np

from guerdon.checks import integer
from guerdon.envs.table import TASKS, load_task
from guerdon.envs.task import ReferenceReward, Task
from guerdon.faults import blame

VECTOR = 3
"""Number of environments that are compared in vector form."""

VECTOR_STEPS = 100
"""Steps for which they are compared."""


class TaskCheckError(AssertionError):
    """A task does not keep what tasks promise.

    Args:
        task_id: of the task.
        problems: one sentence for each promise that is broken.
    """

    def __init__(self, task_id: str, problems: list[str]) -> None:
        self.problems = tuple(problems)
        lines = "".join(f"\n- {problem}" for problem in problems)
        super().__init__(f"{task_id}: {len(problems)} problem(s){lines}")


@dataclass(frozen=True, slots=True)
class CheckReport:
    """What was checked of a task, and found in order.

    Args:
        task_id: of the task.
        passed: the checks that ran.
        not_run: the checks that could not run, with the reason.
        notes: warnings of Gymnasium's and SB3's checkers.
        fitness: true scores of the episodes of random play.
        steps: number of steps in them.
    """

    task_id: str
    passed: tuple[str, ...]
    not_run: tuple[str, ...]
    notes: tuple[str, ...]
    fitness: tuple[float, ...]
    steps: int


class Play(NamedTuple):
    """One episode as a user of the task sees it; rows and infos of T + 1 moments."""

    obs: list[Any]
    rows: list[np.ndarray]
    actions: list[Any]
    rewards: list[float]
    terminated: bool
    truncated: bool
    infos: list[dict[str, Any]]

    @property
    def length(self) -> int:
        """Number of steps, ``T``."""
        return len(self.actions)


@dataclass
class Context:
    """What a check looks at, and where it says that it could not run."""

    task: Task
    seed: int
    plays: list[Play]
    not_run: list[str] = field(default_factory=list)


Check = tuple[str, Callable[[Context], Iterator[str]]]
"""A name, and a function that gives one sentence for each broken promise."""


def check_task(
    task: Task | str,
    *,
    episodes: int = 3,
    seed: int = 0,
    more: Sequence[Check] = (),
) -> CheckReport:
    """Check that a task keeps what tasks promise, in random play.

    Gymnasium's and SB3's own checkers pass; ``reset(seed=s)`` gives the same episode
    for the same actions; features are finite, in their bounds and the same in vector
    form; rewards are finite; fitness and success are there at the end, finite, and
    deaf to reward wrappers. Whether the reference rewards can be read is asked by
    ``guerdon.check_task``; without it the report says that this was not done.

    Args:
        task: a task, or a name that ``load_task`` understands.
        episodes: of random play; at least three are played.
        seed: of the first one; the next ones count on.
        more: further checks, which see the same episodes.

    Returns:
        What was checked, with the warnings that were met on the way.

    Raises:
        TaskCheckError: with all problems that were found.
        TypeError: for what is no task, or a number that is no whole one.
        ValueError: when ``episodes`` is less than 1, or ``seed`` less than 0.
    """
    episodes = integer("episodes", episodes, least=1)
    seed = integer("seed", seed)
    task = load_task(task)
    problems: list[str] = []
    passed: list[str] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        context = Context(task, seed, [])
        for name, check in (*CHECKS, *more):
            before = len(problems), len(context.not_run)
            try:
                if name == "random play":
                    count = max(episodes, VECTOR)
                    context.plays = [play(task, seed + i) for i in range(count)]
                problems += [f"{name}: {text}" for text in check(context)]
            except Exception as error:
                problems.append(f"{name}: {blame(error)}")
                if not context.plays:
                    break
            if before == (len(problems), len(context.not_run)):
                passed.append(name)
    if problems:
        raise TaskCheckError(task.id, problems)
    if not more and (written := _written(task)):
        context.not_run.append(
            f"rewards {written}: guerdon.check_task reads their text"
        )
    return CheckReport(
        task_id=task.id,
        passed=tuple(passed),
        not_run=tuple(context.not_run),
        notes=_notes(caught),
        fitness=tuple(p.infos[-1]["fitness"] for p in context.plays),
        steps=sum(p.length for p in context.plays),
    )


def play(
    task: Task,
    seed: int,
    actions: list[Any] | None = None,
    wrap: Callable[[gym.Env[Any, Any]], gym.Env[Any, Any]] | None = None,
) -> Play:
    """One episode of random play, or of the given actions."""
    raw = task.make()
    env: gym.Env[Any, Any] = raw if wrap is None else wrap(raw)
    with closing(env):
        env.action_space.seed(seed)
        obs, info = env.reset(seed=seed)
        record = Play([obs], [info["features"]], [], [], False, False, [info])
        terminated = truncated = False
        while not (terminated or truncated):
            step = record.length
            if step >= task.horizon:
                limit = task.horizon
                raise RuntimeError(f"an episode is longer than the horizon {limit}")
            if actions is not None and step >= len(actions):
                break
            action = env.action_space.sample() if actions is None else actions[step]
            obs, reward, terminated, truncated, info = env.step(action)
            record.obs.append(obs)
            record.rows.append(info["features"])
            record.actions.append(action)
            record.rewards.append(float(reward))
            record.infos.append(info)
    return record._replace(terminated=terminated, truncated=truncated)


def _check_rewards(context: Context) -> Iterator[str]:
    rewards: Mapping[str, object] = context.task.rewards
    if "sparse" not in rewards:
        yield f"there is no reward 'sparse'; known: {', '.join(rewards) or 'none'}"
    for name, reward in rewards.items():
        if not isinstance(reward, ReferenceReward):
            yield f"{name!r} is a {type(reward).__name__}, not a ReferenceReward"


def _written(task: Task) -> str:
    """Names of the reference rewards that have a text, which is not read here."""
    return ", ".join(n for n, r in task.rewards.items() if r.source is not None)


def _check_action(context: Context) -> Iterator[str]:
    action = context.task.action
    with closing(context.task.make()) as env:
        space = env.action_space
    if action.kind == "discrete":
        fits = isinstance(space, gym.spaces.Discrete) and space.n == action.size
    else:
        fits = isinstance(space, gym.spaces.Box) and space.shape == (action.size,)
    if not fits:
        yield f"the task declares {action}, the environment has {space}"


def _check_play(context: Context) -> Iterator[str]:
    for record in context.plays:
        last = record.infos[-1]
        for key, kind in (("fitness", float), ("success", bool)):
            if type(last.get(key)) is not kind:
                found = type(last.get(key)).__name__
                yield f"{key} at the end is a {found}, not a {kind.__name__}"
        if not np.isfinite(last["fitness"]):
            yield f"fitness is not finite: {last['fitness']}"
            return
        bad = np.flatnonzero(~np.isfinite(record.rewards))
        if bad.size:
            step = int(bad[0])
            yield (
                f"the environment's reward is {record.rewards[step]} at step "
                f"{step + 1} of an episode; expected finite numbers"
            )
            return


def _check_features(context: Context) -> Iterator[str]:
    layout = context.task.layout
    for record in context.plays:
        for row in record.rows:
            if getattr(row, "dtype", None) != np.float32:
                yield f"a feature row is not a float32 array: {row!r}"
                return
            if row.shape != (layout.width,):
                yield f"a feature row has shape {row.shape}, not ({layout.width},)"
                return
        if any(
            np.shares_memory(a, b)
            for a, b in zip(record.rows, record.rows[1:], strict=False)
        ):
            yield "a feature row shares memory with the one before"
    rows = np.array([row for record in context.plays for row in record.rows])
    for feature in layout:
        values = rows[:, layout.columns(feature.name)]
        if not np.isfinite(values).all():
            yield f"feature {feature.name!r} is not always finite"
            continue
        # Bounds are exact numbers, rows are float32: allow for the rounding.
        slack = 1e-6 * max(1.0, *(abs(b) for b in _finite_bounds(feature)), 0.0)
        if values.min() < feature.low - slack or values.max() > feature.high + slack:
            yield (
                f"feature {feature.name!r} took values from {values.min():.6g} to "
                f"{values.max():.6g}, outside [{feature.low}, {feature.high}]"
            )
        if feature.kind == "flag" and not np.isin(values, (0.0, 1.0)).all():
            yield f"flag {feature.name!r} took values other than 0 and 1"


def _finite_bounds(feature: Any) -> list[float]:
    return [b for b in (feature.low, feature.high) if np.isfinite(b)]


def _check_seeding(context: Context) -> Iterator[str]:
    from gymnasium.utils.env_checker import data_equivalence

    first = context.plays[0]
    again = play(context.task, context.seed, first.actions)
    if again.length != first.length:
        yield f"the same episode took {first.length} and {again.length} steps"
        return
    if not data_equivalence(first.obs, again.obs, exact=True):
        yield "observations differ between two episodes with one seed"
    if not np.array_equal(first.rows, again.rows):
        yield "features differ between two episodes with one seed"
    if not np.array_equal(first.rewards, again.rewards, equal_nan=True):
        yield "rewards differ between two episodes with one seed"


def _check_fitness_deaf(context: Context) -> Iterator[str]:
    def wrap(env: gym.Env[Any, Any]) -> gym.Env[Any, Any]:
        return gym.wrappers.TransformReward(
            env, lambda reward: 3.0 - 7.0 * float(reward)
        )

    first = context.plays[0].infos[-1]
    again = play(context.task, context.seed, context.plays[0].actions, wrap).infos[-1]
    for key in ("fitness", "success"):
        if not np.array_equal(first[key], again[key], equal_nan=True):
            yield f"{key} is {first[key]}, but {again[key]} under a reward wrapper"


def _check_vector(context: Context) -> Iterator[str]:
    for mode in (
        gym.vector.AutoresetMode.NEXT_STEP,
        gym.vector.AutoresetMode.SAME_STEP,
    ):
        yield from _compare_vector(context, mode)


def _compare_vector(context: Context, mode: gym.vector.AutoresetMode) -> Iterator[str]:
    task, plays = context.task, context.plays[:VECTOR]
    kwargs: dict[str, Any] = {"autoreset_mode": mode}
    envs: gym.vector.VectorEnv[Any, Any, Any]
    if TASKS.get(task.id) is task and task.engine is not None:
        envs = gym.make_vec(task.id, num_envs=VECTOR, **kwargs)
    elif TASKS.get(task.id) is task:
        envs = gym.make_vec(task.id, num_envs=VECTOR, vector_kwargs=kwargs)
    else:
        envs = task.make_vec(VECTOR, vector_kwargs=kwargs)
    try:
        _, infos = envs.reset(seed=context.seed)
        for step in range(min(VECTOR_STEPS, max(p.length for p in plays)) + 1):
            for index, record in enumerate(plays):
                if step > record.length:
                    continue
                ended = step == record.length
                own = infos
                if ended and mode is gym.vector.AutoresetMode.SAME_STEP:
                    own = infos["final_info"]
                if not np.array_equal(own["features"][index], record.rows[step]):
                    yield f"features differ in vector form ({mode.value}), step {step}"
                    return
                score = record.infos[-1]["fitness"]
                if ended and not np.array_equal(
                    own["fitness"][index], score, equal_nan=True
                ):
                    yield f"fitness differs in vector form ({mode.value})"
            actions = [record.actions[min(step, record.length - 1)] for record in plays]
            infos = envs.step(np.array(actions))[-1]
    finally:
        envs.close()


def _check_gymnasium(context: Context) -> Iterator[str]:
    from gymnasium.utils.env_checker import check_env

    with closing(context.task.make()) as env:
        check_env(env, skip_render_check=True)
    return iter(())


def _check_sb3(context: Context) -> Iterator[str]:
    if importlib.util.find_spec("stable_baselines3") is None:
        context.not_run.append("SB3's check_env: stable-baselines3 is not installed")
        return iter(())
    from stable_baselines3.common.env_checker import check_env

    with closing(context.task.make()) as env:
        check_env(env, warn=True, skip_render_check=True)
    return iter(())


def _notes(caught: list[warnings.WarningMessage]) -> tuple[str, ...]:
    """Texts of warnings, each once, without colours."""
    texts = (re.sub(r"\x1b\[\d*m", "", str(warning.message)) for warning in caught)
    # A task's environment is a wrapper on purpose; Gymnasium's checker warns of it.
    kept = (t for t in texts if "different from the unwrapped version" not in t)
    return tuple(dict.fromkeys(kept))


CHECKS: tuple[Check, ...] = (
    ("reference rewards", _check_rewards),
    ("action", _check_action),
    ("random play", _check_play),
    ("features", _check_features),
    ("seeding", _check_seeding),
    ("fitness is deaf to reward wrappers", _check_fitness_deaf),
    ("single and vector form agree", _check_vector),
    ("Gymnasium's check_env", _check_gymnasium),
    ("SB3's check_env", _check_sb3),
)
"""Every check by name, in the order in which they run."""

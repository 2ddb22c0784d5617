"""A task of any Gymnasium environment, in under ten lines.

task = guerdon.task_from_env(
    "Acrobot-v1",
    text="Swing the tip above the line.",
    fitness="return",
    success=lambda episode: episode.terminated,
)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from functools import partial
from typing import Any

import gymnasium as gym
import numpy as np

from guerdon.checks import integer
from guerdon.envs.introspect import introspect
from guerdon.envs.scores import episode_return
from guerdon.envs.task import Reader, ReferenceReward, Task, place_of
from guerdon.types import ActionSpec, Episode, Feature, Layout

EnvLike = str | Callable[..., gym.Env[Any, Any]]
"""A Gymnasium id, or a function that makes a new environment at every call."""

Read = Callable[[Any, Any, Mapping[str, Any]], Any]
"""``(unwrapped env, observation, info)`` -> the features by name, or one flat row."""

_OWN = ReferenceReward(None, "the environment's own reward")


def task_from_env(
    env: EnvLike,
    *,
    text: str,
    fitness: Callable[[Episode], float] | str,
    success: Callable[[Episode], bool] | None = None,
    features: Sequence[Feature] | None = None,
    read: Read | None = None,
    rewards: Mapping[str, str | ReferenceReward | None] | None = None,
    horizon: int | None = None,
    budget: int = 100_000,
    id: str | None = None,
    probe_steps: int = 2000,
    seed: int = 0,
) -> Task:
    """Make a task of any Gymnasium environment.

    Args:
        env: a Gymnasium id, or a function that makes a new environment.
        text: one sentence that says what the agent should achieve.
        fitness: the true score of an episode, higher is better; ``"return"`` is
            the sum of the environment's own rewards.
        success: whether an episode solved the task; without it, whether the return
            reaches the ``reward_threshold`` the environment is registered with, and
            never where it has none.
        features: what a reward may see, together with ``read``. Without them, the
            observation space and numeric scalars of ``info`` are used, and seeded
            random play adds to each meaning the range that it saw.
        read: gives the features, by name or as one flat row, from the unwrapped
            environment, the observation and ``info``.
        rewards: reference rewards by name, text in the reward language or None for
            the environment's own, which is ``sparse`` if you name no other.
        horizon: steps after which an episode is truncated; the environment's own
            limit if left out.
        budget: training steps at which the task is usually reported.
        id: name of the task; that of the environment if left out.
        probe_steps: steps of random play that look for ``info`` and ranges.
        seed: of that random play.

    Raises:
        TypeError: for an environment, action space, or argument of another kind.
        ValueError: for a missing limit, features that do not fit, an empty text, or
            a function that gives the same environment at every call.
    """
    _check_arguments(text, fitness, success, features, read)
    _check_more(rewards, id, horizon, budget, probe_steps, seed)
    make_base = partial(_make, env, horizon)
    with closing(make_base()) as probe:
        limit = horizon or _limit(probe)
        action = _action(probe.action_space)
        reader: Reader
        if features is not None and read is not None:
            layout = Layout(tuple(features))
            reader = partial(_read_declared, layout, read)
            obs, info = probe.reset(seed=seed)
            reader(probe.unwrapped, obs, info)
        else:
            layout, reader = introspect(probe, probe_steps, seed)
        threshold = None if probe.spec is None else probe.spec.reward_threshold
        made = probe.unwrapped
    if not isinstance(env, str):
        _require_new(make_base, made)
    name = id or (env if isinstance(env, str) else _name_of(env))
    return Task(
        id=name,
        intent=text.strip(),
        make_base=make_base,
        layout=layout,
        action=action,
        read=reader,
        fitness=fitness if callable(fitness) else episode_return,
        success=success or partial(_reaches, threshold),
        rewards=_references(rewards),
        horizon=limit,
        budget=budget,
        source=env if isinstance(env, str) else f"made by {name}",
    )


def _name_of(maker: object) -> str:
    return str(getattr(maker, "__name__", type(maker).__name__))


def _check_arguments(
    text: object,
    fitness: object,
    success: object,
    features: object,
    read: object,
) -> None:
    if not isinstance(text, str) or not text.strip():
        raise ValueError(
            "text: expected one sentence that says what the agent should achieve, "
            f"got {text!r}"
        )
    if not callable(fitness) and fitness != "return":
        raise TypeError(
            f"fitness: expected a function of an Episode, or 'return', got {fitness!r}"
        )
    for name, function in (("success", success), ("read", read)):
        if function is not None and not callable(function):
            raise TypeError(f"{name}: expected a function, got {function!r}")
    if (features is None) != (read is None):
        given, missing = ("features", "read") if read is None else ("read", "features")
        raise ValueError(
            f"{given}= was given without {missing}=; give both, or neither to have "
            "the features introspected"
        )
    if features is not None:
        if not isinstance(features, Sequence) or isinstance(features, str):
            raise TypeError(
                f"features: expected a list of guerdon.Feature, got {features!r}"
            )
        for feature in features:
            if not isinstance(feature, Feature):
                raise TypeError(
                    f"features: expected guerdon.Feature objects, got {feature!r}"
                )
        if not features:
            raise ValueError("features: expected at least one, got none")


def _check_more(
    rewards: object,
    id: object,
    horizon: object,
    budget: object,
    probe_steps: object,
    seed: object,
) -> None:
    if rewards is not None and not isinstance(rewards, Mapping):
        raise TypeError(
            f"rewards: expected a mapping from names to rewards, got {rewards!r}"
        )
    if id is not None and not isinstance(id, str):
        raise TypeError(f"id: expected a text, got {id!r}")
    if horizon is not None:
        integer("horizon", horizon, least=1)
    integer("budget", budget, least=1)
    integer("probe_steps", probe_steps, least=1)
    integer("seed", seed)


def _make(env: EnvLike, horizon: int | None, **kwargs: Any) -> gym.Env[Any, Any]:
    """A new raw environment, with its time limit inside."""
    if isinstance(env, str):
        kwargs.setdefault("max_episode_steps", horizon)
        return gym.make(env, disable_env_checker=True, **kwargs)
    if isinstance(env, gym.Env) or not callable(env):
        raise TypeError(
            "env: expected a Gymnasium id or a function that makes a new environment "
            f"at every call, got {type(env).__name__}"
        )
    made = env(**kwargs)
    if not isinstance(made, gym.Env):
        raise TypeError(
            f"env: the function made a {type(made).__name__}, not a gymnasium.Env"
        )
    return made if horizon is None else gym.wrappers.TimeLimit(made, horizon)


def _require_new(make: Callable[[], gym.Env[Any, Any]], made: object) -> None:
    """Refuse a function that gives the same environment again.

    Copies side by side in a vector would then play on one and the same state.
    """
    with closing(make()) as second:
        if second.unwrapped is made:
            raise ValueError(
                "env: expected a function that makes a new environment at every call, "
                "got the same object twice; make it inside the function, for example "
                f"lambda: {type(made).__name__}(...)"
            )


def _limit(env: gym.Env[Any, Any]) -> int:
    """Time limit of an environment: its registered one, a wrapper's or its own."""
    found: list[Any] = []
    if env.spec is not None:
        found.append(env.spec.max_episode_steps)
    found += [getattr(layer, "_max_episode_steps", None) for layer in _layers(env)]
    found.append(getattr(env.unwrapped, "max_steps", None))
    for limit in found:
        if isinstance(limit, int) and limit > 0:
            return limit
    raise ValueError(f"{env}: it has no time limit; give horizon=, a number of steps")


def _layers(env: Any) -> Iterator[Any]:
    """The wrappers from the outermost, then the environment."""
    yield env
    while isinstance(env, gym.Wrapper):
        env = env.env
        yield env


def _action(space: gym.Space[Any]) -> ActionSpec:
    """What the agent may do.

    Raises:
        TypeError: for a space that is neither Discrete from 0 nor a flat Box.
    """
    if isinstance(space, gym.spaces.Discrete) and space.start == 0:
        return ActionSpec("discrete", int(space.n))
    if isinstance(space, gym.spaces.Box) and len(space.shape) == 1:
        low = tuple(float(value) for value in space.low)
        high = tuple(float(value) for value in space.high)
        return ActionSpec("continuous", space.shape[0], (), low, high)
    raise TypeError(
        f"action space {space}: expected Discrete with start 0 or a one-dimensional "
        "Box; wrap the environment to give it one of them"
    )


def _read_declared(
    layout: Layout, read: Read, env: Any, obs: Any, info: Mapping[str, Any]
) -> np.ndarray:
    """The user's features as one row, refused where they do not fit the layout."""
    values = read(env, obs, info)
    if isinstance(values, Mapping):
        names = {feature.name for feature in layout}
        if set(values) != names:
            raise ValueError(
                f"read: expected the features {sorted(names)}, got "
                f"{sorted(map(str, values))} {place_of(read)}"
            )
        values = np.concatenate([np.ravel(values[f.name]) for f in layout])
    row = np.array(values, dtype=np.float32)
    if row.shape != (layout.width,):
        raise ValueError(
            f"read: expected a flat row of {layout.width} numbers for {layout!r}, "
            f"got shape {row.shape} {place_of(read)}"
        )
    return row


def _reaches(threshold: float | None, episode: Episode) -> bool:
    return threshold is not None and episode_return(episode) >= threshold


def _references(
    rewards: Mapping[str, str | ReferenceReward | None] | None,
) -> dict[str, ReferenceReward]:
    """Reference rewards; ``sparse`` is the environment's own where none is given."""
    made: dict[str, ReferenceReward] = {"sparse": _OWN}
    for name, reward in (rewards or {}).items():
        if isinstance(reward, ReferenceReward):
            made[name] = reward
        elif reward is None:
            made[name] = _OWN
        elif isinstance(reward, str):
            made[name] = ReferenceReward(reward, "given with the task")
        else:
            raise TypeError(
                f"reward {name!r}: expected text, None or a ReferenceReward, got "
                f"{type(reward).__name__}"
            )
    return made

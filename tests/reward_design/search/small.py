"""A task and a bank that are small enough to be worked out by hand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from guerdon.envs.task import ReferenceReward, Task
from guerdon.reward_design.language import Tree, parse
from guerdon.reward_design.search import Bank, Proposal, Score, Trained
from guerdon.reward_design.search.candidate import Operator
from guerdon.types import ActionSpec, Episode, Feature, Layout

LAYOUT = Layout(
    [
        Feature("x", "position", low=-10, high=10, better="higher"),
        Feature("open", "the door is open", kind="flag", better="higher"),
        Feature("distance", "distance to the key", low=0, high=10, better="lower"),
        Feature("carrying", "the key is carried", kind="flag", better="higher"),
        Feature("speed", "speed", unit="m/s"),
    ]
)
ACTION = ActionSpec("discrete", 3, ("left", "right", "pick up"))


def no_environment(**kwargs: Any) -> Any:
    raise AssertionError("these tests need no environment")


def small_task(sparse: str | None = None, **changes: Any) -> Task:
    known: dict[str, Any] = {
        "id": "tests/Small-v0",
        "intent": "Carry the key through the door.",
        "make_base": no_environment,
        "layout": LAYOUT,
        "action": ACTION,
        "read": lambda env, obs, info: np.zeros(LAYOUT.width, np.float32),
        "fitness": lambda episode: float(episode.reward.sum()),
        "success": lambda episode: bool(episode.terminated),
        "rewards": {"sparse": ReferenceReward(sparse, "the tests")},
        "horizon": 4,
        "budget": 100,
    }
    return Task(**{**known, **changes})


TASK = small_task()


def episode(
    x: Sequence[float],
    reward: Sequence[float],
    *,
    terminated: bool = False,
    cut: bool = False,
    **others: Sequence[float],
) -> Episode:
    """An episode with these values of ``x``; other features are 0 if not given."""
    rows = np.zeros((len(x), LAYOUT.width), np.float32)
    for name, values in {"x": x, **others}.items():
        rows[:, LAYOUT.columns(name).start] = values
    return Episode(
        layout=LAYOUT,
        features=rows,
        action=np.zeros(len(reward), np.int64),
        reward=np.array(reward, np.float64),
        terminated=terminated,
        truncated=not terminated and not cut,
        info={"fitness": float("nan")} if cut else {},
    )


def program(*terms: str, **params: float) -> Tree:
    """The tree of a program with these terms, named a, b, c ..."""
    return parse(text_of(*terms, **params), LAYOUT, ACTION)


def text_of(*terms: str, **params: float) -> str:
    body = ", ".join(f'"{chr(97 + i)}": {term}' for i, term in enumerate(terms))
    return (
        f"PARAMS = {params}\n"
        "def reward(prev, action, now, params):\n"
        f"    return {{{body}}}\n"
    )


def random_bank(seed: int = 0, episodes: int = 6, steps: int = 8) -> Bank:
    """Whole episodes with random features and random scores."""
    rng = np.random.default_rng(seed)
    made = []
    for i in range(episodes):
        rows = rng.uniform(-1, 1, (steps + 1, LAYOUT.width)).astype(np.float32)
        for feature in LAYOUT:
            if feature.kind == "flag":
                column = LAYOUT.columns(feature.name)
                rows[:, column] = rng.random((steps + 1, 1)) < 0.5
        made.append(
            Episode(
                layout=LAYOUT,
                features=rows,
                action=rng.integers(ACTION.size, size=steps),
                reward=np.eye(steps)[-1] * (i % 2),
                terminated=bool(i % 2),
                truncated=not i % 2,
            )
        )
    return Bank.of(TASK, made)


def trained(
    name: str,
    fitness: float | Sequence[float] = 0.0,
    tree: Tree | None = None,
    *,
    operator: Operator = "sample",
    parents: tuple[str, ...] = (),
    round: int = 0,
    statistics: str = "",
    shares: dict[str, float] | None = None,
) -> Trained:
    values = [fitness] if isinstance(fitness, int | float) else list(fitness)
    scores = {seed: float(value) for seed, value in enumerate(values)}
    proposal = Proposal(
        id=name,
        round=round,
        slot=0,
        operator=operator,
        parents=parents,
        tree=tree,
        source=None if tree is None else "def reward(...)",
    )
    return Trained(proposal, Score(scores, dict(scores), statistics, shares or {}))

"""A small layout with every type, and random transitions on it."""

from __future__ import annotations

import numpy as np
import pytest

from guerdon.types import ActionSpec, Batch, Feature, Features, Layout

LAYOUT = Layout(
    [
        Feature("distance", "distance to the key", better="lower", low=0, high=10),
        Feature("carrying", "carries the key", kind="flag", better="higher"),
        Feature("velocity", "joint velocities", shape=(3,), unit="rad/s"),
        Feature("x", "position", unit="m"),
        Feature("open", "the door is open", kind="flag"),
    ]
)
DISCRETE = ActionSpec("discrete", 7)
CONTINUOUS = ActionSpec("continuous", 2, low=(-1.0, -1.0), high=(1.0, 1.0))


def random_rows(rng: np.random.Generator, *lead: int) -> np.ndarray:
    rows = rng.normal(size=(*lead, LAYOUT.width)).astype(np.float32) * 3
    for feature in LAYOUT:
        if feature.kind == "flag":
            column = LAYOUT.columns(feature.name)
            rows[..., column] = rng.random((*lead, 1)) < 0.5
    return rows


def random_batch(
    rng: np.random.Generator, steps: int, environments: int, action: ActionSpec
) -> Batch:
    """A block ``(steps, environments)`` with ends of both kinds."""
    rows = random_rows(rng, steps + 1, environments)
    lead = (steps, environments)
    if action.kind == "discrete":
        chosen = rng.integers(action.size, size=lead)
    else:
        chosen = rng.uniform(-1, 1, (*lead, action.size)).astype(np.float32)
    return Batch(
        obs=None,
        action=chosen,
        next_obs=None,
        prev=Features(LAYOUT, rows[:-1]),
        now=Features(LAYOUT, rows[1:]),
        reward=np.zeros(lead),
        terminated=rng.random(lead) < 0.1,
        truncated=rng.random(lead) < 0.05,
    )


def step_of(batch: Batch, index: object) -> Batch:
    """One step, or one transition, of a block."""
    return Batch(
        obs=None,
        action=batch.action[index],
        next_obs=None,
        prev=Features(LAYOUT, batch.prev.rows[index]),
        now=Features(LAYOUT, batch.now.rows[index]),
        reward=batch.reward[index],
        terminated=batch.terminated[index],
        truncated=batch.truncated[index],
    )


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(7)

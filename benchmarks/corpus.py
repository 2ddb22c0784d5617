"""About a hundred rewards per task, of kinds whose worth is known roughly beforehand.

    python -m benchmarks.corpus [TASK ...]

trains each of them once and keeps texts and true scores as
``benchmarks/data/corpus_*.json``: the frozen ground that the screen is measured on,
without training anything again.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from guerdon.envs import Task, load_task
from guerdon.reward_design.language import parse, to_source
from guerdon.reward_design.language.edit import fingerprint, mutate
from guerdon.reward_design.language.sample import sample

SIZE = 100
"""Rewards of a task."""

TASKS = (
    "guerdon/DoorKey-6x6-v0",
    "guerdon/MountainCarContinuous-v0",
    "guerdon/Reacher-v5",
)

PROGRAM = """\
def reward(prev, action, now, params):
    return {{{terms}}}
"""

Terms = dict[str, str]


class Entry(NamedTuple):
    """One reward of the corpus."""

    kind: str
    """``good``, ``flat``, ``scaled``, ``shaped``, ``misleading``, ``hackable``,
    ``sampled`` or ``mutated``."""
    source: str


_GOOD: dict[str, list[Terms]] = {
    "guerdon/DoorKey-6x6-v0": [
        {
            "key": "0.3 * (now.carrying_key - prev.carrying_key)",
            "door": "0.5 * (now.door_unlocked - prev.door_unlocked)",
        },
        {
            "key": "first_time(now.carrying_key)",
            "door": "first_time(now.door_unlocked)",
            "beyond": "first_time(now.beyond_door)",
        },
        {
            "key": "0.2 * (now.carrying_key - prev.carrying_key)",
            "door": "0.2 * (now.door_open - prev.door_open)",
            "beyond": "0.2 * (now.beyond_door - prev.beyond_door)",
        },
        {
            "unlock": "first_time(now.door_unlocked)",
            "goal": "0.1 * (prev.distance_to_goal - now.distance_to_goal)",
        },
        {
            "key": "0.05 * (prev.distance_to_key - now.distance_to_key)",
            "unlock": "0.5 * first_time(now.door_unlocked)",
        },
    ],
    "guerdon/MountainCarContinuous-v0": [
        {"energy": "10.0 * (now.energy - prev.energy)"},
        {"energy": "100.0 * (now.energy - prev.energy)"},
        {"speed": "10.0 * now.speed"},
        {"height": "5.0 * (now.height - prev.height)", "speed": "5.0 * now.speed"},
        {"push": "0.1 * action[0] * now.velocity / 0.07"},
    ],
    "guerdon/Reacher-v5": [
        {"near": "-now.fingertip_distance"},
        {"near": "exp(-10.0 * now.fingertip_distance)"},
        {"gain": "10.0 * (prev.fingertip_distance - now.fingertip_distance)"},
        {"near": "-now.fingertip_distance", "calm": "-0.1 * dot(action, action)"},
        {"near": "1.0 / (0.05 + now.fingertip_distance)"},
    ],
}

_FLAT: dict[str, list[Terms]] = {
    "guerdon/DoorKey-6x6-v0": [
        {"time": "-0.001 + 0.0 * now.agent_x"},
        {"at": "0.0001 * now.agent_y"},
        {"facing": "0.0001 * now.facing[0]"},
        {"ahead": "0.001 * now.key_ahead * now.door_ahead"},
        {"done": "-0.0001 * (action == 6)"},
    ],
    "guerdon/MountainCarContinuous-v0": [
        {"time": "-0.001 + 0.0 * now.position"},
        {"at": "0.0001 * now.position"},
        {"tiny": "0.0001 * now.velocity"},
        {"never": "where(now.position > 0.7, 1.0, 0.0)"},
        {"small": "0.00001 * now.distance_to_goal"},
    ],
    "guerdon/Reacher-v5": [
        {"time": "-0.001 + 0.0 * now.fingertip_distance"},
        {"target": "now.target[0]"},
        {"angle": "0.0001 * tanh(now.joint_angles[0])"},
        {"never": "where(now.fingertip_distance > 0.6, 1.0, 0.0)"},
        {"tiny": "0.0001 * now.fingertip[1]"},
    ],
}

_MISLEADING: dict[str, list[Terms]] = {
    "guerdon/DoorKey-6x6-v0": [
        {"away": "0.1 * (now.distance_to_key - prev.distance_to_key)"},
        {"no_key": "-0.3 * now.carrying_key"},
        {"shut": "-0.2 * now.door_open"},
        {"away": "0.05 * now.distance_to_goal"},
        {"done": "0.05 * (action == 6)"},
    ],
    "guerdon/MountainCarContinuous-v0": [
        {"still": "-10.0 * now.speed"},
        {"drain": "-10.0 * (now.energy - prev.energy)"},
        {"away": "0.1 * now.distance_to_goal"},
        {"low": "-now.height"},
        {"idle": "-0.5 * action[0] ** 2"},
    ],
    "guerdon/Reacher-v5": [
        {"away": "now.fingertip_distance"},
        {"away": "10.0 * (now.fingertip_distance - prev.fingertip_distance)"},
        {"torque": "dot(action, action)"},
        {"spin": "0.1 * abs(now.joint_velocities[0])"},
        {"still": "-0.1 * norm(now.joint_velocities)"},
    ],
}

_HACKABLE: dict[str, list[Terms]] = {
    "guerdon/DoorKey-6x6-v0": [
        {"pickup": "0.3 * max(now.carrying_key - prev.carrying_key, 0.0)"},
        {"open": "0.2 * max(now.door_open - prev.door_open, 0.0)"},
        {"key": "0.05 * now.carrying_key"},
        {"beyond": "0.1 * now.beyond_door"},
        {"near": "0.1 * exp(-now.distance_to_goal)"},
        {"ahead": "0.05 * now.key_ahead"},
    ],
    "guerdon/MountainCarContinuous-v0": [
        {"up": "max(now.height - prev.height, 0.0)"},
        {"faster": "10.0 * max(now.speed - prev.speed, 0.0)"},
        {"edge": "0.1 * (now.position < -1.0)"},
        {"near": "0.1 * exp(-now.distance_to_goal)"},
        {"high": "0.1 * now.height"},
        {"push": "0.1 * abs(action[0])"},
    ],
    "guerdon/Reacher-v5": [
        {"closer": "max(prev.fingertip_distance - now.fingertip_distance, 0.0)"},
        {"near": "where(now.fingertip_distance < 0.2, 0.1, 0.0)"},
        {"cross": "first_time(now.fingertip_distance < 0.05)"},
        {"best": "previous_best(-now.fingertip_distance)"},
        {"x": "-abs(now.fingertip[0] - now.target[0])"},
        {"y": "-abs(now.fingertip[1] - now.target[1])"},
    ],
}

_POTENTIAL = {
    "guerdon/DoorKey-6x6-v0": "distance_to_goal",
    "guerdon/MountainCarContinuous-v0": "height",
    "guerdon/Reacher-v5": "fingertip_distance",
}
"""Feature of a potential that is added to a good reward, which changes no optimum."""

FACTORS = (0.01, 0.1, 10.0, 100.0)


def program(terms: Terms) -> str:
    """The text of a reward with these terms."""
    inner = ", ".join(f'"{name}": {text}' for name, text in terms.items())
    return PROGRAM.format(terms=inner)


def scaled(terms: Terms, factor: float) -> Terms:
    """The same reward in another unit."""
    return {name: f"{factor!r} * ({text})" for name, text in terms.items()}


def shaped(terms: Terms, feature: str, weight: float, discount: float) -> Terms:
    """The same reward and a potential's difference."""
    shape = f"{weight!r} * ({discount!r} * now.{feature} - prev.{feature})"
    return {**terms, "shape": shape}


def _written(task: Task) -> Iterator[Entry]:
    """What was written by hand, and what follows from it."""
    name = task.id
    for terms in _GOOD[name]:
        yield Entry("good", program(terms))
    for i, terms in enumerate(_GOOD[name]):
        for factor in FACTORS:
            yield Entry("scaled", program(scaled(terms, factor)))
        for weight in (-0.05, 0.05):
            more = shaped(terms, _POTENTIAL[name], weight * (i + 1), 0.99)
            yield Entry("shaped", program(more))
    for kind, table in (
        ("flat", _FLAT),
        ("misleading", _MISLEADING),
        ("hackable", _HACKABLE),
    ):
        for terms in table[name]:
            yield Entry(kind, program(terms))


def corpus(name: str, size: int = SIZE, seed: int = 0) -> list[Entry]:
    """The rewards of a task: written ones first, then drawn and mutated ones.

    Args:
        name: one of ``TASKS``.
        size: how many in all.
        seed: of what is drawn.
    """
    task = load_task(name)
    entries = [
        Entry(entry.kind, to_source(parse(entry.source, task.layout, task.action)))
        for entry in _written(task)
    ]
    rng = np.random.default_rng(seed)
    known = {fingerprint(parse(e.source, task.layout, task.action)) for e in entries}
    while len(entries) < size:
        if rng.random() < 0.7:
            kind, tree = "sampled", sample(task.layout, task.action, rng)
        else:
            base = entries[int(rng.integers(len(entries)))].source
            tree = mutate(parse(base, task.layout, task.action), rng).tree
            kind = "mutated"
        if fingerprint(tree) not in known:
            known.add(fingerprint(tree))
            entries.append(Entry(kind, to_source(tree)))
    return entries[:size]


def file_name(name: str) -> str:
    """``corpus_doorkey_6x6.json`` for ``guerdon/DoorKey-6x6-v0``."""
    plain = re.sub(r"-v\d+$", "", name.removeprefix("guerdon/"))
    return f"corpus_{re.sub(r'[^a-z0-9]+', '_', plain.lower())}.json"

"""About a hundred rewards per task, of kinds whose worth is known roughly beforehand.

    python -m benchmarks.corpus [TASK ...]

trains each of them once and keeps texts and true scores as
``benchmarks/data/corpus_*.json``: the frozen ground that the screen is measured on,
without training anything again. What stands in the files already is not trained again,
so a cut run goes on; so do ``--rewards`` in steps. Rows of a population learn the same
bits alone and beside others, so the order of training changes nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import tempfile
from collections.abc import Iterator
from itertools import zip_longest
from pathlib import Path
from typing import Any, NamedTuple

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("NUMBA_NUM_THREADS", "1")

import numpy as np

from guerdon.agents.training import Leg, Outcome, TrainingJob, TrainingResult, Trouble
from guerdon.agents.workers import WorkerPool
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

STEPS = {
    "guerdon/DoorKey-6x6-v0": 100_000,
    "guerdon/MountainCarContinuous-v0": 10_000,
    "guerdon/Reacher-v5": 50_000,
}
"""Environment steps of a training: a third, a half and a twentieth of what the tasks
are usually trained for, so that rewards still differ in how soon they are learned."""

SEED = 0
ROWS = 16
"""Rewards that are trained together."""
DEADLINE = 7200.0
"""Seconds of a leg."""

DATA = Path(__file__).parent / "data"

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


def chosen(name: str, count: int) -> list[Entry]:
    """Some of the corpus, in turn of every kind, in the order in which they stand."""
    entries = corpus(name, max(SIZE, count))
    of_kind: dict[str, list[int]] = {}
    for place, entry in enumerate(entries):
        of_kind.setdefault(entry.kind, []).append(place)
    places: list[int] = []
    for row in zip_longest(*of_kind.values()):
        places += [place for place in row if place is not None]
    return [entries[place] for place in sorted(places[:count])]


def file_name(name: str) -> str:
    """``corpus_doorkey_6x6.json`` for ``guerdon/DoorKey-6x6-v0``."""
    plain = re.sub(r"-v\d+$", "", name.removeprefix("guerdon/"))
    return f"corpus_{re.sub(r'[^a-z0-9]+', '_', plain.lower())}.json"


def read(
    name: str, folder: Path = DATA, steps: int | None = None
) -> list[dict[str, Any]]:
    """The trained rewards of a task; none without a file.

    Args:
        name: of the task.
        folder: of the files.
        steps: that they must have been trained for.

    Raises:
        ValueError: for a file of other steps.

    Returns:
        One record a reward: ``kind``, ``source``, ``seed``, ``steps``, and its true
        scores ``fitness`` and ``success``, or its ``failure``.
    """
    path = folder / file_name(name)
    if not path.exists():
        return []
    kept: dict[str, Any] = json.loads(path.read_text())
    if steps not in (None, kept["steps"]):
        raise ValueError(
            f"{path}: expected trainings of {steps} steps, got {kept['steps']}; move "
            "the file away to begin anew"
        )
    found: list[dict[str, Any]] = kept["rewards"]
    return found


def write(
    name: str, records: list[dict[str, Any]], steps: int, folder: Path = DATA
) -> None:
    """Keep them, whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    kept = {
        "task": name,
        "command": f"python -m benchmarks.corpus {name}",
        "steps": steps,
        "rewards": records,
    }
    path = folder / file_name(name)
    half = path.with_suffix(".partial")
    half.write_text(json.dumps(kept, indent=1, allow_nan=False) + "\n")
    half.replace(path)


def record_of(entry: Entry, job: TrainingJob, outcome: Outcome) -> dict[str, Any]:
    """What is kept of a training."""
    record = {**entry._asdict(), "seed": job.seed, "steps": job.steps}
    if isinstance(outcome, TrainingResult):
        scores = {"fitness": outcome.mean_fitness, "success": outcome.success_rate}
        return record | {"steps": outcome.steps} | scores
    return record | {"failure": outcome.kind}


def train(
    name: str, entries: list[Entry], steps: int, folder: Path, workers: int
) -> None:
    """Train what is not in the file, sixteen rewards at a time.

    Raises:
        OSError: for what the machine could not do.
    """
    records = {record["source"]: record for record in read(name, folder, steps)}
    jobs = {
        entry.source: TrainingJob(
            name, entry.source, steps, SEED, trainer="population", record_episodes=0
        )
        for entry in entries
        if entry.source not in records
    }
    of_source = {entry.source: entry for entry in entries}
    missing = list(jobs.values())
    with (
        tempfile.TemporaryDirectory() as scratch,
        WorkerPool(workers, DEADLINE, Path(scratch), populations_only=True) as pool,
    ):
        for first in range(0, len(missing), ROWS):
            pool.submit(Leg(tuple(missing[first : first + ROWS])))
        for job, outcome in pool.as_completed():
            if isinstance(outcome, Trouble):
                raise outcome.error()
            entry = of_source[job.reward]
            records[job.reward] = record_of(entry, job, outcome)
            order = [one.source for one in entries if one.source in records]
            write(name, [records[source] for source in order], steps, folder)
            print(f"{name}: {len(order)} of {len(entries)}", flush=True)


def main() -> None:
    """Train the corpus."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("tasks", nargs="*", default=list(TASKS), metavar="TASK")
    options.add_argument("--rewards", type=int, default=SIZE, help="of each task")
    options.add_argument("--steps", type=int, help="other than each task's own")
    options.add_argument("--workers", type=int, default=2)
    options.add_argument("--quick", action="store_true", help="see whether it runs")
    options.add_argument("--out", type=Path, help="folder of the files")
    given = options.parse_args()
    folder = given.out or (Path("runs/bench-quick/data") if given.quick else DATA)
    if given.quick:
        given.rewards, given.steps = 6, 1024
    for name in given.tasks:
        steps = given.steps or STEPS[name]
        train(name, chosen(name, given.rewards), steps, folder, given.workers)


if __name__ == "__main__":
    main()

"""Conformance kit: what tasks and reward programs must be, whoever wrote them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from guerdon.envs import checker as kit
from guerdon.envs.task import ReferenceReward, Task
from guerdon.reward_design.borders import namespace
from guerdon.reward_design.program import (
    Designed,
    RewardProgram,
    State,
    Transform,
    alone,
)
from guerdon.types import Array, Batch, Features, Spec

REWARDS_READ = "reference rewards can be read"
"""The check that ``check_task`` adds to those of the tasks' own kit."""


def check_task(
    task: Task | str, *, episodes: int = 3, seed: int = 0
) -> kit.CheckReport:
    """Check that a task keeps what tasks promise, in random play.

    Everything that ``guerdon.envs.checker`` checks of environment, features and true
    score; and every reference reward with a text is parsed, type-checked against the
    task's features, and dry-run on the steps that were played.

    Args:
        task: a task, or a name that ``load_task`` understands.
        episodes: of random play; at least three are played.
        seed: of the first one; the next ones count on.

    Returns:
        What was checked, with the warnings that were met on the way.

    Raises:
        TaskCheckError: with all problems that were found.
        TypeError: for what is no task, or a number that is no whole one.
        ValueError: when ``episodes`` is less than 1, or ``seed`` less than 0.
    """
    more = ((REWARDS_READ, _check_texts),)
    return kit.check_task(task, episodes=episodes, seed=seed, more=more)


def _check_texts(context: kit.Context) -> Iterator[str]:
    """Every reference reward with a text is a program that pays finite numbers."""
    from guerdon.reward_design.language import Rejected
    from guerdon.reward_design.reference import reward_for

    task = context.task
    spec = Spec(task.layout, task.action, (1,), horizon=task.horizon)
    for name, reward in task.rewards.items():
        # Another type is told by the kit's own check of the rewards.
        if not isinstance(reward, ReferenceReward) or reward.source is None:
            continue
        try:
            design = reward_for(task, name)
        except Rejected as error:
            yield f"{name!r} is refused by the reward language: {error.failure}"
            continue
        for record in context.plays:
            designed, _ = design.apply(design.init(spec), _played(task, record))
            bad = ~np.isfinite(designed.terms)
            if bad.any():
                step, _, term = np.argwhere(bad)[0]
                yield f"{name!r}: term {design.names[term]!r} is not finite at {step=}"
                break


def _played(task: Task, record: kit.Play) -> Batch:
    """An episode of the kit as a block ``(T, 1)``."""
    rows = np.stack(record.rows)[:, None]
    ends = np.zeros((record.length, 1), np.bool_)
    ends[-1] = True
    return Batch(
        obs=None,
        action=np.array(record.actions)[:, None],
        next_obs=None,
        prev=Features(task.layout, rows[:-1]),
        now=Features(task.layout, rows[1:]),
        reward=np.array(record.rewards)[:, None],
        terminated=ends & record.terminated,
        truncated=ends & record.truncated,
    )


def check_program(
    design: RewardProgram | Transform,
    spec: Spec,
    batch: Batch,
    tolerance: float = 0.0,
) -> None:
    """Check that a program can be used wherever a reward is consumed.

    It gives float32 of the declared shapes, finite and clamped; it writes to nothing
    that it is given; the same call gives the same answer; a block, its two parts and
    its single steps agree; rows that are not real are 0 and change nothing; and,
    unless it is tagged ``"coupled"``, an environment alone gets what it gets in the
    vector.

    Args:
        design: a program, or a transform of the environment's reward.
        spec: what the program may know; ``spec.lead`` is ``()`` or ``(N,)``.
        batch: a block ``(T, *spec.lead)`` with ``T >= 2``.
        tolerance: largest difference between two ways to the same number.

    Raises:
        ValueError: for a batch that is not such a block.
        AssertionError: names the law that is broken, and where.
    """
    if isinstance(design, Transform):
        design = alone(design)
    shape = tuple(np.shape(batch.reward))
    if shape[1:] != spec.lead or len(shape) != len(spec.lead) + 1 or shape[0] < 2:
        raise ValueError(
            f"check_program: expected a batch (T, *{spec.lead}) with T >= 2, "
            f"got {shape}"
        )
    whole = _check_pure(design, spec, batch)
    _check_values(design, batch, whole)
    parts = [slice(time, time + 1) for time in range(shape[0])]
    halves = [slice(0, shape[0] // 2), slice(shape[0] // 2, None)]
    _agree("two halves", whole, _in_parts(design, spec, batch, halves), tolerance)
    _agree(
        "blocks of one step", whole, _in_parts(design, spec, batch, parts), tolerance
    )
    steps = _in_parts(design, spec, batch, list(range(shape[0])))
    _agree("single steps", whole, steps, tolerance)
    _check_mask(design, spec, batch, whole, tolerance)
    if spec.lead and "coupled" not in design.tags:
        _check_alone(design, spec, batch, whole, tolerance)


def _check_pure(design: RewardProgram, spec: Spec, batch: Batch) -> Designed:
    """The same call twice, on inputs that nobody may change."""
    state = design.init(spec)
    before = _bytes((state, batch))
    first, _ = design.apply(state, batch)
    _demand(_bytes((state, batch)) == before, "apply changed its inputs")
    second, _ = design.apply(state, batch)
    same = _bytes(tuple(first)) == _bytes(tuple(second))
    _demand(same, "the same call gave another answer")
    return first


def _check_values(design: RewardProgram, batch: Batch, whole: Designed) -> None:
    """Shapes, types and range."""
    lead = tuple(np.shape(batch.reward))
    for name, values, shape in (
        ("reward", whole.reward, lead),
        ("terms", whole.terms, (*lead, len(design.names))),
    ):
        _demand(
            tuple(values.shape) == shape and str(values.dtype).endswith("float32"),
            f"{name}: expected float32 {shape}, got {values.dtype} "
            f"{tuple(values.shape)}",
        )
        finite = np.isfinite(_numpy(values))
        _demand(bool(finite.all()), f"{name}: not finite at {_where(~finite)}")
    if batch.mask is not None:
        unreal = ~_numpy(batch.mask)
        paid = _numpy(whole.reward)[unreal]
        _demand(not paid.any(), "rows with mask False are paid")


def _check_mask(
    design: RewardProgram, spec: Spec, batch: Batch, whole: Designed, tolerance: float
) -> None:
    """Rubbish in rows that are not real reaches no other row."""
    last = np.shape(batch.reward)[0] - 1
    mask = np.ones(np.shape(batch.reward), dtype=np.bool_)
    mask = mask if batch.mask is None else np.array(_numpy(batch.mask))
    padded = _join(batch, _spoil(_cut(batch, slice(last, last + 1))))
    real = np.concatenate([mask, np.zeros_like(mask[:1])])
    padded = padded._replace(mask=_like(batch.reward, real))
    designed, state = design.apply(design.init(spec), padded)
    reward = _numpy(designed.reward)
    _demand(not reward[-1].any(), "a row with mask False is paid")
    kept = Designed(designed.reward[:-1], designed.terms[:-1])
    _agree("a padded block", whole, kept, tolerance)
    once = _cut(batch, slice(0, 1))
    _, clean = design.apply(design.init(spec), batch)
    after, _ = design.apply(state, once)
    expected, _ = design.apply(clean, once)
    _agree("the step after padding", expected, after, tolerance)


def _check_alone(
    design: RewardProgram, spec: Spec, batch: Batch, whole: Designed, tolerance: float
) -> None:
    """Every environment by itself, as a batch of one."""
    for lane in range(spec.lead[0]):
        alone = _map(batch, lambda array, lane=lane: array[:, lane : lane + 1])
        designed, _ = design.apply(design.init(spec._replace(lead=(1,))), alone)
        expected = Designed(
            whole.reward[:, lane : lane + 1], whole.terms[:, lane : lane + 1]
        )
        _agree(f"environment {lane} alone", expected, designed, tolerance)


def _in_parts(
    design: RewardProgram, spec: Spec, batch: Batch, parts: list[Any]
) -> Designed:
    """The block again, part by part with the state carried on."""
    state: State = design.init(spec)
    found = []
    for part in parts:
        designed, state = design.apply(state, _cut(batch, part))
        found.append(designed)
    join = np.stack if isinstance(parts[0], int) else np.concatenate
    return Designed(
        join([_numpy(designed.reward) for designed in found]),
        join([_numpy(designed.terms) for designed in found]),
    )


def _agree(how: str, whole: Designed, other: Designed, tolerance: float) -> None:
    """Both ways give the same numbers."""
    for name in Designed._fields:
        a, b = _numpy(getattr(whole, name)), _numpy(getattr(other, name))
        _demand(a.shape == b.shape, f"{how}: {name} has shape {b.shape}, not {a.shape}")
        apart = ~(np.abs(a - b) <= tolerance)
        _demand(not apart.any(), f"{how}: {name} differs at {_where(apart)}")


def _demand(truth: bool, law: str) -> None:
    """A broken law is an AssertionError in every mode of Python."""
    if not truth:
        raise AssertionError(f"reward program: {law}")


def _where(bad: Array) -> str:
    """The first index where something is wrong, if anywhere."""
    return str(np.argwhere(np.atleast_1d(bad))[:1].tolist())


def _cut(batch: Batch, part: Any) -> Any:
    """Some time steps of a block."""
    return _map(batch, lambda array: array[part])


def _map(tree: Any, function: Any) -> Any:
    """The same tree with every array changed."""
    if isinstance(tree, Features):
        return Features(tree.layout, function(tree.rows))
    if isinstance(tree, Batch):
        return Batch(*(_map(part, function) for part in tree))
    if isinstance(tree, Mapping):
        return {key: _map(part, function) for key, part in tree.items()}
    if isinstance(tree, tuple):
        return tuple(_map(part, function) for part in tree)
    return None if tree is None else function(tree)


def _spoil(batch: Batch) -> Batch:
    """Rows whose numbers nobody should look at."""

    def spoil(array: Array) -> Array:
        wild = array + 0
        if "float" in str(wild.dtype):
            wild[...] = float("nan")
        return wild

    rows = (Features(f.layout, spoil(f.rows)) for f in (batch.prev, batch.now))
    prev, now = rows
    going = batch.terminated & ~batch.terminated
    return batch._replace(
        prev=prev,
        now=now,
        reward=spoil(batch.reward),
        terminated=going,
        truncated=going,
    )


def _join(a: Any, b: Any) -> Any:
    """Two blocks after one another."""
    if isinstance(a, Features):
        return Features(a.layout, _join(a.rows, b.rows))
    if isinstance(a, Batch):
        return Batch(*(_join(x, y) for x, y in zip(a, b, strict=True)))
    if isinstance(a, Mapping):
        return {key: _join(part, b[key]) for key, part in a.items()}
    if isinstance(a, tuple):
        return tuple(_join(x, y) for x, y in zip(a, b, strict=True))
    if a is None:
        return None
    return np.concatenate([a, b]) if namespace(a) is np else namespace(a).cat([a, b])


def _bytes(tree: Any) -> Any:
    """A value that is equal only for equal arrays, bit by bit."""
    if isinstance(tree, Features):
        return _bytes(tree.rows)
    if isinstance(tree, Mapping):
        return {key: _bytes(part) for key, part in tree.items()}
    if isinstance(tree, (tuple, list)):
        return [_bytes(part) for part in tree]
    if hasattr(tree, "shape"):
        array = _numpy(tree)
        return (array.shape, str(array.dtype), array.tobytes())
    return tree


def _numpy(values: Array) -> Array:
    """NumPy's view of an array."""
    if namespace(values) is np:
        return np.asarray(values)
    return values.detach().cpu().numpy()


def _like(like: Array, values: Array) -> Array:
    """``values`` in the namespace of ``like``."""
    if namespace(like) is np:
        return values
    return namespace(like).as_tensor(values, device=like.device)

"""One meaning: every backend, shape and split of a batch gives the same rewards.

Without transcendental functions everything is exact in IEEE 754, so the rewards have
to be equal; the functions themselves are compared with the C library, in units of the
last place of a double.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from guerdon.reward_design.language import (
    Tree,
    compile_tree,
    parse,
    terms,
    to_source,
)
from guerdon.reward_design.language.edit import cross, mutate, simplify
from guerdon.reward_design.language.runtime import NUMPY_NAMES, power, torch_names
from guerdon.reward_design.language.sample import sample
from guerdon.reward_design.language.terms import Backend
from guerdon.reward_design.program import CLAMP, program
from guerdon.types import ActionSpec, Batch, Features, Spec
from tests.reward_design.language.conftest import (
    CONTINUOUS,
    DISCRETE,
    LAYOUT,
    random_batch,
    step_of,
)
from tests.reward_design.language.programs import RandomPrograms

SPECIAL = np.array(
    [0, -0.0, 1, -1, 1e-45, 1e-9, 1e-10, 0.5, 2, 3e38, -3e38, 1e6, 10], np.float32
)
"""Zeros of both signs, the bounds of a feature, and both ends of float32."""


def nasty_batch(
    rng: np.random.Generator, action: ActionSpec, masked: bool = False
) -> Batch:
    """A block whose numbers are half special values."""
    steps, environments = int(rng.integers(1, 10)), int(rng.integers(1, 5))
    batch = random_batch(rng, steps, environments, action)
    flags = np.zeros(LAYOUT.width, bool)
    for feature in LAYOUT:
        flags[LAYOUT.columns(feature.name)] = feature.kind == "flag"
    for rows in (batch.prev.rows, batch.now.rows):
        special = (rng.random(rows.shape) < 0.5) & ~flags
        rows[special] = rng.choice(SPECIAL, size=int(special.sum()))
    if not masked:
        return batch
    return batch._replace(mask=rng.random((steps, environments)) < 0.7)


def part_of(batch: Batch, index: object) -> Batch:
    """Part of a block, with its mask."""
    mask = None if batch.mask is None else batch.mask[index]
    return step_of(batch, index)._replace(mask=mask)


def as_torch(batch: Batch) -> Batch:
    tensor = torch.as_tensor
    return batch._replace(
        action=tensor(batch.action),
        prev=Features(LAYOUT, tensor(batch.prev.rows)),
        now=Features(LAYOUT, tensor(batch.now.rows)),
        reward=tensor(batch.reward),
        terminated=tensor(batch.terminated),
        truncated=tensor(batch.truncated),
        mask=None if batch.mask is None else tensor(batch.mask),
    )


def rewards(
    tree: Tree, lead: tuple[int, ...], *batches: Batch, backend: Backend = "numpy"
) -> np.ndarray:
    """Float32 terms of the batches one after the other, the state carried."""
    whole = program(terms(tree, LAYOUT, tree.action, backend=backend))
    state = whole.init(Spec(LAYOUT, tree.action, lead))
    found = []
    for batch in batches:
        designed, state = whole.apply(state, batch)
        values = np.asarray(designed.terms)
        found.append(values if values.ndim == len(lead) + 2 else values[None])
    return np.concatenate(found)


def scalar_rewards(tree: Tree, batch: Batch) -> np.ndarray:
    """The definition: one transition after the other, in plain Python."""
    compiled = compile_tree(tree)
    weights = tuple(value for _, value in tree.params)
    steps, environments = batch.reward.shape
    out = np.zeros((steps, environments, compiled.width), np.float32)
    action = np.asarray(batch.action, float).reshape(steps, environments, -1)
    real = np.ones((steps, environments), bool) if batch.mask is None else batch.mask
    for n in range(environments):
        memory, ended = [0.0] * len(compiled.line.registers), True
        for t in range(steps):
            done = bool(batch.terminated[t, n] or batch.truncated[t, n])
            if real[t, n]:
                rows = [f.rows[t, n].tolist() for f in (batch.prev, batch.now)]
                values = compiled.scalar(
                    rows[0], action[t, n].tolist(), rows[1], weights, memory, ended
                )
                out[t, n] = np.clip(values, -CLAMP, CLAMP)
            ended = done or (ended and not real[t, n])
    return out


def check_every_way(tree: Tree, batch: Batch, backend: Backend = "numpy") -> None:
    """The definition, a block, its halves, its steps and one lane are the same."""
    expected = scalar_rewards(tree, batch)
    steps, environments = batch.reward.shape
    lead = (environments,)
    one = [part_of(batch, t) for t in range(steps)]
    half = [part_of(batch, slice(0, steps // 2)), part_of(batch, slice(steps // 2, 99))]
    lane = [part_of(batch, (t, 0)) for t in range(steps)]
    for parts in ([batch], one, half):
        found = rewards(tree, lead, *parts, backend=backend)
        np.testing.assert_array_equal(found, expected)
    found = rewards(tree, (), *lane, backend=backend)
    np.testing.assert_array_equal(found, expected[:, 0])


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), continuous=st.booleans(), masked=st.booleans())
def test_any_exact_program_is_the_same_number_in_numpy_torch_and_plain_python(
    seed: int, continuous: bool, masked: bool
) -> None:
    rng = np.random.default_rng(seed)
    action = CONTINUOUS if continuous else DISCRETE
    tree = RandomPrograms(LAYOUT, action, rng).tree()
    check_every_way(tree, nasty_batch(rng, action, masked))
    batch = nasty_batch(rng, action)
    found = rewards(tree, batch.reward.shape[1:], as_torch(batch))
    np.testing.assert_array_equal(found, scalar_rewards(tree, batch))


def test_rows_that_are_not_real_leave_the_registers_alone_in_torch_too() -> None:
    rng = np.random.default_rng(2)
    for _ in range(20):
        tree = RandomPrograms(LAYOUT, DISCRETE, rng).tree()
        batch = nasty_batch(rng, DISCRETE, masked=True)
        found = rewards(tree, batch.reward.shape[1:], as_torch(batch))
        np.testing.assert_array_equal(found, scalar_rewards(tree, batch))


@pytest.mark.parametrize("continuous", [False, True])
def test_the_kernel_gives_the_same_numbers(continuous: bool) -> None:
    pytest.importorskip("numba")
    rng = np.random.default_rng(continuous)
    action = CONTINUOUS if continuous else DISCRETE
    tree = RandomPrograms(LAYOUT, action, rng).tree()
    while not (tree.uses_registers and 12 < tree.size < 25):
        tree = RandomPrograms(LAYOUT, action, rng).tree()
    check_every_way(tree, nasty_batch(rng, action), backend="numba")


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), continuous=st.booleans())
def test_what_the_sampler_and_the_operators_make_agrees_and_can_be_written_down(
    seed: int, continuous: bool
) -> None:
    rng = np.random.default_rng(seed)
    action = CONTINUOUS if continuous else DISCRETE
    tree = sample(LAYOUT, action, rng)
    for _ in range(3):
        tree = mutate(tree, rng).tree
    tree = cross(tree, sample(LAYOUT, action, rng), rng).tree
    tree = simplify(tree, rng).tree
    assert parse(to_source(tree), LAYOUT, action) == tree
    batch = nasty_batch(rng, action)
    expected = scalar_rewards(tree, batch)
    lead = batch.reward.shape[1:]
    for found in (rewards(tree, lead, batch), rewards(tree, lead, as_torch(batch))):
        np.testing.assert_allclose(found, expected, rtol=1e-6)


@settings(max_examples=100, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), continuous=st.booleans())
def test_any_tree_is_what_its_text_says(seed: int, continuous: bool) -> None:
    action = CONTINUOUS if continuous else DISCRETE
    tree = RandomPrograms(LAYOUT, action, np.random.default_rng(seed)).tree()
    assert parse(to_source(tree), LAYOUT, action) == tree


def test_a_row_that_is_not_finite_is_nan_everywhere_and_nothing_else_changes() -> None:
    rng = np.random.default_rng(3)
    for _ in range(20):
        tree = RandomPrograms(LAYOUT, DISCRETE, rng).tree()
        if tree.uses_registers:
            continue
        batch = nasty_batch(rng, DISCRETE)
        expected = scalar_rewards(tree, batch)
        for bad in (np.nan, np.inf, -np.inf):
            batch.now.rows[-1, -1, 0] = bad
            expected[-1, -1] = np.nan
            lead = batch.reward.shape[1:]
            np.testing.assert_array_equal(rewards(tree, lead, batch), expected)
            found = rewards(tree, lead, as_torch(batch))
            np.testing.assert_array_equal(found, expected)


# --- the functions themselves ------------------------------------------------


def ulps(found: np.ndarray, expected: np.ndarray) -> int:
    """Largest distance in doubles that lie between the two."""
    return int(np.abs(found.view(np.int64) - expected.view(np.int64)).max())


@pytest.mark.parametrize("name", ["exp", "log", "tanh", "sin", "cos"])
def test_a_function_is_the_c_library_s_within_four_units_of_the_last_place(
    name: str,
) -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=20_000) * np.exp(rng.uniform(-3, 3, 20_000))
    x = np.abs(x) if name == "log" else x
    expected = np.array([getattr(math, name)(value) for value in x])
    assert ulps(NUMPY_NAMES[f"a_{name}"](x), expected) <= 4
    found = torch_names()[f"a_{name}"](torch.as_tensor(x))
    assert ulps(found.numpy(), expected) <= 4


POWERS = np.array(
    [0, -0.0, 1, -1, 2, -2, 3, -3, 0.5, -0.5, 1e-45, 1e9, -1e9, 1e18, 3e38, 1e150]
)


def test_powers_are_the_same_on_all_backends_up_to_the_largest_exponents() -> None:
    numba = pytest.importorskip("numba")
    base, exponent = (grid.ravel() for grid in np.meshgrid(POWERS, POWERS))
    expected = np.array([power(b, e) for b, e in zip(base, exponent, strict=True)])
    assert np.isfinite(expected).all()
    found = torch_names()["a_pow"](torch.as_tensor(base), torch.as_tensor(exponent))
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-12)
    found = NUMPY_NAMES["a_pow"](base, exponent)
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    compiled = numba.njit(power)
    found = [compiled(b, e) for b, e in zip(base, exponent, strict=True)]
    np.testing.assert_allclose(found, expected, rtol=1e-12)

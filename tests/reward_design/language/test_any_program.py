"""Any program: whatever the split and the order of a batch, and nothing is written to.

Programs without transcendental functions give the same bits on every backend and
however a batch is cut; the others the same float32 numbers up to the last place.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from guerdon.reward_design.language import Tree, parse, terms
from guerdon.reward_design.language.edit import mutate
from guerdon.reward_design.language.sample import sample
from guerdon.reward_design.program import RewardProgram, program
from guerdon.types import ActionSpec, Batch, Features, Spec
from tests.reward_design.language.conftest import CONTINUOUS, DISCRETE, LAYOUT
from tests.reward_design.language.programs import RandomPrograms
from tests.reward_design.language.test_agreement import (
    as_torch,
    nasty_batch,
    part_of,
    scalar_rewards,
)

SEEDS = st.integers(0, 2**32 - 1)
Convert = Callable[[Batch], Batch]


def unchanged(batch: Batch) -> Batch:
    return batch


CONVERT: dict[str, Convert] = {"numpy": unchanged, "torch": as_torch}


def run(
    design: RewardProgram, lead: tuple[int, ...], batches: list[Batch]
) -> np.ndarray:
    """Terms ``(T, *lead, m)`` of batches one after the other, the state carried."""
    state = design.init(Spec(LAYOUT, design_action(batches[0]), lead))
    found = []
    for batch in batches:
        designed, state = design.apply(state, batch)
        found.append(np.asarray(designed.terms))
    return np.concatenate(found)


def design_action(batch: Batch) -> ActionSpec:
    return DISCRETE if batch.action.ndim == batch.reward.ndim else CONTINUOUS


def random_pieces(rng: np.random.Generator, batch: Batch) -> list[Batch]:
    """The block, cut anywhere along time; pieces may be empty."""
    steps = batch.reward.shape[0]
    cuts = sorted(rng.integers(0, steps + 1, size=int(rng.integers(0, 4))).tolist())
    bounds = zip([0, *cuts], [*cuts, steps], strict=True)
    return [part_of(batch, slice(*bound)) for bound in bounds]


def check_any_cut(
    design: RewardProgram,
    tree: Tree,
    batch: Batch,
    rng: np.random.Generator,
    convert: Convert,
    same: Callable[[np.ndarray, np.ndarray], None],
) -> None:
    """Cut along time, lanes in another order and apart, and rows in another order."""
    steps, lanes = batch.reward.shape
    expected = scalar_rewards(tree, batch)

    def cut(part: Batch) -> np.ndarray:
        pieces = [convert(piece) for piece in random_pieces(rng, part)]
        return run(design, part.reward.shape[1:], pieces)

    same(cut(batch), expected)
    order = rng.permutation(lanes)
    same(cut(part_of(batch, (slice(None), order))), expected[:, order])
    few = order[: int(rng.integers(1, lanes + 1))]
    same(cut(part_of(batch, (slice(None), few))), expected[:, few])
    if not tree.uses_registers:
        # What remembers nothing may also see its transitions in any order.
        mixed = rng.permutation(steps)
        same(cut(part_of(batch, mixed)), expected[mixed])


@pytest.mark.parametrize("backend", CONVERT)
@settings(max_examples=40, deadline=None)
@given(seed=SEEDS, continuous=st.booleans(), masked=st.booleans())
def test_no_result_depends_on_the_split_or_the_order_of_a_batch(
    backend: str, seed: int, continuous: bool, masked: bool
) -> None:
    rng = np.random.default_rng(seed)
    action = CONTINUOUS if continuous else DISCRETE
    tree = RandomPrograms(LAYOUT, action, rng).tree()
    batch = nasty_batch(rng, action, masked)
    design = program(terms(tree, LAYOUT, action))
    same = np.testing.assert_array_equal
    check_any_cut(design, tree, batch, rng, CONVERT[backend], same)


@pytest.mark.parametrize("backend", CONVERT)
@settings(max_examples=25, deadline=None)
@given(seed=SEEDS, continuous=st.booleans())
def test_nor_do_the_results_of_programs_with_every_function(
    backend: str, seed: int, continuous: bool
) -> None:
    rng = np.random.default_rng(seed)
    action = CONTINUOUS if continuous else DISCRETE
    tree = mutate(sample(LAYOUT, action, rng), rng).tree
    design = program(terms(tree, LAYOUT, action))

    def same(found: np.ndarray, expected: np.ndarray) -> None:
        np.testing.assert_allclose(found, expected, rtol=1e-6)

    check_any_cut(design, tree, nasty_batch(rng, action), rng, CONVERT[backend], same)


# --- nothing is written to ---------------------------------------------------------


def arrays(batch: Batch) -> list[np.ndarray]:
    """Every array that a program is given."""
    rows = [batch.prev.rows, batch.now.rows, batch.action, batch.reward]
    given = [*rows, batch.terminated, batch.truncated]
    return given if batch.mask is None else [*given, batch.mask]


def nasty_program(rng: np.random.Generator, action: ActionSpec) -> Tree:
    if rng.random() < 0.5:
        return RandomPrograms(LAYOUT, action, rng).tree()
    return mutate(sample(LAYOUT, action, rng), rng).tree


def with_bad_rows(rng: np.random.Generator, batch: Batch) -> Batch:
    """Some of its rows hold NaN or infinity, which takes a way of its own."""
    if rng.random() < 0.5:
        batch.now.rows[..., 0][rng.random(batch.reward.shape) < 0.3] = np.nan
    return batch


def check_writes_nothing(design: RewardProgram, batches: list[Batch]) -> None:
    """The batches and the states before are, byte for byte, what they were."""
    first = batches[0]
    state = design.init(Spec(LAYOUT, design_action(first), first.reward.shape[1:]))
    for batch in batches:
        before = [np.asarray(array).tobytes() for array in arrays(batch)]
        kept = state_bytes(state)
        _, after = design.apply(state, batch)
        assert [np.asarray(array).tobytes() for array in arrays(batch)] == before
        assert state_bytes(state) == kept
        state = after


def state_bytes(state: object) -> list[bytes]:
    """All arrays inside a state."""
    if state is None:
        return []
    if isinstance(state, tuple):
        return [data for part in state for data in state_bytes(part)]
    return [np.asarray(state).tobytes()]


def frozen(batch: Batch) -> Batch:
    """The same numbers, in arrays that cannot be written to."""
    copy = np.array
    made = batch._replace(
        action=copy(batch.action),
        prev=Features(LAYOUT, copy(batch.prev.rows)),
        now=Features(LAYOUT, copy(batch.now.rows)),
        reward=copy(batch.reward),
        terminated=copy(batch.terminated),
        truncated=copy(batch.truncated),
        mask=None if batch.mask is None else copy(batch.mask),
    )
    for array in arrays(made):
        array.flags.writeable = False
    return made


@settings(max_examples=60, deadline=None)
@given(seed=SEEDS, continuous=st.booleans(), masked=st.booleans())
def test_columns_write_nothing_and_need_nothing_writeable(
    seed: int, continuous: bool, masked: bool
) -> None:
    rng = np.random.default_rng(seed)
    action = CONTINUOUS if continuous else DISCRETE
    tree = nasty_program(rng, action)
    batch = with_bad_rows(rng, nasty_batch(rng, action, masked))
    design = program(terms(tree, LAYOUT, action))
    check_writes_nothing(design, [batch, batch])
    lead = batch.reward.shape[1:]
    free, held = (run(design, lead, [one]) for one in (batch, frozen(batch)))
    assert free.tobytes() == held.tobytes()


@settings(max_examples=60, deadline=None)
@given(seed=SEEDS, continuous=st.booleans(), masked=st.booleans())
def test_torch_writes_nothing(seed: int, continuous: bool, masked: bool) -> None:
    """Torch has no read-only tensors, but counts what is written to one."""
    rng = np.random.default_rng(seed)
    action = CONTINUOUS if continuous else DISCRETE
    tree = nasty_program(rng, action)
    batch = as_torch(with_bad_rows(rng, nasty_batch(rng, action, masked)))
    versions = [tensor._version for tensor in arrays(batch)]
    design = program(terms(tree, LAYOUT, action))
    check_writes_nothing(design, [batch, batch])
    assert [tensor._version for tensor in arrays(batch)] == versions


@pytest.mark.parametrize("seed", range(3))
def test_a_compiled_program_is_as_free_of_its_batch_and_writes_nothing(
    seed: int,
) -> None:
    pytest.importorskip("numba")
    rng = np.random.default_rng(seed)
    action = CONTINUOUS if seed == 1 else DISCRETE
    tree = RandomPrograms(LAYOUT, action, rng).tree()
    while tree.uses_registers != (seed < 2) or not 8 < tree.size < 25:
        tree = RandomPrograms(LAYOUT, action, rng).tree()
    design = program(terms(tree, LAYOUT, action, backend="numba"))
    for masked in (False, True):
        batch = nasty_batch(rng, action, masked)
        same = np.testing.assert_array_equal
        for convert in (unchanged, frozen):
            check_any_cut(design, tree, batch, rng, convert, same)
        check_writes_nothing(design, [batch, frozen(batch), batch])


def test_what_writes_to_its_input_is_found() -> None:
    """The oracle of the tests above: a program that does write."""
    tree = parse(
        "def reward(prev, action, now, params):\n    return {'x': now.x}\n",
        LAYOUT,
        DISCRETE,
    )
    good = program(terms(tree, LAYOUT, DISCRETE))

    class Writes:
        init = staticmethod(good.init)

        @staticmethod
        def apply(state: object, batch: Batch) -> object:
            batch.now.rows[0, 0, 0] += 1.0
            return good.apply(state, batch)

    batch = nasty_batch(np.random.default_rng(0), DISCRETE)
    with pytest.raises(AssertionError):
        check_writes_nothing(Writes(), [batch])
    with pytest.raises(ValueError, match="read-only"):
        run(Writes(), batch.reward.shape[1:], [frozen(batch)])
    tensors = as_torch(batch)
    before = tensors.now.rows._version
    Writes.apply(good.init(Spec(LAYOUT, DISCRETE, batch.reward.shape[1:])), tensors)
    assert tensors.now.rows._version > before
    assert isinstance(tensors.now.rows, torch.Tensor)

"""Terms and transforms put together, on hand-computed batches."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from guerdon.reward_design.program import (
    CLAMP,
    Terms,
    Transform,
    alone,
    environment_reward,
    merge,
    program,
    renamed,
    terms_from,
    total,
)
from guerdon.reward_design.shaping import chain, clip, scalarize, scale
from guerdon.types import Batch, Features
from tests.reward_design.toy import LAYOUT, toy_task
from tests.reward_design.traces import at, spec_of

TASK = toy_task()


def block(reward, mask=None):
    """A batch of ``(T, N)`` with ``x = 0, 1, 2, ...`` before and one more after."""
    reward = np.asarray(reward, np.float32)
    x = np.arange(reward.size, dtype=np.float32).reshape(reward.shape)
    rows = np.stack([x, x, x * 0, x * 0], axis=-1)
    never = np.zeros(reward.shape, bool)
    return Batch(
        None,
        np.zeros(reward.shape, np.int64),
        None,
        Features(LAYOUT, rows),
        Features(LAYOUT, rows + np.float32([1, 1, 1, 0])),
        reward,
        never,
        never,
        {},
        mask,
    )


def pay(design, batch, lead=None):
    lead = batch.reward.shape[1:] if lead is None else lead
    return design.apply(design.init(spec_of(TASK, lead)), batch)[0]


def double():
    return terms_from(lambda batch: {"double": 2 * batch.reward}, "double")


def test_the_reward_is_the_sum_of_the_terms_and_both_are_float32():
    found = pay(program([environment_reward(), double()]), block([[1.0, -2.0]]))
    assert found.terms.tolist() == [[[1.0, 2.0], [-2.0, -4.0]]]
    assert found.reward.tolist() == [[3.0, -6.0]]
    assert found.reward.dtype == found.terms.dtype == np.float32


def test_transforms_act_in_order_and_terms_stay_what_they_were():
    terms = merge(environment_reward(), double())
    design = program(terms, chain(clip(-1, 3), scalarize([1, 10]), scale(2)))
    found = pay(design, block([[1.0, 2.0]]))
    assert found.reward.tolist() == [[2 * (1 + 20), 2 * (2 + 30)]]
    assert found.terms.tolist() == [[[1.0, 2.0], [2.0, 4.0]]]


@pytest.mark.parametrize("lead", [(), (3,), (2, 3)])
def test_one_transition_a_step_and_a_block_have_their_own_shape(lead):
    batch = block(np.ones(lead))
    found = pay(program(environment_reward()), batch, lead[-1:])
    assert found.reward.shape == lead
    assert found.terms.shape == (*lead, 1)


def test_rows_that_are_not_real_are_zero_whatever_the_terms_say():
    mask = np.array([[True, False]])
    found = pay(program(environment_reward()), block([[1.0, np.nan]], mask))
    assert found.reward.tolist() == [[1.0, 0.0]]
    assert found.terms.tolist() == [[[1.0], [0.0]]]


def test_infinite_rewards_are_clamped_and_nan_stays_visible():
    found = pay(program(environment_reward()), block([[np.inf, -np.inf, np.nan]]))
    assert found.reward[0, :2].tolist() == [CLAMP, -CLAMP]
    assert np.isnan(found.reward[0, 2])


def test_a_double_beyond_float32_is_clamped_without_a_warning():
    huge = terms_from(lambda batch: {"huge": 1e300}, "huge")
    assert pay(program(huge), block([[0.0]])).reward.tolist() == [[CLAMP]]


def test_a_flag_and_a_constant_may_be_terms():
    flags = terms_from(
        lambda batch: {"moved": batch.now.x > batch.prev.x, "rent": -0.5},
        "moved",
        "rent",
    )
    assert pay(program(flags), block([[0.0]])).terms.tolist() == [[[1.0, -0.5]]]


def test_torch_gives_what_numpy_gives():
    terms = merge(environment_reward(), double())
    design = program(terms, chain(clip(-1, 3), scalarize({"task": 1, "double": 0.5})))
    batch = block(np.linspace(-3, 5, 12).reshape(4, 3), np.arange(12).reshape(4, 3) > 2)
    t = torch.as_tensor
    tensors = batch._replace(
        action=t(batch.action),
        prev=Features(LAYOUT, t(batch.prev.rows)),
        now=Features(LAYOUT, t(batch.now.rows)),
        reward=t(batch.reward),
        terminated=t(batch.terminated),
        truncated=t(batch.truncated),
        mask=t(batch.mask),
    )
    expected, found = pay(design, batch), pay(design, tensors)
    assert found.reward.dtype == torch.float32
    assert np.array_equal(found.reward.numpy(), expected.reward)
    assert np.array_equal(found.terms.numpy(), expected.terms)


def test_the_sum_of_ten_terms_does_not_depend_on_the_shape_of_the_batch():
    rng = np.random.default_rng(0)
    batch = block(rng.standard_normal((5, 4)))
    names = tuple(f"t{k}" for k in range(10))
    wild = terms_from(
        lambda b: {n: np.sin(b.now.x * (k + 0.1)) for k, n in enumerate(names)}, *names
    )
    transposed = wild._replace(
        apply=lambda state, b: (
            np.asfortranarray(wild.apply(state, b)[0]),
            state,
        )
    )
    whole = pay(program(wild), batch).reward
    assert np.array_equal(pay(program(transposed), batch).reward, whole)
    for time in range(5):
        step = pay(program(wild), at(batch, time), (4,)).reward
        assert np.array_equal(step, whole[time])
        alone = pay(program(wild), at(batch, (time, 2)), ()).reward
        assert alone == whole[time, 2]


def test_terms_that_share_a_name_are_refused():
    with pytest.raises(ValueError, match="'task' occurs twice"):
        merge(environment_reward(), environment_reward())
    with pytest.raises(ValueError, match="a name occurs twice"):
        program(double()._replace(names=("a", "a")))


def test_a_program_without_terms_is_refused():
    with pytest.raises(ValueError, match="at least one term"):
        program([])
    with pytest.raises(ValueError, match="expected the names"):
        terms_from(lambda batch: {})


def test_what_is_not_a_record_is_refused():
    with pytest.raises(TypeError, match="expected Terms, got function"):
        program([lambda batch: batch.reward])
    with pytest.raises(TypeError, match="expected a Transform"):
        program(environment_reward(), lambda r: r)


def test_terms_that_give_other_names_or_shapes_are_refused():
    with pytest.raises(ValueError, match=r"expected \['a'\], got \['b'\]"):
        pay(program(terms_from(lambda batch: {"b": 1.0}, "a")), block([[0.0]]))
    flat = Terms(("a",), lambda spec: None, lambda state, b: (b.reward, state))
    with pytest.raises(ValueError, match=r"expected shape \(1, 1, 1\), got \(1, 1\)"):
        pay(program(flat), block([[0.0]]))
    with pytest.raises(ValueError, match="and an axis of terms"):
        total(block([[0.0]]), np.zeros((2, 2)))


def test_a_transform_that_broadcasts_by_accident_is_refused():
    sloppy = Transform(lambda spec: None, lambda s, b, r: (r + b.reward[0], s))
    with pytest.raises(
        ValueError, match=r"back \(1, 2, 1\) or \(1, 2\), got \(1, 2, 2\)"
    ):
        pay(program(environment_reward(), sloppy), block([[1.0, 2.0]]))
    alone_with_it = alone(sloppy)
    assert pay(alone_with_it, block([[1.0, 2.0]])).reward.tolist() == [[2.0, 4.0]]


def test_the_source_survives_a_merge_where_there_is_one():
    written = double()._replace(source="text")
    assert program([environment_reward(), written]).source == "text"
    two = merge(written, environment_reward()._replace(source="other"))
    assert two.source is None


@pytest.mark.parametrize(
    "part",
    [
        {"terminated": np.zeros((3, 1), bool)},
        {"truncated": np.zeros(2, bool)},
        {"reward": np.zeros((2, 2), np.float32)},
        {"mask": np.ones((2, 3), bool)},
        {"prev": Features(LAYOUT, np.zeros((2, 4), np.float32))},
        {"now": Features(LAYOUT, np.zeros((3, 2, 4), np.float32))},
    ],
    ids=lambda part: next(iter(part)),
)
def test_a_part_with_other_leading_axes_is_refused(part):
    batch = block([[1.0, 2.0]])
    design = program(environment_reward())
    with pytest.raises(ValueError, match=r"expected one step \(2,\) or a block"):
        pay(design, batch._replace(**part), (2,))


@pytest.mark.parametrize("lead", [(3,), (2, 1), (1, 2, 2)])
def test_a_batch_of_other_environments_than_the_spec_is_refused(lead):
    with pytest.raises(ValueError, match=r"got feature rows \(1, 2, 4\)"):
        pay(program(environment_reward()), block([[1.0, 2.0]]), lead)


def test_renamed_terms_pay_the_same_under_other_names():
    found = program([renamed(double(), "twice"), environment_reward()])
    assert found.names == ("twice", "task")
    assert pay(found, block([[1.0]])).terms.tolist() == [[[2.0, 1.0]]]
    with pytest.raises(ValueError, match="expected 1 names"):
        renamed(double(), "a", "b")


def test_the_sum_runs_from_left_to_right_at_every_size():
    parts = np.random.default_rng(0).normal(size=(700, 11)).astype(np.float32)
    parts *= np.float32(10.0) ** np.arange(-5, 6, dtype=np.float32)
    expected = parts[:, 0].copy()
    for place in range(1, 11):
        expected += parts[:, place]
    for size in (1, 3, 181, 182, 700):
        batch = block(np.zeros((1, size)))
        sums = [expected[:size].tolist()]
        assert total(batch, parts[None, :size]).tolist() == sums
        assert total(batch, torch.as_tensor(parts[None, :size])).tolist() == sums

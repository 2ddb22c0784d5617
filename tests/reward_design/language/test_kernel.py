"""The fused numba kernel against NumPy columns: the same bits, whatever the batch."""

from __future__ import annotations

import numpy as np
import pytest

from guerdon.envs import load_task
from guerdon.reward_design.language import terms
from guerdon.reward_design.program import environment_reward, merge, program
from guerdon.reward_design.shaping import clip
from guerdon.types import ActionSpec, Batch, Features, Layout, Spec

TASK = load_task("guerdon/CartPole-v1")
WIDTH = TASK.layout.width
TEXT = """PARAMS = {"a": 0.5}
def reward(prev, action, now, params):
    return {
        "large": 1e5 * now.cart_position * now.cart_velocity,
        "small": 1e-3 * now.pole_angle - params.a,
        "best": previous_best(now.cart_position),
        "gain": delta(now.pole_angle),
        "push": where(action > 0.5, 0.125, -0.0),
        "e1": now.cart_velocity / 3.0,
        "e2": now.cart_velocity / 7.0,
        "e3": now.pole_angle / 11.0,
        "e4": prev.pole_angle / 13.0,
    }
"""
NO_REGISTERS = TEXT.replace("previous_best", "square").replace("delta", "abs")


def programs(text):
    return [
        terms(text, TASK.layout, TASK.action, backend=backend)
        for backend in ("numpy", "numba")
    ]


def rows(shape, rng):
    values = rng.normal(size=(*shape, WIDTH)) * 10.0 ** rng.integers(
        -3, 4, (*shape, WIDTH)
    )
    values[rng.random((*shape, WIDTH)) < 0.1] = -0.0
    bad = rng.random((*shape, WIDTH)) < 0.02
    values[bad] = rng.choice([np.nan, np.inf, -np.inf], bad.sum())
    return Features(TASK.layout, values.astype(np.float32))


def batch_of(shape, seed, masked):
    rng = np.random.default_rng(seed)
    return Batch(
        None,
        rng.integers(0, 2, shape),
        None,
        rows(shape, rng),
        rows(shape, rng),
        rng.normal(size=shape).astype(np.float32),
        rng.random(shape) < 0.1,
        rng.random(shape) < 0.1,
        {},
        rng.random(shape) < 0.7 if masked else None,
    )


@pytest.mark.parametrize("text", [TEXT, NO_REGISTERS], ids=["registers", "none"])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize(
    ("lead", "shapes"),
    [((), [(), (40,), ()]), ((5,), [(5,), (30, 5), (5,), (0, 5)])],
)
def test_the_kernel_gives_the_bits_of_numpy(text, masked, lead, shapes):
    for build in (program, lambda own: program(merge(own, environment_reward()))):
        designs = [build(own) for own in programs(text)]
        states = [d.init(Spec(TASK.layout, TASK.action, lead)) for d in designs]
        for seed, shape in enumerate(shapes):
            batch = batch_of(shape, seed, masked)
            found = []
            for place, design in enumerate(designs):
                designed, states[place] = design.apply(states[place], batch)
                found.append(designed)
            for one, other in zip(*found, strict=True):
                assert one.dtype == other.dtype == np.float32
                np.testing.assert_array_equal(one, other, strict=True)
                assert (np.signbit(one) == np.signbit(other))[~np.isnan(one)].all()


def test_a_transform_comes_after_the_kernel():
    batch = batch_of((20, 5), 3, False)
    found = []
    for own in programs(TEXT):
        design = program(own, clip(-0.25, 0.25))
        state = design.init(Spec(TASK.layout, TASK.action, (5,)))
        found.append(design.apply(state, batch)[0].reward)
    np.testing.assert_array_equal(*found)
    assert np.nanmax(found[0]) <= 9 * 0.25


@pytest.mark.parametrize("backend", ["numpy", "numba"])
@pytest.mark.parametrize("text", [TEXT, NO_REGISTERS], ids=["registers", "none"])
def test_a_batch_or_spec_of_another_task_is_refused(backend, text):
    design = program(terms(text, TASK.layout, TASK.action, backend=backend))
    spec = Spec(TASK.layout, TASK.action, (5,))
    other = Layout(tuple(reversed(TASK.layout.features)))
    for wrong in (
        spec._replace(layout=other),
        spec._replace(action=ActionSpec("discrete", 3)),
    ):
        with pytest.raises(ValueError, match="written for the features"):
            design.init(wrong)
    batch, state = batch_of((5,), 0, False), design.init(spec)
    for end in ("prev", "now"):
        moved = Features(other, getattr(batch, end).rows)
        with pytest.raises(ValueError, match="written for the features"):
            design.apply(state, batch._replace(**{end: moved}))


@pytest.mark.parametrize("backend", ["numpy", "numba"])
@pytest.mark.parametrize("shape", [(5, 1), (4,), (), (1, 5)])
def test_actions_of_another_shape_are_refused(backend, shape):
    design = program(terms(NO_REGISTERS, TASK.layout, TASK.action, backend=backend))
    state = design.init(Spec(TASK.layout, TASK.action, (5,)))
    batch = batch_of((5,), 0, False)._replace(action=np.zeros(shape))
    with pytest.raises(ValueError, match=r"action: expected shape \(5,\)"):
        design.apply(state, batch)

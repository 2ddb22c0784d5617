"""All backends compute the same function, and it is the one that was written."""

from __future__ import annotations

import builtins
import dis
import math
from types import CodeType

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from guerdon.reward_design.language import Tree, compile_tree, parse, terms
from guerdon.reward_design.language.codegen import _scalar_source
from guerdon.reward_design.language.edit import mutate
from guerdon.reward_design.language.registers import SCANS
from guerdon.reward_design.language.runtime import (
    NUMPY_NAMES,
    SCALAR_NAMES,
    torch_names,
)
from guerdon.reward_design.language.sample import sample
from guerdon.reward_design.program import CLAMP
from guerdon.types import ActionSpec, Batch, Features, Spec
from tests.reward_design.language.conftest import (
    CONTINUOUS,
    DISCRETE,
    LAYOUT,
    random_batch,
    step_of,
)

EVERYTHING = """
PARAMS = {"w": 1.5, "t": 0.5}
def reward(prev, action, now, params):
    s = 0.0
    for u in now.velocity:
        s += u ** 2
    if now.x > 0.5:
        z = 2.0
    elif now.x > 0:
        z = now.distance
    else:
        z = -s
    gate = now.carrying and not prev.carrying or now.open
    return {
        "near": exp(-abs(now.distance) / params.t),
        "event": params.w * where(gate, 1.0, 0.0),
        "branch": -0.1 * s + z,
        "norm": norm(now.velocity - prev.velocity) + dot(now.velocity, prev.velocity),
        "reduce": sum(now.velocity) + mean(tanh(now.velocity)) + largest(now.velocity),
        "first": first_time(now.x > 0.8),
        "count": count(now.carrying) / 10,
        "delta": delta(now.x * 2),
        "best": max(0, now.x - previous_best(now.x)),
        "power": abs(now.x) ** 1.7 / now.distance + now.x ** 3,
        "total": log(now.x) + sqrt(now.x) + 1 / now.x + sin(now.x) * cos(now.x),
        "sign": sign(now.x) * clip(now.x, -1, 1) + square(now.distance),
    }
"""


def numpy_terms(tree: Tree, batch: Batch, action: ActionSpec) -> np.ndarray:
    made = terms(tree, LAYOUT, action)
    spec = Spec(LAYOUT, action, batch.reward.shape[1:])
    values, _ = made.apply(made.init(spec), batch)
    return np.clip(values, -CLAMP, CLAMP)


def torch_terms(tree: Tree, batch: Batch, action: ActionSpec) -> np.ndarray:
    as_torch = batch._replace(
        action=torch.as_tensor(batch.action),
        prev=Features(LAYOUT, torch.as_tensor(batch.prev.rows)),
        now=Features(LAYOUT, torch.as_tensor(batch.now.rows)),
        reward=torch.as_tensor(batch.reward),
        terminated=torch.as_tensor(batch.terminated),
        truncated=torch.as_tensor(batch.truncated),
    )
    made = terms(tree, LAYOUT, action)
    spec = Spec(LAYOUT, action, batch.reward.shape[1:])
    values, _ = made.apply(made.init(spec), as_torch)
    return np.clip(values.numpy(), -CLAMP, CLAMP)


def scalar_terms(tree: Tree, batch: Batch) -> np.ndarray:
    """One transition at a time, by the scalar code, with the output's clamp."""
    compiled = compile_tree(tree)
    weights = tuple(value for _, value in tree.params)
    steps, environments = batch.reward.shape
    out = np.zeros((steps, environments, compiled.width))
    action = np.asarray(batch.action, float).reshape(steps, environments, -1)
    done = batch.terminated | batch.truncated
    for n in range(environments):
        memory, start = [0.0] * len(compiled.line.registers), True
        for t in range(steps):
            values = compiled.scalar(
                batch.prev.rows[t, n].tolist(),
                action[t, n].tolist(),
                batch.now.rows[t, n].tolist(),
                weights,
                memory,
                start,
            )
            out[t, n] = np.clip(values, -1e6, 1e6)
            start = bool(done[t, n])
    return out


def test_numpy_agrees_with_the_scalar_code(rng: np.random.Generator) -> None:
    tree = parse(EVERYTHING, LAYOUT, DISCRETE)
    batch = random_batch(rng, 40, 5, DISCRETE)
    np.testing.assert_allclose(
        numpy_terms(tree, batch, DISCRETE), scalar_terms(tree, batch), rtol=1e-6
    )


def test_torch_agrees_with_numpy(rng: np.random.Generator) -> None:
    tree = parse(EVERYTHING, LAYOUT, DISCRETE)
    batch = random_batch(rng, 40, 5, DISCRETE)
    expected = numpy_terms(tree, batch, DISCRETE)
    np.testing.assert_allclose(torch_terms(tree, batch, DISCRETE), expected, rtol=1e-6)


def test_numba_agrees_with_numpy(rng: np.random.Generator) -> None:
    pytest.importorskip("numba")
    tree = parse(EVERYTHING, LAYOUT, DISCRETE)
    batch = random_batch(rng, 40, 5, DISCRETE)
    made = terms(tree, LAYOUT, DISCRETE, backend="numba")
    values, _ = made.apply(made.init(Spec(LAYOUT, DISCRETE, (5,))), batch)
    expected = numpy_terms(tree, batch, DISCRETE)
    np.testing.assert_allclose(values, expected, rtol=1e-6)


@pytest.mark.parametrize("backend", ["numpy", "numba"])
def test_a_block_is_its_steps_one_after_the_other(
    rng: np.random.Generator, backend: str
) -> None:
    if backend == "numba":
        pytest.importorskip("numba")
    batch = random_batch(rng, 30, 4, DISCRETE)
    made = terms(EVERYTHING, LAYOUT, DISCRETE, backend=backend)
    spec = Spec(LAYOUT, DISCRETE, (4,))
    block, _ = made.apply(made.init(spec), batch)
    state, rows = made.init(spec), []
    for t in range(30):
        values, state = made.apply(state, step_of(batch, t))
        rows.append(values)
    np.testing.assert_array_equal(block, np.stack(rows))
    first, state = made.apply(made.init(spec), step_of(batch, slice(0, 11)))
    second, _ = made.apply(state, step_of(batch, slice(11, 30)))
    np.testing.assert_array_equal(block, np.concatenate([first, second]))


def test_one_transition_has_no_leading_axes(rng: np.random.Generator) -> None:
    batch = random_batch(rng, 10, 1, DISCRETE)
    made = terms(EVERYTHING, LAYOUT, DISCRETE)
    block, _ = made.apply(made.init(Spec(LAYOUT, DISCRETE, (1,))), batch)
    state = made.init(Spec(LAYOUT, DISCRETE, ()))
    for t in range(10):
        values, state = made.apply(state, step_of(batch, (t, 0)))
        assert values.shape == (12,)
        np.testing.assert_array_equal(values, block[t, 0])


def test_registers_follow_a_hand_trace() -> None:
    text = """def reward(prev, action, now, params):
    return {
        "first": first_time(now.open),
        "count": count(now.open),
        "delta": delta(now.x),
        "best": previous_best(now.x),
    }
"""
    flags = [0, 1, 1, 0, 1, 1, 0]
    values = [1.0, 3.0, 2.0, 5.0, 4.0, 6.0, 0.0]
    ends = [0, 0, 0, 1, 0, 0, 0]  # a new episode begins at the fifth step
    rows = np.zeros((8, 1, LAYOUT.width), np.float32)
    rows[1:, 0, LAYOUT.columns("open").start] = flags
    rows[1:, 0, LAYOUT.columns("x").start] = values
    nothing = np.zeros((7, 1), bool)
    batch = Batch(
        None,
        np.zeros((7, 1)),
        None,
        Features(LAYOUT, rows[:-1]),
        Features(LAYOUT, rows[1:]),
        np.zeros((7, 1)),
        np.array(ends, bool)[:, None],
        nothing,
    )
    out = numpy_terms(parse(text, LAYOUT, DISCRETE), batch, DISCRETE)[:, 0]
    np.testing.assert_array_equal(out[:, 0], [0, 1, 0, 0, 1, 0, 0])
    np.testing.assert_array_equal(out[:, 1], [0, 1, 2, 2, 1, 2, 2])
    np.testing.assert_array_equal(out[:, 2], [0, 2, -1, 3, 0, 2, -6])
    np.testing.assert_array_equal(out[:, 3], [1, 1, 3, 3, 4, 4, 6])


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("1 / (now.x - now.x)", 0.0),
        ("sqrt(-1 - square(now.x))", 0.0),
        ("(-2 - square(now.x)) ** 0.3", 0.0),
        ("(now.x - now.x) ** -1", 0.0),
        ("(now.x - now.x) ** 0", 1.0),
        ("exp(1000 + square(now.x))", 1e6),
        ("log(now.x - now.x)", math.log(1e-12)),
        ("exp(99) ** 90", 1e6),
        ("-exp(99) * exp(99) * exp(99) * exp(99)", -1e6),
        ("now.x * 1e9 * 1e9 * 1e9 * 1e9 * 1e9 - now.x * 1e9", None),
    ],
)
def test_every_function_is_total(
    rng: np.random.Generator, expression: str, expected: float | None
) -> None:
    text = f"def reward(prev, action, now, params):\n    return {{'t': {expression}}}\n"
    batch = random_batch(rng, 6, 2, DISCRETE)
    out = numpy_terms(parse(text, LAYOUT, DISCRETE), batch, DISCRETE)
    assert np.isfinite(out).all()
    if expected is not None:
        np.testing.assert_allclose(out, expected, rtol=1e-6)


def test_a_feature_that_is_not_finite_gives_nan_on_its_row_only(
    rng: np.random.Generator,
) -> None:
    batch = random_batch(rng, 6, 2, DISCRETE)
    batch.now.rows[3, 1, 0] = np.nan
    text = "def reward(prev, action, now, params):\n    return {'t': now.x}\n"
    out = numpy_terms(parse(text, LAYOUT, DISCRETE), batch, DISCRETE)
    assert np.isnan(out[3, 1]).all()
    assert np.isnan(out[4, 1]).all()  # it is the row before of the next step
    assert np.isnan(out).sum() == 2


def test_inputs_are_not_written_to(rng: np.random.Generator) -> None:
    batch = random_batch(rng, 8, 3, DISCRETE)
    for array in (batch.prev.rows, batch.now.rows, batch.action):
        array.flags.writeable = False
    numpy_terms(parse(EVERYTHING, LAYOUT, DISCRETE), batch, DISCRETE)


def test_torch_gives_gradients_of_the_parameters(rng: np.random.Generator) -> None:
    from guerdon.reward_design.language.terms import torch_columns

    tree = parse(EVERYTHING, LAYOUT, DISCRETE)
    compiled = compile_tree(tree)
    rows = random_batch(rng, 5, 2, DISCRETE)
    batch = rows._replace(
        action=torch.as_tensor(rows.action)[..., None],
        prev=Features(LAYOUT, torch.as_tensor(rows.prev.rows)),
        now=Features(LAYOUT, torch.as_tensor(rows.now.rows)),
        terminated=torch.as_tensor(rows.terminated),
        truncated=torch.as_tensor(rows.truncated),
    )
    weights = torch.tensor([1.5, 0.5], dtype=torch.float64, requires_grad=True)
    state = terms(tree, LAYOUT, DISCRETE).init(Spec(LAYOUT, DISCRETE, (2,)))
    out, _ = torch_columns(compiled, weights, state, batch)
    out[..., 1].sum().backward()
    events = out[..., 1].detach().sum() / 1.5
    assert weights.grad is not None
    assert weights.grad[0] == pytest.approx(float(events))


def _names(code: CodeType) -> set[str]:
    found = set(code.co_names)
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            found |= _names(constant)
    return found


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), continuous=st.booleans())
def test_any_program_agrees_in_columns_numbers_and_torch_and_names_only_our_table(
    seed: int, continuous: bool
) -> None:
    rng = np.random.default_rng(seed)
    action = CONTINUOUS if continuous else DISCRETE
    tree = sample(LAYOUT, action, rng)
    for _ in range(3):
        tree = mutate(tree, rng).tree
    batch = random_batch(rng, 9, 3, action)
    expected = numpy_terms(tree, batch, action)
    np.testing.assert_allclose(scalar_terms(tree, batch), expected, rtol=1e-5)
    np.testing.assert_allclose(torch_terms(tree, batch, action), expected, rtol=1e-5)
    compiled = compile_tree(tree)
    own = {*SCALAR_NAMES, *NUMPY_NAMES, *SCANS, *torch_names(), "a_load"}
    for source in (compiled.source, _scalar_source(compiled.line)):
        code = compile(source, "test", "exec")
        assert _names(code) <= own | {"terms", "block"}
        assert not {i.opname for i in dis.get_instructions(code)} & {
            "IMPORT_NAME",
            "LOAD_ATTR",
            "LOAD_METHOD",
        }
    assert "__builtins__" in compiled.block.__globals__
    assert compiled.block.__globals__["__builtins__"] == {}
    assert builtins.exec not in compiled.block.__globals__.values()


def test_the_largest_finite_features_are_not_taken_for_broken_ones() -> None:
    batch = random_batch(np.random.default_rng(0), 4, 2, DISCRETE)
    batch.now.rows[...] = batch.prev.rows[...] = 3e38
    text = "def reward(prev, action, now, params):\n    return {'t': now.x}\n"
    out = numpy_terms(parse(text, LAYOUT, DISCRETE), batch, DISCRETE)
    np.testing.assert_array_equal(out, 1e6)

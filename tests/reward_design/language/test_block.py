"""K programs on a block are what each of them is alone, step by step, bit for bit."""

from __future__ import annotations

import ast
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from guerdon.reward_design.language import Tree, group, lower, parse, passes, terms
from guerdon.reward_design.language import block as blocks
from guerdon.reward_design.language.block import (
    CROSSOVER,
    BlockPrograms,
    compile_block,
    faster_backend,
)
from guerdon.reward_design.language.edit import mutate
from guerdon.reward_design.language.sample import sample
from guerdon.reward_design.program import program
from guerdon.types import ActionSpec, Batch, Layout, Spec
from tests.reward_design.language.conftest import (
    CONTINUOUS,
    DISCRETE,
    LAYOUT,
    random_batch,
    step_of,
)
from tests.reward_design.language.programs import RandomPrograms


def sampled(rng: np.random.Generator, count: int, action: ActionSpec) -> list[Tree]:
    """Programs of the sampler, their mutants, and programs of every form."""
    found: list[Tree] = []
    every = RandomPrograms(LAYOUT, action, rng)
    while len(found) < count:
        tree = sample(LAYOUT, action, rng)
        found += [tree, mutate(tree, rng).tree, every.tree()]
    return found[:count]


def drawn_batch(
    rng: np.random.Generator, action: ActionSpec, lanes: int, nasty: bool
) -> Batch:
    """A block; a nasty one has rows that are not finite and rows that are not real."""
    batch = random_batch(rng, int(rng.integers(1, 12)), lanes, action)
    if nasty:
        bad = rng.random(batch.reward.shape) < 0.1
        batch.now.rows[bad, int(rng.integers(LAYOUT.width))] = np.nan
        if rng.random() < 0.5:
            batch = batch._replace(mask=rng.random(batch.reward.shape) < 0.8)
    return batch


def part_of(batch: Batch, index: object) -> Batch:
    mask = None if batch.mask is None else batch.mask[index]
    return step_of(batch, index)._replace(mask=mask)


def stepped(tree: Tree, batch: Batch) -> tuple[np.ndarray, np.ndarray]:
    """The oracle: the program alone, one step of all lanes after the other."""
    whole = program(terms(tree, LAYOUT, tree.action))
    state = whole.init(Spec(LAYOUT, tree.action, batch.reward.shape[1:]))
    found = []
    for t in range(len(batch.reward)):
        designed, state = whole.apply(state, part_of(batch, t))
        found.append(designed)
    return tuple(np.stack(x) for x in zip(*found, strict=True))  # type: ignore


def cuts(rng: np.random.Generator, steps: int) -> list[slice]:
    """A split of time into blocks, some of them empty."""
    inner = sorted(rng.integers(0, steps + 1, size=int(rng.integers(0, 4))).tolist())
    return [slice(a, b) for a, b in pairwise([0, *inner, steps])]


def scored_all(
    made: BlockPrograms, batch: Batch, splits: list[slice]
) -> tuple[np.ndarray, list[np.ndarray]]:
    state = made.init_all(batch.reward.shape[1])
    totals, kept = [], []
    for split in splits:
        scores, state = made.score_all(state, part_of(batch, split), terms=True)
        totals.append(scores.total)
        kept.append([scores.terms(k) for k in range(len(made))])
    return np.concatenate(totals, axis=1), [
        np.concatenate(parts) for parts in zip(*kept, strict=True)
    ]


def scored_own(
    made: BlockPrograms, batch: Batch, splits: list[slice], rows: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    state = made.init_own(batch.reward.shape[1])
    totals, kept = [], []
    for split in splits:
        scores, state = made.score_own(state, part_of(batch, split), rows, terms=True)
        totals.append(scores.total)
        kept.append(scores.terms)
    return np.concatenate(totals), np.concatenate(kept)


def check(
    trees: list[Tree],
    batch: Batch,
    rng: np.random.Generator,
    made: BlockPrograms,
    envs: int,
) -> None:
    """Both forms against the oracle, for a random split and random rows."""
    oracle = [stepped(tree, batch) for tree in trees]
    splits = cuts(rng, len(batch.reward))
    totals, kept = scored_all(made, batch, splits)
    for k, (expected, apart) in enumerate(oracle):
        np.testing.assert_array_equal(totals[k], expected, strict=True)
        np.testing.assert_array_equal(kept[k], apart, strict=True)
    rows = rng.integers(-1, len(trees), size=batch.reward.shape[1] // envs)
    total, own = scored_own(made, batch, splits, rows)
    for lane, k in enumerate(np.repeat(rows, envs)):
        if k < 0:
            assert not total[:, lane].any()
            assert not own[:, lane].any()
            continue
        expected, apart = oracle[k]
        count = apart.shape[-1]
        np.testing.assert_array_equal(total[:, lane], expected[:, lane], strict=True)
        np.testing.assert_array_equal(own[:, lane, :count], apart[:, lane])
        assert not own[:, lane, count:].any()


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    count=st.integers(1, 6),
    rows=st.integers(1, 4),
    envs=st.integers(1, 3),
    continuous=st.booleans(),
    nasty=st.booleans(),
)
def test_any_programs_split_and_order_of_lanes_give_the_stepped_program_s_bits(
    seed: int, count: int, rows: int, envs: int, continuous: bool, nasty: bool
) -> None:
    rng = np.random.default_rng(seed)
    action = CONTINUOUS if continuous else DISCRETE
    trees = sampled(rng, count, action)
    batch = drawn_batch(rng, action, rows * envs, nasty)
    check(trees, batch, rng, compile_block(trees, LAYOUT, action), envs)


def test_chunks_and_groups_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passes, "CHUNK", 4)
    monkeypatch.setattr(blocks, "MOST_TOGETHER", 30)
    rng = np.random.default_rng(1)
    for _ in range(8):
        trees = sampled(rng, 6, DISCRETE)
        made = compile_block(trees, LAYOUT, DISCRETE)
        for lanes in (1, 6):
            check(trees, drawn_batch(rng, DISCRETE, lanes, True), rng, made, 1)


@pytest.mark.parametrize("continuous", [False, True])
def test_the_numba_loop_gives_the_same_bits(continuous: bool) -> None:
    pytest.importorskip("numba")
    rng = np.random.default_rng(continuous)
    action = CONTINUOUS if continuous else DISCRETE
    every = RandomPrograms(LAYOUT, action, rng)
    # Without transcendental functions, which each library has for itself.
    trees = [parse_of('"a": delta(now.x), "b": delta(now.x), "c": now.x', action)]
    while len(trees) < 2:
        tree = every.tree()
        trees += [tree] if 10 < tree.size < 20 else []
    made = compile_block(trees, LAYOUT, action, backend="numba")
    for nasty in (False, True):
        check(trees, drawn_batch(rng, action, 6, nasty), rng, made, 2)


def parse_of(terms: str, action: ActionSpec = DISCRETE) -> Tree:
    text = f"def reward(prev, action, now, params):\n    return {{{terms}}}\n"
    return parse(text, LAYOUT, action)


# --- sharing ------------------------------------------------------------------


def test_what_programs_have_in_common_is_computed_once() -> None:
    first = parse_of('"a": now.x * now.distance + 1.0, "b": count(now.open)')
    second = parse_of('"c": count(now.open), "d": 2.0 * (now.x * now.distance + 1.0)')
    pairs = [(lower.lower(tree), ()) for tree in (first, second)]
    both = group.merged(pairs, group.Pool())
    ops = [operation.op for operation in both.line.operations]
    assert (ops.count("mul"), ops.count("add"), ops.count("count")) == (2, 1, 1)
    assert len(both.line.registers) == 1
    # a, b and d are three terms; c is b.
    assert both.programs == ((0, 1), (1, 2))
    source = group.column_source(both)
    assert source.count("a_load(now, 0)") == source.count("a_load(now, 5)") == 1


def test_equal_parameters_are_shared_and_signs_of_zero_are_kept_apart() -> None:
    pool = group.Pool()
    places = [pool.place(value) for value in (1.0, 0.0, -0.0, 1.0)]
    assert places == [0, 1, 2, 0]
    assert str(pool.values) == "(1.0, 0.0, -0.0)"


ALLOWED = (
    *(ast.Module, ast.FunctionDef, ast.arguments, ast.arg, ast.Return, ast.Tuple),
    *(ast.Assign, ast.Expr, ast.Delete, ast.Name, ast.Load, ast.Store, ast.Del),
    *(ast.Call, ast.Constant, ast.Subscript, ast.Slice, ast.BinOp, ast.UnaryOp),
    *(ast.Compare, ast.BoolOp, ast.IfExp, ast.operator, ast.unaryop, ast.cmpop),
    *(ast.boolop, ast.If),
)
ARGUMENTS = {"prev", "action", "now", "starts", "w", "s", "term", "total"}
CELLS = {"i", "n", "start", "keep", "terms", "m_double", "m_single", "m_nan", "v", "r"}


def test_the_printed_code_names_nothing_but_our_own() -> None:
    rng = np.random.default_rng(3)
    for action in (DISCRETE, CONTINUOUS):
        trees = sampled(rng, 60, action)
        pairs = [(lower.lower(t), [v for _, v in t.params]) for t in trees]
        whole = group.merged(pairs, group.Pool())
        known = set(group.COLUMN_NAMES) | ARGUMENTS
        for source, names in (
            (group.column_source(whole), known),
            (group.row_source(whole), known | CELLS),
        ):
            for node in ast.walk(ast.parse(source)):
                assert isinstance(node, ALLOWED), ast.dump(node)[:100]
                if isinstance(node, ast.Name):
                    local = node.id[0] in "tuazh" and node.id[1:].lstrip("t").isdigit()
                    assert local or node.id in names, node.id


# --- states and failures ----------------------------------------------------------


def test_a_row_that_gets_a_new_program_forgets_and_the_others_go_on() -> None:
    rng = np.random.default_rng(5)
    kept = parse_of('"a": count(now.open)')
    old = parse_of('"a": delta(now.x), "b": previous_best(now.x)')
    new = parse_of('"a": previous_best(now.distance)')
    batch = random_batch(rng, 8, 4, DISCRETE)
    quiet = np.zeros_like(batch.terminated)
    batch = batch._replace(terminated=quiet, truncated=quiet)
    first, second = part_of(batch, slice(0, 4)), part_of(batch, slice(4, 8))
    rows = np.array([0, 1])
    before = compile_block([kept, old], LAYOUT, DISCRETE)
    _, state = before.score_own(before.init_own(4), first, rows)
    after = compile_block([kept, new], LAYOUT, DISCRETE)
    state = after.adopted(state, np.array([False, False, True, True]))
    scores, _ = after.score_own(state, second, rows)
    expected, _ = stepped(kept, batch)
    np.testing.assert_array_equal(scores.total[:, :2], expected[4:, :2])
    fresh, _ = stepped(new, second)
    np.testing.assert_array_equal(scores.total[:, 2:], fresh[:, 2:])


def test_what_is_not_finite_is_named_and_stays_in_its_row() -> None:
    trees = [parse_of('"a": now.x', CONTINUOUS)]
    trees += [parse_of('"b": now.x, "push": action[1]', CONTINUOUS)]
    made = compile_block(trees, LAYOUT, CONTINUOUS)
    batch = random_batch(np.random.default_rng(0), 3, 4, CONTINUOUS)
    clean, _ = made.score_own(made.init_own(4), batch, np.array([0, 1]))
    assert clean.failures == (None, None)
    batch.action[1, 2, 1] = np.nan
    own, _ = made.score_own(made.init_own(4), batch, np.array([0, 1]))
    assert own.failures == (None, "push")
    assert np.argwhere(np.isnan(own.total)).tolist() == [[1, 2]]
    every, _ = made.score_all(made.init_all(4), batch)
    assert every.failures == (None, "push")
    assert every.distinct is None
    with pytest.raises(ValueError, match="ask for them with terms=True"):
        every.terms(0)
    batch.now.rows[2, 0, 0] = np.inf
    own, _ = made.score_own(made.init_own(4), batch, np.array([0, 1]))
    assert own.failures == ("a", "push")
    assert np.argwhere(np.isnan(own.total)).tolist() == [[1, 2], [2, 0]]


def test_the_backend_is_chosen_by_what_compiling_costs() -> None:
    assert faster_backend(CROSSOVER - 1) == "numpy"
    assert faster_backend(CROSSOVER) == "numba"


# --- refusals -----------------------------------------------------------------


def test_bad_arguments_are_refused_with_what_was_expected() -> None:
    tree = parse_of('"a": now.x')
    with pytest.raises(ValueError, match="at least one program"):
        compile_block([], LAYOUT, DISCRETE)
    with pytest.raises(ValueError, match="'numpy' or 'numba', got 'jax'"):
        compile_block([tree], LAYOUT, DISCRETE, backend="jax")  # type: ignore
    with pytest.raises(TypeError, match="expected a Tree, got str"):
        compile_block(["now.x"], LAYOUT, DISCRETE)  # type: ignore
    other = Layout(tuple(reversed(LAYOUT.features)))
    with pytest.raises(ValueError, match="program 0 was written for"):
        compile_block([tree], other, DISCRETE)
    made = compile_block([tree], LAYOUT, DISCRETE)
    with pytest.raises(ValueError, match="lanes: expected at least 1"):
        made.init_all(0)
    batch = random_batch(np.random.default_rng(0), 3, 4, DISCRETE)
    with pytest.raises(ValueError, match=r"expected \(T, 5\) in all parts"):
        made.score_all(made.init_all(5), batch)
    state = made.init_all(4)._replace(memory=np.zeros((3, 4)))
    with pytest.raises(ValueError, match="expected memory of shape"):
        made.score_all(state, batch)
    own = made.init_own(4)
    for rows, words in (
        (np.zeros(3, int), "R a divisor of 4 lanes"),
        (np.ones(4, int), "from -1 to 0"),
        (np.zeros(4), "whole numbers"),
    ):
        with pytest.raises(ValueError, match=words):
            made.score_own(own, batch, rows)


def test_tensors_are_sent_to_the_other_way_of_scoring() -> None:
    torch = pytest.importorskip("torch")
    made = compile_block([parse_of('"a": now.x')], LAYOUT, DISCRETE)
    batch = random_batch(np.random.default_rng(0), 3, 4, DISCRETE)
    now = type(batch.now)(LAYOUT, torch.as_tensor(batch.now.rows))
    with pytest.raises(ValueError, match="expected NumPy arrays"):
        made.score_all(made.init_all(4), batch._replace(now=now))

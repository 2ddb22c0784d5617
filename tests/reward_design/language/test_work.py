"""What a program works: counted while it runs, against what was predicted before."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from guerdon.reward_design.language import Rejected, Tree, build, compile_tree, parse
from guerdon.reward_design.language.edit import cross, mutate
from guerdon.reward_design.language.grammar import from_json
from guerdon.reward_design.language.lower import MAX_WORK
from guerdon.reward_design.language.sample import sample
from guerdon.reward_design.language.table import FUNCTIONS
from guerdon.reward_design.language.tree import Expr
from guerdon.reward_design.language.work import predicted_work
from guerdon.types import ActionSpec, Batch
from tests.reward_design.language.conftest import (
    CONTINUOUS,
    DISCRETE,
    LAYOUT,
    random_batch,
)
from tests.reward_design.language.counting import (
    column_names,
    worked_by_columns,
    worked_by_numbers,
    worked_by_torch,
)
from tests.reward_design.language.programs import RandomPrograms

HEAD = "def reward(prev, action, now, params):\n"
WORDS = ("exp", "log", "tanh", "sin", "cos")


class EveryProgram(RandomPrograms):
    """Random programs with the functions that differ between libraries, too."""

    def elementwise(self, kind: str, depth: int) -> Expr:
        draw = self.rng.random()
        if draw < 0.2:
            return build.call(self.choose(WORDS), [self.expr(kind, depth)])
        if draw < 0.3:
            exponent = self.expr("number", 0)
            return build.arithmetic("pow", self.expr(kind, depth), exponent)
        return super().elementwise(kind, depth)


def returning(expression: str) -> Tree:
    text = f"PARAMS = {{'p': 2.5}}\n{HEAD}    return {{'t': {expression}}}\n"
    return parse(text, LAYOUT, DISCRETE)


def block(tree: Tree, steps: int) -> Batch:
    return random_batch(np.random.default_rng(steps), steps, 2, tree.action)


def hold(tree: Tree) -> None:
    """Executed is at most predicted, and predicted is no more than it has to be."""
    work = predicted_work(tree)
    assert max(worked_by_numbers(tree, block(tree, 6))) <= work.operations
    assert worked_by_torch(tree, block(tree, 8)) <= work.in_block(8)
    for steps in (1, 2, 7, 16):
        executed = worked_by_columns(tree, block(tree, steps))
        assert executed <= work.in_block(steps)
        assert work.in_block(steps) <= 1.5 * executed + 4


# --- hand counts ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("expression", "operations"),
    [
        ("1.0", 1),  # the term is stored
        ("now.x", 2),  # load, store
        ("now.x + 1.0", 3),
        ("now.x + now.x * now.x", 4),  # one load
        ("float(now.open)", 3),  # a comparison, a choice
        ("exp(now.x)", 1 + 1 + 1 + 8),
        ("now.x / 3.0", 1 + 4 + 1),
        ("sqrt(now.x)", 1 + 1 + 4 + 1),
        ("sum(now.velocity)", 3 + 2 + 1),
        ("norm(now.velocity)", 3 + 3 + 2 + 1 + 4 + 1),
        ("params.p * 2.0", 2),
        ("now.x ** 3", 1 + 2 + 1),
        ("exp(1.0) + 2.0 * 3.0", 1),  # folded
        ("sin(now.velocity)[1]", 1 + 8 + 1),  # the other two are read by nobody
        ("delta(now.x)", 1 + 3 + 1),
    ],
)
def test_small_programs_work_what_a_hand_counts(
    expression: str, operations: int
) -> None:
    assert predicted_work(returning(expression)).operations == operations


def test_what_is_shared_is_worked_once() -> None:
    text = f"{HEAD}    s = sin(now.x)\n    return {{'a': s, 'b': s, 'c': s * 2.0}}\n"
    work = predicted_work(parse(text, LAYOUT, DISCRETE))
    assert (work.operations, work.transcendental) == (1 + 8 + 1 + 3, 1)


def test_a_running_best_works_more_in_longer_blocks() -> None:
    work = predicted_work(returning("previous_best(now.x)"))
    assert (work.registers, work.doubling) == (1, 5)
    found = [work.in_block(steps) - work.operations for steps in (1, 2, 3, 8, 9)]
    assert found == [0, 5, 10, 15, 20]
    with pytest.raises(ValueError, match="at least 1, got 0"):
        work.in_block(0)


# --- executed against predicted ---------------------------------------------------


def calls() -> list[str]:
    """Every function and operator by itself."""
    kinds = {
        "flag": "now.open",
        "number": "now.x",
        "vector": "now.velocity",
        "elementwise": "now.distance",
    }
    found = [
        f"{f.name}({', '.join(kinds[kind] for kind in f.arguments)}) + 0.0"
        for f in FUNCTIONS.values()
    ]
    found += [f"now.x {sign} prev.x" for sign in ("+", "-", "*", "/", "**")]
    found += [f"now.x {sign} prev.x" for sign in ("<", "<=", ">", ">=", "==", "!=")]
    found += [f"now.x {sign} 3.0" for sign in ("/", "**")]
    found += ["now.open and prev.open", "now.open or prev.open", "not now.open"]
    found += ["now.x ** params.p", "prev.x ** 0.5", "-now.x", "now.x ** 5.0"]
    found += ["exp(now.x * 100) * exp(now.x * 99) * exp(now.x * 98) * exp(now.x * 97)"]
    return found


@pytest.mark.parametrize("expression", calls())
def test_every_function_works_what_was_predicted(expression: str) -> None:
    hold(returning(expression))


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), continuous=st.booleans())
def test_a_program_of_the_sampler_and_its_mutants_work_what_was_predicted(
    seed: int, continuous: bool
) -> None:
    rng = np.random.default_rng(seed)
    action = CONTINUOUS if continuous else DISCRETE
    tree = sample(LAYOUT, action, rng)
    hold(tree)
    for _ in range(3):
        tree = mutate(tree, rng).tree
    hold(cross(tree, sample(LAYOUT, action, rng), rng).tree)


@settings(max_examples=120, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), continuous=st.booleans())
def test_any_program_works_what_was_predicted(seed: int, continuous: bool) -> None:
    action: ActionSpec = CONTINUOUS if continuous else DISCRETE
    hold(EveryProgram(LAYOUT, action, np.random.default_rng(seed)).tree())


def test_the_count_would_see_more_work_than_was_predicted() -> None:
    """The oracle by itself: a function that works twice is found out."""
    tree = returning("sin(now.x)")
    names = column_names()
    predicted = predicted_work(tree).operations
    assert worked_by_columns(tree, block(tree, 4), names) == predicted
    names["a_sin"] = lambda x: np.sin(np.sin(x))
    assert worked_by_columns(tree, block(tree, 4), names) == predicted + 8


# --- the cap ------------------------------------------------------------------------


def layered(layers: int, width: int = 64) -> str:
    lines = [f"    v = [{', '.join(f'now.x * {i + 1}.5' for i in range(width))}]\n"]
    lines += ["    v = sin(v)\n"] * layers
    return f"{HEAD}{''.join(lines)}    return {{'near': now.x,\n      'far': sum(v)}}\n"


def test_a_text_that_works_too_long_is_refused_when_it_is_read() -> None:
    most = (MAX_WORK - 2 * 64 - 2) // (64 * 8)
    tree = parse(layered(most), LAYOUT, DISCRETE)
    work = predicted_work(tree)
    assert MAX_WORK - 64 * 8 < work.operations <= work.limit == MAX_WORK
    with pytest.raises(Rejected, match=r"works too long: more than 6000 .* 'far'") as e:
        parse(layered(most + 1), LAYOUT, DISCRETE)
    assert (e.value.failure.kind, e.value.failure.line) == ("slow", 13 + 2)


def test_json_that_works_too_long_is_refused_when_it_is_read() -> None:
    vector = {"op": "vector", "args": [{"now": "x"}] * 64}
    leaves = [{"op": "mul", "args": [{"now": "x"}, {"const": i}]} for i in range(64)]
    vector = {"op": "vector", "args": leaves}
    for _ in range(15):
        vector = {"op": "sin", "args": [vector]}
    data = {"op": "sum", "args": [vector]}
    text = str({"params": [], "terms": [{"name": "t", "expr": data}]})
    with pytest.raises(Rejected, match="works too long"):
        from_json(text.replace("'", '"'), LAYOUT, DISCRETE)


def test_constants_alone_cannot_make_reading_endless() -> None:
    entries = ", ".join(f"{i}.5" for i in range(64))
    text = f"{HEAD}    v = [{entries}]\n" + "    v = v * 1.001\n" * 95
    with pytest.raises(Rejected, match="works too long"):
        parse(f"{text}    return {{'t': now.x * sum(v)}}\n", LAYOUT, DISCRETE)


@pytest.mark.parametrize("text", [None, "now.x", 3])
def test_only_a_tree_has_work(text: object) -> None:
    with pytest.raises(TypeError, match="expected a Tree"):
        predicted_work(text)  # type: ignore[arg-type]


def test_entries_that_nobody_reads_are_not_printed() -> None:
    tree = returning("sin(now.velocity)[1] + delta(now.x)")
    source = compile_tree(tree).source
    assert source.count("a_sin") == 1
    assert source.count("a_load") == 2

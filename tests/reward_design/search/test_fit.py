import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from guerdon.reward_design.language import Tree, parse
from guerdon.reward_design.language.sample import sample
from guerdon.reward_design.search import Bank
from guerdon.reward_design.search.fit import DRIFT, FACTOR, FARMING, fit_params
from guerdon.reward_design.search.screen import screen_many
from tests.reward_design.search.small import (
    ACTION,
    LAYOUT,
    TASK,
    episode,
    program,
    random_bank,
    small_task,
)

pytest.importorskip("torch")

DENSE = small_task(
    sparse="def reward(prev, action, now, params):\n    return {'none': 0.0}\n"
)
"""A task whose sparse reward is a program, which pays nothing."""


def scored_by(tree: Tree, episodes: int = 40, discount: float = 0.9) -> Bank:
    """Random episodes whose true score is the return of a program."""
    bank = random_bank(episodes=episodes)
    (screened,) = screen_many([tree], bank)
    returns = np.bincount(bank.index, screened.signature * discount**bank.time)
    return Bank(DENSE, bank.episodes, tuple(returns.tolist()))


def values(tree: Tree) -> dict[str, float]:
    return dict(tree.params)


TERMS = ("params.a * now.x", "params.b * exp(-abs(now.speed) / params.c)")


def test_known_parameters_are_found_again_up_to_a_common_scale() -> None:
    bank = scored_by(program(*TERMS, a=0.4, b=1.5, c=0.6))
    start = program(*TERMS, a=1.0, b=1.0, c=0.2)
    fitted = fit_params(start, bank, steps=300, discount=0.9)
    found = values(fitted.tree)
    assert found["b"] / found["a"] == pytest.approx(1.5 / 0.4, rel=0.1)
    assert found["c"] == pytest.approx(0.6, rel=0.1)
    assert fitted.before is not None
    assert fitted.after is not None
    assert fitted.before < 0.98
    assert fitted.after > 0.99
    assert fitted.tree.terms == start.terms
    assert parse(fitted.source, LAYOUT, ACTION) == fitted.tree


def test_the_same_arguments_give_the_same_parameters() -> None:
    bank = scored_by(program(*TERMS, a=0.4, b=1.5, c=0.6))
    start = program(*TERMS, a=1.0, b=1.0, c=0.2)
    first, second = (fit_params(start, bank, steps=20) for _ in range(2))
    assert first == second


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_the_objective_is_never_worse_and_bounds_are_kept(seed: int) -> None:
    start = sample(LAYOUT, ACTION, np.random.default_rng(seed))
    bank = random_bank(seed=seed % 7, episodes=10)
    fitted = fit_params(start, bank, steps=15)
    assert fitted.before is not None
    assert fitted.after is not None
    assert fitted.after >= fitted.before
    for (name, old), (other, new) in zip(start.params, fitted.tree.params, strict=True):
        assert name == other
        assert 1 / FACTOR - 1e-3 <= new / old <= FACTOR + 1e-3


def test_the_objective_is_that_of_a_hand_trace() -> None:
    seen = [episode([0, 1, 1], [0, 1], terminated=True), episode([0, 0.5, 0], [0, 0])]
    tree = program("params.w * now.x", w=0.5)
    fitted = fit_params(tree, Bank.of(TASK, seen), steps=1, discount=0.5)
    # Returns .5 + .25 + .5 and .25: correlation 1. Failed, the terms paid .25.
    assert fitted.before == pytest.approx(1.0 - FARMING * 0.25)
    # One step of Adam is .1 towards what farms less.
    moved = values(fit_params(tree, Bank.of(TASK, seen), steps=2).tree)["w"]
    assert moved == pytest.approx(0.5 * np.exp(-0.1), rel=1e-3)


def test_the_sparse_reward_of_a_program_counts_where_parameters_are_fitted() -> None:
    paid = "def reward(prev, action, now, params):\n    return {'paid': -3.0 * now.x}\n"
    known = scored_by(program("now.speed"))
    bank = Bank(small_task(sparse=paid), known.episodes, known.fitness)
    # The true score is that of the speed alone, so the task's own -3 x is made up for.
    start = program("params.a * now.x", "params.b * now.speed", a=1.0, b=1.0)
    fitted = fit_params(start, bank, steps=300, discount=0.9)
    found = values(fitted.tree)
    assert found["a"] == pytest.approx(3.0, abs=0.1 * found["b"])
    assert fitted.after is not None
    assert fitted.after > 0.99


def test_what_pays_for_failing_is_made_smaller() -> None:
    seen = [
        episode([0, 1, 0], [0, 1], terminated=True),
        episode([0, 1, 1, 1], [0, 0, 0]),
        episode([0, -1, -1], [0, 0]),
    ]
    tree = program("params.w * now.x", w=0.3)
    found = values(fit_params(tree, Bank.of(TASK, seen), steps=100).tree)
    assert 0.03 <= found["w"] < 0.1


def test_a_parameter_that_is_zero_can_move_to_either_side() -> None:
    bank = scored_by(program("now.x", "-0.5 * now.speed"))
    start = program("now.x", "params.w * now.speed", w=0.0)
    fitted = fit_params(start, bank, steps=100, discount=0.9)
    assert values(fitted.tree)["w"] == pytest.approx(-0.5, abs=0.05)
    bounded = fit_params(start, bank, steps=100, discount=0.9, factor=2.0)
    assert values(bounded.tree)["w"] == pytest.approx(-0.2)


def test_registers_are_remembered_while_fitting() -> None:
    bank = scored_by(program("max(now.x - previous_best(now.x), 0)", "-0.3 * now.open"))
    start = program(
        "params.a * max(now.x - previous_best(now.x), 0)",
        "-params.b * now.open",
        a=1.0,
        b=1.0,
    )
    found = values(fit_params(start, bank, steps=200, discount=0.9).tree)
    assert found["b"] / found["a"] == pytest.approx(0.3, rel=0.15)


def test_a_gradient_that_is_none_or_not_finite_moves_nothing_else() -> None:
    bank = scored_by(program("now.x", "-0.5 * now.speed"))
    stuck = program("now.x if now.x > params.w else now.speed", w=0.5)
    same = fit_params(stuck, bank, steps=5)
    assert same.tree is stuck
    assert same.before == same.after
    rooted = program(
        "sqrt(params.z * now.carrying)", "params.b * now.speed", z=1.0, b=-0.05
    )
    fitted = fit_params(rooted, bank, steps=60, discount=0.9)
    assert all(np.isfinite(value) for value in values(fitted.tree).values())
    assert values(fitted.tree)["b"] < -0.05


def test_a_program_or_bank_that_has_nothing_to_fit_comes_back_as_it_is() -> None:
    bank = random_bank()
    plain, tree = program("now.x"), program("params.w * now.x", w=1.0)
    assert fit_params(plain, bank).tree is plain
    flat = Bank.of(TASK, [episode([0, 1], [0]), episode([0, 2], [0])])
    assert dataclasses.astuple(fit_params(tree, flat))[1:] == (None, None)
    bad = Bank.of(TASK, [*bank.episodes, episode([0, np.nan, 1], [0, 0])])
    assert fit_params(tree, bad).tree is tree


def test_bad_arguments_are_refused() -> None:
    tree = program("params.w * now.x", w=1.0)
    with pytest.raises(ValueError, match="steps: expected at least 1, got 0"):
        fit_params(tree, random_bank(), steps=0)
    with pytest.raises(ValueError, match="factor: expected a number above 1"):
        fit_params(tree, random_bank(), factor=1.0)


def test_the_pull_towards_what_was_written_is_small() -> None:
    assert np.log(FACTOR) ** 2 * DRIFT < 0.01

"""Defects that were found by attack, each kept from coming back."""

from __future__ import annotations

import copy
import json
import pickle
from contextlib import suppress

import numpy as np
import pytest
import torch

from guerdon.reward_design.language import Rejected, Tree, parse, terms, to_source
from guerdon.reward_design.language.edit import cross, mutate
from guerdon.reward_design.language.grammar import from_json, to_json
from guerdon.types import MAX_NAME, Batch, Feature, Features, Spec
from tests.reward_design.language.conftest import DISCRETE, LAYOUT, random_batch

HEAD = "def reward(prev, action, now, params):\n"


def nested_loops(levels: int) -> str:
    lines = [HEAD, f"    v = [{', '.join(['1.0'] * 64)}]\n"]
    for level in range(levels):
        lines.append("    " * (level + 1) + f"for a{level} in v:\n")
    lines.append("    " * (levels + 1) + "pass\n")
    return "".join(lines) + "    return {'x': now.x}\n"


@pytest.mark.parametrize("levels", [3, 8])
def test_nested_loops_have_a_budget(levels: int) -> None:
    """Without one, 64 ** 8 statements would be read."""
    with pytest.raises(Rejected, match="statements and loop entries"):
        parse(nested_loops(levels), LAYOUT, DISCRETE)


def test_a_line_of_dashes_in_a_comment_nests_nothing() -> None:
    text = f"# {'-' * 80} {'(' * 80}\n{HEAD}    return {{'x': now.x}}\n"
    assert parse(text, LAYOUT, DISCRETE).names == ("x",)


def test_a_long_name_does_not_read_a_shorter_feature() -> None:
    long = "a" * 41
    with pytest.raises(Rejected, match="no feature"):
        parse(f"{HEAD}    return now.{long}\n", LAYOUT, DISCRETE)


@pytest.mark.parametrize("name", ["class", "é", "a" * 41])
def test_a_feature_that_no_program_can_write_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="feature name"):
        Feature(name, "meaning")


@pytest.mark.parametrize(
    "line", ["now = {'a': 1.0}", "abs = {'a': 1.0}", "for now in [1.0]: pass"]
)
def test_names_of_the_language_are_not_given_another_value(line: str) -> None:
    with pytest.raises(Rejected, match="cannot be assigned"):
        parse(f"{HEAD}    {line}\n    return {{'x': now.x}}\n", LAYOUT, DISCRETE)


def test_the_last_value_of_a_name_is_the_one_that_counts() -> None:
    text = f"{HEAD}    d = {{'x': now.x}}\n    d = now.distance\n    return d\n"
    assert "now.distance" in str(parse(text, LAYOUT, DISCRETE))


@pytest.mark.parametrize(
    "expression",
    [
        "count(params.a < 1)",
        "first_time(params.a < 1)",
        "delta(params.a)",
        "previous_best(params.a)",
        "where(0 < 1, now.x, now.distance) + 1.0",
        "count(1 < 2) + 1.0 * now.x",
    ],
)
def test_what_depends_on_no_feature_is_the_same_in_torch(expression: str) -> None:
    text = f"PARAMS = {{'a': 0.3}}\n{HEAD}    return {{'x': {expression}}}\n"
    made = terms(text, LAYOUT, DISCRETE)
    batch = random_batch(np.random.default_rng(0), 5, 2, DISCRETE)
    spec = Spec(LAYOUT, DISCRETE, (2,))
    expected, _ = made.apply(made.init(spec), batch)
    tensors = batch._replace(
        action=torch.as_tensor(batch.action),
        prev=Features(LAYOUT, torch.as_tensor(batch.prev.rows)),
        now=Features(LAYOUT, torch.as_tensor(batch.now.rows)),
        terminated=torch.as_tensor(batch.terminated),
        truncated=torch.as_tensor(batch.truncated),
    )
    found, _ = made.apply(made.init(spec), tensors)
    np.testing.assert_allclose(found.numpy(), expected)


@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (0,)])
def test_an_empty_batch_gives_no_rewards_and_keeps_the_state(shape) -> None:
    rows = np.zeros((*shape, LAYOUT.width), np.float32)
    nothing = np.zeros(shape, bool)
    batch = Batch(
        None,
        np.zeros(shape),
        None,
        Features(LAYOUT, rows),
        Features(LAYOUT, rows),
        np.zeros(shape),
        nothing,
        nothing,
    )
    text = f"{HEAD}    return {{'x': count(now.open)}}\n"
    made = terms(text, LAYOUT, DISCRETE)
    state = made.init(Spec(LAYOUT, DISCRETE, shape[-1:]))
    out, after = made.apply(state, batch)
    assert out.shape == (*shape, 1)
    assert after is state


def test_features_can_be_copied_and_pickled() -> None:
    features = Features(LAYOUT, np.ones((2, LAYOUT.width), np.float32))
    for again in (copy.deepcopy(features), pickle.loads(pickle.dumps(features))):
        np.testing.assert_array_equal(again.rows, features.rows)


@pytest.mark.parametrize(
    "expression",
    [
        "where(now.open, float(prev.open), float(now.carrying))",
        "where(now.open, float(now.x > 1 and now.open), float(now.x > 1 and now.open) "
        "* 1.0) + where(now.open, float(now.x > 1 and now.open), float(prev.open))",
        "where(prev.open, False, 0.0) + where(prev.open, 1.0, True) * now.x",
    ],
)
def test_flags_that_are_chosen_as_numbers_can_be_written_down(
    expression: str,
) -> None:
    tree = parse(f"{HEAD}    return {{'x': {expression}}}\n", LAYOUT, DISCRETE)
    assert parse(to_source(tree), LAYOUT, DISCRETE) == tree


def test_a_choice_that_a_mutation_made_idle_can_be_written_down() -> None:
    text = f"{HEAD}    return {{'x': where(now.open, now.x, now.distance)}}\n"
    tree = parse(text, LAYOUT, DISCRETE)
    texts = set()
    for seed in range(60):
        changed = mutate(tree, np.random.default_rng(seed)).tree
        assert parse(to_source(changed), LAYOUT, DISCRETE) == changed
        texts.add(to_source(changed))
    assert any('"x": now.x,' in found for found in texts)  # x took distance's place


def test_a_name_of_a_loop_takes_the_place_of_a_dictionary() -> None:
    lines = "    d = {'x': now.x}\n    for d in now.velocity: pass\n    return d\n"
    tree = parse(HEAD + lines, LAYOUT, DISCRETE)
    assert "now.velocity[2]" in str(tree)


def test_a_choice_of_two_flags_as_numbers_survives_json() -> None:
    choice = "where(now.x > 0.0, float(now.open), float(now.carrying))"
    text = f"{HEAD}    return {{'x': {choice}}}\n"
    tree = parse(text, LAYOUT, DISCRETE)
    assert tree.terms[0][1].op == "where"
    assert from_json(json.dumps(to_json(tree)), LAYOUT, DISCRETE) == tree


def loop(*lines: str) -> Tree:
    """A program that changes ``x`` line by line."""
    body = "".join(f"    x = {line}\n" for line in lines)
    text = f"{HEAD}    x = 0.0\n{body}    return {{'x': x}}\n"
    return parse(text, LAYOUT, DISCRETE)


@pytest.mark.parametrize(
    "line",
    [
        "max(x, {i} * now.x)",
        "now.x - (x - {i})",
        "-(x + {i})",
        "where(now.open, exp(x + {i}), float(now.carrying))",
        "sqrt(abs(x) + {i})",
    ],
)
def test_a_program_as_deep_as_may_be_can_be_written_down_and_changed(line: str) -> None:
    tree, count = None, 0
    with suppress(Rejected):
        while True:
            tree = loop(*(line.format(i=i) for i in range(1, count + 2)))
            count += 1
    assert tree is not None
    assert tree.terms[0][1].depth > 95
    assert parse(to_source(tree), LAYOUT, DISCRETE) == tree
    for seed in range(30):
        changed = mutate(tree, np.random.default_rng(seed)).tree
        assert parse(to_source(changed), LAYOUT, DISCRETE) == changed


def test_a_name_of_the_greatest_length_gets_a_number_and_stays_as_long() -> None:
    name = "a" * MAX_NAME
    texts = (
        f"PARAMS = {{'{name}': {value}}}\n{HEAD}"
        f"    return {{'{name}': params.{name} * now.{feature}}}\n"
        for value, feature in ((1.0, "x"), (2.0, "distance"))
    )
    first, second = (parse(text, LAYOUT, DISCRETE) for text in texts)
    child = cross(first, second, np.random.default_rng(0)).tree
    assert child.names == (name, name[:-2] + "_2")
    assert [key for key, _ in child.params] == [name, name[:-2] + "_2"]
    assert parse(to_source(child), LAYOUT, DISCRETE) == child
    third = cross(child, second, np.random.default_rng(1)).tree
    assert parse(to_source(third), LAYOUT, DISCRETE) == third

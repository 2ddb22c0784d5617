"""The grammar, the JSON schema and the sampler follow the one table."""

from __future__ import annotations

import json
from collections import Counter

import numpy as np
import pytest

from guerdon.reward_design.language import parse, to_source
from guerdon.reward_design.language.describe import half_page
from guerdon.reward_design.language.grammar import gbnf, json_schema
from guerdon.reward_design.language.sample import WEIGHTS, sample
from guerdon.reward_design.language.table import (
    FUNCTIONS,
    LOWERED,
    Argument,
    Function,
    Lowered,
)
from guerdon.reward_design.language.tree import Tree
from guerdon.types import ActionSpec, Layout
from tests.reward_design.language.conftest import CONTINUOUS, DISCRETE, LAYOUT


def drawn(
    count: int, action: ActionSpec = CONTINUOUS, layout: Layout = LAYOUT
) -> list[Tree]:
    rng = np.random.default_rng(0)
    return [sample(layout, action, rng) for _ in range(count)]


@pytest.mark.parametrize(
    ("takes", "call"),
    [("elementwise", "cube(now.x)"), ("vector", "cube(now.velocity)")],
)
def test_a_function_that_is_added_to_the_table_is_everywhere(
    takes: Argument, call: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert '"cube"' not in gbnf(LAYOUT, CONTINUOUS)
    added = Function(
        "cube", (takes,), "number" if takes == "vector" else "elementwise", "x * x * x"
    )
    monkeypatch.setitem(FUNCTIONS, "cube", added)
    assert '"cube"' in gbnf(LAYOUT, CONTINUOUS)
    assert '"cube"' in json.dumps(json_schema(LAYOUT, CONTINUOUS))
    assert "cube" in half_page(CONTINUOUS)
    assert any(call in to_source(tree) for tree in drawn(2000))


def test_what_the_sampler_makes_of_an_added_function_is_a_program(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    added = Function("cube", ("elementwise",), "elementwise", "x * x * x")
    monkeypatch.setitem(FUNCTIONS, "cube", added)
    monkeypatch.setitem(LOWERED, "cube", Lowered("{0} * {0} * {0}", "{0} * {0} * {0}"))
    sources = [to_source(tree) for tree in drawn(600)]
    found = next(source for source in sources if "cube(now.x)" in source)
    assert to_source(parse(found, LAYOUT, CONTINUOUS)) == found


def test_a_function_that_is_not_put_on_levels_stays_in_the_language_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    added = Function("cube", ("elementwise",), "elementwise", "x * x * x", level=False)
    monkeypatch.setitem(FUNCTIONS, "cube", added)
    assert '"cube"' not in gbnf(LAYOUT, CONTINUOUS)
    assert '"cube"' in json.dumps(json_schema(LAYOUT, CONTINUOUS))
    assert not any("cube(" in to_source(tree) for tree in drawn(300))


@pytest.mark.parametrize("action", [DISCRETE, CONTINUOUS])
def test_functions_of_the_table_take_a_small_part_of_the_samplers_terms(
    action: ActionSpec,
) -> None:
    names = Counter(
        name.split("_")[0] for tree in drawn(1500, action) for name, _ in tree.terms
    )
    shaped = sum(
        names[name] for name in ("abs", "sqrt", "square", "tanh", "sin", "cos")
    )
    total = names.total()
    # A quarter of the weight of levels, which is .5 of 15.8, or 2 of 19.8.
    share = 0.125 / 15.8 if action is DISCRETE else 0.5 / 19.8
    assert 0.4 * share < shaped / total < 2 * share


def test_the_samplers_weights_are_those_that_it_names() -> None:
    found = {value for tree in drawn(300, DISCRETE) for _, value in tree.params}
    assert found == set(WEIGHTS)
    assert (min(WEIGHTS), max(WEIGHTS)) == (0.02, 1.0)

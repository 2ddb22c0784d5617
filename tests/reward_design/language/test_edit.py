"""Operators, canonical form, sampler, grammar and JSON form."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from guerdon.reward_design.language import Rejected, parse, to_source
from guerdon.reward_design.language.describe import feature_table, half_page
from guerdon.reward_design.language.edit import (
    cross,
    fingerprint,
    mutate,
    simplified,
    simplify,
)
from guerdon.reward_design.language.grammar import (
    from_json,
    gbnf,
    json_schema,
    to_json,
)
from guerdon.reward_design.language.sample import sample
from guerdon.reward_design.language.table import FUNCTIONS
from tests.reward_design.language.conftest import CONTINUOUS, DISCRETE, LAYOUT


def program(*terms: str, params: str = "") -> str:
    body = ", ".join(f'"t{i}": {term}' for i, term in enumerate(terms))
    return f"{params}\ndef reward(prev, action, now, params):\n    return {{{body}}}\n"


def same(first: str, second: str) -> bool:
    trees = [parse(text, LAYOUT, DISCRETE) for text in (first, second)]
    return fingerprint(trees[0]) == fingerprint(trees[1])


def test_the_canonical_form_ignores_names_order_and_neutral_operations() -> None:
    weighted = program("params.w * now.x", params="PARAMS = {'w': 2.0}")
    assert same(weighted, program("now.x * 2"))
    assert same(program("now.x + prev.x"), program("prev.x + now.x"))
    assert same(program("now.x", "now.distance"), program("now.distance", "now.x"))
    assert same(program("now.x * 1 + 0"), program("now.x"))
    assert same(program("--now.x"), program("now.x"))
    assert same(program("where(now.open, 1.0, 0.0)"), program("now.open"))
    assert same(program("now.x", "0 * now.distance"), program("now.x"))


def test_the_canonical_form_keeps_what_differs() -> None:
    assert not same(program("now.x"), program("-now.x"))
    assert not same(program("now.x - prev.x"), program("prev.x - now.x"))
    assert not same(program("now.x * 2"), program("now.x * 3"))


def test_constants_are_folded() -> None:
    tree = parse(program("now.x + (2 * 3 - exp(0))"), LAYOUT, DISCRETE)
    assert (
        simplified(tree.terms[0][1])
        == parse(program("now.x + 5"), LAYOUT, DISCRETE).terms[0][1]
    )


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), continuous=st.booleans())
def test_operators_give_programs_that_survive_text_and_json(
    seed: int, continuous: bool
) -> None:
    rng = np.random.default_rng(seed)
    action = CONTINUOUS if continuous else DISCRETE
    first, second = sample(LAYOUT, action, rng), sample(LAYOUT, action, rng)
    for edit in (
        mutate(first, rng),
        cross(first, second, rng),
        simplify(first, rng),
        mutate(cross(first, second, rng).tree, rng),
    ):
        assert parse(to_source(edit.tree), LAYOUT, action) == edit.tree
        assert from_json(json.dumps(to_json(edit.tree)), LAYOUT, action) == edit.tree
        assert edit.change
    assert fingerprint(mutate(first, rng).tree) != fingerprint(first)


def test_operators_repeat_from_their_seed() -> None:
    trees = [
        mutate(sample(LAYOUT, DISCRETE, rng), rng).tree
        for rng in (np.random.default_rng(5), np.random.default_rng(5))
    ]
    assert trees[0] == trees[1]


def test_cross_takes_from_both_parents(rng: np.random.Generator) -> None:
    first = parse(program("now.x"), LAYOUT, DISCRETE)
    second = parse(program("now.distance"), LAYOUT, DISCRETE)
    text = to_source(cross(first, second, rng).tree)
    assert "now.x" in text
    assert "now.distance" in text


def test_cross_keeps_both_values_of_a_shared_parameter_name(
    rng: np.random.Generator,
) -> None:
    first, second = (
        parse(
            program(f"params.w * now.{f}", params=f"PARAMS = {{'w': {v}}}"),
            LAYOUT,
            DISCRETE,
        )
        for f, v in (("x", 1.0), ("distance", 2.0))
    )
    tree = cross(first, second, rng).tree
    assert sorted(value for _, value in tree.params) == [1.0, 2.0]


def test_simplify_drops_the_term_with_the_smallest_share(
    rng: np.random.Generator,
) -> None:
    tree = parse(program("now.x", "now.distance", "now.open"), LAYOUT, DISCRETE)
    edit = simplify(tree, rng, {"t0": 0.6, "t1": 0.1, "t2": 0.3})
    assert edit.tree.names == ("t0", "t2")
    assert edit.change == "dropped t1"


def test_the_sampler_prefers_changes_to_levels(rng: np.random.Generator) -> None:
    texts = [to_source(sample(LAYOUT, DISCRETE, rng)) for _ in range(300)]
    with_prev = sum("prev." in t or "first_time" in t or "best" in t for t in texts)
    assert with_prev > 240


_TOKEN = re.compile(
    r'\s*("(?:\\.|[^"\\])*"|\[(?:\\.|[^\]\\])+\]|\{\d+,\d+\}|[a-z][a-z0-9]*|[|()?])'
)
_LETTERS = {"[a-z]": "abc", "[a-z_]": "ab_", "[0-9]": "0123", "[1-9]": "123"}


class _Gbnf:
    """Draws random texts from a GBNF grammar, to hold it against the parser."""

    def __init__(self, text: str, rng: np.random.Generator) -> None:
        self.rng = rng
        self.rules = {}
        for line in text.strip().split("\n"):
            name, body = line.split(" ::= ", 1)
            tokens = _TOKEN.findall(body)
            self.rules[name] = self.read(tokens)
            assert not tokens

    def read(self, tokens: list[str]) -> list[list[tuple[object, int, int]]]:
        """Alternatives of sequences of ``(item, low, high)``."""
        options: list[list[tuple[object, int, int]]] = [[]]
        while tokens and tokens[0] != ")":
            token = tokens.pop(0)
            if token == "|":
                options.append([])
                continue
            item: object = token
            if token == "(":
                item = self.read(tokens)
                assert tokens.pop(0) == ")"
            low = high = 1
            if tokens and tokens[0] == "?":
                tokens.pop(0)
                low = 0
            elif tokens and tokens[0].startswith("{"):
                low, high = map(int, tokens.pop(0)[1:-1].split(","))
            options[-1].append((item, low, high))
        return options

    def draw(self, item: object = "root") -> str:
        if isinstance(item, list):
            option = item[int(self.rng.integers(len(item)))]
            return "".join(
                self.draw(part)
                for part, low, high in option
                for _ in range(int(self.rng.integers(low, high + 1)))
            )
        assert isinstance(item, str)
        if item.startswith('"'):
            return str(json.loads(item))
        if item.startswith("["):
            letters = _LETTERS.get(item, "plan now")
            return letters[int(self.rng.integers(len(letters)))]
        return self.draw(self.rules[item])


@pytest.mark.parametrize("action", [DISCRETE, CONTINUOUS])
def test_every_text_of_the_grammar_is_a_program(action: object) -> None:
    rng = np.random.default_rng(3)
    for count in (1, 2, 3, 4):
        grammar = _Gbnf(gbnf(LAYOUT, action, terms=count), rng)
        for _ in range(60):
            tree = parse(grammar.draw(), LAYOUT, action)
            assert len(tree.terms) == count


def test_the_grammar_turns_changes_the_better_way_round() -> None:
    grammar = gbnf(LAYOUT, DISCRETE)
    assert "(prev.distance - now.distance)" in grammar
    assert "(now.distance - prev.distance)" not in grammar
    assert "(now.x - prev.x)" in grammar
    assert "(prev.x - now.x)" in grammar


def test_the_schema_names_every_feature_and_function_and_nothing_else() -> None:
    text = json.dumps(json_schema(LAYOUT, DISCRETE))
    for name in [*FUNCTIONS, *(f.name for f in LAYOUT)]:
        assert f'"{name}"' in text


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "not JSON"),
        ("[]", "expected a JSON object"),
        ('{"params": [], "terms": []}', "1 to 24 terms"),
        ('{"params": [], "terms": [{"name": "a", "expr": {"now": "y"}}]}', "'y'"),
        ('{"params": [], "terms": [{"name": "a", "expr": {"op": "os"}}]}', "operation"),
        (
            '{"params": [], "terms": [{"name": "a", "expr": {"op": "x", "args": []}}]}',
            "no function",
        ),
        ('{"params": [{"name": "_", "value": 1}], "terms": []}', "no plain name"),
    ],
)
def test_json_that_is_no_program_is_refused(text: str, words: str) -> None:
    with pytest.raises(Rejected, match=words):
        from_json(text, LAYOUT, DISCRETE)


def test_the_half_page_names_every_function() -> None:
    page = half_page(DISCRETE)
    assert all(name in page for name in FUNCTIONS)
    assert len(page.split()) < 320


def test_the_feature_table_follows_the_order_that_it_is_given() -> None:
    lines = feature_table(LAYOUT, [4, 0, 1, 2, 3]).split("\n")
    assert lines[0] == "- open (flag): the door is open"
    assert lines[1] == (
        "- distance (number, 0 to 10): distance to the key; lower is better"
    )

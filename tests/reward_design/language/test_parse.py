"""What is a program, and what is refused, with line and reason."""

from __future__ import annotations

import re

import pytest

from guerdon.reward_design.language import Rejected, parse, to_source
from guerdon.types import Failure
from tests.reward_design.language.conftest import CONTINUOUS, DISCRETE, LAYOUT

HEAD = "def reward(prev, action, now, params):\n"


def one(expression: str, head: str = HEAD) -> str:
    return f'{head}    return {{"term": {expression}}}\n'


def refusal(text: str) -> Failure:
    with pytest.raises(Rejected) as caught:
        parse(text, LAYOUT, DISCRETE)
    return caught.value.failure


def test_the_example_of_the_design_parses() -> None:
    text = '''PARAMS = {"w_key": 1.0, "temperature": 0.5}
def reward(prev, action, now, params):
    """prev, now: declared features. Returns named terms."""
    near = exp(-now.distance / params.temperature)
    got_key = where(now.carrying and not prev.carrying, 1.0, 0.0)
    return {"approach": near, "pickup": params.w_key * got_key}
'''
    tree = parse(text, LAYOUT, DISCRETE)
    assert tree.names == ("approach", "pickup")
    assert dict(tree.params) == {"w_key": 1.0, "temperature": 0.5}


@pytest.mark.parametrize(
    ("expression", "printed"),
    [
        ("now.x", "now.x"),
        ("now.x - (prev.x - 1)", "now.x - (prev.x - 1.0)"),
        ("(now.x - prev.x) - 1", "now.x - prev.x - 1.0"),
        ("-now.x ** 2", "-now.x ** 2.0"),
        ("(-now.x) ** 2", "(-now.x) ** 2.0"),
        ("now.carrying - prev.carrying", "now.carrying - prev.carrying"),
        ("1 if now.open else -2", "where(now.open, 1.0, (-2.0))"),
        ("0 < now.x < 1", "now.x > 0.0 and now.x < 1.0"),
        ("now['x']", "now.x"),
        ("now.velocity[-1]", "now.velocity[2]"),
        ("np.linalg.norm(now.velocity)", "norm(now.velocity)"),
        ("math.exp(-abs(now.x))", "exp(-abs(now.x))"),
        ("max(now.velocity)", "largest(now.velocity)"),
        ("max(now.x, 0, 1)", "max(max(now.x, 0.0), 1.0)"),
        ("norm([now.x, now.distance])", "norm([now.x, now.distance])"),
        ("now.open == prev.open", "now.open == prev.open"),
        ("action == 5", "action == 5.0"),
        ("pi", "3.141592653589793"),
        ("float(now.open)", "now.open"),
    ],
)
def test_an_expression_is_printed_in_its_own_form(
    expression: str, printed: str
) -> None:
    if expression.startswith("0 <"):
        printed = "0.0 < now.x and now.x < 1.0"
    tree = parse(one(expression), LAYOUT, DISCRETE)
    assert f'"term": {printed},' in to_source(tree)
    assert parse(to_source(tree), LAYOUT, DISCRETE) == tree


def test_if_and_elif_become_selects() -> None:
    text = HEAD + (
        "    bonus = 0.0\n"
        "    if now.open:\n"
        "        bonus = 2.0\n"
        "    elif now.x > 1:\n"
        "        bonus += 1.0\n"
        '    return {"bonus": bonus}\n'
    )
    expected = "where(now.open, 2.0, where(now.x > 1.0, 0.0 + 1.0, 0.0))"
    assert expected in to_source(parse(text, LAYOUT, DISCRETE))


def test_for_over_a_vector_is_unrolled() -> None:
    text = HEAD + (
        "    total = 0.0\n"
        "    for before, after in zip(prev.velocity, now.velocity):\n"
        "        total += before * after\n"
        '    return {"total": total}\n'
    )
    tree = parse(text, LAYOUT, DISCRETE)
    spelled = " + ".join(f"prev.velocity[{i}] * now.velocity[{i}]" for i in range(3))
    assert f"0.0 + {spelled}" in to_source(tree)


def test_terms_may_be_collected_in_a_dictionary() -> None:
    text = HEAD + (
        '    terms = {"a": now.x}\n'
        '    terms["b"] = 0.0\n'
        "    if now.open:\n"
        '        terms["b"] += 1.0\n'
        "    return terms\n"
    )
    tree = parse(text, LAYOUT, DISCRETE)
    assert tree.names == ("a", "b")
    assert "where(now.open, 0.0 + 1.0, 0.0)" in to_source(tree)


def test_a_single_number_is_one_term() -> None:
    tree = parse(HEAD + "    return now.x\n", LAYOUT, DISCRETE)
    assert tree.names == ("reward",)


def test_a_continuous_action_is_a_vector() -> None:
    tree = parse(one("-sum(square(action))"), LAYOUT, CONTINUOUS)
    assert "-sum(square(action))" in to_source(tree)


@pytest.mark.parametrize(
    ("text", "kind", "line", "words"),
    [
        ("def reward(", "syntax", 1, "not Python"),
        ("", "schema", 1, "expected a function"),
        ("# a plan\n\nPARAMS = {\n'w': 1}\n# no more", "schema", 4, "a function"),
        ("x = 1", "forbidden", 1, "only PARAMS"),
        ("import os\n" + one("1.0"), "forbidden", 1, "nothing is imported"),
        ("def reward(o):\n    return 1\n", "schema", 1, "got def reward"),
        ("@print\n" + one("1.0"), "forbidden", 2, "no decorator"),
        (HEAD + "    x = 1\n", "schema", 2, "last line"),
        (HEAD + "    while True: pass\n    return 1\n", "forbidden", 2, "'while' loop"),
        (one("now.heigth"), "schema", 2, "no feature 'heigth'"),
        (one("now.distanc"), "schema", 2, "did you mean 'distance'"),
        (one("now.angular_velocity"), "schema", 2, "did you mean 'velocity'"),
        (
            one("now.v"),
            "schema",
            2,
            "no feature 'v'; nearest: velocity, distance, carrying; also known: x, ",
        ),
        (one("distance"), "schema", 2, "write now.distance"),
        (one("params.w"), "schema", 2, "no 'w' in PARAMS"),
        (one("unknown_function(now.x)"), "forbidden", 2, "no function"),
        (one("exp(now.x, 1)"), "schema", 2, "takes 1 argument, got 2"),
        (one("now.x and now.open"), "schema", 2, "compare it"),
        (one("now.velocity"), "schema", 2, "takes a number"),
        (one("now.velocity + [1, 2]"), "schema", 2, "do not fit"),
        (one("now.velocity[7]"), "schema", 2, "entries 0 to 2, not 7"),
        (one("'text'"), "forbidden", 2, "a string does not"),
        (one("[x for x in now.velocity]"), "forbidden", 2, "a list comprehension"),
        (one("now.x.__class__"), "forbidden", 2, "behind the dot"),
        (one("().__class__"), "forbidden", 2, "behind the dot"),
        (one("now.x.mean()"), "forbidden", 2, "methods to call"),
        (one("exp(*[1])"), "forbidden", 2, "plain arguments"),
        (one("1e300"), "forbidden", 2, "1e9"),
        (one("1 << 3"), "forbidden", 2, "operator <<"),
        (HEAD + '    return {"a": 1.0, "a": now.x}\n', "schema", 2, "stands twice"),
        (HEAD + "    return {}\n", "schema", 2, "1 to 24 terms"),
        (HEAD + "    now = 1\n    return now\n", "forbidden", 2, "cannot be assigned"),
        (one("(" * 60 + "1" + ")" * 60), "slow", 2, "nested deeper"),
        ("#" * 20_000, "slow", 1, "characters"),
        ("#\r\n" * 20_000, "slow", 5462, "characters"),
        (HEAD + "    x = (\n", "syntax", 2, "not Python"),
        (HEAD + "    if now.open:", "syntax", 2, "not Python"),
        (HEAD + "    return " + "not " * 3000 + "now.open", "syntax", 2, "too deep"),
        ("PARAMS = {'w': 1e400}\n" + one("now.x"), "forbidden", 1, "1e9"),
        ("PARAMS = {'w': now}\n" + one("now.x"), "schema", 1, "plain numbers"),
        (one("lambda: 1"), "forbidden", 2, "a lambda"),
        ("a\x00b", "syntax", 1, "NUL character"),
    ],
)
def test_what_is_no_program_is_refused_with_line_and_reason(
    text: str, kind: str, line: int, words: str
) -> None:
    failure = refusal(text)
    assert failure.kind == kind
    assert words in failure.reason
    assert failure.line == line


def test_a_name_without_a_value_in_one_branch_is_refused_where_it_is_used() -> None:
    text = HEAD + ("    if now.open:\n        z = 1.0\n    return {'z': z}\n")
    failure = refusal(text)
    assert failure.line == 4
    assert "unknown name 'z'" in failure.reason


@pytest.mark.parametrize(
    "line",
    ["now = prev", "before = prev", "x = abs(now)", "x = prev - now", "x = params"],
)
def test_a_whole_record_is_no_value_and_an_entry_of_it_is(line: str) -> None:
    failure = refusal(HEAD + f"    {line}\n    return {{'x': now.x}}\n")
    assert failure.line == 2
    assert "is a whole record and not a value" in failure.reason
    assert re.search(r"such as (prev|now)\.\w+$|such as params\.", failure.reason)


@pytest.mark.parametrize("name", ["max", "min", "np.maximum"])
def test_the_function_that_was_written_is_the_one_that_is_named(name: str) -> None:
    failure = refusal(one(f"{name}(now.x)"))
    written = name.removeprefix("np.")
    assert failure.reason.startswith(f"{written}() of one argument takes a vector")
    assert failure.reason.endswith(f"{written}(a, b)")


def test_doubling_a_variable_stops_at_the_size_cap() -> None:
    lines = "".join("    x = x + x\n" for _ in range(40))
    failure = refusal(HEAD + "    x = now.x\n" + lines + '    return {"x": x}\n')
    assert failure.kind == "slow"


def test_a_long_chain_stops_at_the_depth_cap() -> None:
    lines = "".join("    x = x + 1\n" for _ in range(200))
    failure = refusal(HEAD + "    x = now.x\n" + lines + '    return {"x": x}\n')
    assert failure.kind == "slow"
    assert "deep" in failure.reason

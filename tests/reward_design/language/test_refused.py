"""What is refused and in which words; every text here was taken or misread once."""

from __future__ import annotations

import ast
import json

import pytest

from guerdon.reward_design.language import Rejected, compile_tree, parse
from guerdon.reward_design.language import words as words_module
from guerdon.reward_design.language.grammar import from_json, to_json
from guerdon.types import Failure
from tests.reward_design.language.conftest import DISCRETE, LAYOUT

HEAD = "def reward(prev, action, now, params):\n"
PROGRAM = f"{HEAD}    return {{'x': now.x}}\n"


def returning(expression: str) -> str:
    return f"{HEAD}    return {{'x': {expression}}}\n"


def refusal(text: str) -> Failure:
    with pytest.raises(Rejected) as caught:
        parse(text, LAYOUT, DISCRETE)
    return caught.value.failure


# --- imports -----------------------------------------------------------------


@pytest.mark.parametrize(
    "line",
    [
        "import numpy",
        "import numpy as np",
        "import math, torch",
        "from math import exp, sqrt, pi",
        "from numpy import minimum, clip",
        "from numpy import minimum as min",
        "from numpy.linalg import norm",
        "from __future__ import annotations",
        "from typing import Dict, Tuple",
    ],
)
def test_an_import_that_changes_no_meaning_is_overlooked(line: str) -> None:
    plain = parse(PROGRAM, LAYOUT, DISCRETE)
    assert parse(f"{line}\n{PROGRAM}", LAYOUT, DISCRETE) == plain


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("from numpy import minimum as max", "write min(...)"),
        ("from math import exp as log", "write exp(...)"),
        ("from math import pi as e", "write pi and drop"),
        ("from math import exp as near", "is not renamed to 'near'"),
        ("from numpy import sum as norm", "write sum(...)"),
        ("from numpy.linalg import norm as sum", "write norm(...)"),
        ("from typing import Any as max", "nothing is imported here"),
        ("from typing import max", "nothing is imported here"),
        ("from typing import *", "nothing is imported here"),
        ("from numpy import *", "nothing is imported here: 'numpy.*'"),
        ("from math import floor", "nothing is imported here: 'math.floor'"),
        ("from . import exp", "nothing is imported here: '.'"),
        ("from .math import exp", "nothing is imported here: '.math'"),
        ("from os import path", "drop the line"),
        ("import os", "nothing is imported here: 'os'"),
        ("import numpy.linalg", "nothing is imported here"),
        ("import numpy as math", "write 'import numpy'"),
        ("import math as np", "write 'import math'"),
        ("import torch as now", "write 'import torch'"),
    ],
)
def test_any_other_import_is_refused_and_says_what_to_write(
    line: str, words: str
) -> None:
    failure = refusal(f"# a plan\n{line}\n{PROGRAM}")
    assert (failure.kind, failure.line) == ("forbidden", 2)
    assert words in failure.reason


def test_an_import_inside_the_function_is_refused() -> None:
    failure = refusal(f"{HEAD}    from math import pi\n    return {{'x': pi}}\n")
    assert failure.line == 2
    assert "an import inside reward()" in failure.reason


@pytest.mark.parametrize("call", ["power(now.x, 2)", "np.exp(now.x)", "np.pi"])
def test_a_name_with_a_value_is_no_function_and_no_module(call: str) -> None:
    """Python would fail here; to call our function all the same would hide it."""
    text = f"{HEAD}    power = now.x\n    np = now.x\n    return {{'x': {call}}}\n"
    assert refusal(text).line == 4


# --- what stands twice ---------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        (f"PARAMS = {{'w': 1,\n 'w': 2}}\n{PROGRAM}", 2, "'w' stands twice in PARAMS"),
        (f"PARAMS = {{'w': 1}}\nPARAMS = {{}}\n{PROGRAM}", 2, "PARAMS stands twice"),
        (f"{PROGRAM}{PROGRAM}", 3, "a second function"),
        (f"{HEAD}    return {{'x': 1,\n     'x': 2}}\n", 3, "term 'x' stands twice"),
        (f"{HEAD}    t = {{'x': 1, 'x': 2}}\n    return t\n", 2, "stands twice"),
    ],
)
def test_what_stands_twice_is_refused(text: str, line: int, words: str) -> None:
    failure = refusal(text)
    assert (failure.kind, failure.line) == ("schema", line)
    assert words in failure.reason


def test_what_stands_twice_in_json_is_refused() -> None:
    tree = parse("PARAMS = {'w': 1}\n" + returning("params.w"), LAYOUT, DISCRETE)
    data = to_json(tree)
    text = json.dumps(data)
    assert from_json(text, LAYOUT, DISCRETE) == tree
    twice = json.dumps({**data, "params": data["params"] * 2})
    with pytest.raises(Rejected, match="'w' stands twice in params"):
        from_json(twice, LAYOUT, DISCRETE)
    with pytest.raises(Rejected, match="a key stands twice"):
        from_json(text[:-1] + ', "terms": []}', LAYOUT, DISCRETE)


# --- letters -------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "\ufeff" + PROGRAM,
        PROGRAM.replace("\n", "\r\n"),
        PROGRAM.replace("\n", "\r"),
        "\f" + PROGRAM,
        PROGRAM.replace("    ", "\t"),
    ],
)
def test_how_a_file_was_saved_does_not_matter(text: str) -> None:
    assert parse(text, LAYOUT, DISCRETE) == parse(PROGRAM, LAYOUT, DISCRETE)


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        (PROGRAM.replace("now.", "\ufeffnow."), 2, "U+FEFF; write a plain space"),
        (PROGRAM.replace("return ", "return\xa0"), 2, "U+00A0; write a plain space"),
        (f"{PROGRAM}\0", 3, "a NUL character stands in the text; remove it"),
        (f"# \ud800\n{PROGRAM}", 1, "half a character (a lone surrogate)"),
        (f"{HEAD}    y = 1\n\treturn {{'x': y}}\n", 3, "tabs and spaces"),
        (returning("now.x − 1"), 2, "invalid character '−'"),
        (f"#\r{returning('(' * 60 + '1' + ')' * 60)}", 3, "nested deeper than 40"),
    ],
)
def test_a_letter_that_does_not_belong_is_named(
    text: str, line: int, words: str
) -> None:
    failure = refusal(text)
    assert failure.line == line
    assert words in failure.reason


# --- words -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("expression", "words"),
    [
        ("'text'", "a string does not exist"),
        ("b'text'", "a string of bytes"),
        ("None", "None does not exist"),
        ("...", "'...' does not exist"),
        ("1j", "a complex number"),
        ("f'{now.x}'", "a formatted string"),
        ("[v for v in now.velocity]", "a list comprehension does not exist"),
        ("{v for v in now.velocity}", "a set comprehension"),
        ("{v: 1 for v in now.velocity}", "a dictionary comprehension"),
        ("sum(v for v in now.velocity)", "a generator expression"),
        ("7 % 2", "the operator % does not exist"),
        ("7 // 2", "the operator //"),
        ("now.open & now.carrying", "the operator & does not exist in this language"),
        ("~now.open", "write not"),
        ("now.velocity @ now.velocity", "write dot(a, b)"),
        ("1.0 if now.x is 1 else 2.0", "the operator is does"),
        ("1.0 if now.x in [1, 2] else 2.0", "the operator in does"),
        ("lambda: 1", "a lambda"),
        ("(y := 1)", "':='"),
        ("{1, 2}", "a set"),
        ("{'a': 1}", "a dictionary"),
        ("now.velocity[0:2]", "a plain integer"),
        ("now.x.y", "behind the dot"),
        ("(yield)", "'yield'"),
        ("now.velocity[99]", "entries 0 to 2, not 99"),
        (f"now.velocity[0x{'f' * 9999}]", "not one that far out"),
        ("9" * 9999, "numbers are finite and at most 1e9"),
        ("now.velocity + [1, 2]", "+: vectors of length 2 and 3 do not fit"),
        ("clip(now.x, 1)", "clip() takes 3 arguments, got 2"),
        ("max(1, 2, 3, 4, 5, 6, 7)", "max() takes 2 to 6 arguments, got 7"),
    ],
)
def test_a_refused_expression_is_called_what_its_writer_calls_it(
    expression: str, words: str
) -> None:
    failure = refusal(returning(expression))
    assert failure.line == 2
    assert words in failure.reason


@pytest.mark.parametrize(
    ("statement", "words"),
    [
        ("while now.open: pass", "a 'while' loop does not exist"),
        ("print(now.x)", "a value that nothing is done with"),
        ("x = y = 1", "an assignment to several names at once"),
        ("x: float", "a declaration without a value"),
        ("def f(): return 1", "another function"),
        ("class A: pass", "a class"),
        ("assert now.open", "'assert'"),
        ("del now", "'del'"),
        ("global x", "'global'"),
        ("try:\n        pass\n    except Exception: pass", "'try'"),
        ("with now: pass", "'with'"),
        ("raise ValueError", "'raise'"),
        ("a, b = 1, 2", "not a tuple"),
        ("now.x = 1", "not a name behind a dot"),
    ],
)
def test_a_refused_statement_is_called_what_its_writer_calls_it(
    statement: str, words: str
) -> None:
    failure = refusal(f"{HEAD}    {statement}\n    return {{'x': 1}}\n")
    assert failure.line == 2
    assert words in failure.reason


def test_there_are_words_for_all_of_python() -> None:
    """A node of a later Python falls back to words as well, never to its class."""
    kinds = [*ast.expr.__subclasses__(), *ast.stmt.__subclasses__()]
    unknown = {kind.__name__ for kind in kinds if kind not in words_module._NODES}
    assert unknown <= {"Constant", "TypeAlias", "TemplateStr", "Interpolation"}
    for kind in kinds:
        assert words_module._NODES.get(kind) != kind.__name__
    assert words_module.words(ast.AST()) == "what stands here"


# --- types -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((b"x", LAYOUT, DISCRETE), "expected the program as a str, got bytes; decode"),
        ((None, LAYOUT, DISCRETE), "got None"),
        ((PROGRAM, None, DISCRETE), "expected a Layout of features, got None"),
        ((PROGRAM, ["x"], DISCRETE), "got list; a task has one: task.layout"),
        ((PROGRAM, LAYOUT, 7), "expected an ActionSpec, got int"),
        ((PROGRAM, DISCRETE, LAYOUT), "expected a Layout of features, got ActionSpec"),
    ],
)
@pytest.mark.parametrize("reader", [parse, from_json])
def test_what_is_no_text_no_layout_or_no_action_is_a_type_error(
    reader: object, arguments: tuple, words: str
) -> None:
    with pytest.raises(TypeError) as caught:
        reader(*arguments)
    assert words in str(caught.value)


def test_a_tree_is_not_parsed_again_and_a_text_is_not_compiled() -> None:
    tree = parse(PROGRAM, LAYOUT, DISCRETE)
    with pytest.raises(TypeError, match=r"got Tree; a tree prints its text"):
        parse(tree, LAYOUT, DISCRETE)
    with pytest.raises(TypeError, match="expected a Tree, got str; parse"):
        compile_tree(PROGRAM)


# --- bounded work ------------------------------------------------------------------


def loops(body: str) -> str:
    vector = f"    v = [{', '.join(['1.0'] * 60)}]\n"
    return (
        f"{HEAD}{vector}    for a in v:\n        for b in v:\n            {body}\n"
        "    return {'x': now.x}\n"
    )


WIDE = "max({0}, {0}, {0}, {0}, {0}, {0})"
MANY = ",".join(f"'t{i}':1" for i in range(1500))
BIG = WIDE.format(WIDE.format(WIDE.format("now.x + 1")))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        # Read one by one, these took 17 seconds.
        (loops(f"y = {BIG}"), "values, loops unrolled"),
        (loops("if now.open: pass"), "statements and loop entries"),
        (
            f"{HEAD}    x = 1\n    if now.open: x = 2\n"
            + "    elif now.open: x = 2\n" * 330
            + "    return {'x': x}\n",
            "nested deeper than 60",
        ),
        (returning("not " * 3000 + "now.open"), "nested"),
        (returning("1 if now.open else " * 500 + "1"), "nested deep"),
        (returning("now.x < " * 1500 + "1"), "too deep"),
        (returning("now.open and " * 1000 + "now.open"), "too deep"),
        (returning("[" * 200 + "1"), "nested deeper"),
        (returning("'#'" + "(" * 300), "too many nested parentheses"),
        (returning("-" * 9000 + "1"), "nested deeper"),
        (returning("1 + " * 3000 + "1"), "nested"),
        (returning("x" * 100_000), "more than 16384 characters"),
        (returning("now" + ".x" * 7000), "nested"),
        (returning("sum([" + "1," * 7000 + "])"), "1 to 64 entries"),
        (returning("max(" + "1," * 7000 + "1)"), "2 to 6 arguments"),
        (f"{HEAD}    return {{{MANY}}}\n", "1 to 24 terms"),
    ],
)
def test_no_text_takes_long_to_refuse(text: str, words: str) -> None:
    assert words in refusal(text).reason


def test_powers_of_powers_are_a_number_not_a_calculation() -> None:
    """``9 ** 9 ** 9`` has 370 million digits; here it is the largest number."""
    compiled = compile_tree(parse(returning("9 ** 9 ** 9"), LAYOUT, DISCRETE))
    assert compiled.scalar([], [], [], ()) == (1e150,)

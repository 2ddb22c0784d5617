"""Code that we print holds names of our own tables and nothing of a program's text."""

from __future__ import annotations

import ast
import re

import numpy as np
import pytest

from guerdon.envs import load_task
from guerdon.reward_design.language import Tree, codegen, compile_tree, parse, registers
from guerdon.reward_design.language.runtime import (
    NUMPY_NAMES,
    SCALAR_NAMES,
    torch_names,
)
from guerdon.reward_design.language.sample import sample
from guerdon.types import ActionSpec, Feature, Layout
from tests.adversarial.hostile import Hostile
from tests.adversarial.programs import ALL
from tests.reward_design.language.conftest import CONTINUOUS, DISCRETE, LAYOUT
from tests.reward_design.language.programs import RandomPrograms

CARTPOLE = load_task("guerdon/CartPole-v1")
ACCEPTED = [one for one in ALL if not one.refused]

LOCAL = re.compile(r"(t|a|ht|z)\d+")
"""What printed code calls its own values."""

KERNEL_ARGUMENTS = ["prev", "action", "now", "starts", "w", "s", "out", "total"]
KERNEL_LOCALS = {"lanes", "t", "n", "i", "c", "fine", "start", "v", "r", "sum"}
KERNEL_TABLE = {"m_double", "m_single", "m_nan", "max", "range", "abs"}

NODES = (
    *(ast.Module, ast.FunctionDef, ast.arguments, ast.arg, ast.Return, ast.Assign),
    *(ast.AugAssign, ast.If, ast.For, ast.Tuple, ast.Constant, ast.Name, ast.Subscript),
    *(ast.BinOp, ast.UnaryOp, ast.BoolOp, ast.Compare, ast.IfExp, ast.Call),
    *(ast.Load, ast.Store, ast.Add, ast.Sub, ast.Mult, ast.Div, ast.USub, ast.Not),
    *(ast.And, ast.Or, ast.Lt, ast.LtE, ast.Gt, ast.GtE, ast.Eq, ast.NotEq),
    ast.FloorDiv,  # rows by lanes, in the kernel
)
"""All of Python that printed code is made of."""


def proved(
    source: str, name: str, arguments: list[str], table: set[str], kernel: bool
) -> None:
    """Walk printed code and refuse everything that is not foreseen."""
    module = ast.parse(source)
    (function,) = module.body
    assert isinstance(function, ast.FunctionDef)
    assert function.name == name
    assert [a.arg for a in function.args.args] == arguments
    assert not function.decorator_list
    assert function.returns is None
    shapes = set()
    for node in ast.walk(module):
        if kernel and isinstance(node, ast.Attribute):
            # The kernel asks two of its arguments how long they are.
            assert node.attr == "shape"
            assert isinstance(node.value, ast.Name)
            assert node.value.id in ("prev", "s")
            shapes.add(node)
            continue
        assert isinstance(node, NODES), ast.dump(node)[:200]
        if isinstance(node, ast.Constant):
            plain = type(node.value) in (float, int, bool)
            assert plain or node.value is None or node.value is Ellipsis, node.value
        elif isinstance(node, ast.Call):
            assert isinstance(node.func, ast.Name)
            assert node.func.id in table
            assert not node.keywords
        elif isinstance(node, ast.arg):
            assert node.annotation is None
        elif isinstance(node, ast.Name):
            own = LOCAL.fullmatch(node.id) or (kernel and node.id in KERNEL_LOCALS)
            if isinstance(node.ctx, ast.Store):
                assert own, node.id
            else:
                assert own or node.id in table or node.id in arguments, node.id
    assert kernel or not shapes


def prove(tree: Tree) -> None:
    """All code that is printed of a tree."""
    compiled = compile_tree(tree)
    line = compiled.line
    scalar = codegen._scalar_source(line)
    proved(
        scalar,
        "terms",
        ["prev", "action", "now", "w", "s", "start"],
        set(SCALAR_NAMES),
        kernel=False,
    )
    arguments = ["prev", "action", "now", "starts", "w", "s", "out"]
    columns = set(SCALAR_NAMES) | set(registers.SCANS) | {"a_load"}
    numpy, torch = columns | set(NUMPY_NAMES), columns | set(torch_names())
    assert compiled.source == codegen._column_source(line, params_are_arrays=False)
    proved(compiled.source, "block", arguments, numpy, kernel=False)
    tensors = codegen._column_source(line, params_are_arrays=True)
    proved(tensors, "block", arguments, torch, kernel=False)
    kernel = codegen._kernel_source(compiled)
    names = set(SCALAR_NAMES) | KERNEL_TABLE
    proved(kernel, "kernel", KERNEL_ARGUMENTS, names, kernel=True)


@pytest.mark.parametrize("one", ACCEPTED, ids=lambda one: one.name)
def test_an_accepted_hostile_program_is_printed_in_our_names_alone(
    one: Hostile,
) -> None:
    prove(parse(one.source, CARTPOLE.layout, CARTPOLE.action))


@pytest.mark.parametrize("action", [DISCRETE, CONTINUOUS], ids=["discrete", "box"])
def test_random_programs_are_printed_in_our_names_alone(action: ActionSpec) -> None:
    rng = np.random.default_rng(0)
    every = RandomPrograms(LAYOUT, action, rng)
    for _ in range(150):
        prove(every.tree())
        prove(sample(LAYOUT, action, rng))


def test_every_function_of_the_language_is_printed_in_our_names_alone() -> None:
    text = """
PARAMS = {"eval": 2.0, "exec": 0.5}
def reward(prev, action, now, params):
    open = exp(now.x) + log(now.x) + sqrt(now.x) + tanh(now.x) + sin(now.x)
    getattr = cos(now.x) * sign(now.x) + abs(now.x) ** params.eval / params.exec
    vars = norm(now.velocity) + dot(now.velocity, prev.velocity) + sum(now.velocity)
    print = largest(now.velocity) - smallest(now.velocity) + mean(now.velocity)
    compile = clip(where(now.carrying, 1.0, now.x), -1.0, 1.0) + min(now.x, 2, 3)
    dir = delta(now.x) + previous_best(now.x) + count(now.carrying) + action
    input = 1.0 if first_time(now.carrying and not prev.carrying) else max(now.x, 1)
    return {"eval": open + getattr, "exec": vars + print, "open": compile + dir + input}
"""
    tree = parse(text, LAYOUT, DISCRETE)
    prove(tree)
    compiled = compile_tree(tree)
    printed = codegen._scalar_source(compiled.line) + compiled.source
    for name in ("eval", "exec", "open", "getattr", "vars", "print", "carrying", "dir"):
        assert not re.search(rf"\b{name}\b", printed)


def test_features_with_the_names_of_builtins_are_columns() -> None:
    """A task of somebody's own may call its features what it likes."""
    layout = Layout([Feature(n, "a trap") for n in ("eval", "exec", "open", "vars")])
    text = """
def reward(prev, action, now, params):
    return {"print": now.eval + now.exec * now.open - prev.vars}
"""
    tree = parse(text, layout, DISCRETE)
    prove(tree)
    found = compile_tree(tree).scalar([0, 0, 0, 5.0], [0], [1.0, 2.0, 3.0, 0], ())
    assert found == (1.0 + 2.0 * 3.0 - 5.0,)


def test_the_proof_refuses_what_it_should() -> None:
    """The walk itself, on code that nobody may print."""
    head = "def terms(prev, w):\n    "
    for body in (
        "return prev.__class__",
        "return eval(prev)",
        "return (lambda: 1)()",
        "return 'text'",
        "import os",
        "x = 1.0",
        "return [v for v in prev]",
        "t1 = w.shape",
        "return abs(prev, key=w)",
    ):
        with pytest.raises(AssertionError):
            proved(head + body, "terms", ["prev", "w"], {"abs"}, kernel=False)


def test_printed_code_sees_no_builtins() -> None:
    tree = parse(ACCEPTED[0].source, CARTPOLE.layout, CARTPOLE.action)
    compiled = compile_tree(tree)
    for function in (compiled.scalar, compiled.block, compiled.torch_block):
        assert function.__globals__["__builtins__"] == {}
        assert function.__code__.co_names == tuple(
            name for name in function.__code__.co_names if name in function.__globals__
        )

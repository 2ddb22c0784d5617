"""Text to typed tree. The text is read, never run.

``ast.parse`` gives Python's syntax; ``outline`` checks what stands around ``reward()``,
and every node inside is then either translated by ``build`` or refused with its line
and a reason.
"""

from __future__ import annotations

import ast
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from guerdon.reward_design.language import build
from guerdon.reward_design.language.expressions import (
    OPERATORS,
    ExpressionReader,
    Terms,
    with_line,
)
from guerdon.reward_design.language.outline import (
    ARGUMENTS,
    checked_name,
    is_text,
    outline,
    syntax,
)
from guerdon.reward_design.language.table import FUNCTIONS
from guerdon.reward_design.language.tree import Expr, Rejected, Tree, Type
from guerdon.reward_design.language.words import missing, no_operator, words
from guerdon.reward_design.language.work import predicted_work
from guerdon.types import ActionSpec, Layout

MAX_TERMS = 24
MAX_STEPS = 4000
"""Statements and loop entries that are read, loops unrolled."""

MAX_NESTED = 60
"""``if``, ``elif`` and ``for`` inside one another."""


def parse(text: str, layout: Layout, action: ActionSpec) -> Tree:
    """Read a reward program.

    Args:
        text: a program as the language's half page describes it.
        layout: the features that it may name.
        action: what the agent may do.

    Returns:
        The typed tree; equal texts give equal trees. Its ``predicted_work`` is at most
        ``MAX_WORK`` operations a transition, which is never exceeded.

    Raises:
        Rejected: with class, line and reason, for a text that is no program; a text
            that is too long is cut off at its line, one without reward() at its end.
        TypeError: for anything that is not a text, a layout and an action.
    """
    check_arguments("parse", text, layout, action)
    function, params = outline(syntax(text))
    reader = _Reader(layout, action, params)
    terms = reader.block_of_function(function)
    tree = Tree(tuple(params.items()), tuple(terms.items()), layout, action)
    try:
        predicted_work(tree)
    except Rejected as error:
        raise with_line(error, function.body[-1].lineno) from None
    return tree


def check_arguments(name: str, text: Any, layout: Any, action: Any) -> None:
    """Refuse what is not a text, a layout and an action; ``name`` is who asks."""
    if not isinstance(text, str):
        remedy = (
            "decode it first: data.decode()"
            if isinstance(text, bytes)
            else (
                "a tree prints its text with str(tree)"
                if isinstance(text, Tree)
                else "read the file or ask the model first"
            )
        )
        raise TypeError(
            f"{name}: expected the program as a str, got {_kind(text)}; {remedy}"
        )
    if not isinstance(layout, Layout):
        raise TypeError(
            f"{name}: expected a Layout of features, got {_kind(layout)}; a task has "
            "one: task.layout"
        )
    if not isinstance(action, ActionSpec):
        raise TypeError(
            f"{name}: expected an ActionSpec, got {_kind(action)}; a task has one: "
            "task.action"
        )


def _kind(value: Any) -> str:
    return "None" if value is None else type(value).__name__


@dataclass
class _Reader(ExpressionReader):
    """Translates the statements of ``reward()``."""

    steps: int = 0
    nested: int = 0
    values: dict[Expr, Expr] = field(default_factory=dict)
    """Equal values are one object, so that comparing two takes no walk."""

    def block_of_function(self, function: ast.FunctionDef) -> Terms:
        body = [node for node in function.body if not is_text(node)]
        if not body or not isinstance(body[-1], ast.Return):
            raise Rejected(
                "schema",
                "the last line of reward() returns a dictionary of terms",
                (body[-1] if body else function).lineno,
            )
        for node in body[:-1]:
            self.statement(node)
        terms = self.result(body[-1])
        if not 1 <= len(terms) <= MAX_TERMS:
            raise Rejected(
                "schema",
                f"expected 1 to {MAX_TERMS} terms, got {len(terms)}",
                body[-1].lineno,
            )
        return terms

    # --- statements -------------------------------------------------------

    def work(self, steps: int, line: int) -> None:
        """Count what is read, loops unrolled: nested ones multiply."""
        self.steps += steps
        if self.steps > MAX_STEPS:
            raise Rejected(
                "slow", f"more than {MAX_STEPS} statements and loop entries", line
            )

    def statement(self, node: ast.stmt) -> None:
        self.work(1, node.lineno)
        try:
            self._statement(node)
        except Rejected as error:
            raise with_line(error, node.lineno) from None

    def inside(self, nodes: Sequence[ast.stmt], line: int) -> None:
        """The statements of a branch or of a loop."""
        self.nested += 1
        if self.nested > MAX_NESTED:
            raise Rejected(
                "slow", f"if, elif and for nested deeper than {MAX_NESTED}", line
            )
        for node in nodes:
            self.statement(node)
        self.nested -= 1

    def _statement(self, node: ast.stmt) -> None:
        if isinstance(node, ast.Assign) and len(node.targets) == 1:
            self.assign(node.targets[0], node.value)
        elif isinstance(node, ast.AnnAssign) and node.value is not None:
            self.assign(node.target, node.value)
        elif isinstance(node, ast.AugAssign):
            old = self.target_value(node.target)
            op = OPERATORS.get(type(node.op))
            if op is None:
                raise Rejected("forbidden", no_operator(node.op))
            value = build.arithmetic(op, old, self.expr(node.value))
            self.store(node.target, value)
        elif isinstance(node, ast.If):
            self.branch(node)
        elif isinstance(node, ast.For):
            self.loop(node)
        elif isinstance(node, ast.Return):
            raise Rejected(
                "schema", "return stands only once, as the last line of reward()"
            )
        elif not (isinstance(node, ast.Pass) or is_text(node)):
            raise Rejected("forbidden", missing(node))

    def assign(self, target: ast.expr, value: ast.expr) -> None:
        if isinstance(target, ast.Name) and isinstance(value, ast.Dict):
            name = assignable(target.id, target.lineno)
            self.dicts[name] = self.terms(value)
            self.locals.pop(name, None)
        else:
            self.store(target, self.expr(value))

    def store(self, target: ast.expr, value: Expr) -> None:
        value = self.values.setdefault(value, value)
        key = self.term_target(target)
        if key is not None:
            self.dicts[key[0]][key[1]] = build.as_number(value, f"term {key[1]!r}")
        elif isinstance(target, ast.Name):
            name = assignable(target.id, target.lineno)
            self.locals[name] = value
            self.dicts.pop(name, None)
        else:
            raise Rejected(
                "forbidden",
                f"only a plain name is given a value, not {words(target)}",
            )

    def target_value(self, target: ast.expr) -> Expr:
        key = self.term_target(target)
        if key is not None:
            found = self.dicts[key[0]].get(key[1])
        elif isinstance(target, ast.Name):
            found = self.locals.get(target.id)
        else:
            found = None
        if found is None:
            raise Rejected("schema", "this name has no value yet")
        return found

    def term_target(self, target: ast.expr) -> tuple[str, str] | None:
        """``("terms", "near")`` for ``terms["near"]``; None for anything else."""
        if not (
            isinstance(target, ast.Subscript)
            and isinstance(target.value, ast.Name)
            and target.value.id in self.dicts
            and isinstance(target.slice, ast.Constant)
            and isinstance(target.slice.value, str)
        ):
            return None
        return target.value.id, checked_name(target.slice.value, target.lineno)

    def branch(self, node: ast.If) -> None:
        """``if`` becomes a select for every name that a branch changes."""
        condition = build.as_flag(self.expr(node.test), "if")
        before, dicts = dict(self.locals), _copy(self.dicts)
        self.inside(node.body, node.lineno)
        yes, yes_dicts = self.locals, self.dicts
        self.locals, self.dicts = dict(before), _copy(dicts)
        self.inside(node.orelse, node.lineno)
        self.locals = _merge(condition, yes, self.locals)
        if yes_dicts.keys() != self.dicts.keys():
            raise Rejected("schema", "make the dictionary of terms before the if")
        self.dicts = {
            name: _merge(condition, yes_dicts[name], terms, missing=build.literal(0.0))
            for name, terms in self.dicts.items()
        }

    def loop(self, node: ast.For) -> None:
        """``for`` over vectors of known length is unrolled."""
        names, values = self.loop_values(node)
        if node.orelse:
            raise Rejected("forbidden", "for has no else here")
        for row in values:
            for name, value in zip(names, row, strict=True):
                self.locals[name] = value
                self.dicts.pop(name, None)
            self.inside(node.body, node.lineno)

    def loop_values(self, node: ast.For) -> tuple[list[str], list[tuple[Expr, ...]]]:
        source = node.iter
        is_zip = (
            isinstance(source, ast.Call)
            and isinstance(source.func, ast.Name)
            and source.func.id == "zip"
            and not source.keywords
        )
        nodes = source.args if is_zip and isinstance(source, ast.Call) else [source]
        vectors = [self.expr(arg) for arg in nodes]
        sizes = {v.type for v in vectors if v.type.kind == "vector"}
        if len(sizes) != 1 or any(v.type.kind != "vector" for v in vectors):
            raise Rejected(
                "forbidden", "for runs over a vector, or zip() of vectors of one length"
            )
        targets = (
            node.target.elts if isinstance(node.target, ast.Tuple) else [node.target]
        )
        names = [t.id for t in targets if isinstance(t, ast.Name)]
        if len(names) != len(targets) or len(names) != len(vectors):
            raise Rejected("schema", "for needs one plain name for each vector")
        for name in names:
            assignable(name, node.lineno)
        size = sizes.pop().size
        self.work(size * len(vectors), node.lineno)
        rows = [tuple(build.index(v, i) for v in vectors) for i in range(size)]
        return names, rows

    def result(self, node: ast.stmt) -> Terms:
        try:
            return self._result(node.value if isinstance(node, ast.Return) else None)
        except Rejected as error:
            raise with_line(error, node.lineno) from None

    def _result(self, value: ast.expr | None) -> Terms:
        if isinstance(value, ast.Dict):
            return self.terms(value)
        if isinstance(value, ast.Name) and value.id in self.dicts:
            return self.dicts[value.id]
        if isinstance(value, ast.Tuple) and len(value.elts) == 2:
            return self._result(value.elts[1])  # (total, terms), as Eureka writes it
        if value is None:
            raise Rejected("schema", "return a dictionary of named terms")
        return {"reward": build.as_number(self.expr(value), "return")}

    def terms(self, node: ast.Dict) -> Terms:
        terms: Terms = {}
        for key, value in zip(node.keys, node.values, strict=True):
            if not (isinstance(key, ast.Constant) and isinstance(key.value, str)):
                raise Rejected(
                    "schema", 'names of terms are written "like_this"', value.lineno
                )
            name = checked_name(key.value, key.lineno)
            try:
                expr = build.as_number(self.expr(value), f"term {name!r}")
            except Rejected as error:
                raise with_line(error, value.lineno) from None
            if name in terms:
                raise Rejected("schema", f"term {name!r} stands twice", key.lineno)
            terms[name] = expr
        return terms


def assignable(name: str, line: int) -> str:
    """``name`` if a program may give it a value; Rejected otherwise."""
    if name in ARGUMENTS or name in FUNCTIONS:
        raise Rejected("forbidden", f"{name!r} cannot be assigned", line)
    return checked_name(name, line)


def _copy(dicts: dict[str, Terms]) -> dict[str, Terms]:
    return {name: dict(terms) for name, terms in dicts.items()}


def _merge(
    condition: Expr, yes: Terms, no: Terms, missing: Expr | None = None
) -> Terms:
    """Select per name; a name that only one branch knows needs ``missing``."""
    merged: Terms = {}
    for name in [*yes, *(n for n in no if n not in yes)]:
        a, b = yes.get(name, missing), no.get(name, missing)
        if a is None or b is None:
            continue  # unknown after the if: using it is an error with its line
        same = a is b
        merged[name] = a if same else _select_checked(condition, a, b, name)
    return merged


def _select_checked(condition: Expr, yes: Expr, no: Expr, name: str) -> Expr:
    kinds: set[Type] = {yes.type, no.type}
    sizes = {t for t in kinds if t.kind == "vector"}
    if len(sizes) > 1:
        raise Rejected(
            "schema", f"{name!r} is a vector of another length in the other branch"
        )
    return build.select(condition, yes, no)

"""Text to typed tree. The text is read, never run.

``ast.parse`` gives Python's syntax; ``outline`` checks what stands around ``reward()``,
and every node inside is then either translated by ``build`` or refused with its line
and a reason.
"""

from __future__ import annotations

import ast
import math
from dataclasses import dataclass, field

from guerdon.reward_design.language import build
from guerdon.reward_design.language.outline import (
    ARGUMENTS,
    MAX_DEPTH,
    checked_name,
    is_text,
    outline,
    syntax,
)
from guerdon.reward_design.language.table import FUNCTIONS, MODULES
from guerdon.reward_design.language.tree import Expr, Rejected, Tree, Type
from guerdon.types import MAX_NAME, ActionSpec, Layout

MAX_TERMS = 24
MAX_STEPS = 4000
"""Statements and loop entries that are read, loops unrolled."""

_BINARY: dict[type, str] = {
    ast.Add: "add",
    ast.Sub: "sub",
    ast.Mult: "mul",
    ast.Div: "div",
    ast.Pow: "pow",
}
_COMPARE: dict[type, str] = {
    ast.Lt: "lt",
    ast.LtE: "le",
    ast.Gt: "gt",
    ast.GtE: "ge",
    ast.Eq: "eq",
    ast.NotEq: "ne",
}
_CONSTANTS = {"pi": math.pi, "e": math.e}


def parse(text: str, layout: Layout, action: ActionSpec) -> Tree:
    """Read a reward program.

    Args:
        text: a program as the language's half page describes it.
        layout: the features that it may name.
        action: what the agent may do.

    Returns:
        The typed tree; equal texts give equal trees.

    Raises:
        Rejected: with class, line and reason, for anything else.
    """
    function, params = outline(syntax(text))
    reader = _Reader(layout, action, params)
    terms = reader.block_of_function(function)
    return Tree(tuple(params.items()), tuple(terms.items()), layout, action)


Terms = dict[str, Expr]


@dataclass
class _Reader:
    """Translates the statements of ``reward()``; locals are put in as trees."""

    layout: Layout
    action: ActionSpec
    params: dict[str, float]
    locals: dict[str, Expr] = field(default_factory=dict)
    dicts: dict[str, Terms] = field(default_factory=dict)
    depth: int = 0
    steps: int = 0

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
            raise _with_line(error, node.lineno) from None

    def _statement(self, node: ast.stmt) -> None:
        if isinstance(node, ast.Assign) and len(node.targets) == 1:
            self.assign(node.targets[0], node.value)
        elif isinstance(node, ast.AnnAssign) and node.value is not None:
            self.assign(node.target, node.value)
        elif isinstance(node, ast.AugAssign):
            old = self.target_value(node.target)
            op = _BINARY.get(type(node.op))
            if op is None:
                raise Rejected("forbidden", "this operator does not exist here")
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
            raise Rejected(
                "forbidden", f"{type(node).__name__} does not exist in this language"
            )

    def assign(self, target: ast.expr, value: ast.expr) -> None:
        if isinstance(target, ast.Name) and isinstance(value, ast.Dict):
            name = assignable(target.id, target.lineno)
            self.dicts[name] = self.terms(value)
            self.locals.pop(name, None)
        else:
            self.store(target, self.expr(value))

    def store(self, target: ast.expr, value: Expr) -> None:
        key = self.term_target(target)
        if key is not None:
            self.dicts[key[0]][key[1]] = build.as_number(value, f"term {key[1]!r}")
        elif isinstance(target, ast.Name):
            name = assignable(target.id, target.lineno)
            self.locals[name] = value
            self.dicts.pop(name, None)
        else:
            raise Rejected("forbidden", "only plain names can be assigned")

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
        for child in node.body:
            self.statement(child)
        yes, yes_dicts = self.locals, self.dicts
        self.locals, self.dicts = dict(before), _copy(dicts)
        for child in node.orelse:
            self.statement(child)
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
            for child in node.body:
                self.statement(child)

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
            raise _with_line(error, node.lineno) from None

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
                raise Rejected("schema", "names of terms are texts", node.lineno)
            name = checked_name(key.value, value.lineno)
            try:
                expr = build.as_number(self.expr(value), f"term {name!r}")
            except Rejected as error:
                raise _with_line(error, value.lineno) from None
            if name in terms:
                raise Rejected("schema", f"term {name!r} stands twice", value.lineno)
            terms[name] = expr
        return terms

    # --- expressions ------------------------------------------------------

    def expr(self, node: ast.expr) -> Expr:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise Rejected("slow", f"nested deeper than {MAX_DEPTH}", node.lineno)
        try:
            return self._expr(node)
        except Rejected as error:
            raise _with_line(error, node.lineno) from None
        finally:
            self.depth -= 1

    def _expr(self, node: ast.expr) -> Expr:
        match node:
            case ast.Constant(value=bool() | int() | float() as value):
                return build.literal(_finite(value))
            case ast.Name(id=name):
                return self.name(name)
            case ast.Attribute(value=ast.Name(id=owner), attr=attr):
                return self.attribute(owner, attr)
            case ast.Subscript(value=owner, slice=position):
                return self.subscript(owner, position)
            case ast.UnaryOp(op=ast.Not(), operand=operand):
                return build.logic("not", self.expr(operand))
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                return build.negative(self.expr(operand))
            case ast.UnaryOp(op=ast.UAdd(), operand=operand):
                return build.as_value(self.expr(operand), "+")
            case ast.BinOp(left=left, op=op, right=right) if type(op) in _BINARY:
                return build.arithmetic(
                    _BINARY[type(op)], self.expr(left), self.expr(right)
                )
            case ast.BoolOp(op=op, values=values):
                word = "and" if isinstance(op, ast.And) else "or"
                return build.logic(word, *[self.expr(v) for v in values])
            case ast.Compare():
                return self.comparison(node)
            case ast.IfExp(test=test, body=body, orelse=orelse):
                return build.select(self.expr(test), self.expr(body), self.expr(orelse))
            case ast.Tuple(elts=parts) | ast.List(elts=parts):
                return build.entries([self.expr(part) for part in parts])
            case ast.Call():
                return self.call(node)
        raise Rejected(
            "forbidden", f"{type(node).__name__} does not exist in this language"
        )

    def name(self, name: str) -> Expr:
        if name in self.locals:
            return self.locals[name]
        if name == "action":
            return build.action_leaf(self.action)
        if name in _CONSTANTS:
            return build.literal(_CONSTANTS[name])
        if name in self.layout:
            raise Rejected("schema", f"write now.{name} or prev.{name}")
        if name in self.params:
            raise Rejected("schema", f"write params.{name}")
        raise Rejected(
            "schema",
            f"unknown name {name[:MAX_NAME]!r}"
            f"{build.nearest(name[:MAX_NAME], self.locals)}",
        )

    def attribute(self, owner: str, attr: str) -> Expr:
        if owner in ("prev", "now"):
            return build.feature(owner, attr, self.layout)
        if owner == "params":
            return self.param(attr)
        if owner in MODULES and attr in _CONSTANTS:
            return build.literal(_CONSTANTS[attr])
        raise Rejected(
            "forbidden", "only prev., now. and params. have names behind the dot"
        )

    def param(self, name: str) -> Expr:
        if name not in self.params:
            hint = build.nearest(name[:MAX_NAME], self.params)
            raise Rejected("schema", f"no {name[:MAX_NAME]!r} in PARAMS{hint}")
        return Expr("param", (), name)

    def subscript(self, owner: ast.expr, position: ast.expr) -> Expr:
        if isinstance(owner, ast.Name) and isinstance(position, ast.Constant):
            key = position.value
            if isinstance(key, str) and owner.id in self.dicts:
                found = self.dicts[owner.id].get(key)
                if found is not None:
                    return found
            if isinstance(key, str):
                return self.attribute(owner.id, key)
        sign = 1
        if isinstance(position, ast.UnaryOp) and isinstance(position.op, ast.USub):
            position, sign = position.operand, -1
        if isinstance(position, ast.Constant) and type(position.value) is int:
            return build.index(self.expr(owner), sign * position.value)
        raise Rejected("schema", "an entry of a vector is chosen by a plain integer")

    def comparison(self, node: ast.Compare) -> Expr:
        operands = [self.expr(node.left), *map(self.expr, node.comparators)]
        parts = []
        for op, left, right in zip(node.ops, operands, operands[1:], strict=False):
            if type(op) not in _COMPARE:
                raise Rejected("forbidden", "compare with < <= > >= == != only")
            parts.append(build.compare(_COMPARE[type(op)], left, right))
        return build.logic("and", *parts)

    def call(self, node: ast.Call) -> Expr:
        if node.keywords or any(isinstance(a, ast.Starred) for a in node.args):
            raise Rejected("forbidden", "functions take plain arguments only")
        parts: list[str] = []
        function: ast.expr = node.func
        while isinstance(function, ast.Attribute):
            parts.append(function.attr)
            function = function.value
        if not isinstance(function, ast.Name):
            raise Rejected("forbidden", "only functions of the language are called")
        parts.append(function.id)
        parts.reverse()
        if len(parts) > 1 and parts[0] not in MODULES:
            raise Rejected("forbidden", "nothing here has methods to call")
        name = ".".join(parts[1:] if len(parts) > 1 else parts)
        return build.call(name[:MAX_NAME], [self.expr(arg) for arg in node.args])


def assignable(name: str, line: int) -> str:
    """``name`` if a program may give it a value; Rejected otherwise."""
    if name in ARGUMENTS or name in FUNCTIONS:
        raise Rejected("forbidden", f"{name!r} cannot be assigned", line)
    return checked_name(name, line)


def _finite(value: bool | int | float) -> bool | float:
    if isinstance(value, bool):
        return value
    try:
        return float(value)
    except OverflowError:
        raise Rejected("forbidden", "numbers are at most 1e9 in magnitude") from None


def _with_line(error: Rejected, line: int) -> Rejected:
    failure = error.failure
    if failure.line is not None:
        return error
    return Rejected(failure.kind, failure.reason, line)


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
        merged[name] = _select_checked(condition, a, b, name)
    return merged


def _select_checked(condition: Expr, yes: Expr, no: Expr, name: str) -> Expr:
    kinds: set[Type] = {yes.type, no.type}
    sizes = {t for t in kinds if t.kind == "vector"}
    if len(sizes) > 1:
        raise Rejected(
            "schema", f"{name!r} is a vector of another length in the other branch"
        )
    return build.select(condition, yes, no)

"""Expressions: what may stand on the right of ``=``, read into typed trees."""

from __future__ import annotations

import ast
from dataclasses import dataclass, field

from guerdon.reward_design.language import build
from guerdon.reward_design.language.outline import MAX_DEPTH, TOO_LARGE
from guerdon.reward_design.language.table import CONSTANTS, MODULES
from guerdon.reward_design.language.tree import Expr, Rejected
from guerdon.reward_design.language.words import missing, no_operator
from guerdon.types import MAX_NAME, ActionSpec, Layout

MAX_READ = 20_000
"""Values that are read, loops unrolled: about a seventh of a second."""

OPERATORS: dict[type, str] = {
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
_DOT = "only prev., now. and params. have names behind the dot"

_RECORDS = ("prev", "now", "params")
"""Arguments of ``reward()`` that have entries and are no value themselves."""

Terms = dict[str, Expr]


@dataclass
class ExpressionReader:
    """Translates expressions; locals are put in as trees.

    Args:
        layout: the features that may be named.
        action: what the agent may do.
        params: names and values of ``PARAMS``.
        locals: local variables and what they stand for.
        dicts: local dictionaries of terms.
        depth: brackets around what is being read.
        read: values read so far.
    """

    layout: Layout
    action: ActionSpec
    params: dict[str, float]
    locals: dict[str, Expr] = field(default_factory=dict)
    dicts: dict[str, Terms] = field(default_factory=dict)
    depth: int = 0
    read: int = 0

    def expr(self, node: ast.expr) -> Expr:
        """The typed tree of an expression."""
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise Rejected("slow", f"nested deeper than {MAX_DEPTH}", node.lineno)
        self.read += 1
        if self.read > MAX_READ:
            raise Rejected(
                "slow", f"more than {MAX_READ} values, loops unrolled", node.lineno
            )
        try:
            return self._expr(node)
        except Rejected as error:
            raise with_line(error, node.lineno) from None
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
            case ast.BinOp(left=left, op=op, right=right) if type(op) in OPERATORS:
                return build.arithmetic(
                    OPERATORS[type(op)], self.expr(left), self.expr(right)
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
            case ast.Attribute():
                raise Rejected("forbidden", _DOT)
        raise Rejected("forbidden", missing(node))

    def name(self, name: str) -> Expr:
        """A local variable, ``action``, or a constant with a name."""
        if name in self.locals:
            return self.locals[name]
        if name == "action":
            return build.action_leaf(self.action)
        if name in CONSTANTS:
            return build.literal(CONSTANTS[name])
        if name in self.layout:
            raise Rejected("schema", f"write now.{name} or prev.{name}")
        if name in self.params:
            raise Rejected("schema", f"write params.{name}")
        if name in _RECORDS:
            raise Rejected("schema", self.whole(name))
        raise Rejected(
            "schema",
            f"unknown name {name[:MAX_NAME]!r}"
            f"{build.nearest(name[:MAX_NAME], self.locals)}",
        )

    def whole(self, name: str) -> str:
        """Why ``x = prev`` and ``abs(now)`` are no values, and what is one."""
        known = self.params if name == "params" else [f.name for f in self.layout]
        return (
            f"{name!r} is a whole record and not a value: it cannot be assigned, "
            "computed with or returned; take one of its entries, such as "
            f"{name}.{next(iter(known), 'NAME')}"
        )

    def attribute(self, owner: str, attr: str) -> Expr:
        """``now.x``, ``params.w``, ``np.pi``."""
        if owner in ("prev", "now"):
            return build.feature(owner, attr, self.layout)
        if owner == "params":
            return self.param(attr)
        if owner in MODULES and owner not in self.locals and attr in CONSTANTS:
            return build.literal(CONSTANTS[attr])
        raise Rejected("forbidden", _DOT)

    def param(self, name: str) -> Expr:
        """``params.name``."""
        if name not in self.params:
            hint = build.nearest(name[:MAX_NAME], self.params)
            raise Rejected("schema", f"no {name[:MAX_NAME]!r} in PARAMS{hint}")
        return Expr("param", (), name)

    def subscript(self, owner: ast.expr, position: ast.expr) -> Expr:
        """``v[0]``, ``now["x"]``, ``terms["near"]``."""
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
        """``a < b < c``, which is ``a < b and b < c``."""
        operands = [self.expr(node.left), *map(self.expr, node.comparators)]
        parts = []
        for op, left, right in zip(node.ops, operands, operands[1:], strict=False):
            if type(op) not in _COMPARE:
                raise Rejected("forbidden", no_operator(op))
            parts.append(build.compare(_COMPARE[type(op)], left, right))
        return build.logic("and", *parts)

    def call(self, node: ast.Call) -> Expr:
        """A function of the table, with or without a module before it."""
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
        if parts[0] in self.locals:
            raise Rejected("schema", f"{parts[0]!r} is a value here, not a function")
        name = ".".join(parts[1:] if len(parts) > 1 else parts)
        return build.call(name[:MAX_NAME], [self.expr(arg) for arg in node.args])


def with_line(error: Rejected, line: int) -> Rejected:
    """The same refusal with a line, where it has none yet."""
    failure = error.failure
    if failure.line is not None:
        return error
    return Rejected(failure.kind, failure.reason, line)


def _finite(value: bool | int | float) -> bool | float:
    if isinstance(value, bool):
        return value
    try:
        return float(value)
    except OverflowError:
        raise Rejected("forbidden", TOO_LARGE) from None

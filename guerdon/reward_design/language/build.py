"""Typed constructors: the only way by which a tree of the language is made.

The parser, the JSON reader, the sampler and the mutation operators all build nodes
here, so a tree that exists is well typed.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from guerdon.reward_design.language.table import (
    ALIASES,
    BINARY,
    COMPARE,
    FUNCTIONS,
    MAX_CONSTANT,
    Function,
)
from guerdon.reward_design.language.tree import (
    FLAG,
    NUMBER,
    Expr,
    Rejected,
    Type,
    const,
    number,
    vector,
)
from guerdon.types import MAX_NAME, ActionSpec, Layout

MAX_VARIADIC = 6
MAX_VECTOR = 64

NEAREST = 3
"""How many names are offered first where none is surely meant."""

MOST_KNOWN = 30
"""Most names of a message."""


def nearest(name: str, known: Iterable[str]) -> str:
    """A hint such as ``; did you mean 'height'?``, or what exists, the nearest first.

    >>> nearest("hight", ["x", "height"]), nearest("has_key", ["carrying_key"])
    ("; did you mean 'height'?", '; nearest: carrying_key')
    """
    known = list(known)
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    if close:
        return f"; did you mean {close[0]!r}?"
    order = sorted(known, key=lambda other: -_likeness(name, other))[:MOST_KNOWN]
    found = [("nearest", order[:NEAREST]), ("also known", order[NEAREST:])]
    return "".join(f"; {word}: {', '.join(part)}" for word, part in found if part)


def _likeness(name: str, other: str) -> float:
    """Letters in common, and before those a word: ``has_key`` and ``carrying_key``."""
    shared = bool(set(name.split("_")) & set(other.split("_")))
    return shared + difflib.SequenceMatcher(None, other, name).ratio()


def literal(value: float | bool) -> Expr:
    """A constant; flags stay flags.

    Raises:
        Rejected: for a number that is not finite or larger than 1e9.
    """
    if isinstance(value, bool):
        return Expr("const", (), value, FLAG)
    if not abs(value) <= MAX_CONSTANT:
        raise Rejected("forbidden", "numbers are finite and at most 1e9 in magnitude")
    return const(value)


def feature(which: str, name: str, layout: Layout) -> Expr:
    """``prev.name`` or ``now.name``."""
    if name not in layout:
        known = [f.name for f in layout]
        raise Rejected(
            "schema",
            f"there is no feature {name[:MAX_NAME]!r}{nearest(name[:MAX_NAME], known)}",
        )
    declared = layout[name]
    if declared.shape:
        kind = vector(declared.shape[0])
    else:
        kind = FLAG if declared.kind == "flag" else NUMBER
    return Expr(which, (), name, kind)


def action_leaf(action: ActionSpec) -> Expr:
    """The action: its index if discrete, a vector if continuous."""
    if action.kind == "discrete":
        return Expr("action")
    return Expr("action", (), None, vector(action.size))


def index(node: Expr, position: int) -> Expr:
    """One entry of a vector."""
    if node.type.kind != "vector":
        raise Rejected("schema", f"only a vector has entries, this is a {node.type}")
    if not -node.type.size <= position < node.type.size:
        raise Rejected(
            "schema",
            f"a {node.type} has the entries 0 to {node.type.size - 1}, "
            f"not {_short(position)}",
        )
    return Expr("index", (node,), position % node.type.size, NUMBER)


def _short(position: int) -> str:
    """A position for a message; Python refuses to print integers without bound."""
    return str(position) if abs(position) <= 10**9 else "one that far out"


def entries(parts: list[Expr]) -> Expr:
    """A vector made of numbers."""
    if not 1 <= len(parts) <= MAX_VECTOR:
        raise Rejected("schema", f"a vector has 1 to {MAX_VECTOR} entries")
    return Expr(
        "vector",
        tuple(as_number(p, "a vector") for p in parts),
        None,
        vector(len(parts)),
    )


def as_number(node: Expr, where: str) -> Expr:
    """A number; a flag counts as 0 or 1."""
    if node.type.kind == "vector":
        raise Rejected(
            "schema",
            f"{where} takes a number, this is a {node.type}; "
            "use norm(), sum(), mean() or an entry such as v[0]",
        )
    if node.op == "const" and node.type == FLAG:
        return const(float(bool(node.value)))
    return number(node)


def as_flag(node: Expr, where: str) -> Expr:
    """A flag; numbers are not taken for flags, a comparison makes one."""
    if node.type != FLAG:
        raise Rejected(
            "schema",
            f"{where} takes a flag, this is a {node.type}; compare it, "
            "for example x > 0.5",
        )
    return node


def as_value(node: Expr, where: str) -> Expr:
    """A number or a vector."""
    return node if node.type.kind == "vector" else as_number(node, where)


def negative(node: Expr) -> Expr:
    """``-x``."""
    node = as_value(node, "-")
    if node.op == "const":
        return const(-float(node.value or 0.0))
    return Expr("neg", (node,), None, node.type)


def arithmetic(op: str, left: Expr, right: Expr) -> Expr:
    """``add, sub, mul, div, pow`` of numbers and vectors."""
    left, right = as_value(left, op), as_value(right, op)
    return Expr(op, (left, right), None, _common(BINARY[op], [left.type, right.type]))


def compare(op: str, left: Expr, right: Expr) -> Expr:
    """``lt, le, gt, ge, eq, ne`` of two numbers."""
    sign = COMPARE[op]
    return Expr(op, (as_number(left, sign), as_number(right, sign)), None, FLAG)


def logic(op: str, *args: Expr) -> Expr:
    """``and, or, not`` of flags."""
    flags = tuple(as_flag(arg, op) for arg in args)
    if op == "not":
        return Expr("not", flags, None, FLAG)
    node = flags[0]
    for other in flags[1:]:
        node = Expr(op, (node, other), None, FLAG)
    return node


def select(condition: Expr, yes: Expr, no: Expr) -> Expr:
    """``yes if condition else no``, for numbers, vectors and flags."""
    condition = as_flag(condition, "a condition")
    if yes == no:
        return yes
    if yes.type == FLAG and no.type == FLAG:
        return logic(
            "or",
            logic("and", condition, yes),
            logic("and", logic("not", condition), no),
        )
    yes, no = as_value(yes, "where"), as_value(no, "where")
    if yes == no:  # as a flag and a number that say the same
        return yes
    return Expr(
        "where", (condition, yes, no), None, _common("where", [yes.type, no.type])
    )


def call(name: str, args: list[Expr]) -> Expr:
    """A function of the table by its name or an alias.

    Raises:
        Rejected: for an unknown function, a wrong number of arguments or a wrong
            type, naming all three.
    """
    written, name = name, ALIASES.get(name, name)
    if name == "pow" and len(args) == 2:
        return arithmetic("pow", *args)
    if name in ("float", "number") and len(args) == 1:
        return as_number(args[0], name)
    if name in ("min", "max") and len(args) == 1:
        if args[0].type.kind != "vector":
            raise Rejected(
                "schema",
                f"{written}() of one argument takes a vector, this is a "
                f"{args[0].type}; give it the numbers to choose from: {written}(a, b)",
            )
        name = {"min": "smallest", "max": "largest"}[name]
    function = FUNCTIONS.get(name)
    if function is None:
        raise Rejected(
            "forbidden",
            f"there is no function {name!r}{nearest(name, FUNCTIONS)}",
        )
    return _apply(function, args)


def _apply(function: Function, args: list[Expr]) -> Expr:
    name, wanted = function.name, list(function.arguments)
    if function.variadic and len(wanted) < len(args) <= MAX_VARIADIC:
        wanted += [wanted[-1]] * (len(args) - len(wanted))
    if len(args) != len(wanted):
        count = "1 argument" if len(wanted) == 1 else f"{len(wanted)} arguments"
        if function.variadic:
            count = f"{len(wanted)} to {MAX_VARIADIC} arguments"
        raise Rejected("schema", f"{name}() takes {count}, got {len(args)}")
    if name == "where":
        return select(*args)
    typed = [_argument(name, kind, arg) for kind, arg in zip(wanted, args, strict=True)]
    if function.variadic:
        node = typed[0]
        for other in typed[1:]:
            kind = _common(name, [node.type, other.type])
            node = Expr(name, (node, other), None, kind)
        return node
    if name == "dot" and typed[0].type != typed[1].type:
        raise Rejected("schema", f"dot() of {typed[0].type} and {typed[1].type}")
    if function.result == "elementwise":
        kind = _common(name, [arg.type for arg in typed])
    else:
        kind = FLAG if function.result == "flag" else NUMBER
    return Expr(name, tuple(typed), None, kind)


def _argument(name: str, kind: str, arg: Expr) -> Expr:
    where = f"{name}()"
    if kind == "flag":
        return as_flag(arg, where)
    if kind == "number":
        return as_number(arg, where)
    if kind == "vector":
        if arg.type.kind != "vector":
            raise Rejected("schema", f"{where} takes a vector, this is a {arg.type}")
        return arg
    return as_value(arg, where)


def _common(name: str, types: list[Type]) -> Type:
    """Vector if any argument is one; all vectors have the same length."""
    vectors = {t for t in types if t.kind == "vector"}
    if len(vectors) > 1:
        sizes = " and ".join(str(t.size) for t in sorted(vectors))
        raise Rejected("schema", f"{name}: vectors of length {sizes} do not fit")
    return vectors.pop() if vectors else NUMBER

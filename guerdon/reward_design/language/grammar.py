"""The language as a GBNF grammar and as a JSON schema, made from its table.

Both are closed over one task: features and functions are literals, so that a model
that decodes under them cannot name what does not exist. What they let through is
read by ``parse`` or ``from_json`` all the same, because a server may ignore them.
"""

from __future__ import annotations

import json
from typing import Any

from guerdon.reward_design.language import build
from guerdon.reward_design.language.outline import (
    MAX_PARAMS,
    MAX_TEXT,
    TOO_LARGE,
    checked_name,
)
from guerdon.reward_design.language.parse import MAX_TERMS, check_arguments
from guerdon.reward_design.language.table import (
    BINARY,
    COMPARE,
    FUNCTIONS,
    reducers,
    shapers,
)
from guerdon.reward_design.language.tree import Expr, Rejected, Tree
from guerdon.reward_design.language.work import predicted_work
from guerdon.types import ActionSpec, Feature, Layout

MAX_JSON = 4 * MAX_TEXT
"""The same program takes about four times the letters in JSON."""

MAX_TERMS_OF_GRAMMAR = 4
"""Most terms of a program under the grammar; a small model does not stop earlier."""

_NUMBER = '[0-9] ("." [0-9]{1,3})? | [1-9][0-9] ("." [0-9])?'


def gbnf(layout: Layout, action: ActionSpec, terms: int = 3) -> str:
    """A grammar for llama.cpp; every text of it parses.

    A program has a plan and exactly ``terms`` weighted terms; small models never stop
    before the most that they are allowed. Each term is one of the forms that a reward
    is made of: a change of a feature (the better way round, where the task knows it),
    an event, a change that counts while a flag holds, a new best, or (in continuous
    control, and where there are no flags) a level. Left to itself a model of 1.5
    billion parameters gets half of the signs wrong.

    Args:
        layout: the features that may be named.
        action: what the agent may do.
        terms: number of terms, 1 to 4.

    Raises:
        ValueError: for another number of terms.
    """
    if not 1 <= terms <= MAX_TERMS_OF_GRAMMAR:
        raise ValueError(f"grammar: expected 1 to 4 terms, got {terms}")
    rules = ['root ::= "# plan: " plan "\\n" program']
    rules.append("plan ::= [a-zA-Z0-9 ,.'-]{20,120}")
    rules.append(_program(terms))
    rules.append(f"number ::= {_NUMBER}")
    rules.append("name ::= [a-z] [a-z_]{2,18} [a-z]")
    rules += _feature_rules(layout, action)
    rules += _form_rules(layout, action)
    return "\n".join(rules) + "\n"


def _program(terms: int) -> str:
    names = [f"w{i + 1}" for i in range(terms)]
    pairs = ' ", " '.join(f'"\\"{n}\\": " number' for n in names)
    lines = " ".join(
        f'"        \\"" name "_{i + 1}\\": params.{n} * " form ",\\n"'
        for i, n in enumerate(names)
    )
    return (
        f'program ::= "PARAMS = {{" {pairs} "}}\\n'
        "def reward(prev, action, now, params):\\n"
        f'    return {{\\n" {lines} "    }}\\n"'
    )


def _quoted(text: str) -> str:
    return f'"{text}"'


def _changes(features: list[Feature]) -> list[str]:
    """``(now.x - prev.x)`` or the other way round, as the task says is better."""
    found = []
    for f in features:
        if f.better != "lower":
            found.append(_quoted(f"(now.{f.name} - prev.{f.name})"))
        if f.better != "higher":
            found.append(_quoted(f"(prev.{f.name} - now.{f.name})"))
    return found


def _feature_rules(layout: Layout, action: ActionSpec) -> list[str]:
    """Literals of the task: levels, changes, flags and vectors."""
    numbers = [f for f in layout if f.kind == "number" and not f.shape]
    flags = [f for f in layout if f.kind == "flag" and not f.shape]
    vectors = [f for f in layout if f.shape]
    rules = []
    if numbers or flags:
        rules.append("change ::= " + " | ".join(_changes(numbers + flags)))
    leaves = [_quoted(f"now.{f.name}") for f in numbers] or ["number"]
    rules.append("leaf ::= " + " | ".join(leaves))
    if flags:
        held = " | ".join(_quoted(f"now.{f.name}") for f in flags)
        rules.append(f"held ::= {held}")
    inner = [_quoted(f"{w}.{f.name}") for f in vectors for w in ("now", "prev")]
    if action.kind == "continuous":
        inner.append('"action"')
    if inner:
        choices = " | ".join(_quoted(n) for n in reducers())
        rules.append("vector ::= " + " | ".join(inner))
        rules.append(
            f'reduced ::= ({choices}) "(" vector ")" | "sum(square(" vector "))"'
        )
    return rules


def _form_rules(layout: Layout, action: ActionSpec) -> list[str]:
    """The forms of a term, each with its own bounded depth."""
    has_flags = any(f.kind == "flag" and not f.shape for f in layout)
    has_numbers = any(f.kind == "number" and not f.shape for f in layout)
    has_vectors = any(f.shape for f in layout) or action.kind == "continuous"
    compared = ['leaf " > " number', 'leaf " < " number'] if has_numbers else []
    flags = ["held", '"not " held', 'held " and not " held'] if has_flags else []
    forms = []
    if has_numbers or has_flags:
        forms.append("change")
    if has_flags or has_numbers:
        forms.append('"first_time(" flag ")"')
        forms.append('"where(" flag ", " change ", 0.0)"')
    values = (["leaf"] if has_numbers else []) + (["reduced"] if has_vectors else [])
    if values:
        forms.append('"max(0.0, " value " - previous_best(" value "))"')
    levels = values and (action.kind == "continuous" or not has_flags)
    if levels:  # with flags to change, a level is what gets farmed
        forms.append('"(" "-"? level ")"')
    rules = ["form ::= " + " | ".join(forms)]
    if flags or compared:
        rules.append("flag ::= " + " | ".join(flags + compared))
    if values:
        rules.append("value ::= " + " | ".join(values))
    if levels:
        shaped = " | ".join(_quoted(n) for n in shapers())
        rules.append(
            f"level ::= value | ({shaped}) "
            '"(" value ")" | "exp(-abs(" value ") / " positive ")" | '
            '"exp(-abs(" value " - " number ") / " positive ")"'
        )
        rules.append('positive ::= "0." [1-9] | [1-9]')
    return rules


# --- JSON -------------------------------------------------------------------


def json_schema(layout: Layout, action: ActionSpec) -> dict[str, Any]:
    """A schema for endpoints that decode JSON; ``from_json`` reads what it allows.

    A program is ``{"plan", "params": [{"name", "value"}], "terms": [{"name",
    "expr"}]}``; an expression is ``{"const": 1.0}``, ``{"now": name}``,
    ``{"prev": name}``, ``{"param": name}``, ``{"action": index}`` or
    ``{"op": name, "args": [...]}``.
    """
    features = [feature.name for feature in layout]
    own = ("and", "or", "not", "neg", "index", "vector")
    operations = [*BINARY, *COMPARE, *own, *FUNCTIONS]
    name = {"type": "string"}
    expression = {
        "anyOf": [
            _object(const={"type": "number"}),
            _object(now={"type": "string", "enum": features}),
            _object(prev={"type": "string", "enum": features}),
            _object(param=name),
            _object(action={"type": "boolean"}),
            _object(
                op={"type": "string", "enum": operations},
                args={"type": "array", "items": {"$ref": "#/$defs/expression"}},
            ),
        ]
    }
    param = _object(name=name, value={"type": "number"})
    term = _object(name=name, expr={"$ref": "#/$defs/expression"})
    schema = _object(
        plan={"type": "string"},
        params={"type": "array", "items": param},
        terms={"type": "array", "items": term},
    )
    return schema | {"$defs": {"expression": expression}}


def _object(**properties: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def to_json(tree: Tree, plan: str = "") -> dict[str, Any]:
    """The JSON form of a tree; ``from_json`` gives an equal tree back."""
    return {
        "plan": plan,
        "params": [{"name": n, "value": v} for n, v in tree.params],
        "terms": [{"name": n, "expr": _expr_json(e)} for n, e in tree.terms],
    }


def _expr_json(expr: Expr) -> dict[str, Any]:
    if expr.op == "const":
        return {"const": expr.value}
    if expr.op in ("now", "prev", "param"):
        return {expr.op: expr.value}
    if expr.op == "action":
        return {"action": True}
    args = [_expr_json(arg) for arg in expr.args]
    if expr.op == "number":
        return args[0]
    if expr.op == "where" and expr.args[1].op == expr.args[2].op == "number":
        # Of two flags it would choose a flag.
        args[1] = {"op": "number", "args": [args[1]]}
    if expr.op == "index":
        args.append({"const": expr.value})
    return {"op": expr.op, "args": args}


def from_json(text: str, layout: Layout, action: ActionSpec) -> Tree:
    """Read the JSON form.

    Raises:
        Rejected: for a text that is no program.
        TypeError: for anything that is not a text, a layout and an action.
    """
    check_arguments("from_json", text, layout, action)
    if len(text) > MAX_JSON:
        raise Rejected("slow", f"the text has more than {MAX_JSON} characters")
    try:
        data = json.loads(text, object_pairs_hook=_object_of)
    except Rejected:
        raise
    except (ValueError, RecursionError):
        raise Rejected("syntax", "not JSON") from None
    if not isinstance(data, dict):
        raise Rejected("schema", "expected a JSON object with params and terms")
    params: dict[str, float] = {}
    for item in _items(data, "params"):
        name = _text(item, "name")
        if name in params:
            raise Rejected("schema", f"{name!r} stands twice in params")
        params[name] = _number(item, "value")
    if len(params) > MAX_PARAMS:
        raise Rejected("slow", f"more than {MAX_PARAMS} params")
    terms: dict[str, Expr] = {}
    for item in _items(data, "terms"):
        name = _text(item, "name")
        if name in terms:
            raise Rejected("schema", f"term {name!r} stands twice")
        reader = _JsonReader(layout, action, params)
        terms[name] = build.as_number(reader.expr(item.get("expr"), 0), name)
    if not 1 <= len(terms) <= MAX_TERMS:
        raise Rejected("schema", f"expected 1 to {MAX_TERMS} terms, got {len(terms)}")
    tree = Tree(tuple(params.items()), tuple(terms.items()), layout, action)
    predicted_work(tree)
    return tree


def _object_of(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object; Python would keep the last of two equal keys and say nothing."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise Rejected("schema", "a key stands twice in one JSON object")
    return found


def _items(data: dict[str, Any], key: str) -> list[dict[str, Any]]:
    found = data.get(key)
    if not isinstance(found, list) or not all(isinstance(i, dict) for i in found):
        raise Rejected("schema", f"{key!r} is a list of objects")
    return found


def _text(item: dict[str, Any], key: str) -> str:
    value = item.get(key)
    if not isinstance(value, str):
        raise Rejected("schema", f"{key!r} is a text")
    return checked_name(value, None)


def _number(item: dict[str, Any], key: str) -> float:
    value = item.get(key)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise Rejected("schema", f"{key!r} is a number")
    try:
        return float(build.literal(float(value)).value or 0.0)
    except OverflowError:
        raise Rejected("forbidden", TOO_LARGE) from None


class _JsonReader:
    def __init__(
        self, layout: Layout, action: ActionSpec, params: dict[str, float]
    ) -> None:
        self.layout, self.action, self.params = layout, action, params

    def expr(self, node: Any, depth: int) -> Expr:
        if not isinstance(node, dict) or depth > 40:
            raise Rejected("schema", "an expression is an object, at most 40 deep")
        for which in ("now", "prev"):
            if isinstance(node.get(which), str):
                return build.feature(which, node[which][:40], self.layout)
        if isinstance(node.get("const"), bool):
            return build.literal(node["const"])
        if "const" in node:
            return build.literal(_number(node, "const"))
        if node.get("action") is True:
            return build.action_leaf(self.action)
        if isinstance(node.get("param"), str):
            if node["param"] not in self.params:
                raise Rejected("schema", f"no {node['param'][:40]!r} in params")
            return Expr("param", (), node["param"])
        return self.operation(node.get("op"), node.get("args"), depth)

    def operation(self, op: Any, args: Any, depth: int) -> Expr:
        if not isinstance(op, str) or not isinstance(args, list) or len(args) > 64:
            raise Rejected("schema", "an operation has 'op' and a list 'args'")
        if op == "index" and len(args) == 2 and isinstance(args[1], dict):
            position = args[1].get("const")
            # ``% 1`` of what is not finite is no 0, where ``int`` would raise.
            if isinstance(position, bool) or not isinstance(position, int | float):
                raise Rejected("schema", "an entry is chosen by a plain integer")
            if position % 1 == 0:
                return build.index(self.expr(args[0], depth + 1), int(position))
        inner = [self.expr(arg, depth + 1) for arg in args]
        if op == "vector":
            return build.entries(inner)
        if op in BINARY and len(inner) == 2:
            return build.arithmetic(op, *inner)
        if op in COMPARE and len(inner) == 2:
            return build.compare(op, *inner)
        if op == "neg" and len(inner) == 1:
            return build.negative(inner[0])
        if (op == "not" and len(inner) == 1) or (op in ("and", "or") and inner):
            return build.logic(op, *inner)
        return build.call(op[:40], inner)

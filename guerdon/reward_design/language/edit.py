"""Operators of the evolution: mutate, cross, simplify, and a canonical form.

All of them take typed trees and give typed trees; the random ones take a NumPy
generator, so a search repeats exactly from its seed.
"""

from __future__ import annotations

import hashlib
import itertools
import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from guerdon.reward_design.language import build
from guerdon.reward_design.language.runtime import SCALAR
from guerdon.reward_design.language.sample import sample_term
from guerdon.reward_design.language.table import COMMUTATIVE, LOWERED
from guerdon.reward_design.language.tree import (
    FLAG,
    NUMBER,
    Expr,
    Rejected,
    Tree,
    const,
    expression_source,
)
from guerdon.types import MAX_NAME

MAX_TERMS = 8
"""An operator never makes more terms than this."""


class Edit(NamedTuple):
    """A changed tree and one phrase that says what changed."""

    tree: Tree
    change: str


# --- canonical form ---------------------------------------------------------


def simplified(expr: Expr) -> Expr:
    """The same function with constants folded and neutral operations removed."""
    return expr.rebuild(_simplify_node)


def _simplify_node(node: Expr) -> Expr:
    args = node.args
    if args and node.op in LOWERED and all(a.op == "const" for a in args):
        value = SCALAR[node.op](*(a.value for a in args))
        if node.type in (NUMBER, FLAG) and abs(value) <= 1e9:
            return build.literal(value)
    match node.op:
        case "add" | "sub" if _is(args[1], 0.0) and args[0].type == node.type:
            return args[0]
        case "add" if _is(args[0], 0.0) and args[1].type == node.type:
            return args[1]
        case "mul" | "div" if _is(args[1], 1.0) and args[0].type == node.type:
            return args[0]
        case "mul" if _is(args[0], 1.0) and args[1].type == node.type:
            return args[1]
        case "mul" if (_is(args[0], 0.0) or _is(args[1], 0.0)) and (
            node.type == NUMBER
        ):
            return const(0.0)
        case "neg" if args[0].op == "neg":
            return args[0].args[0]
        case "not" if args[0].op == "not":
            return args[0].args[0]
        case "sub" if args[0] == args[1] and node.type == NUMBER:
            return const(0.0)
        case "where" if args[1] == args[2]:
            return args[1]
        case "where" if _is(args[1], 1.0) and _is(args[2], 0.0):
            return build.as_number(args[0], "where")
    return node


def _is(node: Expr, value: float) -> bool:
    return node.op == "const" and node.type == NUMBER and node.value == value


def canonical(tree: Tree) -> tuple[Expr, ...]:
    """Terms with parameters put in, simplified, in an order of their own.

    Two programs that differ in names, in the order of terms or of commutative
    arguments, or by neutral operations have the same canonical form.
    """
    values = dict(tree.params)

    def put_in(node: Expr) -> Expr:
        if node.op == "param":
            return const(values[str(node.value)])
        if node.op in COMMUTATIVE:
            node = node.with_args(tuple(sorted(node.args, key=expression_source)))
        return _simplify_node(node)

    terms = [expr.rebuild(put_in) for _, expr in tree.terms]
    kept = [term for term in terms if not _is(term, 0.0)]
    return tuple(sorted(kept, key=expression_source))


def fingerprint(tree: Tree) -> str:
    """Hash of the canonical form, for finding duplicates before any training."""
    text = "\n".join(expression_source(expr) for expr in canonical(tree))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


# --- operators --------------------------------------------------------------


def mutate(tree: Tree, rng: np.random.Generator) -> Edit:
    """Change one thing; the kind of change is drawn until one applies."""
    kinds: Sequence[Callable[[Tree, np.random.Generator], Edit | None]] = (
        _rescale,
        _rescale,
        _flip_sign,
        _add_term,
        _add_term,
        _replace_term,
        _drop_term,
        _gate_term,
        _swap_feature,
    )
    for place in rng.permutation(len(kinds)):
        try:
            edit = kinds[place](tree, rng)
        except Rejected:
            continue  # already as deep or as large as a program may be
        if edit is not None and fingerprint(edit.tree) != fingerprint(tree):
            return Edit(cleaned(edit.tree), edit.change)
    fresh = sample_term(tree.layout, tree.action, rng, taken=())
    return Edit(_with_terms(tree, [fresh.term], fresh.params), "replaced everything")


def cross(first: Tree, second: Tree, rng: np.random.Generator) -> Edit:
    """Terms drawn from both parents, at least one from each where possible."""
    pool = [(first, name) for name in first.names]
    pool += [(second, name) for name in second.names]
    keep = rng.random(len(pool)) < 0.6
    keep[rng.integers(len(first.names))] = True
    keep[len(first.names) + rng.integers(len(second.names))] = True
    terms: list[tuple[str, Expr]] = []
    params: dict[str, float] = {}
    seen: set[Expr] = set()
    for (parent, name), kept in zip(pool, keep, strict=True):
        expr = dict(parent.terms)[name]
        if not kept or expr in seen or len(terms) >= MAX_TERMS:
            continue
        seen.add(expr)
        expr = _adopt(expr, dict(parent.params), params)
        terms.append((_free(name, {n for n, _ in terms}), expr))
    tree = Tree(tuple(params.items()), tuple(terms), first.layout, first.action)
    return Edit(cleaned(tree), f"terms of both: {', '.join(n for n, _ in terms)}")


def simplify(
    tree: Tree, rng: np.random.Generator, shares: dict[str, float] | None = None
) -> Edit:
    """Drop the term that counts least and fold what can be folded.

    Args:
        tree: the program.
        rng: chooses the term when ``shares`` are not known.
        shares: share of each term in the reward's magnitude, by name.
    """
    names = list(tree.names)
    change = "folded constants"
    terms = list(tree.terms)
    if len(names) > 1:
        if shares:
            least = min(names, key=lambda name: shares.get(name, 0.0))
        else:
            least = names[int(rng.integers(len(names)))]
        terms = [(name, expr) for name, expr in terms if name != least]
        change = f"dropped {least}"
    folded = [(name, simplified(expr)) for name, expr in terms]
    return Edit(cleaned(_with_terms(tree, folded, dict(tree.params))), change)


def cleaned(tree: Tree) -> Tree:
    """Without the parameters that no term uses."""
    used = {n.value for _, expr in tree.terms for n in expr.walk() if n.op == "param"}
    params = tuple(item for item in tree.params if item[0] in used)
    return Tree(params, tree.terms, tree.layout, tree.action)


def with_params(tree: Tree, values: dict[str, float]) -> Tree:
    """The same terms with other parameter values."""
    params = tuple((name, values.get(name, old)) for name, old in tree.params)
    return Tree(params, tree.terms, tree.layout, tree.action)


def _with_terms(
    tree: Tree, terms: Sequence[tuple[str, Expr]], params: dict[str, float]
) -> Tree:
    return Tree(tuple(params.items()), tuple(terms), tree.layout, tree.action)


def _free(name: str, taken: set[str]) -> str:
    """``name``, or where it is taken, the first of name_2, name_3 ... that is not."""
    stem = name.rstrip("0123456789").rstrip("_")
    for number in itertools.count(2):
        if name not in taken:
            break
        end = f"_{number}"
        name = stem[: MAX_NAME - len(end)] + end
    return name


def _adopt(expr: Expr, values: dict[str, float], params: dict[str, float]) -> Expr:
    """``expr`` with its parameters added to ``params`` under free names."""
    renamed: dict[str, str] = {}
    for node in expr.walk():
        if node.op == "param" and str(node.value) not in renamed:
            name = str(node.value)
            same = params.get(name) == values[name]
            renamed[name] = name if same else _free(name, set(params))
            params[renamed[name]] = values[name]

    def rename(node: Expr) -> Expr:
        return (
            Expr("param", (), renamed[str(node.value)]) if node.op == "param" else node
        )

    return expr.rebuild(rename)


# --- mutations; each gives None when it does not apply -----------------------


def _pick(tree: Tree, rng: np.random.Generator) -> int:
    return int(rng.integers(len(tree.terms)))


def _replace(tree: Tree, place: int, expr: Expr) -> Tree:
    terms = list(tree.terms)
    terms[place] = (terms[place][0], expr)
    return _with_terms(tree, terms, dict(tree.params))


def _rescale(tree: Tree, rng: np.random.Generator) -> Edit | None:
    """Multiply one parameter by a factor from a fifth to five."""
    factor = round(math.exp(rng.uniform(-math.log(5), math.log(5))), 2)
    if not tree.params:
        place = _pick(tree, rng)
        name, expr = tree.terms[place]
        scaled = build.arithmetic("mul", const(factor), expr)
        return Edit(_replace(tree, place, scaled), f"{name} times {factor:g}")
    name, value = tree.params[int(rng.integers(len(tree.params)))]
    new = float(f"{value * factor:.3g}")
    if not abs(new) <= 1e9:
        return None
    return Edit(with_params(tree, {name: new}), f"{name} from {value:g} to {new:g}")


def _flip_sign(tree: Tree, rng: np.random.Generator) -> Edit | None:
    place = _pick(tree, rng)
    name, expr = tree.terms[place]
    flipped = expr.args[0] if expr.op == "neg" else build.negative(expr)
    return Edit(_replace(tree, place, flipped), f"sign of {name}")


def _add_term(tree: Tree, rng: np.random.Generator) -> Edit | None:
    if len(tree.terms) >= MAX_TERMS:
        return None
    fresh = sample_term(tree.layout, tree.action, rng, taken=tree.names)
    params = dict(tree.params)
    expr = _adopt(fresh.term[1], fresh.params, params)
    terms = [*tree.terms, (fresh.term[0], expr)]
    return Edit(_with_terms(tree, terms, params), f"added {fresh.term[0]}")


def _replace_term(tree: Tree, rng: np.random.Generator) -> Edit | None:
    place = _pick(tree, rng)
    gone = tree.names[place]
    shorter = _with_terms(
        tree,
        [item for i, item in enumerate(tree.terms) if i != place],
        dict(tree.params),
    )
    edit = _add_term(shorter, rng)
    if edit is None:
        return None
    return Edit(edit.tree, f"{edit.change} in place of {gone}")


def _drop_term(tree: Tree, rng: np.random.Generator) -> Edit | None:
    if len(tree.terms) < 2:
        return None
    place = _pick(tree, rng)
    terms = [item for i, item in enumerate(tree.terms) if i != place]
    params = dict(tree.params)
    return Edit(_with_terms(tree, terms, params), f"dropped {tree.names[place]}")


def _gate_term(tree: Tree, rng: np.random.Generator) -> Edit | None:
    """Let one term count only while a flag holds, or while it does not."""
    flags = [f.name for f in tree.layout if f.kind == "flag" and not f.shape]
    if not flags:
        return None
    place = _pick(tree, rng)
    name, expr = tree.terms[place]
    flag = flags[int(rng.integers(len(flags)))]
    condition = build.feature("now", flag, tree.layout)
    words = f"only while {flag}"
    if rng.random() < 0.5:
        condition, words = build.logic("not", condition), f"only while not {flag}"
    try:
        gated = build.select(condition, expr, const(0.0))
    except Rejected:
        return None  # already as deep or as large as a program may be
    return Edit(_replace(tree, place, gated), f"{name} {words}")


def _swap_feature(tree: Tree, rng: np.random.Generator) -> Edit | None:
    """Let one term look at another feature of the same type."""
    place = _pick(tree, rng)
    name, expr = tree.terms[place]
    used = sorted({str(n.value) for n in expr.walk() if n.op in ("prev", "now")})
    if not used:
        return None
    old = used[int(rng.integers(len(used)))]
    kind = (tree.layout[old].kind, tree.layout[old].shape)
    others = [
        f.name for f in tree.layout if (f.kind, f.shape) == kind and f.name != old
    ]
    if not others:
        return None
    new = others[int(rng.integers(len(others)))]

    def swap(node: Expr) -> Expr:
        if node.op in ("prev", "now") and node.value == old:
            return Expr(node.op, (), new, node.type)
        if node.op == "where" and node.args[1] == node.args[2]:
            return node.args[1]  # as parse reads it
        return node

    return Edit(_replace(tree, place, expr.rebuild(swap)), f"{name}: {new} for {old}")

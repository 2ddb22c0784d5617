"""The outside of a program: caps, Python's syntax, PARAMS and the signature.

Size, bracket depth and line length are checked before Python's own parser sees the
text; what may stand beside ``reward()`` is checked before its body is read.
"""

from __future__ import annotations

import ast
import warnings

from guerdon.reward_design.language import build
from guerdon.reward_design.language.imports import check_import
from guerdon.reward_design.language.tree import Rejected
from guerdon.reward_design.language.words import words
from guerdon.types import MAX_NAME

MAX_TEXT = 16_384
MAX_DEPTH = 40
MAX_SIGNS = 200
MAX_PARAMS = 48

TOO_LARGE = "numbers are finite and at most 1e9 in magnitude"

ARGUMENTS = ("prev", "action", "now", "params")


def syntax(text: str) -> ast.Module:
    """Python's syntax tree, after caps that keep Python's parser safe.

    Raises:
        Rejected: ``slow`` for a text beyond a cap, ``syntax`` for one that is not
            Python.
    """
    if len(text) > MAX_TEXT:
        fits = len(_lines(text[:MAX_TEXT]))
        raise Rejected("slow", f"the text has more than {MAX_TEXT} characters", fits)
    lines = _lines(text)
    _check_letters(lines)
    _check_brackets(lines)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return ast.parse("\n".join(lines))
    except SyntaxError as error:
        raise _not_python(error, len(lines)) from None
    except (ValueError, RecursionError, MemoryError):
        # Python names no place; what nests so deep without brackets is a long line.
        longest = max(range(len(lines)), key=lambda place: len(lines[place])) + 1
        raise Rejected(
            "syntax",
            "the text cannot be read as Python: too long or nested too deep",
            longest,
        ) from None


def _lines(text: str) -> list[str]:
    """The lines, however the file was saved; at least one.

    A byte order mark and Windows' line ends are no part of a program.
    """
    text = text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")
    return text.split("\n")


def _not_python(error: SyntaxError, lines: int) -> Rejected:
    """Python's own reason; where that is about Python's inside, ours."""
    # Where something is missing at the end, Python may name the line behind it.
    line = min(max(error.lineno or 1, 1), lines)
    if "integer string conversion" in error.msg:
        return Rejected("forbidden", TOO_LARGE, line)
    reason = f"not Python: {error.msg}"
    if "non-printable character" in error.msg:
        reason += "; write a plain space, or nothing"
    return Rejected("syntax", reason, line)


def _check_letters(lines: list[str]) -> None:
    """Python names neither the place nor the remedy of these two."""
    for number, line in enumerate(lines, 1):
        if "\0" in line:
            raise Rejected(
                "syntax", "a NUL character stands in the text; remove it", number
            )
        if any("\ud800" <= letter <= "\udfff" for letter in line):
            raise Rejected(
                "syntax",
                "half a character (a lone surrogate) stands in the text; remove it, "
                "or decode the text as UTF-8",
                number,
            )


def _check_brackets(lines: list[str]) -> None:
    depth = signs = 0
    for number, line in enumerate(lines, 1):
        for letter in line.split("#", 1)[0]:  # a comment nests nothing
            if letter in "([{":
                depth += 1
            elif letter in ")]}":
                depth -= 1
            signs = signs + 1 if letter in "-+~" else (signs if letter == " " else 0)
            if depth > MAX_DEPTH or signs > MAX_SIGNS:
                raise Rejected(
                    "slow", f"brackets or signs nested deeper than {MAX_DEPTH}", number
                )


def outline(module: ast.Module) -> tuple[ast.FunctionDef, dict[str, float]]:
    """The function and the parameters; everything else at top level is refused."""
    function: ast.FunctionDef | None = None
    params: dict[str, float] | None = None
    for node in module.body:
        if isinstance(node, ast.FunctionDef) and function is None:
            function = node
        elif isinstance(node, ast.FunctionDef):
            raise Rejected("schema", "a second function stands here", node.lineno)
        elif isinstance(node, ast.Assign) and _is_params(node):
            if params is not None:
                raise Rejected("schema", "PARAMS stands twice", node.lineno)
            params = _params(node.value)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            check_import(node)
        elif not is_text(node):
            raise Rejected(
                "forbidden",
                "only PARAMS = {...} and one function reward() may stand here",
                node.lineno,
            )
    if function is None:
        raise Rejected(
            "schema",
            "expected a function: def reward(prev, action, now, params):",
            (module.body[-1].end_lineno or 1) if module.body else 1,
        )
    _check_signature(function)
    return function, params or {}


def _is_params(node: ast.Assign) -> bool:
    target = node.targets[0]
    return (
        len(node.targets) == 1
        and isinstance(target, ast.Name)
        and target.id == "PARAMS"
    )


def is_text(node: ast.stmt) -> bool:
    """A docstring, or another text that stands by itself."""
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )


def _check_signature(function: ast.FunctionDef) -> None:
    args = function.args
    names = tuple(arg.arg for arg in args.args)
    plain = not (
        args.vararg
        or args.kwarg
        or args.kwonlyargs
        or args.posonlyargs
        or args.defaults
        or function.decorator_list
    )
    if function.name != "reward" or names not in (ARGUMENTS, ARGUMENTS[:3]):
        raise Rejected(
            "schema",
            "expected def reward(prev, action, now, params), got "
            f"def {function.name[:MAX_NAME]}({', '.join(names)[:80]})",
            function.lineno,
        )
    if not plain:
        raise Rejected(
            "forbidden",
            "reward() takes plain arguments and no decorator",
            function.lineno,
        )


def _params(node: ast.expr) -> dict[str, float]:
    if not isinstance(node, ast.Dict):
        raise Rejected(
            "schema",
            f"PARAMS is a dictionary of numbers, not {words(node)}",
            node.lineno,
        )
    found: dict[str, float] = {}
    for key, value in zip(node.keys, node.values, strict=True):
        if not (isinstance(key, ast.Constant) and isinstance(key.value, str)):
            raise Rejected(
                "schema", 'names in PARAMS are written "like_this"', value.lineno
            )
        name = checked_name(key.value, key.lineno)
        if name in found:
            raise Rejected("schema", f"{name!r} stands twice in PARAMS", key.lineno)
        found[name] = _plain_number(value)
    if len(found) > MAX_PARAMS:
        raise Rejected("slow", f"more than {MAX_PARAMS} params", node.lineno)
    return found


def _plain_number(node: ast.expr) -> float:
    sign = 1.0
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        node, sign = node.operand, -1.0
    if (
        isinstance(node, ast.Constant)
        and isinstance(node.value, int | float)
        and not isinstance(node.value, bool)
    ):
        try:
            literal = build.literal(float(node.value))
        except (Rejected, OverflowError):
            raise Rejected("forbidden", TOO_LARGE, node.lineno) from None
        return sign * float(literal.value or 0.0)
    raise Rejected(
        "schema", f"values in PARAMS are plain numbers, not {words(node)}", node.lineno
    )


def checked_name(name: str, line: int | None) -> str:
    """``name`` if it is a plain one; Rejected otherwise."""
    if not (name.isascii() and name.isidentifier()) or name.startswith("_"):
        raise Rejected(
            "forbidden",
            f"{name[:MAX_NAME]!r} is no plain name: letters, digits and _ only",
            line,
        )
    if len(name) > MAX_NAME:
        raise Rejected("forbidden", f"a name is longer than {MAX_NAME}", line)
    return name

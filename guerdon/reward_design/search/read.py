"""A model's answer, read and never run."""

from __future__ import annotations

import ast
import json
import re
from typing import NamedTuple

from guerdon.llm.client import ModelError
from guerdon.llm.parse import extract_code, quote
from guerdon.reward_design.language import Rejected, Tree, parse, to_source
from guerdon.reward_design.language.grammar import from_json
from guerdon.reward_design.language.outline import syntax
from guerdon.types import ActionSpec, Failure, Layout

SHOWN = 4000
"""Letters of an answer that is no program that are kept."""

_PLAN = re.compile(r"^# ?plan\b:?(.*)", re.IGNORECASE | re.MULTILINE)


class FullPython(NamedTuple):
    """A text that defines a reward and that only Python can say; nobody has run it."""

    text: str


def read_answer(
    text: str, layout: Layout, action: ActionSpec, full_python: bool = False
) -> tuple[Tree | FullPython | Failure, str]:
    """The program in an answer, and the text that it was read from.

    Args:
        text: the whole answer.
        layout: the features of the task.
        action: the actions of the task.
        full_python: take a module with a function ``reward`` that the language refuses.

    Returns:
        A program of the language where the text is one; a failure says why it is
        nothing at all.
    """
    try:
        if _is_json(text):
            tree = from_json(text, layout, action)
            return tree, to_source(tree)
        code = extract_code(text)
    except Rejected as error:
        return error.failure, text[:SHOWN]
    except ModelError as error:
        return Failure("syntax", error.message), text[:SHOWN]
    try:
        return parse(code, layout, action), code
    except Rejected as error:
        if full_python and _defines_reward(code):
            return FullPython(code), code
        return error.failure, code


def _defines_reward(code: str) -> bool:
    """Whether a text is a module of Python with a function ``reward``.

    The caps of the language on size and depth hold here too: Python's own parser can
    be made to break down.
    """
    try:
        body = syntax(code).body
    except Rejected:
        return False
    return any(
        isinstance(node, ast.FunctionDef) and node.name == "reward" for node in body
    )


def plan_of(text: str) -> str:
    """The model's one-line plan, for people to read."""
    if _is_json(text):
        try:
            return quote(str(json.loads(text).get("plan", "")), 160)
        except (ValueError, RecursionError, AttributeError):
            return ""
    found = _PLAN.search(text)
    return quote(found[1].strip(), 160) if found else ""


def _is_json(text: str) -> bool:
    """Whether an answer is in the form of ``json_schema``."""
    return '"terms"' in text and text.lstrip().startswith("{")

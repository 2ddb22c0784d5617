"""The language and a task's features in words: what a model reads, and a person."""

from __future__ import annotations

import math
from collections.abc import Sequence

from guerdon.llm.parse import quote
from guerdon.reward_design.language.table import FUNCTIONS
from guerdon.types import ActionSpec, Feature, Layout

_HALF_PAGE = """\
A reward program is a small Python function. It names its weights in PARAMS and
returns a dictionary of named terms; their sum is the reward.

PARAMS = {{"w": 0.5}}
def reward(prev, action, now, params):
    gain = now.FEATURE - prev.FEATURE
    return {{"gain": params.w * gain}}

- prev.NAME and now.NAME are the features before and after the step; use only the
  features in the table. {action}
- A flag is true or false; in arithmetic it counts as 1 or 0.
- Allowed: + - * / **, < <= > >= == !=, and or not, x if flag else y, if / elif /
  else, for v in VECTOR, local variables, numbers.
- Functions: {functions}.
- Memory within one episode: {registers}.
- Nothing else exists: no imports, no other names, no strings, no calls of methods.
- return stands once, as the last line."""


def half_page(action: ActionSpec) -> str:
    """The whole language in half a page, made from its table."""
    plain = [n for n, f in FUNCTIONS.items() if not f.register]
    registers = [f"{n}(x): {f.meaning}" for n, f in FUNCTIONS.items() if f.register]
    if action.kind == "discrete":
        words = "action is the index of the chosen action."
    else:
        words = f"action is a vector of {action.size} numbers."
    return _HALF_PAGE.format(
        action=words, functions=", ".join(plain), registers="; ".join(registers)
    )


def feature_table(layout: Layout, order: Sequence[int] | None = None) -> str:
    """One line per feature: name, type, unit, range, meaning, which way is better.

    Args:
        layout: the features.
        order: a permutation; small models prefer what stands first, so a search
            shuffles the table on every call.
    """
    places = range(len(layout)) if order is None else order
    return "\n".join(feature_line(layout.features[i]) for i in places)


def feature_line(feature: Feature) -> str:
    """``- height (number, m, 0 to 2): height of the torso; higher is better``."""
    kind = feature.kind
    if feature.shape:
        kind_words = f"vector of {feature.size}"
    else:
        kind_words = "flag" if kind == "flag" else "number"
    details = [kind_words]
    if feature.unit:
        details.append(_plain(feature.unit))
    if kind == "number" and math.isfinite(feature.low) and math.isfinite(feature.high):
        details.append(f"{feature.low:g} to {feature.high:g}")
    text = f"- {feature.name} ({', '.join(details)}): {_plain(feature.meaning)}"
    if feature.better is not None:
        word = "true" if feature.better == "higher" else "false"
        word = word if kind == "flag" else feature.better
        text += f"; {word} is better"
    return text


def _plain(text: str) -> str:
    """Words of a task, which may come from a game, on one line of a prompt."""
    return " ".join(quote(text, 400).split())


def action_line(action: ActionSpec) -> str:
    """The actions in one line."""
    if action.kind == "discrete":
        if not action.names:
            return f"action: one of 0 to {action.size - 1}"
        names = ", ".join(f"{i} {_plain(n)}" for i, n in enumerate(action.names))
        return f"action: one of {names}"
    names = f" ({', '.join(map(_plain, action.names))})" if action.names else ""
    bounds = ""
    if action.low and action.high:
        bounds = f", {min(action.low):g} to {max(action.high):g}"
    return f"action: a vector of {action.size} numbers{names}{bounds}"

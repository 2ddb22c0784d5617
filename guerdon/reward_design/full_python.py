"""Rewards in full Python: what the language cannot say, and what must run in the jail.

The text is executed. ``full_python_terms`` therefore refuses to work in a process that
is not confined by ``guerdon.jail``, unless it is told that this is meant. What such a
reward says about itself is never believed: the true score is computed elsewhere.
"""

from __future__ import annotations

import math
import types
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from guerdon.jail import is_confined
from guerdon.reward_design.actions import require_actions
from guerdon.reward_design.borders import namespace
from guerdon.reward_design.program import State, Terms
from guerdon.types import MAX_NAME, ActionSpec, Array, Batch, Features, Layout

MAX_TEXT = 64_000
"""Letters of the longest text."""

MAX_TERMS = 64


class BadReward(Exception):
    """The text is no reward: it raises, or gives something else than terms."""


def full_python_terms(
    text: str, layout: Layout, action: ActionSpec, *, unsafe: bool = False
) -> Terms:
    """Terms of a Python function of a batch; the text is EXECUTED here and now.

        def reward(prev, action, now, params):
            return {"near": np.exp(-now.distance), "done": now.at_goal}

    ``prev`` and ``now`` have a read-only array per feature, ``(N,)`` or ``(N, k)``;
    ``action`` is ``(N,)`` or ``(N, A)``; every term is ``(N,)`` or a number. ``np``,
    ``math`` and, where it is loaded, ``torch`` are there; ``PARAMS`` may be a
    dictionary of numbers, which ``params`` has as attributes.

    Args:
        text: source of a module with a function ``reward``.
        layout: the features of the task.
        action: the actions of the task.
        unsafe: run it in a process that is not confined.

    Raises:
        PermissionError: when this process is not confined.
        BadReward: when the text does not run, or what it gives are no terms.
    """
    if not unsafe and not is_confined():
        raise PermissionError(
            "a reward in full Python is only run in the jail: use --trust jail"
        )
    function, params = _load(text)
    names = tuple(_called(function, params, _example(layout, action)))
    _check_names(names)

    def apply(state: State, batch: Batch) -> tuple[Array, State]:
        require_actions(action, batch.action, batch.mask)
        found = _called(function, params, batch)
        if tuple(found) != names:
            raise BadReward(f"reward(): expected the terms {names}, got {tuple(found)}")
        lead = np.shape(batch.reward)
        values = np.empty((*lead, len(names)))
        for place, name in enumerate(names):
            values[..., place] = _column(name, found[name], lead)
        return values, state

    return Terms(names, lambda spec: None, apply, text)


def _load(text: str) -> tuple[Callable[..., Any], types.SimpleNamespace]:
    if len(text) > MAX_TEXT:
        raise BadReward(f"expected at most {MAX_TEXT} letters, got {len(text)}")
    import sys

    scope: dict[str, Any] = {"__name__": "reward", "np": np, "numpy": np, "math": math}
    if "torch" in sys.modules:
        scope["torch"] = sys.modules["torch"]
    try:
        exec(compile(text, "<reward>", "exec", dont_inherit=True), scope)
    except (Exception, SystemExit) as error:
        raise BadReward(_blame(error)) from None
    function = scope.get("reward")
    if not callable(function):
        raise BadReward("expected a function reward(prev, action, now, params)")
    given = scope.get("PARAMS", {})
    if not isinstance(given, dict):
        raise BadReward("PARAMS: expected a dictionary of numbers")
    return function, types.SimpleNamespace(**{str(k): v for k, v in given.items()})


def _called(
    function: Callable[..., Any], params: types.SimpleNamespace, batch: Batch
) -> Mapping[str, Any]:
    """What the function gives, if it is a mapping."""
    try:
        found = function(
            _seen(batch.prev), _seen(batch.action), _seen(batch.now), params
        )
    except (Exception, SystemExit) as error:
        raise BadReward(_blame(error)) from None
    if not isinstance(found, Mapping):
        raise BadReward(
            "reward(): expected a dictionary of terms, got "
            f"{type(found).__name__[:MAX_NAME]}"
        )
    return found


def _seen(values: Features | Array) -> Any:
    """A copy that nobody else looks at, read-only so that a slip is noticed."""
    if isinstance(values, Features):
        columns = {name: _seen(values[name]) for name in values}
        return types.SimpleNamespace(**columns)
    copy = np.array(values)
    copy.flags.writeable = False
    return copy


def _column(name: str, value: Any, lead: tuple[int, ...]) -> Array:
    """A term as doubles that fit into its column."""
    if namespace(value) is not np:
        value = value.detach().cpu().numpy()
    try:
        column = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError, OverflowError):
        raise BadReward(
            f"term {name!r}: expected numbers, got {type(value).__name__[:MAX_NAME]}"
        ) from None
    if column.shape not in ((), lead):
        raise BadReward(f"term {name!r}: expected shape {lead}, got {column.shape}")
    return column


def _check_names(names: tuple[Any, ...]) -> None:
    if not 0 < len(names) <= MAX_TERMS:
        raise BadReward(f"expected 1 to {MAX_TERMS} terms, got {len(names)}")
    for name in names:
        if not (
            isinstance(name, str) and name.isidentifier() and len(name) <= MAX_NAME
        ):
            raise BadReward(
                f"expected identifiers of at most {MAX_NAME} letters as names of "
                f"terms, got {str(name)[:MAX_NAME]!r}"
            )


def _example(layout: Layout, action: ActionSpec) -> Batch:
    """Two transitions of zeros within the bounds, to learn the names of the terms."""
    row = np.concatenate(
        [
            np.full(f.size, np.clip(0.0, f.low, f.high), dtype=np.float32)
            for f in layout.features
        ]
    )
    rows = Features(layout, np.stack([row, row]))
    zeros, never = np.zeros(2, np.float32), np.zeros(2, np.bool_)
    discrete = action.kind == "discrete"
    actions = np.zeros(2, np.int64) if discrete else np.zeros((2, action.size), "f4")
    return Batch(None, actions, None, rows, rows, zeros, never, never)


def _blame(error: Exception | SystemExit) -> str:
    """An error with its line in the text."""
    line = error.lineno if isinstance(error, SyntaxError) else None
    trace = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == "<reward>":
            line = trace.tb_lineno
        trace = trace.tb_next
    where = f"line {line}: " if line else ""
    if isinstance(error, SystemExit):
        # It would end the process that trains, which nobody could tell from a crash.
        return f"{where}the reward ends the program (SystemExit); let it give terms"
    return f"{where}{type(error).__name__}: {str(error)[:300]}"

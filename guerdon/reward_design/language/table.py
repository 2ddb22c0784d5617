"""The one table of the reward language: every function and operator it has.

The parser, the printer, the code generators, the JSON schema and the half page that a
language model reads are made from this table; the grammar for constrained decoding and
the sampler take from it what a level or a vector is put through. A name that is not
here does not exist in the language.

Every function is total: finite numbers in, a finite number out.

- division by less than ``TINY`` in magnitude gives 0;
- ``exp`` stops growing at ``exp(100)``, ``log`` at ``log(1e-12)``;
- ``sqrt`` of a negative number is 0, a power that has no real value is 0;
- anything that could pass ``HUGE`` is clamped to it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

TINY = 1e-9
HUGE = 1e150
EXP_MAX = 100.0
LOG_MIN = 1e-12
MAX_CONSTANT = 1e9

Argument = Literal["number", "flag", "vector", "elementwise"]
"""``elementwise`` takes a number or a vector; a number is spread over a vector."""

Result = Literal["number", "flag", "elementwise"]


@dataclass(frozen=True, slots=True)
class Function:
    """One function that a reward may call.

    Args:
        name: as it is written in a program.
        arguments: what it takes, in order.
        result: what it gives.
        meaning: one phrase for people and language models.
        variadic: the last argument may be repeated, up to six in all.
        register: remembers something within an episode.
        level: whether the grammar and the sampler put a single value through it, where
            it takes one; what explodes by itself they only use in forms that do not.
    """

    name: str
    arguments: tuple[Argument, ...]
    result: Result
    meaning: str
    variadic: bool = False
    register: bool = False
    level: bool = True


_E: Argument = "elementwise"

FUNCTIONS: dict[str, Function] = {
    function.name: function
    for function in (
        Function("abs", (_E,), "elementwise", "absolute value"),
        Function("exp", (_E,), "elementwise", "exponential", level=False),
        Function("log", (_E,), "elementwise", "natural logarithm", level=False),
        Function("sqrt", (_E,), "elementwise", "square root"),
        Function("square", (_E,), "elementwise", "x * x"),
        Function("tanh", (_E,), "elementwise", "between -1 and 1"),
        Function("sin", (_E,), "elementwise", "sine of radians"),
        Function("cos", (_E,), "elementwise", "cosine of radians"),
        Function("sign", (_E,), "elementwise", "-1, 0 or 1", level=False),
        Function("min", (_E, _E), "elementwise", "smallest", variadic=True),
        Function("max", (_E, _E), "elementwise", "largest", variadic=True),
        Function("clip", (_E, "number", "number"), "elementwise", "clip(x, low, high)"),
        Function("where", ("flag", _E, _E), "elementwise", "where(flag, yes, no)"),
        Function("sum", ("vector",), "number", "sum of a vector"),
        Function("mean", ("vector",), "number", "mean of a vector"),
        Function("norm", ("vector",), "number", "Euclidean length of a vector"),
        Function("largest", ("vector",), "number", "largest entry of a vector"),
        Function("smallest", ("vector",), "number", "smallest entry of a vector"),
        Function("dot", ("vector", "vector"), "number", "scalar product"),
        Function(
            "first_time",
            ("flag",),
            "flag",
            "true once per episode, when the flag first holds",
            register=True,
        ),
        Function(
            "delta",
            ("number",),
            "number",
            "change since the step before, 0 at the first step",
            register=True,
        ),
        Function(
            "previous_best",
            ("number",),
            "number",
            "largest value at earlier steps of the episode",
            register=True,
        ),
        Function(
            "count",
            ("flag",),
            "number",
            "steps of the episode so far at which the flag held",
            register=True,
        ),
    )
}


def shapers() -> list[str]:
    """Functions that a level is put through, by the grammar and by the sampler."""
    return [
        name
        for name, f in FUNCTIONS.items()
        if f.arguments == (_E,) and f.level and not f.register
    ]


def reducers() -> list[str]:
    """Functions that make a number of one vector."""
    return [name for name, f in FUNCTIONS.items() if f.arguments == ("vector",)]


ALIASES = {
    "fabs": "abs",
    "absolute": "abs",
    "minimum": "min",
    "maximum": "max",
    "clamp": "clip",
    "linalg.norm": "norm",
    "power": "pow",
}
"""What models write by habit for a function of ours; modules before it are dropped."""

MODULES = frozenset({"np", "numpy", "math", "torch"})

CONSTANTS = {"pi": math.pi, "e": math.e}
"""Numbers with a name."""

BINARY = {"add": "+", "sub": "-", "mul": "*", "div": "/", "pow": "**"}
COMPARE = {"lt": "<", "le": "<=", "gt": ">", "ge": ">=", "eq": "==", "ne": "!="}
COMMUTATIVE = frozenset({"add", "mul", "min", "max", "and", "or", "eq", "ne", "dot"})


SIMPLE, DIVISION, TRANSCENDENTAL = 1, 4, 8
"""What an operation counts: +, -, *, a comparison with the choice that hangs on it and
a move 1; a division, a remainder and a square root 4; a transcendental function 8.

Reference: McMahon (1986), The Livermore Fortran Kernels, UCRL-53745, which counts the
same; moves count nothing there.
"""


@dataclass(frozen=True, slots=True)
class Lowered:
    """How one scalar operation is printed.

    Args:
        scalar: Python and numba, arguments are local names or literals.
        array: NumPy and torch, ``a_*`` names come from the backend.
        work: what it costs a transition, the dearer of the two; see ``work.py``.
    """

    scalar: str
    array: str
    work: int = SIMPLE


_SCALAR_EXP = f"m_exp({{0}} if {{0}} < {EXP_MAX} else {EXP_MAX})"
_SCALAR_LOG = f"m_log({{0}} if {{0}} > {LOG_MIN} else {LOG_MIN})"

LOWERED: dict[str, Lowered] = {
    "neg": Lowered("-{0}", "-{0}"),
    "abs": Lowered("abs({0})", "abs({0})"),
    "exp": Lowered(
        _SCALAR_EXP, f"a_exp(a_min({{0}}, {EXP_MAX}))", SIMPLE + TRANSCENDENTAL
    ),
    "log": Lowered(
        _SCALAR_LOG, f"a_log(a_max({{0}}, {LOG_MIN}))", SIMPLE + TRANSCENDENTAL
    ),
    "sqrt": Lowered(
        "m_sqrt({0} if {0} > 0.0 else 0.0)",
        "a_sqrt(a_max({0}, 0.0))",
        SIMPLE + DIVISION,
    ),
    "tanh": Lowered("m_tanh({0})", "a_tanh({0})", TRANSCENDENTAL),
    "sin": Lowered("m_sin({0})", "a_sin({0})", TRANSCENDENTAL),
    "cos": Lowered("m_cos({0})", "a_cos({0})", TRANSCENDENTAL),
    "sign": Lowered(
        "1.0 if {0} > 0.0 else (-1.0 if {0} < 0.0 else 0.0)",
        "a_sign({0})",
        2 * SIMPLE,
    ),
    "number": Lowered("1.0 if {0} else 0.0", "a_number({0})"),
    "clamp": Lowered(
        f"{{0}} if -{HUGE} < {{0}} < {HUGE} else ({HUGE} if {{0}} > 0.0 else -{HUGE})",
        f"a_min(a_max({{0}}, -{HUGE}), {HUGE})",
        3 * SIMPLE,
    ),
    "add": Lowered("{0} + {1}", "{0} + {1}"),
    "sub": Lowered("{0} - {1}", "{0} - {1}"),
    "mul": Lowered("{0} * {1}", "{0} * {1}"),
    "div": Lowered(
        f"{{0}} / {{1}} if abs({{1}}) >= {TINY} else 0.0",
        "a_div({0}, {1})",
        4 * SIMPLE + DIVISION,
    ),
    "quotient": Lowered("{0} / {1}", "{0} / {1}", DIVISION),
    "pow": Lowered(
        "m_pow({0}, {1})",
        "a_pow({0}, {1})",
        21 * SIMPLE + DIVISION + 2 * TRANSCENDENTAL,
    ),
    "min": Lowered("{0} if {0} < {1} else {1}", "a_min({0}, {1})"),
    "max": Lowered("{0} if {0} > {1} else {1}", "a_max({0}, {1})"),
    "lt": Lowered("{0} < {1}", "{0} < {1}"),
    "le": Lowered("{0} <= {1}", "{0} <= {1}"),
    "gt": Lowered("{0} > {1}", "{0} > {1}"),
    "ge": Lowered("{0} >= {1}", "{0} >= {1}"),
    "eq": Lowered("{0} == {1}", "{0} == {1}"),
    "ne": Lowered("{0} != {1}", "{0} != {1}"),
    "and": Lowered("{0} and {1}", "a_and({0}, {1})"),
    "or": Lowered("{0} or {1}", "a_or({0}, {1})"),
    "not": Lowered("not {0}", "a_not({0})"),
    "where": Lowered("{1} if {0} else {2}", "a_where({0}, {1}, {2})"),
}
"""Every scalar operation of the generated code; ``quotient`` has a safe divisor."""

REGISTERS = tuple(name for name, f in FUNCTIONS.items() if f.register)

REGISTER_WORK = {"first_time": 9, "delta": 3, "previous_best": 4, "count": 7}
"""What a register costs a transition, where the block is one step."""

BEST_WORK = 5
"""What each ``previous_best`` costs more for every doubling of a block."""

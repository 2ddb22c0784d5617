"""What a hostile reward program is, and what must become of it.

The eight categories: A object escapes, B gadgets of NumPy and torch, C tampering with
observations or the score, D processor time, E memory, F the parser, G outputs, H the
jail. All are written for the features of ``guerdon/CartPole-v1``.

What becomes of a program in the language: a line number, where it is refused in that
line; ``CONSTANT``, where it is read and the screen finds that it tells nothing;
``RUNS``, where it gives finite, clamped numbers.
What becomes of it in the jail, where it is full Python: words (a regular expression)
of its ``Failure``; ``TRAINS``, where it trains and changes no score; None, where it is
not tried there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

RUNS = "runs"
CONSTANT = "constant"
TRAINS = "trains"

HEAD = "def reward(prev, action, now, params):\n"
TAIL = '    return {"a": now.pole_angle}\n'
CANARY = "escaped"
"""File that an escape would make, in the working folder."""

TOUCH = f"touch {CANARY}"


@dataclass(frozen=True)
class Hostile:
    """One program and what must become of it."""

    name: str
    source: str
    language: int | Literal["runs", "constant"] = 2
    jail: str | None = None

    @property
    def category(self) -> str:
        """Letter of the category."""
        return self.name[0]

    @property
    def refused(self) -> bool:
        """Whether the language refuses it."""
        return isinstance(self.language, int)


def value(expression: str) -> str:
    """A program whose one term is ``expression``, in line 2."""
    return f'{HEAD}    return {{"a": {expression}}}\n'


def body(*lines: str) -> str:
    """A harmless program after ``lines``, which begin in line 2."""
    return HEAD + "".join(f"    {line}\n" for line in lines) + TAIL


def top(*lines: str) -> str:
    """A harmless program behind ``lines`` of a module."""
    return "".join(f"{line}\n" for line in lines) + HEAD + TAIL


NUMBERS = "expected numbers"
MISSING = "line 2: (Name|Attribute|Type)Error"

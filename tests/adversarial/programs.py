"""All hostile programs of the suite, by category."""

from __future__ import annotations

from tests.adversarial import burdens, escapes, jail_programs
from tests.adversarial.hostile import Hostile

CATEGORIES: dict[str, list[Hostile]] = {
    "A": escapes.A,
    "B": escapes.B,
    "C": escapes.C,
    "D": burdens.D,
    "E": burdens.E,
    "F": burdens.F,
    "G": burdens.G,
    "H": jail_programs.H,
}

ALL = [program for found in CATEGORIES.values() for program in found]

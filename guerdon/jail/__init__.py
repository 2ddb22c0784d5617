"""Confined workers for rewards that are full Python: Linux only, fail closed.

``Jail`` starts a clean server process and forks confined jobs from it; ``probe`` says
which layers this machine can enforce. Nothing here knows about rewards.
"""

from guerdon.jail.confine import Limits, is_confined
from guerdon.jail.jail import Jail, TooLarge
from guerdon.jail.job import Answer, JailError
from guerdon.jail.layers import Layer, missing, probe

__all__ = [
    "Answer",
    "Jail",
    "JailError",
    "Layer",
    "Limits",
    "TooLarge",
    "is_confined",
    "missing",
    "probe",
]

"""How long a program works, known before it runs.

The number is counted over the straight line that all backends print, where every
operation stands once: loops are unrolled, vectors are apart, what is shared is computed
once. It is weighted as ``table.py`` says (1, 4 for a division or a root, 8 for a
transcendental function), and each operation counts as its dearer form, whole columns
or single numbers. So it bounds what any printed code does for one transition; code for
single numbers, which computes only the branch that is chosen, does less.

Outside of it are the parts that every program has and no text changes: whether the
features are finite, the clamp of the terms and their sum.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

from guerdon.reward_design.language.lower import MAX_WORK, Line, cost, lower
from guerdon.reward_design.language.table import BEST_WORK
from guerdon.reward_design.language.tree import Tree

HEAVY = frozenset({"exp", "log", "tanh", "sin", "cos", "pow"})
"""Operations that call a transcendental function."""


@dataclass(frozen=True, slots=True)
class Work:
    """What a program does for one transition.

    Args:
        operations: weighted operations, at most ``MAX_WORK``.
        transcendental: calls of exp, log, tanh, sin, cos and general powers.
        registers: what is remembered within an episode.
        doubling: operations more a transition for every doubling of a block; nothing
            without ``previous_best``.
    """

    operations: int
    transcendental: int
    registers: int
    doubling: int

    @property
    def limit(self) -> int:
        """Most operations that an accepted program has."""
        return MAX_WORK

    def as_json(self) -> dict[str, int]:
        """The fields and the limit, by name."""
        return {**asdict(self), "limit": self.limit}

    def in_block(self, steps: int) -> int:
        """Operations a transition in blocks of ``steps`` steps.

        Raises:
            ValueError: when there is no step.
        """
        if steps < 1:
            raise ValueError(f"steps: expected at least 1, got {steps}")
        return self.operations + self.doubling * (steps - 1).bit_length()


def predicted_work(tree: Tree) -> Work:
    """What a program will do, counted without running it.

    Args:
        tree: from ``parse``, the sampler or an operator.

    Returns:
        A bound that the printed code of no backend exceeds.

    Raises:
        Rejected: ``slow``, for a tree that works more than ``MAX_WORK``.
        TypeError: for anything that is not a tree.
    """
    return work_of(lower(tree))


def work_of(line: Line) -> Work:
    """``Work`` of a program that is lowered; each term is stored, which is a move."""
    ops = [operation.op for operation in line.operations]
    return Work(
        operations=len(line.outputs) + sum(map(cost, ops)),
        transcendental=sum(op in HEAVY for op in ops),
        registers=len(line.registers),
        doubling=BEST_WORK * ops.count("previous_best"),
    )

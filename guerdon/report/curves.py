"""The learning curves of a run, for the chart and for the words under it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from guerdon.journal import TrainingRecord
from guerdon.report.measure import Curve, curve


class Curves(NamedTuple):
    """The true score of trainings over their steps."""

    others: list[Curve]
    """Of each candidate but the winner that has a line."""
    named: dict[str, Curve]
    """Of the winner and the references."""
    dropped: int
    """Candidates without a line: they went when of their episodes only the quick
    successes had ended."""

    @property
    def all(self) -> list[Curve]:
        """Those that are drawn."""
        return [*self.others, *self.named.values()]


def curves_of(
    others: Iterable[Iterable[TrainingRecord]],
    named: Mapping[str, Iterable[TrainingRecord]],
) -> Curves:
    """The curves of candidates and of rewards that have a name, in their order."""
    lines = [line for one in others if (line := curve(one, "fitness")) is not None]
    known = {
        name: line
        for name, one in named.items()
        if (line := curve(one, "fitness")) is not None
    }
    most = max((len(line.steps) for line in [*lines, *known.values()]), default=0)
    drawn = [line for line in lines if len(line.steps) > 1 or most == 1]
    return Curves(drawn, known, len(lines) - len(drawn))

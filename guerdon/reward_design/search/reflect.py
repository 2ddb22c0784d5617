"""From a training's numbers to a few lines that the next prompt shows.

Everything here is numbers of ours, rounded; no text of a model passes through.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

POINTS = 5
"""Points of a curve that are shown; a small model reads no more."""


def _points(values: Sequence[float | None]) -> str:
    """A curve thinned to ``POINTS``, without windows in which no episode ended."""
    known = [v for v in values if v is not None]
    if not known:
        return "no finished episode"
    chunks = np.array_split(np.array(known), min(POINTS, len(known)))
    return " ".join(f"{chunk.mean():.3g}" for chunk in chunks)


def statistics(
    fitness: float,
    success: float,
    curve: Mapping[str, Sequence[float | None]],
    terms: Mapping[str, Sequence[float | None]],
    best: float | None = None,
) -> str:
    """What came out of training with a reward, in a dozen short lines.

    Args:
        fitness: mean true score after training.
        success: share of solved episodes, 0 to 1.
        curve: ``fitness`` and ``length`` over the training, None where no episode
            ended.
        terms: sum per episode of every term over the training.
        best: best true score of the search so far.
    """
    lines = [f"- true score after training: {fitness:.3g}; solved {success:.0%}"]
    if best is not None:
        lines.append(f"- best true score of any program so far: {best:.3g}")
    for name, words in (("fitness", "true score"), ("length", "episode length")):
        if name in curve:
            lines.append(f"- {words} during training: {_points(curve[name])}")
    shares = term_shares(terms)
    for name, values in terms.items():
        lines.append(
            f"- term {name}, sum per episode: {_points(values)} "
            f"({shares[name]:.0%} of the reward)"
        )
    lines += [f"- {advice}" for advice in diagnoses(success, shares, terms)]
    return "\n".join(lines)


def term_shares(terms: Mapping[str, Sequence[float | None]]) -> dict[str, float]:
    """Share of every term in the magnitude of the designed return."""
    sizes = {
        name: float(np.mean([abs(v) for v in values if v is not None] or [0.0]))
        for name, values in terms.items()
    }
    total = sum(sizes.values())
    return {name: size / total if total > 0 else 0.0 for name, size in sizes.items()}


def diagnoses(
    success: float,
    shares: Mapping[str, float],
    terms: Mapping[str, Sequence[float | None]],
) -> list[str]:
    """One short sentence for every thing that looks wrong."""
    found = []
    paying = sum(share > 0.0 for share in shares.values())
    for name, values in terms.items():
        known = [v for v in values if v is not None]
        if name == "task" or not known:
            continue
        if max(abs(v) for v in known) < 1e-6:
            found.append(f"{name} never fired: drop it or write another condition")
        elif shares[name] > 0.9 and success < 0.5 and paying > 1:
            found.append(f"{name} drowns the others: make it smaller")
        elif known[-1] > 2 * max(known[0], 0.1) and success < 0.1:
            found.append(
                f"{name} grows while the task stays unsolved: it is collected "
                "again and again, reward the change instead"
            )
    if not found and success < 0.1:
        found.append("the terms do not lead to the goal: reward an earlier step")
    return found

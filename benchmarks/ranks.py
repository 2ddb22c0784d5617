"""How alike two rankings are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy import stats


def agreement(
    ours: Sequence[float | None], theirs: Sequence[float | None]
) -> dict[str, Any]:
    """Spearman's rank correlation of two lists of scores, with its interval."""
    pairs = np.array(
        [
            (a, b)
            for a, b in zip(ours, theirs, strict=True)
            if a is not None and b is not None
        ]
    )
    return spearman(pairs[:, 0], pairs[:, 1])


def spearman(
    first: np.ndarray, second: np.ndarray, draws: int = 2000
) -> dict[str, Any]:
    """The correlation and its 95 % bootstrap interval; None where all are tied."""
    rng = np.random.default_rng(0)

    def one(places: np.ndarray) -> float:
        a, b = first[places], second[places]
        if np.ptp(a) == 0 or np.ptp(b) == 0:
            return float("nan")
        return float(stats.spearmanr(a, b).statistic)

    count = len(first)
    value = one(np.arange(count))
    if count < 3 or np.isnan(value):
        return {"spearman": None, "low": None, "high": None, "count": count}
    drawn = np.array([one(rng.integers(0, count, count)) for _ in range(draws)])
    low, high = np.nanpercentile(drawn, [2.5, 97.5])
    return {"spearman": value, "low": float(low), "high": float(high), "count": count}

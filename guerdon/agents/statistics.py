"""Numbers over seeds and episodes: interquartile means, intervals, normalised scores.

Reference: Agarwal et al., "Deep Reinforcement Learning at the Edge of the
Statistical Precipice" (NeurIPS 2021), sections 4.2 and 4.3.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from guerdon.types import Estimate

TINY_GAP = 1e-8
"""A human score closer than this to the sparse one gives no scale to measure by."""


def _finite(values: Sequence[float], what: str) -> npt.NDArray[np.float64]:
    data = np.asarray(values, dtype=np.float64)
    if data.ndim != 1 or data.size == 0:
        raise ValueError(f"{what}: expected at least one number, got {list(values)}")
    if not np.isfinite(data).all():
        raise ValueError(f"{what}: expected finite numbers, got {list(values)}")
    return data


def iqm(values: Sequence[float]) -> float:
    """Interquartile mean: the mean of what is left without the outer quarters.

    Args:
        values: ``(n,)`` finite scores, one per seed or episode.

    Returns:
        The mean without the ``floor(n / 4)`` lowest and highest values.

    Raises:
        ValueError: when ``values`` is empty or not finite.

    >>> iqm([0.0, 1.0, 2.0, 100.0])
    1.5
    """
    from scipy.stats import trim_mean

    return float(trim_mean(_finite(values, "iqm"), 0.25))


def interval(
    values: Sequence[float],
    seed: int = 0,
    *,
    trim: float = 0.25,
    confidence: float = 0.95,
    resamples: int = 2000,
) -> Estimate:
    """The IQM, or another trimmed mean, with its percentile bootstrap interval.

    The percentile method is the one of the reference; the corrected ones (BCa)
    divide by a jackknife variance that vanishes for the few and often equal scores
    that seeds give.

    Args:
        values: ``(n,)`` finite scores.
        seed: seed of the resampling; the same one gives the same interval.
        trim: share that is left out at either end: 0.25 for the IQM, which suits
            seeds; 0 for the mean, which suits episodes, most of which may be equal.
        confidence: probability that the interval is meant to cover.
        resamples: number of bootstrap samples.

    Returns:
        The estimate. One value, or equal values, give an interval without width:
        ``n`` then says how little it stands on.

    Raises:
        ValueError: when ``values`` is empty or not finite.
    """
    from scipy.stats import bootstrap, trim_mean

    data = _finite(values, "interval")
    value = float(trim_mean(data, trim))
    if data.size == 1 or np.ptp(data) == 0.0:
        return Estimate(value, value, value, int(data.size))

    def statistic(sample: npt.NDArray[np.float64], axis: int) -> Any:
        return trim_mean(sample, trim, axis=axis)

    result: Any = bootstrap(
        [data],
        statistic,
        n_resamples=resamples,
        confidence_level=confidence,
        method="percentile",
        vectorized=True,
        rng=np.random.default_rng(seed),
    )
    low, high = result.confidence_interval
    return Estimate(value, float(low), float(high), int(data.size))


def mean_bands(
    values: npt.NDArray[np.float64], seed: int = 0, *, confidence: float = 0.95
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Percentile bootstrap intervals of the mean at every point of a curve.

    Args:
        values: ``(S, P)`` finite, a row a seed; seeds are drawn whole, so that what
            belongs together stays together.
        seed: seed of the resampling.
        confidence: probability that the interval of one point is meant to cover.

    Returns:
        Lower and upper ends, each ``(P,)``; those of one seed are the seed.

    >>> low, high = mean_bands(np.array([[0.0, 1.0], [1.0, 1.0]]))
    >>> print(low, high)
    [0. 1.] [1. 1.]
    """
    seeds = len(values)
    if seeds == 1:
        return values[0], values[0]
    drawn = np.random.default_rng(seed).multinomial(
        seeds, np.full(seeds, 1.0 / seeds), size=2000
    )
    tail = (1.0 - confidence) / 2.0
    low, high = np.quantile(drawn @ values / seeds, [tail, 1.0 - tail], axis=0)
    return low, high


def share_interval(values: Sequence[float], confidence: float = 0.95) -> Estimate:
    """Share of episodes that succeeded, with Wilson's score interval.

    The interquartile mean of zeros and ones would hide any share below a quarter.

    Args:
        values: ``(n,)`` zeros and ones.
        confidence: probability that the interval is meant to cover.

    Raises:
        ValueError: when ``values`` is empty or holds anything but 0 and 1.

    Reference: Wilson, "Probable Inference, the Law of Succession, and Statistical
    Inference" (JASA 1927).

    >>> print(share_interval([1.0, 0.0, 1.0, 1.0]))
    0.75 [0.301, 0.954] (n=4)
    """
    from scipy.stats import binomtest

    data = _finite(values, "share_interval")
    if not np.isin(data, (0.0, 1.0)).all():
        raise ValueError(f"share_interval: expected zeros and ones, got {list(values)}")
    result: Any = binomtest(int(data.sum()), int(data.size))
    found = result.proportion_ci(confidence, method="wilson")
    return Estimate(
        float(data.mean()), float(found.low), float(found.high), int(data.size)
    )


def human_normalised(method: float, sparse: float, human: float) -> float | None:
    """How far a method gets on the way from the sparse to the human reward.

    ``(method - sparse) / |human - sparse|``: 0 is the sparse reward, 1 the human
    one where the human one helps.

    Args:
        method: score of the method.
        sparse: score of the sparse reward.
        human: score of the human-designed reward.

    Returns:
        The normalised score, or None when human and sparse score the same.

    Reference: Ma et al., "Eureka" (ICLR 2024), section 4.1.

    >>> human_normalised(0.9, 0.1, 0.5)
    2.0
    """
    gap = abs(human - sparse)
    return None if gap < TINY_GAP else (method - sparse) / gap

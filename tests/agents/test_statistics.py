import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from guerdon.agents.statistics import human_normalised, interval, iqm
from guerdon.types import Estimate

scores = st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=30)


@pytest.mark.parametrize(
    ("values", "mean"),
    [
        ([5.0], 5.0),
        ([0.0, 1.0, 2.0], 1.0),
        ([0.0, 1.0, 3.0, 100.0], 2.0),
        ([9.0, 1.0, 2.0, 3.0, -7.0], 2.0),
        ([8.0, 7.0, 6.0, 5.0, 4.0, 3.0, 2.0, 1.0], 4.5),
    ],
)
def test_iqm_is_the_mean_without_the_outer_quarters(
    values: list[float], mean: float
) -> None:
    assert iqm(values) == pytest.approx(mean)


@given(scores)
def test_iqm_agrees_with_sorting_and_cutting(values: list[float]) -> None:
    cut = len(values) // 4
    kept = sorted(values)[cut : len(values) - cut]
    assert iqm(values) == pytest.approx(np.mean(kept), abs=1e-9)


@given(scores)
def test_the_interval_lies_within_the_scores_and_repeats(values: list[float]) -> None:
    one, two = (interval(values, 3, resamples=50) for _ in range(2))
    assert one == two
    slack = 1e-9
    assert min(values) - slack <= one.low <= one.high <= max(values) + slack
    assert one.value == iqm(values)
    assert one.n == len(values)


def test_equal_scores_give_an_interval_without_width() -> None:
    assert interval([0.3] * 7) == Estimate(0.3, 0.3, 0.3, 7)
    assert interval([2.0]) == Estimate(2.0, 2.0, 2.0, 1)


def test_the_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    hits = 0
    for trial in range(200):
        estimate = interval(
            rng.normal(1.0, 1.0, size=20).tolist(), trial, resamples=200
        )
        hits += estimate.low <= 1.0 <= estimate.high
    # The percentile bootstrap is a little short at n = 20; 95 % is its limit.
    assert 0.85 <= hits / 200 <= 0.99


@pytest.mark.parametrize("values", [[], [float("nan")], [1.0, float("inf")]])
def test_scores_that_are_missing_or_not_finite_are_rejected(
    values: list[float],
) -> None:
    with pytest.raises(ValueError, match="expected"):
        iqm(values)
    with pytest.raises(ValueError, match="expected"):
        interval(values)


def test_human_normalised_is_zero_at_sparse_and_one_at_human() -> None:
    assert human_normalised(2.0, 2.0, 6.0) == 0.0
    assert human_normalised(6.0, 2.0, 6.0) == 1.0
    assert human_normalised(10.0, 2.0, 6.0) == 2.0


def test_human_normalised_stays_signed_by_the_method_when_human_is_worse() -> None:
    assert human_normalised(3.0, 2.0, 1.0) == 1.0
    assert human_normalised(0.0, 2.0, 1.0) == -2.0


def test_human_normalised_is_none_when_human_equals_sparse() -> None:
    assert human_normalised(3.0, 2.0, 2.0) is None

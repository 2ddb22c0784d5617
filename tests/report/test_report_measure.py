"""Curves and shares by hand, and results that are not what they should be."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from guerdon.agents.statistics import interval
from guerdon.journal import TrainingRecord
from guerdon.report import measure
from guerdon.types import Estimate


def trained(result: Any, seed: int = 0) -> TrainingRecord:
    return TrainingRecord(
        key=str(seed),
        candidate="c",
        seed=seed,
        purpose="search",
        steps=9,
        result=result,
    )


def with_curve(**columns: Any) -> TrainingRecord:
    return trained({"curve": columns})


def test_a_curve_is_the_mean_over_seeds_with_its_interval() -> None:
    line = measure.curve(
        [
            with_curve(steps=[10, 20, 30], fitness=[0.0, 1.0, 2.0]),
            with_curve(steps=[10, 20, 30], fitness=[2.0, 3.0, 0.0]),
        ],
        "fitness",
    )
    assert line is not None
    assert line.steps.tolist() == [10, 20, 30]
    assert line.mean.tolist() == [1.0, 2.0, 1.0]
    # Of two seeds a quarter of the draws are twice the one, and a quarter the other.
    assert line.low.tolist() == [0.0, 1.0, 0.0]
    assert line.high.tolist() == [2.0, 3.0, 2.0]
    assert line.seeds == 2


def test_the_band_of_a_curve_is_that_of_every_point_by_itself() -> None:
    scores = np.random.default_rng(0).normal(size=(8, 3))
    steps = [10, 20, 30]
    line = measure.curve(
        [with_curve(steps=steps, fitness=row.tolist()) for row in scores], "fitness"
    )
    assert line is not None
    for place, column in enumerate(scores.T):
        alone = interval(column.tolist(), trim=0.0, resamples=20_000)
        assert line.mean[place] == pytest.approx(alone.value)
        assert line.low[place] == pytest.approx(alone.low, abs=0.06)
        assert line.high[place] == pytest.approx(alone.high, abs=0.06)


def test_seeds_with_other_steps_meet_where_both_were_measured() -> None:
    line = measure.curve(
        [
            with_curve(steps=[0, 20, 40], fitness=[0.0, 2.0, 4.0]),
            with_curve(steps=[10, 30], fitness=[1.0, 3.0]),
        ],
        "fitness",
    )
    assert line is not None
    assert line.steps.tolist() == [10, 20, 30]
    assert line.mean.tolist() == [1.0, 2.0, 3.0]
    assert line.low.tolist() == line.high.tolist() == [1.0, 2.0, 3.0]


def test_windows_without_an_episode_are_gaps_and_never_zero() -> None:
    line = measure.curve(
        [with_curve(steps=[1, 2, 3, 4], fitness=[None, 5.0, None, 7.0])], "fitness"
    )
    assert line is not None
    assert line.steps.tolist() == [2, 4]
    assert line.mean.tolist() == [5.0, 7.0]


def test_shares_are_of_absolute_size_and_sum_to_one() -> None:
    found = measure.shares(
        [
            with_curve(
                steps=[1, 2],
                terms={"small": [1.0, 0.0], "big": [-3.0, 0.0], "none": [None, None]},
            )
        ]
    )
    assert found is not None
    assert found.names == ("big", "small")
    np.testing.assert_allclose(found.share, [[0.75, 0.25], [0.0, 0.0]])


def test_many_terms_are_shown_as_the_largest_and_a_rest() -> None:
    terms = {f"t{n}": [float(n)] for n in range(1, 11)}
    found = measure.shares([with_curve(steps=[1], terms=terms)])
    assert found is not None
    assert found.names == ("t10", "t9", "t8", "t7", "t6", "t5", "4 smaller terms")
    np.testing.assert_allclose(found.share[0] * 55, [10, 9, 8, 7, 6, 5, 1 + 2 + 3 + 4])


@pytest.mark.parametrize(
    "result",
    [
        None,
        [],
        "text",
        {},
        {"curve": None},
        {"curve": {"steps": "ab", "fitness": "cd"}},
        {"curve": {"steps": [1, 2], "fitness": [None, "nan"]}},
        {"curve": {"steps": [[1]], "fitness": [{}]}},
        {"curve": {"steps": [1], "terms": ["a"]}},
        {"curve": {"steps": [1], "terms": {"a": 3}}},
    ],
)
def test_malformed_results_measure_nothing(result: Any) -> None:
    assert measure.curve([trained(result)], "fitness") is None
    assert measure.shares([trained(result)]) is None
    assert measure.over_seeds([trained(result)], "fitness") is None


def test_scores_over_seeds_are_mean_and_range() -> None:
    records = [trained({"fitness": 1.0}), trained({"fitness": [2.0, 4.0, None]})]
    records.append(trained(None))
    assert measure.over_seeds(records, "fitness") == Estimate(2.0, 1.0, 3.0, 2)


def test_estimates_are_read_from_json_or_from_a_bare_number() -> None:
    whole = {"value": 1, "low": 0.5, "high": 2.0, "n": 5}
    assert measure.as_estimate(whole) == Estimate(1.0, 0.5, 2.0, 5)
    assert measure.as_estimate(0.25) == Estimate(0.25, 0.25, 0.25, 1)
    for nothing in (None, "x", {}, {"value": None}, math.nan, [1.0]):
        assert measure.as_estimate(nothing) is None

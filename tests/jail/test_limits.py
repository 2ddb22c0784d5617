"""Limits are refused at construction when they are none."""

from __future__ import annotations

import math
from typing import Any

import pytest

from guerdon.jail import Limits

_COUNTS = ("cpu_seconds", "memory", "answer", "scratch_files", "scratch_size")


@pytest.mark.parametrize("value", [0, -1, 0.0, math.nan, math.inf, -math.inf, 10**400])
def test_seconds_that_are_no_time_are_rejected(value: float) -> None:
    with pytest.raises(ValueError, match="seconds: expected a finite number above 0"):
        Limits(seconds=value)


@pytest.mark.parametrize("value", [True, "3", None, [1]])
def test_seconds_that_are_no_number_are_rejected(value: Any) -> None:
    with pytest.raises(TypeError, match="seconds: expected a number"):
        Limits(seconds=value)


@pytest.mark.parametrize("name", _COUNTS)
@pytest.mark.parametrize("value", [True, 1.0, math.nan, "1", None])
def test_counts_that_are_not_whole_are_rejected(name: str, value: Any) -> None:
    with pytest.raises(TypeError, match=f"{name}: expected a whole number"):
        Limits(**{name: value})


@pytest.mark.parametrize("name", _COUNTS)
@pytest.mark.parametrize("value", [-1, 1 << 64])
def test_counts_out_of_range_are_rejected(name: str, value: int) -> None:
    with pytest.raises(ValueError, match=f"{name}: expected"):
        Limits(**{name: value})


def test_a_job_without_files_is_allowed() -> None:
    assert Limits(scratch_files=0).scratch_files == 0

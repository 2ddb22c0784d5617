"""The words that every room speaks, in NumPy and in torch."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from guerdon.types import (
    ActionSpec,
    Episode,
    Estimate,
    Failure,
    Feature,
    Features,
    Layout,
)

LAYOUT = Layout(
    [
        Feature("x", "position", unit="m"),
        Feature("open", "the door is open", kind="flag"),
        Feature("v", "velocities", shape=(2,)),
    ]
)
ROWS = np.array([[1.0, 0.0, 2.0, 3.0], [4.0, 1.0, 5.0, 6.0]], np.float32)


@pytest.mark.parametrize("make", [np.asarray, torch.as_tensor])
def test_features_are_named_views_of_flat_rows(make) -> None:
    features = Features(LAYOUT, make(ROWS))
    assert features.x.tolist() == [1.0, 4.0]
    assert features["open"].tolist() == [False, True]
    assert features.v.tolist() == [[2.0, 3.0], [5.0, 6.0]]
    assert list(features) == ["x", "open", "v"]
    assert len(features) == 3


def test_a_number_is_a_view_and_no_copy() -> None:
    rows = ROWS.copy()
    assert np.shares_memory(Features(LAYOUT, rows).x, rows)
    assert np.shares_memory(Features(LAYOUT, rows).v, rows)


def test_a_block_keeps_its_leading_axes() -> None:
    block = np.zeros((5, 3, 4), np.float32)
    features = Features(LAYOUT, block)
    assert features.x.shape == (5, 3)
    assert features.v.shape == (5, 3, 2)


def test_rows_of_another_width_are_refused() -> None:
    with pytest.raises(ValueError, match=r"expected last axis 4 .* got shape \(2, 3\)"):
        Features(LAYOUT, ROWS[:, :3])


def test_an_unknown_feature_names_the_known_ones() -> None:
    features = Features(LAYOUT, ROWS)
    with pytest.raises(AttributeError, match="unknown feature 'y'; known: x, open, v"):
        _ = features.y
    with pytest.raises(KeyError, match="unknown feature 'y'"):
        features["y"]


def test_a_layout_gives_columns_by_name() -> None:
    assert LAYOUT.width == 4
    assert LAYOUT.columns("v") == slice(2, 4)
    assert "v" in LAYOUT
    assert Layout(list(LAYOUT)) == LAYOUT


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"name": "1x", "meaning": ""}, "expected a Python identifier"),
        ({"name": "_x", "meaning": ""}, "does not start with an underscore"),
        ({"name": "x", "meaning": "", "shape": (2, 2)}, r"shape \(\) or \(n,\)"),
        ({"name": "x", "meaning": "", "shape": (0,)}, "n >= 1"),
        ({"name": "x", "meaning": "", "low": 1.0, "high": 0.0}, "low <= high"),
        ({"name": "x", "meaning": "", "low": float("nan")}, "low <= high"),
    ],
)
def test_a_bad_feature_is_refused_at_construction(arguments, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Feature(**arguments)


def test_two_features_of_one_name_are_refused() -> None:
    with pytest.raises(ValueError, match="'x' is declared twice"):
        Layout([Feature("x", ""), Feature("x", "")])


def test_an_action_needs_a_size_and_as_many_names() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        ActionSpec("discrete", 0)
    with pytest.raises(ValueError, match="expected 2, got 1"):
        ActionSpec("discrete", 2, ("left",))


def test_a_failure_says_where_and_why() -> None:
    assert str(Failure("schema", "no such feature", 3)) == (
        "schema: line 3: no such feature"
    )
    assert str(Failure("timed_out", "too long")) == "timed_out: too long"


def test_an_estimate_is_shown_with_its_interval() -> None:
    assert str(Estimate(0.5, 0.25, 0.75, 5)) == "0.5 [0.25, 0.75] (n=5)"


def test_an_episode_knows_its_length_and_end() -> None:
    episode = Episode(LAYOUT, ROWS, np.zeros(1), np.ones(1), True, False)
    assert episode.length == 1
    assert episode.last.x == 4.0

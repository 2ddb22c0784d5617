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


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"name": 5}, TypeError, "feature name: expected a text, got 5"),
        ({"meaning": None}, TypeError, "meaning: expected a text, got None"),
        ({"unit": 1}, TypeError, "unit: expected a text"),
        ({"kind": "foo"}, ValueError, "kind: expected 'number' or 'flag', got 'foo'"),
        ({"kind": []}, ValueError, "kind: expected 'number' or 'flag'"),
        ({"better": "foo"}, ValueError, "'higher', 'lower' or None, got 'foo'"),
        ({"shape": [2]}, TypeError, r"shape: expected a tuple, .* got \[2\] \(list\)"),
        ({"shape": 2}, TypeError, r"shape: expected a tuple, .* got 2 \(int\)"),
        ({"shape": (2.5,)}, TypeError, "expected a whole number, got 2.5"),
        ({"shape": (-1,)}, ValueError, "n >= 1"),
        ({"low": "0"}, TypeError, "low: expected a number, got '0'"),
        ({"high": None}, TypeError, "high: expected a number, got None"),
        ({"high": float("nan")}, ValueError, "low <= high"),
        ({"low": float("inf")}, ValueError, "a finite number between"),
        ({"high": -float("inf")}, ValueError, "a finite number between"),
    ],
)
def test_a_feature_of_other_types_is_refused_with_what_was_expected(
    arguments, error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        Feature(**({"name": "x", "meaning": "position"} | arguments))


def test_a_layout_takes_features_only() -> None:
    with pytest.raises(TypeError, match="expected a list or tuple of Features"):
        Layout(Feature("x", ""))  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="expected Features, got 'x'"):
        Layout(["x"])  # type: ignore[list-item]


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        (("foo", 2), ValueError, "'discrete' or 'continuous', got 'foo'"),
        (("discrete", 2.5), TypeError, "action size: expected a whole number, got 2.5"),
        (("discrete", True), TypeError, "action size: expected a whole number"),
        (("discrete", 2, "ab"), TypeError, "action names: expected a tuple"),
        (("discrete", 2, (1, 2)), TypeError, "action names: expected texts, got 1"),
        (("discrete", 1, (), (0.0,), (1.0,)), ValueError, "none for a discrete action"),
        (("continuous", 2, (), (0.0,), (1.0,)), ValueError, "low: expected 2, got 1"),
        (("continuous", 1, (), (0.0,)), ValueError, "low and high together, got 1"),
        (("continuous", 1, (), (1.0,), (0.0,)), ValueError, "dimension 0.*low <= high"),
        (("continuous", 1, (), [0.0], (1.0,)), TypeError, "low: expected a tuple"),
        (("continuous", 1, (), ("a",), (1.0,)), TypeError, "low: expected a number"),
        (
            ("continuous", 1, (), (float("nan"),), (1.0,)),
            ValueError,
            "low <= high",
        ),
    ],
)
def test_an_action_of_another_kind_is_refused_with_what_was_expected(
    arguments, error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        ActionSpec(*arguments)


def test_bounds_without_end_and_numbers_of_numpy_are_fine() -> None:
    assert Feature("x", "", shape=(np.int64(3),), low=np.float32(0)).size == 3
    both = (float("-inf"),), (float("inf"),)
    assert ActionSpec("continuous", 1, (), *both).size == 1


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

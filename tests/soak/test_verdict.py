"""When `make soak` says that all is as claimed; its measurements are no tests."""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks.soak_rows import struck, told, wanting
from tests.soak.kill import Outcome
from tests.soak.points import points

POINTS = list(points(3, seed=0))
STRUCK = [Outcome(point, killed=True) for point in POINTS]
SEARCH = {"completed": True, "accounts": "agree", "tokens": 9, "budget": 9}
PROGRAMS = {"escapes": 0, "changed fitness": 0, "refusals without a line": 0}
NAMES = ("search", "programs", "points")


def rows(**changed: Any) -> dict[str, dict[str, Any]]:
    found = {"search": SEARCH, "programs": PROGRAMS, "points": struck(POINTS, STRUCK)}
    return {name: row | changed.get(name, {}) for name, row in found.items()}


def test_nothing_is_wanting_where_all_is_as_claimed() -> None:
    assert wanting(rows(), NAMES) == []


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"search": {"completed": False}}, "search: not completed"),
        ({"search": {"accounts": "AssertionError: x"}}, "search: AssertionError: x"),
        ({"search": {"tokens": 10}}, "search: 10 tokens of 9"),
        ({"search": {"went wrong": "OSError: x"}}, "search: OSError: x"),
        ({"programs": {"escapes": 1}}, "programs: escapes: 1"),
        ({"programs": {"changed fitness": 2}}, "programs: changed fitness: 2"),
        ({"points": {"struck": 2}}, "points: struck 2 of 3"),
    ],
)
def test_whatever_is_not_as_claimed_is_said(changed: Any, words: str) -> None:
    assert wanting(rows(**changed), NAMES) == [words]


def test_a_point_that_was_never_struck_has_not_resumed() -> None:
    never, wrong = Outcome(POINTS[0]), Outcome(POINTS[1], killed=True)
    wrong.errors.append("AssertionError: trained again: ['a']")
    found = struck(POINTS, [never, wrong, STRUCK[2]])
    assert (found["struck"], found["resumed to the same result"]) == (2, 1)
    assert (found["lost"], found["repeated"]) == (0, 1)
    assert wanting({"points": found}, ["points"]) == [
        "points: struck 2 of 3",
        "points: resumed to the same result 1 of 3",
    ]


def test_a_part_that_was_broken_off_or_never_came_is_wanting() -> None:
    half = {"points": struck(POINTS, STRUCK[:2])}
    assert len(wanting(half, ["points", "search"])) == 3

    def breaks() -> dict[str, Any]:
        raise AssertionError

    told(half, "points", breaks)
    assert half["points"]["struck"] == 2
    assert wanting(half, ["points"]) == ["points: AssertionError: raise AssertionError"]

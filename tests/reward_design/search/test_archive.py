from collections import Counter

import numpy as np
import pytest

from guerdon.reward_design.search import Archive, Score
from tests.reward_design.search.small import trained


def filled(*fitness: float) -> Archive:
    archive = Archive()
    for place, value in enumerate(fitness):
        archive.add(trained(f"c{place}", value))
    return archive


def test_members_stand_best_first_and_none_is_lost() -> None:
    archive = filled(0.2, 0.9, 0.1, 0.5)
    assert [m.id for m in archive.members] == ["c1", "c3", "c0", "c2"]
    assert archive.best is archive["c1"]
    assert len(archive) == 4


def test_adding_gives_the_share_of_earlier_ones_that_are_beaten() -> None:
    archive = Archive()
    shares = [archive.add(trained(f"c{i}", f)) for i, f in enumerate((1, 3, 2, 2))]
    # first of all; beats 1; beats one of two; beats one, ties one of three.
    assert shares == [0.5, 1.0, 0.5, 0.5]


def test_of_equal_candidates_the_earlier_round_leads() -> None:
    archive = Archive()
    archive.add(trained("r2-c01", 1.0, round=1))
    archive.add(trained("r1-c02", 1.0, round=0))
    archive.add(trained("r1-c01", 1.0, round=0))
    assert [m.id for m in archive.members] == ["r1-c01", "r1-c02", "r2-c01"]


def test_more_seeds_change_the_mean_and_the_order() -> None:
    archive = filled(0.9, 0.8)
    joined = archive.replace("c0", Score({1: 0.1}, {1: 0.0}))
    assert joined.score.fitness == {0: 0.9, 1: 0.1}
    assert joined.score.mean == pytest.approx(0.5)
    assert joined.score.mean_success == pytest.approx(0.45)
    assert [m.id for m in archive.members] == ["c1", "c0"]


def test_joining_seeds_keeps_what_the_next_prompt_shows() -> None:
    archive = Archive()
    archive.add(trained("a", 1.0, statistics="- text", shares={"gain": 1.0}))
    joined = archive.replace("a", Score({1: 0.0}, {1: 0.0}, "other", {}))
    assert (joined.score.statistics, joined.score.shares) == ("- text", {"gain": 1.0})


def test_an_unknown_candidate_is_a_key_error() -> None:
    archive = filled(1.0)
    with pytest.raises(KeyError, match="nobody"):
        archive.replace("nobody", Score({0: 1.0}, {0: 1.0}))
    with pytest.raises(KeyError, match="nobody"):
        archive["nobody"]


def test_parents_are_different_and_no_more_than_there_are() -> None:
    archive = filled(0.1, 0.2)
    rng = np.random.default_rng(0)
    assert {m.id for m in archive.parents(5, rng)} == {"c0", "c1"}
    assert archive.parents(0, rng) == []
    assert Archive().parents(2, rng) == []


def test_a_parent_is_the_best_of_three_draws() -> None:
    archive = filled(*(i / 10 for i in range(10)))
    rng = np.random.default_rng(0)
    drawn = Counter(archive.parents(1, rng)[0].id for _ in range(3000))
    # The best of ten is among three draws with replacement: 1 - .9 ** 3.
    assert drawn["c9"] / 3000 == pytest.approx(1 - 0.9**3, abs=0.03)
    assert drawn["c0"] / 3000 == pytest.approx(0.1**3, abs=0.003)


def test_where_all_score_the_same_every_member_becomes_a_parent() -> None:
    archive = filled(*([0.0] * 8))
    rng = np.random.default_rng(0)
    drawn = Counter(archive.parents(1, rng)[0].id for _ in range(800))
    assert len(drawn) == 8
    assert max(drawn.values()) < 180


def test_an_empty_archive_has_no_best() -> None:
    assert Archive().best is None

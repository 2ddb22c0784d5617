import itertools
import sys

import numpy as np
import pytest
from scipy import stats

from guerdon.reward_design.language import Tree, terms
from guerdon.reward_design.language.edit import mutate
from guerdon.reward_design.language.sample import sample
from guerdon.reward_design.program import program as rewards
from guerdon.reward_design.search import Bank
from guerdon.reward_design.search.screen import (
    MOST_COMPARED,
    Screened,
    screen,
    screen_many,
    sparse_rewards,
)
from guerdon.types import Failure, Layout, Spec
from tests.reward_design.search.small import (
    ACTION,
    LAYOUT,
    TASK,
    episode,
    program,
    random_bank,
    small_task,
)

SOLVED = episode([0, 1, 2], [0, 1], terminated=True)
FAILED = episode([0, -1, -1], [0, 0])
CUT = episode([0, 1], [0], cut=True)
BANK = Bank.of(TASK, [SOLVED, FAILED, CUT])
DENSE = small_task(
    sparse="def reward(prev, action, now, params):\n    return {'none': 0.0}\n"
)
"""A task whose sparse reward is a program, which pays nothing."""


def screened(*terms: str, bank: Bank = BANK, discount: float = 0.5) -> Screened:
    found = screen(program(*terms), bank, discount)
    assert isinstance(found, Screened)
    return found


def test_a_gain_is_measured_as_by_hand() -> None:
    found = screened("now.x - prev.x").screening
    # Own rewards: solved 1, 1; failed -1, 0; cut 1. Designed returns with the sparse
    # reward and discount .5: 1 + .5 * 2 = 2 against -1.
    assert found.rank == pytest.approx(1.0)
    assert found.preference == 1.0
    assert found.farming == -1.0
    assert found.active == pytest.approx(4 / 5)
    assert found.shares == {"a": 1.0}
    assert (found.low, found.high) == (-1.0, 1.0)


def test_shares_are_mean_magnitudes_of_the_terms() -> None:
    found = screened("now.x", "-3 * prev.x").screening
    # |now.x|: 1 2 1 1 1 = 6; 3 |prev.x|: 0 3 0 3 0 = 6.
    assert found.shares == {"a": pytest.approx(0.5), "b": pytest.approx(0.5)}
    assert found.low == pytest.approx(-1.0)
    assert found.high == pytest.approx(2.0)


def test_terms_that_never_fire_have_no_share() -> None:
    found = screened("now.open", "now.carrying").screening
    assert found.shares == {"a": 0.0, "b": 0.0}
    assert found.active == 0.0


def test_rank_and_preference_count_the_pairs() -> None:
    graded = [
        episode([0, 1], [2]),
        episode([0, 3], [1]),
        episode([0, 2], [0]),
    ]
    found = screened("now.x", bank=Bank.of(DENSE, graded)).screening
    # True 2 > 1 > 0, designed 1 < 3 > 2: of three pairs one is in the right order.
    assert found.preference == pytest.approx(1 / 3)
    assert found.rank == pytest.approx((1 - 2) / 3)


def test_equal_designed_returns_count_one_half_and_have_no_rank() -> None:
    bank = Bank.of(DENSE, [SOLVED, FAILED])
    found = screened("now.open", bank=bank).screening
    assert (found.rank, found.preference) == (None, 0.5)


def test_later_rewards_are_discounted() -> None:
    early = episode([0, 2, 0], [0, 0])
    late = episode([0, 0, 3], [0, 5])
    bank = Bank.of(DENSE, [early, late])
    # 2 against 3 * discount, and the late one is the better one.
    assert screened("now.x", bank=bank, discount=0.5).screening.preference == 0.0
    assert screened("now.x", bank=bank, discount=0.9).screening.preference == 1.0


def test_a_bank_in_which_all_score_the_same_says_nothing_about_the_order() -> None:
    bank = Bank.of(TASK, [FAILED, FAILED])
    found = screened("now.x", bank=bank).screening
    assert (found.rank, found.preference) == (None, None)


def test_farming_is_the_largest_own_return_of_a_whole_failed_episode() -> None:
    worse = episode([0, 2, 2], [0, 0])
    bank = Bank.of(TASK, [SOLVED, FAILED, worse, CUT])
    assert screened("now.x", bank=bank).screening.farming == 4.0
    only_solved = Bank.of(TASK, [SOLVED, CUT])
    assert screened("now.x", bank=only_solved).screening.farming is None


def test_registers_begin_anew_in_every_episode() -> None:
    seen = [
        episode([0, 1, 1], [0, 0], open=[0, 1, 1]),
        episode([0, 1, 1], [0, 0], open=[0, 0, 1]),
    ]
    found = screened("first_time(now.open)", bank=Bank.of(TASK, seen))
    assert found.signature.tolist() == [1.0, 0.0, 0.0, 1.0]


def test_a_farmed_reward_promises_less_than_an_honest_one() -> None:
    standing = episode([2, 2, 2, 2], [0, 0, 0])
    bank = Bank.of(TASK, [SOLVED, standing])
    honest = screened("now.x - prev.x", bank=bank).screening
    farmed = screened("0.5 * now.x", bank=bank).screening
    # Honest: preference 1, farming 0, active. Farmed: the order is wrong too, as
    # 1 + .5 + .25 > .5 + .5 * (1 + 1), and farming is clipped to 1.
    assert honest.promise == pytest.approx(1.0 + 0.1)
    assert farmed.promise == pytest.approx(0.0 - 0.5 + 0.1)


def test_a_program_that_looks_at_nothing_is_constant() -> None:
    for text in ("-0.01", "now.x - now.x", "count(True)"):
        found = screen(program(text), BANK)
        assert isinstance(found, Failure)
        assert found.kind == "constant"
        assert "depends on a feature" in found.reason


def test_a_feature_that_is_not_a_number_is_named_by_its_term() -> None:
    bad = episode([0, np.nan, 1], [0, 0])
    found = screen(program("now.x"), Bank.of(TASK, [SOLVED, bad]))
    assert isinstance(found, Failure)
    assert found.kind == "non_finite"
    assert "'a'" in found.reason
    assert found.reason.endswith("features are not finite either: x")


def test_the_same_reward_in_other_words_is_a_duplicate() -> None:
    bank = random_bank()
    gain = screened("now.x - prev.x", bank=bank)
    doubled = screened("2 * (now.x - prev.x)", bank=bank)
    assert gain.same_as(screened("-(prev.x - now.x)", bank=bank).signature)
    assert not gain.same_as(doubled.signature)
    assert not gain.same_as(gain.signature[:-1])


def test_rewards_that_never_fire_on_the_bank_are_not_duplicates() -> None:
    silent = screened("now.open")
    assert not silent.same_as(screened("now.carrying").signature)


def test_many_episodes_are_thinned_before_they_are_compared_in_pairs() -> None:
    many = [episode([0, i % 7], [i % 3]) for i in range(3 * MOST_COMPARED)]
    found = screened("now.x", bank=Bank.of(DENSE, many)).screening
    pairs = list(itertools.product(range(3), range(3), range(7), range(7)))
    right = [
        1.0 if (a > b) == (x > y) and x != y else 0.5 * (x == y)
        for a, b, x, y in pairs
        if a > b
    ]
    # All combinations occur about equally often.
    assert found.preference == pytest.approx(np.mean(right), abs=0.02)


def test_the_screening_is_plain_json_for_the_journal() -> None:
    found = screened("now.x").screening.as_json()
    names = {"rank", "preference", "farming", "active", "shares", "low", "high"}
    assert set(found) == names
    assert all(isinstance(found[name], float) for name in names - {"shares"})


# --- many at once --------------------------------------------------------------------


def drawn(count: int) -> list[Tree]:
    rng = np.random.default_rng(count)
    found: list[Tree] = []
    while len(found) < count:
        tree = sample(LAYOUT, ACTION, rng)
        found += [tree, mutate(tree, rng).tree]
    return found


def test_many_programs_are_screened_as_one_by_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bank = random_bank(episodes=12)
    trees = [program("-0.01"), *drawn(40), program("now.x - now.x")]
    many = [screen_many(trees, bank)]
    monkeypatch.setattr(sys.modules[screen_many.__module__], "TOGETHER", 7)
    many.append(screen_many(trees, bank))
    for found in many:
        for tree, one in zip(trees, found, strict=True):
            alone = screen(tree, bank)
            if isinstance(alone, Failure):
                assert one == alone
                continue
            assert isinstance(one, Screened)
            assert one.screening == alone.screening
            np.testing.assert_array_equal(one.signature, alone.signature, strict=True)
    assert sum(isinstance(one, Failure) for one in many[0]) >= 2
    assert screen_many([], bank) == []


def test_the_screen_measures_what_a_training_is_paid() -> None:
    bank = random_bank(episodes=12)
    for tree, one in zip(trees := drawn(20), screen_many(trees, bank), strict=True):
        design = rewards(terms(tree, LAYOUT, ACTION))
        state = design.init(Spec(LAYOUT, ACTION, (1,)))
        paid, _ = design.apply(state, bank.batch)
        if isinstance(one, Failure):
            assert one.kind == "constant"
            continue
        np.testing.assert_array_equal(one.signature, paid.reward[:, 0], strict=True)
        size = np.abs(paid.terms[:, 0]).mean(axis=0, dtype=float)
        shares = size / (size.sum() or 1.0)
        np.testing.assert_allclose(list(one.screening.shares.values()), shares)


def test_a_sparse_reward_that_is_a_program_is_part_of_what_is_compared() -> None:
    episodes = [
        episode([0, 3, 0], [1, 0]),
        episode([0, 1, 1], [0, 2]),
        episode([0, 0, 0], [0, 3]),
    ]
    paid = "def reward(prev, action, now, params):\n    return {'x': -abs(now.x)}\n"
    bank = Bank.of(small_task(sparse=paid), episodes)
    assert sparse_rewards(bank).tolist() == [-3.0, 0.0, -1.0, -1.0, 0.0, 0.0]
    # Own returns 3 + 0, 1 + 1 and 0; with the sparse reward and discount .5 it is
    # 3 - 3, 1.5 - 1.5 and 0: nothing tells them apart.
    found = screen(program("abs(now.x)"), bank, 0.5)
    assert isinstance(found, Screened)
    assert (found.screening.rank, found.screening.preference) == (None, 0.5)
    smaller = screen(program("0.5 * abs(now.x)"), bank, 0.5)
    assert isinstance(smaller, Screened)
    assert smaller.screening.preference == 1.0


def test_the_rank_is_scipy_s_tau_b_with_ties_on_both_sides() -> None:
    rng = np.random.default_rng(0)
    many = [episode([0, rng.integers(6)], [rng.integers(4)]) for _ in range(60)]
    bank = Bank.of(DENSE, many)
    x = [e.features[1, 0] for e in many]
    expected = stats.kendalltau(bank.fitness, x).statistic
    assert screened("now.x", bank=bank).screening.rank == pytest.approx(expected)


def test_a_bad_program_fails_alone() -> None:
    bad = Bank.of(TASK, [SOLVED, episode([0, np.nan, 1], [0, 0])])
    trees = [program("now.x"), program("1.0"), program("now.open", "now.speed")]
    kinds = [one.kind for one in screen_many(trees, bad) if isinstance(one, Failure)]
    assert kinds == ["non_finite", "constant", "non_finite"]


def test_a_program_of_another_task_is_refused_among_many() -> None:
    other = Layout(tuple(reversed(LAYOUT.features)))
    stranger = Tree((), program("now.x").terms, other, ACTION)
    with pytest.raises(ValueError, match="program 1 was written for"):
        screen_many([program("now.x"), stranger], BANK)

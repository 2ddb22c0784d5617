"""Racing: every trace here was worked out by hand."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from typing import TypeVar

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from guerdon.reward_design.search.race import (
    Full,
    Halving,
    Leg,
    Race,
    paired,
)
from guerdon.reward_design.search.race_bandits import D3RB, UCB

NAMES = "abcdefgh"

AnyRace = TypeVar("AnyRace", bound=Race)


def entered(race: AnyRace, names: str = NAMES) -> AnyRace:
    for name in names:
        race.enter(name)
    return race


def run(race: Race, curves: Mapping[str, float], free: int) -> list[Leg]:
    """Race to the end; the score of a candidate grows in proportion to its steps."""
    legs: list[Leg] = []
    while asked := race.ask(free):
        for leg in asked:
            legs.append(leg)
            share = leg.stop / race.budget
            race.tell(leg.name, leg.stop, [curves[leg.name] * share] * 2)
    return legs


def test_paired_gives_students_interval_of_the_differences() -> None:
    ours, theirs = np.array([3.0, 5.0, 4.0]), np.array([1.0, 2.0, 3.0])
    found = paired(ours, theirs, 0.9)
    known = stats.t.interval(0.9, 2, loc=2.0, scale=1.0 / math.sqrt(3))
    assert found.mean == 2.0
    assert (found.low, found.high) == pytest.approx(known)


def test_one_pair_has_no_interval() -> None:
    assert paired(np.array([3.0]), np.array([1.0]), 0.9) == (2.0, 2.0, 2.0)


def test_without_racing_everybody_is_trained_to_the_end() -> None:
    race = entered(Full(100), "abc")
    race.close()
    assert race.ask(2) == [Leg("a", 0, 100), Leg("b", 0, 100)]
    race.tell("a", 100, [1.0])
    race.tell("b", 100, [3.0])
    assert race.ask(2) == [Leg("c", 0, 100)]
    race.tell("c", 100, [2.0])
    assert race.ask(2) == []
    assert race.spent == 300
    best = race.best()
    assert best is not None
    assert best.name == "b"


def test_rungs_are_halves_of_the_budget_in_whole_rollouts() -> None:
    assert Halving(800).rungs == (100, 200, 400, 800)
    assert Halving(1000, eta=4, rungs=3, multiple=64).rungs == (64, 256, 1000)
    assert Halving(1000, eta=4, rungs=3, multiple=2000).rungs == (1000,)


def test_halving_of_eight_keeps_four_two_and_one() -> None:
    race = entered(Halving(800, chance=False))
    race.close()
    scores = dict(zip(NAMES, [1, 2, 3, 4, 5, 6, 7, 8], strict=True))
    legs = run(race, scores, free=8)
    by_rung = {
        stop: sorted(leg.name for leg in legs if leg.stop == stop)
        for stop in (100, 200, 400, 800)
    }
    assert by_rung == {
        100: list(NAMES),
        200: ["e", "f", "g", "h"],
        400: ["g", "h"],
        800: ["h"],
    }
    # 8 at 100, 4 for 100 more, 2 for 200 more and 1 for 400 more.
    assert race.spent == 800 + 400 + 400 + 400


def test_one_of_each_closed_rung_goes_on_by_chance() -> None:
    race = entered(Halving(800, seed=1))
    race.close()
    scores = dict(zip(NAMES, [8, 7, 6, 5, 4, 3, 2, 1], strict=True))
    legs = run(race, scores, free=8)
    second = {leg.name for leg in legs if leg.stop == 200}
    assert set("abcd") < second
    counts = [sum(leg.stop == rung for leg in legs) for rung in (100, 200, 400, 800)]
    assert counts == [8, 5, 3, 2]
    lucky = [leg for leg in legs if race.by_chance(leg)]
    assert {leg.name for leg in lucky} == {
        r.name for r in race.runners.values() if r.chance
    }
    assert {leg.start for leg in lucky} == {100, 200, 400}
    assert race.spent > 2000
    best = race.best()
    assert best is not None
    assert best.name == "a"


def test_a_freed_place_goes_to_a_fresh_candidate_while_the_race_is_open() -> None:
    race = entered(Halving(400, rungs=3, chance=False), "ab")
    assert race.ask(4) == [Leg("a", 0, 100), Leg("b", 0, 100)]
    race.tell("a", 100, [0.0, 0.0])
    race.tell("b", 100, [1.0, 1.0])
    race.enter("c")
    # b is the better half of two; a waits, and c takes the other place.
    assert race.ask(2) == [Leg("b", 100, 200), Leg("c", 0, 100)]
    race.tell("c", 100, [0.5, 0.5])
    race.tell("b", 200, [1.0, 1.0])
    # Three have reached rung 100, so one place: b's. Of one at rung 200 none goes on.
    assert race.ask(2) == []
    race.close()
    assert race.ask(2) == [Leg("b", 200, 400)]


def test_a_closed_race_ends_with_a_full_training_of_a_lone_candidate() -> None:
    race = entered(Halving(400, rungs=3), "a")
    race.close()
    assert run(race, {"a": 1.0}, free=3) == [
        Leg("a", 0, 100),
        Leg("a", 100, 200),
        Leg("a", 200, 400),
    ]


def test_of_two_equal_means_the_steadier_one_goes_on() -> None:
    race = entered(Halving(200, rungs=2, chance=False), "rxy")
    race.close()
    race.ask(3)
    race.tell("r", 100, [0.0, 0.0, 0.0, 0.0])
    race.tell("x", 100, [4.0, 0.0, 4.0, 0.0])
    race.tell("y", 100, [2.1, 1.9, 2.1, 1.9])
    assert race.ask(3) == [Leg("y", 100, 200)]
    bounds = race.lower_bounds(100)
    # Against the mean of all, r is -2.03, -.63 and so on.
    assert bounds["r"] < bounds["x"] < bounds["y"]
    mean = np.array([6.1, 1.9, 6.1, 1.9]) / 3
    for name, scores in (("r", [0.0] * 4), ("y", [2.1, 1.9, 2.1, 1.9])):
        difference = np.array(scores) - mean
        known = stats.t.interval(0.8, 3, difference.mean(), stats.sem(difference))
        assert bounds[name] == pytest.approx(known[0])


def test_who_came_first_is_judged_like_the_others() -> None:
    race = entered(Halving(200, rungs=2, chance=False), "ab")
    race.close()
    race.ask(2)
    # b is better by .05 on the average and not surely so.
    race.tell("a", 100, [0.5, 0.5, 0.5, 0.5])
    race.tell("b", 100, [0.1, 0.9, 0.2, 1.0])
    assert paired(np.array([0.1, 0.9, 0.2, 1.0]), np.full(4, 0.5), 0.8).low < 0.0
    assert race.ask(2) == [Leg("b", 100, 200)]


def test_who_stands_still_and_is_surely_worse_than_the_best_is_dropped() -> None:
    race = Halving(400, rungs=3, eta=2, chance=False)
    entered(race, "abcd")
    race.ask(4)
    for name, level in zip("abcd", [0.4, 0.3, 0.2, 0.1], strict=True):
        race.tell(name, 100, [level, level + 0.1, level - 0.1])
    assert race.ask(2) == [Leg("a", 100, 200), Leg("b", 100, 200)]
    race.tell("a", 200, [0.8, 0.9, 1.0])
    race.tell("b", 200, [0.2, 0.2, 0.1])
    assert race.runners["b"].state == "dropped"
    # At the lowest rung nobody has had a chance to improve.
    assert race.runners["d"].state == "paused"


def test_a_failed_candidate_leaves_the_race() -> None:
    race = entered(Halving(200, rungs=2, chance=False), "ab")
    race.close()
    race.ask(2)
    race.fail("a")
    race.tell("b", 100, [0.0])
    assert race.ask(2) == [Leg("b", 100, 200)]


def test_one_that_was_promoted_and_crashes_leaves_its_place_to_the_next() -> None:
    race = entered(Halving(200, rungs=2, chance=False), "abcd")
    race.close()
    race.ask(4)
    for name, level in zip("abcd", [0.4, 0.3, 0.2, 0.1], strict=True):
        race.tell(name, 100, [level, level])
    assert race.ask(4) == [Leg("a", 100, 200), Leg("b", 100, 200)]
    race.fail("a")
    assert race.ask(4) == [Leg("c", 100, 200)]
    race.fail("b")
    race.fail("c")
    assert race.ask(4) == [Leg("d", 100, 200)]
    race.tell("d", 200, [0.1, 0.1])
    assert race.ask(4) == []


def test_many_rungs_are_asked_for_in_no_time() -> None:
    race = entered(Halving(2**9, rungs=10), "abcdefghijklmnop")
    race.close()
    began = time.perf_counter()
    names = "abcdefghijklmnop"
    legs = run(race, {name: float(names.index(name)) for name in names}, free=16)
    assert {leg.stop for leg in legs} == {2**k for k in range(10)}
    assert time.perf_counter() - began < 10.0  # seconds; it took hours


def test_ucb_pulls_by_mean_and_bonus() -> None:
    race = entered(UCB(1000, leg=10, total=60), "ab")
    race.close()
    assert race.ask(1) == [Leg("a", 0, 10)]
    race.tell("a", 10, [1.0])
    assert race.ask(1) == [Leg("b", 0, 10)]
    race.tell("b", 10, [0.0])
    # Range 1, t = 2: both have the same bonus, so the mean decides.
    assert race.ask(1) == [Leg("a", 10, 20)]
    race.tell("a", 20, [1.0])
    # t = 3: a has 1 + sqrt(2 ln 3 / 2) = 2.048, b has 0 + sqrt(2 ln 3) = 1.482.
    assert race.ask(1) == [Leg("a", 20, 30)]
    race.tell("a", 30, [1.0])
    # t = 4: a 1 + sqrt(2 ln 4 / 3) = 1.961, b sqrt(2 ln 4) = 1.665.
    assert race.ask(1) == [Leg("a", 30, 40)]
    race.tell("a", 40, [1.0])
    # t = 5: a 1 + sqrt(2 ln 5 / 4) = 1.897, b sqrt(2 ln 5) = 1.794.
    assert race.ask(1) == [Leg("a", 40, 50)]
    race.tell("a", 50, [1.0])
    # The total of 60 steps is spent, and a, the best, is trained to the end.
    assert race.ask(1) == [Leg("a", 50, 1000)]
    assert race.ask(1) == []
    race.tell("a", 1000, [1.0])
    assert race.ask(1) == []


@pytest.mark.parametrize("kind", [UCB, D3RB])
def test_the_first_pulls_of_a_bandit_are_made_together_and_the_others_one_by_one(
    kind: type[UCB] | type[D3RB],
) -> None:
    race = entered(kind(1000, leg=10, total=1000), "abc")
    assert race.ask(9) == [Leg(name, 0, 10) for name in "abc"]
    race.tell("a", 10, [1.0])
    # Whose turn it is depends on b and c; d's does not.
    assert race.ask(9) == []
    race.enter("d")
    assert race.ask(9) == [Leg("d", 0, 10)]
    for name in "bcd":
        race.tell(name, 10, [0.0])
    assert len(race.ask(9)) == 1


@pytest.mark.parametrize("kind", [UCB, D3RB])
@pytest.mark.parametrize("count", [1, 4, 12])
def test_a_bandit_trains_its_best_to_the_end(
    kind: type[UCB] | type[D3RB], count: int
) -> None:
    names = "abcdefghijkl"[:count]
    race = entered(kind(80, leg=10, total=10 * count + 40), names)
    run(race, {name: float(place) for place, name in enumerate(names)}, free=count)
    assert count == 1 or all(r.steps < 80 for r in race.runners.values())
    race.close()
    run(race, {name: float(place) for place, name in enumerate(names)}, free=count)
    best = race.best()
    assert best is not None
    assert (best.name, best.state) == (names[-1], "finished")
    assert [r.state for r in race.runners.values()].count("finished") == 1


def test_where_the_last_training_of_a_bandit_crashes_the_next_best_is_trained() -> None:
    race = entered(UCB(100, leg=10, total=30), "abc")
    race.close()
    for leg, score in zip(race.ask(3), [0.0, 2.0, 1.0], strict=True):
        race.tell(leg.name, leg.stop, [score])
    assert race.ask(3) == [Leg("b", 10, 100)]
    race.fail("b")
    while (legs := race.ask(3))[0].stop < 100:
        race.tell(legs[0].name, legs[0].stop, [1.0 if legs[0].name == "c" else 0.0])
    assert legs[0].name == "c"


def test_d3rb_balances_potentials_and_doubles_the_hopeless() -> None:
    race = D3RB(1000, leg=10, total=1000, c=0.1)
    entered(race, "ab")
    race.close()
    assert race.ask(1) == [Leg("a", 0, 10)]
    race.tell("a", 10, [10.0])
    assert race.ask(1) == [Leg("b", 0, 10)]
    race.tell("b", 10, [0.0])
    # Range 10; widths 0.1 * 10 * sqrt(ln 20) = 1.731. b: 0 + 10 + 1.731 is above
    # 10 - 1.731, so nothing doubles; both potentials are 1 and a came first.
    assert race.doublings == {}
    assert race.ask(1) == [Leg("a", 10, 20)]
    race.tell("a", 20, [10.0])
    # a's potential is sqrt 2 now, so b is next.
    assert race.ask(1) == [Leg("b", 10, 20)]
    race.tell("b", 20, [0.0])
    # n = 2: b 10 / sqrt 2 + 1.224 = 8.295; a 10 - 1.224 = 8.776: b is doubled.
    assert race.doublings == {"b": 1}
    assert race.coefficient("b") == 2.0
    # Potentials: a sqrt 2, b 2 sqrt 2: a is pulled until it has 8 pulls.
    for pull in range(2, 8):
        assert race.ask(1) == [Leg("a", 10 * pull, 10 * pull + 10)]
        race.tell("a", 10 * pull + 10, [10.0])
    assert race.ask(2) == [Leg("a", 80, 90)]
    race.tell("a", 90, [10.0])
    assert race.ask(2) == [Leg("b", 20, 30)]


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_no_policy_trains_more_than_it_may(data: st.DataObject) -> None:
    budget = data.draw(st.integers(1, 64))
    leg = data.draw(st.integers(1, budget))
    total = data.draw(st.integers(1, 300))
    races = [
        Full(budget),
        Halving(budget, eta=data.draw(st.integers(2, 4))),
        UCB(budget, leg=leg, total=total),
        D3RB(budget, leg=leg, total=total),
    ]
    count, free = data.draw(st.integers(1, 9)), data.draw(st.integers(1, 4))
    scores = data.draw(
        st.lists(st.floats(-5, 5), min_size=2 * count, max_size=2 * count)
    )
    for race in races:
        names = NAMES + "i"
        entered(race, names[:count])
        race.close()
        steps = dict.fromkeys(names[:count], 0)
        while asked := race.ask(free):
            assert len(asked) <= free
            assert len({one.name for one in asked}) == len(asked)
            for one in asked:
                assert one.start == steps[one.name] < one.stop <= budget
                steps[one.name] = one.stop
                i = names.index(one.name)
                race.tell(one.name, one.stop, scores[2 * i : 2 * i + 2])
        assert race.spent == sum(steps.values()) <= count * budget
        if isinstance(race, Full):
            assert set(steps.values()) == {budget}
        elif isinstance(race, Halving):
            assert max(steps.values()) == budget
        else:
            # A pull may go over the total, and the last training comes on top.
            assert race.spent < total + leg + budget
            assert max(steps.values()) == budget


def test_what_was_not_asked_for_is_refused() -> None:
    race = entered(Halving(100), "a")
    with pytest.raises(ValueError, match="no leg of 'a' is under way \\(waiting"):
        race.tell("a", 100, [1.0])
    with pytest.raises(ValueError, match="no leg of 'x' is under way \\(unknown"):
        race.fail("x")
    with pytest.raises(ValueError, match="'a' has entered already"):
        race.enter("a")
    race.close()
    with pytest.raises(ValueError, match="closed, so 'b' cannot enter"):
        race.enter("b")


def test_scores_that_cannot_be_compared_are_refused() -> None:
    race = entered(Full(100), "ab")
    race.ask(2)
    with pytest.raises(ValueError, match="finite scores"):
        race.tell("a", 100, [math.nan])
    race.tell("a", 100, [1.0, 2.0])
    with pytest.raises(ValueError, match="expected 2 scores as of the others, got 1"):
        race.tell("b", 100, [1.0])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"eta": 1}, "eta"),
        ({"rungs": 0}, "rungs"),
        ({"rungs": 11}, "rungs: expected at most 10, got 11"),
        ({"confidence": 1.0}, "confidence: expected above 0, below 1"),
        ({"multiple": 0}, "multiple"),
    ],
)
def test_numbers_out_of_bounds_are_refused(
    arguments: dict[str, float], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        Halving(100, **arguments)  # type: ignore[arg-type]

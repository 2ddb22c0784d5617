"""The search against a table of outcomes: no training, no model, milliseconds."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import numpy as np
import pytest

from guerdon.reward_design.search import Proposal, Request, Score, Search, SearchConfig
from guerdon.reward_design.search.bandit import Bandit
from guerdon.reward_design.search.candidate import (
    MODEL_OPERATORS,
    OWN_OPERATORS,
    PARENTS,
    Operator,
)
from guerdon.types import Failure

Table = Callable[[str, int], float | Failure]
"""``(candidate, seed) -> true score``, or how it failed."""


def chance(candidate: str, seed: int) -> float | Failure:
    """Scores that look random and are the same in every process."""
    digest = hashlib.sha256(f"{candidate} {seed}".encode()).digest()
    if digest[1] < 40:
        return Failure("crashed", "as the table says")
    return digest[0] / 255


def proposal_for(request: Request, operator: Operator | None = None) -> Proposal:
    return Proposal(
        id=request.id,
        round=request.round,
        slot=request.slot,
        operator=operator or request.operator,
        parents=tuple(p.id for p in request.parents),
        source="def reward(...)",
    )


def score(table: Table, candidate: str, *seeds: int) -> Score | Failure:
    found: dict[int, float] = {}
    for seed in seeds:
        value = table(candidate, seed)
        if isinstance(value, Failure):
            return value
        found[seed] = value
    return Score(found, {seed: float(v > 0.5) for seed, v in found.items()})


def play_round(search: Search, table: Table = chance) -> list[Request]:
    requests = search.ask()
    proposals = [proposal_for(request) for request in requests]
    search.tell(proposals, {p.id: score(table, p.id, *search.seeds) for p in proposals})
    return requests


def play(search: Search, table: Table = chance) -> list[list[Request]]:
    rounds = []
    while requests := search.ask():
        rounds.append(requests)
        play_round(search, table)
    return rounds


def outline(requests: list[Request]) -> list[tuple[object, ...]]:
    return [
        (r.id, r.operator, r.seed, tuple(p.id for p in r.parents)) for r in requests
    ]


# --- rounds -------------------------------------------------------------------


def test_a_search_asks_for_its_rounds_and_then_for_nothing() -> None:
    search = Search(SearchConfig(candidates=5, rounds=3))
    rounds = play(search)
    assert [len(requests) for requests in rounds] == [5, 5, 5]
    assert sorted(r.id for r in rounds[1]) == [f"r2-c0{i}" for i in range(1, 6)]
    assert search.ask() == []
    assert search.round == 3
    # The table fails some; whoever has a score is in the archive.
    asked = [request.id for requests in rounds for request in requests]
    worked = {name for name in asked if isinstance(chance(name, 0), float)}
    assert {member.id for member in search.archive.members} == worked


def test_the_first_round_shares_its_slots_between_model_and_sampler() -> None:
    config = SearchConfig(candidates=8, model_share=0.25)
    operators = [r.operator for r in Search(config).ask()]
    assert operators == ["sample"] * 6 + ["model_fresh"] * 2


def test_without_a_model_none_is_asked() -> None:
    search = Search(SearchConfig(candidates=6, rounds=6), model=False)
    asked = {r.operator for requests in play(search) for r in requests}
    assert asked <= set(OWN_OPERATORS)
    assert asked > {"sample"}


def test_a_resumed_search_chooses_from_the_operators_that_it_began_with() -> None:
    config = SearchConfig(candidates=12, rounds=6, seed=1)
    before = [a for a in (*MODEL_OPERATORS, *OWN_OPERATORS) if a != "model_simplify"]
    earlier = Search(config)
    earlier.bandit = Bandit(before)  # as a version without that operator had it
    # The journal keeps names sorted, not in the order in which they are drawn.
    resumed = Search(config, known=sorted(before))
    assert [outline(r) for r in play(resumed)] == [outline(r) for r in play(earlier)]
    now = Search(config)
    assert "model_simplify" in {r.operator for asked in play(now) for r in asked}
    assert Search(config, model=False, known=["gone"]).bandit.arms == OWN_OPERATORS


def test_operators_come_before_the_model_in_every_round() -> None:
    for requests in play(Search(SearchConfig(candidates=10, rounds=5))):
        slow = [r.operator in MODEL_OPERATORS for r in requests]
        assert slow == sorted(slow)


def test_later_rounds_get_as_many_different_parents_as_their_operator_needs() -> None:
    search = Search(SearchConfig(candidates=12, rounds=6))
    for requests in play(search)[1:]:
        for request in requests:
            names = [p.id for p in request.parents]
            assert len(names) == len(set(names)) == PARENTS[request.operator]
            assert all(int(name[1]) <= request.round for name in names)


def test_while_fewer_than_two_candidates_work_everything_is_fresh() -> None:
    def one_works(candidate: str, seed: int) -> float | Failure:
        return 1.0 if candidate == "r1-c01" else Failure("crashed", "no")

    rounds = play(Search(SearchConfig(candidates=4, rounds=3)), one_works)
    asked = {r.operator for requests in rounds for r in requests}
    assert asked == {"model_fresh", "sample"}


def test_asking_twice_asks_the_same() -> None:
    search = Search(SearchConfig(candidates=6))
    assert outline(search.ask()) == outline(search.ask())


def test_searches_that_are_told_the_same_ask_the_same() -> None:
    config = SearchConfig(candidates=9, rounds=4, seed=3)
    one, two = Search(config), Search(config)
    for _ in range(4):
        asked, again = one.ask(), two.ask()
        assert outline(asked) == outline(again)
        for search, requests in ((one, asked), (two, list(reversed(again)))):
            # The order of the proposals does not matter, their slots do.
            made = [proposal_for(r) for r in requests]
            search.tell(made, {p.id: score(chance, p.id, 0) for p in made})
    assert one.bandit == two.bandit
    assert one.archive == two.archive


def test_another_seed_asks_something_else() -> None:
    one, two = (play(Search(SearchConfig(seed=s)))[1] for s in (0, 1))
    assert outline(one) != outline(two)


def test_other_outcomes_lead_to_other_questions() -> None:
    config = SearchConfig(candidates=8, rounds=2)
    one = play(Search(config))[1]
    other = play(Search(config), lambda name, seed: float(name[-1]))[1]
    assert outline(one) != outline(other)


# --- what is told ----------------------------------------------------------------


def test_operators_are_paid_by_the_share_that_they_beat_and_nothing_for_failing() -> (
    None
):
    search = Search(SearchConfig(candidates=4, rounds=1, model_share=0.5))
    scores: dict[str, float | Failure] = {
        "r1-c01": 0.5,  # model; first of all: .5
        "r1-c02": 0.9,  # model; beats the one before: 1
        "r1-c03": 0.7,  # sampler; beats one of two: .5
        "r1-c04": Failure("crashed", "no"),  # sampler: 0
    }
    play_round(search, lambda name, seed: scores[name])
    d = search.bandit.discount
    model = (1 + d * 0.5 + 1.0, 1 + d * 0.5 + 0.0)
    sampler = (1 + d * 0.5 + 0.0, 1 + d * 0.5 + 1.0)
    assert search.bandit.wins["model_fresh"] == pytest.approx(model[0])
    assert search.bandit.losses["model_fresh"] == pytest.approx(model[1])
    assert search.bandit.wins["sample"] == pytest.approx(sampler[0])
    assert search.bandit.losses["sample"] == pytest.approx(sampler[1])
    assert {m.id for m in search.archive.members} == set(scores) - {"r1-c04"}


def test_a_model_whose_slot_an_operator_had_to_fill_is_paid_nothing() -> None:
    search = Search(SearchConfig(candidates=2, rounds=1, model_share=1.0))
    made = [proposal_for(request, "sample") for request in search.ask()]
    search.tell(made, {p.id: Score({0: 1.0}, {0: 1.0}) for p in made})
    means = search.bandit.means()
    assert means["model_fresh"] < 0.3
    assert means["sample"] == pytest.approx(0.5)


def test_a_dead_model_is_asked_less_and_less() -> None:
    search = Search(SearchConfig(candidates=12, rounds=8))
    asked = []
    while requests := search.ask():
        own = {
            "model_fresh": "sample",
            "model_mutate": "mutate",
            "model_cross": "cross",
            "model_simplify": "simplify",
        }
        asked.append(sum(r.operator in own for r in requests))
        made = [
            proposal_for(r, own.get(r.operator))  # type: ignore[arg-type]
            for r in requests
        ]
        search.tell(made, {p.id: Score({0: 0.5}, {0: 0.0}) for p in made})
    assert asked[0] == 6
    assert sum(asked[-3:]) <= 6


def test_telling_before_asking_is_an_error() -> None:
    search = Search(SearchConfig())
    with pytest.raises(RuntimeError, match=r"tell\(\) before ask\(\)"):
        search.tell([], {})
    play_round(search)
    with pytest.raises(RuntimeError, match=r"tell\(\) before ask\(\)"):
        search.tell([], {})


def test_proposals_must_be_those_of_the_requests() -> None:
    search = Search(SearchConfig(candidates=2))
    made = [proposal_for(request) for request in search.ask()]
    scores = {p.id: score(chance, p.id, 0) for p in made}
    with pytest.raises(ValueError, match=r"expected proposals for .*r1-c02"):
        search.tell(made[:1], scores)
    with pytest.raises(ValueError, match="expected proposals"):
        search.tell([made[0], made[0]], scores)


def test_a_program_without_an_outcome_is_an_error_that_changes_nothing() -> None:
    search = Search(SearchConfig(candidates=2))
    made = [proposal_for(request) for request in search.ask()]
    with pytest.raises(KeyError):
        search.tell(made, {made[0].id: Score({0: 1.0}, {0: 1.0})})
    assert len(search.archive) == 0
    assert set(search.bandit.means().values()) == {0.5}


# --- the winner ------------------------------------------------------------------


def finals(search: Search, table: Table) -> int:
    """Play the finals; how often seeds were added."""
    added = 0
    while requests := search.ask_seeds(added):
        found = {r.candidate.id: score(table, r.candidate.id, r.seed) for r in requests}
        search.tell_seeds({k: v for k, v in found.items() if isinstance(v, Score)})
        added += 1
    return added


def test_seeds_are_added_until_one_is_best_with_confidence() -> None:
    base = {"r1-c01": 0.9, "r1-c02": 0.5, "r1-c03": 0.4}

    def clear(name: str, seed: int) -> float:
        return base[name] + 0.01 * (seed % 2)

    search = Search(SearchConfig(candidates=3, rounds=1, final_seeds=5))
    play(search, clear)
    assert search.best_probability() == 0.0  # one seed each says nothing
    assert finals(search, clear) == 1
    assert search.best_probability() > 0.99
    winner = search.winner()
    assert winner is not None
    assert winner.id == "r1-c01"
    assert set(winner.score.fitness) == {0, 1}


def test_close_finalists_get_all_the_seeds_and_not_one_more() -> None:
    def close(name: str, seed: int) -> float:
        return 0.5 + (0.3 if (int(name[-1]) + seed) % 2 else -0.3)

    search = Search(SearchConfig(candidates=3, rounds=1, final_seeds=4))
    play(search, close)
    assert finals(search, close) == 4
    assert all(len(f.score.fitness) == 5 for f in search.finalists())
    assert search.best_probability() < 0.9


def test_finalists_that_cannot_be_told_apart_share_the_probability() -> None:
    search = Search(SearchConfig(candidates=3, rounds=1, final_seeds=2))
    play(search, lambda name, seed: 1.0)
    assert finals(search, lambda name, seed: 1.0) == 2
    assert search.best_probability() == pytest.approx(1 / 3)


def test_the_probability_is_that_of_two_normal_means() -> None:
    def noisy(name: str, seed: int) -> float:
        return (0.6 if name == "r1-c01" else 0.5) + (0.1 if seed % 2 else -0.1)

    search = Search(SearchConfig(candidates=2, rounds=1, search_seeds=2, finalists=2))
    play(search, noisy)
    # Spread .1 * sqrt(2), two seeds: the difference .1 has the deviation .1 * sqrt(2).
    expected = 0.7602  # the normal distribution function at 1 / sqrt(2)
    assert search.best_probability(20_000) == pytest.approx(expected, abs=0.015)


def test_the_probability_is_that_of_the_winner_and_not_of_the_best_mean() -> None:
    search = Search(SearchConfig(candidates=2, rounds=1, final_seeds=2, finalists=2))
    scores = {
        "r1-c01": Score({0: 0.95, 1: 0.93}, {0: 1.0, 1: 1.0}),
        "r1-c02": Score({0: 0.5, 1: 0.52, 2: 0.51}, {0: 1.0, 1: 1.0, 2: 1.0}),
    }
    search.tell([proposal_for(request) for request in search.ask()], scores)
    winner = search.winner()
    assert winner is not None
    assert winner.id == "r1-c02"  # the other one failed on its third seed
    # 0.43 apart, at a deviation of the difference of .0122 * sqrt(1/2 + 1/3) = .011.
    assert search.best_probability() == 0.0


def test_a_single_finalist_needs_no_more_seeds() -> None:
    search = Search(SearchConfig(candidates=3, rounds=1, finalists=1))
    play(search, lambda name, seed: 0.5)
    assert search.ask_seeds(0) == []
    assert search.best_probability() == 1.0


def test_finalists_stay_the_same_while_their_means_change() -> None:
    def falls(name: str, seed: int) -> float:
        return {"r1-c01": 0.9, "r1-c02": 0.8, "r1-c03": 0.7}[name] - seed * 0.5

    search = Search(SearchConfig(candidates=3, rounds=1, finalists=2, final_seeds=2))
    play(search, falls)
    finals(search, falls)
    assert {f.id for f in search.finalists()} == {"r1-c01", "r1-c02"}
    winner = search.winner()
    assert winner is not None
    assert winner.id == "r1-c01"  # although r1-c03 has the best mean by now
    assert search.archive.members[0].id == "r1-c03"


def test_a_finalist_that_fails_on_a_new_seed_does_not_win() -> None:
    def breaks(name: str, seed: int) -> float | Failure:
        if name == "r1-c01" and seed > 0:
            return Failure("crashed", "later")
        return {"r1-c01": 0.9, "r1-c02": 0.5}[name] + 0.01 * seed

    search = Search(SearchConfig(candidates=2, rounds=1, finalists=2))
    play(search, breaks)
    finals(search, breaks)
    winner = search.winner()
    assert winner is not None
    assert winner.id == "r1-c02"


def test_the_best_without_reflection_is_the_best_that_had_no_parent() -> None:
    search = Search(SearchConfig(candidates=8, rounds=4))
    play(search)
    fresh = search.best_fresh()
    assert fresh is not None
    without = [m for m in search.archive.members if not m.proposal.parents]
    assert fresh.score.mean == max(m.score.mean for m in without)


def test_a_candidate_that_lost_its_race_is_a_parent_but_no_finalist() -> None:
    search = Search(SearchConfig(candidates=3, rounds=2, finalists=3), model=False)
    requests = search.ask()
    proposals = [proposal_for(request) for request in requests]
    scores: dict[str, Score | Failure] = {
        "r1-c01": Score({0: 0.9}, {0: 1.0}, complete=False),
        "r1-c02": Score({0: 0.1}, {0: 0.0}),
        "r1-c03": Score({0: 0.2}, {0: 0.0}),
    }
    search.tell(proposals, scores)
    assert [m.id for m in search.archive.members] == ["r1-c03", "r1-c02", "r1-c01"]
    assert [m.id for m in search.finalists()] == ["r1-c03", "r1-c02"]
    assert search.archive.best is not None
    assert search.archive.best.id == "r1-c03"
    # With three members and draws of three, a good one is soon among the parents.
    rng = np.random.default_rng(0)
    drawn = {search.archive.parents(1, rng)[0].id for _ in range(10)}
    assert "r1-c01" in drawn


def test_when_everything_fails_there_is_no_winner_and_no_error() -> None:
    search = Search(SearchConfig(candidates=3, rounds=2))
    play(search, lambda name, seed: Failure("timed_out", "no"))
    assert search.finalists() == []
    assert search.ask_seeds(0) == []
    assert search.winner() is None
    assert search.best_fresh() is None
    assert len(search.archive) == 0


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("candidates", 0, "at least 1, got 0"),
        ("rounds", 0, "at least 1, got 0"),
        ("search_seeds", 0, "at least 1, got 0"),
        ("finalists", 0, "at least 1, got 0"),
        ("final_seeds", -1, "at least 0, got -1"),
        ("confidence", 1.5, "0 to 1, got 1.5"),
        ("model_share", -0.5, "0 to 1, got -0.5"),
    ],
)
def test_a_wrong_number_is_refused_by_name(
    name: str, value: float, expected: str
) -> None:
    with pytest.raises(ValueError, match=f"{name}: expected {expected}"):
        SearchConfig(**{name: value})  # type: ignore[arg-type]

from __future__ import annotations

import math
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from guerdon.llm.budget import (
    FREE,
    PRICES,
    Budget,
    Cost,
    Metered,
    Price,
    believable,
    count_tokens,
    estimate,
    find_price,
    prompt_size,
)
from guerdon.llm.client import ModelError

from .conftest import Fake, ask


def test_cap_refuses_before_it_is_exceeded() -> None:
    budget = Budget(tokens=100)
    first = budget.reserve(Cost(60, 0.0))
    with pytest.raises(ModelError, match=r"100 tokens has 40 left.* may take 41"):
        budget.reserve(Cost(41, 0.0))
    budget.spend(first, Cost(10, 0.0))
    assert budget.spent == Cost(10, 0.0)
    budget.reserve(Cost(90, 0.0))


def test_dollars_are_capped_too() -> None:
    budget = Budget(usd=0.01)
    budget.spend(budget.reserve(Cost(1, 0.009)), Cost(1, 0.009))
    with pytest.raises(ModelError, match=r"\$0\.01 has \$0\.0010 left"):
        budget.reserve(Cost(1, 0.002))
    assert not budget.exhausted
    budget.spend(budget.reserve(Cost(1, 0.001)), Cost(1, 0.001))
    assert budget.exhausted


def test_threads_cannot_overshoot_together() -> None:
    budget = Budget(tokens=1000)
    start = threading.Barrier(8)

    def spend(_: int) -> int:
        start.wait()
        done = 0
        for _ in range(50):
            try:
                reservation = budget.reserve(Cost(10, 0.0))
            except ModelError:
                continue
            budget.spend(reservation, Cost(10, 0.0))
            done += 1
        return done

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(spend, range(8))) == 100
    assert budget.spent.tokens == 1000
    assert budget.exhausted


def test_reservation_is_settled_once() -> None:
    budget = Budget()
    reservation = budget.reserve(Cost(1, 0.0))
    budget.spend(reservation, Cost(1, 0.0))
    with pytest.raises(ValueError, match="settled before"):
        budget.spend(reservation, Cost(1, 0.0))


def test_resumed_run_starts_where_it_stopped() -> None:
    budget = Budget(tokens=100, spent=Cost(95, None))
    with pytest.raises(ModelError, match="has 5 left"):
        budget.reserve(Cost(6, 0.0))


@pytest.mark.parametrize("cap", [-1.0, math.nan, math.inf])
def test_cap_that_is_no_cap_is_refused(cap: float) -> None:
    with pytest.raises(ValueError, match="budget usd: expected a number >= 0"):
        Budget(usd=cap)


def test_metered_chat_settles_answers_and_failures() -> None:
    wasted = ModelError("x", "empty", prompt_tokens=5, completion_tokens=4)
    lost = ModelError("x", "timeout")
    fake = Fake("ok", wasted, lost, RuntimeError("a bug"))
    budget = Budget(tokens=10_000)
    chat = Metered(fake, budget, Price(1e6, 2e6))
    chat.chat(ask())
    assert budget.spent.tokens == 7
    for failure in (ModelError, ModelError, RuntimeError):
        with pytest.raises(failure):
            chat.chat(ask())
    assert budget.spent == Cost(7 + 9, 5 * 1.0 + 4 * 2.0)
    # Nothing stays reserved.
    budget.reserve(Cost(10_000 - 16, 0.0))


def test_metered_chat_reserves_prompt_and_whole_answer() -> None:
    fake = Fake("ok")
    request = ask("abc", max_tokens=20)
    chat = Metered(fake, Budget(tokens=prompt_size(request) + 19), FREE)
    with pytest.raises(ModelError, match="may take 29"):
        chat.chat(request)
    assert fake.requests == []


def test_estimate_is_what_the_worst_run_costs() -> None:
    cost = estimate(Price(2.0, 8.0), requests=10, prompt_tokens=1000, max_tokens=500)
    assert cost.tokens == 15_000
    assert cost.usd == pytest.approx(10 * (1000 * 2 + 500 * 8) / 1e6)


def test_unknown_price_is_said_aloud() -> None:
    cost = estimate(None, requests=1, prompt_tokens=1, max_tokens=1)
    assert str(cost) == "2 tokens, price unknown"


@pytest.mark.parametrize("model", sorted(PRICES))
def test_dated_snapshot_costs_what_its_model_costs(model: str) -> None:
    assert find_price(f"{model}-2025-01-31") == PRICES[model]
    assert PRICES[model].completion > PRICES[model].prompt > 0


def test_longer_name_is_another_model() -> None:
    assert find_price("gpt-4o-audio-preview") is None


@pytest.mark.parametrize(("text", "n"), [("", 0), ("a", 1), ("abcd", 2), ("ü" * 3, 2)])
def test_tokens_are_counted_by_bytes(text: str, n: int) -> None:
    assert count_tokens(text) == n


@pytest.mark.parametrize(
    ("reported", "text", "expected"),
    [
        (0, "", True),
        (0, "a", False),
        (1, "x" * 16, True),
        (1, "x" * 17, False),
        (10_000_000, "x", True),
        (10_000_001, "x", False),
        (-1, "", False),
        (True, "x", False),
        ("5", "x", False),
        (5.0, "x", False),
        (None, "x", False),
    ],
)
def test_a_reported_number_of_tokens_is_believed_within_bounds(
    reported: object, text: str, expected: bool
) -> None:
    assert believable(reported, text) is expected

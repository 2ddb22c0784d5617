from collections.abc import Iterator
from pathlib import Path

import pytest

from guerdon.journal import Journal
from guerdon.llm.budget import Budget, Cost, Metered, Price
from guerdon.llm.cache import Cached
from guerdon.llm.client import Answer, Message, ModelError, Request
from guerdon.llm.journaled import AGAIN, Journaled, Relay
from guerdon.llm.retry import Retrying

from .conftest import Fake, ask


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    with Journal.create(tmp_path / "run", {}) as found:
        yield found


def test_an_answer_is_bought_once_and_read_ever_after(journal: Journal) -> None:
    fake = Fake("first")
    bought = Journaled(fake, journal).chat(ask("hi"))
    told: list[Answer] = []
    again = Journaled(fake, journal, told.append).chat(ask("hi"))
    assert len(fake.requests) == 1
    assert (bought.text, bought.cached) == ("first", False)
    assert (again.text, again.cached) == ("first", True)
    assert (again.prompt_tokens, again.completion_tokens) == (5, 2)
    assert told == [again]


def test_half_a_surrogate_is_the_same_text_when_bought_and_when_read_again(
    journal: Journal,
) -> None:
    fake = Fake("# \ud800\n")
    bought = Journaled(fake, journal).chat(ask("hi"))
    again = Journaled(fake, journal).chat(ask("hi"))
    assert bought.text == again.text == "# \\ud800\n"


def test_what_is_written_is_the_request_and_the_answer_by_content_hash(
    journal: Journal,
) -> None:
    Journaled(Fake("text"), journal).chat(ask("hi", seed=3))
    (call,) = journal.calls()
    assert call.key == ask("hi", seed=3).key("fake")
    assert call.request == ask("hi", seed=3).as_json()
    assert (call.answer, call.failure, call.model) == ("text", None, "fake")
    assert journal.totals().prompt_tokens == 5


def test_another_seed_is_another_request(journal: Journal) -> None:
    chat = Journaled(Fake("one", "two"), journal)
    assert [chat.chat(ask("hi", seed=s)).text for s in (1, 2, 1)] == [
        "one",
        "two",
        "one",
    ]


def test_a_failed_call_is_counted_and_fails_again_when_resumed(
    journal: Journal,
) -> None:
    error = ModelError("too: slow", "timeout", prompt_tokens=11)
    fake = Fake(error)
    with pytest.raises(ModelError):
        Journaled(fake, journal).chat(ask("hi"))
    with pytest.raises(ModelError, match="too: slow") as caught:
        Journaled(fake, journal).chat(ask("hi"))
    assert caught.value.kind == "timeout"
    assert len(fake.requests) == 1
    totals = journal.totals()
    assert (totals.calls_ok, totals.calls_failed, totals.prompt_tokens) == (0, 1, 11)


def test_a_call_that_closing_breaks_off_is_asked_again_when_resumed(
    journal: Journal,
) -> None:
    class Broken(Fake):
        def chat(self, request: object) -> Answer:  # type: ignore[override]
            chat.close()
            raise ModelError("the connection is gone", "server")

    chat = Journaled(Broken(), journal)
    with pytest.raises(ModelError):
        chat.chat(ask("hi"))
    assert journal.calls() == []
    assert Journaled(Fake("now"), journal).chat(ask("hi")).text == "now"


def test_closing_closes_the_chat_inside(journal: Journal) -> None:
    fake = Fake()
    Journaled(fake, journal).close()
    assert fake.closed == 1


class Counting:
    model = "tiny"

    def chat(self, request: Request) -> Answer:
        return Answer("hi", 7, 3, 0.5, 0.1, "tiny")

    def close(self) -> None:
        """Nothing is held."""


def test_an_answer_that_was_bought_but_not_recorded_is_paid_for_when_resumed(
    tmp_path: Path, journal: Journal
) -> None:
    answers = tmp_path / "answers"
    # Bought, and killed before it was in the journal; Fake's answers take 7 tokens.
    Cached(Metered(Fake("one"), Budget(tokens=1000), None), answers).chat(ask("hi"))
    budget = Budget(tokens=1000)
    inside = Cached(Metered(Fake("two"), budget, None), answers)
    chat = Journaled(inside, journal, budget=budget)
    assert chat.chat(ask("hi")).text == "one"
    assert budget.spent.tokens == 7
    totals = journal.totals()
    assert totals.prompt_tokens + totals.completion_tokens == 7
    # Asked once more it stands in the journal, and is paid for.
    chat.chat(ask("hi"))
    assert budget.spent.tokens == 7
    chat.chat(ask("ho"))
    assert budget.spent.tokens == 14


def test_an_answer_from_a_shared_cache_costs_the_run_nothing(tmp_path: Path) -> None:
    request = Request((Message("user", "hello"),))
    for name, paid in (("first", 7), ("second", 0)):
        with Journal.create(tmp_path / name, {}) as journal:
            chat = Cached(Counting(), tmp_path / "answers")
            answer = Journaled(chat, journal, shared_cache=True).chat(request)
            assert answer.text == "hi"
            assert journal.totals().prompt_tokens == paid


def test_every_call_that_is_repeated_is_recorded_with_what_it_cost(
    journal: Journal,
) -> None:
    empty = ModelError("empty", "empty", retryable=True, prompt_tokens=11)
    relay = Relay()
    fake = Fake(empty, empty, "text")
    budget = Budget(1000)
    inside = Retrying(Metered(fake, budget, None), sleep=lambda _: None, watch=relay)
    chat = Journaled(inside, journal, relay=relay)
    assert chat.chat(ask("hi")).text == "text"
    assert [call.failure for call in journal.calls()] == [
        f"{AGAIN}empty: empty",
        f"{AGAIN}empty: empty",
        None,
    ]
    totals = journal.totals()
    assert (totals.calls_ok, totals.calls_failed, totals.calls_refused) == (1, 2, 0)
    # A resumed run begins with all that was spent.
    assert budget.spent == Cost(11 + 11 + 7, 0.0)
    assert totals.prompt_tokens + totals.completion_tokens == 11 + 11 + 7


def test_a_run_that_ended_between_two_attempts_asks_anew(journal: Journal) -> None:
    relay = Relay()
    Journaled(Fake(), journal, relay=relay)
    busy = ModelError("busy", "rate_limit", retryable=True)
    relay.again(ask("hi"), busy, 0.1)
    assert Journaled(Fake("text"), journal).chat(ask("hi")).text == "text"


def test_calls_that_were_never_made_are_counted_apart(journal: Journal) -> None:
    fake = Fake(
        ModelError("spent", "budget"),
        ModelError("left alone", "breaker"),
        ModelError("no", "auth"),
    )
    chat = Journaled(fake, journal)
    for seed in range(3):
        with pytest.raises(ModelError):
            chat.chat(ask("hi", seed=seed))
    totals = journal.totals()
    assert (totals.calls_failed, totals.calls_refused) == (1, 2)
    with pytest.raises(ModelError) as caught:
        Journaled(Fake(), journal).chat(ask("hi", seed=1))
    assert caught.value.kind == "breaker"


def test_an_endpoint_that_is_left_alone_and_answers_again_is_noted(
    journal: Journal,
) -> None:
    relay, notes = Relay(), []
    relay.breaker(True, "nobody is there yet")
    chat = Journaled(Fake(), journal, note=lambda *n: notes.append(n), relay=relay)
    relay.breaker(True, "dead")
    relay.breaker(False, "")
    chat.close()
    relay.breaker(True, "closed")
    assert notes == [
        ("model_down", {"reason": "dead"}),
        ("model_up", {"reason": ""}),
    ]


def test_money_for_failed_calls_is_kept_so_that_a_cap_holds_across_resumes(
    journal: Journal,
) -> None:
    late = ModelError(
        "late", "timeout", retryable=True, prompt_tokens=1000, completion_tokens=400
    )
    price = Price(2.0, 8.0)
    each = (1000 * 2.0 + 400 * 8.0) / 1e6  # dollars
    relay, budget = Relay(), Budget(usd=1.0)
    inside = Metered(Fake(late, late, late), budget, price)
    retrying = Retrying(inside, attempts=3, sleep=lambda _: None, watch=relay)
    with pytest.raises(ModelError, match="late"):
        Journaled(retrying, journal, relay=relay).chat(ask("hi"))
    totals = journal.totals()
    assert totals.calls_failed == 3
    assert totals.usd == pytest.approx(3 * each)
    assert budget.spent.usd == pytest.approx(3 * each)
    # Resumed with a cap of what was spent: not one call more is paid for.
    left = Budget(
        usd=3 * each,
        spent=Cost(totals.prompt_tokens + totals.completion_tokens, totals.usd),
    )
    assert left.exhausted
    fake = Fake("too much")
    with pytest.raises(ModelError) as caught:
        Journaled(Metered(fake, left, price), journal).chat(ask("another"))
    assert caught.value.kind == "budget"
    assert fake.requests == []


def test_a_failed_call_of_unknown_price_has_none(journal: Journal) -> None:
    late = ModelError("late", "timeout", prompt_tokens=1000)
    with pytest.raises(ModelError):
        Journaled(Metered(Fake(late), Budget(9000), None), journal).chat(ask())
    assert journal.totals().usd is None

from __future__ import annotations

import pytest

from guerdon.llm.client import Answer, ModelError, Request
from guerdon.llm.retry import Breaker, Retrying

from .conftest import Fake, ask


def passing(retry_after: float | None = None) -> ModelError:
    return ModelError("busy", "server", retryable=True, retry_after=retry_after)


def test_waits_double_and_are_drawn_from_the_upper_half() -> None:
    waits: list[float] = []
    fake = Fake(*[passing()] * 5, "ok")
    chat = Retrying(fake, attempts=6, base_delay=1.0, max_delay=4.0, sleep=waits.append)
    assert chat.chat(ask()).text == "ok"
    for wait, whole in zip(waits, [1.0, 2.0, 4.0, 4.0, 4.0], strict=True):
        assert whole / 2 <= wait <= whole
    assert len(set(waits)) == 5


def test_same_seed_waits_the_same() -> None:
    seen: list[list[float]] = []
    for seed in (3, 3, 4):
        waits: list[float] = []
        fake = Fake(passing(), passing(), "ok")
        Retrying(fake, seed=seed, sleep=waits.append).chat(ask())
        seen.append(waits)
    assert seen[0] == seen[1] != seen[2]


def test_last_failure_is_raised_after_all_attempts() -> None:
    fake = Fake(passing(), ModelError("still", "timeout", retryable=True), "never")
    with pytest.raises(ModelError, match="timeout: still"):
        Retrying(fake, attempts=2, sleep=lambda _: None).chat(ask())
    assert len(fake.requests) == 2


def test_lasting_failure_is_not_retried() -> None:
    fake = Fake(ModelError("wrong key", "auth"), "never")
    with pytest.raises(ModelError, match="wrong key"):
        Retrying(fake, sleep=lambda _: None).chat(ask())
    assert len(fake.requests) == 1


def test_server_that_wants_too_long_a_wait_is_given_up() -> None:
    fake = Fake(passing(3600.0), "never")
    with pytest.raises(ModelError, match="busy"):
        Retrying(fake, max_delay=60.0, sleep=lambda _: None).chat(ask())


def test_a_server_that_wants_no_wait_is_not_hammered() -> None:
    waits: list[float] = []
    fake = Fake(passing(0.0), passing(0.0), "ok")
    Retrying(fake, base_delay=1.0, sleep=waits.append).chat(ask())
    assert [0.5 <= wait <= whole for wait, whole in zip(waits, (1, 2), strict=True)]


class Watching:
    def __init__(self) -> None:
        self.seen: list[tuple[object, ...]] = []

    def again(self, request: Request, error: ModelError, seconds: float) -> None:
        assert seconds >= 0
        self.seen.append(("again", request, error.message))

    def breaker(self, is_open: bool, reason: str) -> None:
        self.seen.append(("breaker", is_open, reason))


def test_the_watch_is_told_of_repeated_calls_and_of_the_breaker_once_each() -> None:
    dead = ModelError("dead", "auth")
    fake = Fake(passing(), "ok", dead, dead, dead, "ok")
    now = [0.0]
    watch = Watching()
    chat = Retrying(
        fake,
        breaker=Breaker(2, 10.0, lambda: now[0]),
        sleep=lambda _: None,
        watch=watch,
    )
    assert chat.chat(ask()).text == "ok"
    for seconds in (0.0, 1.0, 20.0):
        now[0] = seconds
        with pytest.raises(ModelError, match="dead"):
            chat.chat(ask())
    now[0] = 40.0
    assert chat.chat(ask()).text == "ok"
    assert watch.seen == [
        ("again", ask(), "busy"),
        ("breaker", True, "auth: dead"),
        ("breaker", False, ""),
    ]


def test_breaker_opens_after_failures_in_a_row_only() -> None:
    dead = ModelError("dead", "server")
    fake = Fake(dead, "ok", dead, dead, "ok")
    now = [0.0]
    breaker = Breaker(2, 10.0, lambda: now[0])
    chat = Retrying(fake, breaker=breaker)
    outcomes: list[str] = []
    for _ in range(5):
        try:
            outcomes.append(chat.chat(ask()).text)
        except ModelError as error:
            outcomes.append(error.message[:12])
    assert outcomes == ["dead", "ok", "dead", "dead", "the endpoint"]
    now[0] = 10.0
    assert chat.chat(ask()).text == "ok"


def test_half_open_breaker_lets_one_call_through() -> None:
    now = [0.0]
    breaker = Breaker(1, 10.0, lambda: now[0])
    breaker.failed()
    now[0] = 11.0
    breaker.check()
    with pytest.raises(ModelError, match="another 10 s"):
        breaker.check()
    breaker.succeeded()
    breaker.check()


def test_failed_trial_opens_the_breaker_again() -> None:
    now = [0.0]
    breaker = Breaker(1, 10.0, lambda: now[0])
    breaker.failed()
    now[0] = 11.0
    breaker.check()
    breaker.failed()
    now[0] = 20.0
    with pytest.raises(ModelError, match="another 1 s"):
        breaker.check()


def test_exhausted_budget_does_not_blame_the_endpoint() -> None:
    fake = Fake(ModelError("spent", "budget"), ModelError("spent", "budget"), "ok")
    chat = Retrying(fake, breaker=Breaker(1))
    for _ in range(2):
        with pytest.raises(ModelError, match="spent"):
            chat.chat(ask())
    assert chat.chat(ask()).text == "ok"


@pytest.mark.parametrize("make", [lambda: Breaker(0), lambda: Breaker(1, 0.0)])
def test_bad_breaker_is_refused(make: object) -> None:
    with pytest.raises(ValueError, match="breaker: expected"):
        make()  # type: ignore[operator]


def test_bad_number_of_attempts_is_refused() -> None:
    with pytest.raises(ValueError, match="attempts"):
        Retrying(Fake(), attempts=0)


def test_closing_closes_the_chat_inside() -> None:
    fake = Fake()
    Retrying(fake).close()
    assert fake.closed == 1


def test_nobody_is_asked_after_closing() -> None:
    fake = Fake(passing(), "bought for nobody")
    chat = Retrying(fake, sleep=lambda _: chat.close())
    with pytest.raises(ModelError, match="closed between two attempts"):
        chat.chat(ask())
    assert len(fake.requests) == 1


def test_a_failure_that_closing_caused_is_neither_waited_for_nor_blamed() -> None:
    class Broken(Fake):
        def chat(self, request: Request) -> Answer:
            self.requests.append(request)
            chat.close()
            raise passing()

    waits: list[float] = []
    watch = Watching()
    fake = Broken()
    chat = Retrying(fake, breaker=Breaker(1), sleep=waits.append, watch=watch)
    with pytest.raises(ModelError, match="busy"):
        chat.chat(ask())
    assert (len(fake.requests), waits, watch.seen) == (1, [], [])

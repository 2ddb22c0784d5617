from __future__ import annotations

import json
import pickle
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import pytest

from guerdon.llm.budget import Budget, Metered, Price
from guerdon.llm.cache import Cached
from guerdon.llm.client import ModelError, connect
from guerdon.llm.endpoint import Endpoint
from guerdon.llm.retry import Breaker, Retrying
from guerdon.llm.secret import Secret

from .conftest import KEY, FakeServer, Reply, ask, completion, error


@pytest.fixture
def endpoint(server: FakeServer) -> Iterator[Endpoint]:
    chat = Endpoint(server.url, "small", key=Secret(KEY), timeout=5.0)
    yield chat
    chat.close()


def patient(endpoint: Endpoint, waits: list[float] | None = None) -> Retrying:
    waits = [] if waits is None else waits
    return Retrying(endpoint, attempts=3, sleep=waits.append)


def test_answer_carries_text_usage_and_price(server: FakeServer) -> None:
    chat = Endpoint(server.url, "small", key=Secret(KEY), price=Price(2.0, 8.0))
    answer = chat.chat(ask(temperature=0.5, max_tokens=9, seed=4))
    chat.close()
    assert (answer.text, answer.prompt_tokens, answer.completion_tokens) == (
        "hello",
        7,
        3,
    )
    assert answer.usd == pytest.approx((7 * 2 + 3 * 8) / 1e6)
    assert not answer.cached
    assert not answer.estimated
    sent = server.bodies[0]
    assert sent["model"] == "small"
    assert sent["messages"] == [{"role": "user", "content": "hi"}]
    assert (sent["temperature"], sent["max_tokens"], sent["seed"]) == (0.5, 9, 4)
    assert server.keys == [f"Bearer {KEY}"]


def test_rate_limit_is_retried_after_the_time_the_server_asks(
    server: FakeServer, endpoint: Endpoint
) -> None:
    server.script = [error(429, Retry_After="2"), Reply(completion("at last"))]
    waits: list[float] = []
    assert patient(endpoint, waits).chat(ask()).text == "at last"
    assert waits == [2.0]


def test_retry_after_may_be_a_date(server: FakeServer, endpoint: Endpoint) -> None:
    server.script = [error(429, Retry_After="Wed, 21 Oct 2015 07:28:00 GMT")]
    with pytest.raises(ModelError) as caught:
        endpoint.chat(ask())
    assert caught.value.kind == "rate_limit"
    assert caught.value.retry_after == 0.0


def test_exhausted_account_is_not_retried(
    server: FakeServer, endpoint: Endpoint
) -> None:
    body = {"error": {"message": "no credit", "code": "insufficient_quota"}}
    server.script = [Reply(body, 429)]
    with pytest.raises(ModelError, match="no credit"):
        patient(endpoint).chat(ask())
    assert len(server.bodies) == 1


def test_server_error_is_retried(server: FakeServer, endpoint: Endpoint) -> None:
    server.script = [error(500), error(503), Reply(completion("up again"))]
    assert patient(endpoint).chat(ask()).text == "up again"
    assert len(server.bodies) == 3


def test_slow_server_times_out(server: FakeServer) -> None:
    server.script = [Reply(completion(), delay=0.6)]
    chat = Endpoint(server.url, "small", key=Secret(""), timeout=0.1)
    with pytest.raises(ModelError, match=r"within 0\.1 s") as caught:
        chat.chat(ask())
    chat.close()
    assert (caught.value.kind, caught.value.retryable) == ("timeout", True)


def test_dripping_server_times_out_in_all(server: FakeServer) -> None:
    server.script = [Reply(completion("x" * 400), drip=0.02)]
    chat = Endpoint(server.url, "small", key=Secret(""), timeout=0.2)
    begin = time.monotonic()
    with pytest.raises(ModelError) as caught:
        chat.chat(ask())
    chat.close()
    assert caught.value.kind == "timeout"
    assert time.monotonic() - begin < 2.0  # the whole answer would take ten seconds


def test_dropped_connection_is_a_server_failure_and_retried(
    server: FakeServer, endpoint: Endpoint
) -> None:
    server.script = [Reply(drop=True), Reply(completion("back"))]
    assert patient(endpoint).chat(ask()).text == "back"


def test_nobody_listening_is_a_server_failure() -> None:
    chat = Endpoint("http://127.0.0.1:9/v1", "small", key=Secret(KEY))
    with pytest.raises(ModelError, match="cannot be reached") as caught:
        chat.chat(ask())
    chat.close()
    assert (caught.value.kind, caught.value.retryable) == ("server", True)


@pytest.mark.parametrize("content", ["", "  \n", None])
def test_empty_answer_is_retryable_and_its_tokens_are_told(
    server: FakeServer, endpoint: Endpoint, content: object
) -> None:
    server.script = [Reply(completion(content, usage=(11, 2)))]
    with pytest.raises(ModelError) as caught:
        endpoint.chat(ask())
    failure = caught.value
    assert (failure.kind, failure.retryable) == ("empty", True)
    assert (failure.prompt_tokens, failure.completion_tokens) == (11, 2)


def test_thinking_until_the_limit_is_not_retried(
    server: FakeServer, endpoint: Endpoint
) -> None:
    server.script = [Reply(completion("", finish="length"))]
    with pytest.raises(ModelError, match="raise max_tokens") as caught:
        endpoint.chat(ask())
    assert not caught.value.retryable


@pytest.mark.parametrize(
    "body",
    [
        b"<html>gateway</html>",
        b"[" * 100_000,
        b"\xff\xfe",
        b"null",
        {"choices": []},
        {"choices": "no"},
        {"choices": [{"message": None}]},
        {"choices": [{"message": {"content": ["a"]}}]},
        {"answer": "hello"},
    ],
)
def test_body_that_is_no_completion_is_malformed(
    server: FakeServer, endpoint: Endpoint, body: object
) -> None:
    server.script = [Reply(body)]
    with pytest.raises(ModelError) as caught:
        endpoint.chat(ask())
    assert (caught.value.kind, caught.value.retryable) == ("malformed", True)


def test_endless_body_is_cut_off(server: FakeServer, endpoint: Endpoint) -> None:
    server.script = [Reply(b" " * (5 << 20))]
    with pytest.raises(ModelError, match="more than 4 MiB"):
        endpoint.chat(ask())


def test_half_a_surrogate_pair_does_not_survive(
    server: FakeServer, endpoint: Endpoint
) -> None:
    server.script = [Reply(json.dumps(completion("a\ud800b")).encode())]
    assert endpoint.chat(ask()).text.encode("utf-8") == b"a?b"


@pytest.mark.parametrize(
    "usage",
    [
        *(None, {}, "much", (-5, 3), ("a", 1), (1.5, 2), (True, 1)),
        *((0, 0), (0, 3), (5, 0), (10**19, 3), (5, 10**9)),
    ],
)
def test_usage_that_cannot_be_true_is_estimated(
    server: FakeServer, endpoint: Endpoint, usage: object
) -> None:
    server.script = [Reply(completion("123456789", usage=usage))]
    answer = endpoint.chat(ask("abc"))
    assert answer.estimated
    assert (answer.prompt_tokens, answer.completion_tokens) == (1 + 8, 3)


def test_cut_answer_is_marked(server: FakeServer, endpoint: Endpoint) -> None:
    server.script = [Reply(completion("half of", finish="length"))]
    assert endpoint.chat(ask()).truncated


@pytest.mark.parametrize("charset", ["undefined", "utf-16", "hex", "idna", "rot13"])
def test_what_a_server_calls_its_text_is_not_believed(
    server: FakeServer, endpoint: Endpoint, charset: str
) -> None:
    def refuse(out: BinaryIO) -> None:
        head = f"HTTP/1.1 503 X\r\nContent-Type: text/html; charset={charset}\r\n"
        out.write(f"{head}Content-Length: 7\r\n\r\n<b>no</".encode())

    server.script = [Reply(act=refuse)]
    with pytest.raises(ModelError) as caught:
        endpoint.chat(ask())
    assert caught.value.kind == "server"
    assert caught.value.retryable


def test_a_list_of_models_that_is_too_deep_suggests_none(
    server: FakeServer, endpoint: Endpoint
) -> None:
    server.script = [error(404, "no such model")]
    server.catalogue = Reply(b'{"data":' + b"[" * 50_000 + b"]" * 50_000 + b"}")
    with pytest.raises(ModelError) as caught:
        endpoint.chat(ask())
    assert "nearest" not in str(caught.value)


def test_wrong_key_is_not_retried(server: FakeServer, endpoint: Endpoint) -> None:
    server.script = [error(401, "Invalid API Key")]
    with pytest.raises(ModelError, match="Invalid API Key") as caught:
        patient(endpoint).chat(ask())
    assert caught.value.kind == "auth"
    assert len(server.bodies) == 1


def test_redirect_is_not_followed(server: FakeServer, endpoint: Endpoint) -> None:
    server.script = [error(307, Location=f"{server.url}/elsewhere")]
    with pytest.raises(ModelError, match="307"):
        patient(endpoint).chat(ask())
    assert len(server.bodies) == 1


def test_unknown_model_names_the_nearest_one(
    server: FakeServer, endpoint: Endpoint
) -> None:
    server.models = ["large-v2", "smal1"]
    server.script = [error(404, "model not found")]
    with pytest.raises(ModelError, match="nearest model it has is 'smal1'"):
        endpoint.chat(ask())


def llama(body: dict[str, Any]) -> Reply:
    """What a server with grammars says: the probe's word, or its own."""
    return Reply(completion("ok" if "ok" in body.get("grammar", "") else "no"))


def test_grammar_goes_to_a_server_that_obeys_it_and_is_probed_once(
    server: FakeServer, endpoint: Endpoint
) -> None:
    server.decide = llama
    request = ask(grammar='root ::= "yes"', schema={"type": "object"})
    first = endpoint.chat(request)
    endpoint.chat(request)
    assert [b.get("grammar") for b in server.bodies] == [
        'root ::= "ok"',
        'root ::= "yes"',
        'root ::= "yes"',
    ]
    assert not any("response_format" in b for b in server.bodies)
    assert first.prompt_tokens == 7 + 7  # the probe is paid for, too


def test_server_that_ignores_grammars_gets_the_schema(
    server: FakeServer, endpoint: Endpoint
) -> None:
    endpoint.chat(ask(grammar='root ::= "yes"', schema={"type": "object"}))
    assert "grammar" not in server.bodies[1]
    assert server.bodies[1]["response_format"]["json_schema"]["schema"] == {
        "type": "object"
    }


def test_server_that_knows_neither_gets_plain_text(
    server: FakeServer, endpoint: Endpoint
) -> None:
    def plain(body: dict[str, Any]) -> Reply:
        refused = {"grammar", "response_format"} & set(body)
        return error(400, "unknown argument") if refused else Reply(completion())

    server.decide = plain
    request = ask(grammar='root ::= "yes"', schema={"type": "object"})
    assert endpoint.chat(request).text == "hello"
    endpoint.chat(request)
    assert [len({"grammar", "response_format"} & set(b)) for b in server.bodies] == [
        1,
        1,
        0,
        0,
    ]


def test_a_request_that_is_refused_for_another_reason_costs_no_schema(
    server: FakeServer, endpoint: Endpoint
) -> None:
    request = ask(grammar='root ::= "yes"', schema={"type": "object"})
    endpoint.chat(request)
    server.script = [error(400, "prompt too long"), error(400, "prompt too long")]
    with pytest.raises(ModelError, match="prompt too long"):
        endpoint.chat(request)
    endpoint.chat(request)
    assert ["response_format" in b for b in server.bodies] == [
        False,  # the question about grammars
        True,
        True,
        False,
        True,
    ]


def test_dead_server_leaves_the_grammar_question_open(
    server: FakeServer, endpoint: Endpoint
) -> None:
    server.script = [error(503)]
    with pytest.raises(ModelError):
        endpoint.chat(ask(grammar='root ::= "yes"'))
    server.decide = llama
    endpoint.chat(ask(grammar='root ::= "yes"'))
    assert server.bodies[-1]["grammar"] == 'root ::= "yes"'


def test_arguments_that_a_model_refuses_are_left_out_from_then_on(
    server: FakeServer, endpoint: Endpoint
) -> None:
    def reasoning(body: dict[str, Any]) -> Reply:
        if "max_tokens" in body:
            return error(400, "'max_tokens': use 'max_completion_tokens' instead")
        if "temperature" in body:
            return error(400, "'temperature' does not support 0.8 with this model")
        return Reply(completion())

    server.decide = reasoning
    endpoint.chat(ask())
    endpoint.chat(ask())
    assert len(server.bodies) == 4
    assert server.bodies[-1]["max_completion_tokens"] == 512
    assert "temperature" not in server.bodies[-1]


def test_request_that_is_refused_outright_is_not_retried(
    server: FakeServer, endpoint: Endpoint
) -> None:
    server.script = [error(400, "prompt exceeds the context")]
    with pytest.raises(ModelError, match="exceeds the context") as caught:
        patient(endpoint).chat(ask())
    assert (caught.value.kind, len(server.bodies)) == ("server", 1)


def test_key_shows_nowhere(server: FakeServer, tmp_path: Path) -> None:
    chat = Endpoint(server.url, "small", key=Secret(KEY))
    cached = Cached(chat, tmp_path)
    shown = [repr(chat), str(chat.__dict__), repr(cached)]
    server.script = [
        error(401, f"wrong key {KEY}"),
        error(500, f"crash {KEY}"),
        Reply({"error": f"got {KEY}"}),
        Reply(drop=True),
    ]
    for _ in range(4):
        with pytest.raises(ModelError) as caught:
            cached.chat(ask())
        failure = caught.value
        shown += traceback.format_exception(failure)
        assert failure.__context__ is None
        assert failure.__cause__ is None
    server.script = [Reply(completion(f"your key is {KEY}"))]
    shown.append(cached.chat(ask()).text)
    shown += [p.read_text() for p in tmp_path.rglob("*") if p.is_file()]
    cached.close()
    assert all(KEY not in text for text in shown)
    assert "your key is ***" in shown[-1]
    with pytest.raises(TypeError, match="does not leave"):
        pickle.dumps(Secret(KEY))


def test_cache_hit_makes_no_second_call(server: FakeServer, tmp_path: Path) -> None:
    for expected in (False, True):
        chat = connect(f"{server.url}#small", cache=tmp_path)
        assert chat is not None
        answer = chat.chat(ask())
        chat.close()
        assert (answer.text, answer.tokens) == ("hello", 10)
        assert answer.cached is expected
    assert len(server.bodies) == 1


def test_exhausted_budget_stops_before_the_call(server: FakeServer) -> None:
    budget = Budget(tokens=60)
    chat = connect(f"{server.url}#small", budget=budget)
    assert chat is not None
    for _ in range(3):
        chat.chat(ask(max_tokens=30))
    with pytest.raises(ModelError, match="60 tokens has 30 left") as caught:
        chat.chat(ask(max_tokens=30))
    chat.close()
    assert (caught.value.kind, len(server.bodies)) == ("budget", 3)
    assert budget.spent.tokens == 30


def test_every_attempt_is_paid_for(server: FakeServer) -> None:
    server.script = [Reply(completion("", usage=(7, 1)))]
    budget = Budget(tokens=1000)
    chat = connect(f"{server.url}#small", budget=budget)
    assert chat is not None
    # The wait is half a second at least; one such test is enough.
    assert chat.chat(ask()).text == "hello"
    chat.close()
    assert budget.spent.tokens == (7 + 1) + (7 + 3)


def test_open_breaker_leaves_the_server_alone(server: FakeServer) -> None:
    now = [0.0]
    chat = Retrying(
        Endpoint(server.url, "small", key=Secret("")),
        attempts=1,
        breaker=Breaker(limit=2, cool_down=30.0, clock=lambda: now[0]),
    )
    server.script = [error(500), error(500)]
    for _ in range(2):
        with pytest.raises(ModelError, match="HTTP 500"):
            chat.chat(ask())
    with pytest.raises(ModelError, match="left alone for another 30 s") as caught:
        chat.chat(ask())
    assert (caught.value.kind, len(server.bodies)) == ("breaker", 2)
    now[0] = 31.0
    assert chat.chat(ask()).text == "hello"
    chat.close()


def test_timeout_must_be_positive() -> None:
    with pytest.raises(ValueError, match="timeout: expected seconds > 0, got 0"):
        Endpoint("http://x/v1", "m", key=Secret(""), timeout=0)


def test_a_server_that_reports_no_tokens_does_not_lift_the_cap(
    server: FakeServer, endpoint: Endpoint
) -> None:
    server.decide = lambda body: Reply(completion("x" * 300, usage=(0, 0)))
    budget = Budget(tokens=1000)
    chat = Metered(endpoint, budget, None)
    request = ask("y" * 300, max_tokens=100)
    # 100 + 8 tokens of a prompt and 100 of an answer, with room for the next call.
    assert [chat.chat(request).tokens for _ in range(4)] == [208] * 4
    with pytest.raises(ModelError, match="budget"):
        chat.chat(request)
    assert budget.spent.tokens == 4 * 208

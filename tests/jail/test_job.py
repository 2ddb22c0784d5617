"""What the controller makes of what a job sends; the test plays job and server."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from guerdon.jail import Answer, JailError, Limits
from guerdon.jail.job import MAX_PARTS, Job
from guerdon.jail.zygote import (
    ANSWER,
    END,
    FAULT,
    FRAME,
    MAX_FAULT,
    PROGRESS,
    SHUT,
    Fault,
    frame,
)
from tests.jail.tools import linux_only

pytestmark = linux_only

LIMITS = Limits(seconds=5, answer=100)


class Played:
    """A job whose other side is in the test's hands."""

    def __init__(self, stack: ExitStack, limits: Limits = LIMITS) -> None:
        self.claims: list[float] = []
        self.job, theirs, (line, self.out, self.printed) = Job.open(
            limits, self.claims.append
        )
        stack.callback(self.job.close)
        stack.enter_context(theirs)
        self.line = socket.socket(fileno=os.dup(line))
        self.hang_up = theirs.close
        stack.enter_context(self.line)

    def hear(self, data: bytes, code: int = 0, printed: bytes = b"") -> Answer:
        """The job writes ``data`` (less than a pipe holds) and ends."""
        os.write(self.out, data)
        os.write(self.printed, printed)
        self.line.send(END.pack(True, code))
        return self.job.listen(None, lambda: True)


@pytest.fixture
def played() -> Iterator[Played]:
    with ExitStack() as stack:
        yield Played(stack)


def test_parts_arrive_in_order_whatever_comes_between(played: Played) -> None:
    data = frame(SHUT, b"") + frame(ANSWER, b"one") + frame(PROGRESS, b"0.5")
    found = played.hear(data + frame(ANSWER, b"") + frame(ANSWER, b"two"))
    assert found.parts == (b"one", b"", b"two")
    assert found.reason is None
    assert found.shut_after is not None
    assert played.claims == [0.5]


@pytest.mark.parametrize("kind", [b"Z", b"\0", b"r"])
def test_a_message_of_an_unknown_kind_spoils_the_answer(
    played: Played, kind: bytes
) -> None:
    found = played.hear(frame(ANSWER, b"one") + frame(kind, b""))
    assert found.parts == ()
    assert found.reason == "it sent something that is no message"


@pytest.mark.parametrize("kind", [SHUT, PROGRESS])
def test_a_small_message_that_claims_to_be_large_is_not_waited_for(
    played: Played, kind: bytes
) -> None:
    assert played.hear(FRAME.pack(kind, 17)).reason is not None


def test_the_limit_of_the_answer_holds_for_all_parts_together() -> None:
    for sizes, fine in (((100,), True), ((50, 50), True), ((50, 51), False)):
        with ExitStack() as stack:
            played = Played(stack)
            data = b"".join(frame(ANSWER, bytes(n)) for n in sizes)
            found = played.hear(data + frame(PROGRESS, b"1.0"))
            assert (found.reason is None) == fine
            assert bool(found.parts) == fine


def test_an_answer_that_is_too_large_is_refused_before_it_comes(
    played: Played,
) -> None:
    found = played.hear(FRAME.pack(ANSWER, 101))
    assert found.reason == "its answer is larger than 100 bytes"


def test_endless_empty_parts_are_refused(played: Played) -> None:
    found = played.hear(frame(ANSWER, b"") * (MAX_PARTS + 1))
    assert found.reason == f"its answer has more than {MAX_PARTS} parts"


def test_half_a_message_is_no_answer(played: Played) -> None:
    found = played.hear(frame(ANSWER, b"one") + frame(ANSWER, b"two")[:-1])
    assert (found.parts, found.reason) == ((), "it ended without an answer")


def test_a_failed_job_has_no_parts_even_when_it_sent_some(played: Played) -> None:
    found = played.hear(frame(SHUT, b"") + frame(ANSWER, b"one"), code=3)
    assert (found.parts, found.reason) == ((), "it ended with exit code 3")


def test_a_second_claim_to_be_shut_changes_nothing(played: Played) -> None:
    os.write(played.out, frame(SHUT, b""))
    later = threading.Timer(0.3, played.line.send, [END.pack(True, 0)])
    again = threading.Timer(
        0.2, os.write, [played.out, frame(SHUT, b"") + frame(ANSWER, b"1")]
    )
    again.start()
    later.start()
    found = played.job.listen(None, lambda: True)
    again.join()
    later.join()
    assert found.shut_after is not None
    assert found.shut_after < 0.15


@pytest.mark.parametrize(
    ("claim", "share"),
    [(b"nan", 0.0), (b"inf", 1.0), (b"-3", 0.0), (b"1e400", 1.0), (b"\xff\x00", 0.0)],
)
def test_claims_of_progress_are_bounded(
    played: Played, claim: bytes, share: float
) -> None:
    played.hear(frame(PROGRESS, claim) + frame(ANSWER, b""))
    assert played.claims == [share]


def test_a_flood_of_progress_is_told_once_for_all_that_came(played: Played) -> None:
    played.hear(frame(PROGRESS, b"0.25") * 3000 + frame(ANSWER, b""))
    assert played.claims == [0.25]


def test_the_end_of_what_is_printed_is_kept(played: Played) -> None:
    found = played.hear(b"", printed=b"a" * 9000 + b"\xff\n")
    assert found.printed == "a" * 3998 + "\ufffd"


def test_an_end_is_enough_when_someone_else_holds_the_pipes(played: Played) -> None:
    """As a process does that was forked from the controller at the wrong moment."""
    assert played.hear(frame(ANSWER, b"1")).parts == (b"1",)


def test_a_server_that_is_gone_is_no_answer(played: Played) -> None:
    played.line.close()
    played.hang_up()
    with pytest.raises(JailError, match="died in the middle"):
        played.job.listen(None, lambda: True)


def test_a_dead_server_is_noticed_though_its_line_is_held_open(
    played: Played,
) -> None:
    with pytest.raises(JailError, match="died in the middle"):
        played.job.listen(None, lambda: False)


def test_a_server_that_cannot_fork_says_why(played: Played) -> None:
    played.line.send(END.pack(False, 11))
    with pytest.raises(OSError, match="could not fork a job: Resource temp") as caught:
        played.job.listen(None, lambda: True)
    assert caught.value.errno == 11


FAULT_WORDS = Fault(28, "No space left on device; make room", "/tmp/x")


def test_a_fault_of_the_machine_before_the_jail_is_shut_is_an_error_of_the_system(
    played: Played,
) -> None:
    with pytest.raises(OSError, match="make room") as caught:
        played.hear(frame(FAULT, FAULT_WORDS.write()), code=70)
    assert (caught.value.errno, caught.value.filename) == (28, "/tmp/x")


def test_a_fault_of_the_machine_is_not_believed_once_the_jail_is_shut(
    played: Played,
) -> None:
    data = frame(SHUT, b"") + frame(FAULT, FAULT_WORDS.write())
    found = played.hear(data + frame(ANSWER, b"one"), code=70)
    assert found.reason == "it sent the machine's word from inside the jail"
    assert found.parts == ()


def test_trusted_code_that_fails_is_told_with_its_line(played: Played) -> None:
    words = Fault(0, "KeyError: 'x' (env.py:9, step)").write()
    found = played.hear(frame(FAULT, words), code=70)
    assert found.reason == (
        "it ended with exit code 70 before the jail was shut: "
        "KeyError: 'x' (env.py:9, step)"
    )
    assert found.shut_after is None


@pytest.mark.parametrize("body", [b"", b"[", b"{}", b"[1]", b'["a", "b", null]'])
def test_a_fault_that_cannot_be_read_is_no_message(played: Played, body: bytes) -> None:
    found = played.hear(frame(FAULT, body))
    assert found.reason == "it sent something that is no message"


def test_the_longest_words_about_a_fault_fit_into_a_message() -> None:
    longest = Fault(5, "\U0001f600" * 9999, "\x00" * 9999)
    body = longest.write()
    assert len(body) <= MAX_FAULT
    found = Fault.read(body)
    assert longest.text.startswith(found.text)
    assert len(found.text) >= 500


def test_a_kill_that_is_not_ours_is_told_from_our_own(played: Played) -> None:
    assert played.hear(frame(SHUT, b""), code=-9).struck
    with ExitStack() as stack:
        assert not Played(stack).hear(FRAME.pack(b"?", 0), code=-9).struck


@pytest.mark.parametrize("spell", ["\x1b]0;owned\x07", "\x1b[2J", "\u202e", "\r\x08"])
def test_nothing_that_a_job_prints_is_obeyed_by_a_terminal(
    played: Played, spell: str
) -> None:
    found = played.hear(b"", printed=f"before {spell} after\n".encode())
    assert found.printed.startswith("before \\u")
    assert found.printed.endswith(" after")
    assert all(c.isprintable() for c in found.printed)


def test_what_is_printed_stays_short_when_it_is_spelled_out(played: Played) -> None:
    found = played.hear(b"", printed=b"\x1b" * 9000)
    assert len(found.printed) == 4000
    assert "\x1b" not in found.printed


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=3000), st.integers(-64, 255))
def test_any_bytes_give_an_answer_or_a_reason(data: bytes, code: int) -> None:
    with ExitStack() as stack:
        found = Played(stack).hear(data, code)
    assert (found.reason is None) == bool(found.parts)
    assert sum(map(len, found.parts)) <= LIMITS.answer


_KINDS = st.sampled_from([ANSWER, PROGRESS, SHUT, b"?"])


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(_KINDS, st.binary(max_size=40)), max_size=8))
def test_any_messages_give_what_a_simple_reader_finds(
    sent: list[tuple[bytes, bytes]],
) -> None:
    parts = tuple(body for kind, body in sent if kind == ANSWER)
    sizes = {SHUT: 0, PROGRESS: 16, ANSWER: 100, b"?": -1}
    fine = parts and sum(map(len, parts)) <= 100
    fine = fine and all(len(body) <= sizes[kind] for kind, body in sent)
    with ExitStack() as stack:
        found = Played(stack).hear(b"".join(frame(*message) for message in sent))
    assert found.parts == (parts if fine else ())

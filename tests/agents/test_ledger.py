import pytest
from scripted_jobs import job, result_of

from guerdon.agents.ledger import Ledger
from guerdon.agents.training import Leg


def test_jobs_wait_in_the_order_of_their_ranks() -> None:
    ledger = Ledger()
    lost, second, third, first = (job("answer", seed) for seed in range(4))
    ledger.submit(lost)
    assert ledger.next() == lost
    leg = Leg((second, third))
    ledger.submit(leg)
    ledger.submit(first, first=True)
    assert ledger.lost(lost, "a node died") is None
    assert [ledger.next() for _ in range(3)] == [first, leg, lost]


def test_what_is_lost_twice_is_not_queued_again() -> None:
    ledger = Ledger()
    leg = Leg((job("answer", 1), job("answer", 2)))
    ledger.submit(leg)
    assert ledger.next() == leg
    assert ledger.lost(leg, "first") is None
    assert ledger.next() == leg
    assert ledger.lost(leg.jobs[1], "second") == "first"
    ledger.submit(job("answer", 3))
    assert ledger.next() == job("answer", 3)
    # Handed back, it may be asked for again, and lost again.
    for one in leg.jobs:
        ledger.finish(one, result_of(one))
    assert len(ledger.poll()) == 2
    ledger.submit(leg)
    assert ledger.lost(leg, "third") is None


def test_progress_goes_from_nothing_to_one_and_back_when_a_job_is_lost() -> None:
    ledger = Ledger()
    one = job("answer")
    ledger.submit(one)
    assert ledger.progress(one) == 0.0
    ledger.told(one.key, 0.5)
    ledger.told("of another", 0.7)
    assert (ledger.progress(one), ledger.pending) == (0.5, 1)
    ledger.lost(one, "gone")
    assert ledger.progress(one) == 0.0
    ledger.finish(one, result_of(one))
    assert list(ledger.as_completed(1.0)) == [(one, result_of(one))]
    assert (ledger.progress(one), ledger.pending) == (1.0, 0)


def test_the_same_job_twice_at_a_time_is_refused() -> None:
    ledger = Ledger()
    one, two = job("answer", 1), job("answer", 2)
    ledger.submit(one)
    for work in (one, Leg((two, two)), Leg((two, one))):
        with pytest.raises(ValueError, match="is under way already"):
            ledger.submit(work)
    assert ledger.pending == 1


def test_closed_books_end_every_thread_and_take_no_job() -> None:
    ledger = Ledger()
    ledger.submit(job("answer"))
    ledger.close(1)
    assert ledger.next() is None
    assert ledger.next() is None
    with pytest.raises(RuntimeError, match="the pool is closed"):
        ledger.submit(job("answer", 1))
    assert list(ledger.as_completed(None)) == []


def test_waiting_longer_than_allowed_raises() -> None:
    ledger = Ledger()
    ledger.submit(job("answer"))
    with pytest.raises(TimeoutError, match="1 trainings are still under way"):
        list(ledger.as_completed(0.05))


def test_a_leg_that_is_lost_twice_is_tried_in_halves_until_single_jobs_are_left() -> (
    None
):
    ledger = Ledger()
    leg = Leg(tuple(job("answer", seed) for seed in range(3)))
    ledger.submit(leg)
    assert ledger.next() == leg
    assert ledger.lost(leg, "first", halve=True) is None
    assert ledger.next() == leg
    assert ledger.lost(leg, "second", halve=True) is None
    one, two = ledger.next(), ledger.next()
    assert (one, two) == leg.halves()
    assert isinstance(one, Leg)
    # A single job was lost before, with its leg: it is not tried for ever.
    assert ledger.lost(one, "third", halve=True) == "first"


def test_a_leg_that_is_too_large_is_halved_at_once_with_a_message(
    caplog: pytest.LogCaptureFixture,
) -> None:
    ledger = Ledger()
    leg = Leg(tuple(job("answer", seed) for seed in range(3)))
    ledger.submit(leg)
    assert ledger.next() == leg
    assert ledger.lost(leg, "out of memory (8 GiB)", halve=True, full=True) is None
    one, two = ledger.next(), ledger.next()
    assert (one, two) == leg.halves()
    (said,) = caplog.messages
    assert "of 3 trainings did not come through (out of memory (8 GiB))" in said
    assert "two, of 1 and 2" in said
    assert [ledger.progress(one) for one in leg.jobs] == [0.0] * 3
    # A half may be too large as well; a single job is tried once more, then no more.
    assert isinstance(two, Leg)
    assert ledger.lost(two, "again", halve=True, full=True) is None
    assert (ledger.next(), ledger.next()) == two.halves()
    assert isinstance(one, Leg)
    assert ledger.lost(one, "alone", halve=True, full=True) is None
    assert ledger.next() == one
    assert ledger.lost(one, "still", halve=True, full=True) == "alone"
    assert len(caplog.messages) == 2

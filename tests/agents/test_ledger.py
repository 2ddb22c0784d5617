import pytest
from scripted_jobs import job, result_of

from guerdon.agents.ledger import Ledger


def test_jobs_wait_in_the_order_of_their_ranks() -> None:
    ledger = Ledger()
    lost, second, third, first = (job("answer", seed) for seed in range(4))
    ledger.submit((lost,))
    assert ledger.next() == (lost,)
    ledger.submit((second, third))
    ledger.submit((first,), first=True)
    assert ledger.try_again((lost,), "a node died") == {}
    assert [ledger.next() for _ in range(3)] == [(first,), (second, third), (lost,)]


def test_what_is_lost_twice_is_not_queued_again_but_its_companion_is() -> None:
    ledger = Ledger()
    one, two = job("answer", 1), job("answer", 2)
    ledger.submit((one,))
    ledger.submit((two,))
    assert ledger.try_again((one,), "first") == {}
    assert ledger.try_again((one, two), "second") == {one.key: "first"}
    # Twice as submitted, then what was lost, in the order of the losses.
    assert [ledger.next() for _ in range(4)] == [(one,), (two,), (one,), (two,)]


def test_progress_goes_from_nothing_to_one_and_back_when_a_job_is_lost() -> None:
    ledger = Ledger()
    one = job("answer")
    ledger.submit((one,))
    assert ledger.progress(one) == 0.0
    ledger.told(one.key, 0.5)
    ledger.told("of another", 0.7)
    assert (ledger.progress(one), ledger.pending) == (0.5, 1)
    ledger.try_again((one,), "gone")
    assert ledger.progress(one) == 0.0
    ledger.finish(one, result_of(one))
    assert list(ledger.as_completed(1.0)) == [(one, result_of(one))]
    assert (ledger.progress(one), ledger.pending) == (1.0, 0)


def test_the_same_job_twice_and_no_job_at_all_are_refused() -> None:
    ledger = Ledger()
    one, two = job("answer", 1), job("answer", 2)
    ledger.submit((one,))
    for jobs in ((one,), (two, two), (two, one)):
        with pytest.raises(ValueError, match="is under way already"):
            ledger.submit(jobs)
    with pytest.raises(ValueError, match="expected at least one job"):
        ledger.submit(())
    assert ledger.pending == 1


def test_closed_books_end_every_thread_and_take_no_job() -> None:
    ledger = Ledger()
    ledger.submit((job("answer"),))
    ledger.close(1)
    assert ledger.next() is None
    assert ledger.next() is None
    with pytest.raises(RuntimeError, match="the pool is closed"):
        ledger.submit((job("answer", 1),))
    assert list(ledger.as_completed(None)) == []


def test_waiting_longer_than_allowed_raises() -> None:
    ledger = Ledger()
    ledger.submit((job("answer"),))
    with pytest.raises(TimeoutError, match="1 trainings are still under way"):
        list(ledger.as_completed(0.05))

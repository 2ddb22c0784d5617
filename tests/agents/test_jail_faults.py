"""Whose fault it is when a training in the jail gives nothing."""

from __future__ import annotations

import errno
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from guerdon.agents.claims import write_claims
from guerdon.agents.confined import Confinement
from guerdon.agents.training import Outcome, TrainingJob, Trouble
from guerdon.agents.workers import WorkerPool
from guerdon.jail import Answer, Jail, JailError, TooLarge
from guerdon.types import Failure

pytestmark = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="the jail is for Linux"
)

TEXT = """
def reward(prev, action, now, params):
    return {"gain": np.abs(prev.left - now.left)}
"""


def job(
    text: str = TEXT, task: str = "tests.agents.countdown_task:TASK"
) -> TrainingJob:
    return TrainingJob(task, text, 64, 0, trust="jail", eval_episodes=2)


def run(pool: WorkerPool, one: TrainingJob) -> Outcome | Trouble:
    pool.submit(one)
    ((_, outcome),) = pool.as_completed(timeout=60)
    return outcome


# --- a jail that answers as it is told to -------------------------------------------


class Told:
    """A jail that raises or gives one thing after the other."""

    def __init__(self, *answers: Answer | BaseException) -> None:
        self.answers = list(answers)
        self.closed = 0

    def run(self, *_: Any, **__: Any) -> Answer:
        answer = self.answers.pop(0)
        if isinstance(answer, BaseException):
            raise answer
        return answer

    def close(self) -> None:
        self.closed += 1


@pytest.fixture
def ask(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., Outcome | Trouble]]:
    with WorkerPool(1, 60.0, tmp_path) as pool:

        def one(*answers: Answer | BaseException) -> Outcome | Trouble:
            told = Told(*answers)
            monkeypatch.setattr(Confinement, "_server", lambda self: told)
            outcome = run(pool, job())
            assert told.answers == []
            return outcome

        yield one


def ended(code: int, shut_after: float | None = 0.01, **changes: Any) -> Answer:
    values = {"reason": f"it ended with {code}", "timed_out": False, "printed": "words"}
    return Answer((), code, shut_after=shut_after, **values | changes)


CRASH = ended(3)
STRUCK = ended(-9, struck=True)
GONE = JailError("the jail's server died in the middle of a job, or refused it")


def crashed(outcome: Outcome | Trouble) -> Failure:
    assert isinstance(outcome, Failure), outcome
    assert outcome.kind == "crashed"
    return outcome


def troubled(outcome: Outcome | Trouble) -> Trouble:
    assert isinstance(outcome, Trouble), outcome
    assert "run the same command again" in outcome.text
    assert "\n" not in outcome.text
    return outcome


Ask = Callable[..., Outcome | Trouble]


def test_a_job_that_fails_inside_the_jail_has_crashed(ask: Ask) -> None:
    assert crashed(ask(CRASH)).reason == "in the jail: it ended with 3\nwords"


@pytest.mark.parametrize("number", [errno.ENOMEM, errno.EAGAIN])
def test_a_fork_that_is_refused_is_the_machines(ask: Ask, number: int) -> None:
    words = f"the jail's server could not fork a job: {os.strerror(number)}"
    assert troubled(ask(OSError(number, words))).number == number


def test_a_server_that_dies_once_costs_a_second_try_and_twice_stops_the_run(
    ask: Ask,
) -> None:
    crashed(ask(GONE, CRASH))
    found = troubled(ask(GONE, GONE))
    assert found.text.count("the jail's server died") == 2


def test_a_job_that_never_got_into_the_jail_is_not_its_rewards_failure(
    ask: Ask,
) -> None:
    late = ended(-9, None, timed_out=True, reason="no answer within 3 seconds")
    for early in (ended(70, None), ended(-9, None, struck=True), late):
        found = troubled(ask(early, early))
        assert "a job for the jail did not begin" in found.text
    # Two different mishaps of the machine are no crash either.
    troubled(ask(STRUCK, GONE))


def test_a_job_that_somebody_kills_is_tried_once_more_and_then_has_crashed(
    ask: Ask,
) -> None:
    crashed(ask(STRUCK, CRASH))
    found = crashed(ask(STRUCK, STRUCK))
    assert found.reason.count("it ended with -9") == 2
    # The holdout's own check for workers that were killed must not take this for the
    # machine's: any reward can kill itself, and would stop every run that it is in.
    assert not found.reason.startswith("worker died: killed by")
    # After a mishap of the machine a job that kills itself is still a crash.
    crashed(ask(GONE, STRUCK))


def test_a_crash_on_a_full_disk_is_the_machines(
    ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = "guerdon.agents.confined.full_place"
    monkeypatch.setattr(full, lambda place: place)
    found = troubled(ask(CRASH))
    assert found.number == errno.ENOSPC
    assert "make room" in found.text
    claim = write_claims(Failure("crashed", "line 3: OSError: [Errno 28] No space"))
    inside = Answer((claim,), 0, None, False, "", 0.01)
    assert troubled(ask(inside)).number == errno.ENOSPC
    # What is no crash has nothing to do with a disk.
    nan = Answer((write_claims(Failure("non_finite", "a")),), 0, None, False, "", 0.01)
    assert isinstance(found := ask(nan), Failure)
    assert found.kind == "non_finite"
    monkeypatch.setattr(full, lambda place: None)
    assert "No space" in crashed(ask(inside)).reason


def test_a_text_that_no_message_holds_is_its_own_failure(ask: Ask) -> None:
    found = crashed(
        ask(TooLarge("jail: expected a request of at most 9 bytes, got 10"))
    )
    assert "at most 9 bytes" in found.reason


# --- the real one -------------------------------------------------------------------


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WorkerPool]:
    with WorkerPool(1, 60.0, tmp_path_factory.mktemp("jobs")) as found:
        yield found


FORGED = {
    "a full disk": "raise OSError(28, 'No space left on device')",
    "no memory": "raise MemoryError",
    "out of its reach": "import sys; sys.exit(70)",
    "the machine's word": (
        "from guerdon.jail import zygote\n"
        "word = zygote.Fault(28, 'make room and run the same command again').write()\n"
        "zygote._send(3, zygote.FAULT, word)\n"
    ),
    "the machine's word, and the end": (
        "from guerdon.jail import zygote\n"
        "word = zygote.Fault(28, 'make room and run the same command again').write()\n"
        "zygote._send(3, zygote.FAULT, word)\n"
        "import os; os._exit(70)\n"
    ),
    "a death of want of memory": "import os, signal; os.kill(os.getpid(), 9)",
    "an end before it begins": "import os; os.closerange(0, 64); os._exit(70)",
    "a trouble": (
        "import json\n"
        "from guerdon.jail import zygote\n"
        "text = json.dumps({'trouble': {'number': 28, 'text': 'x', 'file': None}})\n"
        "zygote._send(3, zygote.ANSWER, text.encode())\n"
        "import os; os._exit(0)\n"
    ),
}


@pytest.mark.parametrize("name", FORGED)
def test_a_reward_that_plays_a_broken_machine_stops_no_run(
    pool: WorkerPool, name: str
) -> None:
    crashed(run(pool, job(FORGED[name])))


def test_what_a_reward_prints_and_raises_is_kept_without_spells(
    pool: WorkerPool,
) -> None:
    spell = "\\x1b]0;owned\\x07\\x1b[2J\\u202e"
    for text in (
        f"print('{spell}', flush=True); import os; os._exit(3)",
        f"raise ValueError('{spell}')",
        f"class Bad(BaseException): pass\nraise Bad('{spell}')",
    ):
        reason = crashed(run(pool, job(text))).reason
        assert "\\u001b]0;owned\\u0007" in reason
        assert all(c.isprintable() or c == "\n" for c in reason)


@pytest.mark.parametrize(
    ("task", "number", "words"),
    [
        ("FULL", errno.ENOSPC, "make room"),
        ("BROKEN", errno.EAGAIN, r"LookupError: no simulator here (broken_tasks.py:"),
        ("ABSENT", errno.EAGAIN, "ABSENT"),
    ],
)
def test_a_task_that_cannot_be_made_is_not_its_rewards_failure(
    pool: WorkerPool, task: str, number: int, words: str
) -> None:
    found = troubled(run(pool, job(task=f"tests.agents.broken_tasks:{task}")))
    assert found.number == number
    assert words in found.text


def test_a_server_that_is_killed_under_a_job_and_again_stops_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed = []

    class Mortal(Jail):
        """A server that loads nothing, and dies while its job still does."""

        def __init__(self, preload: tuple[str, ...]) -> None:
            super().__init__(())
            threading.Timer(0.3, self._strike).start()

        def _strike(self) -> None:
            killed.append(self.pid)
            os.kill(self.pid, signal.SIGKILL)

    monkeypatch.setattr("guerdon.agents.confined.Jail", Mortal)
    with WorkerPool(1, 60.0, tmp_path) as pool:
        found = troubled(run(pool, job()))
    assert len(set(killed)) == 2
    assert found.text.count("the jail's server died in the middle") == 2

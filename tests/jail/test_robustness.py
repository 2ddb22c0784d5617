"""Killed servers and controllers, floods, interrupts: nothing hangs, nothing stays."""

from __future__ import annotations

import _thread
import ast
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from guerdon.jail import Answer, Jail, JailError, Limits
from tests.jail.tools import (
    QUICK,
    ROOT,
    answer_of,
    children,
    eventually,
    linux_only,
    lives,
    python,
    run_text,
)

pytestmark = linux_only

SLEEP = "import time; progress(0.5); time.sleep(60)"


@pytest.fixture(autouse=True)
def _own_scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Whatever happens, no folder of a job is left, and no descriptor."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    before = len(os.listdir("/proc/self/fd"))
    yield
    assert list(tmp_path.iterdir()) == []
    assert len(os.listdir("/proc/self/fd")) <= before


@pytest.fixture
def other() -> Iterator[Jail]:
    """A jail that a test may break."""
    with Jail() as found:
        yield found


@pytest.fixture
def heard() -> Iterator[None]:
    """Ctrl-C is heard, also where a shell has started us in the background."""
    old = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, old)


class Started:
    """A job that sleeps in a thread, until something else ends it."""

    def __init__(self, jail: Jail, **options: Any) -> None:
        self.found: Answer | BaseException | None = None
        self._begun = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(jail, options))
        self._thread.start()
        assert self._begun.wait(20)

    def _run(self, jail: Jail, options: dict[str, Any]) -> None:
        try:
            self.found = jail.run(
                "tests.jail.jobs:run_text",
                SLEEP,
                QUICK,
                progress=lambda share: self._begun.set(),
                **options,
            )
        except BaseException as error:
            self.found = error

    def end(self) -> Answer | BaseException | None:
        self._thread.join(15)
        assert not self._thread.is_alive()
        return self.found


def test_jobs_of_several_threads_get_their_own_answers(jail: Jail) -> None:
    found: dict[int, str] = {}

    def ask(number: int) -> None:
        for turn in range(5):
            text = f"answer = '{number} {turn}' * 1000"
            found[10 * number + turn] = answer_of(jail, text)

    threads = [threading.Thread(target=ask, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    expected = {10 * n + t: f"{n} {t}" * 1000 for n in range(4) for t in range(5)}
    assert found == expected


def test_a_cancelled_job_is_dead_and_others_go_on(jail: Jail) -> None:
    stop = threading.Event()
    cancelled = Started(jail, cancelled=stop)
    stays = Started(jail, cancelled=(stay := threading.Event()))
    assert len(children(jail.pid)) == 2
    stop.set()
    found = cancelled.end()
    assert isinstance(found, Answer)
    assert (found.reason, found.parts, found.code) == ("it was cancelled", (), -9)
    assert not found.timed_out
    assert len(children(jail.pid)) == 1
    stay.set()
    stays.end()


def test_a_job_that_is_cancelled_before_it_starts_ends(jail: Jail) -> None:
    stop = threading.Event()
    stop.set()
    found = jail.run("tests.jail.jobs:run_text", SLEEP, QUICK, cancelled=stop)
    assert found.reason == "it was cancelled"
    assert children(jail.pid) == []


def test_ctrl_c_kills_the_job(jail: Jail, heard: None) -> None:
    timer = threading.Timer(0.3, _thread.interrupt_main)
    with pytest.raises(KeyboardInterrupt):
        # Once it is under way: a busy machine may take long to come to that.
        jail.run(
            "tests.jail.jobs:run_text", SLEEP, QUICK, progress=lambda _: timer.start()
        )
    timer.join()
    assert children(jail.pid) == []
    assert answer_of(jail, "answer = 1") == "1"


def test_a_callback_that_raises_kills_the_job(jail: Jail) -> None:
    calls = []

    def burst(share: float) -> None:
        calls.append(share)
        raise ZeroDivisionError(f"at {share}")

    text = "while True: progress(0.5)"
    with pytest.raises(ZeroDivisionError, match=r"at 0\.5"):
        jail.run("tests.jail.jobs:run_text", text, QUICK, progress=burst)
    assert calls == [0.5]
    assert children(jail.pid) == []


def test_a_job_that_closes_everything_is_killed_at_its_deadline(jail: Jail) -> None:
    text = "os.closerange(0, 64)\nimport time; time.sleep(60)"
    found = run_text(jail, text, Limits(seconds=0.4))
    assert (found.timed_out, found.parts) == (True, ())
    assert children(jail.pid) == []


def test_a_job_that_answers_and_hangs_has_not_answered(jail: Jail) -> None:
    text = """
from guerdon.jail.zygote import ANSWER, _send
_send(3, ANSWER, b"done")
import time; time.sleep(60)
"""
    found = run_text(jail, text, Limits(seconds=0.4))
    assert (found.timed_out, found.parts) == (True, ())


def test_a_job_that_floods_with_progress_is_heard_and_killed(jail: Jail) -> None:
    text = "while True: progress(0.25)"
    claims: list[float] = []
    found = jail.run(
        "tests.jail.jobs:run_text", text, Limits(seconds=0.5), progress=claims.append
    )
    assert found.timed_out
    assert set(claims) == {0.25}


def test_an_answer_over_its_limit_kills_the_job_at_once(jail: Jail) -> None:
    text = "parts = [bytes(1 << 20)] * 100"
    began = time.monotonic()
    limits = Limits(seconds=30, answer=3 << 20)
    found = jail.run("tests.jail.jobs:run_parts", text, limits)
    assert found.reason == f"its answer is larger than {3 << 20} bytes"
    assert time.monotonic() - began < 5


def test_trusted_code_that_fails_says_that_the_jail_was_not_shut(jail: Jail) -> None:
    for name, word in (("fail", "LookupError"), ("absent", "AttributeError")):
        found = jail.run(f"tests.jail.jobs:{name}", "x", QUICK)
        begin = "it ended with exit code 70 before the jail was shut: "
        assert str(found.reason).startswith(f"{begin}{word}: ")
        assert word in found.printed
        assert found.shut_after is None


def test_odd_payloads_arrive_and_large_ones_are_rejected(jail: Jail) -> None:
    odd = "a\x00\x7f\ud800é\u2028\U0001f600\n"
    found = jail.run("tests.jail.jobs:echo", odd, QUICK)
    assert found.parts == (odd.encode("utf-16", "surrogatepass"),)
    with pytest.raises(ValueError, match="request of at most 131072 bytes, got"):
        run_text(jail, "#" * (1 << 17))
    assert answer_of(jail, "answer = 1" + "#" * 120_000) == "1"


def test_the_server_survives_messages_that_make_no_sense(other: Jail) -> None:
    for junk in (b"{", b"[]", b"{}", b"\xff", b"3", b'{"scratch": 3}', b'"a"'):
        other._control.sendall(junk)
        read, write = os.pipe()
        socket.send_fds(other._control, [junk], [write, write, write])
        os.close(write)
        os.close(read)
    assert answer_of(other, "answer = 1") == "1"


def test_the_server_only_deletes_the_files_of_a_job_by_their_names(
    other: Jail, tmp_path: Path
) -> None:
    """A folder that is no scratch keeps what is in it, even when nobody listens."""
    (tmp_path / "folder").mkdir()
    for name in ("0", "kept", "folder/kept"):
        (tmp_path / name).touch()
    request = {"scratch": str(tmp_path), "limits": {"scratch_files": 1}}
    read, write = os.pipe()
    os.close(read)
    # A line that is no socket and has nobody behind it.
    ends = [write, write, write]
    socket.send_fds(other._control, [json.dumps(request).encode()], ends)
    os.close(write)
    assert eventually(lambda: not (tmp_path / "0").exists())
    answer_of(other, "answer = 1")
    assert (tmp_path / "kept").exists()
    assert (tmp_path / "folder" / "kept").exists()
    (tmp_path / "kept").unlink()
    (tmp_path / "folder" / "kept").unlink()
    (tmp_path / "folder").rmdir()


def test_a_server_without_room_for_descriptors_refuses_and_recovers(
    other: Jail,
) -> None:
    import resource

    old = resource.prlimit(other.pid, resource.RLIMIT_NOFILE)
    used = len(os.listdir(f"/proc/{other.pid}/fd"))
    for room in range(3):
        resource.prlimit(other.pid, resource.RLIMIT_NOFILE, (used + room, old[1]))
        with pytest.raises(JailError, match="or refused it"):
            run_text(other, SLEEP)
    resource.prlimit(other.pid, resource.RLIMIT_NOFILE, old)
    assert answer_of(other, "answer = 1") == "1"
    assert len(os.listdir(f"/proc/{other.pid}/fd")) == used


def test_a_server_without_work_uses_no_processor(other: Jail) -> None:
    run_text(other, SLEEP, Limits(seconds=0.2))
    answer_of(other, "answer = 1")

    def used() -> int:
        fields = Path(f"/proc/{other.pid}/stat").read_text().rpartition(")")[2].split()
        return int(fields[11]) + int(fields[12])

    before = used()
    time.sleep(0.5)
    ticks_of_a_busy_wait = 0.5 * os.sysconf("SC_CLK_TCK")
    assert used() - before <= 0.2 * ticks_of_a_busy_wait


def test_a_server_that_cannot_fork_says_so_and_goes_on() -> None:
    text = """
from guerdon.jail import Jail, Limits, probe
from tests.jail.deny import deny
import guerdon.jail.jail as module
module._START = module._START.replace("main()", '''
from tests.jail.deny import deny
import importlib
load = importlib.import_module
importlib.import_module = lambda name: name == "deny" and deny(["clone"], 11) or load(
    "json" if name == "deny" else name)
main()''')
with Jail(("deny",)) as jail:
    for _ in range(2):
        try:
            jail.run("json:loads", "1", Limits(seconds=9))
        except OSError as error:
            print(error)
"""
    line = "the jail's server could not fork a job: Resource temporarily unavailable"
    assert python(text).splitlines() == [f"[Errno 11] {line}"] * 2


def test_a_killed_server_takes_its_jobs_along_and_is_an_error(other: Jail) -> None:
    jobs = [Started(other), Started(other)]
    pids = children(other.pid)
    assert len(pids) == 2
    for pid in pids:
        assert os.getpgid(pid) == os.getsid(pid) == pid
        # Whom the kernel would kill first when memory runs out.
        assert int(Path(f"/proc/{pid}/oom_score_adj").read_text()) == 1000
    os.kill(other.pid, signal.SIGKILL)
    for job in jobs:
        found = job.end()
        assert isinstance(found, JailError)
        assert "died in the middle" in str(found)
    assert eventually(lambda: not any(map(lives, pids)))
    with pytest.raises(JailError):
        run_text(other, "answer = 1")


def test_a_server_that_hangs_is_killed_with_its_jobs(
    other: Jail, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("guerdon.jail.job.GRACE", 0.3)
    job = Started(other)
    (pid,) = children(other.pid)
    os.kill(other.pid, signal.SIGSTOP)
    with pytest.raises(JailError, match="does not kill a job when told to"):
        run_text(other, SLEEP, Limits(seconds=0.2))
    assert isinstance(job.end(), JailError)
    assert eventually(lambda: not lives(pid))


def test_closing_ends_running_jobs_and_may_be_done_twice() -> None:
    jail = Jail()
    job = Started(jail)
    (pid,) = children(jail.pid)
    jail.close()
    jail.close()
    assert isinstance(job.end(), JailError)
    assert eventually(lambda: not lives(pid))
    assert not lives(jail.pid)
    with pytest.raises(JailError, match="the jail is closed"):
        run_text(jail, "answer = 1")


def test_a_server_that_cannot_load_says_why() -> None:
    with pytest.raises(JailError, match="No module named 'guerdon_nowhere'"):
        Jail(("guerdon_nowhere",))


_CONTROLLER = f"""
import os, sys, tempfile, threading, time
from guerdon.jail import Jail, Limits
tempfile.tempdir = sys.argv[1]
if sys.argv[2] == "fork":
    # Another child that holds copies of all that the controller has open.
    begun = lambda share: os.fork() or time.sleep(20) or os._exit(0)
else:
    begun = lambda share: None
jail = Jail()
def tell(share):
    begun(share)
    print(jail.pid, flush=True)
jail.run("tests.jail.jobs:run_text", {SLEEP!r}, Limits(seconds=30), progress=tell)
"""


@pytest.mark.parametrize("how", ["plain", "fork"])
def test_a_killed_controller_takes_server_jobs_and_scratch_along(
    how: str, tmp_path: Path
) -> None:
    controller = subprocess.Popen(
        [sys.executable, "-c", _CONTROLLER, str(tmp_path), how],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert controller.stdout is not None
    with controller.stdout:
        server = int(controller.stdout.readline())
        (job,) = children(server)
        assert len(list(tmp_path.iterdir())) == 1
        os.kill(controller.pid, signal.SIGKILL)
        controller.wait()
        try:
            assert eventually(lambda: not lives(server) and not lives(job))
            assert eventually(lambda: not list(tmp_path.iterdir()))
        finally:
            os.killpg(controller.pid, signal.SIGKILL) if how == "fork" else None


def test_more_descriptors_than_select_can_bear_are_fine() -> None:
    text = """
import os, resource
hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 4096), hard))
held = [os.open("/dev/null", os.O_RDONLY) for _ in range(min(hard, 4096) - 100)]
from guerdon.jail import Jail, Limits
with Jail() as jail:
    answer = jail.run("tests.jail.jobs:run_text", "answer = 7", Limits(seconds=9))
print(answer.parts, answer.reason)
"""
    assert python(text).strip() == "(b'7',) None"


def test_too_few_descriptors_are_an_error_and_leave_nothing_open() -> None:
    text = """
import os, resource
from guerdon.jail import Jail, JailError, Limits
with Jail() as jail:
    names = lambda: len(os.listdir("/proc/self/fd"))
    before, (soft, hard) = names(), resource.getrlimit(resource.RLIMIT_NOFILE)
    for room in range(6):
        resource.setrlimit(resource.RLIMIT_NOFILE, (before - 1 + room, hard))
        try:
            jail.run("json:loads", "1", Limits(seconds=9, scratch_files=0))
        except OSError as error:
            print(error.errno)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        assert names() == before
    answer = jail.run("tests.jail.jobs:run_text", "answer = 7", Limits(seconds=9))
    print(answer.parts)
"""
    assert python(text).split() == ["24"] * 6 + ["(b'7',)"]


def test_a_controller_without_standard_streams_can_use_the_jail(
    tmp_path: Path,
) -> None:
    text = """
import os, sys
os.closerange(0, 3)
from guerdon.jail import Jail, Limits
with Jail() as jail:
    text = "print(3); answer = 7"
    answer = jail.run("tests.jail.jobs:run_text", text, Limits(seconds=9))
with open(sys.argv[1], "w") as file:
    file.write(repr((answer.parts, answer.reason, answer.printed)))
os._exit(0)
"""
    python(text, str(tmp_path / "found"))
    found = (tmp_path / "found").read_text()
    (tmp_path / "found").unlink()
    assert ast.literal_eval(found) == ((b"7",), None, "3")

import errno
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from multiprocessing import forkserver
from pathlib import Path

import pytest
from scripted_jobs import job, result_of

from guerdon.agents import server, workers
from guerdon.agents.training import Leg, Outcome, TrainingResult, Trouble
from guerdon.agents.workers import WorkerPool
from guerdon.types import Failure

PATIENCE = 60.0


def pool_of(folder: Path, *, count: int = 1, deadline: float = PATIENCE) -> WorkerPool:
    return WorkerPool(count, deadline, folder, function="scripted_jobs:run")


def test_a_temporary_folder_with_too_long_a_path_is_one_line_that_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = "/tmp/" + 71 * "x"
    monkeypatch.setattr("tempfile.tempdir", long)
    with pytest.raises(OSError, match=r"has 76 bytes.* set TMPDIR to a shorter one"):
        pool_of(tmp_path)
    monkeypatch.setattr("tempfile.tempdir", long[:-1])
    server._require_short_address()
    # As multiprocessing itself makes it, which is what the limit is about.
    listener = f"{long[:-1]}/pymp-12345678/listener-12345678"
    assert len(listener) == 107


def run_one(folder: Path, action: str, deadline: float = PATIENCE) -> Outcome | Trouble:
    with pool_of(folder, deadline=deadline) as pool:
        pool.submit(job(action))
        ((_, outcome),) = pool.as_completed(timeout=PATIENCE)
    return outcome


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


def wait_until(condition: Callable[[], bool]) -> bool:
    end = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True


def noted(path: Path) -> dict[str, list[int]]:
    assert wait_until(path.exists)
    return json.loads(path.read_text())


def failure(outcome: Outcome | Trouble) -> Failure:
    assert isinstance(outcome, Failure)
    return outcome


def test_a_worker_whose_controller_died_before_it_spoke_ends_quietly(
    tmp_path: Path,
) -> None:
    text = """
from multiprocessing import Pipe
from guerdon.agents.worker import serve

here, there = Pipe()
there.close()
serve(here, "nothing:run", "unused", "unused")
"""
    done = subprocess.run(
        [sys.executable, "-c", text], capture_output=True, text=True, timeout=PATIENCE
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_every_job_is_answered_with_its_own_result(tmp_path: Path) -> None:
    jobs = [job("answer", seed) for seed in range(4)]
    with pool_of(tmp_path, count=2) as pool:
        for one in jobs:
            pool.submit(one)
        answers = dict(pool.as_completed(timeout=PATIENCE))
        assert pool.pending == 0
        assert pool.progress(jobs[0]) == 1.0
    assert answers == {one: result_of(one) for one in jobs}
    assert list(tmp_path.iterdir()) == []


def test_jobs_submitted_while_results_arrive_are_run_too(tmp_path: Path) -> None:
    seen = []
    with pool_of(tmp_path) as pool:
        pool.submit(job("answer", 0))
        for one, _ in pool.as_completed(timeout=PATIENCE):
            seen.append(one.seed)
            if len(seen) < 3:
                pool.submit(job("answer", len(seen)))
    assert seen == [0, 1, 2]


def test_a_job_that_runs_too_long_is_killed_and_leaves_no_half_files(
    tmp_path: Path,
) -> None:
    with pool_of(tmp_path, deadline=1.0) as pool:
        slow = job("progress")
        pool.submit(slow)
        assert wait_until(lambda: pool.progress(slow) == 0.5)
        ((_, outcome),) = pool.as_completed(timeout=PATIENCE)
    assert outcome == Failure("timed_out", "no result within 1 seconds")
    assert [path.suffix for path in tmp_path.iterdir()] == [".stderr"]


def test_a_leg_has_the_deadline_of_each_of_its_jobs(tmp_path: Path) -> None:
    slow = Leg(tuple(job("slow", seed) for seed in range(3)))  # 2.4 seconds together
    stuck = Leg((job("progress", 3), job("progress", 4)))
    with pool_of(tmp_path, deadline=1.5) as pool:
        pool.submit(slow)
        pool.submit(stuck)
        outcomes = {one.seed: found for one, found in pool.as_completed(PATIENCE)}
    for seed in range(3):
        assert isinstance(outcomes[seed], TrainingResult)
    expected = Failure("timed_out", "no result within 3 seconds")
    assert outcomes[3] == outcomes[4] == expected


def test_the_deadline_kills_grandchildren_too(tmp_path: Path) -> None:
    outcome = run_one(tmp_path, "family", deadline=1.0)
    assert failure(outcome).kind == "timed_out"
    pids = noted(tmp_path / "family-0.json")["pids"]
    assert len(pids) == 2
    assert wait_until(lambda: not any(alive(pid) for pid in pids))


@pytest.mark.parametrize("action", ["abandon", "leave behind"])
def test_what_a_finished_worker_leaves_behind_is_killed(
    tmp_path: Path, action: str
) -> None:
    outcome = run_one(tmp_path, action)
    assert isinstance(outcome, Failure) == (action == "abandon")
    pids = noted(tmp_path / f"{action}-0.json")["pids"]
    assert wait_until(lambda: not any(alive(pid) for pid in pids))


@pytest.mark.parametrize(
    ("action", "told"),
    [
        ("raise", "exit code 1"),
        ("raise", "RuntimeError: a speaking message"),
        ("exit", "exit code 3\nlast words"),
        ("out of memory", "worker died: killed by SIGKILL, as the system does when"),
        ("out of memory", "the first time: worker died: killed by SIGKILL"),
        ("memory", "out of memory (cannot hold that)"),
        ("own file", "nothing"),
        ("empty", "fitness, success and length of each episode"),
        ("huge", "limit is 8388608"),
        ("garbage", "not a training result"),
        ("impostor", "another job"),
    ],
)
def test_a_crash_is_a_failure_that_says_how_it_died(
    tmp_path: Path, action: str, told: str
) -> None:
    outcome = failure(run_one(tmp_path, action))
    assert outcome.kind == "crashed"
    assert told in outcome.reason


@pytest.mark.parametrize("action", ["killed once", "memory once"])
def test_a_worker_that_a_signal_killed_is_tried_once_more(
    tmp_path: Path, action: str
) -> None:
    assert run_one(tmp_path, action) == result_of(job(action))


def test_the_death_of_the_server_under_a_job_is_never_its_crash(tmp_path: Path) -> None:
    with pool_of(tmp_path) as pool:
        one = job("progress")
        pool.submit(one)
        for again in (True, False):
            assert wait_until(lambda: pool.progress(one) == 0.5)
            pid = server.server_pid()
            assert pid is not None
            os.kill(pid, signal.SIGKILL)
            assert not again or wait_until(lambda: pool.progress(one) == 0.0)
        ((_, outcome),) = pool.as_completed(timeout=PATIENCE)
    assert isinstance(outcome, Trouble)
    assert outcome.text.count("the server of the workers died") == 2
    assert "run the same command again" in outcome.text


def test_a_killed_job_is_tried_again_after_those_that_wait(tmp_path: Path) -> None:
    with pool_of(tmp_path) as pool:
        for action in ("killed once", "answer", "answer"):
            pool.submit(job(action, seed=pool.pending))
        order = [one.reward for one, _ in pool.as_completed(timeout=PATIENCE)]
    assert order == ["answer", "answer", "killed once"]


def test_a_job_may_go_before_those_that_wait(tmp_path: Path) -> None:
    with pool_of(tmp_path) as pool:
        # Killed, it makes room and goes to the end.
        slow = job("progress")
        pool.submit(slow)
        assert wait_until(lambda: pool.progress(slow) == 0.5)
        pool.submit(job("answer", 1))
        pool.submit(job("answer", 2), first=True)
        for child in list(pool._children):
            child.kill()
        done = pool.as_completed(timeout=PATIENCE)
        assert [next(done)[0].seed for _ in range(2)] == [2, 1]


@pytest.mark.parametrize(
    ("action", "number", "helps"),
    [
        ("full disk", errno.ENOSPC, "make room"),
        ("file limit", errno.EFBIG, "ulimit -f"),
    ],
)
def test_what_the_machine_cannot_do_is_trouble_and_no_failure(
    tmp_path: Path, action: str, number: int, helps: str
) -> None:
    trouble = run_one(tmp_path, action)
    assert isinstance(trouble, Trouble)
    error = trouble.error()
    assert error.errno == number
    assert error.filename is not None
    assert error.filename.startswith(str(tmp_path))
    assert helps in str(error)
    assert "run the same command again" in str(error)


def test_a_worker_that_cannot_be_started_is_trouble_and_no_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_process(*_: object) -> None:
        raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")

    monkeypatch.setattr(workers, "Child", no_process)
    trouble = run_one(tmp_path, "answer")
    assert isinstance(trouble, Trouble)
    assert "no worker could be started (BlockingIOError" in trouble.text


def test_an_answer_without_a_finite_score_is_not_finite(tmp_path: Path) -> None:
    found = failure(run_one(tmp_path, "infinite"))
    assert found.kind == "non_finite"
    assert "episode 0 is inf" in found.reason


def test_a_worker_does_not_heed_the_interrupt_of_the_terminal(tmp_path: Path) -> None:
    assert run_one(tmp_path, "interrupted") == result_of(job("interrupted"))


def test_closing_the_pool_kills_what_runs(tmp_path: Path) -> None:
    with pool_of(tmp_path) as pool:
        pool.submit(job("family"))
        pool.submit(job("answer"))
        pids = noted(tmp_path / "family-0.json")["pids"]
    assert wait_until(lambda: not any(alive(pid) for pid in pids))
    with pytest.raises(RuntimeError, match="the pool is closed"):
        pool.submit(job("answer"))


def test_waiting_longer_than_allowed_raises(tmp_path: Path) -> None:
    with pool_of(tmp_path) as pool:
        pool.submit(job("family"))
        with pytest.raises(TimeoutError, match="1 trainings are still under way"):
            list(pool.as_completed(timeout=0.1))
        assert pool.poll() == []


def test_the_same_job_twice_at_a_time_is_refused(tmp_path: Path) -> None:
    with pool_of(tmp_path) as pool:
        pool.submit(job("family"))
        with pytest.raises(ValueError, match="under way already"):
            pool.submit(job("family"))


@pytest.mark.parametrize(("count", "deadline"), [(0, 1.0), (1, 0.0)])
def test_a_pool_without_workers_or_time_is_refused(
    tmp_path: Path, count: int, deadline: float
) -> None:
    with pytest.raises(ValueError, match="expected"):
        WorkerPool(count, deadline, tmp_path)


CONTROLLER = """
import sys, time
from pathlib import Path
from guerdon.agents.workers import WorkerPool
from scripted_jobs import job

if __name__ == "__main__":
    pool = WorkerPool(2, 600.0, Path(sys.argv[1]), function="scripted_jobs:run")
    pool.submit(job("family"))
    pool.submit(job("stuck"))
    time.sleep(600)
"""


@pytest.fixture
def controller(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    script = tmp_path / "controller.py"
    script.write_text(CONTROLLER)
    path = os.pathsep.join([str(Path(__file__).parent), str(Path.cwd())])
    process = subprocess.Popen(
        [sys.executable, str(script), str(tmp_path)],
        env=os.environ | {"PYTHONPATH": path, "OPENAI_API_KEY": "sk-not-for-workers"},
    )
    yield process
    process.kill()
    process.wait()


def test_a_killed_controller_leaves_no_process_behind(
    tmp_path: Path, controller: subprocess.Popen[bytes]
) -> None:
    notes = [noted(tmp_path / f"{name}-0.json") for name in ("family", "stuck")]
    pids = [pid for note in notes for pid in note["pids"]]
    assert all(alive(pid) for pid in pids)
    assert len(pids) == 3
    controller.kill()
    assert wait_until(lambda: not any(alive(pid) for pid in pids))
    assert not [
        line for line in notes[0]["environment"] if "not-for-workers" in str(line)
    ]
    assert notes[0]["threads"] == "1"


def test_a_server_that_died_is_replaced_by_one_without_the_keys(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-not-for-workers")
    with pool_of(tmp_path) as pool:
        server = forkserver._forkserver._forkserver_pid  # type: ignore[attr-defined]
        os.kill(server, signal.SIGKILL)
        assert wait_until(lambda: not alive(server))
        pool.submit(job("abandon"))
        list(pool.as_completed(timeout=PATIENCE))
    note = noted(tmp_path / "abandon-0.json")
    assert note["environment"]
    assert "not-for-workers" not in str(note["environment"])


def test_workers_see_no_keys_and_the_controller_keeps_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    monkeypatch.setenv("GUERDON_TOKEN", "secret")
    before = dict(os.environ)
    with server.worker_environment():
        assert not {"OPENAI_API_KEY", "GUERDON_TOKEN"} & set(os.environ)
        assert os.environ["PATH"] == before["PATH"]
    assert dict(os.environ) == before


def test_a_real_training_runs_in_a_worker(tmp_path: Path) -> None:
    from guerdon.agents.training import TrainingJob

    real = TrainingJob("guerdon/CartPole-v1", "sparse", 256, 0, eval_episodes=2)
    with WorkerPool(1, PATIENCE, tmp_path) as pool:
        pool.submit(real)
        ((_, outcome),) = pool.as_completed(timeout=PATIENCE)
    assert isinstance(outcome, TrainingResult)
    assert outcome.weights is not None
    assert (tmp_path / outcome.weights).exists()


def test_a_population_that_does_not_fit_is_trained_in_halves_with_a_message(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    jobs = tuple(job("alone", seed) for seed in range(4))
    with pool_of(tmp_path) as pool:
        pool.submit(Leg(jobs))
        answers = dict(pool.as_completed(timeout=PATIENCE))
    assert answers == {one: result_of(one) for one in jobs}
    told = [m.partition(" did not")[0] for m in caplog.messages]
    # Never twice at the same size.
    assert told == [f"a population of {n} trainings" for n in (4, 2, 2)]
    assert "out of memory (cannot hold 4)" in caplog.messages[0]

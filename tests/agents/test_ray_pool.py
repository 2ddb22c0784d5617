"""Trainings on a cluster of this machine alone; the local pool is the oracle."""

import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from scripted_jobs import job, result_of
from test_workers import alive, failure, noted, wait_until

from guerdon.agents.ray_actor import Actor, Closed, Gone
from guerdon.agents.ray_cluster import Cluster, _environment, require_address
from guerdon.agents.ray_node import versions
from guerdon.agents.ray_pool import RayPool
from guerdon.agents.training import (
    Leg,
    Outcome,
    TrainingJob,
    TrainingResult,
    Trouble,
)
from guerdon.agents.workers import WorkerPool
from guerdon.jail import missing
from guerdon.types import Failure

if importlib.util.find_spec("ray") is None:
    # Imported here, it would be open to others: see ``ray_cluster``.
    pytest.skip("the extra ray is not installed", allow_module_level=True)

PATIENCE = 120.0
SCRIPTED = "tests.agents.ray_jobs:run"


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[Cluster]:
    """Started once; the pools of these tests find it and leave it."""
    found = Cluster("local", 2)
    yield found
    found.leave()


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RayPool]:
    folder = tmp_path_factory.mktemp("jobs")
    with RayPool(1, PATIENCE, folder, function=SCRIPTED) as pool:
        yield pool


def pool_of(folder: Path, deadline: float = PATIENCE) -> RayPool:
    return RayPool(1, deadline, folder, function=SCRIPTED)


def outcome_of(pool: RayPool | WorkerPool, one: TrainingJob) -> Outcome | Trouble:
    pool.submit(one)
    ((asked, outcome),) = pool.as_completed(timeout=PATIENCE)
    assert asked == one
    return outcome


@pytest.mark.parametrize(
    "action",
    [
        *("answer", "killed once", "memory once", "raise", "exit", "out of memory"),
        *("memory", "own file", "infinite", "empty", "huge", "garbage", "impostor"),
        "leave behind",
    ],
)
def test_an_outcome_is_that_of_the_local_pool_to_the_letter(
    shared: RayPool, tmp_path: Path, action: str
) -> None:
    one = job(action)
    with WorkerPool(1, PATIENCE, tmp_path, function="scripted_jobs:run") as local:
        expected = outcome_of(local, one)
    found = outcome_of(shared, one)
    assert type(found) is type(expected)
    if action in ("raise", "own file"):  # a traceback, which names files
        assert failure(found).reason[-60:] == failure(expected).reason[-60:]
    else:
        assert found == expected
    printed = f"{one.key}.stderr"
    assert (shared._folder / printed).exists() == (tmp_path / printed).exists()


def legs_of(pool: RayPool | WorkerPool) -> dict[TrainingJob, Outcome | Trouble]:
    """Two legs, of which the second goes on where the first has put its rows down."""
    jobs = [
        TrainingJob("scripted", f"row {seed}", 8, seed, trainer="population")
        for seed in range(3)
    ]
    pool.submit(Leg(tuple(jobs)))
    found = dict(pool.as_completed(timeout=PATIENCE))
    longer = tuple(replace(one, steps=16) for one in jobs[1:])
    pool.submit(Leg(longer, start=8))
    return found | dict(pool.as_completed(timeout=PATIENCE))


def test_legs_and_the_rows_that_they_go_on_with_are_those_of_the_local_pool(
    shared: RayPool, tmp_path: Path
) -> None:
    found = legs_of(shared)
    assert shared.pending == 0
    with WorkerPool(1, PATIENCE, tmp_path, function=SCRIPTED) as local:
        assert legs_of(local) == found
    rows = {path.name: path.read_text() for path in tmp_path.glob("*.row")}
    assert sorted(rows.values()) == ["0", "0 1", "0 2", "1", "2"]
    assert {p.name: p.read_text() for p in shared._folder.glob("*.row")} == rows


def test_the_trouble_of_a_node_names_the_place_on_the_cluster(shared: RayPool) -> None:
    trouble = outcome_of(shared, job("full disk"))
    assert isinstance(trouble, Trouble)
    assert "make room and run the same command again" in trouble.text
    assert str(trouble.file).endswith("full disk-0.json on a node of the cluster")


def test_files_that_cannot_be_written_here_are_trouble_here(
    shared: RayPool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared, "_folder", tmp_path / "gone")
    trouble = outcome_of(shared, job("exit", 7))
    assert isinstance(trouble, Trouble)
    assert "put the folder back" in trouble.text


def test_a_job_that_runs_too_long_is_killed_with_its_children(tmp_path: Path) -> None:
    with pool_of(tmp_path / "jobs", deadline=2.0) as pool:
        one = job(f"family:{tmp_path}")
        outcome = outcome_of(pool, one)
    assert outcome == Failure("timed_out", "no result within 2 seconds")
    pids = noted(tmp_path / "family-0.json")["pids"]
    assert wait_until(lambda: not any(map(alive, pids)))


def test_the_work_of_a_lost_actor_is_done_by_another(tmp_path: Path) -> None:
    with pool_of(tmp_path / "jobs") as pool:
        lost, other = job(f"lose once:{tmp_path}"), job("answer", 3)
        pool.submit(lost)
        pool.submit(other)
        found = list(pool.as_completed(timeout=PATIENCE))
    assert found == [(other, result_of(other)), (lost, result_of(lost))]


def test_work_that_is_lost_twice_is_trouble_and_no_failure(tmp_path: Path) -> None:
    with pool_of(tmp_path / "jobs") as pool:
        trouble = outcome_of(pool, job(f"lose always:{tmp_path}"))
    assert isinstance(trouble, Trouble)
    assert trouble.text.count("a node or its actor died") == 2
    assert "run the same command again" in trouble.text


def test_progress_is_told_and_closing_the_pool_kills_what_runs_and_tidies_up(
    tmp_path: Path,
) -> None:
    with pool_of(tmp_path / "jobs") as pool:
        slow = job(f"family:{tmp_path}")
        pool.submit(slow)
        pool.submit(job("answer"))
        assert wait_until(lambda: pool.progress(slow) == 0.5)
        note: Any = noted(tmp_path / "family-0.json")
        assert all(map(alive, note["pids"]))
        assert Path(note["scratch"]).is_dir()
    assert wait_until(lambda: not any(map(alive, note["pids"])))
    assert not Path(note["scratch"]).exists()
    with pytest.raises(RuntimeError, match="the pool is closed"):
        pool.submit(job("answer"))


def test_a_node_with_other_versions_is_refused_by_name(shared: RayPool) -> None:
    theirs = versions() | {"torch": "2.0.0"}
    about = {"node": "far", "versions": theirs}
    trouble = shared._refused(json.dumps(about).encode())
    assert trouble is not None
    assert "node far has torch 2.0.0 instead of" in trouble.text
    same = {"node": "far", "versions": versions()}
    assert shared._refused(json.dumps(same).encode()) is None


@pytest.mark.parametrize(
    ("parts", "told"),
    [
        ([b"nonsense"], "makes no sense"),
        ([], "makes no sense"),
        ([b'{"done": [{"job": "x"}], "shares": {}}'], "makes no sense"),
        ("short", "a file of 3 bytes instead of 4"),
        ("none", "makes no sense"),
    ],
)
def test_an_actor_that_makes_no_sense_is_lost(
    shared: RayPool, parts: Any, told: str
) -> None:
    one = job("answer", 40)
    if isinstance(parts, str):
        done = {"job": one.key, "outcome": "{}", "files": [[f"{one.key}.npz", 4]]}
        head = json.dumps({"done": [done], "shares": {}}).encode()
        parts = [head, b"abc"] if parts == "short" else [head]
    with pytest.raises(Gone, match=told):
        shared._news(parts, one, {one.key: one})


def test_a_result_without_the_files_that_it_names_is_a_crash(shared: RayPool) -> None:
    one = job("answer", 41)
    values = json.loads(result_of(one).to_json())
    text = json.dumps(values | {"weights": f"{one.key}.safetensors"})
    found = failure(shared._kept(one, one, text, {}))
    assert "without the files" in found.reason
    text = json.dumps(values | {"weights": "other.safetensors"})
    found = failure(shared._kept(one, one, text, {"other.safetensors": b""}))
    assert "expected a file" in found.reason
    assert not (shared._folder / "other.safetensors").exists()


class _Mute:
    """A Ray whose nodes never answer."""

    class exceptions:
        class RayError(Exception): ...

        class OutOfMemoryError(RayError): ...

    error: Exception | None = None

    def remote(self, _: object) -> Any:
        return self

    def options(self, **_: object) -> Any:
        return self

    def wait(self, asked: Any, timeout: float) -> tuple[list[Any], list[Any]]:
        return (asked, []) if self.error else ([], asked)

    def get(self, _: object) -> Any:
        assert self.error is not None
        raise self.error


def test_an_actor_that_is_silent_for_too_long_is_lost() -> None:
    closed = threading.Event()
    actor = Actor(_Mute(), closed)
    with pytest.raises(Gone, match=r"silent for 0\.01 seconds"):
        actor._answer(object(), 0.01)
    closed.set()
    with pytest.raises(Closed):
        actor._answer(object(), None)


def test_what_is_lost_twice_for_want_of_memory_has_crashed(shared: RayPool) -> None:
    mute = _Mute()
    mute.error = mute.exceptions.OutOfMemoryError("node out of memory")
    with pytest.raises(Gone, match="node out of memory") as caught:
        Actor(mute, threading.Event())._answer(object(), None)
    one = job("exit", 42)
    shared._ledger._open[one.key] = 0.0
    shared._ledger._lost[one.key] = "the same"
    shared._lost(one, caught.value)
    ((_, outcome),) = shared.as_completed(timeout=PATIENCE)
    assert failure(outcome).kind == "crashed"
    assert "the first time: the same" in failure(outcome).reason


def test_the_environment_of_a_new_cluster_has_no_keys_and_ours_is_left_as_it_was(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    before = dict(os.environ)
    with _environment(local=True):
        assert "sk-secret" not in os.environ.values()
        assert os.environ["RAY_AUTH_MODE"] == "token"
        assert os.environ["RAY_USAGE_STATS_ENABLED"] == "0"
        assert os.environ["PATH"] == before["PATH"]
    assert dict(os.environ) == before
    with _environment(local=False):
        assert os.environ["RAY_AUTH_MODE"] == "disabled"
    assert dict(os.environ) == before


def test_a_new_cluster_listens_to_this_machine_only(cluster: Cluster) -> None:
    (node,) = cluster.ray.nodes()
    assert node["NodeManagerAddress"] == "127.0.0.1"
    assert node["Resources"]["CPU"] == 2.0
    port = f"{node['NodeManagerPort']:04X}"
    found = [
        line.split()[1].partition(":")[0]
        for name in ("tcp", "tcp6")
        for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]
        if line.split()[1].endswith(f":{port}") and line.split()[3] == "0A"
    ]
    assert found
    for address in found:
        assert address.endswith("0100007F")


@pytest.mark.parametrize("address", ["ray://host:10001", "http://host"])
def test_an_address_of_a_client_is_refused(address: str) -> None:
    with pytest.raises(ValueError, match="expected HOST:PORT or auto"):
        require_address(address)


def test_the_address_is_that_of_the_environment_unless_one_is_given(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    assert require_address(None) is None
    monkeypatch.setenv("RAY_ADDRESS", "head:6379")
    assert require_address(None) == "head:6379"
    assert require_address("auto") == "auto"
    assert require_address("local") is None


def test_a_new_cluster_that_would_be_open_to_others_is_refused() -> None:
    code = "import ray\nfrom guerdon.agents.ray_cluster import Cluster\n"
    code += "Cluster('local', 1)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert "ValueError: ray: it was imported before Guerdon could shut" in done.stderr


@pytest.mark.parametrize("address", ["127.0.0.1:1", "127.0.0.1", "nowhere:port"])
def test_an_address_where_no_cluster_is_says_how_to_join_one(address: str) -> None:
    code = "import sys\nfrom guerdon.agents.ray_cluster import Cluster\n"
    code += "Cluster(sys.argv[1], 1)"
    done = subprocess.run(
        [sys.executable, "-c", code, address],
        capture_output=True,
        text=True,
        check=False,
    )
    last = done.stderr.strip().rpartition("\n")[2]
    assert last.startswith(f"OSError: ray: no cluster at {address} (")
    assert "ray start --address=HOST:PORT" in last


@pytest.mark.parametrize(("count", "deadline"), [(0, 1.0), (1, 0.0)])
def test_a_pool_without_workers_or_time_is_refused(
    tmp_path: Path, count: int, deadline: float
) -> None:
    with pytest.raises(ValueError, match="expected"):
        RayPool(count, deadline, tmp_path)


JAILED = """# plan: be paid for standing
def reward(prev, action, now, params):
    return {"up": np.cos(now.pole_angle) * 0.5}
"""


@pytest.mark.skipif(bool(missing()), reason="a layer of the jail is missing here")
def test_a_training_in_the_jail_of_a_node_is_that_of_the_jail_here(
    tmp_path: Path,
) -> None:
    one = TrainingJob(
        *("guerdon/CartPole-v1", JAILED, 256, 0), eval_episodes=2, trust="jail"
    )
    with RayPool(1, PATIENCE, tmp_path / "ray") as pool:
        far = outcome_of(pool, one)
    with WorkerPool(1, PATIENCE, tmp_path / "local") as local:
        near = outcome_of(local, one)
    assert isinstance(far, TrainingResult)
    assert isinstance(near, TrainingResult)
    for name in ("fitness", "success", "length", "proxy", "curve", "steps"):
        assert getattr(far, name) == getattr(near, name)
    assert far.weights == near.weights
    for file in (far.weights, far.episodes):
        here = (tmp_path / "local" / str(file)).read_bytes()
        assert (tmp_path / "ray" / str(file)).read_bytes() == here


CONTROLLER = """
import sys, time
from dataclasses import replace
from pathlib import Path
from guerdon.agents.ray_pool import RayPool
from scripted_jobs import job

if __name__ == "__main__":
    folder = Path(sys.argv[1])
    pool = RayPool(1, 600.0, folder / "jobs", function="ray_jobs:run")
    pool.submit(job(f"family:{folder}"))
    time.sleep(600)
"""


def test_a_killed_controller_leaves_no_process_of_its_cluster_behind(
    tmp_path: Path,
) -> None:
    script = tmp_path / "controller.py"
    script.write_text(CONTROLLER)
    path = os.pathsep.join([str(Path(__file__).parent), str(Path.cwd())])
    # Sockets lie there, and what the killed leave; its path must be short.
    scratch = tempfile.mkdtemp(prefix="g")
    keys = {"OPENAI_API_KEY": "sk-not-for-workers", "TMPDIR": scratch}
    process = subprocess.Popen(
        [sys.executable, str(script), str(tmp_path)],
        env=os.environ | {"PYTHONPATH": path} | keys,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        assert wait_until((tmp_path / "family-0.json").exists)
        pids = noted(tmp_path / "family-0.json")["pids"]
        whole = [pid for pid in _descendants(process.pid) if alive(pid)]
        assert set(pids) <= set(whole)
        for pid in whole:
            environment = Path(f"/proc/{pid}/environ").read_bytes()
            assert b"not-for-workers" not in environment
        agents = {pid for pid in whole if _is_agent(pid)}
        process.send_signal(signal.SIGKILL)
        assert wait_until(lambda: not any(map(alive, set(whole) - agents)))
    finally:
        process.kill()
        process.wait()
    for pid in filter(_is_agent, agents):
        os.kill(pid, signal.SIGKILL)
    shutil.rmtree(scratch, ignore_errors=True)


def _is_agent(pid: int) -> bool:
    """Whether it is one of Ray's own that end by themselves, a minute later."""
    try:
        name = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False
    return name.startswith((b"ray::DashboardAgent", b"ray::RuntimeEnvAgent"))


def _descendants(pid: int) -> list[int]:
    """Every process below one, by their parents' ids."""
    parents: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                text = (entry / "stat").read_text()
            except OSError:
                continue
            above = int(text.rpartition(")")[2].split()[1])
            parents.setdefault(above, []).append(int(entry.name))
    found, queue = [], [pid]
    while queue:
        below = parents.get(queue.pop(), [])
        found += below
        queue += below
    return found

"""Whole runs on a Ray cluster: the local executor's, to the last bit."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from guerdon.agents.ray_cluster import Cluster
from guerdon.extras import MissingExtra
from guerdon.run import Resources, run_search
from tests.soak.test_determinism import files, tables
from tests.soak.test_secrets import Echo, _texts
from tests.soak.test_secrets import run as run_with_canary
from tests.test_run import FAKE, SMALL, Seen

if importlib.util.find_spec("ray") is None:
    # Imported here, it would be open to others: see ``ray_cluster``.
    pytest.skip("the extra ray is not installed", allow_module_level=True)

RAY = replace(FAKE, executor="ray", ray_address="local")


@pytest.fixture(autouse=True)
def _quick_report(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("guerdon.run.search.write_report", lambda folder: None)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """Started once; the runs of these tests find it and leave it."""
    found = Cluster("local", 2)
    yield found
    found.leave()


@pytest.mark.usefixtures("cluster")
def test_a_search_on_a_cluster_is_that_of_the_local_executor_even_if_broken_off(
    tmp_path: Path,
) -> None:
    config = replace(SMALL, candidates=6, search_seeds=2)
    run_search(config, tmp_path / "local", FAKE)
    run_search(config, tmp_path / "ray", RAY)
    alone = replace(RAY, workers=1)
    with pytest.raises(KeyboardInterrupt):
        run_search(config, tmp_path / "broken", alone, Seen("trained", 6))
    run_search(config, tmp_path / "broken", FAKE)
    expected = tables(tmp_path / "local")
    assert len(expected["trainings"]) > 20
    assert tables(tmp_path / "ray") == expected
    assert files(tmp_path / "ray") == files(tmp_path / "local")
    # The moments of the interruption are events, all else is as it would have been.
    broken = tables(tmp_path / "broken")
    for table in ("candidates", "trainings", "rounds", "meta"):
        assert broken[table] == expected[table]


@pytest.mark.usefixtures("cluster")
def test_real_trainings_on_a_cluster_are_those_of_the_local_executor(
    tmp_path: Path,
) -> None:
    config = replace(
        SMALL, candidates=2, rounds=1, steps=64, seeds=1, finalists=1, final_seeds=0
    )
    run_search(config, tmp_path / "local", Resources(workers=2))
    run_search(config, tmp_path / "ray", Resources(workers=1, executor="ray"))
    assert tables(tmp_path / "ray") == tables(tmp_path / "local")
    found = files(tmp_path / "ray")
    assert {Path(name).suffix for name in found} >= {".npz", ".safetensors"}
    assert found == files(tmp_path / "local")


def test_the_key_of_the_model_reaches_no_process_and_no_file_of_a_cluster(
    tmp_path: Path,
) -> None:
    """A cluster that the command itself starts and ends."""
    words = ("--candidates", "3", "--executor", "ray")
    done, spy, _ = run_with_canary(tmp_path, Echo(200), *words)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "plan: Bearer ***" in _texts(tmp_path / "run")
    commands = [command[:200] for command in spy.read.values()]
    # Ray's servers, the actors, under the one or the other name, and our own server.
    for names in (["gcs_server"], ["raylet/raylet"], ["ray::", "_worker"], ["forks"]):
        assert any(name in command for command in commands for name in names), names


def test_a_cluster_without_the_extra_leaves_no_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = importlib.util.find_spec
    monkeypatch.setattr(
        "importlib.util.find_spec", lambda name: None if name == "ray" else real(name)
    )
    monkeypatch.setattr("guerdon.extras.require", _missing)
    with pytest.raises(MissingExtra, match=r"guerdon\[ray\]"):
        run_search(SMALL, tmp_path / "run", RAY)
    assert not (tmp_path / "run").exists()


def _missing(module: str, extra: str) -> None:
    raise MissingExtra(f"{module}: pip install 'guerdon[{extra}]'")


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"executor": "slurm"}, "executor: expected one of .*got 'slurm'"),
        ({"ray_address": "auto"}, "it takes executor 'ray'"),
        ({"executor": "ray", "ray_address": "ray://a:1"}, "expected HOST:PORT or auto"),
    ],
)
def test_a_place_that_is_none_is_refused_by_name(
    given: dict[str, str], told: str
) -> None:
    with pytest.raises(ValueError, match=told):
        Resources(**given)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="ray_address: expected text, got int"):
        Resources(executor="ray", ray_address=6379)  # type: ignore[arg-type]

"""The far end without Ray: bytes in, bytes out."""

import errno
import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from scripted_jobs import job, result_of

from guerdon.agents import ray_node
from guerdon.agents.ray_node import Node, named, optional, rows_before
from guerdon.agents.training import Leg, TrainingJob, TrainingResult, outcome_from_json
from guerdon.types import Failure


@pytest.fixture
def node(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Node]:
    monkeypatch.setattr(ray_node, "_forget_main", lambda: None)
    found = Node()
    about = json.loads(found.open("tests.run_jobs:train", 60.0, sys.path))
    assert about["versions"] == ray_node.versions()
    assert set(about) == {"node", "versions"}
    yield found
    found.close()
    assert not found._scratch.exists()


def real(seed: int) -> TrainingJob:
    return TrainingJob("tests.agents.countdown_task:TASK", "sparse", 8, seed)


def test_jobs_are_handed_back_with_their_files(node: Node) -> None:
    jobs = {one.key: one for one in (real(1), real(2))}
    for one in jobs.values():
        node.begin(one.to_json().encode(), [])
    seen = {}
    while len(seen) < 2:
        head, *contents = node.look(1.0)
        told = json.loads(head)
        assert set(told["shares"]) | set(seen) <= set(jobs)
        for done, content in zip(told["done"], contents, strict=True):
            seen[done["job"]] = content
            outcome = outcome_from_json(done["outcome"])
            assert isinstance(outcome, TrainingResult)
            assert done["files"] == [[outcome.episodes, len(content)]]
            assert content[:2] == b"PK"
    assert set(seen) == set(jobs)
    assert not list(node._scratch.glob("*.npz"))


@pytest.mark.parametrize("name", ["other.npz", "{key}", "{key}.d/file.npz"])
def test_a_result_may_only_name_files_of_its_own(name: str) -> None:
    one = job("answer")
    result = replace(result_of(one), episodes=name.format(key=one.key))
    with pytest.raises(ValueError, match="expected a file"):
        named(one, result)


def test_only_what_a_result_names_or_a_dead_worker_printed_travels() -> None:
    one = job("answer")
    whole = replace(
        result_of(one), weights=f"{one.key}.safetensors", episodes=f"{one.key}.npz"
    )
    assert named(one, whole) == [whole.weights, whole.episodes]
    assert named(one, result_of(one)) == []
    assert named(one, Failure("crashed", "x")) == []
    assert optional(one, one) == [f"{one.key}.row", f"{one.key}.stderr"]


def test_a_leg_goes_on_with_the_rows_of_its_own_jobs_alone(node: Node) -> None:
    one = replace(real(1), trainer="population")
    leg = Leg((replace(one, steps=16),), start=8)
    assert rows_before(leg) == [f"{one.key}.row"]
    assert rows_before(real(1)) == rows_before(replace(leg, start=0)) == []
    with pytest.raises(ValueError, match="expected files of the rows of the leg"):
        node.begin(leg.to_json().encode(), [f"{real(2).key}.row"], b"row")
    with pytest.raises(ValueError, match="expected files of the rows of the leg"):
        node.begin(leg.to_json().encode(), ["../x"], b"row")
    assert list(node._scratch.iterdir()) == []


@pytest.mark.parametrize("kind", ["missing", "large", "link"])
def test_a_file_that_cannot_travel_is_a_crash_that_names_it(
    node: Node, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, kind: str
) -> None:
    one = job("answer")
    path = node._scratch / f"{one.key}.npz"
    if kind == "link":
        path.symlink_to("/etc/hostname")
    elif kind == "large":
        path.write_bytes(b"12345")
        monkeypatch.setattr(ray_node, "MAX_FILE", 4)
    told, files = node._gathered(one, one, replace(result_of(one), episodes=path.name))
    outcome = outcome_from_json(told)
    assert isinstance(outcome, Failure)
    assert outcome.kind == "crashed"
    assert path.name in outcome.reason
    assert files == {}


def test_a_node_without_a_place_for_files_says_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def full(**_: object) -> str:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(ray_node, "_forget_main", lambda: None)
    monkeypatch.setattr("tempfile.mkdtemp", full)
    about = json.loads(Node().open("scripted_jobs:run", 60.0, []))
    assert about["trouble"]["number"] == errno.ENOSPC
    assert "make room" in about["trouble"]["text"]

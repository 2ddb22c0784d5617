"""Recorded episodes that nobody vouches for."""

from __future__ import annotations

import io
import os
import pickle
import struct
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from guerdon.agents import evaluate as module
from guerdon.agents.evaluate import load_episodes, save_episodes
from guerdon.journal import Journal
from guerdon.reward_design.search import Bank, collect
from guerdon.run import Resources, RunConfig, run_search
from tests.adversarial.artifacts import CARTPOLE, TASK, Payload

pytestmark = pytest.mark.usefixtures("nothing_escapes")

MOST_BYTES = 4 << 20


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("episodes") / "e.npz"
    save_episodes(path, collect(TASK, steps=60).episodes[:2])
    return path.read_bytes()


def arrays(data: bytes) -> dict[str, np.ndarray]:
    with np.load(io.BytesIO(data)) as found:
        return dict(found)


def npz(values: dict[str, Any], compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    """Arrays, or bytes that pretend to be arrays, in one file."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", compression) as archive:
        for name, value in values.items():
            if not isinstance(value, bytes):
                inner = io.BytesIO()
                np.lib.format.write_array(inner, np.asarray(value), allow_pickle=True)
                value = inner.getvalue()
            archive.writestr(f"{name}.npy", value)
    return stream.getvalue()


def claims(shape: str, descr: str = "<f4") -> bytes:
    """The header of an array, with a few bytes behind it."""
    head = f"{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}"
    head = head.ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(head)) + head.encode() + b"1234"


Change = Callable[[dict[str, np.ndarray]], dict[str, Any]]

RECORDINGS: dict[str, Change] = {
    "ten gigabytes claimed": lambda d: d | {"features": claims("(357142857, 7)")},
    "more than there is": lambda d: d | {"features": claims("(10**30, 7)")},
    "a claim too large": lambda d: d | {"reward": claims(f"({10**30},)")},
    "a negative claim": lambda d: d | {"reward": claims("(-1,)")},
    "a deep claim": lambda d: d | {"reward": claims("(" * 50 + ")" * 50)},
    "a pickled object": lambda d: d | {"reward": np.array([Payload()], "O")},
    "pickled episodes": lambda d: d | {"length": np.array([Payload()] * 2, "O")},
    "a pickle by itself": lambda d: d | {"reward": pickle.dumps(Payload())},
    "text": lambda d: d | {"reward": np.array(["a"] * len(d["reward"]))},
    "records": lambda d: d | {"reward": claims("(1,)", "<f4,<f4")},
    "a type that is none": lambda d: d | {"reward": claims("(1,)", "<f3")},
    "dates": lambda d: d | {"reward": d["reward"].astype("M8[s]")},
    "complex": lambda d: d | {"reward": d["reward"].astype(complex)},
    "a number": lambda d: d | {"length": np.int64(3)},
    "no array at all": lambda d: d | {"features": b"features"},
    "an empty array": lambda d: d | {"features": b""},
    "a missing array": lambda d: {k: v for k, v in d.items() if k != "fitness"},
    "negative lengths": lambda d: d | {"length": -d["length"]},
    "no lengths": lambda d: d | {"length": d["length"][:0]},
    "lengths of nothing": lambda d: d | {"length": d["length"] * 0},
    "lengths beyond": lambda d: d | {"length": d["length"] + 5},
    "lengths that overflow": lambda d: d | {"length": np.array([2**63 - 1, 2])},
    "half lengths": lambda d: d | {"length": d["length"] + 0.5},
    "more flags": lambda d: d | {"terminated": np.ones(9, np.bool_)},
    "fewer scores": lambda d: d | {"fitness": d["fitness"][:1]},
    "narrow rows": lambda d: d | {"features": d["features"][:, :3]},
    "flat rows": lambda d: d | {"features": d["features"].ravel()},
    "fewer rewards": lambda d: d | {"reward": d["reward"][:-1]},
}


@pytest.mark.parametrize("name", RECORDINGS)
def test_a_hostile_recording_is_refused_before_it_takes_memory(
    recording: bytes, name: str, tmp_path: Path
) -> None:
    path = tmp_path / "e.npz"
    path.write_bytes(npz(RECORDINGS[name](arrays(recording))))
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=r"e\.npz") as caught:
            load_episodes(path, TASK)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(str(caught.value)) < 1000
    assert most < MOST_BYTES


@pytest.mark.parametrize("order", ["C", "F"])
def test_the_recording_itself_is_read_as_numpy_reads_it(
    recording: bytes, order: Any, tmp_path: Path
) -> None:
    path, data = tmp_path / "e.npz", arrays(recording)
    path.write_bytes(npz({k: np.asarray(v, order=order) for k, v in data.items()}))
    found = load_episodes(path, TASK)
    assert len(found) == len(data["length"]) == 2
    rows = np.concatenate([episode.features for episode in found])
    assert rows.tobytes() == data["features"].tobytes()
    for name in ("action", "reward"):
        steps = np.concatenate([getattr(episode, name) for episode in found])
        assert steps.tobytes() == data[name].tobytes()


def test_a_recording_cut_off_anywhere_is_refused(
    recording: bytes, tmp_path: Path
) -> None:
    path = tmp_path / "e.npz"
    for size in range(0, len(recording), 41):
        path.write_bytes(recording[:size])
        with pytest.raises(ValueError, match="expected recorded episodes"):
            load_episodes(path, TASK)


def test_a_recording_with_any_byte_changed_is_refused_or_read(
    recording: bytes, tmp_path: Path
) -> None:
    path = tmp_path / "e.npz"
    rng = np.random.default_rng(0)
    refused = 0
    for place in rng.integers(len(recording), size=200):
        changed = bytearray(recording)
        changed[place] ^= int(rng.integers(1, 256))
        path.write_bytes(changed)
        try:
            load_episodes(path, TASK)
        except ValueError:
            refused += 1
    assert refused > 100


def test_zeros_that_unpack_to_more_than_the_limit_are_not_unpacked(
    recording: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_EPISODES", 1 << 20)
    path = tmp_path / "e.npz"
    bomb = npz(arrays(recording) | {"features": np.zeros((1 << 20, 7), np.float32)})
    assert len(bomb) < 100_000
    path.write_bytes(bomb)
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match="more than 1048576 bytes"):
            load_episodes(path, TASK)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < MOST_BYTES


@pytest.mark.parametrize("kind", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_another_packing_than_ours_is_refused(
    recording: bytes, tmp_path: Path, kind: int
) -> None:
    path = tmp_path / "e.npz"
    path.write_bytes(npz(arrays(recording), kind))
    with pytest.raises(ValueError, match="packed in another way"):
        load_episodes(path, TASK)


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "e.npz")
    with pytest.raises(ValueError, match="no regular file"):
        load_episodes(tmp_path / "e.npz", TASK)


def test_a_recording_full_of_nan_makes_no_bank(
    recording: bytes, tmp_path: Path
) -> None:
    path = tmp_path / "e.npz"
    data = arrays(recording)
    for name in ("reward", "fitness"):
        bad = np.full_like(data[name], np.nan, dtype=np.float64)
        path.write_bytes(npz(data | {name: bad}))
        with pytest.raises(ValueError, match="expected a finite"):
            Bank.of(TASK, load_episodes(path, TASK))


def test_a_search_on_a_folder_with_a_hostile_bank_is_refused(
    recording: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "run"
    asked = RunConfig(
        task=CARTPOLE, llm="sampler", candidates=2, rounds=1, seeds=1, steps=32
    ).whole(TASK)
    Journal.create(folder, asked.as_record()).close()
    hostile = RECORDINGS["a pickled object"](arrays(recording))
    (folder / "bank.npz").write_bytes(npz(hostile))
    function = Resources(workers=1, function="tests.adversarial.jobs:train")
    with pytest.raises(ValueError, match=r"bank\.npz: expected recorded episodes"):
        run_search(asked, folder, function)

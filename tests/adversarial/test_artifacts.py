"""Weights, recordings and results that nobody vouches for."""

from __future__ import annotations

import io
import json
import os
import pickle
import struct
import tracemalloc
import zipfile
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save, save_file

from guerdon.agents import evaluate as module
from guerdon.agents.evaluate import load_episodes, save_episodes
from guerdon.agents.policies import load_policy
from guerdon.agents.sb3 import train
from guerdon.agents.training import TrainingJob, TrainingResult
from guerdon.agents.workers import _answer
from guerdon.cli import main
from guerdon.envs import load_task
from guerdon.journal import Journal
from guerdon.reward_design.search import Bank, collect
from guerdon.run import Resources, RunConfig, evaluate_policy, run_search, train_one
from guerdon.types import Failure

CARTPOLE = "guerdon/CartPole-v1"
TASK = load_task(CARTPOLE)
MOST_BYTES = 4 << 20


class Payload:
    """What a pickle would run."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("touch escaped",)


@pytest.fixture(autouse=True)
def _canary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    yield
    assert not list(tmp_path.rglob("escaped"))


# --- recordings -----------------------------------------------------------------------


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
    os.mkfifo(tmp_path / "p.safetensors")
    with pytest.raises(ValueError, match="expected a file"):
        load_policy(tmp_path / "p.safetensors", TASK)


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
    Journal.create(folder, asdict(asked)).close()
    hostile = RECORDINGS["a pickled object"](arrays(recording))
    (folder / "bank.npz").write_bytes(npz(hostile))
    function = Resources(workers=1, function="tests.adversarial.jobs:train")
    with pytest.raises(ValueError, match=r"bank\.npz: expected recorded episodes"):
        run_search(asked, folder, function)


# --- weights --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("weights")
    found = train(
        TrainingJob(CARTPOLE, "sparse", 32, 0, eval_episodes=1), folder=folder
    )
    assert isinstance(found, TrainingResult)
    return folder / str(found.weights)


def header_of(path: Path) -> dict[str, Any]:
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    return json.loads(json.loads(data[8 : 8 + length])["__metadata__"]["guerdon"])


HEADERS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "no header": lambda h: None,
    "a list": lambda h: [h],
    "a number": lambda h: 7,
    "an older format": lambda h: h | {"format": "guerdon-policy-0"},
    "no recipe": lambda h: {k: v for k, v in h.items() if k != "recipe"},
    "a recipe that is none": lambda h: h | {"recipe": "ppo"},
    "unknown fields": lambda h: h | {"recipe": h["recipe"] | {"__class__": 1}},
    "a field too few": lambda h: h | {"recipe": {"net_arch": [64]}},
    "no job": lambda h: h | {"job": None},
    "huge layers": lambda h: h | {"recipe": h["recipe"] | {"net_arch": [10**9] * 2}},
    "one huge layer": lambda h: h | {"recipe": h["recipe"] | {"net_arch": [10**12]}},
    "many layers": lambda h: h | {"recipe": h["recipe"] | {"net_arch": [9] * 99_999}},
    "negative layers": lambda h: h | {"recipe": h["recipe"] | {"net_arch": [-4]}},
    "layers in words": lambda h: h | {"recipe": h["recipe"] | {"net_arch": "6464"}},
    "another algorithm": lambda h: h | {"recipe": h["recipe"] | {"algo": "eval"}},
    "no activation": lambda h: h | {"recipe": h["recipe"] | {"activation": "eval"}},
    "noise": lambda h: h | {"recipe": h["recipe"] | {"use_sde": True}},
    "a grid": lambda h: h | {"recipe": h["recipe"] | {"one_hot": True}},
    "SAC": lambda h: h | {"recipe": h["recipe"] | {"algo": "sac"}},
    "a deviation in words": lambda h: (
        h | {"recipe": h["recipe"] | {"log_std_init": "x", "use_sde": True}}
    ),
    "a normaliser": lambda h: h | {"normalizer": {"epsilon": 1.0, "limit": 1.0}},
    "a normaliser in words": lambda h: h | {"normalizer": "x"},
    "other spaces": lambda h: h | {"spaces": ["<script>", "x"]},
    "spaces of nothing": lambda h: h | {"spaces": []},
}


@pytest.mark.parametrize("name", HEADERS)
def test_a_hostile_header_of_weights_is_a_value_error_without_much_memory(
    weights: Path, name: str, tmp_path: Path
) -> None:
    path = tmp_path / "p.safetensors"
    text = json.dumps(HEADERS[name](header_of(weights)))
    save_file(load_file(weights), path, metadata={"guerdon": text})
    with pytest.raises(ValueError, match=r"p\.safetensors"):
        evaluate_policy(CARTPOLE, path, episodes=1, seed=0)


@pytest.mark.parametrize(
    "text", ["", "{", "[" * 100_000, '{"format": 1e999}', "\ud800", "9" * 9999]
)
def test_metadata_that_is_no_json_is_a_value_error(
    weights: Path, text: str, tmp_path: Path
) -> None:
    path = tmp_path / "p.safetensors"
    tensors = load_file(weights)
    save_file(
        tensors, path, metadata={"guerdon": text.encode("utf-8", "replace").decode()}
    )
    with pytest.raises(ValueError, match="expected a policy of format"):
        load_policy(path, TASK)


TENSORS: dict[str, Callable[[dict[str, torch.Tensor], str], dict[str, torch.Tensor]]]
TENSORS = {
    "not a number": lambda t, n: t | {n: t[n] * torch.nan},
    "infinite": lambda t, n: t | {n: t[n] + torch.inf},
    "whole numbers": lambda t, n: t | {n: t[n].long()},
    "missing": lambda t, n: {k: v for k, v in t.items() if k != n},
    "another shape": lambda t, n: t | {n: torch.zeros(3, 3)},
    "one more": lambda t, n: t | {"network.__class__": torch.zeros(1)},
    "none": lambda t, n: {},
}


@pytest.mark.parametrize("name", TENSORS)
def test_hostile_numbers_of_weights_are_a_value_error(
    weights: Path, name: str, tmp_path: Path
) -> None:
    path = tmp_path / "p.safetensors"
    tensors = load_file(weights)
    changed = TENSORS[name](tensors, next(iter(tensors)))
    save_file(changed, path, metadata={"guerdon": json.dumps(header_of(weights))})
    with pytest.raises(ValueError, match=r"p\.safetensors"):
        evaluate_policy(CARTPOLE, path, episodes=1, seed=0)


def frame(header: bytes, length: int | None = None, body: bytes = b"") -> bytes:
    return (len(header) if length is None else length).to_bytes(8, "little") + (
        header + body
    )


FRAMES = {
    "nothing": b"",
    "half a length": b"\x01\x02",
    "a huge length": frame(b"{}", 1 << 62),
    "a length beyond": frame(b"{}", 10_000),
    "no JSON": frame(b"[" * 50_000),
    "a tensor of ten gigabytes": frame(
        b'{"a":{"dtype":"F32","shape":[2500000000],"data_offsets":[0,10000000000]}}'
    ),
    "a shape that overflows": frame(
        b'{"a":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,4]}}',
        body=bytes(4),
    ),
    "offsets backwards": frame(
        b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[4,0]}}', body=bytes(4)
    ),
    "a tensor over another": frame(
        b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},'
        b'"b":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}',
        body=bytes(4),
    ),
    "an unknown type": frame(
        b'{"a":{"dtype":"PY","shape":[1],"data_offsets":[0,4]}}', body=bytes(4)
    ),
    "a pickle": pickle.dumps(Payload()),
    "a zip of torch": b"PK\x03\x04" + bytes(100),
}


@pytest.mark.parametrize("name", FRAMES)
def test_files_that_are_no_weights_are_refused_in_words(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "p.safetensors"
    path.write_bytes(FRAMES[name])
    assert main(["evaluate", CARTPOLE, "--policy", str(path)]) == 2
    assert "p.safetensors" in capsys.readouterr().err


def test_weights_cut_off_anywhere_are_refused(weights: Path, tmp_path: Path) -> None:
    path, data = tmp_path / "p.safetensors", weights.read_bytes()
    for size in range(0, len(data), len(data) // 23):
        path.write_bytes(data[:size])
        with pytest.raises(ValueError, match=r"p\.safetensors"):
            evaluate_policy(CARTPOLE, path, episodes=1, seed=0)


def test_a_hole_of_many_gigabytes_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "p.safetensors"
    header = b'{"a":{"dtype":"F32","shape":[250000000],"data_offsets":[0,1000000000]}}'
    with path.open("wb") as file:
        file.write(frame(header))
        file.truncate(8 + len(header) + 1_000_000_000)
    with pytest.raises(ValueError, match="expected a file of at most"):
        load_policy(path, TASK)


def test_weights_name_a_task_and_nobody_imports_it(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "p.safetensors"
    (tmp_path / "work" / "weights_trap.py").write_text("open('escaped', 'w')\n")
    monkeypatch.syspath_prepend(str(tmp_path / "work"))
    header = header_of(weights)
    header["job"]["task"] = "weights_trap:TASK"
    save_file(load_file(weights), path, metadata={"guerdon": json.dumps(header)})
    with pytest.raises(ValueError, match="is not registered; name the task"):
        load_policy(path)
    evaluate_policy(CARTPOLE, path, episodes=1, seed=0)  # the user's own word counts
    assert save(load_file(path))


# --- results --------------------------------------------------------------------------

JOB = TrainingJob(CARTPOLE, "sparse", 32, 0)


@pytest.fixture(scope="module")
def honest(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    found = train(TrainingJob(CARTPOLE, "sparse", 32, 0, eval_episodes=1))
    assert isinstance(found, TrainingResult)
    return json.loads(found.to_json()) | {"job": JOB.key}


FORGED: dict[str, Callable[[dict[str, Any]], Any]] = {
    "another job's": lambda r: r | {"job": "0" * 64},
    "a score that is no number": lambda r: r | {"fitness": [float("nan")]},
    "an infinite score": lambda r: r | {"fitness": [float("inf")]},
    "a score in words": lambda r: r | {"fitness": ["1e9"]},
    "a flag as score": lambda r: r | {"fitness": [True]},
    "no scores": lambda r: r | {"fitness": [], "success": [], "length": []},
    "one score more": lambda r: r | {"fitness": r["fitness"] * 2},
    "a field more": lambda r: r | {"winner": True},
    "a field less": lambda r: {k: v for k, v in r.items() if k != "curve"},
    "a curve that is none": lambda r: r | {"curve": 7},
    "an unknown failure": lambda r: {"failure": {"kind": "x", "reason": "", "line": 1}},
    "a list": lambda r: [r],
}


@pytest.mark.parametrize("name", FORGED)
def test_a_forged_result_is_a_failure_of_its_candidate(
    honest: dict[str, Any], name: str
) -> None:
    assert isinstance(_answer(json.dumps(honest).encode(), JOB), TrainingResult)
    found = _answer(json.dumps(FORGED[name](honest)).encode(), JOB)
    assert isinstance(found, Failure)
    assert found.kind in ("crashed", "non_finite")


@pytest.mark.parametrize("text", [b"", b"\xff\xfe", b"{", b"null", b"R" * 99, b"1e999"])
def test_an_answer_that_is_no_json_is_a_failure_of_its_candidate(text: bytes) -> None:
    assert isinstance(_answer(text, JOB), Failure)


def test_a_result_of_somebody_is_replaced_and_never_believed(tmp_path: Path) -> None:
    out, precious = tmp_path / "out", tmp_path / "precious"
    out.mkdir()
    precious.write_text("mine")
    (out / "result.json").symlink_to(precious)
    found = train_one(CARTPOLE, "sparse", steps=32, eval_episodes=1, out=out)
    assert precious.read_text() == "mine"
    assert not (out / "result.json").is_symlink()
    written = json.loads((out / "result.json").read_text())
    assert written["fitness"] == [found["fitness"]["value"]]

"""Weights that nobody vouches for."""

from __future__ import annotations

import json
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save, save_file

from guerdon.agents.policies import load_policy
from guerdon.agents.sb3 import train
from guerdon.agents.training import TrainingJob, TrainingResult
from guerdon.cli import main
from guerdon.run import evaluate_policy
from tests.adversarial.artifacts import CARTPOLE, TASK, Payload

pytestmark = pytest.mark.usefixtures("nothing_escapes")


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
    "spaces that are a number": lambda h: h | {"spaces": 5},
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


def test_a_pipe_in_the_place_of_weights_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "p.safetensors")
    with pytest.raises(ValueError, match="expected a file"):
        load_policy(tmp_path / "p.safetensors", TASK)


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

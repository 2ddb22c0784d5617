"""Files of rows that are damaged, or that somebody has made up."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

import guerdon
from guerdon.agents import population as module
from guerdon.agents.population import (
    arrays_for,
    config_for,
)
from guerdon.types import Failure
from tests.agents.legs import (
    ENVS,
    GRID,
    HALF,
    ROWS,
    WHOLE,
    file_of,
    small_recipes,
    tensors,
    train,
)


@pytest.fixture(scope="module", autouse=True)
def _small() -> Iterator[None]:
    with small_recipes():
        yield


def rewritten(
    path: Path,
    change: Callable[[dict[str, torch.Tensor], dict[str, Any]], None],
    *,
    sealed: bool = True,
) -> None:
    """Change a file's tensors and header; sealed with a digest that fits."""
    from guerdon.agents import rows

    with safe_open(path, framework="pt") as file:
        header = json.loads((file.metadata() or {})["guerdon"])
    own = tensors(path)
    change(own, header)
    if sealed:
        header["digest"] = rows._digest(header, own)
    save_file(own, path, metadata={"guerdon": json.dumps(header)})


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1000])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def huge_header(path: Path) -> None:
    path.write_bytes(b"\xff" * 7 + b"\x0f" + path.read_bytes()[8:])


def a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def a_tipped_bit(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-5000] ^= 1
    path.write_bytes(bytes(data))


def with_tensor(name: str, value: Any) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        def set_it(own: dict[str, torch.Tensor], _: dict[str, Any]) -> None:
            own[name] = value(own[name])

        rewritten(path, set_it)

    return change


def half_precision(path: Path) -> None:
    name = "weights.first.weight"

    def set_it(own: dict[str, torch.Tensor], _: dict[str, Any]) -> None:
        own[name] = own[name].bfloat16()

    rewritten(path, set_it, sealed=False)


def with_header(**values: Any) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        def set_it(_: dict[str, torch.Tensor], header: dict[str, Any]) -> None:
            header.update(values)

        rewritten(path, set_it)

    return change


def with_config(**values: Any) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        def set_it(_: dict[str, torch.Tensor], header: dict[str, Any]) -> None:
            header["config"].update(values)

        rewritten(path, set_it)

    return change


def without(name: str) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        rewritten(path, lambda own, _: own.__delitem__(name))

    return change


def nested_header(path: Path) -> None:
    own = tensors(path)
    save_file(own, path, metadata={"guerdon": "[" * 100_000})


DAMAGES: dict[str, Callable[[Path], None]] = {
    "truncated": truncated,
    "empty": empty,
    "huge header": huge_header,
    "nested header": nested_header,
    "folder": a_folder,
    "tipped bit": a_tipped_bit,
    "format": with_header(format="guerdon-row-9"),
    "no format": with_header(format=None),
    "seed": with_header(seed=7),
    "seed of text": with_header(seed="7"),
    "blocks": with_header(blocks=2),
    "negative blocks": with_header(blocks=-1),
    "adam": with_header(adam_steps=2**80),
    "resumable": with_header(resumable=None),
    "config": with_header(config=[1]),
    "wide config": with_config(hidden=[10**9, 10**9]),
    "many envs": with_config(envs=10**12),
    "device": with_config(device="cuda"),
    "nan": with_tensor("weights.action.bias", lambda t: t * np.nan),
    "infinite": with_tensor("mean.first.weight", lambda t: t + np.inf),
    "negative square": with_tensor("square.first.weight", lambda t: t - 1.0),
    "negative variance": with_tensor("reward_scale0.var", lambda t: -t),
    "shape": with_tensor("weights.first.weight", lambda t: t[:, :-1].contiguous()),
    "dtype": with_tensor("weights.first.weight", lambda t: t.double()),
    "half": half_precision,
    "lanes": with_tensor("env.cells", lambda t: t[:-1].contiguous()),
    "cells": with_tensor("env.cells", lambda t: torch.full_like(t, 77)),
    "dtype of cells": with_tensor("env.cells", lambda t: t.int()),
    "numbers": with_tensor("env.numbers", lambda t: t * 0 + 10**6),
    "codes": with_tensor("last.obs", lambda t: torch.full_like(t, 255)),
    "registers": with_tensor("rewards.memory0", lambda t: t[:-1].contiguous()),
    "one register": with_tensor("rewards.ended0", lambda t: t[None]),
    "episodes": with_tensor("log.table", lambda t: t[0].contiguous()),
    "nan episodes": with_tensor(
        "log.table", lambda t: torch.full((len(t), 3), np.nan, dtype=t.dtype)
    ),
    "no episodes": without("log.table"),
    "no lanes": without("open.length"),
    "no weights": without("weights.first.weight"),
    "no cells": without("env.cells"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_row_begins_anew_and_spares_those_beside_it(
    damage: str,
    quick: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What is taken up shows in the populations that are made, before any training."""
    for path in quick.glob("*.row"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    DAMAGES[damage](file_of(ROWS[0], tmp_path))
    begun: list[tuple[list[int], list[int]]] = []

    def noted(self: Any, members: Any, rewards: Any, population: Any) -> Any:
        begun.append(
            (list(members), [population.steps(r) for r in range(len(members))])
        )
        population.env.close()
        return {i: Failure("crashed", "not trained") for i in members}

    monkeypatch.setattr(module._Training, "_train", noted)
    with caplog.at_level(logging.WARNING, logger=module.__name__):
        found = train(*ROWS, start=HALF, folder=tmp_path)
    assert begun == [([1, 2], [HALF, HALF]), ([0], [0])]
    assert [one.reason for one in found if isinstance(one, Failure)] == [
        "not trained"
    ] * 3
    if damage != "folder":
        (record,) = caplog.records
        assert file_of(ROWS[0], tmp_path).name in record.message
        assert "trained from the beginning" in record.message


@pytest.fixture(scope="module")
def quick(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files of all rows, put down together."""
    folder = tmp_path_factory.mktemp("quick")
    train(*(replace(one, steps=HALF) for one in ROWS), folder=folder)
    return folder


def test_rows_of_another_task_of_equal_name_are_not_believed(quick: Path) -> None:
    """A row that somebody has copied over another says whose it is."""
    rows = file_of(ROWS[2], quick).read_bytes()
    with pytest.raises(ValueError, match="expected the seed 0, got 1"):
        module.load_rows(
            [file_of(ROWS[2], quick)],
            arrays_for(guerdon.load_task(GRID.task), ENVS),
            expected=(config(), [0], HALF),
        )
    assert rows


def config() -> Any:
    task = guerdon.load_task(GRID.task)
    return config_for(replace(module.recipe_for(task), use_sde=False), WHOLE)

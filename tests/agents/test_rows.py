"""Files of rows that do not belong together, or are not what they should be."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from guerdon.agents.arrays import Lanes
from guerdon.agents.ppo import Population, PPOConfig
from guerdon.agents.rows import load_rows, save_rows
from tests.agents.test_population_files import rewritten
from tests.agents.toy_arrays import Scaled, Toy

SMALL = PPOConfig(envs=4, steps=8, minibatch=16, epochs=2, hidden=(8, 8))


def put_down(folder: Path, seed: int, config: PPOConfig = SMALL) -> Path:
    population = Population(Toy(4), config, [seed], rewards=Scaled([1]))
    population.learn(config.block)
    path = folder / f"{seed}.row"
    save_rows(population, {0: path})
    return path


def test_rows_that_were_configured_differently_are_refused(tmp_path: Path) -> None:
    paths = [
        put_down(tmp_path, 0),
        put_down(tmp_path, 1, replace(SMALL, learning_rate=1e-3)),
    ]
    with pytest.raises(ValueError, match=r"1\.row: configured unlike 0\.row"):
        load_rows(paths, Toy(8), rewards=Scaled([1, 1]))


@pytest.mark.parametrize(
    ("config", "seed", "steps", "words"),
    [
        (replace(SMALL, discount=0.5), 0, 32, r"0\.row: configured in another way"),
        (SMALL, 1, 32, r"0\.row: expected the seed 1, got 0"),
        (SMALL, 0, 64, r"0\.row: expected 64 steps, got 32"),
    ],
)
def test_rows_that_are_not_the_ones_meant_are_refused(
    tmp_path: Path, config: PPOConfig, seed: int, steps: int, words: str
) -> None:
    path = put_down(tmp_path, 0)
    with pytest.raises(ValueError, match=words):
        load_rows([path], Toy(4), expected=(config, [seed], steps))
    assert load_rows([path], Toy(4), expected=(SMALL, [0], 32)).steps(0) == 32


def test_the_configuration_of_the_device_may_be_another(tmp_path: Path) -> None:
    found = load_rows([put_down(tmp_path, 0)], Toy(4), learning_rate=0.5)
    assert found.config == replace(SMALL, learning_rate=0.5)


@pytest.mark.parametrize(
    "values",
    [
        {"hidden": ["a"]}, {"hidden": 3}, {"hidden": [0]}, {"hidden": [True]},
        {"memory": "x"}, {"memory": -1}, {"activation": "sine"}, {"encoder": "none"},
        {"conv": [["a"]]}, {"learning_rate": "fast"}, {"unknown": 1}, {"envs": None},
    ],
)  # fmt: skip
def test_configurations_that_are_none_are_refused(
    tmp_path: Path, values: dict[str, Any]
) -> None:
    path = put_down(tmp_path, 0)
    rewritten(path, lambda _, header: header["config"].update(values))
    with pytest.raises(ValueError, match=r"0\.row: a configuration that is none"):
        load_rows([path], Toy(4))


def test_a_changed_number_is_noticed_by_the_digest(tmp_path: Path) -> None:
    path = put_down(tmp_path, 0)

    def learn_more(own: dict[str, torch.Tensor], _: dict[str, Any]) -> None:
        own["weights.action.bias"] += 1.0

    rewritten(path, learn_more, sealed=False)
    with pytest.raises(ValueError, match=r"0\.row: expected a row .* is damaged"):
        load_rows([path], Toy(4))


def test_what_is_no_file_is_refused_without_waiting(tmp_path: Path) -> None:
    import os

    pipe = tmp_path / "0.row"
    os.mkfifo(pipe)
    for path in (pipe, tmp_path, tmp_path / "none.row"):
        with pytest.raises(ValueError, match="no regular file"):
            load_rows([path], Toy(4))


class Remembering(Scaled):
    """Pays how long it has been since it was told of a new episode."""

    def __init__(self, rows: int) -> None:
        super().__init__([1] * rows)
        self.age = np.zeros(4 * rows)

    def get_lanes(self) -> dict[str, np.ndarray]:
        return {"age": self.age.copy()}

    def set_lanes(self, values: Any) -> None:
        self.age = values["age"].copy()

    def restart(self, row: int) -> None:
        self.age[4 * row : 4 * row + 4] = 0.0


@pytest.mark.parametrize("resumable", [True, False])
def test_rewards_forget_the_episodes_that_an_env_cannot_go_on_with(
    tmp_path: Path, resumable: bool
) -> None:
    rewards = Remembering(1)
    population = Population(Toy(4), SMALL, [0], rewards=rewards)
    rewards.age[:] = 7.0
    save_rows(population, {0: tmp_path / "0.row"})
    again = Remembering(1)
    env: Any = Toy(4) if resumable else Lanes(Toy(4), np.arange(4))
    load_rows([tmp_path / "0.row"], env, rewards=again)
    expected: Sequence[float] = [7.0] * 4 if resumable else [0.0] * 4
    assert again.age.tolist() == expected

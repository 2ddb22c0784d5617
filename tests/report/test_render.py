"""A film shows the very episode that the evaluation scores."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from PIL import Image

import guerdon.report.render as render_module
from guerdon.agents.evaluate import evaluate
from guerdon.envs.custom import task_from_env
from guerdon.envs.task import Task
from guerdon.report.render import render_episode

COLOURS = np.array([[200, 30, 30], [30, 200, 30], [30, 30, 200]], np.uint8)


class Corridor(gym.Env[Any, Any]):
    """Walk right from a random cell; each cell has a colour of its own."""

    metadata = {"render_modes": ["rgb_array"]}  # noqa: RUF012
    observation_space = gym.spaces.Discrete(12)
    action_space = gym.spaces.Discrete(2)

    def __init__(self, render_mode: str | None = None, picture: Any = None) -> None:
        self.render_mode = render_mode
        self.picture = picture

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.cell = int(self.np_random.integers(3))
        return self.cell, {}

    def step(self, action: Any) -> Any:
        self.cell = min(11, self.cell + int(action))
        return self.cell, float(action), self.cell == 11, False, {}

    def render(self) -> Any:
        if self.picture is not None:
            return self.picture
        return np.broadcast_to(COLOURS[self.cell % 3], (80, 640, 3))


class Coin:
    """Steps right for most draws; the observation is one-hot, so flattened."""

    def predict(
        self, observations: np.ndarray, *, deterministic: bool, rng: np.random.Generator
    ) -> np.ndarray:
        assert observations.shape == (1, 12)
        assert observations.sum() == 1
        if deterministic:
            return np.ones(1, np.int64)
        return (rng.random(1) < 0.6).astype(np.int64)


def corridor(**options: Any) -> Task:
    return task_from_env(
        lambda render_mode=None: Corridor(render_mode, **options),
        text="Walk to the right end.",
        fitness="return",
        success=lambda episode: episode.terminated,
        horizon=60,
        id="Corridor-v0",
    )


@pytest.mark.parametrize("seed", [0, 5])
def test_the_film_shows_the_episode_that_the_evaluation_scores(
    tmp_path: Path, seed: int
) -> None:
    task = corridor()
    film = render_episode(task, Coin(), tmp_path / "deep" / "winner.gif", seed)
    scored = evaluate(task, Coin(), episodes=1, seed=seed)
    assert film.fitness == scored.fitness[0]
    assert film.success is scored.success[0] is True
    assert film.length == scored.length[0]
    with Image.open(film.path) as image:
        assert image.format == "GIF"
        assert image.size == (320, 40)
        seconds = 0
        for frame in range(image.n_frames):  # type: ignore[attr-defined]
            image.seek(frame)
            seconds += image.info["duration"]
        # Equal neighbours are merged by the format, but no time is lost.
        assert seconds == 80 * film.length + 1200
    assert [path.name for path in film.path.parent.iterdir()] == ["winner.gif"]


def test_the_mode_of_the_policy_walks_straight(tmp_path: Path) -> None:
    film = render_episode(
        corridor(), Coin(), tmp_path / "a.gif", seed=1, deterministic=True
    )
    start = int(np.random.default_rng(1).integers(3))
    assert film.length == 11 - start


def test_a_filmstrip_goes_from_the_first_to_the_last_picture(tmp_path: Path) -> None:
    film = render_episode(
        corridor(), Coin(), tmp_path / "a.png", seed=1, deterministic=True
    )
    with Image.open(film.path) as image:
        assert image.size == (4 * 324 - 4, 2 * 44 - 4)
        start = int(np.random.default_rng(1).integers(3))
        assert image.getpixel((10, 10)) == tuple(COLOURS[start % 3])
        assert image.getpixel((3 * 324 + 10, 44 + 10)) == tuple(COLOURS[11 % 3])


def test_a_long_episode_keeps_few_frames_and_its_last_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(render_module, "MAX_FRAMES", 4)
    film = render_module._Film("t")
    for value in range(60):
        picture = np.full((4, 4, 3), value, np.uint8)
        film.add(picture, last=value == 59)
    kept = [frame.getpixel((0, 0))[0] for frame in film.frames]
    assert len(kept) <= 5
    assert kept[0] == 0
    assert kept[-1] == 59
    gaps = set(np.diff(kept[:-1]).tolist())
    assert len(gaps) == 1


@pytest.mark.parametrize(
    "picture", [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3)), "ansi text"]
)
def test_an_environment_without_a_picture_is_refused(
    tmp_path: Path, picture: Any
) -> None:
    with pytest.raises(ValueError, match=r"Corridor-v0: expected render\(\) to give"):
        render_episode(corridor(picture=picture), Coin(), tmp_path / "a.gif")
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_suffix_is_refused_before_anything_is_played(
    tmp_path: Path,
) -> None:
    with pytest.raises(ValueError, match=r"expected a \.gif or \.png, got 'a\.mp4'"):
        render_episode(corridor(), Coin(), tmp_path / "a.mp4")

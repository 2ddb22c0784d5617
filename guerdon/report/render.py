"""Films one episode of a trained policy: a GIF that plays, or a strip of pictures."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np

from guerdon.agents.evaluate import Policy, Remembering, choose
from guerdon.envs.task import Task
from guerdon.extras import require

MAX_FRAMES = 160
"""Frames kept of an episode; a longer one is shown in larger strides."""

MAX_PIXELS = 320
"""Longest side of a frame."""

STRIP = 8
"""Pictures in a filmstrip, in rows of four."""

_FRAME_MS = 80
_LAST_FRAME_MS = 1200


@dataclass(frozen=True, slots=True)
class Rendered:
    """A filmed episode, as ``journal.set_meta("episode", ...)`` may keep it."""

    path: Path
    seed: int
    fitness: float
    success: bool
    length: int


def render_episode(
    task: Task,
    policy: Policy,
    path: str | Path,
    seed: int = 0,
    *,
    deterministic: bool = False,
) -> Rendered:
    """Play one episode and write it to ``path``.

    It is the episode that ``evaluate(task, policy, episodes=1, seed=seed)`` scores.

    Args:
        task: the task; its environment is made with ``render_mode="rgb_array"``.
        policy: chooses actions, for a batch of one observation.
        path: ``.gif`` for an animation, ``.png`` for a strip of eight pictures.
        seed: seed of the episode and of the policy's draws, at least 0.
        deterministic: play the mode of the policy.

    Returns:
        The path, and the true score of the episode that it shows.

    Raises:
        ValueError: for another suffix, or an environment that renders no picture.
        MissingExtra: without pillow.
    """
    path = Path(path)
    if path.suffix not in (".gif", ".png"):
        raise ValueError(f"render_episode: expected a .gif or .png, got {path.name!r}")
    frames, info, length = _play(task, policy, seed, deterministic)
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(f"{path.stem}.new{path.suffix}")
    new.unlink(missing_ok=True)  # it may be another name of another file
    if path.suffix == ".gif":
        times = [_FRAME_MS] * (len(frames) - 1) + [_LAST_FRAME_MS]
        animation = {"save_all": True, "append_images": frames[1:], "loop": 0}
        frames[0].save(new, duration=times, optimize=True, **animation)
    else:
        _strip(frames).save(new, optimize=True)
    os.replace(new, path)
    return Rendered(path, seed, float(info["fitness"]), bool(info["success"]), length)


def _play(
    task: Task, policy: Policy, seed: int, deterministic: bool
) -> tuple[list[Any], Mapping[str, Any], int]:
    # Off the screen and silent: there may be neither a display nor a sound card.
    os.environ.setdefault("SDL_VIDEODRIVER", "dummy")
    os.environ.setdefault("SDL_AUDIODRIVER", "dummy")
    rng = np.random.default_rng(seed)
    if isinstance(policy, Remembering):
        policy.forget()
    env: gym.Env[Any, Any] = task.make(render_mode="rgb_array")
    try:
        if not isinstance(env.observation_space, gym.spaces.Box):
            env = gym.wrappers.FlattenObservation(env)  # as the agents see it
        film = _Film(task.id)
        obs, info = env.reset(seed=seed)
        film.add(env.render())
        length, over = 0, False
        while not over:
            batch = np.asarray(obs)[None]
            action = choose(policy, batch, [0], deterministic, rng)[0]
            obs, _, terminated, truncated, info = env.step(action)
            length += 1
            over = bool(terminated or truncated)
            film.add(env.render(), last=over)
        return film.frames, info, length
    finally:
        env.close()  # type: ignore[no-untyped-call]


class _Film:
    """Keeps at most ``MAX_FRAMES`` small frames, evenly spread and the last one."""

    def __init__(self, task: str) -> None:
        self._image = require("PIL.Image", "report")
        self._task = task
        self._stride = 1
        self._seen = 0
        self.frames: list[Any] = []

    def add(self, picture: Any, last: bool = False) -> None:
        if last or self._seen % self._stride == 0:
            self.frames.append(self._small(picture))
        self._seen += 1
        if len(self.frames) > MAX_FRAMES and not last:
            self.frames = self.frames[::2]
            self._stride *= 2

    def _small(self, picture: Any) -> Any:
        array = np.asarray(picture)
        if array.ndim != 3 or array.shape[-1] != 3 or array.dtype != np.uint8:
            raise ValueError(
                f"{self._task}: expected render() to give a (height, width, 3) uint8 "
                f"picture, got shape {array.shape} and type {array.dtype}"
            )
        image = self._image.fromarray(array)
        image.thumbnail((MAX_PIXELS, MAX_PIXELS))
        return image


def _strip(frames: list[Any]) -> Any:
    image = require("PIL.Image", "report")
    picked = (
        np.linspace(0, len(frames) - 1, min(STRIP, len(frames))).round().astype(int)
    )
    width, height = frames[0].size
    columns = min(4, len(picked))
    rows = -(-len(picked) // columns)
    gap = 4
    size = (columns * (width + gap) - gap, rows * (height + gap) - gap)
    sheet = image.new("RGB", size, "white")
    for place, index in enumerate(picked):
        row, column = divmod(place, columns)
        sheet.paste(frames[index], (column * (width + gap), row * (height + gap)))
    return sheet

"""The Gymnasium faces of the grid engine: one environment, and a vector of them.

Both say what guerdon's tasks say: every ``info`` has ``features``, and the last one of
an episode ``fitness`` and ``success``. The worlds of seed ``s`` are the engine's own
(Philox numbers), not those that MiniGrid draws for the same seed.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.error import ResetNeeded
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space

from guerdon.envs.arrays import Arrays
from guerdon.envs.grid.engine import GridEngine
from guerdon.envs.grid.export import minigrid_of, show_lane
from guerdon.envs.grid.levels.base import Level
from guerdon.envs.grid.rules import ACTIONS
from guerdon.envs.task import Task

_MODES: dict[AutoresetMode, Any] = {
    AutoresetMode.SAME_STEP: "same_step",
    AutoresetMode.NEXT_STEP: "next_step",
    AutoresetMode.DISABLED: "disabled",
}
_MOST_SEED = 2**63


class _Pictures:
    """Draws lanes with MiniGrid's own code, on an instance of it that never plays.

    Args:
        engine: whose lanes.
        attributes: of ``MiniGridEnv``: ``tile_size``, ``highlight``, ``agent_pov``,
            ``screen_size`` and ``render_mode``.
    """

    def __init__(self, engine: GridEngine, attributes: dict[str, Any]) -> None:
        self.engine, self.attributes = engine, attributes
        self.raw: Any = None

    def draw(self, lane: int) -> Any:
        """``(H, W, 3)`` uint8 pixels, or None where a window shows them."""
        if self.raw is None:
            self.raw = minigrid_of(self.engine, lane, **self.attributes)
        return show_lane(self.raw, self.engine, lane).render()

    def close(self) -> None:
        """Close the window, if there is one."""
        if self.raw is not None and self.raw.window is not None:
            self.raw.close()
        self.raw = None

    def __getstate__(self) -> dict[str, Any]:
        # A window stays where it is.
        return self.__dict__ | {"raw": None}


class GridEnv(gym.Env[np.ndarray, Any]):
    """One environment of a MiniGrid level: the engine with a single lane.

    Args:
        level: its name, ``DoorKey-8x8``, or a ``Level``.
        render_mode: None, ``rgb_array`` or ``human``.
        view: as in ``GridEngine``.
        blocks: as in ``GridEngine``.
        rendering: ``tile_size``, ``highlight``, ``agent_pov`` or ``screen_size``, as in
            MiniGrid.

    Raises:
        guerdon.extras.MissingExtra: when numba is not installed; by ``render``, when
            ``minigrid`` is not.
        ValueError: for what ``GridEngine`` refuses, or an unknown mode to render.
        TypeError: for another keyword.
    """

    metadata = {"render_modes": ["human", "rgb_array"], "render_fps": 10}  # noqa: RUF012
    task: Task
    """Of which task it is; set by ``Task.make``."""

    def __init__(
        self,
        level: str | Level,
        *,
        render_mode: str | None = None,
        view: int | str = 7,
        blocks: Sequence[str] | None = None,
        **rendering: Any,
    ) -> None:
        self.render_mode = _render_mode(render_mode)
        self.engine = GridEngine(
            level, 1, view=view, autoreset="disabled", blocks=blocks
        )
        self.observation_space = self.engine.observation_space
        self.action_space = gym.spaces.Discrete(self.engine.level.actions)
        self._pictures = _Pictures(self.engine, _rendering(render_mode, rendering))
        self._arrays = self.engine.new_arrays()
        self._actions = np.zeros(1, np.int64)
        self._playing = False

    @property
    def mission(self) -> str:
        """MiniGrid's text of the present mission."""
        return self.engine.mission()

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Begin the first episode of ``seed``, or the next one of the present seed.

        Args:
            seed: at least 0. None: go on; at the first reset, a seed by chance.
            options: not used.
        """
        super().reset(seed=seed)
        if seed is None and not self.engine.begun:
            seed = _random_seeds(1)[0]
        if seed is None:
            arrays = self.engine.next_episode()
        else:
            arrays = self.engine.reset(np.array([seed]))
        self._playing = True
        if self.render_mode == "human":
            self.render()
        return arrays.obs[0].copy(), {"features": arrays.features[0].copy()}

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """One step; the last ``info`` of an episode has ``fitness`` and ``success``.

        Raises:
            gymnasium.error.ResetNeeded: after the end of an episode.
            TypeError: for an action that is no integer.
            ValueError: for an action outside of 0 to 6.
        """
        if not self._playing:
            raise ResetNeeded(f"{self.engine.level.name}: call reset() before step()")
        self._actions[0] = _one_action(action)
        arrays = self.engine.step_unchecked(self._actions, self._arrays)
        info: dict[str, Any] = {"features": arrays.features[0].copy()}
        terminated, truncated = arrays.terminated.item(), arrays.truncated.item()
        reward = 0.0
        if terminated or truncated:
            self._playing = False
            reward = float(_exact_rewards(self.engine, arrays.reward)[0])
            info["fitness"], info["success"] = reward, reward > 0.0
        if self.render_mode == "human":
            self.render()
        return arrays.obs[0].copy(), reward, terminated, truncated, info

    def render(self) -> Any:
        """Pixels as MiniGrid's, ``(H, W, 3)`` uint8; None where nothing is drawn.

        Raises:
            guerdon.extras.MissingExtra: when ``minigrid`` is not installed.
        """
        return None if self.render_mode is None else self._pictures.draw(0)

    def close(self) -> None:
        """Close the window, if there is one."""
        self._pictures.close()


class GridVectorEnv(gym.vector.VectorEnv[np.ndarray, np.ndarray, np.ndarray]):
    """Many environments of a MiniGrid level, stepped together.

    ``reset(seed=s)`` gives lane ``i`` the seed ``s + i``; the infos are those that a
    ``SyncVectorEnv`` of the task gives.

    Args:
        level: its name, ``DoorKey-8x8``, or a ``Level``.
        num_envs: how many lanes.
        autoreset_mode: Gymnasium's; by default the next step, as in its own.
        threads: as in ``GridEngine``.
        render_mode: None or ``rgb_array``.
        view: as in ``GridEngine``.
        blocks: as in ``GridEngine``.
        rendering: as in ``GridEnv``.

    Raises:
        guerdon.extras.MissingExtra: when numba is not installed.
        ValueError: for what ``GridEngine`` refuses, or an unknown mode.
    """

    task: Task
    """Of which task they are; set by ``Task.make_vec``."""

    def __init__(
        self,
        level: str | Level,
        num_envs: int = 1,
        *,
        autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
        threads: int | None = None,
        render_mode: str | None = None,
        view: int | str = 7,
        blocks: Sequence[str] | None = None,
        **rendering: Any,
    ) -> None:
        mode = AutoresetMode(autoreset_mode)
        if render_mode == "human":
            raise ValueError("render_mode: expected None or 'rgb_array', got 'human'")
        self.render_mode = _render_mode(render_mode)
        self.engine = GridEngine(
            level, num_envs, threads=threads, view=view, autoreset=_MODES[mode],
            blocks=blocks,
        )  # fmt: skip
        self.num_envs = self.engine.num_envs
        self.metadata = GridEnv.metadata | {"autoreset_mode": mode}
        self.autoreset_mode = mode
        self.single_observation_space = self.engine.observation_space
        self.single_action_space = gym.spaces.Discrete(self.engine.level.actions)
        self.observation_space = batch_space(
            self.single_observation_space, self.num_envs
        )
        self.action_space = batch_space(self.single_action_space, self.num_envs)
        self._pictures = _Pictures(self.engine, _rendering(render_mode, rendering))

    def missions(self) -> tuple[str, ...]:
        """MiniGrid's text of the mission of every lane."""
        return tuple(self.engine.mission(lane) for lane in range(self.num_envs))

    def reset(
        self,
        *,
        seed: int | Sequence[int | None] | None = None,
        options: dict[str, Any] | None = None,
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Begin the first episodes of seeds, or the next ones of the present seeds.

        Args:
            seed: lane ``i`` gets ``seed + i``, or the i-th of a list. None: go on; at
                the first reset, seeds by chance.
            options: ``reset_mask``, ``(N,)`` bool, says which lanes begin anew.

        Raises:
            ValueError: for another number of seeds, or a negative one.
        """
        if isinstance(seed, int | np.integer):
            super().reset(seed=int(seed))
        mask = (options or {}).get("reset_mask")
        lanes = np.ones(self.num_envs, np.bool_) if mask is None else np.asarray(mask)
        begun = self.engine.begun
        given = self._seeds(seed)
        known = np.array([number is not None for number in given])
        numbers = np.array([0 if s is None else s for s in given])
        if not begun and not known.all():
            numbers[~known] = _random_seeds(int((~known).sum()))
            known[:] = True
        arrays: Any = None
        if (lanes & known).any():
            arrays = self.engine.reset(numbers, lanes & known)
        if (lanes & ~known).any():
            arrays = self.engine.next_episode(lanes & ~known)
        if arrays is None:
            raise ValueError("reset_mask: expected at least one lane")
        infos = {"features": np.where(lanes[:, None], arrays.features, 0)}
        return arrays.obs.copy(), infos | {"_features": lanes.copy()}

    def _seeds(self, seed: Any) -> list[int | None]:
        if seed is None:
            return [None] * self.num_envs
        if isinstance(seed, int | np.integer):
            return [int(seed) + lane for lane in range(self.num_envs)]
        given = list(seed)
        if len(given) != self.num_envs:
            raise ValueError(
                f"seed: expected {self.num_envs} of them, got {len(given)}"
            )
        return given

    def step(
        self, actions: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """One step of every lane.

        Raises:
            TypeError: for actions that are no integers.
            ValueError: for an action outside of 0 to 6, or another number of them.
            RuntimeError: before the first reset.
        """
        arrays = self.engine.step(actions)
        over = arrays.terminated | arrays.truncated
        rewards = arrays.reward.astype(np.float64)
        if over.any():
            rewards = _exact_rewards(self.engine, arrays.reward)
        infos = self._infos(arrays, over, rewards)
        obs = arrays.obs.copy()
        return obs, rewards, arrays.terminated.copy(), arrays.truncated.copy(), infos

    def _infos(
        self, arrays: Arrays, over: np.ndarray, rewards: np.ndarray
    ) -> dict[str, Any]:
        """What a ``SyncVectorEnv`` of the task would gather."""
        everyone = np.ones(self.num_envs, np.bool_)
        same = self.autoreset_mode == AutoresetMode.SAME_STEP
        infos: dict[str, Any] = {}
        if not over.any():
            return {"features": arrays.features.copy(), "_features": everyone}
        last: dict[str, Any] = {
            "features": arrays.features.copy(),
            "_features": over.copy() if same else everyone,
            "fitness": np.where(over, rewards, 0.0),
            "_fitness": over.copy(),
            "success": over & (rewards > 0.0),
            "_success": over.copy(),
        }
        if not same:
            return last
        last["features"][~over] = 0
        final = np.full(self.num_envs, None, dtype=object)
        for lane in np.nonzero(over)[0]:
            final[lane] = arrays.final_obs[lane].copy()
        infos["final_obs"], infos["_final_obs"] = final, over.copy()
        infos["final_info"], infos["_final_info"] = last, over.copy()
        infos["features"], infos["_features"] = arrays.first.copy(), everyone
        return infos

    def render(self) -> tuple[Any, ...] | None:
        """Pixels of every lane as MiniGrid's; None without a mode.

        Raises:
            guerdon.extras.MissingExtra: when ``minigrid`` is not installed.
        """
        if self.render_mode is None:
            return None
        return tuple(self._pictures.draw(lane) for lane in range(self.num_envs))

    def close_extras(self, **kwargs: Any) -> None:
        """End the threads of the engine."""
        # Gymnasium closes what it could not make, too.
        if hasattr(self, "engine"):
            self.engine.close()


def _one_action(action: Any) -> int:
    try:
        number = operator.index(action)
    except TypeError:
        kind = type(action).__name__
        raise TypeError(
            f"action: expected an integer, got {action!r} ({kind})"
        ) from None
    if not 0 <= number < ACTIONS:
        raise ValueError(f"action: expected 0 to {ACTIONS - 1}, got {number}")
    return number


def _exact_rewards(engine: GridEngine, rewards: np.ndarray) -> np.ndarray:
    """``(N,)`` float64: MiniGrid's own numbers, which float32 would round."""
    exact = rewards.astype(np.float64)
    won = rewards > 0
    exact[won] = 1 - 0.9 * (engine.lengths[won] / engine.horizon)
    return exact


def _random_seeds(count: int) -> Any:
    """Seeds from the operating system; nothing else in the engine is left to chance."""
    return np.random.default_rng().integers(_MOST_SEED, size=count)


def _render_mode(mode: str | None) -> str | None:
    if mode not in (None, *GridEnv.metadata["render_modes"]):
        raise ValueError(
            f"render_mode: expected None, 'rgb_array' or 'human', got {mode!r}"
        )
    return mode


def _rendering(mode: str | None, given: dict[str, Any]) -> dict[str, Any]:
    known = ("tile_size", "highlight", "agent_pov", "screen_size")
    for name in given:
        if name == "device":
            raise TypeError(
                f"device: Gymnasium's faces run on 'cpu', got {given[name]!r}; for a "
                "GPU: guerdon.envs.grid.choose.make_engine(level, lanes, device='cuda')"
            )
        if name not in known:
            raise TypeError(
                f"{name}: no such keyword; known: {', '.join(known)}. MiniGrid's own "
                'keywords are those of engine="minigrid"'
            )
    return {"render_mode": mode, **given}

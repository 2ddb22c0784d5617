"""N lanes of a MiniGrid level, stepped together by compiled code."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np

from guerdon.checks import integer
from guerdon.envs.arrays import Arrays
from guerdon.envs.grid import expect
from guerdon.envs.grid.compiled import require_compiler
from guerdon.envs.grid.kernel import REFUSED, show, step
from guerdon.envs.grid.levels import LEVELS, find_level
from guerdon.envs.grid.levels.base import Level
from guerdon.envs.grid.state import (
    DISABLED,
    EPISODE,
    LENGTH,
    LIST,
    NEXT_STEP,
    OVER,
    SAME_STEP,
    State,
    new_state,
)
from guerdon.envs.grid.threads import Team
from guerdon.envs.grid.view import view_shape, view_table
from guerdon.envs.minigrid import action_of
from guerdon.types import ActionSpec, Array

Autoreset = Literal["same_step", "next_step", "disabled"]

MODES = {"same_step": SAME_STEP, "next_step": NEXT_STEP, "disabled": DISABLED}


class Kernels(NamedTuple):
    """What an engine runs on its lanes; levels bring their own ``begin``."""

    require: Callable[[], None]
    """Refuses to go on where what the others need is missing."""
    step: Callable[..., Any]
    """As ``kernel.step``."""
    show: Callable[..., Any]
    """As ``kernel.show``."""


class GridEngine:
    """N environments of one MiniGrid level; an ``ArrayEnv``.

    What happens in a lane depends on its seed, its actions and the number of its
    episode only: neither on the other lanes, nor on ``threads``.

    Args:
        level: its name, ``DoorKey-8x8``, or a ``Level``.
        num_envs: how many lanes.
        threads: how many threads share the lanes, where there are enough of them.
        view: cells along a side of the egocentric view (3, 5, 7, 9 or 11), or
            ``"full"`` for the whole grid as MiniGrid's ``FullyObsWrapper`` shows it.
        autoreset: when an episode that ended is followed by the next: in the same step,
            in the next one (whose action is then not used), or only by ``reset``.
        blocks: what the features are, by blocks of ``minigrid_features``; None for the
            level's own.
        device: ``"cpu"``.

    Raises:
        guerdon.extras.MissingExtra: when numba is not installed.
        TypeError: for a level that is no text, or a number that is none.
        ValueError: for a level, view, device, block or mode that is not supported.
    """

    kernels: ClassVar[Kernels] = Kernels(require_compiler, step, show)

    def __init__(
        self,
        level: str | Level,
        num_envs: int = 1,
        *,
        threads: int | None = None,
        view: int | str = 7,
        autoreset: Autoreset = "same_step",
        blocks: Sequence[str] | None = None,
        device: str = "cpu",
    ) -> None:
        self.level = find_level(level)
        self.num_envs = integer("num_envs", num_envs, least=1)
        self.threads = integer("threads", 1 if threads is None else threads, least=1)
        self.autoreset = autoreset
        self.blocks = expect.blocks_of(self.level, blocks)
        self.view = size = expect.view_of(view)
        if autoreset not in MODES:
            raise ValueError(
                f"autoreset: expected {', '.join(MODES)}, got {autoreset!r}"
            )
        if device != "cpu":
            raise ValueError(
                f"device: GridEngine runs on 'cpu', got {device!r}; for a GPU: "
                "guerdon.envs.grid.choose.make_engine(level, lanes, device='cuda')"
            )
        self.kernels.require()
        width, height = self.level.width, self.level.height
        self.horizon = self.level.horizon
        self.layout = expect.layout_of(self.level, self.blocks)
        self.action: ActionSpec = action_of(self.level.actions)
        self.observation_space = expect.image_space(view_shape(width, height, size))
        self._share()
        rows = LIST + self.level.listed + 4 * self.level.rooms
        self.state = new_state(self.num_envs, width * height, rows)
        self._fresh = np.zeros(self.num_envs, np.uint8)
        self._all = np.ones(self.num_envs, np.uint8)
        self._actions = np.zeros(self.num_envs, np.int64)
        self._own = self.new_arrays()
        self.begun = False

    def _share(self) -> None:
        """What is made anew in a copy: what all engines share, and threads."""
        level, mode = self.level, MODES[self.autoreset]
        self.params = expect.params_of(level, self.blocks, self.view, mode)
        self.table = view_table(level.width, level.height, self.view)
        self._team = Team(self.num_envs, self.threads)

    def new_arrays(self, *leading: int) -> Arrays:
        """Arrays for ``out``, all zeros.

        Args:
            leading: sizes of axes before that of the lanes, such as the steps of a
                rollout.
        """
        lanes = (*leading, self.num_envs)
        image = (*lanes, *self.observation_space.shape)
        row = (*lanes, self.layout.width)
        return Arrays(
            obs=np.zeros(image, np.uint8),
            reward=np.zeros(lanes, np.float32),
            terminated=np.zeros(lanes, np.bool_),
            truncated=np.zeros(lanes, np.bool_),
            features=np.zeros(row, np.float32),
            first=np.zeros(row, np.float32),
            final_obs=np.zeros(image, np.uint8),
            fitness=np.zeros(lanes, np.float32),
            success=np.zeros(lanes, np.bool_),
        )

    def reset(self, seeds: np.ndarray, lanes: np.ndarray | None = None) -> Arrays:
        """Begin episode 0 of a seed.

        Args:
            seeds: ``(N,)`` integers, at least 0; those of other lanes are not used.
            lanes: ``(N,)`` bool, which lanes begin anew; the others go on. None: all.

        Raises:
            TypeError: for seeds that are no integers, or lanes that are no booleans.
            ValueError: for another shape, a negative seed, or lanes that never began.
        """
        chosen = expect.lanes_of(lanes, self.num_envs)
        given = expect.seeds_of(seeds, self.num_envs)
        if not (self.begun or chosen.all()):
            raise ValueError("lanes: expected all of them at the first reset")
        self.state.seeds[chosen] = given[chosen]
        self.state.numbers[EPISODE, chosen] = 0
        self.begun = True
        return self._begin(chosen)

    def next_episode(self, lanes: np.ndarray | None = None) -> Arrays:
        """Begin the next episode of the same seeds, wherever the present one stands.

        Args:
            lanes: ``(N,)`` bool, which lanes; the others go on. None: all.

        Raises:
            RuntimeError: before the first ``reset``.
        """
        self._expect_begun()
        chosen = expect.lanes_of(lanes, self.num_envs)
        self.state.numbers[EPISODE, chosen] += 1
        return self._begin(chosen)

    def step(self, actions: np.ndarray, out: Arrays | None = None) -> Arrays:
        """One step of every lane.

        Args:
            actions: ``(N,)`` integers from 0 to 6.
            out: arrays to write to, such as rows of ``new_arrays(steps)``; None: the
                engine's own, which the next step overwrites.

        Returns:
            ``out``, or the engine's own arrays.

        Raises:
            RuntimeError: before the first ``reset``; or, without autoreset, when an
                episode that ended was not begun anew.
            TypeError: for actions that are no integers, or arrays of another dtype.
            ValueError: for an action outside of 0 to 6, or arrays of another shape.
        """
        self._expect_begun()
        arrays = self._own if out is None else expect.expect_arrays(out, self._own)
        # Copied: for an array of another kind, the kernel would be compiled again.
        self._actions[:] = expect.actions_of(actions, self.num_envs)
        if self.autoreset == "disabled" and self.state.numbers[OVER].any():
            raise RuntimeError("step: an episode is over; begin the next one first")
        return self.step_unchecked(self._actions, arrays)

    def step_unchecked(self, actions: np.ndarray, arrays: Arrays) -> Arrays:
        """``step`` for arrays that are known to be right; actions are still checked.

        Args:
            actions: ``(N,)`` int64.
            arrays: as ``new_arrays`` makes them.

        Raises:
            ValueError: for an action outside of 0 to 6.
        """
        lanes = self.num_envs
        obs = arrays.obs.reshape(lanes, -1)
        results = self._team.run(
            self.kernels.step, actions, *self.state, self.params, self.table,
            self._fresh, obs, arrays.final_obs.reshape(lanes, -1), arrays.reward,
            arrays.terminated, arrays.truncated, arrays.features, arrays.first,
            arrays.fitness, arrays.success,
        )  # fmt: skip
        count = sum(results)
        if count:
            if REFUSED in results:
                expect.refuse_actions(actions)
            self._team.run(self.level.begin, self._fresh, *self.state, self.params)
            self._show(self._fresh, obs, arrays.first)
            if self.autoreset == "next_step":
                again = self._fresh.astype(np.bool_)
                arrays.features[again] = arrays.first[again]
        return arrays

    @property
    def lengths(self) -> Array:
        """``(N,)`` steps of the episode that ended last in each lane."""
        return self.state.numbers[LENGTH]

    def observe(self) -> Arrays:
        """The engine's own arrays with images and features as they are now."""
        own = self._own
        self._show(self._all, own.obs.reshape(self.num_envs, -1), own.first)
        own.features[:] = own.first
        for array in (own.reward, own.terminated, own.truncated, own.fitness):
            array[:] = 0
        own.success[:] = False
        return own

    def mission(self, lane: int = 0) -> str:
        """MiniGrid's text of the mission of one lane."""
        a, b, c, d = (int(number) for number in self.state.mission[:, lane])
        return self.level.mission(a, b, c, d)

    def export(self) -> State:
        """A copy of everything that the lanes are."""
        return self.state.copy()

    def load_state(self, state: State) -> Arrays:
        """Go on from an exported state.

        Args:
            state: of an engine with the same level and number of lanes.

        Raises:
            TypeError: when it is no State, or has other dtypes.
            ValueError: for other shapes, or for values that no state has.
        """
        expect.expect_valid(state, self.state, self.params)
        for own, given in zip(self.state, state, strict=True):
            own[...] = given
        self.begun = True
        return self.observe()

    def get_lanes(self) -> dict[str, np.ndarray]:
        """The state as arrays with a row per lane, for ``set_lanes`` of any engine."""
        return self.export().as_lanes()

    def set_lanes(self, values: Mapping[str, np.ndarray]) -> None:
        """Go on from what ``get_lanes`` gave, here or in engines with other lanes.

        Raises:
            KeyError: for a missing part.
            TypeError: for arrays of other dtypes.
            ValueError: for other shapes, or for values that no state has.
        """
        self.load_state(State.of_lanes(values))

    def select(self, lanes: np.ndarray) -> GridEngine:
        """An engine with these lanes only, ``(M,)`` indices, in their states."""
        fewer = type(self)(
            self.level,
            len(lanes),
            threads=self.threads,
            view=self.view or "full",
            autoreset=self.autoreset,
            blocks=self.blocks,
        )
        fewer.set_lanes({name: rows[lanes] for name, rows in self.get_lanes().items()})
        self.close()
        return fewer

    def close(self) -> None:
        """End the threads; the engine can still be used."""
        self._team.close()

    def __getstate__(self) -> dict[str, Any]:
        kept = self.__dict__.copy()
        for name in ("_team", "params", "table"):
            del kept[name]
        if LEVELS.get(self.level.name) is self.level:
            # Compiled functions stay where they are: the level is found by its name.
            kept["level"] = self.level.name
        return kept

    def __setstate__(self, kept: dict[str, Any]) -> None:
        self.__dict__.update(kept, level=find_level(kept["level"]))
        self._share()

    def _expect_begun(self) -> None:
        if not self.begun:
            raise RuntimeError("GridEngine: call reset() first")

    def _begin(self, chosen: np.ndarray) -> Arrays:
        lanes = chosen.view(np.uint8)
        self._team.run(self.level.begin, lanes, *self.state, self.params)
        return self.observe()

    def _show(self, lanes: np.ndarray, obs: np.ndarray, features: np.ndarray) -> None:
        cells, numbers, _ = self.state
        self._team.run(
            self.kernels.show, lanes, cells, numbers, self.params, self.table, obs,
            features,
        )  # fmt: skip

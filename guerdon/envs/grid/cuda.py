"""The grid engine on a GPU: state and outputs are tensors that stay there.

The kernels are the compiled functions of the CPU engine, one lane a thread; nothing is
written a second time. So far they have been run in numba's CUDA simulator only, and
lowered to PTX by LLVM, never on hardware: no speed is claimed. On a machine with a GPU,
``python -m benchmarks.fast_grid_cuda`` compares every array with the CPU's, and
measures.

Needs numba with CUDA support (the package ``numba-cuda``, or numba's own), torch built
for CUDA, and a driver.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from guerdon.checks import integer
from guerdon.envs.grid import expect
from guerdon.envs.grid.cuda_device import Device
from guerdon.envs.grid.engine import MODES, Autoreset
from guerdon.envs.grid.levels import find_level
from guerdon.envs.grid.levels.base import Level
from guerdon.envs.grid.rules import ACTIONS
from guerdon.envs.grid.state import (
    EPISODE,
    LENGTH,
    LIST,
    MISSION,
    OVER,
    State,
)
from guerdon.envs.grid.view import view_shape, view_table
from guerdon.envs.minigrid import action_of
from guerdon.envs.tensors import TensorArrays
from guerdon.types import ActionSpec


class CudaGridEngine:
    """``GridEngine`` on a GPU; a ``TensorEnv``, none of whose steps copies an array.

    Numbers are those of the CPU engine: the same seeds and actions give the same steps.
    Work is put on torch's current stream, so tensors may be used as any other's.

    Args:
        level: its name, ``DoorKey-8x8``, or a ``Level``.
        num_envs: how many lanes; thousands are needed to fill a GPU.
        view: as in ``GridEngine``.
        autoreset: as in ``GridEngine``.
        blocks: as in ``GridEngine``.
        device: ``cuda`` or ``cuda:N``.

    Raises:
        guerdon.extras.MissingExtra: when numba, or its CUDA support, is not installed.
        RuntimeError: when there is no driver or no such GPU.
        TypeError: for a level that is no text, or a number that is none.
        ValueError: for a level, view, device, block or mode that is not supported.
    """

    def __init__(
        self,
        level: str | Level,
        num_envs: int = 1,
        *,
        view: int | str = 7,
        autoreset: Autoreset = "same_step",
        blocks: Sequence[str] | None = None,
        device: str = "cuda",
    ) -> None:
        self.level = find_level(level)
        self.num_envs = integer("num_envs", num_envs, least=1)
        self.autoreset = autoreset
        self.blocks = expect.blocks_of(self.level, blocks)
        self.view = size = expect.view_of(view)
        if autoreset not in MODES:
            raise ValueError(
                f"autoreset: expected {', '.join(MODES)}, got {autoreset!r}"
            )
        self._device = Device(device)
        self.device = self._device.torch
        from guerdon.envs.grid.cuda_kernels import kernels_of

        self._kernels = kernels_of(self.level.begin)
        width, height = self.level.width, self.level.height
        self.horizon = self.level.horizon
        self.layout = expect.layout_of(self.level, self.blocks)
        self.action: ActionSpec = action_of(self.level.actions)
        self.observation_space = expect.image_space(view_shape(width, height, size))
        self.params = expect.params_of(self.level, self.blocks, size, MODES[autoreset])
        rows = LIST + self.level.listed + 4 * self.level.rooms
        self.cells = self._zeros(self.num_envs, width * height + 1, kind=torch.uint8)
        self.numbers = self._zeros(rows, self.num_envs, kind=torch.int32)
        self.seeds = self._zeros(self.num_envs, kind=torch.int64)
        self._fresh = self._zeros(self.num_envs, kind=torch.uint8)
        self._every = torch.ones_like(self._fresh)
        self._own = self.new_arrays()
        self._hand_over(view_table(width, height, size))
        self.begun = False

    def new_arrays(self, *leading: int) -> TensorArrays:
        """Tensors for ``out``, all zeros.

        Args:
            leading: sizes of axes before that of the lanes.
        """
        lanes = (*leading, self.num_envs)
        image = (*lanes, *self.observation_space.shape)
        row = (*lanes, self.layout.width)
        return TensorArrays(
            obs=self._zeros(*image, kind=torch.uint8),
            reward=self._zeros(*lanes, kind=torch.float32),
            terminated=self._zeros(*lanes, kind=torch.bool),
            truncated=self._zeros(*lanes, kind=torch.bool),
            features=self._zeros(*row, kind=torch.float32),
            first=self._zeros(*row, kind=torch.float32),
            final_obs=self._zeros(*image, kind=torch.uint8),
            fitness=self._zeros(*lanes, kind=torch.float32),
            success=self._zeros(*lanes, kind=torch.bool),
        )

    def reset(
        self, seeds: ArrayLike | Tensor, lanes: ArrayLike | Tensor | None = None
    ) -> TensorArrays:
        """Begin episode 0 of a seed.

        Args:
            seeds: ``(N,)`` integers, at least 0, on the device or not.
            lanes: ``(N,)`` bool, which lanes begin anew; the others go on. None: all.

        Raises:
            TypeError: for seeds that are no integers, or lanes that are no booleans.
            ValueError: for another shape, a negative seed, or lanes that never began.
        """
        given = expect.seeds_of(_on_host(seeds), self.num_envs)
        chosen = expect.lanes_of(_on_host(lanes), self.num_envs)
        if not (self.begun or chosen.all()):
            raise ValueError("lanes: expected all of them at the first reset")
        where = torch.tensor(chosen, device=self.device)
        self.seeds[where] = torch.tensor(given, device=self.device)[where]
        self.numbers[EPISODE, where] = 0
        self.begun = True
        return self._begin(where)

    def next_episode(self, lanes: ArrayLike | Tensor | None = None) -> TensorArrays:
        """Begin the next episode of the same seeds, wherever the present one stands.

        Args:
            lanes: ``(N,)`` bool, which lanes; the others go on. None: all.

        Raises:
            RuntimeError: before the first ``reset``.
        """
        self._expect_begun()
        chosen = expect.lanes_of(_on_host(lanes), self.num_envs)
        where = torch.tensor(chosen, device=self.device)
        self.numbers[EPISODE, where] += 1
        return self._begin(where)

    def step(
        self, actions: ArrayLike | Tensor, out: TensorArrays | None = None
    ) -> TensorArrays:
        """One step of every lane; waits for the device to look at the actions.

        Args:
            actions: ``(N,)`` integers from 0 to 6, on the device or not.
            out: tensors to write to, such as rows of ``new_arrays(steps)``; None: the
                engine's own, which the next step overwrites.

        Raises:
            RuntimeError: before the first ``reset``; or, without autoreset, when an
                episode that ended was not begun anew.
            TypeError: for actions that are no integers, or tensors of another dtype.
            ValueError: for an action outside of 0 to 6, or tensors of another shape.
        """
        self._expect_begun()
        if out is not None:
            _expect_tensors(out, self._own)
        if isinstance(actions, Tensor) and actions.dtype == torch.int64:
            if actions.shape != (self.num_envs,):
                raise ValueError(
                    f"actions: expected shape ({self.num_envs},), got "
                    f"{tuple(actions.shape)}"
                )
            chosen = actions.to(self.device).contiguous()
        else:
            host = expect.actions_of(_on_host(actions), self.num_envs)
            chosen = torch.tensor(host, device=self.device)
        if bool(((chosen < 0) | (chosen >= ACTIONS)).any()):
            expect.refuse_actions(chosen.cpu().numpy())
        if self.autoreset == "disabled" and bool(self.numbers[OVER].any()):
            raise RuntimeError("step: an episode is over; begin the next one first")
        return self.step_unchecked(chosen, out)

    def step_unchecked(
        self, actions: Tensor, out: TensorArrays | None = None
    ) -> TensorArrays:
        """``step`` that neither checks nor waits.

        An action outside of 0 to 6 is a step all the same, and may do what one of those
        does; in levels with moving obstacles one above 6 turns left.

        Args:
            actions: ``(N,)`` int64 on the device, contiguous.
            out: as ``new_arrays`` makes them.
        """
        arrays = self._own if out is None else out
        handed = self._handed_own if out is None else self._hand_all(out)
        self._device.launch(
            self._kernels.step, self.num_envs, self._device.hand(actions),
            *self._grids, *self._shared, self._table, self._renewed, *handed,
        )  # fmt: skip
        return arrays

    @property
    def lengths(self) -> Tensor:
        """``(N,)`` steps of the episode that ended last in each lane."""
        return self.numbers[LENGTH]

    def observe(self) -> TensorArrays:
        """The engine's own tensors with images and features as they are now."""
        own = self._own
        _, params = self._shared
        obs, _, _, _, _, _, first, _, _ = self._handed_own
        self._device.launch(
            self._kernels.show, self.num_envs, self._all, *self._grids, params,
            self._table, obs, first,
        )  # fmt: skip
        own.features.copy_(own.first)
        for tensor in (own.reward, own.terminated, own.truncated, own.fitness):
            tensor.zero_()
        own.success.zero_()
        return own

    def mission(self, lane: int = 0) -> str:
        """MiniGrid's text of the mission of one lane."""
        a, b, c, d = self.numbers[MISSION : MISSION + 4, lane].tolist()
        return self.level.mission(a, b, c, d)

    def export(self) -> State:
        """A copy, as arrays on the host, of everything that the lanes are."""
        parts = (self.cells, self.numbers, self.seeds)
        return State(*(part.cpu().numpy().copy() for part in parts))

    def load_state(self, state: State) -> TensorArrays:
        """Go on from an exported state, of this engine or of one on a CPU.

        Args:
            state: of an engine with the same level and number of lanes.

        Raises:
            TypeError: when it is no State, or has other dtypes.
            ValueError: for other shapes, or for values that no state has.
        """
        expect.expect_valid(state, self.export(), self.params)
        for own, given in zip(
            (self.cells, self.numbers, self.seeds), state, strict=True
        ):
            own.copy_(torch.tensor(given))
        self.begun = True
        return self.observe()

    def get_lanes(self) -> dict[str, np.ndarray]:
        """The state as ``GridEngine`` gives it: either takes up what the other has."""
        return self.export().as_lanes()

    def set_lanes(self, values: Mapping[str, np.ndarray]) -> None:
        """Go on from what ``get_lanes`` gave, here or in engines with other lanes.

        Raises:
            KeyError: for a missing part.
            TypeError: for arrays of other dtypes.
            ValueError: for other shapes, or for values that no state has.
        """
        self.load_state(State.of_lanes(values))

    def select(self, lanes: np.ndarray) -> CudaGridEngine:
        """An engine with these lanes only, ``(M,)`` indices, in their states.

        Raises:
            RuntimeError: before the first ``reset``.
        """
        self._expect_begun()
        fewer = type(self)(
            self.level,
            len(lanes),
            view=self.view or "full",
            autoreset=self.autoreset,
            blocks=self.blocks,
            device=self._device.name,
        )
        kept = torch.tensor(lanes, dtype=torch.int64, device=self.device)
        fewer.cells.copy_(self.cells[kept])
        fewer.numbers.copy_(self.numbers[:, kept])
        fewer.seeds.copy_(self.seeds[kept])
        fewer.begun = True
        fewer.observe()
        return fewer

    def close(self) -> None:
        """Nothing is held but the tensors."""

    def _expect_begun(self) -> None:
        if not self.begun:
            raise RuntimeError("CudaGridEngine: call reset() first")

    def _begin(self, where: Tensor) -> TensorArrays:
        lanes = self._device.hand(where.to(torch.uint8))
        self._device.launch(
            self._kernels.begin, self.num_envs, lanes, *self._grids, *self._shared
        )
        return self.observe()

    def _zeros(self, *shape: int, kind: torch.dtype) -> Tensor:
        return torch.zeros(shape, dtype=kind, device=self.device)

    def _hand_over(self, table: np.ndarray) -> None:
        """Give numba, once, all that stays where it is."""
        hand = self._device.hand
        self._grids = (hand(self.cells), hand(self.numbers))
        params = torch.tensor(self.params, device=self.device)
        self._shared = (hand(self.seeds), hand(params))
        self._table = hand(torch.tensor(table, device=self.device))
        self._renewed, self._all = hand(self._fresh), hand(self._every)
        self._handed_own = self._hand_all(self._own)

    def _hand_all(self, arrays: TensorArrays) -> list[Any]:
        """The outputs in the order in which the kernel takes them."""
        n = self.num_envs
        return [
            self._device.hand(tensor)
            for tensor in (
                arrays.obs.view(n, -1), arrays.final_obs.view(n, -1), arrays.reward,
                arrays.terminated, arrays.truncated, arrays.features, arrays.first,
                arrays.fitness, arrays.success,
            )
        ]  # fmt: skip


def _on_host(values: Any) -> Any:
    """A tensor as an array; anything else as it is."""
    return values.cpu().numpy() if isinstance(values, Tensor) else values


def _expect_tensors(out: Any, own: TensorArrays) -> None:
    """Refuse tensors that the kernels could not write to.

    Raises:
        TypeError: when ``out`` is no TensorArrays, or has another dtype or device.
        ValueError: for another shape, or a tensor that is not contiguous.
    """
    if not isinstance(out, TensorArrays):
        raise TypeError(f"out: expected TensorArrays, got {type(out).__name__}")
    for name, given, like in zip(TensorArrays._fields, out, own, strict=True):
        if (given.dtype, given.device) != (like.dtype, like.device):
            raise TypeError(
                f"out: {name}: expected {like.dtype} on {like.device}, got "
                f"{given.dtype} on {given.device}"
            )
        if given.shape != like.shape or not given.is_contiguous():
            raise ValueError(
                f"out: {name}: expected a contiguous tensor of shape "
                f"{tuple(like.shape)}, got {tuple(given.shape)}"
            )

"""What all step-wise adapters share: a reward program that follows N environments.

An adapter's own work is only to say what its library means: which row belongs to the
true successor, which row is real, where the next episode begins.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from guerdon.envs.task import Task
from guerdon.reward_design.actions import require_actions
from guerdon.reward_design.program import Designed, RewardProgram
from guerdon.types import Array, Batch, Features, Spec, Tree

Bools = npt.NDArray[np.bool_]
Rows = npt.NDArray[np.float32]


class RewardStream:
    """A reward program, its state, and the episode sums of N environments.

    No array that comes in is written to, and none that goes out is kept.

    Args:
        program: what to pay.
        task: whose features the rows hold.
        lanes: number of environments, ``N``.
        discount: of the agent, in [0, 1].

    Raises:
        TypeError: when ``program`` is not a ``RewardProgram``.
        ValueError: for a discount outside [0, 1].
    """

    def __init__(
        self, program: RewardProgram, task: Task, lanes: int, discount: float
    ) -> None:
        if not isinstance(program, RewardProgram):
            raise TypeError(
                "expected a RewardProgram (see guerdon.reward_design.program), got "
                f"{type(program).__name__}"
            )
        if not 0 <= discount <= 1:
            raise ValueError(f"expected a discount in [0, 1], got {discount}")
        self.program = program
        self.spec = Spec(task.layout, task.action, (lanes,), discount, task.horizon)
        self.state = program.init(self.spec)
        self.never: Bools = np.zeros(lanes, dtype=np.bool_)
        self.never.flags.writeable = False
        self._layout = task.layout
        self._prev: Features | None = None
        self._obs: Tree = None
        self._over: tuple[Bools, Bools] | None = None
        self._terms = np.zeros((lanes, len(program.names)))
        self._reward = np.zeros(lanes)

    def begin(self, obs: Tree, rows: Rows, lanes: Bools | None = None) -> None:
        """Start an episode where the caller has reset, wherever it was before.

        Args:
            obs: first observations, leading axis ``N``.
            rows: ``(N, W)`` first feature rows.
            lanes: ``(N,)`` which environments were reset; None for all.
        """
        chosen = ~self.never if lanes is None else lanes
        going = self._going()
        left = going & chosen
        if self._prev is not None:
            if left.any():
                self._abandon(left, self._prev)
            rows = np.where(chosen[:, None], rows, self._prev.rows)
        self._over = (~going | chosen, self.never)
        self._terms[chosen] = 0.0
        self._reward[chosen] = 0.0
        self.go_on(obs, rows)

    def go_on(self, obs: Tree, rows: Rows) -> None:
        """Set what the next step starts from: ``rows`` are ``(N, W)``, kept as is."""
        self._obs = obs
        self._prev = Features(self._layout, rows)

    def step(
        self,
        action: Array,
        next_obs: Tree,
        rows: Rows,
        reward: Array,
        terminated: Bools,
        truncated: Bools,
        mask: Bools | None = None,
    ) -> Designed:
        """Score one step of all environments.

        Args:
            action: ``(N,)`` or ``(N, A)``.
            next_obs: true successors.
            rows: ``(N, W)`` float32 features of the true successors.
            reward: ``(N,)`` of the environments.
            terminated: ``(N,)`` bool.
            truncated: ``(N,)`` bool.
            mask: ``(N,)`` True for a real step.

        Raises:
            RuntimeError: before the first ``begin``.
            ValueError: for a discrete action that the task does not have.
        """
        if self._prev is None:
            raise RuntimeError("call reset() before step()")
        require_actions(self.spec.action, action, mask)
        batch = Batch(
            self._obs,
            action,
            next_obs,
            self._prev,
            Features(self._layout, rows),
            # Libraries disagree on the width; the same bits go to every program.
            np.asarray(reward, dtype=np.float32),
            terminated,
            truncated,
            {},
            mask,
        )
        designed, self.state = self.program.apply(self.state, batch)
        self._terms += designed.terms
        self._reward += designed.reward
        self._over = (terminated, truncated)
        return designed

    def _going(self) -> Bools:
        """``(N,)`` which environments are in the middle of an episode."""
        if self._over is None:
            return self.never
        terminated, truncated = self._over
        return ~(terminated | truncated)

    def close_episodes(
        self, lanes: list[int]
    ) -> list[tuple[int, dict[str, float], float]]:
        """``(lane, sum of each term, designed return)`` of the episodes that ended."""
        closed = []
        for lane in lanes:
            terms, total = self._terms[lane], self._reward[lane]
            sums = dict(zip(self.program.names, terms.tolist(), strict=True))
            closed.append((lane, sums, float(total)))
            terms[:] = 0.0
            self._reward[lane] = 0.0
        return closed

    def _abandon(self, left: Bools, last: Features) -> None:
        """Tell the program of episodes that a reset cut off: see ``borders``."""
        lanes = len(left)
        kind, size = self.spec.action.kind, self.spec.action.size
        action = (
            np.zeros(lanes, dtype=np.int64)
            if kind == "discrete"
            else np.zeros((lanes, size), dtype=np.float32)
        )
        batch = Batch(
            self._obs,
            action,
            self._obs,
            last,
            last,
            np.zeros(lanes, dtype=np.float32),
            self.never,
            left,
            {},
            self.never,
        )
        _, self.state = self.program.apply(self.state, batch)


def task_of(task: Task | None, ask: Callable[[], Any], how: str) -> Task:
    """The task that was given, or the one that the environments name.

    Raises:
        ValueError: when there is none; ``how`` says what to do about it.
    """
    if task is None:
        try:
            task = ask()
        except AttributeError:
            task = None
    if not isinstance(task, Task):
        raise ValueError(
            "expected environments of a task, whose info holds 'features'; none was "
            f"found: {how}"
        )
    return task


def replace_rows(obs: Tree, final: Any, lanes: list[int]) -> Tree:
    """A copy of ``obs`` where some rows are the last ones of their episodes.

    Args:
        obs: leading axis ``N``; dictionaries and tuples of arrays are walked.
        final: one observation per environment (anything indexed by environment, such
            as an object array), or a tree of arrays like ``obs``.
        lanes: the environments whose episodes ended.
    """
    if isinstance(final, dict):
        return {key: replace_rows(obs[key], final[key], lanes) for key in obs}
    return _with_rows(obs, {lane: final[lane] for lane in lanes})


def _with_rows(obs: Tree, rows: dict[int, Any]) -> Tree:
    """``obs`` with single observations in the place of some rows."""
    if isinstance(obs, dict):
        return {
            key: _with_rows(part, {lane: row[key] for lane, row in rows.items()})
            for key, part in obs.items()
        }
    if isinstance(obs, tuple) and not hasattr(obs, "dtype"):
        if len(obs) and not hasattr(obs[0], "shape"):
            # One Python object per environment: a space that cannot be stacked.
            return tuple(rows.get(lane, part) for lane, part in enumerate(obs))
        return tuple(
            _with_rows(part, {lane: row[place] for lane, row in rows.items()})
            for place, part in enumerate(obs)
        )
    copy = np.array(obs)
    for lane, row in rows.items():
        copy[lane] = row
    return copy

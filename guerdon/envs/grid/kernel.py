"""A step of many lanes: action, rule, features, ends and images in one pass.

The arrays come one by one, because a call from Python pays for tuples of them; a single
environment makes such a call every step. What depends on the kind of level (making a
new episode) is compiled by itself in ``levels``, so that only what is played is
compiled.
"""

from __future__ import annotations

from typing import Any

from guerdon.envs.grid.compiled import compiled, inlined
from guerdon.envs.grid.features import write_features
from guerdon.envs.grid.rules import ACTIONS, act
from guerdon.envs.grid.state import (
    AUTORESET,
    EPISODE,
    HORIZON,
    LENGTH,
    NEXT_STEP,
    OVER,
    SAME_STEP,
    STEPS,
)
from guerdon.envs.grid.view import observe

REFUSED = -1
"""What ``step`` returns for an action outside of 0 to 6; nothing has then changed."""


@compiled
def step(
    actions: Any, cells: Any, numbers: Any, seeds: Any, params: Any, table: Any,
    fresh: Any, obs: Any, final_obs: Any, reward: Any, terminated: Any, truncated: Any,
    features: Any, first: Any, fitness: Any, success: Any, low: Any, high: Any,
) -> Any:  # fmt: skip
    """One step of the lanes from ``low`` to ``high``.

    Args:
        actions: ``(N,)`` int64; all of them are looked at before anything changes.
        cells: of the state; so are ``numbers`` and ``seeds``.
        numbers: see ``cells``.
        seeds: see ``cells``.
        params: of the level.
        table: of ``view_table``.
        fresh: ``(N,)`` uint8, written: which lanes need a new episode now.
        obs: ``(N, bytes)`` uint8, written where no new episode is needed.
        final_obs: ``(N, bytes)`` uint8, written where an episode ended.
        reward: ``(N,)`` float32, written; so is all of the rest.
        terminated: ``(N,)`` bool.
        truncated: ``(N,)`` bool.
        features: ``(N, W)`` float32, of the true successor.
        first: ``(N, W)`` float32, written where no new episode is needed.
        fitness: ``(N,)`` float32.
        success: ``(N,)`` bool.
        low: first lane.
        high: the lane after the last one.

    Returns:
        How many of the lanes need a new episode, or ``REFUSED``.
    """
    if not _are_actions(actions):
        return REFUSED
    count = 0
    for lane in range(low, high):
        count += step_lane(
            actions, cells, numbers, seeds, params, table, fresh, obs, final_obs,
            reward, terminated, truncated, features, first, fitness, success, lane,
        )  # fmt: skip
    return count


@inlined
def step_lane(
    actions: Any, cells: Any, numbers: Any, seeds: Any, params: Any, table: Any,
    fresh: Any, obs: Any, final_obs: Any, reward: Any, terminated: Any, truncated: Any,
    features: Any, first: Any, fitness: Any, success: Any, lane: Any,
) -> Any:  # fmt: skip
    """One step of one lane; 1 if it needs a new episode, else 0. See ``step``."""
    waits = params[AUTORESET] == NEXT_STEP and numbers[OVER, lane] != 0
    value, ended, late = 0.0, False, False
    if not waits:
        gain, ended = act(cells, numbers, seeds, lane, actions[lane], params)
        steps = numbers[STEPS, lane] + 1
        numbers[STEPS, lane] = steps
        late = steps >= params[HORIZON]
        won = 1.0 - 0.9 * (steps / params[HORIZON])
        value = won if gain > 0 else float(gain)
        write_features(cells, numbers, lane, params, features)
    reward[lane] = fitness[lane] = value
    terminated[lane], truncated[lane] = ended, late
    success[lane] = value > 0.0
    if ended or late:
        numbers[LENGTH, lane] = numbers[STEPS, lane]
        numbers[OVER, lane] = 1
        observe(cells, numbers, lane, params, table, final_obs)
    if waits or ((ended or late) and params[AUTORESET] == SAME_STEP):
        numbers[EPISODE, lane] += 1
        fresh[lane] = 1
        return 1
    fresh[lane] = 0
    observe(cells, numbers, lane, params, table, obs)
    _copy(features, first, lane)
    return 0


@inlined
def _are_actions(actions: Any) -> Any:
    """Whether every action is one of the seven."""
    bad = 0
    for lane in range(len(actions)):
        bad += int(actions[lane] < 0) | int(actions[lane] >= ACTIONS)
    return bad == 0


@inlined
def _copy(source: Any, target: Any, lane: Any) -> None:
    for column in range(source.shape[1]):
        target[lane, column] = source[lane, column]


@compiled
def show(
    lanes: Any, cells: Any, numbers: Any, params: Any, table: Any, obs: Any,
    features: Any, low: Any, high: Any,
) -> None:  # fmt: skip
    """Write image and features as they are now.

    Args:
        lanes: ``(N,)`` uint8, which of the lanes.
        cells: of the state; so is ``numbers``.
        numbers: see ``cells``.
        params: of the level.
        table: of ``view_table``.
        obs: ``(N, bytes)`` uint8, written.
        features: ``(N, W)`` float32, written.
        low: first lane.
        high: the lane after the last one.
    """
    for lane in range(low, high):
        if lanes[lane]:
            observe(cells, numbers, lane, params, table, obs)
            write_features(cells, numbers, lane, params, features)

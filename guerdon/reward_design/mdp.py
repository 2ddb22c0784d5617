"""Finite Markov decision processes that can be solved exactly: the oracle for laws."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class MDP:
    """A finite Markov decision process.

    Args:
        transition: ``(S, A, S)`` probabilities of the next state.
        reward: ``(S, A, S)`` or ``(S, A)``.
        discount: in [0, 1).
        terminal: ``(S,)`` bool; an episode ends on entering such a state, whose
            value is 0. None for a task without end.
        initial: ``(S,)`` probabilities of the first state; None for uniform over the
            states that are not terminal.
        truncation: probability that a step that goes on is cut off by the clock. The
            value of the state reached there is bootstrapped, so the optimal policies
            do not depend on it.

    Raises:
        ValueError: for wrong shapes, or rows that are not probabilities.
    """

    transition: Floats
    reward: Floats
    discount: float = 0.95
    terminal: npt.NDArray[np.bool_] | None = None
    initial: Floats | None = None
    truncation: float = 0.0
    ends: npt.NDArray[np.bool_] = field(init=False)
    """``(S,)`` ``terminal``, or all False."""
    start: Floats = field(init=False)
    """``(S,)`` ``initial``, or uniform."""

    def __post_init__(self) -> None:
        transition = np.asarray(self.transition, dtype=np.float64)
        shape = transition.shape
        if len(shape) != 3 or shape[0] != shape[2] or 0 in shape:
            raise ValueError(f"MDP: expected transition (S, A, S), got {shape}")
        reward = np.asarray(self.reward, dtype=np.float64)
        if reward.shape == shape[:2]:
            reward = np.repeat(reward[:, :, None], shape[2], axis=2)
        if reward.shape != shape:
            raise ValueError(
                f"MDP: expected reward {shape} or {shape[:2]}, got {reward.shape}"
            )
        if not np.isfinite(reward).all():
            raise ValueError("MDP: expected finite rewards")
        if not 0 <= self.discount < 1:
            raise ValueError(f"MDP: expected a discount in [0, 1), got {self.discount}")
        if not 0 <= self.truncation <= 1:
            raise ValueError(
                f"MDP: expected a truncation probability, got {self.truncation}"
            )
        ends = np.zeros(shape[0], dtype=np.bool_)
        if self.terminal is not None:
            ends = np.asarray(self.terminal, dtype=np.bool_)
        if ends.shape != shape[:1] or ends.all():
            raise ValueError(
                f"MDP: expected terminal ({shape[0]},) bool with a state that is not "
                f"terminal, got {ends.tolist()}"
            )
        start = ~ends / (~ends).sum() if self.initial is None else self.initial
        start = np.asarray(start, dtype=np.float64)
        _refuse_improbable("transition", transition, shape)
        _refuse_improbable("initial", start, shape[:1])
        for name, value in {
            "transition": transition,
            "reward": reward,
            "ends": ends,
            "start": start,
        }.items():
            object.__setattr__(self, name, value)

    @property
    def states(self) -> int:
        """Number of states, ``S``."""
        return int(self.transition.shape[0])

    @property
    def actions(self) -> int:
        """Number of actions, ``A``."""
        return int(self.transition.shape[1])


class Solution(NamedTuple):
    """Exact optimal values."""

    value: Floats
    """``(S,)``; 0 in terminal states."""
    action_value: Floats
    """``(S, A)``."""

    def optimal(self, tolerance: float = 1e-9) -> npt.NDArray[np.bool_]:
        """``(S, A)`` bool: actions within ``tolerance`` of the best one."""
        best = self.action_value.max(axis=1, keepdims=True)
        return np.asarray(self.action_value >= best - tolerance, dtype=np.bool_)


def solve(mdp: MDP, reward: Floats | None = None) -> Solution:
    """Optimal values by policy iteration with a linear solve in every round.

    Args:
        mdp: the process.
        reward: ``(S, A, S)`` to use in place of the process's own.

    Raises:
        ValueError: when ``reward`` has another shape or is not finite.
        RuntimeError: when the rounds do not settle, which exact arithmetic excludes.
    """
    policy = np.zeros(mdp.states, dtype=np.intp)
    rows = np.arange(mdp.states)
    for _ in range(mdp.states * mdp.actions + 100):
        q = _action_value(mdp, evaluate(mdp, policy, reward), reward)
        # A move for a gain below rounding would go round in circles for ever.
        slack = 1e-12 * max(1.0, float(np.abs(q).max()))
        better = q.max(axis=1) > q[rows, policy] + slack
        if not better.any():
            return Solution(np.where(mdp.ends, 0.0, q.max(axis=1)), q)
        policy = np.where(better, q.argmax(axis=1), policy)
    raise RuntimeError("policy iteration did not settle")


def evaluate(
    mdp: MDP, policy: npt.NDArray[np.intp], reward: Floats | None = None
) -> Floats:
    """``(S,)`` values of a deterministic policy ``(S,)``, by a linear solve."""
    rows = np.arange(mdp.states)
    onward = mdp.transition[rows, policy] * ~mdp.ends
    gain = _expected(mdp, reward)[rows, policy]
    onward[mdp.ends] = 0.0
    gain[mdp.ends] = 0.0
    system = np.eye(mdp.states) - mdp.discount * onward
    return np.asarray(np.linalg.solve(system, gain), dtype=np.float64)


def random_mdp(
    rng: np.random.Generator,
    states: int,
    actions: int,
    *,
    discount: float = 0.95,
    truncation: float = 0.0,
) -> MDP:
    """A dense random process: Dirichlet(1) rows, standard normal rewards ``(S, A, S)``.

    The last state is terminal.

    Raises:
        ValueError: with fewer than two states or one action.
    """
    if states < 2 or actions < 1:
        raise ValueError(
            "random_mdp: expected at least 2 states and 1 action, got "
            f"{states} and {actions}"
        )
    return MDP(
        transition=rng.dirichlet(np.ones(states), size=(states, actions)),
        reward=rng.standard_normal((states, actions, states)),
        discount=discount,
        terminal=np.arange(states) == states - 1,
        truncation=truncation,
    )


def _action_value(mdp: MDP, value: Floats, reward: Floats | None) -> Floats:
    """``(S, A)`` one-step look-ahead; 0 in terminal states."""
    q = _expected(mdp, reward) + mdp.discount * mdp.transition @ (value * ~mdp.ends)
    return np.where(mdp.ends[:, None], 0.0, q)


def _expected(mdp: MDP, reward: Floats | None) -> Floats:
    """``(S, A)`` expected reward."""
    used = mdp.reward if reward is None else np.asarray(reward, dtype=np.float64)
    if used.shape != mdp.transition.shape or not np.isfinite(used).all():
        raise ValueError(
            f"MDP: expected finite rewards of shape {mdp.transition.shape}, got "
            f"{used.shape}"
        )
    return np.asarray((mdp.transition * used).sum(axis=2), dtype=np.float64)


def _refuse_improbable(name: str, values: Floats, shape: tuple[int, ...]) -> None:
    """Rows of ``values`` are probabilities."""
    if values.shape != shape:
        raise ValueError(f"MDP: expected {name} {shape}, got {values.shape}")
    if (values < 0).any() or not np.allclose(values.sum(axis=-1), 1.0):
        raise ValueError(f"MDP: expected rows of {name} that sum to 1")

"""Machine-checked laws of reward design, on processes that can be solved exactly."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from guerdon.reward_design.mdp import MDP, Floats, Solution, evaluate, solve
from guerdon.reward_design.program import RewardProgram, Transform, alone
from guerdon.types import ActionSpec, Batch, Feature, Features, Layout, Spec

STATE = "state"
"""The feature that holds the index of the state."""


class CounterExample(NamedTuple):
    """A state whose optimal actions the design changes."""

    state: int
    before: tuple[int, ...]
    """Optimal actions under the process's own reward."""
    after: tuple[int, ...]
    """Optimal actions under the designed reward."""
    value_lost: float
    """True value lost there by always taking the worst action that looks optimal."""

    def __str__(self) -> str:
        return (
            f"in state {self.state} the optimal actions {set(self.before)} become "
            f"{set(self.after)}, which loses a value of {self.value_lost:.3g}"
        )


@dataclass(frozen=True, slots=True)
class Verdict:
    """What ``verify`` found.

    Args:
        claims: the tags of the design.
        preserves: the optimal action sets are the same in every state.
        monotone: no pair of transitions changes its order.
        counter_example: the state where most is lost; None when nothing changes.
        finite: every designed reward is finite.
    """

    claims: frozenset[str]
    preserves: bool
    monotone: bool
    counter_example: CounterExample | None
    finite: bool = True

    @property
    def holds(self) -> bool:
        """Every claim that this module can check is true."""
        return (
            self.finite
            and (self.preserves or "potential" not in self.claims)
            and (self.monotone or "monotone" not in self.claims)
        )

    def __str__(self) -> str:
        if not self.finite:
            return "broken: a designed reward is not finite"
        if not self.claims:
            found = ["claims nothing"]
        else:
            found = ["holds" if self.holds else "broken"]
        kept = "optimal policies are kept"
        found.append(
            kept if self.counter_example is None else str(self.counter_example)
        )
        if "monotone" in self.claims and not self.monotone:
            found.append("a better reward became a worse one")
        return "; ".join(found)


def verify(
    design: RewardProgram | Transform,
    mdp: MDP,
    features: Mapping[str, npt.ArrayLike] | None = None,
    tolerance: float = 1e-5,
) -> Verdict:
    """Check whether a design keeps the optimal policies, and its own claims.

    The design scores every transition that can happen, each as the first step of an
    episode, and both processes are solved exactly. Where the process truncates, a
    transition is scored with and without the flag, and weighted accordingly.

    Args:
        design: a program, or a transform of the process's own reward.
        mdp: the process; its discount is ``spec.discount``.
        features: ``(S,)`` or ``(S, n)`` per name, seen beside ``state``, the index.
        tolerance: differences of values below this times the largest value are
            rounding: designed rewards are float32.

    Raises:
        ValueError: for features of another shape.
    """
    if isinstance(design, Transform):
        design = alone(design)
    batch, cells, weight = transitions(mdp, features or {})
    action = ActionSpec("discrete", mdp.actions)
    spec = Spec(batch.now.layout, action, (len(weight),), mdp.discount)
    designed, _ = design.apply(design.init(spec), batch)
    scores = np.asarray(designed.reward, dtype=np.float64)
    if not np.isfinite(scores).all():
        return Verdict(design.tags, False, False, None, finite=False)
    changed = np.zeros_like(mdp.transition)
    np.add.at(changed, cells, weight * scores)
    before, after = solve(mdp), solve(mdp, changed)
    example = _compare(mdp, before, after, tolerance)
    monotone = _keeps_order(np.asarray(batch.reward), scores, tolerance)
    return Verdict(design.tags, example is None, monotone, example)


def transitions(
    mdp: MDP, features: Mapping[str, npt.ArrayLike]
) -> tuple[Batch, tuple[npt.NDArray[np.intp], ...], Floats]:
    """Every transition that can happen, as a batch of ``(K,)`` rows.

    Returns:
        ``(batch, (s, a, s'), weight)``: ``weight`` splits a transition into the part
        that goes on and the part that is truncated.
    """
    state, action, after = np.nonzero(mdp.transition * ~mdp.ends[:, None, None])
    cut = np.where(mdp.ends[after], 0.0, mdp.truncation)
    both = np.concatenate([1.0 - cut, cut])
    kept = both > 0
    state, action, after = (np.tile(x, 2)[kept] for x in (state, action, after))
    truncated = np.repeat([False, True], len(cut))[kept]
    layout, table = _table(mdp, features)
    batch = Batch(
        obs=state,
        action=action,
        next_obs=after,
        prev=Features(layout, table[state]),
        now=Features(layout, table[after]),
        reward=mdp.reward[state, action, after].astype(np.float32),
        terminated=mdp.ends[after],
        truncated=truncated,
    )
    return batch, (state, action, after), both[kept]


def _table(
    mdp: MDP, features: Mapping[str, npt.ArrayLike]
) -> tuple[Layout, npt.NDArray[np.float32]]:
    """Feature rows ``(S, W)`` of all states."""
    columns = [np.arange(mdp.states, dtype=np.float32)[:, None]]
    declared = [Feature(STATE, "index of the state", low=0, high=mdp.states - 1)]
    for name, values in features.items():
        array = np.asarray(values, dtype=np.float32)
        if array.ndim not in (1, 2) or len(array) != mdp.states:
            raise ValueError(
                f"feature {name!r}: expected shape ({mdp.states},) or "
                f"({mdp.states}, n), got {array.shape}"
            )
        declared.append(Feature(name, "given to verify", shape=array.shape[1:]))
        columns.append(array.reshape(mdp.states, -1))
    return Layout(declared), np.concatenate(columns, axis=1)


def _compare(
    mdp: MDP, before: Solution, after: Solution, tolerance: float
) -> CounterExample | None:
    """The state where most is lost, or None when the action sets are the same."""
    # An action counts as gone only if it is best within rounding on one side and
    # clearly worse on the other, so near ties cannot raise a false alarm.
    sharp, loose = tolerance, 10 * tolerance
    sizes = [max(1.0, float(np.abs(s.action_value).max())) for s in (before, after)]
    own, designed = before.optimal(sharp * sizes[0]), after.optimal(sharp * sizes[1])
    gone = own & ~after.optimal(loose * sizes[1])
    came = designed & ~before.optimal(loose * sizes[0])
    different = (gone | came).any(axis=1) & ~mdp.ends
    if not different.any():
        return None
    worst = np.where(designed, before.action_value, np.inf).argmin(axis=1)
    lost = before.value - evaluate(mdp, worst)
    state = int(np.where(different, lost, -np.inf).argmax())
    return CounterExample(
        state,
        tuple(np.flatnonzero(own[state]).tolist()),
        tuple(np.flatnonzero(designed[state]).tolist()),
        max(0.0, float(lost[state])),
    )


def _keeps_order(own: Floats, designed: Floats, tolerance: float) -> bool:
    """Whether no transition with a higher reward has a lower designed one."""
    order = np.lexsort((designed, own))
    ranked = own[order]
    highest = np.maximum.accumulate(designed[order])
    slack = tolerance * max(1.0, float(np.abs(designed).max(initial=0.0)))
    # Among equal rewards any order will do, so compare with the ones strictly below.
    below = np.searchsorted(ranked, ranked, side="left") - 1
    falls = designed[order] < highest[np.maximum(below, 0)] - slack
    return not bool((falls & (below >= 0)).any())

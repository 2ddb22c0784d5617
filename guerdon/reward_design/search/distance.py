"""How different two rewards are, whatever their scale and their potentials.

Two rewards that differ by a positive factor, a constant or a potential
``discount * phi(now) - phi(prev)`` have the same best policies. ``canonicalised`` takes
such differences out, and ``distances`` compares what is left:

    m(x) = mean of R(x, A, S') over draws of actions and successors
    C(R) = R(s, a, s') + discount * m(s') - m(s) - constant
    D = sqrt((1 - correlation of the C) / 2)

0 is the same up to that, 1 the opposite, and D is a metric. All programs share their
draws, so a potential cancels exactly and not just in the mean. Transitions, actions and
successors are those of the bank: what the bank has not seen is not compared.

What a program remembers (registers) is taken as logged in ``R(s, a, s')`` and as of a
first step in ``m``, for which there is no history.

Equal best policies are not equal training: a potential is often what makes a reward
learnable at all. So this finds what is worth showing once, and a search that looks for
rewards that are learned fast compares the rewards themselves (``propose.py``).

Reference: Gleave et al. (2021), Quantifying Differences in Reward Functions, section 4
(EPIC). Deviation: actions and successors are drawn in fixed pairs, and a reward of
which nothing is left is 0 instead of being divided by its own rounding.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from guerdon.reward_design.language import Tree, compile_tree
from guerdon.reward_design.language.block import compile_block
from guerdon.reward_design.language.edit import fingerprint
from guerdon.reward_design.search.bank import Bank
from guerdon.types import Array, Batch, Features

SAMPLES = 1024
"""Logged transitions on which rewards are compared."""

DRAWS = 24
"""Actions and successors over which ``m`` is a mean."""

TOGETHER = 64
"""Programs scored in one pass."""

NOTHING = 1e-5
"""Share of a reward's size below which what is left of it is rounding."""

TOLERANCE = 1e-4
"""Distance up to which two rewards are the same."""

_BLOCK = 256


def distances(
    programs: Sequence[Tree], bank: Bank, discount: float = 0.99
) -> np.ndarray:
    """Pseudo-distance of every two programs.

    Args:
        programs: rewards for the bank's task.
        bank: logged episodes.
        discount: of the potentials that make no difference.

    Returns:
        ``(n, n)`` float64 from 0 to 1, symmetric. A reward of which nothing is left (a
        potential, a constant, one that never fires) has distance 0 to its like and 0.5
        to all others. NaN for a program that is not finite on the bank.
    """
    rows = canonicalised(programs, bank, discount)
    lengths = (rows * rows).sum(axis=1)
    squares = lengths[:, None] + lengths[None, :] - 2.0 * rows @ rows.T
    found: np.ndarray = 0.5 * np.sqrt(np.clip(squares, 0.0, 4.0))
    np.fill_diagonal(found, np.where(np.isfinite(lengths), 0.0, np.nan))
    return found


def deduplicate(
    programs: Sequence[Tree],
    bank: Bank,
    discount: float = 0.99,
    tolerance: float = TOLERANCE,
) -> list[int]:
    """For each program the first one that is the same reward.

    By canonical form first, which costs no scoring, then by distance. Rewards of which
    nothing is left are the same by canonical form alone: they differ where the bank has
    not been.

    Args:
        programs: put the one that shall be kept before its copies.
        bank: logged episodes.
        discount: of the potentials that make no difference.
        tolerance: largest distance of two that are the same.

    Returns:
        Indices; a program is new where its own is given.
    """
    first: dict[str, int] = {}
    same = [first.setdefault(fingerprint(tree), i) for i, tree in enumerate(programs)]
    new = [i for i, j in enumerate(same) if i == j]
    rows = canonicalised([programs[i] for i in new], bank, discount)
    rows[~np.isfinite(rows).all(axis=1)] = 0.0
    kept = np.asarray(rows.any(axis=1))
    merged: dict[int, int] = {}
    for start in range(0, len(new), _BLOCK):
        part = rows[start : start + _BLOCK]
        near: np.ndarray = (
            rows[: start + len(part)] @ part.T >= 1.0 - 2.0 * tolerance**2
        )
        for column in range(len(part)):
            i = start + column
            (like,) = np.nonzero(near[:i, column] & kept[:i])
            if len(like) and kept[i]:
                merged[new[i]] = new[int(like[0])]
                kept[i] = False
    return [merged.get(i, i) for i in same]


def canonicalised(
    programs: Sequence[Tree], bank: Bank, discount: float = 0.99
) -> np.ndarray:
    """``C(R)`` of each program, centred and of length 1; see the module.

    Args:
        programs: rewards for the bank's task.
        bank: logged episodes.
        discount: of the potentials that make no difference.

    Returns:
        ``(n, samples)`` float64; 0 where nothing is left, NaN where it is not finite.
    """
    coverage = _Coverage(bank)
    found = np.empty((len(programs), len(coverage.chosen)))
    # Only programs that remember something have to see every step of the bank.
    memory = [bool(compile_tree(tree).line.registers) for tree in programs]
    for whole in (False, True):
        places = [i for i, needs in enumerate(memory) if needs == whole]
        for start in range(0, len(places), TOGETHER):
            part = places[start : start + TOGETHER]
            trees = [programs[i] for i in part]
            found[part] = coverage.rows(trees, discount, whole)
    return found


class _Coverage:
    """The transitions, actions and successors that all programs are asked for."""

    def __init__(self, bank: Bank) -> None:
        batch = bank.batch
        self.bank = bank
        self.chosen = _chosen(batch)
        rng = np.random.default_rng(0)
        size = len(batch.now.rows)
        draws = min(DRAWS, size)
        self.actions = batch.action[rng.choice(size, draws, replace=False)]
        self.successors = batch.now.rows[rng.choice(size, draws, replace=False)]

    def rows(
        self, programs: Sequence[Tree], discount: float, whole: bool
    ) -> np.ndarray:
        """Unit rows; ``whole`` scores the whole bank for what it remembers."""
        logged = self.bank.batch
        if whole:
            reward = _scored(programs, logged)[:, self.chosen]
        else:
            prev, now = logged.prev.rows, logged.now.rows
            chosen = self.chosen
            reward = self._steps(programs, prev[chosen], logged.action[chosen], now)
        before, after = self._means(programs)
        left = reward + discount * after - before
        left -= left.mean(axis=1, keepdims=True)
        size = np.sqrt((reward**2 + after**2 + before**2).sum(axis=1))
        length = np.linalg.norm(left, axis=1)
        nothing = length <= NOTHING * size
        length[nothing] = 1.0
        left[nothing] = 0.0
        unit: np.ndarray = left / length[:, None]
        return unit

    def _steps(
        self, programs: Sequence[Tree], prev: Array, action: Array, now: Array
    ) -> np.ndarray:
        """``(n, samples)`` rewards of the chosen transitions, one by one."""
        batch = _apart(self.bank, prev[:, 0], action[:, 0], now[self.chosen, 0])
        return _scored(programs, batch)

    def _means(self, programs: Sequence[Tree]) -> tuple[np.ndarray, np.ndarray]:
        """``m`` before and after the chosen transitions, each ``(n, samples)``."""
        batch = self.bank.batch
        ends = (batch.prev.rows[self.chosen, 0], batch.now.rows[self.chosen, 0])
        states = np.concatenate(ends)
        draws = len(self.actions)
        scores = _scored(
            programs,
            _apart(
                self.bank,
                np.repeat(states, draws, axis=0),
                np.concatenate([self.actions[:, 0]] * len(states)),
                np.concatenate([self.successors[:, 0]] * len(states)),
            ),
        )
        means = scores.reshape(len(programs), 2, -1, draws).mean(axis=-1)
        return means[:, 0], means[:, 1]


def _apart(bank: Bank, prev: Array, action: Array, now: Array) -> Batch:
    """``(1, M)``: transitions that have nothing to do with each other."""
    layout, never = bank.task.layout, np.zeros((1, len(now)), np.bool_)
    return Batch(
        obs=None,
        action=action[None],
        next_obs=None,
        prev=Features(layout, prev[None]),
        now=Features(layout, now[None]),
        reward=np.zeros((1, len(now))),
        terminated=never,
        truncated=never,
    )


def _scored(programs: Sequence[Tree], batch: Batch) -> np.ndarray:
    """``(n, M)`` float64 rewards of a batch whose other axis is 1."""
    layout, action = programs[0].layout, programs[0].action
    block = compile_block(programs, layout, action)
    scores, _ = block.score_all(block.init_all(batch.now.rows.shape[1]), batch)
    found: np.ndarray = scores.total.reshape(len(programs), -1).astype(np.float64)
    return found


def _chosen(batch: Batch) -> np.ndarray:
    """Transitions to compare: those at which something happens, then evenly.

    Something is a flag that changes, a reward of the environment or an end: rare in a
    bank of random play, and what most programs are about.
    """
    size = len(batch.now.rows)
    if size <= SAMPLES:
        return np.arange(size)
    layout = batch.now.layout
    happens = (batch.reward != 0.0) | batch.terminated
    for feature in layout:
        if feature.kind == "flag":
            columns = layout.columns(feature.name)
            changes = batch.prev.rows[..., columns] != batch.now.rows[..., columns]
            happens = happens | changes.any(axis=-1)
    events, rest = (np.flatnonzero(which) for which in (happens[:, 0], ~happens[:, 0]))
    count = min(len(events), max(SAMPLES // 2, SAMPLES - len(rest)))
    both = (_thinned(events, count), _thinned(rest, SAMPLES - count))
    return np.sort(np.concatenate(both))


def _thinned(values: np.ndarray, count: int) -> np.ndarray:
    """``count`` of the values, evenly spaced."""
    places = np.linspace(0, len(values) - 1, count).astype(int)
    kept: np.ndarray = values[places]
    return kept

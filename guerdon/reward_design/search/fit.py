"""Parameters of a program, fitted on the bank before anything is trained.

A model or an operator says what is rewarded; how much each part should weigh is a
number, and numbers can be fitted. With ``G`` the discounted designed return of an
episode (the task's sparse reward and the program's terms) and ``F`` its true score:

    objective = correlation(G, F) - FARMING * farmed - DRIFT * mean(theta^2)

``farmed``, from 0 to 1, is the largest return of the own terms in an episode that
failed, as in the screen; it counts where the sparse reward is the environment's own,
which pays 1. A parameter that is not 0 moves as ``value * exp(theta)`` and keeps its
sign; one that is 0 moves as ``theta``. ``theta`` is kept within bounds. The last part
says only what nothing else says: of all scales that do equally well, the one that was
written.

The correlation is linear, so it has a gradient: torch goes through the code that is
printed from the tree. The best parameters that were met are given back, so the
objective is never worse than before.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from guerdon.extras import require
from guerdon.reward_design.language import Tree, compile_tree
from guerdon.reward_design.language.edit import with_params
from guerdon.reward_design.language.terms import compiled_terms, torch_columns
from guerdon.reward_design.language.tree import to_source
from guerdon.reward_design.program import CLAMP
from guerdon.reward_design.search.bank import Bank
from guerdon.reward_design.search.screen import own_sparse, sparse_rewards
from guerdon.types import Features, Spec

FARMING = 0.5
"""What a failed episode that is paid like a solved one costs, as in ``promise``."""

DRIFT = 1e-3
"""Pull towards the parameters that were written."""

FACTOR = 10.0
"""A parameter becomes at most this many times larger or smaller."""

STEP = 0.1
"""Size of an Adam step of ``theta``: about a tenth of the value."""

DIGITS = 4
"""Digits of a fitted parameter, where rounding costs nothing."""


@dataclass(frozen=True, slots=True)
class Fitted:
    """A program with fitted parameters.

    Args:
        tree: the program; the one that was given where nothing could be bettered.
        before: objective of the parameters that were given; None where the bank has
            no two different scores to compare with.
        after: objective of ``tree``, at least ``before``.
    """

    tree: Tree
    before: float | None
    after: float | None

    @property
    def source(self) -> str:
        """The program as text."""
        return to_source(self.tree)


def fit_params(
    program: Tree,
    bank: Bank,
    *,
    steps: int = 60,
    discount: float = 0.99,
    factor: float = FACTOR,
) -> Fitted:
    """Fit a program's parameters to the true scores of the bank's episodes.

    The same arguments give the same parameters.

    Args:
        program: any program; one without parameters comes back as it is.
        bank: logged episodes of the same task.
        steps: of Adam, each one pass over the bank.
        discount: of the returns.
        factor: largest change of a parameter; one that is 0 stays within ``factor``
            tenths.

    Raises:
        ValueError: for no steps or a factor that is not above 1.
        MissingExtra: without torch.
    """
    if steps < 1:
        raise ValueError(f"steps: expected at least 1, got {steps}")
    if not 1.0 < factor < math.inf:
        raise ValueError(f"factor: expected a number above 1, got {factor}")
    torch = require("torch", "torch")
    objective = _Objective(program, bank, discount)
    if not program.params or not objective.says_something:
        return Fitted(program, None, None)
    values = np.array([value for _, value in program.params])
    path = _Path(torch, values, factor)
    before = best = objective(path.values(path.theta), path.theta)[0]
    if not math.isfinite(before):
        return Fitted(program, None, None)
    found = values
    adam = torch.optim.Adam([path.theta], lr=STEP, maximize=True)
    for _ in range(steps):
        adam.zero_grad()
        value, traced = objective(path.values(path.theta), path.theta)
        if value > best:
            best, found = value, path.values(path.theta).detach().numpy().copy()
        if not traced.requires_grad:
            break  # no parameter moves any return
        traced.backward()
        path.theta.grad.nan_to_num_(0.0, 0.0, 0.0)  # such as of a root at 0
        adam.step()
        path.keep_bounds()
    if found is values:
        return Fitted(program, before, before)
    return _rounded(program, objective, path, found, before, best)


def _rounded(
    program: Tree,
    objective: _Objective,
    path: _Path,
    found: np.ndarray,
    before: float,
    best: float,
) -> Fitted:
    """The fitted program with short numbers, unless rounding undoes the gain."""
    names = [name for name, _ in program.params]
    short = np.array([float(f"{value:.{DIGITS}g}") for value in found])
    tensor = path.torch.as_tensor(short)
    after, _ = objective(tensor, path.theta_of(short))
    chosen, value = (short, after) if after >= before else (found, best)
    numbers = dict(zip(names, map(float, chosen), strict=True))
    return Fitted(with_params(program, numbers), before, value)


class _Path:
    """From ``theta``, which starts at 0, to the values of parameters and back."""

    def __init__(self, torch: Any, values: np.ndarray, factor: float) -> None:
        self.torch = torch
        self.start = torch.as_tensor(values)
        self.zero = self.start == 0.0
        bound = np.where(values == 0.0, factor / 10.0, math.log(factor))
        self.bound = torch.as_tensor(bound)
        self.theta = torch.zeros(len(values), dtype=torch.float64, requires_grad=True)

    def values(self, theta: Any) -> Any:
        """``(P,)`` parameters."""
        scaled = self.start * theta.exp()
        return self.torch.where(self.zero, theta, scaled)

    def theta_of(self, values: np.ndarray) -> Any:
        """Where these parameters are."""
        given = self.torch.as_tensor(values)
        ratio = self.torch.where(self.zero, 1.0, given / self.start)
        return self.torch.where(self.zero, given, ratio.log())

    def keep_bounds(self) -> None:
        """Bring ``theta`` back into its bounds."""
        with self.torch.no_grad():
            self.theta.copy_(self.theta.clamp(-self.bound, self.bound))


class _Objective:
    """``objective(params, theta) -> (number, tensor)``; see the module."""

    def __init__(self, tree: Tree, bank: Bank, discount: float) -> None:
        import torch

        self.torch, self.compiled = torch, compile_tree(tree)
        batch = bank.batch
        action = torch.as_tensor(batch.action)
        if tree.action.kind == "discrete":
            action = action[..., None]
        self.batch = batch._replace(
            action=action,
            prev=Features(tree.layout, torch.as_tensor(batch.prev.rows)),
            now=Features(tree.layout, torch.as_tensor(batch.now.rows)),
            reward=torch.as_tensor(batch.reward),
            terminated=torch.as_tensor(batch.terminated),
            truncated=torch.as_tensor(batch.truncated),
        )
        spec = Spec(tree.layout, tree.action, (1,), discount)
        self.state = compiled_terms(self.compiled, "", "numpy").init(spec)
        self.index = torch.as_tensor(bank.index)
        self.weight = torch.as_tensor(discount ** np.asarray(bank.time, np.float64))
        sparse = torch.as_tensor(sparse_rewards(bank))
        self.episodes = len(bank.episodes)
        self.sparse = self.sums(sparse * self.weight)
        fitness = np.array(bank.fitness)
        known = np.isfinite(fitness)
        self.known = torch.as_tensor(known)
        self.fitness = torch.as_tensor(fitness[known])
        self.failed = torch.as_tensor(bank.failed) if own_sparse(bank) else None
        self.says_something = bool(known.any() and np.ptp(fitness[known]) > 0.0)

    def sums(self, values: Any) -> Any:
        """``(E,)`` sum over each episode."""
        zeros = self.torch.zeros(self.episodes, dtype=self.torch.float64)
        return zeros.index_add(0, self.index, values)

    def __call__(self, params: Any, theta: Any) -> tuple[float, Any]:
        columns, _ = torch_columns(self.compiled, params, self.state, self.batch)
        own = columns[:, 0].clamp(-CLAMP, CLAMP).sum(-1)
        returns = (self.sums(own * self.weight) + self.sparse)[self.known]
        value = self.correlation(returns) - DRIFT * (theta * theta).mean()
        if self.failed is not None and bool(self.failed.any()):
            farmed = self.sums(own)[self.failed].max().clamp(0.0, 1.0)
            value = value - FARMING * farmed
        return float(value.detach()), value

    def correlation(self, returns: Any) -> Any:
        """Pearson's, 0 where all returns are the same."""
        x = returns - returns.mean()
        y = self.fitness - self.fitness.mean()
        lengths = ((x * x).sum() * (y * y).sum()).clamp(min=1e-30).sqrt()
        return (x * y).sum() / lengths

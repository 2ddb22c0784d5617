"""Norms of gradients and steps of Adam as compiled loops for a CPU.

Weights are ``(R, V, W)``: V vectors of R rows. Marks tell which of them a gradient may
not be zero for. One that has never been marked does not move, and is skipped: in a grid
these are most, since most things are never seen at most places.
"""

from __future__ import annotations

import numpy as np

from guerdon.envs.grid.compiled import compiled

Stacks = tuple[np.ndarray, ...]
"""One for each weight, as C-contiguous arrays with three axes."""

ZERO = np.float32(0.0)
BETA_1, BETA_2 = 0.9, 0.999
KEPT_1, KEPT_2 = np.float32(BETA_1), np.float32(BETA_2)
NEW_1, NEW_2 = np.float32(1.0 - BETA_1), np.float32(1.0 - BETA_2)


@compiled
def norm_loops(
    grads: Stacks, marks: Stacks, moved: Stacks, sums: np.ndarray, norms: np.ndarray
) -> None:
    """The norm of each row's gradient, and which vectors were ever marked.

    Args:
        grads: ``(R, V, W)`` float32.
        marks: ``(R, V)`` bool, outside of which gradients are zero.
        moved: ``(R, V)`` bool, set where there is a mark, else left.
        sums: as wide as the widest vector, float32; written to.
        norms: ``(R,)`` float32, overwritten.
    """
    for r in range(len(norms)):
        for i in range(len(sums)):
            sums[i] = ZERO
        for n in range(len(grads)):
            for v in range(grads[n].shape[1]):
                if not marks[n][r, v]:
                    continue
                moved[n][r, v] = True
                values = grads[n][r, v]
                for i in range(len(values)):
                    sums[i] += values[i] * values[i]
        total = 0.0
        for i in range(len(sums)):
            total += sums[i]
        norms[r] = np.sqrt(total)


@compiled
def adam_loops(
    weights: Stacks,
    grads: Stacks,
    means: Stacks,
    squares: Stacks,
    marks: Stacks,
    moved: Stacks,
    rows: np.ndarray,
    scales: np.ndarray,
    rates: np.ndarray,
    inverse_roots: np.ndarray,
    epsilon: np.float32,
) -> None:
    """A step of the rows named, in place.

    Args:
        weights: ``(R, V, W)`` float32.
        grads: of them.
        means: decaying mean of the gradients.
        squares: and of their squares.
        marks: ``(R, V)`` bool, outside of which gradients are zero.
        moved: ``(R, V)`` bool, which vectors were ever marked.
        rows: int64, which rows step.
        scales: ``(R,)`` float32, by which gradients are multiplied.
        rates: ``(R,)`` float32, the rate over the bias of the mean.
        inverse_roots: ``(R,)`` float32, one over the root of the bias of the squares.
        epsilon: added to the deviation.
    """
    for r in rows:
        scale, rate, inverse = scales[r], rates[r], inverse_roots[r]
        for n in range(len(weights)):
            for v in range(weights[n].shape[1]):
                if not moved[n][r, v]:
                    continue
                weight, grad = weights[n][r, v], grads[n][r, v]
                mean, square = means[n][r, v], squares[n][r, v]
                if marks[n][r, v]:
                    for i in range(len(weight)):
                        here = grad[i] * scale
                        first = KEPT_1 * mean[i] + NEW_1 * here
                        second = KEPT_2 * square[i] + NEW_2 * here * here
                        mean[i], square[i] = first, second
                        weight[i] -= (
                            rate * first / (np.sqrt(second) * inverse + epsilon)
                        )
                else:  # a gradient of zero need not be read
                    for i in range(len(weight)):
                        first, second = KEPT_1 * mean[i], KEPT_2 * square[i]
                        mean[i], square[i] = first, second
                        weight[i] -= (
                            rate * first / (np.sqrt(second) * inverse + epsilon)
                        )

"""Stacked Adam against one Adam for each row."""

from typing import Any

import numpy as np
import pytest
import torch

from guerdon.agents.optimize import StackedAdam

ROWS = 4


def stack() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    shapes = {"wide": (70, 9), "bias": (1, 7)}
    return {n: torch.randn(ROWS, *s, generator=generator) for n, s in shapes.items()}


def row(values: dict[str, torch.Tensor], r: int) -> dict[str, torch.Tensor]:
    return {name: value[r : r + 1].clone() for name, value in values.items()}


def test_rows_that_rest_stay_as_they_are_and_the_others_learn_as_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    together = stack()
    adam, apart = StackedAdam(together), [row(together, r) for r in range(ROWS)]
    alone = [StackedAdam(weights) for weights in apart]
    sizes: list[int] = []
    apply = StackedAdam._apply

    def counted(self: StackedAdam, tensors: Any, *args: Any) -> None:
        if self is adam:
            sizes.append(len(tensors[0]))
        apply(self, tensors, *args)

    monkeypatch.setattr(StackedAdam, "_apply", counted)
    generator, rates = torch.Generator().manual_seed(1), np.full(ROWS, 1e-2)
    for step in range(6):
        grads = [torch.randn(w.shape, generator=generator) for w in together.values()]
        active = np.array([True, True, step < 2, step != 4])
        if step >= 2:  # a row that has failed, whose gradient is no number
            grads[0][2] = torch.nan
        adam.step(together, grads, active, rates)
        for r in np.flatnonzero(active):
            own = [grad[r : r + 1].clone() for grad in grads]
            alone[r].step(apart[r], own, np.ones(1, np.bool_), rates[:1])
        for r in range(ROWS):
            for name, value in together.items():
                assert torch.equal(value[r], apart[r][name][0])
                assert torch.equal(adam.mean[name][r], alone[r].mean[name][0])
                assert torch.equal(adam.square[name][r], alone[r].square[name][0])
            assert adam.steps[r] == alone[r].steps[0]
    # Both weights whole, whoever rests; in the last step one row is younger than the
    # others, and the three that move are taken one by one.
    assert sizes == [2, 2, 2, 2, 2, 6]


def test_rows_of_different_age_and_rate_learn_as_alone() -> None:
    together = stack()
    adam, apart = StackedAdam(together), [row(together, r) for r in range(ROWS)]
    alone = [StackedAdam(weights) for weights in apart]
    rates = np.array([1e-2, 1e-2, 3e-3, 1e-2])
    generator = torch.Generator().manual_seed(2)
    for step in range(5):
        grads = [torch.randn(w.shape, generator=generator) for w in together.values()]
        active = np.array([True, step > 2, True, step != 1])
        adam.step(together, grads, active, rates)
        for r in np.flatnonzero(active):
            own = [grad[r : r + 1].clone() for grad in grads]
            alone[r].step(apart[r], own, np.ones(1, np.bool_), rates[r : r + 1])
        for r in range(ROWS):
            for name, value in together.items():
                assert torch.equal(value[r], apart[r][name][0])

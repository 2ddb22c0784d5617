"""Stacked Adam against torch's own, and against itself for each row."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch

from guerdon.agents.optimize import StackedAdam

ROWS = 4
LIMIT = 5.0
Weights = dict[str, torch.Tensor]


def stack() -> Weights:
    generator = torch.Generator().manual_seed(0)
    shapes = {"wide": (70, 9), "bias": (1, 7)}
    return {n: torch.randn(ROWS, *s, generator=generator) for n, s in shapes.items()}


def gradients(seed: int) -> Iterator[list[torch.Tensor]]:
    """A third of a row's vectors never has one, a third sometimes; each row its own."""
    generator = torch.Generator().manual_seed(seed)
    step = 0
    while True:
        grads = [torch.randn(w.shape, generator=generator) for w in stack().values()]
        for r in range(ROWS):
            grads[0][r, r % 3 :: 3] = 0.0
            if step % 3:
                grads[0][r, (r + 1) % 3 :: 3] = 0.0
        for grad in grads:
            grad[1] *= 100.0
            grad[2] *= 0.01
        yield grads
        step += 1


def row(values: Weights, r: int) -> Weights:
    return {name: value[r : r + 1].clone() for name, value in values.items()}


def move(
    adam: StackedAdam,
    grads: list[torch.Tensor],
    active: np.ndarray,
    rates: np.ndarray,
) -> None:
    adam.clip(grads)
    adam.step(active, rates)


def clip_marked(adam: StackedAdam, grads: list[torch.Tensor]) -> torch.Tensor:
    """What is not marked is not read."""
    marks = [(grad != 0.0).any(-1).numpy() for grad in grads]
    given = [grad.clone() for grad in grads]
    for grad, mark in zip(given, marks, strict=True):
        grad[~torch.from_numpy(mark)] = 7.0
    return CLIP(adam, given, marks)


CLIP = StackedAdam.clip


@pytest.fixture(params=["compiled", "marked", "in torch"])
def how(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "in torch":
        monkeypatch.setattr("guerdon.agents.optimize.has_compiler", lambda: False)
    if request.param == "marked":
        monkeypatch.setattr(StackedAdam, "clip", clip_marked)
    return str(request.param)


@pytest.mark.usefixtures("how")
def test_every_row_is_torchs_clipping_and_adam() -> None:
    together, rates = stack(), np.array([1e-2, 3e-3, 1e-2, 1e-2])
    adam = StackedAdam(together, LIMIT, 1e-5)
    alone = [list(row(together, r).values()) for r in range(ROWS)]
    theirs = [
        torch.optim.Adam(own, lr=rates[r], eps=1e-5) for r, own in enumerate(alone)
    ]
    for step, grads in zip(range(20), gradients(1), strict=False):
        active = np.array([True, True, step % 2 == 0, step > 2])
        norms = np.empty(ROWS)
        for r, own in enumerate(alone):
            for one, grad in zip(own, grads, strict=True):
                one.grad = grad[r : r + 1].clone()
            norms[r] = torch.nn.utils.clip_grad_norm_(own, LIMIT)
            if active[r]:
                theirs[r].step()
        np.testing.assert_allclose(adam.clip(grads), norms, rtol=1e-6)
        adam.step(active, rates)
        for r, own in enumerate(alone):
            for one, value in zip(own, together.values(), strict=True):
                torch.testing.assert_close(value[r], one[0], rtol=1e-5, atol=1e-6)


def test_rows_that_rest_stay_as_they_are_and_the_others_learn_as_alone(
    how: str,
) -> None:
    together = stack()
    adam, apart = StackedAdam(together), [row(together, r) for r in range(ROWS)]
    alone = [StackedAdam(weights) for weights in apart]
    rates = np.full(ROWS, 1e-2)
    for step, grads in zip(range(6), gradients(1), strict=False):
        active = np.array([True, True, step < 2, step != 4])
        if step >= 2:  # a row that has failed, whose gradient is no number
            grads[0][2] = torch.nan
        owns = [[grad[r : r + 1].clone() for grad in grads] for r in range(ROWS)]
        move(adam, grads, active, rates)
        for r in np.flatnonzero(active):
            move(alone[r], owns[r], np.ones(1, np.bool_), rates[:1])
        for r in range(ROWS):
            same(together, adam, apart[r], alone[r], r, how)


def test_rows_of_different_age_and_rate_learn_as_alone(how: str) -> None:
    together = stack()
    adam, apart = StackedAdam(together), [row(together, r) for r in range(ROWS)]
    alone = [StackedAdam(weights) for weights in apart]
    rates = np.array([1e-2, 1e-2, 3e-3, 1e-2])
    for step, grads in zip(range(5), gradients(2), strict=False):
        active = np.array([True, step > 2, True, step != 1])
        owns = [[grad[r : r + 1].clone() for grad in grads] for r in range(ROWS)]
        move(adam, grads, active, rates)
        for r in np.flatnonzero(active):
            move(alone[r], owns[r], np.ones(1, np.bool_), rates[r : r + 1])
        for r in range(ROWS):
            same(together, adam, apart[r], alone[r], r, how)


def test_in_torch_whole_weights_move_while_the_rows_are_of_one_age(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("guerdon.agents.optimize.has_compiler", lambda: False)
    weights, sizes = stack(), []
    adam, apply = StackedAdam(weights), StackedAdam._apply

    def counted(self: StackedAdam, tensors: Any, *args: Any) -> None:
        sizes.append(len(tensors[0]))
        apply(self, tensors, *args)

    monkeypatch.setattr(StackedAdam, "_apply", counted)
    for step, grads in zip(range(6), gradients(1), strict=False):
        active = np.array([True, True, step < 2, step != 4])
        move(adam, grads, active, np.full(ROWS, 1e-2))
    # Both weights whole, whoever rests; in the last step one row is younger than the
    # others, and the three that move are taken one by one.
    assert sizes == [2, 2, 2, 2, 2, 6]


@pytest.mark.usefixtures("how")
def test_rows_that_are_selected_or_begin_anew_go_on_from_what_they_have() -> None:
    together = stack()
    adam, apart = StackedAdam(together), row(together, 2)
    alone, rates = StackedAdam(apart), np.full(ROWS, 1e-2)
    one = np.ones(1, np.bool_)
    grads = gradients(3)
    for _ in range(2):
        given = next(grads)
        own = [grad[2:3].clone() for grad in given]
        move(adam, given, np.ones(ROWS, np.bool_), rates)
        move(alone, own, one, rates[:1])
    together = {name: value[[3, 2]] for name, value in together.items()}
    adam.select([3, 2], together)
    adam.restart(0)
    assert adam.steps.tolist() == [0, 2]
    # Nothing has a gradient any more: only what remembers one moves.
    before = {name: value.clone() for name, value in together.items()}
    none = [torch.zeros_like(value) for value in together.values()]
    own = [zero[:1].clone() for zero in none]
    move(adam, none, np.ones(2, np.bool_), rates[:2])
    move(alone, own, one, rates[:1])
    for name, value in together.items():
        assert torch.equal(value[0], before[name][0])
        assert not torch.equal(value[1], before[name][1])
        torch.testing.assert_close(value[1:], apart[name])


def test_marks_change_no_bit() -> None:
    plain, marked = stack(), stack()
    adams = StackedAdam(plain), StackedAdam(marked)
    active, rates = np.ones(ROWS, np.bool_), np.full(ROWS, 1e-2)
    for step, grads in zip(range(8), gradients(4), strict=False):
        norms = CLIP(adams[0], grads), clip_marked(adams[1], grads)
        assert torch.equal(*norms)
        for adam in adams:
            adam.step(active, rates)
        if step == 4:
            for adam in adams:
                adam.restart(1)
        for name, value in plain.items():
            assert torch.equal(value, marked[name])


@pytest.mark.usefixtures("how")
def test_a_step_without_gradients_is_refused() -> None:
    weights = stack()
    adam, one = StackedAdam(weights), np.ones(ROWS, np.bool_)
    with pytest.raises(RuntimeError, match="expected gradients that clip was told"):
        adam.step(one, np.full(ROWS, 1e-2))
    adam.clip(next(gradients(0)))
    adam.select([2], {name: value[2:3].clone() for name, value in weights.items()})
    with pytest.raises(RuntimeError, match="expected gradients that clip was told"):
        adam.step(one[:1], np.full(1, 1e-2))


def same(
    together: Weights,
    adam: StackedAdam,
    apart: Weights,
    alone: StackedAdam,
    r: int,
    how: str,
) -> None:
    """To the last bit where compiled; torch's vectors do not begin where rows do."""
    tolerance = {"rtol": 0.0, "atol": 0.0} if how != "in torch" else {}
    pairs = (together, apart), (adam.mean, alone.mean), (adam.square, alone.square)
    for whole, own in pairs:
        for name, value in whole.items():
            torch.testing.assert_close(value[r], own[name][0], **tolerance)
    assert adam.steps[r] == alone.steps[0]

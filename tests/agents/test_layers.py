"""Layers in compiled loops against torch's, and rows against themselves alone."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from guerdon.agents.coding import Coding, coding_of, one_hot
from guerdon.agents.layers import (
    MOST_SHAPES,
    Activation,
    Scratch,
    code_layer,
    dense_layer,
)
from guerdon.envs.grid.compiled import has_compiler

CELLS, ROWS, WIDTH = 16, 3, 8
HIGH = (10, 5, 3) * CELLS
CODINGS = [
    coding_of(HIGH, (4, 4, 3)),
    coding_of(HIGH, (48,)),
    coding_of((*HIGH[:-3], 10, 3, 5), (4, 4, 3)),
]
CODING = CODINGS[0]


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def grids(batch: int, seed: int = 0, high: tuple[int, ...] = HIGH) -> torch.Tensor:
    rng = np.random.default_rng(seed)
    codes = rng.integers(0, np.array(high) + 1, size=(ROWS, batch, len(high)))
    return torch.from_numpy(codes.astype(np.uint8))


def weights(inputs: int = CELLS * 21) -> tuple[torch.Tensor, torch.Tensor]:
    drawn = 0.3 * torch.randn(ROWS, inputs + 1, WIDTH, generator=generator())
    weight, bias = drawn[:, :-1].clone(), drawn[:, -1:].clone()
    return weight.requires_grad_(), bias.requires_grad_()


def applied(activation: Activation) -> Callable[[torch.Tensor], torch.Tensor]:
    return torch.tanh if activation == "tanh" else torch.relu


@pytest.mark.parametrize("scratch", [None, Scratch()])
@pytest.mark.parametrize("parts", [1, 2])
@pytest.mark.parametrize("coding", CODINGS, ids=["cells", "codes", "cells differ"])
@pytest.mark.parametrize("activation", ["tanh", "relu"])
def test_the_layer_of_codes_is_the_product_with_one_hot_rows(
    scratch: Scratch | None, parts: int, coding: Coding, activation: Activation
) -> None:
    weight, bias = weights()
    target = torch.randn(ROWS, 9, WIDTH, generator=generator())
    for turn in range(3):  # a gradient does not add to the one before
        codes = grids(9, turn, coding.high)
        plain = applied(activation)(one_hot(codes, weight, coding) @ weight + bias)
        expected = torch.autograd.grad((plain * target).sum(), [weight, bias])
        told = code_layer(codes, weight, bias, coding, activation, parts, scratch)
        assert len(told) == parts
        ours = torch.cat(told, -1)
        torch.testing.assert_close(ours, plain)
        grads = torch.autograd.grad((ours * target).sum(), [weight, bias])
        torch.testing.assert_close(grads, expected)


@pytest.mark.parametrize("activation", ["tanh", "relu"])
def test_a_part_that_nobody_asks_has_a_gradient_of_zero(activation: Activation) -> None:
    weight, bias = weights()
    codes = grids(9)
    _, right = code_layer(codes, weight, bias, CODING, activation, 2)
    grad, _ = torch.autograd.grad(right.sum(), [weight, bias])
    assert not grad[..., : WIDTH // 2].any()
    assert grad[..., WIDTH // 2 :].any()


@pytest.mark.parametrize("coding", CODINGS, ids=["cells", "codes", "cells differ"])
def test_what_is_gathered_for_an_observation_depends_on_no_other(
    coding: Coding,
) -> None:
    codes, (weight, bias) = grids(9, high=coding.high), weights()
    (whole,) = code_layer(codes, weight, bias, coding, "tanh")
    for row in range(ROWS):
        for one in range(9):
            part = codes[row : row + 1, one : one + 1]
            own = weight[row : row + 1], bias[row : row + 1]
            (alone,) = code_layer(part, *own, coding, "tanh")
            assert torch.equal(alone[0, 0], whole[row, one])


@pytest.mark.parametrize("coding", CODINGS[:2], ids=["cells", "codes"])
def test_a_code_above_its_bound_is_refused_and_does_no_harm(coding: Coding) -> None:
    (weight, bias), scratch, good = weights(), Scratch(), grids(9)
    (expected,) = code_layer(good, weight, bias, coding, "tanh")
    for place, code in ((0, 11), (1, 6), (47, 4), (47, 255)):
        codes = good.clone()
        codes[1, 3, place] = code
        said = rf"number {place} .* 0 to {HIGH[place]}, got {code}"
        with pytest.raises(ValueError, match=said):
            code_layer(codes, weight, bias, coding, "tanh", 1, scratch)
    (again,) = code_layer(good, weight, bias, coding, "tanh", 1, scratch)
    assert torch.equal(again, expected)


def test_a_gradient_whose_output_was_overwritten_is_refused() -> None:
    (weight, bias), scratch = weights(), Scratch()

    def layer(batch: int, parts: int = 1) -> torch.Tensor:
        codes = grids(batch)
        return code_layer(codes, weight, bias, CODING, "tanh", parts, scratch)[0]

    first, second, other, apart = layer(9), layer(9), layer(4), layer(9, parts=2)
    with pytest.raises(RuntimeError, match="another output of this size"):
        torch.autograd.grad(first.sum(), weight)
    # The second one's things have been overwritten with those of the one in parts.
    with pytest.raises(RuntimeError, match="another output of this size"):
        torch.autograd.grad(second.sum(), weight)
    for sound in (other, apart):
        torch.autograd.grad(sound.sum(), weight)


def test_an_output_and_a_gradient_of_one_shape_do_not_share_memory() -> None:
    batch = CELLS * 21  # as many as the weight has rows
    (weight, bias), scratch, codes = weights(), Scratch(), grids(batch)
    (total,) = code_layer(codes, weight, bias, CODING, "tanh", 1, scratch)
    grad = torch.autograd.grad(total.sum(), weight)[0]
    before = grad.clone()
    code_layer(codes, weight, bias, CODING, "tanh", 1, scratch)
    assert torch.equal(grad, before)


def test_marks_are_known_of_the_gradient_that_lies_in_the_scratch() -> None:
    (weight, bias), scratch = weights(), Scratch()
    for turn in range(3):
        codes = grids(2, turn)
        (told,) = code_layer(codes, weight, bias, CODING, "tanh", 1, scratch)
        grad = torch.autograd.grad(told.sum(), weight)[0]
        marks = scratch.marks_of(grad)
        assert marks is not None
        assert 0 < marks.sum() < marks.size
        np.testing.assert_array_equal(marks, (grad != 0.0).any(-1).numpy())
    assert scratch.marks_of(grad.clone()) is None
    assert scratch.marks_of(bias) is None
    scratch.forget()
    assert scratch.marks_of(grad) is None


def test_a_scratch_keeps_memory_for_some_sizes_only() -> None:
    (weight, bias), scratch = weights(), Scratch()
    for batch in range(40):  # the first without any observation
        (told,) = code_layer(grids(batch), weight, bias, CODING, "tanh", 1, scratch)
        assert told.shape == (ROWS, batch, WIDTH)
        (fresh,) = code_layer(grids(batch), weight, bias, CODING, "tanh")
        assert torch.equal(told, fresh)
        assert len(scratch._arrays) <= MOST_SHAPES
        assert len(scratch._spaces) <= MOST_SHAPES


@pytest.mark.parametrize("activation", ["tanh", "relu"])
def test_the_layers_are_the_same_without_a_compiler(
    activation: Activation, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert has_compiler()
    codes, (weight, bias) = grids(5), weights()
    inner = torch.randn(ROWS, WIDTH, 6, generator=generator()).requires_grad_()
    inner_bias = torch.randn(ROWS, 1, 6, generator=generator()).requires_grad_()
    leaves = [weight, bias, inner, inner_bias]

    def told() -> tuple[torch.Tensor, ...]:
        (first,) = code_layer(codes, weight, bias, CODING, activation)
        total = dense_layer(first, inner, inner_bias, activation)
        return (total.detach(), *torch.autograd.grad(total.square().sum(), leaves))

    compiled = told()
    monkeypatch.setattr("guerdon.agents.layers.has_compiler", lambda: False)
    torch.testing.assert_close(told(), compiled)


@pytest.mark.parametrize("batch", [1, 5, 64])
@pytest.mark.parametrize("activation", ["tanh", "relu"])
def test_a_dense_layer_is_torchs(activation: Activation, batch: int) -> None:
    weight, bias = weights(6)
    x = torch.randn(ROWS, batch, 6, generator=generator()).requires_grad_()
    leaves = [x, weight, bias]
    plain = applied(activation)(x @ weight + bias)
    target = torch.randn(WIDTH, batch, ROWS, generator=generator()).permute(2, 1, 0)
    expected = torch.autograd.grad(plain, leaves, target)
    ours = dense_layer(x, weight, bias, activation)
    torch.testing.assert_close(ours, plain)
    torch.testing.assert_close(torch.autograd.grad(ours, leaves, target), expected)
    with torch.no_grad():
        assert torch.equal(dense_layer(x, weight, bias, activation), ours)


def test_a_dense_layer_gives_no_gradient_to_what_needs_none() -> None:
    (weight, bias), x = weights(6), torch.ones(ROWS, 4, 6)
    ours = dense_layer(x, weight, bias, "tanh")
    found = torch.autograd.grad(ours.sum(), [weight, bias])
    plain = torch.tanh(x @ weight + bias)
    torch.testing.assert_close(found, torch.autograd.grad(plain.sum(), [weight, bias]))


@pytest.mark.parametrize("activation", ["tanh", "relu"])
def test_what_is_no_number_stays_none(activation: Activation) -> None:
    weight, bias = weights(6)
    x = torch.ones(ROWS, 2, 6)
    x[1, 1, 3] = torch.nan
    found = dense_layer(x, weight, bias, activation).isnan()
    assert found[1, 1].all()
    assert found.sum() == WIDTH


def test_in_bfloat16_the_product_is_torchs() -> None:
    (weight, bias), x = weights(6), torch.ones(ROWS, 2, 6)
    with torch.autocast("cpu", torch.bfloat16):
        assert dense_layer(x, weight, bias, "tanh").dtype == torch.bfloat16

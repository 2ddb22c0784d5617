import numpy as np
import pytest
import torch
from gymnasium import spaces

from guerdon.agents.encoders import OneHotGrid, _gather_sum, _gather_sum_plainly

CODES = np.array([11, 6, 4])


def grid_space() -> spaces.Box:
    high = np.broadcast_to((CODES - 1).astype(np.uint8), (7, 7, 3))
    return spaces.Box(np.zeros_like(high), high.copy(), dtype=np.uint8)


def grids(count: int) -> np.ndarray:
    rng = np.random.default_rng(0)
    return rng.integers(0, CODES, size=(count, 7, 7, 3)).astype(np.uint8)


def naive_one_hot(images: np.ndarray) -> np.ndarray:
    rows = []
    for image in images:
        row: list[float] = []
        for cell in image.reshape(49, 3):
            for code, count in zip(cell, CODES, strict=True):
                row += [float(code == k) for k in range(count)]
        rows.append(row)
    return np.array(rows, np.float32)


def test_the_layer_is_a_linear_layer_on_a_naive_one_hot() -> None:
    encoder = OneHotGrid(grid_space(), 5)
    images = grids(9)
    one_hot = torch.from_numpy(naive_one_hot(images))
    assert encoder.inputs == one_hot.shape[1] == 49 * (11 + 6 + 4)
    plain = torch.tanh(one_hot @ encoder.weight + encoder.bias)
    torch.testing.assert_close(encoder(torch.from_numpy(images)), plain)


def test_its_gradient_is_that_of_the_linear_layer() -> None:
    encoder = OneHotGrid(grid_space(), 5)
    images = grids(9)
    one_hot = torch.from_numpy(naive_one_hot(images))
    target = torch.randn(9, 5, generator=torch.Generator().manual_seed(0))
    (encoder(torch.from_numpy(images)) * target).sum().backward()
    gathered = [encoder.weight.grad, encoder.bias.grad]
    encoder.zero_grad()
    (torch.tanh(one_hot @ encoder.weight + encoder.bias) * target).sum().backward()
    for ours, plain in zip(
        gathered, [encoder.weight.grad, encoder.bias.grad], strict=True
    ):
        torch.testing.assert_close(ours, plain)


def test_weights_start_orthogonal_with_gain_root_two() -> None:
    weight = OneHotGrid(grid_space(), 8).weight.detach()
    torch.testing.assert_close(weight.T @ weight, 2 * torch.eye(8))


@pytest.mark.parametrize(
    "space",
    [
        spaces.Box(0, 255, (7, 7, 3), np.uint8),
        spaces.Box(0.0, 1.0, (7, 7, 3), np.float32),
        spaces.Box(1, 5, (7, 7, 3), np.uint8),
        spaces.Discrete(5),
    ],
)
def test_a_space_that_is_no_grid_of_small_codes_is_rejected(space: spaces.Box) -> None:
    with pytest.raises(ValueError, match="codes from 0 to at most 63"):
        OneHotGrid(space)


@pytest.mark.parametrize("width", [1, 5, 64, 100])
@pytest.mark.parametrize("count", [1, 64])
def test_the_sum_of_the_jail_is_the_gathering_sum_to_the_last_bit(
    count: int, width: int
) -> None:
    numbers = torch.Generator().manual_seed(width)
    # Rows of very different size, so that any other order of adding would show.
    scale = 10.0 ** torch.randn(49 * 21, 1, generator=numbers)
    weight = scale * torch.randn(49 * 21, width, generator=numbers)
    columns = torch.randint(49 * 21, (count, 147), generator=numbers)
    plain = _gather_sum_plainly(columns, weight)
    assert torch.equal(plain, _gather_sum(columns, weight))
    one_by_one = torch.zeros_like(plain)
    for column in columns.T:
        one_by_one += weight[column]
    assert torch.equal(plain, one_by_one)


def test_the_jail_sends_the_same_gradient_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from guerdon.agents import encoders

    columns = torch.tensor([[0, 3, 5], [1, 4, 6]])
    start = torch.randn(7, 4)
    found = []
    for confined in (False, True):
        monkeypatch.setattr(encoders, "is_confined", lambda told=confined: told)
        weight = start.clone().requires_grad_()
        total = _gather_sum(columns, weight)
        total.square().sum().backward()
        found.append((total.detach(), weight.grad))
    (total, grad), (same_total, same_grad) = found
    assert torch.equal(total, same_total)
    assert grad is not None
    assert same_grad is not None
    assert torch.equal(grad, same_grad)

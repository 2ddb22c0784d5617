"""Stacked layers against torch's own, row by row."""

import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import nn

from guerdon.agents.networks import Architecture, act, first_weights, forward
from guerdon.types import ActionSpec

HIGH = np.broadcast_to(np.array([10, 5, 3]), (4, 4, 3))
ROWS = 3


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def grids(batch: int, seed: int = 0) -> torch.Tensor:
    rng = np.random.default_rng(seed)
    codes = rng.integers(0, HIGH + 1, size=(ROWS, batch, 4, 4, 3))
    return torch.from_numpy(codes.astype(np.uint8))


def arch(encoder: str, space: spaces.Box, **options: object) -> Architecture:
    return Architecture.of(space, ActionSpec("discrete", 5), encoder, **options)


GRID = spaces.Box(np.zeros_like(HIGH, np.uint8), HIGH.astype(np.uint8), dtype=np.uint8)
VECTOR = spaces.Box(-1.0, 1.0, (6,), np.float32)


def tower(weights: dict[str, torch.Tensor], row: int, *names: str) -> nn.Sequential:
    layers: list[nn.Module] = []
    for name in names:
        weight, bias = weights[f"{name}.weight"][row], weights[f"{name}.bias"][row, 0]
        layer = nn.Linear(*weight.shape)
        layer.weight.data, layer.bias.data = weight.detach().T, bias.detach()
        layers += [layer, nn.Tanh()]
    return nn.Sequential(*layers[:-1])


def test_every_row_is_its_own_pair_of_networks() -> None:
    shape = arch("vector", VECTOR, hidden=(8, 7))
    weights = first_weights(shape, [0, 1, 2])
    obs = torch.randn(ROWS, 4, 6, generator=generator())
    out = forward(shape, weights, obs)
    for row in range(ROWS):
        whole = {name: value.detach() for name, value in weights.items()}
        for side, part in (("actor", 0), ("critic", 1)):
            whole["first.weight"] = weights["first.weight"].detach().chunk(2, 2)[part]
            whole["first.bias"] = weights["first.bias"].detach().chunk(2, 2)[part]
            last = "action" if side == "actor" else "value"
            plain = tower(whole, row, "first", f"{side}1", last)(obs[row])
            ours = out.policy if side == "actor" else out.values
            torch.testing.assert_close(ours[row], plain)


def test_a_grid_and_its_one_hot_vector_say_the_same() -> None:
    shape = arch("one_hot", GRID, hidden=(8, 8))
    weights = first_weights(shape, [0, 0, 1])
    gathered = forward(shape, weights, grids(4))
    product = forward(shape, weights, grids(4), loops=False)
    torch.testing.assert_close(gathered.policy, product.policy)
    torch.testing.assert_close(gathered.values, product.values)


def test_the_convolutions_are_torchs() -> None:
    layers = ((4, 2, 1), (5, 2, 2))
    shape = arch("cnn", GRID, hidden=(6,), conv=layers, shared=True)
    weights = first_weights(shape, [0, 1, 2])
    out = forward(shape, weights, grids(3))
    for row in range(ROWS):
        x = grids(3)[row].float() / torch.from_numpy(HIGH.copy()).float()
        x = x.permute(0, 3, 1, 2)
        for i, (channels, kernel, stride) in enumerate(layers):
            weight = weights[f"conv{i}.weight"][row].T
            weight = weight.reshape(channels, -1, kernel, kernel)
            bias = weights[f"conv{i}.bias"][row, 0]
            x = torch.relu(nn.functional.conv2d(x, weight, bias, stride))
        flat = x.permute(0, 2, 3, 1).flatten(1)
        plain = tower(weights, row, "first", "action")(flat)
        torch.testing.assert_close(out.policy[row], plain)


def test_the_memory_is_torchs_gru_and_is_empty_where_an_episode_starts() -> None:
    steps, sequences, width = 5, 2, 4
    shape = arch("vector", VECTOR, hidden=(3,), shared=True, memory=width)
    weights = first_weights(shape, [0, 1, 2])
    obs = torch.randn(ROWS, steps * sequences, 6, generator=generator())
    state = torch.randn(ROWS, sequences, width, generator=generator())
    starts = torch.zeros(ROWS, steps, sequences, dtype=torch.bool)
    starts[1, 3, 1] = starts[2, 0, 0] = True
    out = forward(shape, weights, obs, state, starts.flatten(1))
    for row in range(ROWS):
        cell = nn.GRUCell(3, width)
        for theirs, ours in (("ih", "input"), ("hh", "hidden")):
            weight = weights[f"memory.{ours}.weight"][row].detach().T
            getattr(cell, f"weight_{theirs}").data = weight
            bias = weights[f"memory.{ours}.bias"][row, 0].detach()
            getattr(cell, f"bias_{theirs}").data = bias
        x = torch.tanh(tower(weights, row, "first")(obs[row]))
        x = x.view(steps, sequences, -1)
        h, policy = state[row], []
        for t in range(steps):
            h = torch.where(starts[row, t][:, None], torch.zeros_like(h), h)
            h = cell(x[t], h)
            policy.append(tower(weights, row, "action")(h))
        torch.testing.assert_close(out.policy[row], torch.cat(policy))
        torch.testing.assert_close(out.state[row], h)


def test_equal_seeds_start_equal_and_orthogonal() -> None:
    shape = arch("vector", VECTOR, hidden=(6, 6))
    weights = first_weights(shape, [4, 5, 4])
    for name, value in weights.items():
        assert torch.equal(value[0], value[2]), name
        if name.endswith(".weight"):
            assert not torch.equal(value[0], value[1]), name
    inner = weights["actor1.weight"][0].detach()
    torch.testing.assert_close(inner.T @ inner, 2 * torch.eye(6))
    first = weights["first.weight"][0].detach()[:, :6]
    torch.testing.assert_close(first.T @ first, 2 * torch.eye(6))
    assert weights["action.weight"][0].norm(dim=0).max() < 0.011
    torch.testing.assert_close(weights["value.weight"][0].norm(), torch.tensor(1.0))


def test_what_cannot_be_read_is_refused() -> None:
    with pytest.raises(ValueError, match="expected a uint8 observation with codes"):
        arch("one_hot", VECTOR)
    with pytest.raises(ValueError, match=r"expected an observation \(height"):
        arch("cnn", VECTOR)
    with pytest.raises(ValueError, match="expected 'tanh' or 'relu', got 'gelu'"):
        arch("vector", VECTOR, activation="gelu")
    with pytest.raises(ValueError, match="needs shared=True"):
        arch("vector", VECTOR, memory=4)
    with pytest.raises(ValueError, match="too much for shape"):
        first_weights(arch("cnn", GRID, conv=((4, 9, 1),)), [0])


def test_without_orthogonal_weights_layers_start_as_torchs_biases_too() -> None:
    shape = arch("vector", VECTOR, hidden=(16, 8), orthogonal=False)
    weights = first_weights(shape, [7])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        first = [nn.Linear(6, 16), nn.Linear(6, 16)]
        rest = {
            name: nn.Linear(*sizes)
            for name, sizes in (
                *(("actor1", (16, 8)), ("critic1", (16, 8))),
                *(("action", (8, 5)), ("value", (8, 1))),
            )
        }
    theirs = {name: [layer] for name, layer in rest.items()} | {"first": first}
    for name, layers in theirs.items():
        weight = torch.cat([layer.weight.T for layer in layers], 1)
        bias = torch.cat([layer.bias for layer in layers])
        assert torch.equal(weights[f"{name}.weight"][0], weight)
        assert torch.equal(weights[f"{name}.bias"][0, 0], bias)


@pytest.mark.parametrize(
    "options",
    [
        {}, {"activation": "relu"}, {"shared": True}, {"hidden": (7,)},
        {"shared": True, "memory": 5},
    ],
)  # fmt: skip
@pytest.mark.parametrize("kind", ["one_hot", "vector", "cnn"])
def test_acting_gives_the_bits_of_the_whole_network(
    kind: str, options: dict[str, object]
) -> None:
    given: dict[str, object] = {"hidden": (24, 12), "conv": ((6, 2, 1),)} | options
    shape = arch(kind, VECTOR if kind == "vector" else GRID, **given)
    weights = first_weights(shape, range(ROWS))
    obs = grids(33)
    if kind == "vector":
        obs = torch.randn(ROWS, 33, 6, generator=generator())
    state = starts = None
    if shape.memory:
        state = torch.randn(ROWS, 33, shape.memory, generator=generator())
        starts = torch.arange(ROWS * 33).view(ROWS, 33) % 3 == 0
    with torch.inference_mode():
        whole = forward(shape, weights, obs, state, starts)
        policy, after = act(shape, weights, obs, state, starts)
    assert torch.equal(policy, whole.policy)
    if shape.memory:
        assert after is not None
        assert whole.state is not None
        assert torch.equal(after, whole.state)
    else:
        assert after is None

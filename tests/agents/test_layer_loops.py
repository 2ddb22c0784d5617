"""The compiled arithmetic of layers."""

import numpy as np
import torch

from guerdon.agents.coding import coding_of
from guerdon.agents.layers import code_layer


def tanh(x: np.ndarray) -> np.ndarray:
    """What a layer without weights makes of its bias."""
    codes, weight = torch.zeros(1, 1, 1, dtype=torch.uint8), torch.zeros(1, 2, len(x))
    bias = torch.from_numpy(x)[None, None]
    (told,) = code_layer(codes, weight, bias, coding_of((1,), (1,)), "tanh")
    return told[0, 0].numpy()


def test_tanh_is_within_some_last_bits_everywhere() -> None:
    small = 10.0 ** np.linspace(-37.0, 1.0, 100_001)
    x = np.concatenate([-small, np.linspace(-12.0, 12.0, 1_000_001), small])
    x = x.astype(np.float32)
    exact = np.tanh(x.astype(np.float64))
    assert (np.abs(tanh(x) - exact) <= 5e-7 * np.abs(exact)).all()


def test_tanh_of_what_is_no_number_is_none() -> None:
    found = tanh(np.array([np.nan, np.inf, -np.inf, 1e30, 0.0], np.float32))
    assert np.isnan(found[0])
    np.testing.assert_allclose(found[1:], [1.0, -1.0, 1.0, 0.0], rtol=5e-7)

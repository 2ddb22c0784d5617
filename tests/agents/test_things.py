"""The compiled arithmetic of the layer that reads codes."""

import numpy as np

from guerdon.agents.things import FAR, _tanh
from guerdon.envs.grid.compiled import compiled


@compiled
def _each(x: np.ndarray, out: np.ndarray) -> None:
    for i in range(len(x)):
        out[i] = _tanh(x[i])


def tanh(x: np.ndarray) -> np.ndarray:
    out = np.empty_like(x)
    _each(x, out)
    return out


def test_tanh_is_within_some_last_bits_everywhere() -> None:
    small = 10.0 ** np.linspace(-37.0, 1.0, 100_001)
    x = np.concatenate([-small, np.linspace(-12.0, 12.0, 1_000_001), small])
    x = x.astype(np.float32)
    exact = np.tanh(x.astype(np.float64))
    assert (np.abs(tanh(x) - exact) <= 5e-7 * np.abs(exact)).all()


def test_tanh_of_what_is_no_number_is_none() -> None:
    x = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, 1e30], np.float32)
    far = tanh(np.array([FAR]))[0]
    np.testing.assert_array_equal(tanh(x), [np.nan, far, -far, 0.0, -0.0, far])

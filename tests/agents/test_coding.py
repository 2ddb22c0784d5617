"""Which rows of a weight are whose, against torch's one-hot rows."""

import numpy as np
import pytest
import torch
from torch import nn

from guerdon.agents.coding import Coding, coding_of, one_hot

HIGH = (10, 5, 3) * 6
"""Of six cells that are alike."""


def plain(codes: torch.Tensor, high: tuple[int, ...]) -> torch.Tensor:
    """All values of the first code, then of the second, and so on."""
    parts = [
        nn.functional.one_hot(codes[..., i].long(), most + 1)
        for i, most in enumerate(high)
    ]
    return torch.cat(parts, -1).float()


@pytest.mark.parametrize(
    ("high", "shape"),
    [(HIGH, (2, 3, 3)), (HIGH, (18,)), ((*HIGH[:-1], 9), (6, 3)), ((3, 3), (2,))],
    ids=["cells", "no cells", "cells that differ", "codes alike"],
)
def test_every_value_of_every_code_has_a_row_of_its_own(
    high: tuple[int, ...], shape: tuple[int, ...]
) -> None:
    coding = coding_of(high, shape)
    count = sum(coding.high) + len(coding.high)
    flat = coding.flat()
    assert sorted(flat) == list(range(count))
    rng = np.random.default_rng(0)
    drawn = rng.integers(0, np.array(coding.high) + 1, (2, 50, len(coding.high)))
    codes = torch.from_numpy(drawn.astype(np.uint8))
    found = one_hot(codes, torch.zeros(2, count, 1), coding)
    assert torch.equal(found[..., flat], plain(codes, coding.high))


def test_the_rows_of_a_value_lie_together_for_all_cells() -> None:
    coding = coding_of(HIGH, (2, 3, 3))
    assert coding.radix == (11, 6, 4)
    rows = coding.flat().reshape(6, 21)
    assert (np.diff(rows, axis=0) == 1).all()


def test_cells_that_differ_are_read_code_by_code() -> None:
    assert coding_of((*HIGH[:-1], 9), (2, 3, 3)).radix == (11,)
    assert coding_of((3, 4), (2,)) == Coding((3, 4), (5,), (0, 4), 1)
    assert coding_of((3, 3), (2,)) == Coding((3, 3), (4,), (0, 1), 2)
    many = (63, 63, 63) * 4  # more combinations than are worth a table
    assert coding_of(many, (4, 3)).radix == (64,)

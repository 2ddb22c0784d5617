from __future__ import annotations

import numpy as np
import pytest
from our_numbers import OurNumbers
from scipy import stats

from guerdon.envs.grid.random import integer, philox, word
from guerdon.envs.grid.state import DRAWS, EPISODE, MARKS

ONES = 0xFFFFFFFF
# The known answers that come with Random123, the authors' library (kat_vectors).
KNOWN = [
    ((0, 0), (0, 0, 0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    (
        (ONES, ONES),
        (ONES, ONES, ONES, ONES),
        (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD),
    ),
    (
        (0xA4093822, 0x299F31D0),
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
]


@pytest.mark.parametrize(("key", "counter", "answer"), KNOWN)
def test_philox_gives_the_known_answers_compiled_and_in_plain_python(
    key: tuple[int, int], counter: tuple[int, ...], answer: tuple[int, ...]
) -> None:
    plain = getattr(philox, "py_func", philox)
    assert plain(*key, *counter) == answer
    assert philox(*key, *counter) == answer


def fresh(episode: int = 0, draws: int = 0) -> np.ndarray:
    state = np.zeros(MARKS, np.int32)
    state[EPISODE], state[DRAWS] = episode, draws
    return state


def drawn(seed: int, bound: int, count: int, episode: int = 0) -> np.ndarray:
    state = fresh(episode)
    return np.array([integer(state, seed, 0, bound) for _ in range(count)])


@pytest.mark.parametrize("bound", [2, 3, 4, 7, 60])
def test_integers_below_a_bound_are_equally_likely(bound: int) -> None:
    counts = np.bincount(drawn(5, bound, 6000), minlength=bound)
    assert stats.chisquare(counts).pvalue > 0.001


def test_a_bound_that_leaves_a_large_rest_is_not_biased_and_draws_again() -> None:
    # Without rejection the lowest third would come up half of the time.
    bound = 3 << 29
    state = fresh()
    thirds = [integer(state, 9, 0, bound) * 3 // bound for _ in range(6000)]
    assert stats.chisquare(np.bincount(thirds)).pvalue > 0.001
    assert 1.25 < state[DRAWS] / 6000 < 1.42  # 4/3


@pytest.mark.parametrize("axis", ["seed", "episode", "draw"])
def test_bits_are_balanced_and_independent_along_every_axis(axis: str) -> None:
    index = range(4096)
    words = {
        "seed": [word(i, 3, 4) for i in index],
        "episode": [word(3, i, 4) for i in index],
        "draw": [word(3, 4, i) for i in index],
    }[axis]
    bits = (np.array(words, np.uint64)[:, None] >> np.arange(32, dtype=np.uint64)) & 1
    ones = bits.sum(axis=0)
    assert stats.chisquare(np.array([ones, 4096 - ones]), axis=0).pvalue.min() > 1e-4
    low = np.array(words) % 16
    pairs = np.bincount(low[:-1] * 16 + low[1:], minlength=256)
    assert stats.chisquare(pairs).pvalue > 0.001


def test_seeds_episodes_and_draws_give_different_words() -> None:
    words = {
        word(s, e, d) for s in (0, 1, 2**32, 2**62) for e in (0, 1) for d in (0, 1)
    }
    assert len(words) == 16


def test_the_oracle_of_the_generators_counts_and_draws_alike() -> None:
    state, oracle = fresh(episode=2), OurNumbers(77, episode=2)
    for bound in (2, 6, 3 << 29, 17, 1, 3 << 29):
        assert integer(state, 77, 5, 5 + bound) == oracle.integers(5, 5 + bound)
        assert state[DRAWS] == oracle.draws

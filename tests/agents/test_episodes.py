"""Episodes found in blocks, against a walk through the steps one by one."""

import numpy as np
import pytest

from guerdon.agents.episodes import EpisodeLog, curve
from guerdon.agents.training import CURVE_POINTS

STEPS, ROWS, ENVS = 7, 2, 3
LANES = ROWS * ENVS


def tables(blocks: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    shape = (blocks, STEPS, LANES)
    rewards = rng.normal(size=shape).astype(np.float32)
    return rewards, rng.random(shape) < 0.3, rng.random(shape), rng.random(shape) < 0.5


def test_the_log_is_that_of_a_walk_through_all_steps() -> None:
    rewards, ended, fitness, success = tables(3)
    log, ids = EpisodeLog(LANES), np.array([4, 9])
    walked = []
    length, proxy = np.zeros(LANES), np.zeros(LANES)
    for b in range(3):
        before = np.array([b, b + 10]) * STEPS * ENVS
        log.add(rewards[b], ended[b], fitness[b], success[b], ids, before)
        for t in range(STEPS):
            for lane in range(LANES):
                length[lane] += 1
                proxy[lane] += rewards[b, t, lane]
                if ended[b, t, lane]:
                    row = lane // ENVS
                    end = before[row] + (t + 1) * ENVS
                    facts = (fitness[b, t, lane], success[b, t, lane])
                    walked.append((ids[row], end, *facts, length[lane], proxy[lane]))
                    length[lane] = proxy[lane] = 0
    np.testing.assert_allclose(log.table.T, np.array(walked), rtol=1e-6)
    np.testing.assert_allclose(log.length, length)
    np.testing.assert_allclose(log.sums[:, 0], proxy, rtol=1e-5)
    assert (np.diff(log.of(9).step) >= 0).all()
    own = np.array([w[2] for w in walked if w[0] == 9 and w[1] > 230])
    np.testing.assert_allclose(log.means([4, 9], 230), [np.nan, own.mean()])


def test_a_block_without_ends_adds_nothing() -> None:
    log = EpisodeLog(LANES)
    zeros = np.zeros((STEPS, LANES))
    none = zeros.astype(bool)
    ended = log.add(zeros, none, zeros, none, np.arange(2), np.zeros(2))
    assert len(ended.row) == 0
    assert (log.length == STEPS).all()
    assert curve(log.of(0), 100, 10).fitness == (None,) * CURVE_POINTS


def test_a_curve_shows_means_of_its_span() -> None:
    log = EpisodeLog(1)
    ended = np.zeros((100, 1), np.bool_)
    ended[4::5] = True
    fitness = np.arange(100.0)[:, None]
    log.add(np.ones((100, 1)), ended, fitness, ended, np.array([0]), np.array([0]))
    shown = curve(log.of(0), 100, 10)
    assert shown.steps == tuple(range(5, 101, 5))
    assert shown.episodes == (1,) * CURVE_POINTS
    assert shown.fitness[0] is None  # the span is not full yet
    assert shown.fitness[1] == pytest.approx((4 + 9) / 2)
    assert shown.fitness[-1] == pytest.approx((94 + 99) / 2)
    assert shown.length[-1] == shown.proxy[-1] == 5.0

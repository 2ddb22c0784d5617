from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from guerdon.agents.evaluate import load_episodes, save_episodes
from guerdon.reward_design.search import Bank, collect
from guerdon.types import Episode
from tests.agents.countdown_task import HORIZON
from tests.agents.countdown_task import TASK as COUNTDOWN
from tests.reward_design.search.small import TASK, episode, small_task

SOLVED = episode([0, 1, 2], [0, 1], terminated=True)
FAILED = episode([0, -1], [0])
CUT = episode([5, 6, 7], [0, 0], cut=True)
BANK = Bank.of(TASK, [SOLVED, FAILED, CUT])


def test_scores_come_from_the_task_where_the_episode_holds_none() -> None:
    assert BANK.fitness[:2] == (1.0, 0.0)
    assert np.isnan(BANK.fitness[2])
    assert BANK.failed.tolist() == [False, True, False]


def test_scores_that_the_environment_gave_are_kept() -> None:
    # A saved episode has lost what this task computes its score from.
    task = small_task(fitness=lambda e: float(e.info["lost"]), success=lambda e: 1 / 0)
    saved = replace(FAILED, info={"fitness": 0.25, "success": True})
    more = [saved]
    bank = Bank.of(task, more) + more
    assert bank.fitness == (0.25, 0.25)
    assert bank.failed.tolist() == [False, False]


def test_transitions_know_their_episode_and_their_time() -> None:
    assert BANK.size == 5
    assert BANK.index.tolist() == [0, 0, 1, 2, 2]
    assert BANK.time.tolist() == [0, 1, 0, 0, 1]


def test_the_batch_is_one_stream_with_true_successors() -> None:
    batch = BANK.batch
    assert batch.prev["x"][:, 0].tolist() == [0, 1, 0, 5, 6]
    assert batch.now["x"][:, 0].tolist() == [1, 2, -1, 6, 7]
    assert batch.reward[:, 0].tolist() == [0, 1, 0, 0, 0]


def test_only_a_solved_end_terminates_and_a_cut_counts_as_truncated() -> None:
    batch = BANK.batch
    assert batch.terminated[:, 0].tolist() == [False, True, False, False, False]
    assert batch.truncated[:, 0].tolist() == [False, False, True, False, True]


def test_adding_episodes_keeps_the_old_bank_as_it_was() -> None:
    more = [SOLVED]
    larger = BANK + more
    assert (BANK.size, larger.size) == (5, 7)
    assert larger.fitness[-1] == 1.0
    assert larger.index.tolist() == [0, 0, 1, 2, 2, 3, 3]


def test_a_bank_without_episodes_or_with_a_missing_score_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one episode"):
        Bank.of(TASK, [])
    with pytest.raises(ValueError, match="one fitness for each of 1 episodes, got 2"):
        Bank(TASK, (SOLVED,), (1.0, 2.0))


def test_collecting_takes_exactly_the_steps_and_cuts_only_the_last_episode() -> None:
    bank = collect(COUNTDOWN, steps=100, seed=1)
    assert bank.size == 100
    whole = bank.episodes[:-1]
    assert all(e.terminated or e.truncated for e in whole)
    # The true score of a countdown is minus its length.
    assert bank.fitness[:-1] == tuple(-float(e.length) for e in whole)
    assert all(e.length <= HORIZON for e in whole)


def test_an_episode_that_is_cut_has_no_score() -> None:
    steps = 100
    while True:
        bank = collect(COUNTDOWN, steps=steps, seed=1)
        last = bank.episodes[-1]
        if not (last.terminated or last.truncated):
            break
        steps += 1
    assert np.isnan(bank.fitness[-1])
    assert not bank.failed[-1]


def test_the_same_seed_collects_the_same_bank_and_another_one_does_not() -> None:
    one, two, other = (collect(COUNTDOWN, steps=60, seed=s) for s in (3, 3, 4))
    assert np.array_equal(one.batch.now.rows, two.batch.now.rows)
    assert np.array_equal(one.batch.action, two.batch.action)
    assert not np.array_equal(one.batch.action, other.batch.action)


def test_every_second_episode_repeats_its_actions_more_often() -> None:
    bank = collect(COUNTDOWN, steps=4000, seed=0)
    same: list[list[bool]] = [[], []]
    for place, one in enumerate(bank.episodes):
        same[place % 2] += (one.action[1:] == one.action[:-1]).tolist()
    # Two actions: 1/2 by chance, and .8 + .2 / 2 with the sticky policy.
    assert np.mean(same[0]) == pytest.approx(0.5, abs=0.04)
    assert np.mean(same[1]) == pytest.approx(0.9, abs=0.04)


def test_a_saved_bank_comes_back_the_same(tmp_path: Path) -> None:
    bank = collect(COUNTDOWN, steps=50)
    save_episodes(tmp_path / "bank.npz", bank.episodes)
    again = Bank.of(COUNTDOWN, load_episodes(tmp_path / "bank.npz", COUNTDOWN))
    for name in ("action", "reward", "terminated", "truncated"):
        ours, theirs = getattr(bank.batch, name), getattr(again.batch, name)
        assert ours.dtype == theirs.dtype
        assert np.array_equal(ours, theirs)
    assert np.array_equal(bank.batch.prev.rows, again.batch.prev.rows)
    assert np.array_equal(bank.fitness, again.fitness, equal_nan=True)
    assert np.array_equal(bank.failed, again.failed)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_scores_and_rewards_that_are_no_numbers_are_refused_by_task_and_value(
    value: float,
) -> None:
    lost = replace(FAILED, info={"fitness": value, "success": False})
    with pytest.raises(ValueError, match=rf"Small-v0: the fitness .* 1 is {value}"):
        Bank.of(TASK, [SOLVED, lost])
    unpaid = replace(SOLVED, reward=np.array([0.0, value]), info={"fitness": 0.0})
    with pytest.raises(ValueError, match=rf"step 2 of logged episode 0 is {value}"):
        Bank.of(TASK, [unpaid])


def test_an_endless_score_is_refused_where_an_episode_was_cut_short_too() -> None:
    with pytest.raises(ValueError, match="is inf"):
        Bank(TASK, (CUT,), (np.inf,))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_fitness_that_random_play_shows_to_be_no_number_is_refused(
    value: float,
) -> None:
    task = replace(COUNTDOWN, fitness=lambda episode: value)
    with pytest.raises(ValueError, match=f"Countdown: the fitness .* is {value}"):
        collect(task, steps=100)


def _divides(episode: Episode) -> float:
    return 1.0 / (episode.length - episode.length)


def test_a_fitness_that_raises_is_named_with_its_line() -> None:
    task = replace(COUNTDOWN, fitness=_divides)
    with pytest.raises(
        ValueError,
        match=r"ZeroDivisionError: .* \(test_bank\.py:\d+, _divides\)",
    ):
        collect(task, steps=100)


def test_too_little_memory_for_random_play_is_not_the_task_s_fault() -> None:
    def greedy(episode: Episode) -> float:
        raise MemoryError("cannot hold that")

    with pytest.raises(OSError, match=r"out of memory .*run the same command again"):
        collect(replace(COUNTDOWN, fitness=greedy), steps=100)

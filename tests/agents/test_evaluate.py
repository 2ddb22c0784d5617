import errno
from pathlib import Path
from typing import Any

import countdown_task
import gymnasium as gym
import numpy as np
import pytest
from countdown_task import HORIZON, TASK, first_number

from guerdon.agents import evaluate as module
from guerdon.agents.environments import EnvSlots, LaneSlots, NonFinite, make_slots
from guerdon.agents.evaluate import evaluate, load_episodes, save_episodes
from guerdon.envs.table import TASKS


class Always:
    """Takes the same action everywhere."""

    def __init__(self, action: int) -> None:
        self.action = action
        self.batches: list[int] = []

    def predict(
        self, observations: np.ndarray, *, deterministic: bool, rng: np.random.Generator
    ) -> np.ndarray:
        self.batches.append(len(observations))
        return np.full(len(observations), self.action)


class Coin:
    """Tosses a coin for every environment."""

    def predict(
        self, observations: np.ndarray, *, deterministic: bool, rng: np.random.Generator
    ) -> np.ndarray:
        return rng.integers(2, size=len(observations))


@pytest.mark.parametrize("slots", [1, 3, 64])
def test_every_episode_counts_once_however_many_play_together(
    monkeypatch: pytest.MonkeyPatch, slots: int
) -> None:
    monkeypatch.setattr(module, "SLOTS", slots)
    result = evaluate(TASK, Always(1), episodes=10, seed=5)
    lengths = tuple(first_number(5 + i) for i in range(10))
    assert len(set(lengths)) > 3
    assert result.length == lengths
    assert result.fitness == tuple(-float(n) for n in lengths)
    assert result.success == (True,) * 10
    assert result.steps == sum(lengths)


class Dice:
    """Throws a die for every environment, and keeps what it saw."""

    def __init__(self) -> None:
        self.seen: list[np.ndarray] = []

    def predict(
        self, observations: np.ndarray, *, deterministic: bool, rng: np.random.Generator
    ) -> np.ndarray:
        self.seen.append(observations.copy())
        return rng.choice([0, 1, 2, 2, 2], size=len(observations))


def test_lanes_of_an_engine_play_what_single_environments_play(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    task = TASKS["guerdon/LavaGapS5-v0"]
    assert type(make_slots(task, 2)) is LaneSlots
    assert type(make_slots(TASKS["guerdon/CartPole-v1"], 2)) is EnvSlots
    monkeypatch.setattr(module, "SLOTS", 3)
    found, dice = [], []
    for slots in (LaneSlots, EnvSlots):
        monkeypatch.setattr(module, "make_slots", slots)
        dice.append(Dice())
        found.append(evaluate(task, dice[-1], episodes=25, seed=4, record=5))
    ours, theirs = found
    assert ours.fitness == theirs.fitness
    assert ours.success == theirs.success
    assert ours.length == theirs.length
    assert len(set(ours.fitness)) > 2
    for a, b in zip(ours.episodes, theirs.episodes, strict=True):
        np.testing.assert_array_equal(a.features, b.features)
        np.testing.assert_array_equal(a.reward, b.reward)
        np.testing.assert_array_equal(a.action, b.action)
        assert (a.terminated, a.truncated, a.info) == (
            b.terminated,
            b.truncated,
            b.info,
        )
    for one, other in zip(dice[0].seen, dice[1].seen, strict=True):
        np.testing.assert_array_equal(one, other)


def test_finished_episodes_leave_the_batch() -> None:
    policy = Always(1)
    evaluate(TASK, policy, episodes=10, seed=5)
    lengths = [first_number(5 + i) for i in range(10)]
    alive = [sum(n > t for n in lengths) for t in range(max(lengths))]
    assert policy.batches == alive


def test_an_episode_that_is_cut_at_the_horizon_is_no_success() -> None:
    result = evaluate(TASK, Always(0), episodes=3, seed=0)
    assert result.length == (HORIZON,) * 3
    assert result.success_rate == 0.0
    assert result.mean_fitness == -HORIZON


def test_cartpole_agrees_with_a_loop_over_gymnasium() -> None:
    expected = []
    env = gym.make("CartPole-v1")
    for i in range(6):
        env.reset(seed=100 + i)
        steps, over = 0, False
        while not over:
            _, _, terminated, truncated, _ = env.step(1)
            steps, over = steps + 1, terminated or truncated
        expected.append(steps)
    env.close()
    result = evaluate(TASKS["guerdon/CartPole-v1"], Always(1), episodes=6, seed=100)
    assert result.length == tuple(expected)


def test_the_same_seed_gives_the_same_draws() -> None:
    one, two, other = (
        evaluate(TASK, Coin(), episodes=8, seed=seed).length for seed in (1, 1, 2)
    )
    assert one == two
    assert one != other


def test_recorded_episodes_survive_a_file(tmp_path: Path) -> None:
    result = evaluate(TASK, Always(1), episodes=4, seed=5, record=2)
    starts = [first_number(5), first_number(6)]
    for episode, start in zip(result.episodes, starts, strict=True):
        assert episode.features[:, 0].tolist() == list(range(start, -1, -1))
        assert episode.reward.tolist() == [-1.0] * start
        assert episode.terminated
        assert not episode.truncated
    path = tmp_path / "episodes.npz"
    save_episodes(path, result.episodes)
    assert [p.name for p in tmp_path.iterdir()] == ["episodes.npz"]
    for ours, read in zip(result.episodes, load_episodes(path, TASK), strict=True):
        for name in ("features", "action", "reward"):
            np.testing.assert_array_equal(getattr(ours, name), getattr(read, name))
        assert (ours.terminated, ours.truncated) == (read.terminated, read.truncated)
        assert ours.info == read.info


def test_recordings_of_another_task_are_rejected(tmp_path: Path) -> None:
    result = evaluate(TASK, Always(1), episodes=1, seed=5, record=1)
    save_episodes(tmp_path / "x.npz", result.episodes)
    with pytest.raises(ValueError, match="feature columns for guerdon/CartPole-v1"):
        load_episodes(tmp_path / "x.npz", TASKS["guerdon/CartPole-v1"])


def test_no_episodes_cannot_be_saved(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="at least one episode"):
        save_episodes(tmp_path / "x.npz", ())


@pytest.mark.parametrize(("episodes", "seed"), [(0, 0), (1, -1)])
def test_counts_and_seeds_out_of_range_are_rejected(episodes: int, seed: int) -> None:
    with pytest.raises(ValueError, match=r"(episodes|seed): expected at least"):
        evaluate(TASK, Always(1), episodes=episodes, seed=seed)


def test_a_score_that_is_not_finite_is_an_error() -> None:
    with pytest.raises(ValueError, match="the fitness of evaluation episode 0 is nan"):
        evaluate(countdown_task.NAN_FITNESS, Always(1), episodes=2, seed=0)


def test_a_reward_of_the_environment_that_is_not_finite_is_an_error() -> None:
    with pytest.raises(NonFinite, match=r"step 3 of evaluation episode [01] is nan"):
        evaluate(countdown_task.NAN_REWARD, Always(0), episodes=2, seed=0)


@pytest.mark.parametrize("values", [{"episodes": 1.5}, {"seed": True}])
def test_counts_that_are_no_whole_numbers_are_rejected(values: dict[str, Any]) -> None:
    with pytest.raises(TypeError, match="expected a whole number"):
        evaluate(TASK, Always(1), **{"episodes": 1, "seed": 0} | values)


@pytest.mark.parametrize("size", [0, 40, 300])
def test_a_damaged_recording_is_named(tmp_path: Path, size: int) -> None:
    result = evaluate(TASK, Always(1), episodes=1, seed=5, record=1)
    file = tmp_path / "x.npz"
    save_episodes(file, result.episodes)
    file.write_bytes(file.read_bytes()[:size])
    with pytest.raises(ValueError, match=r"x\.npz: expected recorded episodes"):
        load_episodes(file, TASK)


def test_a_recording_that_finds_no_room_names_its_file_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(file: Any, **_: object) -> None:
        file.write(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    result = evaluate(TASK, Always(1), episodes=1, seed=5, record=1)
    monkeypatch.setattr(np, "savez_compressed", full)
    with pytest.raises(OSError, match="No space left") as caught:
        save_episodes(tmp_path / "x.npz", result.episodes)
    assert caught.value.filename == str(tmp_path / "x.npz")
    assert list(tmp_path.iterdir()) == []

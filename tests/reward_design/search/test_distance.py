import numpy as np
import pytest

from guerdon.reward_design.language import Tree, compile_tree
from guerdon.reward_design.language.edit import fingerprint, mutate
from guerdon.reward_design.language.sample import sample
from guerdon.reward_design.search import Bank, distance
from guerdon.reward_design.search.distance import (
    TOLERANCE,
    canonicalised,
    deduplicate,
    distances,
)
from tests.reward_design.search.small import (
    ACTION,
    LAYOUT,
    TASK,
    episode,
    program,
    random_bank,
)

BANK = random_bank()
NEAR = "exp(-abs(now.x - prev.speed)) + 0.5 * now.open"
SHAPING = "0.9 * (now.x * now.x + 2.0 * now.carrying) - (prev.x * prev.x + 2.0 * {0})"
SHAPING = SHAPING.format("prev.carrying")


def drawn(count: int, seed: int = 0) -> list[Tree]:
    rng = np.random.default_rng(seed)
    found: list[Tree] = []
    while len(found) < count:
        tree = sample(LAYOUT, ACTION, rng)
        found += [tree, mutate(tree, rng).tree]
    return found[:count]


def test_a_scaled_shaped_and_shifted_copy_has_distance_zero() -> None:
    copies = [
        program(NEAR),
        program(f"3.0 * ({NEAR})"),
        program(NEAR, SHAPING),
        program(f"0.2 * ({NEAR})", f"-2.0 * ({SHAPING})", "0.75"),
    ]
    found = distances(copies, BANK, discount=0.9)
    np.testing.assert_allclose(found, 0.0, atol=1e-5)
    # Another discount is another potential, so that one makes a difference.
    assert distances(copies[1:3], BANK, discount=0.5)[0, 1] > 0.01


def test_the_opposite_has_distance_one() -> None:
    found = distances([program(NEAR), program(f"-0.5 * ({NEAR})", SHAPING)], BANK, 0.9)
    np.testing.assert_allclose(found, [[0, 1], [1, 0]], atol=1e-5)


def test_distances_are_those_of_the_definition() -> None:
    trees = drawn(6, seed=1)
    trees = [tree for tree in trees if not tree.uses_registers][:4]
    batch, coverage = BANK.batch, distance._Coverage(BANK)
    discount = 0.9

    def reward(tree: Tree, prev: np.ndarray, action: np.ndarray, now: np.ndarray):
        weights = tuple(value for _, value in tree.params)
        rows = (prev.tolist(), action.reshape(-1).tolist(), now.tolist())
        return sum(compile_tree(tree).scalar(*rows, weights))

    def mean(tree: Tree, x: np.ndarray) -> float:
        pairs = zip(coverage.actions, coverage.successors[:, 0], strict=True)
        return float(np.mean([reward(tree, x, a, s) for a, s in pairs]))

    rows = []
    for tree in trees:
        expected = [
            reward(tree, s[0], a, n[0]) + discount * mean(tree, n[0]) - mean(tree, s[0])
            for s, a, n in zip(
                batch.prev.rows, batch.action, batch.now.rows, strict=True
            )
        ]
        rows.append(expected)
    found = distances(trees, BANK, discount)
    correlation = np.clip(np.corrcoef(rows), -1, 1)
    np.testing.assert_allclose(found, np.sqrt((1 - correlation) / 2), atol=1e-5)


def test_the_distance_is_a_metric() -> None:
    found = distances(drawn(40), BANK)
    assert ((found >= 0) & (found <= 1)).all()
    np.testing.assert_array_equal(found, found.T)
    np.testing.assert_array_equal(np.diag(found), 0.0)
    # Over every third one: the way round is never shorter.
    assert (found[:, None, :] <= found[:, :, None] + found[None, :, :] + 1e-9).all()


def test_a_reward_of_which_nothing_is_left_is_half_way_to_all_others() -> None:
    trees = [program(SHAPING), program("0.0 * now.x"), program(NEAR)]
    found = distances(trees, BANK, 0.9)
    expected = np.array([[0, 0, 0.5], [0, 0, 0.5], [0.5, 0.5, 0]])
    np.testing.assert_allclose(found, expected, atol=1e-9)


def test_what_is_remembered_counts_as_logged() -> None:
    seen = [
        episode([0, 1, 1, 2], [0, 0, 0], open=[0, 1, 1, 1]),
        episode([0, 2, 1, 1], [0, 0, 0], open=[0, 0, 1, 1]),
    ]
    bank = Bank.of(TASK, seen)
    trees = [program("first_time(now.open)"), program("now.open and not prev.open")]
    trees += [program("now.open")]
    rows = canonicalised(trees, bank)
    # The first time: 1 0 0 0 1 0, and its mean over draws is the same everywhere.
    expected = np.array([1, 0, 0, 0, 1, 0]) - 1 / 3
    np.testing.assert_allclose(rows[0], expected / np.linalg.norm(expected))
    assert distances(trees, bank)[0, 2] > 0.1


def test_copies_are_found_by_form_and_by_distance_and_the_first_is_kept() -> None:
    trees = [
        program("now.x", "now.open"),
        program("now.open", "now.x"),  # the same form
        program("2.0 * now.x + 2.0 * now.open", SHAPING),  # the same reward
        program("-1.0 * now.x", "-1.0 * now.open"),
        program("now.speed"),
        program("now.speed + 0.002 * now.x"),  # near it
        program("0.5 * now.x + 0.5 * now.open"),
    ]
    assert deduplicate(trees, BANK, 0.9) == [0, 0, 0, 3, 4, 5, 0]
    assert deduplicate(trees, BANK, 0.9, tolerance=0.01) == [0, 0, 0, 3, 4, 4, 0]


def test_rewards_that_never_fire_are_not_the_same_by_distance() -> None:
    quiet = Bank.of(TASK, [episode([0, 1, 2, 1], [0, 0, 0])])
    trees = [program("now.open"), program("now.carrying"), program("0.0 + now.open")]
    assert deduplicate(trees, quiet) == [0, 1, 0]


def test_what_is_not_finite_has_no_distance_and_no_copies() -> None:
    bad = Bank.of(TASK, [episode([0, np.nan, 1], [0, 0]), episode([0, 1], [0])])
    trees = [program("now.x"), program("2.0 * now.x")]
    assert np.isnan(distances(trees, bad)).all()
    assert deduplicate(trees, bad) == [0, 1]


def test_large_sets_are_compared_in_parts_with_the_same_result(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    trees = drawn(60, seed=3)
    trees += [program(f"0.3 * ({NEAR})"), program(NEAR)]
    expected = deduplicate(trees, BANK)
    close = distances(trees, BANK) <= TOLERANCE
    for i, j in enumerate(expected):
        same = fingerprint(trees[i]) == fingerprint(trees[j])
        assert i == j or close[i, j] or same
    assert expected[61] == 60
    monkeypatch.setattr(distance, "_BLOCK", 7)
    monkeypatch.setattr(distance, "TOGETHER", 5)
    assert deduplicate(trees, BANK) == expected


def test_a_large_bank_is_thinned_and_its_events_stay() -> None:
    opened = np.zeros(4001)
    opened[2000:2002] = 1.0
    long = episode(np.linspace(0, 1, 4001).tolist(), [0.0] * 4000, open=opened.tolist())
    chosen = distance._chosen(Bank.of(TASK, [long]).batch)
    assert len(chosen) == distance.SAMPLES == len(set(chosen.tolist()))
    assert {1999, 2001} <= set(chosen.tolist())
    assert np.diff(chosen).max() <= 5

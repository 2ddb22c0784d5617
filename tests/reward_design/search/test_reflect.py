import pytest

from guerdon.reward_design.search.reflect import diagnoses, statistics, term_shares

CURVE = {
    "fitness": [None, 0.0, 0.25, 0.5, 0.75, 1.0, 1.0],
    "length": [None, 12.0, 12.0, 10.0, 8.0, 6.0, 4.0],
}
TERMS = {
    "task": [None, 0.0, 0.0, 0.5, 1.0, 1.0, 1.0],
    "gain": [None, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0],
}


def test_the_statistics_of_a_good_training_read_word_for_word() -> None:
    # Six windows are thinned to five points: the first is a mean of two.
    assert statistics(0.9375, 0.875, CURVE, TERMS, best=0.5) == (
        "- true score after training: 0.938; solved 88%\n"
        "- best true score of any program so far: 0.5\n"
        "- true score during training: 0.125 0.5 0.75 1 1\n"
        "- episode length during training: 12 10 8 6 4\n"
        "- term task, sum per episode: 0 0.5 1 1 1 (37% of the reward)\n"
        "- term gain, sum per episode: 1 1 1 1 1 (63% of the reward)"
    )


def test_a_training_in_which_no_episode_ended_says_so() -> None:
    curve = {"fitness": [None, None], "length": [None, None]}
    assert statistics(0.0, 0.0, curve, {"gain": [None, None]}) == (
        "- true score after training: 0; solved 0%\n"
        "- true score during training: no finished episode\n"
        "- episode length during training: no finished episode\n"
        "- term gain, sum per episode: no finished episode (0% of the reward)\n"
        "- the terms do not lead to the goal: reward an earlier step"
    )


def test_shares_are_of_magnitudes_and_windows_without_episodes_do_not_count() -> None:
    shares = term_shares({"a": [None, 1.0, -3.0], "b": [-2.0, None, -2.0]})
    assert shares == {"a": 0.5, "b": 0.5}
    assert term_shares({"a": [0.0], "b": [None]}) == {"a": 0.0, "b": 0.0}


def found(success: float, **terms: list[float]) -> list[str]:
    return diagnoses(success, term_shares(terms), terms)


def test_a_term_that_never_fired_is_named() -> None:
    (words,) = found(1.0, task=[1.0], key=[0.0, 0.0])
    assert words.startswith("key never fired")


def test_a_term_that_drowns_the_others_is_named_only_while_unsolved() -> None:
    terms = {"task": [0.1], "big": [100.0]}
    assert found(0.2, **terms) == ["big drowns the others: make it smaller"]
    assert found(0.6, **terms) == []


def test_a_single_term_cannot_drown_others() -> None:
    (words,) = found(0.0, task=[0.0], only=[1.0, 1.0])
    assert words.startswith("the terms do not lead to the goal")


def test_a_term_that_grows_while_the_task_stays_unsolved_is_collected() -> None:
    terms = {"task": [1.0, 1.0], "near": [1.0, 5.0]}
    (words,) = found(0.05, **terms)
    assert words.startswith("near grows while the task stays unsolved")
    assert found(0.5, **terms) == []


def test_the_own_reward_of_the_task_is_never_blamed() -> None:
    assert found(0.5, task=[0.0, 0.0]) == []


@pytest.mark.parametrize("success", [0.1, 1.0])
def test_a_training_that_solves_the_task_gets_no_advice(success: float) -> None:
    assert found(success, task=[0.5], gain=[0.4]) == []

import numpy as np
import pytest

from guerdon.reward_design.search import Bandit


def test_before_any_payoff_every_arm_is_expected_to_pay_a_half() -> None:
    assert Bandit(["a", "b"]).means() == {"a": 0.5, "b": 0.5}


def test_without_discount_the_mean_is_that_of_the_beta_posterior() -> None:
    bandit = Bandit(["a", "b"], discount=1.0)
    for payoff in (1.0, 0.5, 0.25):
        bandit.update("a", payoff)
    # Beta(1 + 1.75, 1 + 1.25) has the mean 2.75 / 5.
    assert bandit.means() == {"a": pytest.approx(2.75 / 5), "b": 0.5}


def test_old_evidence_fades_with_the_discount() -> None:
    bandit = Bandit(["a"], discount=0.5)
    bandit.update("a", 1.0)
    bandit.update("a", 0.0)
    # wins 1 + .5 * 1, losses 1 + .5 * 0 + 1.
    assert (bandit.wins["a"], bandit.losses["a"]) == (1.5, 2.0)
    bandit.update("a", 1.0)
    assert (bandit.wins["a"], bandit.losses["a"]) == (2.25, 1.5)


def test_other_arms_keep_their_evidence() -> None:
    bandit = Bandit(["a", "b"], discount=0.5)
    bandit.update("b", 1.0)
    bandit.update("a", 0.0)
    assert bandit.means()["b"] == pytest.approx(2 / 3)


def test_the_better_arm_is_chosen_mostly_and_the_worse_one_sometimes() -> None:
    bandit = Bandit(["bad", "good"], discount=1.0)
    for _ in range(3):
        bandit.update("good", 1.0)
        bandit.update("bad", 0.0)
    rng = np.random.default_rng(0)
    share = np.mean([bandit.choose(rng) == "good" for _ in range(2000)])
    # P(X > Y) for Beta(4, 1) and Beta(1, 4): 1 - P(Y > X) = 1 - 1/70.
    assert share == pytest.approx(1 - 1 / 70, abs=0.01)
    assert share < 1.0


def test_only_allowed_arms_are_chosen() -> None:
    bandit = Bandit(["a", "b", "c"])
    rng = np.random.default_rng(0)
    assert {bandit.choose(rng, ["b"]) for _ in range(20)} == {"b"}


def test_the_same_generator_chooses_the_same_arms() -> None:
    bandit = Bandit(["a", "b", "c"])
    runs = [
        [bandit.choose(rng) for _ in range(20)]
        for rng in (np.random.default_rng(5), np.random.default_rng(5))
    ]
    assert runs[0] == runs[1]


@pytest.mark.parametrize("payoff", [-0.1, 1.1, float("nan")])
def test_a_payoff_outside_the_unit_interval_is_refused(payoff: float) -> None:
    with pytest.raises(ValueError, match=r"payoff in \[0, 1\]"):
        Bandit(["a"]).update("a", payoff)


def test_a_bandit_without_arms_or_with_a_wrong_discount_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one arm"):
        Bandit([])
    with pytest.raises(ValueError, match=r"discount in \(0, 1\], got 0"):
        Bandit(["a"], discount=0.0)

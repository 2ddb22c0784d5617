"""Texts of full Python that are no rewards, loaded without a jail: they do no harm."""

from __future__ import annotations

import pytest

from guerdon.reward_design.full_python import BadReward, full_python_terms
from tests.reward_design.toy import toy_task

TASK = toy_task()
GOOD = "def reward(prev, action, now, params):\n    return {'a': now.x}\n"


@pytest.mark.parametrize(
    "text",
    [
        f"import math\nraise SystemExit\n{GOOD}",
        f"import sys\nsys.exit(3)\n{GOOD}",
        "def reward(prev, action, now, params):\n    raise SystemExit(0)\n",
    ],
)
def test_a_reward_that_ends_the_program_is_told_in_one_line_with_its_own(
    text: str,
) -> None:
    with pytest.raises(BadReward) as error:
        full_python_terms(text, TASK.layout, TASK.action, unsafe=True)
    assert str(error.value) == (
        "line 2: the reward ends the program (SystemExit); let it give terms"
    )

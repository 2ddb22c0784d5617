"""How fast the language refuses the hostile programs, measured."""

from __future__ import annotations

import time
from typing import Any

from guerdon.envs import load_task
from guerdon.reward_design.language import Rejected, parse
from tests.adversarial.programs import CATEGORIES


def rejections() -> dict[str, Any]:
    """Read every hostile program once, and time those that are refused.

    Returns:
        ``{"programs": {letter: count}, "refused": {letter: count}, "without_line":
        count, "worst_seconds": float, "worst": name}``: the programs by category, how
        many of them the language refuses while it reads them (the others are harmless
        or tell nothing), how many refusals name no line, and the processor seconds and
        the name of the slowest refusal. JSON as it is.
    """
    task = load_task("guerdon/CartPole-v1")
    refused = dict.fromkeys(CATEGORIES, 0)
    without_line = 0
    worst = (0.0, "")
    for letter, programs in CATEGORIES.items():
        for one in programs:
            began = time.process_time()
            try:
                parse(one.source, task.layout, task.action)
            except Rejected as error:
                worst = max(worst, (time.process_time() - began, one.name))
                refused[letter] += 1
                without_line += error.failure.line is None
    return {
        "programs": {letter: len(found) for letter, found in CATEGORIES.items()},
        "refused": refused,
        "without_line": without_line,
        "worst_seconds": worst[0],
        "worst": worst[1],
    }

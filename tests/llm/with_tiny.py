"""Runs ``guerdon`` with the tiny model among the embedded ones.

``python -m tests.llm.with_tiny FOLDER search guerdon/CartPole-v1 --llm embedded:tiny``
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from guerdon.cli import main
from guerdon.envs import load_task
from guerdon.llm.prompt import render
from guerdon.llm.weights import MODELS, Weights
from guerdon.reward_design.language.describe import feature_table, half_page
from tests.llm.tiny_gguf import NAME, write_tiny

CARTPOLE = "guerdon/CartPole-v1"
DOORKEY = "guerdon/DoorKey-6x6-v0"


def write_for_tasks(folder: Path) -> Weights:
    """The tiny model, with a vocabulary for what a search asks."""
    tasks = [load_task(name) for name in (CARTPOLE, DOORKEY)]
    page = render("system", language=half_page(tasks[0].action))
    return write_tiny(folder, [page, *(feature_table(t.layout) for t in tasks)])


def run(folder: Path, words: list[str]) -> int:
    """One command of the command line."""
    folder.mkdir(exist_ok=True)
    assert isinstance(MODELS, dict)
    MODELS[NAME] = write_for_tasks(folder)
    os.environ["GUERDON_MODEL_DIR"] = str(folder)
    return int(main(words) or 0)


if __name__ == "__main__":
    sys.exit(run(Path(sys.argv[1]), sys.argv[2:]))

"""The only place where all rooms meet: task, model, search and agent make a run.

A run is a folder with a journal. Everything that costs time or money goes into the
journal when it is done, under the hash of what was asked; the loop simply runs again
after an interruption and finds what it needs there. So a run that was killed goes on
with the next thing that was not finished, and a finished one is only read.
"""

from guerdon.run.config import Observer, Resources, RunConfig, cores
from guerdon.run.search import run_search
from guerdon.run.single import evaluate_policy, train_one

__all__ = [
    "Observer",
    "Resources",
    "RunConfig",
    "cores",
    "evaluate_policy",
    "run_search",
    "train_one",
]

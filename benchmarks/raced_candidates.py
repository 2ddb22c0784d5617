"""Our side of ``fast_search``: a race of candidates, as a whole program.

python -m benchmarks.raced_candidates full|halving CANDIDATES BUDGET
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import Any

from benchmarks.trainers import Workers, candidates, job, policies
from guerdon.reward_design.search.race import Race


def drive(race: Race, sources: Sequence[str], seed: int) -> dict[str, Any]:
    """Race candidates; the last score of each, None for one that failed."""
    names = {str(i): source for i, source in enumerate(sources)}
    for name in names:
        race.enter(name)
    race.close()
    with Workers() as workers:
        while legs := race.ask(len(sources)):
            for start, stop in dict.fromkeys((leg.start, leg.stop) for leg in legs):
                group = [leg for leg in legs if (leg.start, leg.stop) == (start, stop)]
                jobs = [job(names[g.name], stop, race.budget, seed) for g in group]
                for leg, found in zip(group, workers.train(jobs, start), strict=True):
                    if found is None:
                        race.fail(leg.name)
                    else:
                        race.tell(leg.name, stop, found)
    best = race.best()
    last = [r.latest.mean() if r.scores else None for r in race.runners.values()]
    return {
        "fitness": [None if one is None else float(one) for one in last],
        "winner": best.name if best else None,
        "steps": race.spent,
    }


def main(policy: str, count: int, budget: int) -> None:
    """Race and print what came of it."""
    made, _ = policies(budget, count)["full" if policy == "full" else "halving, eta 2"]
    print(json.dumps(drive(made(), candidates(count), 0)))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))

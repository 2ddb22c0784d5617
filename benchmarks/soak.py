"""Two hundred struck runs, searches with a model server that fails, hostile programs.

    python -m benchmarks.soak [POINTS] [--seed N] [--out FOLDER]

Every point kills the controller, a worker or the model server of a small search at a
seeded moment, or fills its disk; then the run goes on and is compared with the
undisturbed one. In a third of the searches candidates race; some more train indeed. A
search with failing calls must account for every one of them, and no hostile program may
leave a trace or change a score. What was found is written down however it ends; the
exit status is 1 unless all of it is as claimed.
"""

from __future__ import annotations

import argparse
import signal
import sys
from functools import partial
from typing import Any


def main() -> None:
    # Imported here, since every worker imports this file's top level too.
    from benchmarks.harness import keep, parsed
    from benchmarks.soak_rows import (
        REAL_POINTS,
        SHARES,
        attack,
        fail,
        strike,
        told,
        wanting,
    )
    from tests.soak.points import points, real_points

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("points", nargs="?", type=int, default=200, help="how many")
    parser.add_argument("--seed", type=int, default=0)
    asked = parsed(parser)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    shares = {f"{share:.0%} of calls fail": share for share in SHARES}
    names = [*shares, "hostile programs", "kill points", "kill points, real trainings"]
    rows: dict[str, dict[str, Any]] = {}
    try:
        for name, share in shares.items():
            told(rows, name, partial(fail, share, asked.seed))
        told(rows, names[-3], attack)
        fakes = points(asked.points, asked.seed)
        told(rows, names[-2], partial(strike, rows, names[-2], fakes))
        real = real_points(1 if asked.quick else REAL_POINTS, asked.seed)
        told(rows, names[-1], partial(strike, rows, names[-1], real, real=True))
    finally:
        verdict = wanting(rows, names)
        keep("soak", "make soak", {**rows, "not as claimed": verdict}, asked.out)
    for words in verdict:
        print(f"not as claimed: {words}", file=sys.stderr)
    if verdict:
        raise SystemExit(1)


if __name__ == "__main__":
    main()

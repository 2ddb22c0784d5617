"""How many steps racing needs to pick a reward as good as the full-budget winner.

Claim: 2.5 times fewer. All candidates are trained once to the end under 20 seeds, and
judged on the way wherever a policy could want to stop; the policies
(``guerdon/reward_design/search/race.py``) then race on that table, a seed a race. How
good a candidate is, is its mean final score under the 19 other seeds; no worse is at
most MARGIN below what training all of them would have picked, and must hold for ENOUGH
of the seeds. The table is kept in ``fast_racing.csv``, and a cut run goes on where it
was.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("NUMBA_NUM_THREADS", "1")

import numpy as np
from scipy import stats

from benchmarks.harness import keep, median_row, parsed
from benchmarks.ranks import agreement
from benchmarks.records import Records
from benchmarks.trainers import (
    BLOCK,
    BUDGET,
    TASK,
    Workers,
    candidates,
    job,
    policies,
)
from guerdon.reward_design.search.race import Halving, Race
from guerdon.reward_design.search.race_bandits import D3RB, UCB

MARGIN = 0.02
"""Of the true score, set before anything was measured: 8 steps of an episode's 360."""
ENOUGH = 0.8
"""Share of seeds in which a policy must pick one no worse; set beforehand too."""
COLUMNS = ("task", "budget", "seed", "candidate", "steps", "fitness", "scores")


WHOLE = "whole"
"""In the place of a candidate: the seed was recorded for so many, as its steps say."""


def stops(budget: int, count: int) -> list[int]:
    """Wherever a policy could want to know the score."""
    found = {budget}
    for make, _ in policies(budget, count).values():
        race = make()
        if isinstance(race, Halving):
            found |= {*race.rungs}
        elif isinstance(race, UCB | D3RB):
            found |= {*range(race.leg, budget, race.leg)}
    return sorted(found)


def record_seed(
    workers: Workers, sources: Sequence[str], budget: int, seed: int
) -> list[dict[str, Any]]:
    """Train all candidates under one seed, with a score at every stop."""
    rows: list[dict[str, Any]] = []
    start, going = 0, dict(enumerate(sources))
    for stop in stops(budget, len(sources)):
        jobs = [job(source, stop, budget, seed) for source in going.values()]
        found = dict(zip(list(going), workers.train(jobs, start), strict=True))
        for place, scores in found.items():
            if scores is None:
                del going[place]
                continue
            row = {"candidate": place, "steps": stop, "fitness": float(scores.mean())}
            rows.append(row | {"scores": " ".join(f"{score:.4g}" for score in scores)})
        start = stop
    return rows


def record(records: Records, count: int, budget: int, seeds: int) -> None:
    """Fill the table."""
    sources = candidates(count)
    with Workers() as workers:
        for seed in range(seeds):
            if is_whole(records, count, budget, seed):
                continue
            who = {"task": TASK, "budget": budget, "seed": seed}
            found = record_seed(workers, sources, budget, seed)
            mark = {"candidate": WHOLE, "steps": count, "fitness": 0.0, "scores": ""}
            records.add(*(who | row for row in [*found, mark]))
            print(f"recorded seed {seed}", flush=True)


def is_whole(records: Records, count: int, budget: int, seed: int) -> bool:
    """Whether a seed was recorded to its end; a cut write may have left a part."""
    if records.has(TASK, budget, seed, WHOLE, count):
        return True
    rows = sum(map(len, table_of(records, budget, seed, count).values()))
    return rows == count * len(stops(budget, count))  # nobody failed


Table = dict[str, dict[int, np.ndarray]]
"""Scores of a seed by candidate and steps."""


def table_of(records: Records, budget: int, seed: int, count: int) -> Table:
    """What was recorded."""
    table: Table = {str(i): {} for i in range(count)}
    for row in records.of(TASK, budget, seed):
        if row["candidate"] in table:
            scores = np.array([float(text) for text in row["scores"].split()])
            table[row["candidate"]][int(row["steps"])] = scores
    return table


def replay(race: Race, free: int, table: Table, order: Sequence[str]) -> Race:
    """Let a policy race on the table."""
    for name in order:
        race.enter(name)
    race.close()
    while legs := race.ask(free):
        for leg in legs:
            scores = table[leg.name].get(leg.stop)
            if scores is None:
                race.fail(leg.name)
            else:
                race.tell(leg.name, leg.stop, scores)
    return race


def racing_rows(
    records: Records, count: int, budget: int, seeds: int
) -> dict[str, dict[str, Any]]:
    """Every policy on every seed."""
    tables = [table_of(records, budget, seed, count) for seed in range(seeds)]
    final = np.array(
        [
            [t[str(i)][budget].mean() if budget in t[str(i)] else -1.0 for t in tables]
            for i in range(count)
        ]
    )
    spent: dict[str, list[int]] = {}
    picks: dict[str, list[int | None]] = {}
    for seed, table in enumerate(tables):
        order = np.random.default_rng([seed, 5]).permutation(count).astype(str)
        for name, (make, free) in policies(budget, count).items():
            race = replay(make(), free, table, order.tolist())
            best = race.best()
            spent.setdefault(name, []).append(race.spent)
            chosen = None if best is None else int(best.name)
            picks.setdefault(name, []).append(chosen)
    rows = {}
    for name in picks:
        rows[name] = _policy_row(name, final, spent, picks)
    return rows


def _policy_row(
    name: str,
    final: np.ndarray,
    spent: dict[str, list[int]],
    picks: dict[str, list[int | None]],
) -> dict[str, Any]:
    """One policy over all seeds."""
    seeds = final.shape[1]
    others = (final.sum(1, keepdims=True) - final) / max(1, seeds - 1)
    regrets, fine = [], 0
    for seed in range(seeds):
        good = others[:, seed]
        own, full = (_score(good, picks[who][seed]) for who in (name, "full"))
        regrets.append(float(good.max() - own))
        fine += picks[name][seed] is not None and own >= full - MARGIN
    share = stats.binomtest(fine, seeds).proportion_ci()
    whole, own_steps = np.array(spent["full"]), np.array(spent[name])
    known = (whole > 0) & (own_steps > 0)  # where everybody failed, there is no ratio
    fewer = whole[known] / own_steps[known]
    return {
        **(median_row(fewer, "times fewer steps") if known.any() else {}),
        "no worse than full": fine,
        "holds": fine >= ENOUGH * seeds,
        "seeds": seeds,
        "share": [fine / seeds, float(share.low), float(share.high)],
        "regret": float(np.mean(regrets)),
        "nothing chosen": sum(pick is None for pick in picks[name]),
        "regret of full": float(
            np.mean(
                [
                    others[:, seed].max() - _score(others[:, seed], pick)
                    for seed, pick in enumerate(picks["full"])
                ]
            )
        ),
        "margin": MARGIN,
    }


def _score(good: np.ndarray, pick: int | None) -> float:
    """Of what was chosen; nothing is worth nothing, so its regret is the best score."""
    return 0.0 if pick is None else float(good[pick])


def own_agreement(records: Records, count: int, budget: int, seeds: int) -> list[float]:
    """Rank correlation of our final scores between seeds: what noise leaves."""
    scores = [
        [
            table_of(records, budget, seed, count)[str(i)].get(budget)
            for i in range(count)
        ]
        for seed in range(seeds)
    ]
    means = [[None if s is None else s.mean() for s in row] for row in scores]
    found = [
        agreement(means[i], means[j])["spearman"]
        for i in range(seeds)
        for j in range(i)
    ]
    return [one for one in found if one is not None]


def main() -> None:
    """Record, race and keep."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--candidates", type=int, default=16)
    options.add_argument("--budget", type=int, default=BUDGET)
    options.add_argument("--seeds", type=int, default=20)
    given = parsed(options)
    if given.quick:
        given.candidates, given.seeds, given.budget = 4, 2, 8 * BLOCK
    count, budget, seeds = given.candidates, given.budget, given.seeds
    records = Records(given.out / "fast_racing.csv", COLUMNS, key=5)
    record(records, count, budget, seeds)
    rows: dict[str, Any] = racing_rows(records, count, budget, seeds)
    between = own_agreement(records, count, budget, seeds)
    rows["ranking agreement, ours under two seeds"] = {
        "mean spearman": float(np.mean(between)) if between else None
    }
    command = "python -m benchmarks.fast_racing"
    keep("fast_racing", command, rows, given.out, timed=False)


if __name__ == "__main__":
    main()

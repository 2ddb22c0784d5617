"""Candidates a minute, raced and not, beside a loop of one subprocess a candidate.

Claims: a list of candidates is trained and judged at least ten times as fast as by an
Eureka-style loop (``eureka_candidate.py``: SB3 on MiniGrid, two processes at a time,
same hyper-parameters and steps), and 25 times as fast where the candidates race
(``raced_candidates.py``). Both sides are whole programs from their start to their
answer, imports included, on two cores. Before the clock starts both pay the same
rewards on the same steps, bit for bit.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("NUMBA_NUM_THREADS", "1")

import numpy as np

from benchmarks.harness import keep, parsed, ratio_row, turns
from benchmarks.ranks import agreement
from benchmarks.trainers import BLOCK, BUDGET, TASK, candidates


def ours(policy: str, count: int, budget: int) -> dict[str, Any]:
    """A whole program of ours, from its start to its answer."""
    command = [sys.executable, "-m", "benchmarks.raced_candidates", policy]
    command += [str(count), str(budget)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def eureka(count: int, budget: int) -> dict[str, Any]:
    """The loop: one process a candidate, two at a time."""
    command = [sys.executable, "-m", "benchmarks.eureka_candidate"]
    command += [TASK, str(budget), "0"]
    waiting = list(enumerate(candidates(count)))
    running: dict[int, subprocess.Popen[str]] = {}
    fitness: list[float | None] = [None] * count
    while waiting or running:
        while waiting and len(running) < 2:
            place, source = waiting.pop(0)
            pipe = subprocess.PIPE
            child = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True)
            assert child.stdin is not None
            child.stdin.write(source)
            child.stdin.close()
            running[place] = child
        for place, child in list(running.items()):
            if child.poll() is not None:
                if child.returncode:
                    raise RuntimeError(f"candidate {place}: {child.returncode}")
                assert child.stdout is not None
                fitness[place] = json.loads(child.stdout.read())["fitness"]
                child.stdout.close()
                del running[place]
        time.sleep(0.01)
    return {"fitness": fitness}


def check_rewards(sources: Sequence[str], steps: int = 64) -> int:
    """Both sides pay the same on the same steps; how many rewards were compared."""
    from benchmarks.eureka_candidate import environments, minigrid_task
    from guerdon.agents.row_rewards import ProgramRewards
    from guerdon.reward_design.adapters.sb3 import RewardVecEnv
    from guerdon.reward_design.reference import reward_for
    from guerdon.types import Batch, Features

    task, envs = minigrid_task(TASK), 4
    actions = np.random.default_rng(0).integers(0, 7, (steps, envs))
    for source in sources:
        venv = RewardVecEnv(environments(task, envs), reward_for(task, source))
        venv.seed(0)
        venv.reset()
        prev, now, paid, own, ends = [], [], [], [], []
        row = np.stack([info["features"] for info in venv.reset_infos])
        for action in actions:
            prev.append(row)
            _, rewards, dones, infos = venv.step(action)
            now.append(np.stack([info["features"] for info in infos]))
            paid.append(rewards)
            own.append([info["reward_env"] for info in infos])
            cut = [info.get("TimeLimit.truncated", False) for info in infos]
            ends.append((dones & ~np.array(cut), np.array(cut)))
            row = now[-1].copy()
            for lane in np.flatnonzero(dones):
                row[lane] = venv.reset_infos[lane]["features"]
        terminated, truncated = (np.stack(flags) for flags in zip(*ends, strict=True))
        batch = Batch(
            obs=None,
            action=actions,
            next_obs=None,
            prev=Features(task.layout, np.stack(prev)),
            now=Features(task.layout, np.stack(now)),
            reward=np.array(own, np.float32),
            terminated=terminated,
            truncated=truncated,
        )
        block = ProgramRewards(task, [source], "sparse", envs)(batch)
        np.testing.assert_array_equal(block[:, 0], np.stack(paid))
        venv.close()
    return len(sources) * steps * envs


def minute_rows(count: int, budget: int, pairs: int) -> dict[str, Any]:
    """Candidates a minute of the loop, of ours, and of ours with racing."""
    answers: dict[str, dict[str, Any]] = {}
    compared = check_rewards(candidates(count))

    def side(name: str, run: Callable[[], dict[str, Any]]) -> Callable[[], None]:
        def timed() -> None:
            answers[name] = run()

        return timed

    sides = {
        "loop": side("loop", lambda: eureka(count, budget)),
        "full": side("full", lambda: ours("full", count, budget)),
        "halving": side("halving", lambda: ours("halving", count, budget)),
    }
    sides["full"]()  # the compiled kernels are on disk then, as they stay for a user
    found = turns(sides, pairs, warm=False)
    rows: dict[str, Any] = {"rewards compared": compared}
    for name, what in (("full", "all trained"), ("halving", "racing")):
        row = ratio_row(found[name], found["loop"])
        row["ours, candidates/min"] = 60 * count / row["first_seconds"]
        row["theirs, candidates/min"] = 60 * count / row["second_seconds"]
        row["steps of ours"] = answers[name]["steps"]
        rows[f"{what}: Eureka-style loop / ours"] = row
    rows["ranking agreement, loop and ours"] = agreement(
        answers["loop"]["fitness"], answers["full"]["fitness"]
    )
    raced = answers["halving"]
    rows["racing picked"] = {
        "candidate": raced["winner"],
        "its rank in the loop's scores": rank_of(
            raced["winner"], answers["loop"]["fitness"]
        ),
        "its rank in our full scores": rank_of(
            raced["winner"], answers["full"]["fitness"]
        ),
    }
    return rows


def rank_of(winner: str | None, scores: Sequence[float | None]) -> int | None:
    """1 for the best; None when nobody won."""
    if winner is None:
        return None
    known = [-np.inf if one is None else one for one in scores]
    return 1 + sum(one > known[int(winner)] for one in known)


def main() -> None:
    """Measure and keep."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--pairs", type=int, default=7)
    options.add_argument("--candidates", type=int, default=16)
    options.add_argument("--budget", type=int, default=BUDGET)
    given = parsed(options)
    if given.quick:
        given.pairs, given.candidates, given.budget = 1, 2, 2 * BLOCK
    rows = minute_rows(given.candidates, given.budget, given.pairs)
    keep("fast_search", "python -m benchmarks.fast_search", rows, given.out)


if __name__ == "__main__":
    main()

"""Trainings whose reward is full Python: learning in the jail, judging outside.

    prepare   in the jail's server's child, before the jail is shut: trusted code
    learn     inside: the reward's text runs, an agent learns
    judge     in a worker of ours that has never seen the text: the true score

Between the last two lies a file that nobody vouches for: numbers for a network whose
shape we know, and claims about the curve, which are shown and never decide anything.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from guerdon.agents.allocator import keep_freed_memory
from guerdon.agents.claims import Claims, claim_name, join, split, write_claims
from guerdon.agents.curve import Progress
from guerdon.agents.policies import claimed_policy, policy_bytes
from guerdon.agents.recipes import recipe_for
from guerdon.agents.sb3 import Fitted, fit, judge, own_randomness
from guerdon.agents.training import Outcome, TrainingJob, not_finite, outcome_to_json
from guerdon.agents.vector import NonFinite, make_vec_env
from guerdon.envs.table import load_task
from guerdon.faults import blame, machine_fault
from guerdon.reward_design.full_python import BadReward
from guerdon.reward_design.reference import full_python_reward_for
from guerdon.types import Failure


def prepare(payload: str) -> Callable[[Progress], list[bytes]]:
    """Make the environments while files may be read; what is returned learns.

    Args:
        payload: JSON of a job whose trust is ``"jail"``.
    """
    keep_freed_memory()
    return _prepared(TrainingJob.from_json(payload))


def learn_job(payload: bytes, folder: Path, progress: Progress) -> bytes:
    """The same in a worker that is not confined, for ``--trust none``."""
    job = TrainingJob.from_json(payload)
    (folder / claim_name(job)).write_bytes(join(_prepared(job)(progress)))
    return json.dumps({"learned": job.key}).encode()


def _prepared(job: TrainingJob) -> Callable[[Progress], list[bytes]]:
    torch.set_num_threads(1)
    task = load_task(job.task)
    recipe = recipe_for(task, job.algo).without_memory()
    base = make_vec_env(task, recipe)
    # What an environment loads late, it loads at its first steps; so does an engine
    # its compiled code, for which there is no memory to run in once the jail is shut.
    base.seed(job.seed)
    base.reset()
    base.step(np.array([base.action_space.sample() for _ in range(recipe.n_envs)]))

    def learn(progress: Progress) -> list[bytes]:
        unsafe = job.trust == "none"
        try:
            program = full_python_reward_for(task, job.reward, job.base, unsafe=unsafe)
            with own_randomness():
                fitted = fit(job, task, recipe, program, base, progress)
        except NonFinite as error:
            return [write_claims(Failure("non_finite", str(error)))]
        except BadReward as error:
            return [write_claims(Failure("crashed", str(error)))]
        except Exception as error:
            if machine_fault(error, None) is not None:
                raise
            return [write_claims(Failure("crashed", _words(error, unsafe)))]
        claims = Claims(fitted.curve, fitted.proxy, fitted.seconds)
        return [write_claims(claims), policy_bytes(fitted.policy, job, recipe)]

    return learn


def _words(error: Exception, unsafe: bool) -> str:
    """What the task or a library raised while an agent learned."""
    if unsafe:
        return blame(error)
    words = f"in the jail: {blame(error)}"
    if isinstance(error, PermissionError):
        words += (
            "; files that a task needs must be read when its environment is made or "
            "first reset: the jail is shut then"
        )
    return words


def judge_job(payload: bytes, folder: Path, progress: Progress) -> bytes:
    """The true score of what a confined training left, for a worker process."""
    job = TrainingJob.from_json(payload)
    return outcome_to_json(judge_claim(job, folder)).encode()


def judge_claim(job: TrainingJob, folder: Path) -> Outcome:
    """Read a claim as the hostile file that it may be, and evaluate its network.

    Args:
        job: the training that left it.
        folder: where the claim is and where weights and episodes go.

    Raises:
        OSError: for what the machine could not do.
    """
    wall, cpu = time.perf_counter(), time.process_time()
    torch.set_num_threads(1)
    claim = folder / claim_name(job)
    try:
        task = load_task(job.task)
        recipe = recipe_for(task, job.algo).without_memory()
        claims, weights = split(claim.read_bytes())
        if isinstance(claims, Failure):
            return claims
        fitted = Fitted(
            claimed_policy(weights, task, recipe),
            claims.curve,
            claims.proxy,
            recipe.whole_steps(job.steps),
            claims.seconds,
        )
        # What learning took is claimed as well; it is shown and decides nothing.
        wall, cpu = wall - claims.seconds, cpu - claims.seconds
        with own_randomness():
            found = judge(job, task, recipe, fitted, folder, wall=wall, cpu=cpu)
        return not_finite(found) or found
    except NonFinite as error:
        return Failure("non_finite", str(error))
    except ValueError as error:
        return Failure("crashed", f"what came out of the jail: {error}")
    except Exception as error:
        fault = machine_fault(error, folder)
        if fault is not None:
            raise fault from error
        return Failure("crashed", blame(error))
    finally:
        claim.unlink(missing_ok=True)

"""Rewards in full Python: learned in the jail, judged where their text never ran."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save

from guerdon.agents.claims import (
    Claims,
    claim_name,
    claim_of,
    join,
    read_claims,
    split,
    write_claims,
)
from guerdon.agents.jailed import judge_claim
from guerdon.agents.policies import claimed_policy, policy_bytes
from guerdon.agents.recipes import recipe_for
from guerdon.agents.sb3 import train
from guerdon.agents.training import (
    CURVE_POINTS,
    Curve,
    TrainingJob,
    TrainingResult,
)
from guerdon.agents.workers import WorkerPool
from guerdon.envs import load_task
from guerdon.jail import Answer
from guerdon.types import Failure

linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the jail")

CARTPOLE = load_task("guerdon/CartPole-v1")
TEXT = """
def reward(prev, action, now, params):
    return {"upright": 1.0 - np.square(now.pole_angle)}
"""


def job(text: str = TEXT, trust: str = "jail", **changes: object) -> TrainingJob:
    values = {"base": "none", "steps": 256, "eval_episodes": 3, "seed": 0} | changes
    return TrainingJob("guerdon/CartPole-v1", text, trust=trust, **values)


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WorkerPool]:
    with WorkerPool(1, 60.0, tmp_path_factory.mktemp("jobs")) as pool:
        yield pool


def run(pool: WorkerPool, one: TrainingJob) -> object:
    pool.submit(one)
    ((_, outcome),) = pool.as_completed(timeout=60)
    return outcome


@linux
def test_a_reward_in_full_python_is_learned_in_the_jail_and_judged_outside(
    pool: WorkerPool,
) -> None:
    one = job()
    found = run(pool, one)
    assert isinstance(found, TrainingResult), found
    assert found.steps == 256
    assert len(found.fitness) == 3
    assert set(found.curve.terms) == {"upright"}
    folder = pool._folder
    names = sorted(path.name for path in folder.iterdir())
    assert names == [f"{one.key}.npz", f"{one.key}.safetensors"]


@linux
def test_the_same_network_is_judged_alike_inside_the_language_and_out(
    pool: WorkerPool,
) -> None:
    language = """
def reward(prev, action, now, params):
    return {"upright": 1.0 - square(now.pole_angle)}
"""
    inside = run(pool, job(steps=32))
    outside = train(job(language, "language", steps=32))
    assert isinstance(inside, TrainingResult)
    assert isinstance(outside, TrainingResult)
    assert inside.fitness == outside.fitness


@linux
@pytest.mark.parametrize(
    ("text", "kind", "words"),
    [
        ("import os\nos.fork()", "crashed", "SIGSYS"),
        ("open('/etc/passwd')", "crashed", "line 1: PermissionError"),
        ("def reward(p, a, n, w):\n    return 1", "crashed", "a dictionary of terms"),
        ("def reward(p, a, n, w):\n    return {'a': n.height}", "crashed", "line 2"),
        (
            "def reward(p, a, n, w):\n    return {'a': n.pole_angle / 0.0 * 0.0}",
            "non_finite",
            "'a'",
        ),
        ("x = 1 +", "crashed", "line 1: SyntaxError"),
        ("import os\nos._exit(0)", "crashed", "without an answer"),
        ("raise SystemExit", "crashed", "SystemExit"),
    ],
    ids=["fork", "file", "number", "feature", "nan", "syntax", "exit", "SystemExit"],
)
def test_a_bad_reward_is_the_failure_of_its_candidate(
    pool: WorkerPool, text: str, kind: str, words: str
) -> None:
    found = run(pool, job(text))
    assert isinstance(found, Failure)
    assert found.kind == kind
    assert words in found.reason


FORGED = """
import gc, json, os, sys
from guerdon.jail import zygote
from guerdon.agents import jailed

# The reward forges the whole answer: perfect claims, and the weights of nobody.
curve = dict(steps=[1] * 20, episodes=[1] * 20, fitness=[500.0] * 20,
             success=[1.0] * 20, proxy=[500.0] * 20, length=[500.0] * 20, terms={})
text = json.dumps({"curve": curve, "proxy": 500.0, "seconds": 0.0}).encode()
for out in range(3, 64):
    try:
        zygote._send(out, b"R", text)
        zygote._send(out, b"R", b"no weights")
        os._exit(0)
    except OSError:
        pass
"""


@linux
def test_a_forged_answer_changes_no_score(pool: WorkerPool) -> None:
    found = run(pool, job(FORGED))
    assert isinstance(found, Failure), found
    assert "no safetensors" in found.reason


TAMPERING = """
import gc
from guerdon.agents import evaluate, sb3
from guerdon.envs.task import TaskEnv

def cheat(self, info, terminated, truncated):
    self._over = True
    info["fitness"], info["success"] = 1e6, True

TaskEnv._finish = cheat
evaluate.evaluate = sb3.evaluate = None

def reward(prev, action, now, params):
    return {"a": now.pole_angle}
"""


@linux
def test_changing_the_environment_from_inside_changes_no_score(
    pool: WorkerPool,
) -> None:
    found = run(pool, job(TAMPERING))
    assert isinstance(found, TrainingResult), found
    assert max(found.fitness) <= 500.0
    # What the job says about itself is shown, and stays what it is: a claim.
    assert max(f for f in found.curve.fitness if f is not None) == 1e6


def test_without_the_jail_another_process_judges(pool: WorkerPool) -> None:
    found = run(pool, job(TAMPERING, "none"))
    assert isinstance(found, TrainingResult), found
    assert max(found.fitness) <= 500.0


def test_full_python_is_refused_where_nothing_confines_it() -> None:
    from guerdon.reward_design.reference import full_python_reward_for

    with pytest.raises(PermissionError, match="--trust jail"):
        full_python_reward_for(CARTPOLE, TEXT)


# --- claims ----------------------------------------------------------------------


def curve() -> Curve:
    column = (1.0,) * CURVE_POINTS
    counts = (1,) * CURVE_POINTS
    return Curve(counts, counts, column, column, column, column, {"a": column})


def test_claims_come_back_as_they_were_written() -> None:
    claims = Claims(curve(), 1.5, 2.0)
    data = join([write_claims(claims), b"weights"])
    assert split(data) == (claims, b"weights")
    failure = Failure("non_finite", "why")
    assert split(join([write_claims(failure)])) == (failure, b"")


def changed(**changes: object) -> bytes:
    values = json.loads(write_claims(Claims(curve(), 1.5, 2.0)))
    values["curve"] |= changes
    return json.dumps(values).encode()


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"[]",
        b"{}",
        b"null",
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"failure": 1}',
        b'{"failure": ["a"]}',
        changed(fitness=[1.0]),
        changed(fitness=[float("nan")] * 20),
        changed(fitness=[10**400] * 20),
        changed(fitness=["1"] * 20),
        changed(fitness=[True] * 20),
        changed(fitness="x" * 20),
        changed(terms=[]),
        changed(terms={"<script>": [1.0] * 20}),
        changed(terms={"a" * 1000: [1.0] * 20}),
        changed(terms={f"a{i}": [1.0] * 20 for i in range(1000)}),
        changed(steps=None),
    ],
)
def test_claims_that_nobody_of_ours_would_write_are_refused(text: bytes) -> None:
    with pytest.raises(ValueError, match="claims that cannot be read"):
        read_claims(text)


def test_an_answer_of_too_many_parts_or_too_many_words_is_no_training() -> None:
    for parts in ((b"", b"", b""), (b"x" * (2 << 20), b"")):
        found = claim_of(Answer(parts, 0, None, False, "", 0.0))
        assert isinstance(found, Failure)


def trained(folder: Path) -> tuple[TrainingJob, dict[str, torch.Tensor]]:
    from safetensors.torch import load_file

    one = job(trust="language", text="sparse", steps=32)
    found = train(one, folder=folder)
    assert isinstance(found, TrainingResult)
    return one, load_file(folder / str(found.weights))


def test_weights_are_numbers_for_a_network_that_we_know(tmp_path: Path) -> None:
    one, tensors = trained(tmp_path)
    recipe = recipe_for(CARTPOLE, None)
    policy = claimed_policy(save(tensors), CARTPOLE, recipe)
    again = claimed_policy(policy_bytes(policy, one, recipe), CARTPOLE, recipe)
    observations = np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32)
    for each in (policy, again):
        rng = np.random.default_rng(0)
        actions = each.predict(observations, deterministic=True, rng=rng)
        assert actions.shape == (5,)

    name = next(iter(tensors))
    hostile = {
        "a missing tensor": {k: v for k, v in tensors.items() if k != name},
        "another one": tensors | {"network.other": torch.zeros(1)},
        "another shape": tensors | {name: torch.zeros(3, 3)},
        "another type": tensors | {name: tensors[name].double()},
        "not a number": tensors | {name: tensors[name] * torch.nan},
        "too large": tensors | {"x": torch.zeros(1 << 20)},
    }
    for values in hostile.values():
        with pytest.raises(ValueError, match="weights"):
            claimed_policy(save(values), CARTPOLE, recipe)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff" * 8,
        (1 << 40).to_bytes(8, "little") + b"{}",
        (2).to_bytes(8, "little") + b"{}",
        (100).to_bytes(8, "little") + b'{"a":{"dtype":"F32","shape":[1',
        (64).to_bytes(8, "little")
        + b'{"a":{"dtype":"F32","shape":[9999999],"data_offsets":[0,4]}}'.ljust(64)
        + bytes(4),
        b"\x80\x04cposix\nsystem\n",
    ],
    ids=["none", "huge", "long", "empty", "torn", "shape", "pickle"],
)
def test_headers_of_weights_may_say_what_they_like(data: bytes, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="weights"):
        claimed_policy(data, CARTPOLE, recipe_for(CARTPOLE, None))
    one = job()
    claims = write_claims(Claims(curve(), 1.0, 1.0))
    (tmp_path / claim_name(one)).write_bytes(join([claims, data]))
    found = judge_claim(one, tmp_path)
    assert isinstance(found, Failure)
    assert "what came out of the jail" in found.reason
    assert list(tmp_path.iterdir()) == []


@linux
def test_a_grid_is_learned_in_the_jail_where_nothing_compiles_itself(
    pool: WorkerPool,
) -> None:
    text = "def reward(p, a, n, w):\n    return {'x': 0.01 * np.sort(n.agent_x)}"
    one = TrainingJob("guerdon/Empty-8x8-v0", text, 64, 0, trust="jail")
    found = run(pool, one)
    assert isinstance(found, TrainingResult), found

"""Every hostile program against the language: refused in its line, or harmless."""

from __future__ import annotations

import builtins
import math
import os
import sys
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest

from guerdon.envs import load_task
from guerdon.reward_design.language import Rejected, compile_tree, parse, terms
from guerdon.reward_design.program import CLAMP, program
from guerdon.reward_design.search import collect, screen
from guerdon.types import Batch, Failure, FailureKind, Features, Spec
from tests.adversarial.hostile import CONSTANT, Hostile
from tests.adversarial.programs import ALL, CATEGORIES
from tests.adversarial.rejections import rejections

TASK = load_task("guerdon/CartPole-v1")
ACCEPTED = [one for one in ALL if not one.refused]
STEPS = 40

MOST_CALLS = 400_000
"""Calls and returns of Python functions while a program is read, printed and run."""

MOST_BYTES = 8 << 20
"""Memory that reading, printing and running a program may take at any moment."""

INTERPRETERS = {"unicodedata", "warnings"}
"""What Python's parser and its warnings look up by themselves; loaded long before."""

MOST_SECONDS = 2.0
"""Processor seconds of a refusal; the slowest takes a small part of it."""


def by_name(one: Hostile) -> str:
    return one.name


def rows() -> np.ndarray:
    """Feature rows with ordinary and with extreme numbers, which may be written to."""
    rng = np.random.default_rng(0)
    found = rng.normal(size=(STEPS + 1, TASK.layout.width)) * 2.0
    extreme = [0.0, -0.0, 1e-45, -1e-30, 1e30, -3e38, 3e38, math.pi, -0.2, 1.0]
    for step, number in enumerate(extreme):
        found[2 * step] = number
    upright = TASK.layout.columns("upright")
    found[:, upright] = rng.random((STEPS + 1, 1)) < 0.5
    return found.astype(np.float32)


def batch(features: np.ndarray) -> Batch:
    layout = TASK.layout
    ends = np.zeros((STEPS, 1), np.bool_)
    ends[STEPS // 2] = True
    return Batch(
        obs=None,
        action=np.arange(STEPS)[:, None] % 2,
        next_obs=None,
        prev=Features(layout, features[:-1, None]),
        now=Features(layout, features[1:, None]),
        reward=np.ones((STEPS, 1)),
        terminated=ends,
        truncated=np.zeros((STEPS, 1), np.bool_),
    )


SPEC = Spec(TASK.layout, TASK.action, (1,))


def outcome(text: str, given: Batch) -> tuple[Any, Any] | Failure:
    """Rewards and terms of a program on a batch, or why there are none."""
    try:
        design = program(terms(text, TASK.layout, TASK.action))
    except Rejected as error:
        return error.failure
    with np.errstate(all="ignore"):
        designed, _ = design.apply(design.init(SPEC), given)
    return designed.reward, designed.terms


class Watch:
    """Notes what a program makes this process do."""

    def __init__(self) -> None:
        self.imported: list[str] = []
        self.opened: list[str] = []
        self.calls = 0

    def count(self, frame: Any, event: str, argument: Any) -> None:
        self.calls += 1


def _environment() -> dict[str, str]:
    """All variables but the one in which pytest says what it does."""
    return {k: v for k, v in os.environ.items() if k != "PYTEST_CURRENT_TEST"}


@pytest.fixture
def watched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Watch]:
    """An empty working folder; nothing is imported, opened or changed in the test."""
    harmless = "def reward(prev, action, now, params):\n    return {'a': now.upright}\n"
    for values in outcome(harmless, batch(rows())):
        # What is loaded late is loaded, also by the test's own comparing.
        assert np.isfinite(values).all()
        assert np.abs(values).max() <= CLAMP
    monkeypatch.chdir(tmp_path)
    watch = Watch()
    really_import, really_open = builtins.__import__, builtins.open

    def note_import(name: str, *args: Any, **kwargs: Any) -> Any:
        importer = str((args[0] or {}).get("__name__")) if args else ""
        # The test runner's plugins import between the test and the teardown.
        if not importer.startswith(("_pytest", "_hypothesis_pytestplugin", "xdist")):
            watch.imported.append(name)
        return really_import(name, *args, **kwargs)

    def note_open(file: Any, *args: Any, **kwargs: Any) -> Any:
        watch.opened.append(str(file))
        return really_open(file, *args, **kwargs)

    environment, modules = _environment(), set(sys.modules)
    names = dict(vars(builtins))
    # By hand: monkeypatch itself imports something.
    builtins.__import__, builtins.open = note_import, note_open
    try:
        yield watch
    finally:
        builtins.__import__, builtins.open = really_import, really_open
    assert list(tmp_path.iterdir()) == []
    assert _environment() == environment
    assert set(sys.modules) == modules
    assert dict(vars(builtins)) == names
    assert set(watch.imported) <= INTERPRETERS
    assert watch.opened == []


def test_there_are_enough_programs_and_each_stands_once() -> None:
    assert len(ALL) >= 130
    assert len({one.source for one in ALL}) == len({one.name for one in ALL})
    assert len({one.source for one in ALL}) == len(ALL)
    for letter, found in CATEGORIES.items():
        assert len(found) >= 12
        assert {one.category for one in found} == {letter}


@pytest.mark.parametrize("one", ALL, ids=by_name)
def test_a_program_has_the_outcome_that_was_foreseen_and_no_other_effect(
    one: Hostile, watched: Watch
) -> None:
    features = rows()
    given = batch(features)
    before = features.tobytes(), given.action.tobytes()
    tracemalloc.start()
    sys.setprofile(watched.count)
    try:
        found = outcome(one.source, given)
    finally:
        sys.setprofile(None)
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert watched.calls <= MOST_CALLS
    assert most <= MOST_BYTES
    assert (features.tobytes(), given.action.tobytes()) == before
    if one.refused:
        assert isinstance(found, Failure), found
        assert found.kind in get_args(FailureKind)
        assert found.line == one.language
        assert 0 < len(found.reason) < 600
        assert all(letter.isprintable() for letter in found.reason)
    else:
        assert not isinstance(found, Failure), found
        for values in found:
            assert np.isfinite(values).all()
            assert np.abs(values).max() <= CLAMP


@pytest.mark.parametrize("one", ACCEPTED, ids=by_name)
def test_an_accepted_program_needs_nothing_that_is_writeable(one: Hostile) -> None:
    features, free = rows(), outcome(one.source, batch(rows()))
    features.flags.writeable = False
    held = outcome(one.source, batch(features))
    for left, right in zip(free, held, strict=True):
        assert left.tobytes() == right.tobytes()


@pytest.mark.parametrize("one", ACCEPTED, ids=by_name)
def test_one_transition_gives_what_a_block_gives(one: Hostile) -> None:
    features = rows()
    with np.errstate(all="ignore"):
        _, block = outcome(one.source, batch(features))
    tree = parse(one.source, TASK.layout, TASK.action)
    compiled = compile_tree(tree)
    weights = tuple(value for _, value in tree.params)
    state = [0.0] * len(compiled.line.registers)
    start = True
    for step in range(STEPS):
        prev, now = features[step].tolist(), features[step + 1].tolist()
        one_step = compiled.scalar(prev, [step % 2], now, weights, state, start)
        start = step == STEPS // 2
        assert all(math.isfinite(value) for value in one_step)
        clamped = np.clip(one_step, -CLAMP, CLAMP)
        np.testing.assert_allclose(block[step, 0], clamped, rtol=1e-5, atol=1e-30)


def test_what_tells_nothing_is_found_out_before_it_is_trained() -> None:
    bank = collect(TASK, steps=400)
    for one in ACCEPTED:
        found = screen(parse(one.source, TASK.layout, TASK.action), bank)
        constant = isinstance(found, Failure) and found.kind == "constant"
        assert constant == (one.language == CONSTANT), one.name


def test_every_refusal_is_counted_has_a_line_and_is_quick() -> None:
    told = rejections()
    print(told)
    for letter, programs in CATEGORIES.items():
        assert told["programs"][letter] == len(programs)
        assert told["refused"][letter] == sum(one.refused for one in programs)
    assert told["without_line"] == 0
    assert 0.0 < told["worst_seconds"] < MOST_SECONDS
    assert told["worst"] in {one.name for one in ALL if one.refused}

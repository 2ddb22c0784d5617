"""What must hold for any text at all; shared by the fuzzer and by the kept corpus."""

from __future__ import annotations

import numpy as np

from guerdon.reward_design.language import Rejected, parse, terms, to_source
from guerdon.reward_design.language.work import predicted_work
from guerdon.reward_design.program import CLAMP, program
from guerdon.types import ActionSpec, Batch, Feature, Features, Layout, Spec
from tests.reward_design.language.counting import worked_by_columns, worked_by_numbers

LAYOUT = Layout(
    [
        Feature("height", "above the ground", unit="m", low=0.0, high=10.0),
        Feature("speed", "along the ground", unit="m/s"),
        Feature("angles", "of the joints", shape=(3,), unit="rad"),
        Feature("standing", "upright", kind="flag"),
        Feature("key_held", "the key is carried", kind="flag"),
    ]
)
ACTIONS = (
    ActionSpec("discrete", 4),
    ActionSpec("continuous", 2, low=(-1.0, -1.0), high=(1.0, 1.0)),
)
STEPS, LANES = 6, 2


class Broken(AssertionError):
    """A property that must hold does not."""


def one_input(data: bytes) -> str | None:
    """Parse, compile and run a text; the first byte chooses the actions.

    Returns:
        The program as the language prints it, None for a text that is refused.

    Raises:
        Broken: when a property does not hold.
    """
    action = ACTIONS[data[0] % 2 if data else 0]
    text = data[1:].decode("utf-8", errors="replace")
    try:
        tree = parse(text, LAYOUT, action)
    except Rejected as error:
        failure = error.failure
        _hold(bool(failure.reason), "a refusal without a reason")
        _hold(len(failure.reason) < 2000, "a refusal that is a book")
        lines = text.count("\n") + text.count("\r") + text.count("\f") + 1
        _hold(failure.line is not None, "a refusal without a line")
        _hold(0 < (failure.line or 0) <= lines, "a line out of text")
        return None
    printed = to_source(tree)
    _hold(parse(printed, LAYOUT, action) == tree, "printed and read: another program")
    work = predicted_work(tree)
    _hold(work.operations <= work.limit, "more work than is allowed")
    design = program(terms(tree, LAYOUT, action))
    batch = _batch(action)
    _hold(worked_by_columns(tree, batch) <= work.in_block(STEPS), "columns work more")
    _hold(max(worked_by_numbers(tree, batch)) <= work.operations, "numbers work more")
    before = (batch.prev.rows.tobytes(), batch.now.rows.tobytes())
    spec = Spec(LAYOUT, action, (LANES,))
    whole, _ = design.apply(design.init(spec), batch)
    _hold(np.isfinite(whole.terms).all() and np.isfinite(whole.reward).all(), "finite")
    _hold((np.abs(whole.terms) <= CLAMP).all(), "a term beyond the clamp")
    _hold((np.abs(whole.reward) <= CLAMP).all(), "a reward beyond the clamp")
    state, steps = design.init(spec), []
    for t in range(STEPS):
        designed, state = design.apply(state, _at(batch, t))
        steps.append(designed.reward)
    _hold(np.stack(steps).tobytes() == whole.reward.tobytes(), "steps and block differ")
    after = (batch.prev.rows.tobytes(), batch.now.rows.tobytes())
    _hold(before == after, "the features were written to")
    return printed


def _hold(holds: object, words: str) -> None:
    if not holds:
        raise Broken(words)


def _batch(action: ActionSpec) -> Batch:
    rng = np.random.default_rng(0)
    shape = (STEPS, LANES)
    rows = rng.normal(size=(STEPS + 1, LANES, LAYOUT.width)).astype(np.float32)
    rows[..., 5:] = rows[..., 5:] > 0
    rows[1, 0], rows[2, 1, :5] = 0.0, 1e30
    chosen = (
        rng.integers(0, action.size, shape)
        if action.kind == "discrete"
        else rng.uniform(-1, 1, (*shape, action.size)).astype(np.float32)
    )
    return Batch(
        None,
        chosen,
        None,
        Features(LAYOUT, rows[:-1].copy()),
        Features(LAYOUT, rows[1:].copy()),
        np.zeros(shape, np.float32),
        rng.random(shape) < 0.2,
        np.zeros(shape, np.bool_),
    )


def _at(batch: Batch, t: int) -> Batch:
    return batch._replace(
        action=batch.action[t],
        prev=Features(LAYOUT, batch.prev.rows[t]),
        now=Features(LAYOUT, batch.now.rows[t]),
        reward=batch.reward[t],
        terminated=batch.terminated[t],
        truncated=batch.truncated[t],
    )

"""Every row is paid what its program would pay it step by step, to the last bit."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest

import guerdon
from guerdon.agents.arrays import VectorArrays
from guerdon.agents.population import arrays_for
from guerdon.agents.row_rewards import ProgramRewards
from guerdon.envs.arrays import ArrayEnv
from guerdon.envs.task import Task
from guerdon.reward_design.language import Rejected
from guerdon.reward_design.reference import Base, reward_for
from guerdon.types import Batch, Features, Spec

ENVS = 3

KEY = """\
PARAMS = {"key": 0.3}

def reward(prev, action, now, params):
    got = first_time(now.carrying_key)
    away = now.distance_to_goal
    return {"key": params.key * got, "best": previous_best(-away) + away / 7.0}
"""
DOOR = """\
def reward(prev, action, now, params):
    return {
        "task": 0.1 * delta(now.agent_x) - 0.03 * delta(now.agent_y),
        "still": -0.01 * count(now.distance_to_goal == prev.distance_to_goal),
        "near": exp(-now.distance_to_goal / 3.0),
    }
"""
ROOMS = """\
def reward(prev, action, now, params):
    return {"doors": delta(now.doors_open), "turns": 0.1 * count(action == 0)}
"""
REACH = """\
def reward(prev, action, now, params):
    near = previous_best(-now.fingertip_distance)
    return {"reached": near, "speed": 0.1 * delta(now.fingertip_distance)}
"""
MIXES = {
    "DoorKey-6x6-v0": ("sparse", KEY, "human", DOOR, KEY),
    "MultiRoom-N2-S4-v0": (ROOMS, "human", "sparse"),
    "Reacher-v5": ("human", REACH, "sparse", REACH),
}
"""Of each task, rows of every kind; Reacher's sparse reward is a program."""


def task_of(name: str) -> Task:
    return guerdon.load_task(f"guerdon/{name}")


def copied(batch: Batch, index: object) -> Batch:
    """Some steps or lanes of a block."""
    parts = {
        name: np.array(getattr(batch, name)[index])
        for name in ("action", "reward", "terminated", "truncated")
    }
    sides = {
        name: Features(batch.now.layout, np.array(getattr(batch, name).rows[index]))
        for name in ("prev", "now")
    }
    return Batch(obs=None, next_obs=None, **parts, **sides)


def play(env: ArrayEnv, sizes: Sequence[int], seed: int = 0) -> list[Batch]:
    """Blocks of so many steps with random actions, as a rollout shows them."""
    rng = np.random.default_rng(seed)
    first = env.reset(rng.integers(1000, size=env.num_envs)).first.copy()
    blocks = []
    for steps in sizes:
        rows: list[tuple[np.ndarray, ...]] = []
        for _ in range(steps):
            if env.action.kind == "discrete":
                action = rng.integers(env.action.size, size=env.num_envs)
            else:
                shape = env.num_envs, env.action.size
                action = rng.uniform(env.action.low, env.action.high, shape)
                action = action.astype(np.float32)
            arrays = env.step(action)
            now, ends = arrays.features, (arrays.terminated, arrays.truncated)
            parts = first, action, now, arrays.reward, *ends
            rows.append(tuple(np.array(part) for part in parts))
            first = arrays.first.copy()
        prev, did, now, reward, terminated, truncated = map(
            np.stack, zip(*rows, strict=True)
        )
        sides = Features(env.layout, prev), Features(env.layout, now)
        blocks.append(Batch(None, did, None, *sides, reward, terminated, truncated))
    return blocks


def played(name: str, rows: int, sizes: Sequence[int], seed: int = 0) -> list[Batch]:
    env = arrays_for(task_of(name), rows * ENVS)
    try:
        return play(env, sizes, seed)
    finally:
        env.close()


def stepwise(
    task: Task, reward: str, base: Base, blocks: Sequence[Batch], row: int
) -> tuple[np.ndarray, np.ndarray]:
    """``(T, N)`` rewards and ``(T, N, m)`` terms of a row, one step at a time."""
    program = reward_for(task, reward, base)
    state = program.init(Spec(task.layout, task.action, lead=(ENVS,)))
    lanes = slice(row * ENVS, (row + 1) * ENVS)
    rewards, terms = [], []
    for block in blocks:
        for t in range(len(block.reward)):
            designed, state = program.apply(state, copied(block, (t, lanes)))
            rewards.append(np.array(designed.reward))
            terms.append(np.array(designed.terms))
    return np.stack(rewards), np.stack(terms)


def same(ours: np.ndarray, theirs: np.ndarray) -> None:
    assert ours.dtype == theirs.dtype == np.float32
    np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("base", ["sparse", "none"])
@pytest.mark.parametrize("name", MIXES)
def test_rows_are_paid_what_their_programs_pay_step_by_step(
    name: str, base: Base
) -> None:
    task, mix = task_of(name), MIXES[name]
    blocks = played(name, len(mix), (1, 70, 40))
    ended = np.concatenate([b.terminated | b.truncated for b in blocks])
    assert ended.any() or name == "DoorKey-6x6-v0"
    rewards = ProgramRewards(task, mix, base, ENVS)
    paid, terms = [], []
    for block in blocks:
        paid.append(rewards(block))
        terms.append(rewards.terms.copy())
    assert paid[0].shape == (1, len(mix), ENVS)
    ours, parts = np.concatenate(paid), np.concatenate(terms)
    for r, reward in enumerate(mix):
        expected, apart = stepwise(task, reward, base, blocks, r)
        same(ours[:, r], expected)
        own = parts[:, r * ENVS : (r + 1) * ENVS]
        count = apart.shape[-1]
        assert rewards.names[r] == reward_for(task, reward, base).names
        assert len(rewards.names[r]) == count
        same(own[:, :, :count], apart)
        assert not own[:, :, count:].any()
    assert rewards.reasons == [None] * len(mix)
    assert len({row.tobytes() for row in ours.transpose(1, 0, 2)}) > 1


def test_registers_forget_where_episodes_end() -> None:
    """The oracle is a count by hand: at a start it is 1, else one more."""
    text = (
        "def reward(prev, action, now, params):\n"
        '    return {"n": count(now.doors_open >= 0)}\n'
    )
    task = task_of("MultiRoom-N2-S4-v0")
    (block,) = played("MultiRoom-N2-S4-v0", 1, (90,))
    rewards = ProgramRewards(task, [text], "none", ENVS)
    found = rewards(block)[:, 0]
    ended = block.terminated | block.truncated
    assert ended.any()
    for n in range(ENVS):
        length = 0
        for t in range(90):
            length += 1
            assert found[t, n] == length
            length = 0 if ended[t, n] else length


def test_selected_rows_go_on_as_they_would_have() -> None:
    name = "DoorKey-6x6-v0"
    task, mix = task_of(name), MIXES[name]
    before, after = played(name, len(mix), (30, 30))
    whole, fewer = (ProgramRewards(task, mix, "sparse", ENVS) for _ in range(2))
    for rewards in (whole, fewer):
        rewards(before)
    kept = [3, 0, 1]
    fewer.select(kept)
    lanes = np.concatenate([np.arange(r * ENVS, (r + 1) * ENVS) for r in kept])
    same(fewer(copied(after, (slice(None), lanes))), whole(after)[:, kept])
    assert fewer.names == [whole.names[r] for r in kept]
    same(
        fewer.terms[:, :, : whole.terms.shape[-1]],
        whole.terms[:, lanes][:, :, : fewer.terms.shape[-1]],
    )
    fewer.select([1])
    same(fewer(copied(after, (slice(None), slice(0, ENVS))))[:, 0], sparse_of(after))


def sparse_of(batch: Batch) -> np.ndarray:
    """What the first row of DoorKey's mix is paid: the environment's own reward."""
    return batch.reward[:, :ENVS]


def test_a_row_that_begins_anew_has_forgotten_everything() -> None:
    name = "DoorKey-6x6-v0"
    task, mix = task_of(name), MIXES[name]
    before, after = played(name, len(mix), (30, 30))
    rewards, fresh, through = (
        ProgramRewards(task, mix, "sparse", ENVS) for _ in range(3)
    )
    for one in (rewards, through):
        one(before)
    rewards.reasons[3] = "still"
    rewards.restart(3)
    assert rewards.reasons[3] is None
    ours, anew, on = (one(after) for one in (rewards, fresh, through))
    same(ours[:, 3], anew[:, 3])
    others = [0, 1, 2, 4]
    same(ours[:, others], on[:, others])
    assert not (ours[:, 3] == on[:, 3]).all()


@pytest.mark.parametrize("company", [("sparse",), (DOOR, "sparse"), ("human", "human")])
def test_registers_are_put_down_and_taken_up_in_other_company(
    company: tuple[str, ...],
) -> None:
    """A row's registers go on beside rows with more and with fewer of them."""
    name, base = "Reacher-v5", "sparse"
    if DOOR in company:
        name = "DoorKey-6x6-v0"
    task, own = task_of(name), REACH if name == "Reacher-v5" else KEY
    before, after = played(name, 1, (20, 20))
    alone = ProgramRewards(task, [own], base, ENVS)
    alone(before)
    told = {k: v.copy() for k, v in alone.get_lanes().items()}
    wide = {
        k: np.concatenate([v, *[np.zeros_like(v)] * len(company)])
        for k, v in told.items()
    }
    beside = ProgramRewards(task, [own, *company], base, ENVS)
    beside.set_lanes(wide)
    lanes = np.tile(np.arange(ENVS), 1 + len(company))
    expected = alone(after)
    same(beside(copied(after, (slice(None), lanes)))[:, 0], expected[:, 0])
    back = ProgramRewards(task, [own], base, ENVS)
    back.set_lanes({k: v[:ENVS] for k, v in wide.items()})
    same(back(after), expected)


def test_a_row_without_programs_has_nothing_to_put_down() -> None:
    task = task_of("DoorKey-6x6-v0")
    sparse = ProgramRewards(task, ["sparse"], "sparse", ENVS)
    assert sparse.get_lanes() == {}
    (block,) = played("DoorKey-6x6-v0", 1, (5,))
    beside = ProgramRewards(task, [KEY], "sparse", ENVS)
    beside.set_lanes(sparse.get_lanes())
    same(beside(block), ProgramRewards(task, [KEY], "sparse", ENVS)(block))


@pytest.mark.parametrize(
    "change",
    [
        lambda v: {"ended0": v["ended0"][:-1]},
        lambda v: {"memory0": v["memory0"][:-1]},
        lambda v: {"memory0": v["memory0"].reshape(-1)},
        lambda v: {"ended0": v["ended0"][None]},
    ],
)
def test_registers_of_other_lanes_are_refused(
    change: Callable[[dict[str, np.ndarray]], dict[str, np.ndarray]],
) -> None:
    rewards = ProgramRewards(task_of("DoorKey-6x6-v0"), [KEY], "sparse", ENVS)
    told = rewards.get_lanes()
    with pytest.raises(ValueError, match="registers of 3 lanes: expected ended0"):
        rewards.set_lanes(told | change(told))


@pytest.mark.parametrize(
    ("what", "names"),
    [
        ("features", [None, "key", "approach_key", "task", "key"]),
        ("reward", ["task", "task", None, "task_task", "task"]),
    ],
)
def test_a_term_that_is_not_finite_is_named_for_its_own_row_only(
    what: str, names: list[str | None]
) -> None:
    """The environment's own reward is paid no features, the human one no reward."""
    name = "DoorKey-6x6-v0"
    task, mix = task_of(name), MIXES[name]
    (sound,) = played(name, len(mix), (10,))
    whole = ProgramRewards(task, mix, "sparse", ENVS)(sound)
    for r, expected in enumerate(names):
        block = copied(sound, slice(None))
        lane = r * ENVS + 1
        rows = block.reward if what == "reward" else block.now.rows
        rows[4, lane] = np.nan
        rewards = ProgramRewards(task, mix, "sparse", ENVS)
        paid = rewards(block)
        reasons = [expected if i == r else None for i in range(len(mix))]
        assert rewards.reasons == reasons
        bad = ~np.isfinite(paid).all((0, 2))
        assert bad.tolist() == [reason is not None for reason in reasons]
        others = [i for i in range(len(mix)) if i != r]
        same(paid[:, others], whole[:, others])


def test_the_first_reason_is_kept() -> None:
    task = task_of("DoorKey-6x6-v0")
    block, sound = played("DoorKey-6x6-v0", 1, (4, 4))
    block.now.rows[2, 0] = np.nan
    rewards = ProgramRewards(task, [KEY], "sparse", ENVS)
    rewards(block)
    sound.reward[:] = np.nan
    rewards(sound)
    assert rewards.reasons == ["key"]


@pytest.mark.parametrize("text", ["def reward(", "import os\n", "x = 1\n"])
def test_texts_that_are_no_programs_are_rejected(text: str) -> None:
    with pytest.raises(Rejected):
        ProgramRewards(task_of("DoorKey-6x6-v0"), ["sparse", text], "sparse", ENVS)


def test_names_that_the_task_does_not_have_are_refused() -> None:
    with pytest.raises(ValueError, match="no reward named 'best'"):
        ProgramRewards(task_of("DoorKey-6x6-v0"), ["best"], "sparse", ENVS)


def test_blocks_of_a_gymnasium_vector_env_are_paid_too() -> None:
    task = task_of("CartPole-v1")
    env = VectorArrays(task, 2 * ENVS)
    blocks = play(env, (60,))
    env.close()
    assert blocks[0].terminated.any()
    text = (
        "def reward(prev, action, now, params):\n"
        '    return {"fall": 0.5 * count(now.upright), "by": delta(now.pole_angle)}\n'
    )
    mix = ("sparse", text)
    paid = ProgramRewards(task, mix, "sparse", ENVS)(blocks[0])
    for r, reward in enumerate(mix):
        same(paid[:, r], stepwise(task, reward, "sparse", blocks, r)[0])

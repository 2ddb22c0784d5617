"""What a population does with tensors of an engine, in numba's simulator of a GPU.

No hardware has seen any of it. ``test_cuda_population`` runs this file in a process of
its own, whose environment makes numba play a GPU; tensors are then on torch's CPU, and
so is what they are compared with: the same population on the engine of the CPU.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

import guerdon
from guerdon.agents import losses
from guerdon.agents import population as module
from guerdon.agents.arrays import Resumable, Shrinking
from guerdon.agents.networks import forward
from guerdon.agents.ppo import Population, PPOConfig
from guerdon.agents.rollout import Rollout
from guerdon.agents.rows import load_rows, save_rows
from guerdon.cli import main
from guerdon.envs.grid.cuda import CudaGridEngine
from guerdon.envs.grid.engine import GridEngine
from guerdon.envs.grid.levels import find_level
from guerdon.envs.tensors import TensorEnv
from guerdon.run import single
from guerdon.types import Batch
from tests.agents import legs
from tests.agents.toy_arrays import Scaled

LEVEL = replace(find_level("Dynamic-Obstacles-5x5"), horizon=6)
"""Obstacles end many episodes, and the others are cut, several in each block."""

SMALL = PPOConfig(
    envs=4,
    steps=8,
    minibatch=16,
    epochs=2,
    hidden=(6, 5),
    learning_rate=3e-3,
    ent_coef=0.02,
    encoder="one_hot",
    conv=((3, 2, 1), (4, 2, 1)),
)

KINDS = {
    "one_hot": SMALL,
    "cnn": replace(SMALL, encoder="cnn"),
    "scaled": replace(SMALL, encoder="vector", normalize_observation=True),
    "memory": replace(SMALL, shared=True, memory=5),
}

Make = Callable[[int], Any]


def on_cpu(lanes: int) -> GridEngine:
    return GridEngine(LEVEL, lanes, view=3)


def on_gpu(lanes: int) -> CudaGridEngine:
    return CudaGridEngine(LEVEL, lanes, view=3)


class All(Scaled):
    """Pays for everything that a reward is shown, so that none of it may differ."""

    def __call__(self, batch: Batch) -> np.ndarray:
        moved = (batch.now.rows - 0.5 * batch.prev.rows).sum(-1)
        seen = np.asarray(batch.next_obs, np.float32) - 0.5 * np.asarray(batch.obs)
        paid = 0.1 * moved + 0.01 * seen.reshape(*moved.shape, -1).sum(-1)
        paid += 0.1 * batch.action + batch.terminated - 0.5 * batch.truncated
        return super().__call__(batch) + paid.reshape(len(moved), len(self.factors), -1)


def everything(population: Population) -> dict[str, Tensor]:
    """All that a population is, and the block that it collected last."""
    from guerdon.agents.rows import _tensors

    found = {name: torch.clone(value) for name, value in _tensors(population)}
    roll = population.acting.rollout
    for name in ("now", "prev", "reward", "sent", "terminated", "truncated"):
        found[f"host.{name}"] = torch.tensor(getattr(roll, name))
    ended = torch.tensor(roll.terminated | roll.truncated)
    for name in ("fitness", "success"):
        found[f"host.{name}"] = torch.tensor(getattr(roll, name))[ended]
    found["host.obs"] = roll.stored.obs.clone()
    found["policy"], found["values"] = roll.policy.clone(), roll.values.clone()
    return found


def expect_same(ours: Population, theirs: Population, but: str = "") -> None:
    """Equal in every bit."""
    one, other = everything(ours), everything(theirs)
    assert one.keys() == other.keys()
    for name, value in one.items():
        if name == but:
            continue
        assert value.dtype == other[name].dtype, name
        assert torch.equal(value, other[name]), name


def expect_same_curves(ours: Population, theirs: Population) -> None:
    for row in range(len(ours.rows)):
        assert ours.curve(row) == theirs.curve(row)


@pytest.mark.parametrize("with_bonus", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_a_population_learns_the_bits_that_it_learns_on_the_cpu(
    kind: str, with_bonus: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for part in ("layers", "optimize"):  # a GPU has no use for loops of a CPU
        monkeypatch.setattr(f"guerdon.agents.{part}.has_compiler", lambda: False)
    config = KINDS[kind]
    cut = over = 0

    def begun(make: Make) -> Population:
        bonus = All([1.0, -1.0, 0.5]) if with_bonus else None
        rewards = All([1.0, 2.0, -1.0])
        return Population(make(12), config, [0, 1, 1], rewards=rewards, bonus=bonus)

    ours, theirs = begun(on_gpu), begun(on_cpu)
    for block in range(6):
        if block == 2:  # rows go, the others change places
            for population in (ours, theirs):
                population.select([2, 0])
        if block == 4:  # a fresh row among old ones
            for population in (ours, theirs):
                population.replace(1, 7)
        for population in (ours, theirs):
            population.learn(config.block)
        expect_same(ours, theirs)
        roll = ours.acting.rollout
        cut += int((roll.truncated[:-1] & ~roll.terminated[:-1]).sum())
        over += int(roll.terminated.sum())
        assert roll.finals
        torch.testing.assert_close(
            ours.acting.final_values(), theirs.acting.final_values(), rtol=0, atol=0
        )
    assert min(cut, over) > 10
    assert [row.failure for row in ours.rows] == [None, None]
    expect_same_curves(ours, theirs)
    assert (
        ours.weights["first.weight"] - begun(on_cpu).weights["first.weight"][[2, 0]]
    ).any()


# --- nothing of a step is read on the host ---------------------------------------


class Read(AssertionError):
    """A tensor was looked at."""


class Looks(TorchDispatchMode):
    """Refuses whatever would wait for a GPU below torch's Python side."""

    def __init__(self, spy: Spy) -> None:
        super().__init__()
        self._spy = spy

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        if not self._spy.on:
            return func(*args, **(kwargs or {}))
        name = func.overloadpacket.__name__
        if name in ("_local_scalar_dense", "nonzero", "masked_select", "equal"):
            raise Read(name)
        by = args[1] if name.startswith("index") and isinstance(args[1], list) else []
        if any(i is not None and i.dtype == torch.bool for i in by):
            raise Read(name)  # it looks for those that are true
        return func(*args, **(kwargs or {}))


HOST = ("cpu", "numpy", "item", "tolist", "__bool__", "__array__", "__int__")


class Spy:
    """Fails when a tensor comes to the host; off inside of the engine's own launch.

    The simulator hands a kernel NumPy's view of a tensor, where hardware is handed a
    pointer.
    """

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.on, self.steps = False, 0
        for name in HOST:
            patch.setattr(Tensor, name, self._watched(name, getattr(Tensor, name)))
        patch.setattr(
            torch, "from_numpy", self._watched("from_numpy", torch.from_numpy)
        )
        patch.setattr(torch, "as_tensor", self._watched("as_tensor", torch.as_tensor))
        step, fetch = CudaGridEngine.step_unchecked, Rollout.fetch

        def unwatched(engine: Any, *args: Any, **more: Any) -> Any:
            self.steps += self.on
            with self.off():
                return step(engine, *args, **more)

        def over(rollout: Rollout) -> None:
            self.on = False
            fetch(rollout)

        patch.setattr(CudaGridEngine, "step_unchecked", unwatched)
        patch.setattr(Rollout, "fetch", over)

    @contextmanager
    def off(self) -> Iterator[None]:
        was, self.on = self.on, False
        yield
        self.on = was

    def _watched(self, name: str, real: Any) -> Any:
        def called(*args: Any, **more: Any) -> Any:
            if self.on:
                raise Read(name)
            return real(*args, **more)

        return called


@pytest.fixture
def spy(monkeypatch: pytest.MonkeyPatch) -> Iterator[Spy]:
    found = Spy(monkeypatch)
    with Looks(found):
        yield found


@pytest.mark.parametrize("kind", KINDS)
def test_no_step_reads_a_tensor_on_the_host(
    kind: str, spy: Spy, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = KINDS[kind]

    def without_loops(*args: Any, **more: Any) -> Any:
        return forward(*args, **more | {"loops": False})  # as on a GPU

    monkeypatch.setattr(losses, "forward", without_loops)
    population = Population(on_gpu(8), config, [0, 1])
    population.learn(config.block)  # what is kept from then on has been made
    act = population.acting._act

    def watched(t: int, noise: Tensor) -> None:
        spy.on = True  # from the first step; the noise of the block is there by then
        act(t, noise)

    monkeypatch.setattr(population.acting, "_act", watched)
    for _ in range(2):
        population.collect()
        assert not spy.on
        population.update()
    assert spy.steps == 2 * config.steps
    assert population.acting.rollout.finals


@pytest.mark.parametrize(
    "look",
    [
        lambda one: one.item(),
        lambda one: bool(one),
        lambda one: one.cpu(),
        lambda one: one.numpy(),
        lambda one: one.tolist(),
        lambda one: int(one),
        lambda one: np.asarray(one),
        lambda one: one.nonzero(),
        lambda one: one.view(1)[one.view(1) > 0],
        lambda one: torch.equal(one, one),
        lambda one: 1 if one > 0 else 0,
    ],
)
def test_the_spy_sees_every_look(look: Callable[[Tensor], Any], spy: Spy) -> None:
    one = torch.ones(())
    look(one)  # nobody minds
    with torch.inference_mode():  # as in a block
        spy.on = True
        with pytest.raises(Read):
            look(one)
        spy.on = False


# --- the engine's lanes ------------------------------------------------------------


def copied(arrays: Any) -> list[np.ndarray]:
    return [torch.as_tensor(array).numpy().copy() for array in arrays]


def played(engine: Any, steps: int, seed: int) -> list[list[np.ndarray]]:
    """Copies of all that an engine gives."""
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(steps):
        arrays = engine.step(rng.integers(0, 3, engine.num_envs))
        found.append(copied(arrays))
    return found


@pytest.mark.parametrize("view", [3, "full"])
def test_lanes_that_are_selected_go_on_as_they_would_on_the_cpu(view: Any) -> None:
    ours = CudaGridEngine(LEVEL, 5, view=view, autoreset="next_step")
    theirs = GridEngine(LEVEL, 5, view=view, autoreset="next_step")
    assert isinstance(ours, TensorEnv)
    assert isinstance(ours, Shrinking)
    assert isinstance(ours, Resumable)
    assert not isinstance(theirs, TensorEnv)
    with pytest.raises(RuntimeError, match="reset"):
        ours.select(np.array([0]))
    for engine in (ours, theirs):
        engine.reset(np.arange(5))
        played(engine, 4, 0)
    lanes = np.array([3, 0, 4])
    ours, theirs = ours.select(lanes), theirs.select(lanes)
    assert (ours.num_envs, ours.view, ours.autoreset) == (3, theirs.view, "next_step")
    for a, b in zip(ours.export(), theirs.export(), strict=True):
        np.testing.assert_array_equal(a, b)
    for a, b in zip(copied(ours.observe()), copied(theirs.observe()), strict=True):
        np.testing.assert_array_equal(a, b)
    for one, other in zip(played(ours, 9, 1), played(theirs, 9, 1), strict=True):
        for a, b in zip(one, other, strict=True):
            np.testing.assert_array_equal(a, b)


def test_lanes_go_to_the_other_engine_and_back() -> None:
    ours, theirs = on_gpu(3), on_cpu(3)
    theirs.reset(np.arange(3))
    played(theirs, 4, 0)
    ours.set_lanes(theirs.get_lanes())
    told = ours.get_lanes()
    for name, values in theirs.get_lanes().items():
        assert told[name].dtype == values.dtype
        np.testing.assert_array_equal(told[name], values)
    back = on_cpu(3)
    back.set_lanes(told)
    for one, other in zip(played(ours, 9, 1), played(back, 9, 1), strict=True):
        for a, b in zip(one, other, strict=True):
            np.testing.assert_array_equal(a, b)
    told["numbers"][1, 0] = 10_000
    with pytest.raises(ValueError, match="state: position: expected 0 to"):
        ours.set_lanes(told)


# --- put down and taken up ---------------------------------------------------------


@pytest.mark.parametrize("kind", ["one_hot", "memory"])
@pytest.mark.parametrize(
    ("first", "then"), [(on_gpu, on_gpu), (on_gpu, on_cpu), (on_cpu, on_gpu)]
)
def test_rows_that_were_put_down_go_on_wherever_they_are_taken_up(
    kind: str, first: Make, then: Make, tmp_path: Path
) -> None:
    config = KINDS[kind]
    whole = Population(on_cpu(8), config, [0, 1], rewards=All([1.0, 2.0]))
    whole.learn(5 * config.block)
    begun = Population(first(8), config, [0, 1], rewards=All([1.0, 2.0]))
    begun.learn(3 * config.block)
    paths = [tmp_path / f"{r}.row" for r in range(2)]
    save_rows(begun, dict(enumerate(paths)))
    again = load_rows(paths, then(8), rewards=All([1.0, 2.0]))
    again.learn(2 * config.block)
    # Of rows that were put together the episodes stand row by row.
    expect_same(again, whole, but="log.table")
    for row in range(2):
        for a, b in zip(again.log.of(row), whole.log.of(row), strict=True):
            np.testing.assert_array_equal(a, b)


def test_a_leg_on_the_gpu_is_that_on_the_cpu_in_parts_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Through jobs, row files, the trusted evaluation and the files of policies."""

    def small(task: Any, algo: Any = None) -> Any:
        recipe = legs.recipe_for(task, algo)
        return replace(
            recipe, net_arch=(6, 5), n_epochs=1, n_envs=2, n_steps=16, batch_size=16
        )

    own = module.config_for

    def there(recipe: Any, whole: int, device: str = "cpu") -> PPOConfig:
        asked.append(device)
        return own(recipe, whole)  # the simulator's tensors are on the CPU

    asked: list[str] = []
    monkeypatch.setattr(module, "recipe_for", small)
    monkeypatch.setattr(module, "config_for", there)
    made: list[Any] = []
    engine = CudaGridEngine.__init__

    def noted(self: Any, *args: Any, **more: Any) -> None:
        made.append(more["device"])
        engine(self, *args, **more)

    monkeypatch.setattr(CudaGridEngine, "__init__", noted)
    job = replace(legs.GRID, task="guerdon/DoorKey-5x5-v0", steps=128, whole=128)
    job = replace(job, eval_episodes=1)
    jobs = [replace(job, reward=reward) for reward in (legs.GOOD, "sparse")]
    folders = [tmp_path / name for name in ("cpu", "gpu")]
    for folder in folders:
        folder.mkdir()
    theirs = legs.train(*jobs, folder=folders[0])
    assert asked == ["cpu"]
    assert not made
    there_jobs = [replace(one, device="cuda") for one in jobs]
    half = [replace(one, steps=64) for one in there_jobs]
    legs.train(*half, folder=folders[1])
    assert all((folders[1] / module.row_file(one, 64)).is_file() for one in half)
    ours = legs.train(*there_jobs, start=64, folder=folders[1])
    assert asked == ["cpu", "cuda", "cuda"]
    assert made == ["cuda", "cuda"]
    for one, other, a, b in zip(ours, theirs, there_jobs, jobs, strict=True):
        legs.same(one, other)
        assert a.key != b.key
        legs.same_weights(
            folders[1] / f"{a.key}.safetensors", folders[0] / f"{b.key}.safetensors"
        )


def test_guerdon_train_puts_one_training_on_the_gpu(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def small(task: Any, algo: Any = None) -> Any:
        recipe = legs.recipe_for(task, algo)
        return replace(recipe, n_epochs=1, n_envs=2, n_steps=16, batch_size=16)

    own, made = module.config_for, []

    def there(recipe: Any, whole: int, device: str = "cpu") -> PPOConfig:
        made.append(device)
        return own(recipe, whole)

    for place in (module, single):
        monkeypatch.setattr(place, "recipe_for", small)
    monkeypatch.setattr(module, "config_for", there)
    task = "guerdon/DoorKey-5x5-v0"
    words = ["train", task, "--steps", "60", "--eval-episodes", "1", "--json"]
    assert main([*words, "--device", "cuda", "--out", str(tmp_path)]) == 0
    found = json.loads(capsys.readouterr().out)
    assert made == ["cuda"]
    assert found["steps"] == 64
    job = replace(legs.GRID, task=task, reward="sparse", steps=64, whole=64)
    (theirs,) = legs.train(replace(job, eval_episodes=1), folder=tmp_path)
    score = legs.result(theirs).mean_fitness
    assert found["fitness"]["value"] == pytest.approx(score)
    weights = tmp_path / str(legs.result(theirs).weights)
    legs.same_weights(Path(found["weights"]), weights)


# --- refusals ------------------------------------------------------------------------


def test_an_env_on_another_device_is_refused() -> None:
    engine = on_gpu(8)
    engine.device = torch.device("cuda", 1)
    with pytest.raises(ValueError, match=r"the env's tensors, cuda:1, got 'cpu'"):
        Population(engine, SMALL, [0, 1])


def test_tensors_that_may_not_be_finite_are_refused() -> None:
    engine = on_gpu(8)
    engine.observation_space = spaces.Box(-1.0, 1.0, (3, 3, 3), np.float32)
    with pytest.raises(ValueError, match=r"expected uint8 observations .*float32"):
        Population(engine, replace(SMALL, encoder="vector"), [0, 1])


def test_a_task_gives_its_engine_for_the_device_that_is_asked_for() -> None:
    task = guerdon.load_task("guerdon/DoorKey-5x5-v0")
    engine = module.arrays_for(task, 2, "cuda")
    assert type(engine) is CudaGridEngine
    assert engine.num_envs == 2
    assert type(module.arrays_for(task, 2, "cpu")) is GridEngine
    with pytest.raises(ValueError, match="CartPole-v1 has none; expected device 'cpu'"):
        module.arrays_for(guerdon.load_task("guerdon/CartPole-v1"), 2, "cuda")

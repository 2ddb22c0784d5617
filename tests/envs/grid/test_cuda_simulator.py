"""The kernels for a GPU, in numba's simulator: no test here has seen hardware."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from twins import expect_saved, in_another_process

from guerdon.envs.grid.engine import GridEngine
from guerdon.envs.grid.levels import LEVELS

SIMULATOR = {"NUMBA_ENABLE_CUDASIM": "1", "NUMBA_DISABLE_JIT": "1"}

NAMES = (
    "DoorKey-5x5", "UnlockPickup", "KeyCorridorS3R2", "MultiRoom-N2-S4",
    "LavaCrossingS9N1", "Dynamic-Obstacles-5x5", "MemoryS7", "GoToDoor-5x5",
    "Fetch-5x5-N2", "PutNear-6x6-N2", "RedBlueDoors-6x6", "ObstructedMaze-1Dlh",
)  # fmt: skip

PLAY = """
import sys
from guerdon.envs.grid.choose import make_engine
from test_cuda_simulator import NAMES
from twins import saved
saved(
    sys.argv[1],
    [make_engine(name, 3, device="cuda", autoreset={mode!r}) for name in NAMES],
    {steps},
    seed=13,
)
"""


@pytest.mark.parametrize(("mode", "steps"), [("same_step", 8), ("next_step", 4)])
def test_every_array_of_every_step_is_the_cpu_engines(
    tmp_path: Path, mode: str, steps: int
) -> None:
    found = tmp_path / "simulated.npz"
    in_another_process(PLAY.format(mode=mode, steps=steps), found, **SIMULATOR)
    engines = [GridEngine(name, 3, autoreset=mode) for name in NAMES]
    expect_saved(found, engines, steps, seed=13)


USE = """
import sys
import numpy as np
import pytest
import torch
from guerdon.envs.grid.cuda import CudaGridEngine, TensorArrays

engine = CudaGridEngine("DoorKey-5x5", 3, view=5, blocks=("agent", "key"))
with pytest.raises(RuntimeError, match="reset"):
    engine.step(torch.zeros(3, dtype=torch.int64))
with pytest.raises(ValueError, match="all of them at the first reset"):
    engine.reset(np.arange(3), np.array([True, False, True]))
first = engine.reset(torch.arange(3))
assert isinstance(first, TensorArrays)
assert first.obs.shape == (3, 5, 5, 3)
assert first.features.shape == (3, engine.layout.width)
assert engine.mission(1).startswith("use the key")

# The tensors are the kernels' own memory: the next step changes them.
before = first.features.clone()
address = first.features.data_ptr()
after = engine.step(torch.zeros(3, dtype=torch.int64))
assert after is first
assert after.features.data_ptr() == address
assert not torch.equal(after.features, before)

rollout = engine.new_arrays(2)
row = TensorArrays(*(tensor[1] for tensor in rollout))
assert engine.step(np.ones(3, np.int64), row) is row
assert torch.equal(row.features, before)
assert not rollout.features[0].any()

# Lanes that are not named go on.
position = engine.numbers[0].clone()
engine.reset(torch.full((3,), 77), torch.tensor([False, True, False]))
assert engine.seeds.tolist() == [0, 77, 2]
assert engine.numbers[0, 0] == position[0]
engine.next_episode(torch.tensor([True, False, False]))
assert engine.numbers[4].tolist() == [1, 0, 0]

state = engine.export()
other = CudaGridEngine("DoorKey-5x5", 3, view=5, blocks=("agent", "key"))
assert torch.equal(other.load_state(state).obs, engine.observe().obs)

with pytest.raises(ValueError, match="got 7 in lane 2"):
    engine.step(torch.tensor([0, 1, 7]))
with pytest.raises(ValueError, match="expected shape"):
    engine.step(torch.zeros(2, dtype=torch.int64))
with pytest.raises(TypeError, match="expected integers"):
    engine.step(torch.zeros(3))
with pytest.raises(TypeError, match="features: expected torch.float32"):
    engine.step(np.zeros(3, int), row._replace(features=row.features.double()))
with pytest.raises(ValueError, match="obs: expected a contiguous tensor"):
    engine.step(np.zeros(3, int), row._replace(obs=row.obs.transpose(1, 2)))
assert all((a == b).all() for a, b in zip(state, engine.export()))

# Unchecked, an action that is none does nothing but take a step.
engine.step_unchecked(torch.tensor([-1, 7, 2**40]))
done = engine.export()
assert (done.cells == state.cells).all()
assert (done.numbers[:3] == state.numbers[:3]).all()

once = CudaGridEngine("Empty-5x5", 1, autoreset="disabled", view="full")
once.reset([3])
for action in (2, 2, 1, 2, 2):
    once.step([action])
assert once.lengths.tolist() == [5]
with pytest.raises(RuntimeError, match="an episode is over"):
    once.step([0])
for device in ("cpu", "cuda:", "cuda:x", "mps"):
    with pytest.raises(ValueError, match="expected 'cuda'"):
        CudaGridEngine("Empty-5x5", device=device)
with pytest.raises(ValueError, match="autoreset: expected"):
    CudaGridEngine("Empty-5x5", autoreset="never")
once.close()
"""


def test_the_engine_takes_and_gives_tensors_and_refuses_what_is_wrong(
    tmp_path: Path,
) -> None:
    in_another_process(USE, tmp_path, **SIMULATOR)


JIT = """
import pytest
from guerdon.envs.grid.cuda import CudaGridEngine
with pytest.raises(RuntimeError, match="set NUMBA_DISABLE_JIT=1"):
    CudaGridEngine("Empty-5x5")
"""


def test_the_simulator_without_its_second_variable_is_refused(tmp_path: Path) -> None:
    in_another_process(JIT, tmp_path, NUMBA_ENABLE_CUDASIM="1")


def test_a_fused_product_and_difference_changes_no_reward() -> None:
    # A GPU may round 1 - 0.9 q once and not twice; as float32 it must be the same.
    for horizon in sorted({level.horizon for level in LEVELS.values()}):
        share = np.arange(horizon + 1) / horizon
        fused = [float(1 - Fraction(0.9) * Fraction(q)) for q in share.tolist()]
        np.testing.assert_array_equal(
            np.array(fused).astype(np.float32), (1.0 - 0.9 * share).astype(np.float32)
        )

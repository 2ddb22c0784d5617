"""Every kernel for a GPU through numba's CUDA compiler, and to PTX by LLVM itself.

Numba leaves PTX to NVVM, which comes with CUDA. LLVM's own backend takes the same code,
so a stand-in that knows the layout of the data is enough to have types inferred, code
lowered and PTX written where there is neither toolkit nor driver. What NVVM would make
of it is not seen here, and nothing runs.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import llvmlite.binding as llvm
from numba import types
from numba.cuda import compiler, dispatcher
from numba.cuda.cudadrv import nvvm

from guerdon.envs.grid.cuda_kernels import kernels_of
from guerdon.envs.grid.levels import LEVELS

CAPABILITY = (8, 0)

FLAGS, SEEDS, PARAMS = types.uint8[::1], types.int64[::1], types.int32[::1]
STATE = (types.uint8[:, ::1], types.int32[:, ::1])
TABLE, IMAGE, ROWS = types.int16[:, :, ::1], types.uint8[:, ::1], types.float32[:, ::1]
NUMBER, TRUTH = types.float32[::1], types.boolean[::1]

BEGIN = (FLAGS, *STATE, SEEDS, PARAMS)
SHOW = (FLAGS, *STATE, PARAMS, TABLE, IMAGE, ROWS)
STEP = (
    types.int64[::1], *STATE, SEEDS, PARAMS, TABLE, FLAGS, IMAGE, IMAGE, NUMBER, TRUTH,
    TRUTH, ROWS, ROWS, NUMBER, TRUTH,
)  # fmt: skip


class StandIn:
    """What numba asks NVVM for while it lowers."""

    data_layout = nvvm.NVVM.data_layout.fget(SimpleNamespace(_minorIR=0, _majorIR=2))
    supported_ccs = (CAPABILITY,)

    def get_ir_version(self) -> tuple[int, int, int, int]:
        return 2, 0, 3, 1


def lowered(kernel: Any, arguments: tuple[Any, ...]) -> Any:
    return compiler.compile_cuda(
        kernel.py_func, types.void, arguments,
        nvvm_options={"opt": 3, "fastmath": False}, cc=CAPABILITY,
    ).library  # fmt: skip


def ptx_of(library: Any) -> str:
    """PTX of a lowered kernel and of all that it calls."""
    first, *others = (llvm.parse_assembly(code) for code in library.llvm_strs)
    for module in others:
        first.link_in(module)
    first.verify()
    target = llvm.Target.from_triple("nvptx64-nvidia-cuda")
    machine = target.create_target_machine(cpu="sm_80", opt=3)
    return machine.emit_assembly(first)


def main() -> None:
    nvvm.NVVM = StandIn
    dispatcher.get_current_device = lambda: SimpleNamespace(
        compute_capability=CAPABILITY
    )
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    families = {level.begin: level for level in LEVELS.values()}
    for begin, level in families.items():
        lowered(kernels_of(begin).begin, BEGIN)
        print("lowered", level.name)
    kernels = kernels_of(LEVELS["DoorKey-8x8"].begin)
    for kernel, arguments in ((kernels.show, SHOW), (kernels.step, STEP)):
        code = ptx_of(lowered(kernel, arguments))
        assert ".target sm_80" in code
        print("written", kernel.py_func.__name__, len(code))


if __name__ == "__main__":
    main()

"""Elsewhere the jail can be imported and asked, and refuses with the reason."""

from __future__ import annotations

import pytest

from guerdon.jail import Jail, JailError, Layer, missing
from tests.jail.tools import python

_ELSEWHERE = """
import sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name in ("fcntl", "resource", "pwd", "grp", "termios"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

import subprocess, tempfile, socket, platform  # as they are on this machine
import guerdon
for name in list(sys.modules):
    if name in ("fcntl", "resource") or name.startswith("guerdon.jail"):
        del sys.modules[name]
sys.meta_path.insert(0, Absent())
sys.platform = sys.argv[1]
platform.system = lambda: sys.argv[2]
import os, select, signal
for module, name in (
    (os, "fork"), (os, "O_ASYNC"), (os, "O_PATH"), (os, "pipe2"), (select, "poll"),
    (socket, "SOCK_SEQPACKET"), (socket, "AF_UNIX"), (signal, "SIGKILL"),
):
    if sys.platform == "win32" or name in ("O_PATH", "pipe2"):
        delattr(module, name)

from guerdon.jail import Jail, JailError, probe
(layer,) = probe()
print(layer.name, layer.ok, layer.detail, layer.fix, sep="|")
try:
    Jail()
except JailError as error:
    print(error)
"""


@pytest.mark.parametrize(
    ("name", "system"), [("win32", "Windows"), ("darwin", "Darwin")]
)
def test_it_refuses_and_names_the_reason_and_what_to_use(
    name: str, system: str
) -> None:
    layer, refusal = python(_ELSEWHERE, name, system).splitlines()
    assert layer.startswith(f"linux|False|this is {system}|use Linux")
    assert "rewards in the language need no jail" in layer
    assert refusal.startswith("the jail refuses to run without linux")


def test_an_unknown_processor_is_refused() -> None:
    text = """
import platform
platform.machine = lambda: "riscv64"
from guerdon.jail.layers import _try_all
print([(row.name, row.fix) for row in _try_all() if not row.ok])
"""
    found = dict(eval(python(text)))
    assert "use Linux on x86_64 or aarch64" in found["machine"]
    assert set(found) >= {"machine", "seccomp"}


def test_layers_that_nobody_probed_count_as_missing() -> None:
    assert missing([])
    with pytest.raises(JailError, match=r"refuses to run without .*not probed"):
        Jail(layers=[])
    with pytest.raises(JailError, match="seccomp"):
        Jail(layers=[Layer("landlock", True, "")])

"""The command line tells the truth about machines with less than this one."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from guerdon.jail.layers import _ATTEMPTS
from tests.jail.tools import ROOT, linux_only

pytestmark = linux_only

NAMES = {"machine", *_ATTEMPTS}
FIXES = {name: fix for name, (_, fix) in _ATTEMPTS.items()}
OTHER_MACHINE = "use Linux on x86_64 or aarch64"
_PR_SET_PDEATHSIG, _PR_SET_NO_NEW_PRIVS = 1, 38


def denied(*calls: str, first: int | None = None) -> dict[str, Any]:
    return {"deny": [list(calls), errno.EPERM, first]}


LESS: dict[str, tuple[dict[str, Any], dict[str, str]]] = {
    "machine": (
        {"32 bits": []},
        dict.fromkeys(("machine", "seccomp", "capabilities"), OTHER_MACHINE),
    ),
    "no_new_privs": (
        denied("prctl", first=_PR_SET_NO_NEW_PRIVS),
        # Without it the kernel grants the other two to nobody but root.
        {n: FIXES[n] for n in ("no_new_privs", "landlock", "seccomp")},
    ),
    "landlock": (
        denied("landlock_create_ruleset"),
        {"landlock": FIXES["landlock"]},
    ),
    "seccomp": (denied("seccomp"), {"seccomp": FIXES["seccomp"]}),
    "rlimits": (denied("prlimit64", "setrlimit"), {"rlimits": FIXES["rlimits"]}),
    "capabilities": (denied("capset"), {"capabilities": FIXES["capabilities"]}),
    "parent_death": (
        denied("prctl", first=_PR_SET_PDEATHSIG),
        {"parent_death": FIXES["parent_death"]},
    ),
    "descriptors": ({"proc": []}, {"descriptors": FIXES["descriptors"]}),
}
"""What is taken away, the layers that are missing then, and what brings each."""


def guerdon(less: dict[str, Any], *words: str) -> subprocess.CompletedProcess[str]:
    """The command, on a machine with less."""
    command = [sys.executable, "-m", "tests.jail.lesser", json.dumps(less)]
    return subprocess.run(
        [*command, sys.executable, "-m", "guerdon", *words],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def examined(less: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The layers by name, and the other rows, of a machine that can do its main job."""
    done = guerdon(less, "doctor", "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["ok"] is True
    rows = {row["name"]: row for row in found["checks"]}
    layers = {
        n.removeprefix("jail: "): rows.pop(n) for n in list(rows) if "jail: " in n
    }
    assert layers.keys() == NAMES
    return layers, rows


def may_hide_proc() -> bool:
    less = json.dumps({"proc": []})
    command = [sys.executable, "-m", "tests.jail.lesser", less, "/bin/true"]
    return subprocess.run(command, cwd=ROOT, capture_output=True).returncode == 0


@pytest.mark.parametrize("name", LESS)
def test_a_layer_that_is_missing_is_told_and_refuses_the_jail_and_nothing_else(
    name: str, tmp_path: Path
) -> None:
    less, lost = LESS[name]
    if name == "descriptors" and not may_hide_proc():
        pytest.skip("this user may not have a view of their own on the files")
    layers, rows = examined(less)
    assert {n for n, row in layers.items() if not row["ok"]} == set(lost)
    for missing, fix in lost.items():
        assert fix in layers[missing]["detail"]
    assert rows["--trust jail"]["ok"] is False
    assert rows["--trust jail"]["detail"].startswith("refuses: no ")
    for missing in lost:
        assert missing in rows["--trust jail"]["detail"]

    out = tmp_path / "run"
    words = ["search", "guerdon/CartPole-v1", "--llm", "sampler", "--out", str(out)]
    refused = guerdon(less, *words, "--trust", "jail")
    assert refused.returncode == 2, refused.stderr
    assert "trust jail: this machine does not enforce " in refused.stderr
    for missing, fix in lost.items():
        assert f"{missing} (" in refused.stderr
        assert fix in refused.stderr
    assert "--trust language" in refused.stderr
    assert not out.exists()


@pytest.mark.parametrize("who", ["as we are", "without the rights of root"])
def test_a_whole_machine_is_told_to_be_whole(who: str) -> None:
    layers, rows = examined({} if who == "as we are" else {"root": []})
    assert all(row["ok"] for row in layers.values()), layers
    assert rows["--trust jail"] == {
        "name": "--trust jail",
        "ok": True,
        "detail": "all layers hold",
    }


def test_without_the_rights_of_root_a_lie_is_seen_too() -> None:
    layers, rows = examined({"root": []} | denied("landlock_restrict_self"))
    assert [n for n, row in layers.items() if not row["ok"]] == ["landlock"]
    assert not rows["--trust jail"]["ok"]


def test_a_lost_root_is_lost() -> None:
    """What stands for an ordinary user has none of the powers of root."""
    command = [sys.executable, "-m", "tests.jail.lesser", json.dumps({"root": []})]
    found = subprocess.run(
        [*command, "/bin/cat", "/proc/self/status"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    status = dict(line.split(":\t", 1) for line in found.splitlines() if ":\t" in line)
    assert int(status["CapEff"], 16) == int(status["CapPrm"], 16) == 0
    assert "0" not in status["Uid"].split()

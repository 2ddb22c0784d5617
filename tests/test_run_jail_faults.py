"""The command line on a machine that fails under a training in the jail."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from guerdon.journal import Journal
from tests.soak.kill import ROOT, can_mount

linux = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="the jail is for Linux"
)

# It keeps something in the scratch that the jail gives it, as it may.
NEEDS_ROOM = """# plan: remember a table
with open("0", "wb") as table:
    table.write(bytes(2 << 20))
def reward(prev, action, now, params):
    return {"gain": np.abs(prev.left - now.left)}
"""


@linux
@pytest.mark.skipif(
    sys.platform.startswith("linux") and not can_mount(),
    reason="no file system of one's own",
)
def test_a_full_scratch_stops_the_search_with_status_2_and_it_goes_on_with_room(
    tmp_path: Path,
) -> None:
    script, folder = tmp_path / "a.jsonl", tmp_path / "run"
    # The sockets of the workers lie there too, whose paths must be short.
    small = Path(tempfile.mkdtemp(prefix="g"))
    script.write_text(json.dumps(f"```python\n{NEEDS_ROOM}```") + "\n")
    words = [sys.executable, "-m", "guerdon", "search"]
    words += ["tests.agents.countdown_task:TASK", "--llm", f"scripted:{script}"]
    words += ["--trust", "jail", "--out", str(folder), "--candidates", "2"]
    words += ["--rounds", "1", "--steps", "64", "--seeds", "1", "--finalists", "1"]
    words += ["--final-seeds", "0", "--eval-episodes", "2", "--workers", "1"]
    search = subprocess.list2cmdline(words)
    mount = f"mount -t tmpfs -o size=1000k none {small}"
    room = f"mount -o remount,size=64m {small}"
    kept = f"cp -r {folder} {folder}.early"
    # The system files of the namespace are gone with it; the run folder is outside.
    commands = f"{mount} && {search}; echo status $?; {kept}; {room} && {search}"
    done = subprocess.run(
        ["unshare", "-rm", "sh", "-c", commands],
        cwd=ROOT,
        env={**os.environ, "TMPDIR": str(small), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    small.rmdir()  # outside its own view nothing was ever written to it
    assert "status 2\n" in done.stdout, done.stderr
    told = f"guerdon: {small}: No space left on device; make room and run the same"
    assert told in done.stderr
    with Journal.open(f"{folder}.early", readonly=True) as journal:
        (ours,) = [c for c in journal.candidates() if c.source and "table" in c.source]
        assert journal.trainings(ours.id) == []
    assert done.returncode == 0, done.stderr
    with Journal.open(folder, readonly=True) as journal:
        (training,) = journal.trainings(ours.id, "search")
        assert training.failure is None

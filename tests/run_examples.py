"""Runs the examples: ``python tests/run_examples.py [--full] [NAME ...]``.

Every numbered script and every notebook of ``examples/`` runs in a fresh process, with
tiny sizes (``GUERDON_QUICK=1``) unless ``--full`` or ``GUERDON_QUICK=0`` asks for the
real ones. Scripts run in an empty folder; a notebook that is stored with outputs is
refused, because outputs in git go stale and hide what a change did.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"

LIMIT_S = 900
"""Seconds after which an example is given up."""

TAIL = 3000
"""Characters of an error that are shown."""


class ExampleError(Exception):
    """An example that does not run, or is stored in a way it should not be."""


def find(names: Sequence[str], folder: Path = EXAMPLES) -> list[Path]:
    """The examples whose file name holds one of ``names``; all without names.

    Raises:
        ExampleError: when there is none.
    """
    every = sorted([*folder.glob("[0-9]*.py"), *folder.glob("*.ipynb")])
    chosen = [p for p in every if not names or any(name in p.name for name in names)]
    if not chosen:
        known = ", ".join(path.name for path in every) or "none"
        raise ExampleError(f"no example is called {', '.join(names)}; there is {known}")
    return chosen


def is_quick(arguments: Sequence[str], environ: Mapping[str, str]) -> bool:
    """Tiny sizes, unless the full ones are asked for."""
    return "--full" not in arguments and environ.get("GUERDON_QUICK") != "0"


def refuse_outputs(notebook: Path) -> None:
    """Refuse a notebook that is stored with outputs or run counts.

    Raises:
        ExampleError: names the cell.
    """
    cells = json.loads(notebook.read_text("utf-8"))["cells"]
    for number, cell in enumerate(cells, start=1):
        if cell.get("outputs") or cell.get("execution_count") is not None:
            raise ExampleError(
                f"{notebook.name}: cell {number} is stored with outputs; clear them "
                "(jupyter nbconvert --clear-output --inplace) before committing"
            )


def run(path: Path, quick: bool) -> float:
    """Run one example and give the seconds it took.

    Raises:
        ExampleError: when it fails or takes too long.
    """
    command = [sys.executable, str(path)]
    if path.suffix == ".ipynb":
        refuse_outputs(path)
        command = [sys.executable, "-m", "pytest", "--nbmake", "-q", str(path)]
        command += ["-p", "no:cacheprovider", "-n", "0"]
        command += [f"--nbmake-timeout={LIMIT_S}"]
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        try:
            done = subprocess.run(
                command,
                cwd=folder if path.suffix == ".py" else EXAMPLES.parent,
                env=_environment(quick, folder),
                capture_output=True,
                text=True,
                timeout=LIMIT_S,
            )
        except subprocess.TimeoutExpired:
            raise ExampleError(f"{path.name}: not done after {LIMIT_S} s") from None
    if done.returncode != 0:
        shown = f"{done.stdout[-TAIL:]}\n{done.stderr[-TAIL:]}".strip()
        raise ExampleError(f"{path.name} failed with status {done.returncode}\n{shown}")
    return time.monotonic() - started


def _environment(quick: bool, folder: str) -> dict[str, str]:
    return {
        **os.environ,
        "GUERDON_QUICK": "1" if quick else "0",
        "OMP_NUM_THREADS": "1",
        "MPLBACKEND": "Agg",
        # Settings of a user's own shell for Jupyter have no business here.
        "IPYTHONDIR": folder,
        "JUPYTER_CONFIG_DIR": folder,
    }


def main(arguments: Sequence[str]) -> int:
    """Run the examples; 1 when one of them fails."""
    names = [word for word in arguments if not word.startswith("--")]
    quick = is_quick(arguments, os.environ)
    failed = 0
    try:
        chosen = find(names)
    except ExampleError as error:
        print(error, file=sys.stderr)
        return 2
    for path in chosen:
        try:
            print(f"{path.name}: ran in {run(path, quick):.0f} s", flush=True)
        except ExampleError as error:
            failed += 1
            print(error, file=sys.stderr, flush=True)
    size = "tiny" if quick else "full"
    print(f"{len(chosen) - failed} of {len(chosen)} examples ran, with {size} sizes")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

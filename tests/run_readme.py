"""Runs the code blocks of Markdown pages: ``python tests/run_readme.py README.md``.

Blocks marked ``python`` and ``bash`` run in their order, those of one page in ONE fresh
process in an empty folder, the bash ones with this interpreter's programs first on the
path. A block marked ``text`` right after one of them is what it must print; a line
``...`` in it stands for any lines. A block below ``<!-- not run: reason -->`` is
skipped, and the summary says so. ``--update`` writes what the blocks print into the
page in the place of what it said; look at the difference before you commit it.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

LIMIT_S = 240
"""Seconds after which a page is given up."""

COLUMNS = 88
"""Width of the terminal that the commands believe in."""

RUN = ("python", "bash")

_FENCE = re.compile(r"^(\s*)```(\w*)\s*$")
_NOT_RUN = re.compile(r"<!-- not run: (.+) -->")

_MARK = "\x1e"
"""Printed before every block; no page prints it."""

_HELPER = f'''
import subprocess

def begin(line):
    print(f"{_MARK}{{line}}", flush=True)

def bash(line, file):
    begin(line)
    subprocess.run(["bash", "-euo", "pipefail", file], check=True)
'''


class PageError(Exception):
    """A page whose blocks cannot be told apart, or do not do what it says."""


@dataclass(frozen=True)
class Block:
    """One fenced block.

    Args:
        language: what stands behind the fence.
        line: of the opening fence, from 1.
        code: its text.
        skipped: why it is not run; None when it is.
        expected: what it must print; None when the page does not say.
        expected_line: of the fence above ``expected``; 0 when there is none.
    """

    language: str
    line: int
    code: tuple[str, ...]
    skipped: str | None = None
    expected: tuple[str, ...] | None = None
    expected_line: int = 0


def find_blocks(text: str) -> list[Block]:
    """The blocks that a page wants run, or skips, in their order.

    Raises:
        PageError: for a fence that is indented or never closed.
    """
    blocks: list[Block] = []
    above = ""
    opened: tuple[str, int, list[str]] | None = None
    adjacent = False
    for number, line in enumerate(text.splitlines(), start=1):
        fence = _FENCE.match(line)
        if opened is not None:
            language, start, code = opened
            if fence is None or fence[2]:
                code.append(line)
                continue
            opened = None
            if language in RUN:
                reason = _NOT_RUN.fullmatch(above)
                skipped = reason[1] if reason else None
                blocks.append(Block(language, start, tuple(code), skipped))
                adjacent = True
            elif language == "text" and adjacent and blocks:
                blocks[-1] = replace(
                    blocks[-1], expected=tuple(code), expected_line=start
                )
            above = ""
            continue
        if fence is not None:
            if fence[1] and fence[2] in RUN:
                raise PageError(f"line {number}: expected the fence at the margin")
            adjacent = adjacent and fence[2] == "text"
            opened = (fence[2], number, [])
        elif line.strip():
            above, adjacent = line.strip(), False
    if opened is not None:
        raise PageError(f"line {opened[1]}: this block is never closed")
    return blocks


def agrees(printed: Sequence[str], expected: Sequence[str]) -> bool:
    """Whether the printed lines are the expected ones; ``...`` stands for any."""
    if not expected:
        return not printed
    if expected[0].strip() == "...":
        rest = expected[1:]
        return any(agrees(printed[i:], rest) for i in range(len(printed) + 1))
    if not printed or printed[0] != expected[0]:
        return False
    return agrees(printed[1:], expected[1:])


def _lines(text: str) -> list[str]:
    """Lines without spaces at their ends and without empty lines around them."""
    return [line.rstrip() for line in text.strip("\n").splitlines()]


def write_script(blocks: Sequence[Block], folder: Path) -> Path:
    """One script whose line numbers are the page's, so that tracebacks point there."""
    (folder / "_blocks.py").write_text(_HELPER)
    lines: list[str] = []
    for block in blocks:
        lines += [""] * (block.line - 1 - len(lines))
        call = f"__import__('_blocks').begin({block.line})"
        if block.language == "bash":
            file = folder / f"line{block.line}.sh"
            file.write_text("\n".join(block.code) + "\n")
            call = f"__import__('_blocks').bash({block.line}, {str(file)!r})"
        lines.append(call)
        if block.language == "python":
            lines += block.code
    script = folder / "page.py"
    script.write_text("\n".join(lines) + "\n")
    return script


def run_page(page: Path, *, update: bool = False) -> str:
    """Run the blocks of a page and say in a line what was run.

    Args:
        page: a Markdown file.
        update: correct the outputs that the page shows instead of comparing them.

    Raises:
        PageError: when a block fails, prints something else, or takes too long.
    """
    blocks = find_blocks(page.read_text("utf-8"))
    chosen = [block for block in blocks if block.skipped is None]
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "here").mkdir()
        script = write_script(chosen, folder)
        try:
            done = subprocess.run(
                [sys.executable, str(script)],
                cwd=folder / "here",
                env=_environment(folder),
                capture_output=True,
                text=True,
                timeout=LIMIT_S,
            )
        except subprocess.TimeoutExpired:
            raise PageError(f"{page}: not done after {LIMIT_S} s") from None
    printed = _by_line(done.stdout)
    if done.returncode != 0:
        line = max(printed, default=0)
        error = done.stderr.strip()[-3000:]
        raise PageError(f"{page}:{line}: the block failed\n{error}")
    if update:
        _correct(page, chosen, printed)
    else:
        _compare(page, chosen, printed)
    return _summary(page, blocks, time.monotonic() - started)


def _environment(folder: Path) -> dict[str, str]:
    """A quiet terminal of fixed width, with this interpreter's programs first."""
    programs = str(Path(sys.executable).parent)
    return {
        **os.environ,
        "PATH": os.pathsep.join([programs, os.environ.get("PATH", "")]),
        "PYTHONPATH": str(folder),
        "COLUMNS": str(COLUMNS),
        "NO_COLOR": "1",
        "TERM": "dumb",
        "OMP_NUM_THREADS": "1",
    }


def _by_line(stdout: str) -> dict[int, str]:
    """What every block printed, by the line that it stands in."""
    printed: dict[int, str] = {}
    for piece in stdout.split(_MARK)[1:]:
        number, _, output = piece.partition("\n")
        printed[int(number)] = output
    return printed


def _compare(page: Path, blocks: Sequence[Block], printed: dict[int, str]) -> None:
    for block in blocks:
        if block.expected is None:
            continue
        got = _lines(printed.get(block.line, ""))
        if not agrees(got, _lines("\n".join(block.expected))):
            shown = "\n".join(got)
            raise PageError(
                f"{page}:{block.line}: the page says something else than what this "
                f"block prints, which is\n{shown}"
            )


def _correct(page: Path, blocks: Sequence[Block], printed: dict[int, str]) -> None:
    """Write what was printed where the page says something else."""
    lines = page.read_text("utf-8").splitlines()
    for block in reversed(blocks):
        if block.expected is None:
            continue
        got = _lines(printed.get(block.line, ""))
        if not agrees(got, _lines("\n".join(block.expected))):
            start = block.expected_line
            lines[start : start + len(block.expected)] = got
    page.write_text("\n".join(lines) + "\n", "utf-8")


def _summary(page: Path, blocks: Sequence[Block], seconds: float) -> str:
    counts = {name: 0 for name in RUN}
    compared = 0
    skipped = [block for block in blocks if block.skipped is not None]
    for block in blocks:
        if block.skipped is None:
            counts[block.language] += 1
            compared += block.expected is not None
    lines = [
        f"{page}: {counts['python']} python and {counts['bash']} bash blocks ran in "
        f"{seconds:.0f} s, {compared} outputs compared, {len(skipped)} not run"
    ]
    lines += [f"  not run, line {block.line}: {block.skipped}" for block in skipped]
    return "\n".join(lines)


def main(arguments: Sequence[str]) -> int:
    """Run every page; 1 when one of them fails, 2 for no page."""
    update = "--update" in arguments
    pages = [word for word in arguments if word != "--update"]
    if not pages:
        print("usage: run_readme.py [--update] PAGE.md ...", file=sys.stderr)
        return 2
    failed = 0
    for page in pages:
        try:
            print(run_page(Path(page), update=update), flush=True)
        except PageError as error:
            failed += 1
            print(error, file=sys.stderr, flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

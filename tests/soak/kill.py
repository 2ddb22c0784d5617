"""Kill a small search at a seeded moment, go on, and compare with the undisturbed run.

What is killed is the controller (at a time, or at the k-th write, rename, commit, ...),
a worker, or the model server; or the disk is full for a while.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from guerdon.journal.file import FILE_NAME
from guerdon.run import RunConfig
from tests.soak.contents import begun, contents, difference, on_disk, questions
from tests.soak.controller import MOMENTS

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 120.0
"""Seconds after which a run counts as hanging."""

SEARCH = RunConfig(
    task="tests.agents.countdown_task:TASK",
    llm="sampler",
    candidates=6,
    rounds=2,
    steps=100,
    seeds=2,
    finalists=2,
    final_seeds=1,
    eval_episodes=2,
)
KINDS = (*MOMENTS, "time", "time", "time", "worker", "model server", "full disk")
"""What a point may be, each as likely as the others; a time counts three times."""


@dataclass(frozen=True)
class Point:
    """Where one run is disturbed."""

    number: int
    kind: str
    at: float
    """Share of the moments of that kind, or of the run's time, 0 to 1."""
    report: bool
    """Whether the run writes its real report, which takes most of its time."""


def points(count: int, seed: int) -> Iterator[Point]:
    """The seeded points; every kind comes before any comes again."""
    rng = random.Random(seed)
    for number in range(count):
        place = number % len(KINDS)
        if place == 0:
            kinds = rng.sample(KINDS, len(KINDS))
        yield Point(number, kinds[place], rng.random(), rng.random() < 0.25)


@dataclass
class Outcome:
    """What came of one point."""

    point: Point
    seconds: float = 0.0
    killed: bool = False
    """Whether it was struck at all; a run may be over before."""
    under_way: int = 0
    """Answers that were asked for again, since they were on no disk when it struck."""
    errors: list[str] = field(default_factory=list)


class Server:
    """The model server's process, always on one port."""

    def __init__(self, folder: Path) -> None:
        self.log = folder / "model.log"
        self.port = 0
        self.start()

    def start(self) -> None:
        words = [sys.executable, "-m", "tests.soak.model", str(self.port)]
        self.process = subprocess.Popen(
            [*words, str(self.log)],
            cwd=ROOT,
            env=_environment(),
            stdout=subprocess.PIPE,
        )
        assert self.process.stdout is not None
        self.port = int(self.process.stdout.readline())

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()

    def paid(self, since: int = 0) -> list[str]:
        """Questions that were answered, in order."""
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        return [line.split()[1] for line in lines[since:] if line.startswith("paid")]

    def lines(self) -> int:
        return len(self.log.read_text().splitlines()) if self.log.exists() else 0


def _environment(**more: str) -> dict[str, str]:
    return {
        "PYTHONPATH": str(ROOT),
        "PATH": os.environ.get("PATH", "/usr/bin:/bin"),
        "OMP_NUM_THREADS": "1",
        **more,
    }


class Ground:
    """An undisturbed run with its model server, and the runs that are disturbed."""

    def __init__(
        self,
        folder: Path,
        config: RunConfig = SEARCH,
        reports: tuple[bool, ...] = (True, False),
    ) -> None:
        self.folder = folder
        self.server = Server(folder)
        uri = f"http://127.0.0.1:{self.server.port}/v1#tiny"
        self.config = replace(config, llm=uri)
        self.counts: dict[bool, dict[str, int]] = {}
        self.seconds: dict[bool, float] = {}
        self.sizes: dict[bool, int] = {}
        for report in reports:
            calm = self.folder / f"calm-{report}"
            started = time.monotonic()
            process = self.controller(calm, report=report)
            self.counts[report] = json.loads(_ended(process))
            self.seconds[report] = time.monotonic() - started
            files = [p for p in calm.rglob("*") if p.is_file()]
            self.sizes[report] = sum(p.stat().st_size for p in files)
        self.calm = contents(calm)
        self.questions = questions(calm)

    def __enter__(self) -> Ground:
        return self

    def __exit__(self, *_: object) -> None:
        self.server.kill()

    def words(self, folder: Path, moment: str = "never", count: int = 0) -> list[str]:
        script = str(ROOT / "tests" / "soak" / "controller.py")
        config = json.dumps(asdict(self.config))
        return [sys.executable, script, str(folder), config, moment, str(count)]

    def controller(
        self, folder: Path, moment: str = "never", count: int = 0, *, report: bool
    ) -> subprocess.Popen[str]:
        return subprocess.Popen(
            self.words(folder, moment, count),
            cwd=ROOT,
            env=_environment(REPORT="real" if report else "quick"),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    # --- one point ----------------------------------------------------------------

    def try_point(self, point: Point) -> Outcome:
        """Disturb one run, let it go on, and compare.

        A run that was over before it was struck is struck earlier.
        """
        outcome = self._try(point)
        for _ in range(4):
            if outcome.killed or outcome.errors:
                break
            point = replace(point, at=point.at / 2)
            seconds, outcome = outcome.seconds, self._try(point)
            outcome.seconds += seconds
        return outcome

    def _try(self, point: Point) -> Outcome:
        started = time.monotonic()
        outcome = Outcome(point)
        folder = self.folder / f"point-{point.number}"
        before = self.server.lines()
        try:
            if point.kind == "full disk":
                self._full_disk(point, folder, outcome)
            else:
                self._strike(point, folder, outcome)
                self._go_on(folder, point, before, outcome)
            self._compare(folder, point, before, outcome)
        except (AssertionError, subprocess.TimeoutExpired, ValueError) as error:
            outcome.errors.append(f"{type(error).__name__}: {str(error)[-1500:]}")
        if not outcome.errors:
            shutil.rmtree(folder)
        outcome.seconds = time.monotonic() - started
        return outcome

    def _strike(self, point: Point, folder: Path, outcome: Outcome) -> None:
        if point.kind in MOMENTS:
            count = 1 + int(point.at * self.counts[point.report][point.kind])
            process = self.controller(folder, point.kind, count, report=point.report)
        else:
            process = self.controller(folder, report=point.report)
            time.sleep(point.at * self.seconds[point.report])
            if point.kind == "time":
                process.kill()
            elif point.kind == "worker":
                outcome.killed = _kill_a_worker(process, random.Random(point.number))
            else:
                self.server.kill()
                outcome.killed = process.poll() is None
                time.sleep(0.2)
                self.server.start()
        stdout, stderr = process.communicate(timeout=PATIENCE)
        if process.returncode == -signal.SIGKILL:
            outcome.killed = True
        else:
            assert process.returncode == 0, f"{process.returncode}: {stderr}"
            assert json.loads(stdout)

    def _go_on(self, folder: Path, point: Point, before: int, outcome: Outcome) -> None:
        """The same command again; what was kept is neither paid nor trained again."""
        kept = on_disk(folder)
        asked, log = self.server.lines(), begun(folder)
        earlier = set(self.server.paid(before))
        _ended(self.controller(folder, report=point.report))
        again = self.server.paid(asked)
        assert len(set(again)) == len(again), "an answer was paid for again"
        bought = {self.questions[key] for key in kept.calls}
        assert not bought & set(again), "an answer that was kept was paid for again"
        # Of what was answered before, this had reached no disk.
        outcome.under_way = len(earlier & set(again))
        assert outcome.under_way <= 1, "more than one call was under way"
        assert kept.calls <= on_disk(folder).calls, "an answer was lost"
        twice = [k for k in begun(folder)[len(log) :] if k in kept.trainings]
        assert not twice, f"trained again: {twice}"

    def _compare(
        self, folder: Path, point: Point, before: int, outcome: Outcome
    ) -> None:
        with closing(sqlite3.connect(folder / FILE_NAME)) as db:
            assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        found = contents(folder)
        lenient = point.kind in ("model server", "full disk")
        for name, calm in self.calm.items():
            mine = found[name]
            if name == "summary" and lenient:
                # A call that the server broke off is counted, and may have cost.
                mine = {**mine, "calls": calm["calls"], "tokens": calm["tokens"]}
            assert mine == calm, f"{name} differs: {difference(mine, calm)}"
        assert (folder / "report.html").exists(), "report.html is missing"
        counts = Counter(self.server.paid(before))
        most = 1 if outcome.under_way == 0 and not lenient else 2
        asked = max(counts.values(), default=0)
        assert asked <= most, f"an answer was paid for {asked} times"
        trained = Counter(begun(folder))
        assert set(trained.values()) <= {1, 2}, f"trained thrice: {trained}"

    # --- a full disk ------------------------------------------------------------------

    def _full_disk(self, point: Point, folder: Path, outcome: Outcome) -> None:
        """Too little room at first: in its own file system, where that is allowed."""
        size = int(self.sizes[point.report] * (0.05 + 0.9 * point.at)) // 1024 + 4
        report = "real" if point.report else "quick"
        run = subprocess.list2cmdline(self.words(folder))
        if can_mount():
            small = f"mount -t tmpfs -o size={size}k none {folder}"
            roomy = f"mount -o remount,size=64m {folder}"
            # What lies in the namespace is gone with it.
            script = (
                f"{small} && {{ {run} 2>{folder}.err; echo status $?; {roomy}; {run}; "
                f"mkdir {folder}.kept && cp -a {folder}/. {folder}.kept/; }}"
            )
            command = ["unshare", "-rm", "sh", "-c", script]
        else:
            script = f"(ulimit -f {max(1, size // 4)}; {run} 2>{folder}.err; "
            script += f"echo status $?); {run}"
            command = ["sh", "-c", script]
        folder.mkdir()
        done = subprocess.run(
            command,
            cwd=ROOT,
            env=_environment(REPORT=report),
            capture_output=True,
            text=True,
            timeout=2 * PATIENCE,
            check=False,
        )
        said = Path(f"{folder}.err").read_text()
        Path(f"{folder}.err").unlink()
        assert done.returncode == 0, f"{done.returncode}: {done.stderr}"
        outcome.killed = "status 0" not in done.stdout
        if outcome.killed:
            assert "run the same command again" in said, said
        if can_mount():
            folder.rmdir()
            Path(f"{folder}.kept").rename(folder)


def _ended(process: subprocess.Popen[str]) -> str:
    try:
        stdout, stderr = process.communicate(timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        raise
    assert process.returncode == 0, f"{process.returncode}: {stderr}"
    return stdout


def _kill_a_worker(process: subprocess.Popen[str], rng: random.Random) -> bool:
    """SIGKILL for one of the workers; False when the run ended before there was one."""
    while process.poll() is None:
        servers = [
            pid
            for pid in _children(process.pid)
            if b"forkserver" in _read(f"/proc/{pid}/cmdline")
        ]
        workers = [pid for server in servers for pid in _children(server)]
        if workers:
            with suppress(ProcessLookupError):
                os.kill(rng.choice(workers), signal.SIGKILL)
            return True
        time.sleep(0.01)
    return False


def _children(pid: int) -> list[int]:
    found: list[int] = []
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        found += map(int, _read(str(path)).split())
    return found


def _read(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError:
        return b""


def can_mount() -> bool:
    """Whether this user may mount a file system in a namespace of their own."""
    command = ["unshare", "-rm", "sh", "-c", "mount -t tmpfs none /tmp"]
    try:
        done = subprocess.run(command, capture_output=True, check=False)
    except OSError:
        return False
    return done.returncode == 0

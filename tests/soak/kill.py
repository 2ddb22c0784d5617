"""Kill a small search at a seeded moment, go on, and compare with the undisturbed run.

What is killed is the controller (at a time, or at the k-th write, rename, commit, ...),
a worker (at a time, or at the k-th rename of all workers; alone, or the controller with
it), or the model server; or the disk is full for a while.
"""

from __future__ import annotations

import json
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from contextlib import closing
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from guerdon.journal.file import FILE_NAME
from guerdon.run import RunConfig
from tests.soak.contents import (
    contents,
    difference,
    on_disk,
    questions,
    repeated,
    retried,
    works,
)
from tests.soak.controller import MOMENTS
from tests.soak.jobs import PLAN, WORKS, Plan, seen, watch_of, write_plan
from tests.soak.points import IN_WORKERS, SEARCH, Point
from tests.soak.processes import (
    PATIENCE,
    ROOT,
    Server,
    can_mount,
    ended,
    environment,
    kill_a_worker,
    words,
)


@dataclass
class Outcome:
    """What came of one point."""

    point: Point
    seconds: float = 0.0
    killed: bool = False
    """Whether it was struck at all; a run may be over before."""
    under_way: int = 0
    """Answers that were asked for again, since they were on no disk when it struck."""
    repeated: int = 0
    """Trainings that were begun again, since no journal had them when it struck."""
    errors: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Struck:
    """What there was between the disturbance and the run that went on."""

    calls: set[str]
    trainings: set[str]
    asked: int
    """Lines in the log of the model server."""
    begun: int
    """Work that the workers had begun."""


class Ground:
    """An undisturbed run with its model server, and the runs that are disturbed.

    Args:
        folder: where all of it lies.
        config: of every run; its model is the server, but in a race.
        reports: whether there are points with a real report, and without.
        real: whether trainings learn indeed.
    """

    def __init__(
        self,
        folder: Path,
        config: RunConfig = SEARCH,
        reports: tuple[bool, ...] = (True, False),
        *,
        real: bool = False,
    ) -> None:
        folder.mkdir(exist_ok=True)
        self.folder, self.real = folder, real
        self.server = Server(folder)
        uri = f"http://127.0.0.1:{self.server.port}/v1#tiny"
        self.config = config
        if config.trainer != "population":
            self.config = replace(config, llm=uri)
        self.counts: dict[bool, dict[str, int]] = {}
        self.seconds: dict[bool, float] = {}
        self.sizes: dict[bool, int] = {}
        for report in reports:
            calm = self.folder / f"calm-{report}"
            write_plan(calm, Plan())
            started = time.monotonic()
            process = self.controller(calm, report=report)
            self.counts[report] = json.loads(ended(process))
            self.seconds[report] = time.monotonic() - started
            files = [p for p in calm.rglob("*") if p.is_file()]
            self.sizes[report] = sum(p.stat().st_size for p in files)
        moments = {plan.moment for plan in IN_WORKERS.values()}
        self.in_workers = {moment: seen(calm, moment) for moment in moments}
        self.calm = contents(calm, real=real)
        self.questions = questions(calm)
        assert retried(works(calm), worker=False) == 0

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
            env=self.environment(report),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def environment(self, report: bool) -> dict[str, str]:
        return environment(
            REPORT="real" if report else "quick", JOBS="real" if self.real else "quick"
        )

    # --- one point ----------------------------------------------------------------

    def try_point(self, point: Point) -> Outcome:
        """Disturb one run, let it go on, and compare.

        A run that was over before it was struck is struck earlier, and at last at the
        first moment that there is.
        """
        seconds = 0.0
        for share in (1.0, 0.5, 0.25, 0.125, 0.0):
            outcome = self._try(replace(point, at=point.at * share))
            seconds += outcome.seconds
            if outcome.killed or outcome.errors:
                break
        outcome.seconds = seconds
        return outcome

    def _try(self, point: Point) -> Outcome:
        started = time.monotonic()
        outcome = Outcome(point)
        folder = self.folder / f"point-{point.number}"
        before = self.server.lines()
        try:
            if point.kind == "full disk":
                struck = self._full_disk(point, folder, outcome)
            else:
                self._strike(point, folder, outcome)
                struck = self._now(folder)
                ended(self.controller(folder, report=point.report))
            self._account(folder, point, before, struck, outcome)
            self._compare(folder, point, before, outcome)
        except (
            *(AssertionError, subprocess.TimeoutExpired, ValueError),
            *(OSError, LookupError, sqlite3.Error),
        ) as error:
            outcome.errors.append(words(error))
        if not outcome.errors:
            shutil.rmtree(folder)
            shutil.rmtree(watch_of(folder), ignore_errors=True)
        outcome.seconds = time.monotonic() - started
        return outcome

    def _strike(self, point: Point, folder: Path, outcome: Outcome) -> None:
        if point.kind in MOMENTS:
            count = 1 + int(point.at * self.counts[point.report][point.kind])
            process = self.controller(folder, point.kind, count, report=point.report)
        elif point.kind in IN_WORKERS:
            plan = IN_WORKERS[point.kind]
            most = self.in_workers[plan.moment]
            plan = replace(plan, count=1 + int(point.at * most))
            write_plan(folder, plan)
            process = self.controller(folder, report=point.report)
        else:
            process = self.controller(folder, report=point.report)
            time.sleep(point.at * self.seconds[point.report])
            if point.kind == "time":
                process.kill()
            elif point.kind == "worker":
                outcome.killed = kill_a_worker(process, random.Random(point.number))
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
        if point.kind in IN_WORKERS:
            outcome.killed = seen(folder, plan.moment) >= plan.count
            died = process.returncode == -signal.SIGKILL
            assert died == (outcome.killed and plan.controller), "the wrong one died"
            (watch_of(folder) / PLAN).unlink()

    def _now(self, folder: Path) -> Struck:
        kept = on_disk(folder)
        begun = len(works(folder))
        return Struck(kept.calls, kept.trainings, self.server.lines(), begun)

    def _account(
        self, folder: Path, point: Point, before: int, struck: Struck, outcome: Outcome
    ) -> None:
        """What was kept was neither paid nor trained again when the run went on."""
        again = self.server.paid(struck.asked)
        earlier = set(self.server.paid(before, struck.asked))
        assert len(set(again)) == len(again), "an answer was paid for again"
        bought = {self.questions[key] for key in struck.calls}
        assert not bought & set(again), "an answer that was kept was paid for again"
        # Of what was answered before, this had reached no disk.
        outcome.under_way = len(earlier & set(again))
        assert outcome.under_way <= 1, "more than one call was under way"
        assert struck.calls <= on_disk(folder).calls, "an answer was lost"
        found = works(folder)
        first, second = found[: struck.begun], found[struck.begun :]
        if point.kind.startswith(("worker", "model server")):
            # The controller went on by itself, to the end.
            worker = point.kind.startswith("worker")
            outcome.repeated = retried(first, worker=worker)
            assert not second, "a run that was over trained again"
        else:
            outcome.repeated = repeated(first, second, struck.trainings)

    def _compare(
        self, folder: Path, point: Point, before: int, outcome: Outcome
    ) -> None:
        with closing(sqlite3.connect(folder / FILE_NAME)) as db:
            assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        found = contents(folder, real=self.real)
        lenient = point.kind in ("model server", "full disk")
        for name, calm in self.calm.items():
            mine = found[name]
            if name == "summary" and lenient:
                # A call that the server broke off is counted, and may have cost.
                mine = {**mine, "calls": calm["calls"], "tokens": calm["tokens"]}
            assert mine == calm, f"{name} differs: {difference(mine, calm)}"
        assert (folder / "report.html").exists(), "report.html is missing"
        if point.report:
            page = (folder / "report.html").read_text().rstrip()
            assert page.endswith("</html>"), "report.html is cut off"
        counts = Counter(self.server.paid(before))
        most = 1 if outcome.under_way == 0 and not lenient else 2
        asked = max(counts.values(), default=0)
        assert asked <= most, f"an answer was paid for {asked} times"

    # --- a full disk ------------------------------------------------------------------

    def _full_disk(self, point: Point, folder: Path, outcome: Outcome) -> Struck:
        """Too little room at first: in its own file system, where that is allowed."""
        size = int(self.sizes[point.report] * (0.05 + 0.9 * point.at)) // 1024 + 4
        run = subprocess.list2cmdline(self.words(folder))
        watch, between = watch_of(folder), folder.with_name(f"{folder.name}.between")
        error = watch / "error"
        # What there is between the two runs; what lies in the namespace goes with it.
        look = (
            f"mkdir {between} && cp -a {folder}/. {between}/; "
            f"cp {watch / WORKS} {watch / 'begun'}; cp {self.server.log} {watch}/asked"
        )
        if can_mount():
            small = f"mount -t tmpfs -o size={size}k none {folder}"
            roomy = f"mount -o remount,size=64m {folder}"
            script = (
                f"{small} && {{ {run} 2>{error}; echo status $?; {look}; {roomy}; "
                f"{run} && mkdir {folder}.kept && cp -a {folder}/. {folder}.kept/; }}"
            )
            command = ["unshare", "-rm", "sh", "-c", script]
        else:
            script = f"(ulimit -f {max(1, size // 4)}; {run} 2>{error}; "
            script += f"echo status $?); {look}; {run}"
            command = ["sh", "-c", script]
        folder.mkdir()
        watch.mkdir()
        done = subprocess.run(
            command,
            cwd=ROOT,
            env=self.environment(point.report),
            capture_output=True,
            text=True,
            timeout=2 * PATIENCE,
            check=False,
        )
        said = error.read_text()
        assert done.returncode == 0, f"{done.returncode}: {done.stderr}"
        outcome.killed = "status 0" not in done.stdout
        if outcome.killed:
            assert "run the same command again" in said, said
        if can_mount():
            folder.rmdir()
            Path(f"{folder}.kept").rename(folder)
        kept = on_disk(between)
        shutil.rmtree(between)
        asked, begun = (_lines(watch / name) for name in ("asked", "begun"))
        first = [line for line in begun if '"begun"' in line]
        return Struck(kept.calls, kept.trainings, len(asked), len(first))


def _lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []

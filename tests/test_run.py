"""Whole runs: from an empty folder to a report, undisturbed, broken off, and killed."""

from __future__ import annotations

import hashlib
import json
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from guerdon.extras import MissingExtra
from guerdon.journal import Journal, JournalBusy, JournalError
from guerdon.reward_design.search.candidate import MODEL_OPERATORS, OWN_OPERATORS
from guerdon.run import Resources, RunConfig, run_search
from guerdon.run.loop import operators_of
from tests.llm.conftest import FakeServer, Reply, completion
from tests.run_jobs import LOG

ROOT = Path(__file__).resolve().parents[1]
COUNTDOWN = "tests.agents.countdown_task:TASK"
FAKE = Resources(workers=2, function="tests.run_jobs:train")
SMALL = RunConfig(
    task=COUNTDOWN,
    llm="sampler",
    candidates=4,
    rounds=2,
    steps=100,
    seeds=2,
    finalists=2,
    final_seeds=1,
    eval_episodes=2,
)
GOOD = """# plan: count down
PARAMS = {{"w": {weight}}}
def reward(prev, action, now, params):
    return {{"gain": params.w * (prev.left - now.left)}}
"""
BROKEN = GOOD.replace("now.left", "now.lefft")


class Model:
    """A server whose answer depends on the request alone.

    One in five is broken, and one in five is refused without a second try.
    """

    def __init__(
        self, usage: tuple[int, int] = (1500, 60), polite: bool = True
    ) -> None:
        self.server = FakeServer()
        self.server.decide = self.decide
        self.usage, self.polite = usage, polite
        self.delay = 0.0
        self.asked: list[str] = []

    @property
    def uri(self) -> str:
        return f"{self.server.url}#tiny"

    def decide(self, body: dict[str, Any]) -> Reply:
        messages = json.dumps(body["messages"], sort_keys=True)
        if len(body["messages"]) == 1:  # the question whether it knows grammars
            return Reply({"error": {"message": "what is a grammar?"}}, 400)
        self.asked.append(
            hashlib.sha256(f"{messages}{body['seed']}".encode()).hexdigest()
        )
        number = int(self.asked[-1][:8], 16)
        if number % 5 == 1 and not self.polite:
            return Reply({"error": {"message": "not today"}}, 401)
        text = BROKEN if number % 5 == 0 else GOOD
        answer = text.format(weight=1 + number % 1000 / 1000)
        return Reply(completion(answer, usage=self.usage), delay=self.delay)


@pytest.fixture(autouse=True)
def _no_keys_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_API_KEY", "GUERDON_API_KEY", "GUERDON_API_KEY_FILE"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def model() -> Iterator[Model]:
    found = Model()
    yield found
    found.server.close()


@pytest.fixture
def real_report() -> None:
    """For tests that look at the report; the others do without its two seconds."""


@pytest.fixture(autouse=True)
def _quick_report(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    if "real_report" not in request.fixturenames:

        def write(folder: Path) -> None:
            (folder / "report.html").write_text("quick")

        monkeypatch.setattr("guerdon.run.search.write_report", write)


class Seen:
    """What an observer was told; may break the run off at an event."""

    def __init__(self, kind: str = "", count: int = 0) -> None:
        self.events: list[tuple[str, dict[str, Any]]] = []
        self.kind, self.count = kind, count

    def __call__(self, kind: str, data: Any) -> None:
        self.events.append((kind, dict(data)))
        if kind == self.kind and len(self.of(kind)) == self.count:
            raise KeyboardInterrupt

    def of(self, kind: str) -> list[dict[str, Any]]:
        return [data for name, data in self.events if name == kind]


def without_times(summary: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in summary.items() if key != "wall_seconds"}


def begun(folder: Path) -> list[str]:
    """Keys of the trainings that were begun, as often as they were."""
    log = folder / "trainings" / LOG
    return log.read_text().split() if log.exists() else []


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def records(folder: Path) -> dict[str, Any]:
    """What a run decided and measured, in an order of its own."""
    with Journal.open(folder, readonly=True) as journal:
        return {
            "candidates": journal.candidates(),
            "trainings": sorted(journal.trainings(), key=lambda t: t.key),
            "rounds": journal.rounds(),
            "calls": sorted(
                ((c.key, c.answer, c.failure) for c in journal.calls()), key=str
            ),
            "selection": journal.meta("selection"),
            "budget": journal.meta("budget"),
        }


# --- undisturbed ------------------------------------------------------------------


@pytest.mark.usefixtures("real_report")
def test_a_search_ends_with_winner_baselines_and_a_report_that_comes_back(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "run"
    seen = Seen()
    summary = run_search(SMALL, folder, FAKE, seen)
    assert summary["candidates"] == 8
    assert summary["winner"]["id"].startswith("r")
    assert summary["winner"]["fitness"]["n"] == 2
    assert summary["holdout"]["sparse"]["fitness"]["n"] == 2
    assert summary["holdout"]["human"] is None
    assert summary["best_of_n"]["id"] is not None
    assert summary["tokens"] == {"prompt": 0, "completion": 0}
    assert summary["calls"] == {"ok": 0, "failed": 0}
    assert summary["by_origin"]["operators"]["candidates"] == 8
    assert summary["by_origin"]["model"] == {"candidates": 0, "best": None}
    assert summary["cpu_seconds"] == 0.5 * sum(
        t.result is not None for t in records(folder)["trainings"]
    )
    assert json.loads(json.dumps(summary, allow_nan=False)) == summary
    assert "<html" in (folder / "report.html").read_text()
    assert json.loads((folder / "report.json").read_text())
    # Every training was begun once, and all that was begun is in the journal.
    assert sorted(begun(folder)) == [t.key for t in records(folder)["trainings"]]
    assert [data["number"] for data in seen.of("round")] == [1, 2]
    # A report that is gone is written again; the journal stays as it is.
    journal = (folder / "journal.sqlite").read_bytes()
    (folder / "report.html").unlink()
    assert run_search(SMALL, folder) == summary
    assert "<html" in (folder / "report.html").read_text()
    assert (folder / "journal.sqlite").read_bytes() == journal


def test_the_winner_is_the_one_that_the_journals_scores_say(tmp_path: Path) -> None:
    config = replace(SMALL, rounds=1, finalists=1)
    summary = run_search(config, tmp_path, FAKE)
    scores = {
        t.candidate: t.result["fitness"]
        for t in records(tmp_path)["trainings"]
        if t.purpose == "search" and t.result is not None
    }
    best = max(scores, key=lambda name: scores[name])
    assert summary["winner"]["id"] == best
    assert summary["by_origin"]["operators"]["best"]["id"] == best
    assert summary["by_origin"]["operators"]["best"]["fitness"] == scores[best]
    rows = [
        t.result["fitness"]
        for t in records(tmp_path)["trainings"]
        if t.purpose == "holdout" and t.candidate == best
    ]
    assert sorted(summary["winner"]["fitness"][k] for k in ("low", "high")) == sorted(
        [min(rows), max(rows)]
    )


def test_two_runs_of_one_configuration_are_the_same_apart_from_times(
    tmp_path: Path,
) -> None:
    config = replace(SMALL, search_seeds=2)
    summaries = [run_search(config, tmp_path / name, FAKE) for name in "ab"]
    assert without_times(summaries[0]) == without_times(summaries[1])
    assert records(tmp_path / "a") == records(tmp_path / "b")


def test_another_seed_searches_something_else(tmp_path: Path) -> None:
    one = replace(SMALL, rounds=1, finalists=1, seeds=1)
    for number in (0, 1):
        run_search(replace(one, seed=number), tmp_path / str(number), FAKE)
    sources = [
        [c.source for c in records(tmp_path / name)["candidates"]] for name in "01"
    ]
    assert sources[0] != sources[1]


def test_a_finished_run_is_read_again_without_a_byte_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    summary = run_search(SMALL, tmp_path, FAKE)
    before = contents(tmp_path)
    monkeypatch.setattr("guerdon.run.search.WorkerPool", None)
    monkeypatch.setattr("guerdon.run.search.connect", None)
    assert run_search(SMALL, tmp_path) == summary
    assert contents(tmp_path) == before


@pytest.mark.parametrize("edited", [1, [], "done", {}, {"winner": None}])
def test_a_summary_that_says_something_else_is_refused_and_not_shown(
    tmp_path: Path, edited: object
) -> None:
    with Journal.create(tmp_path, SMALL.as_record()) as journal:
        journal.set_meta("summary", edited)
    before = contents(tmp_path)
    with pytest.raises(JournalError, match="a summary that cannot be read"):
        run_search(SMALL, tmp_path, FAKE)
    assert contents(tmp_path) == before


# --- with a model ------------------------------------------------------------------


def test_a_model_behind_http_and_the_operators_search_together(
    tmp_path: Path, model: Model
) -> None:
    summary = run_search(replace(SMALL, llm=model.uri), tmp_path, FAKE)
    found = records(tmp_path)
    answers = [call for call in found["calls"] if call[2] is None]
    assert len(answers) == len(model.asked) == summary["calls"]["ok"] > 1
    assert len(set(model.asked)) == len(model.asked)
    assert summary["tokens"] == {
        "prompt": 1500 * len(answers),
        "completion": 60 * len(answers),
    }
    by_model = [c for c in found["candidates"] if c.operator.startswith("model_")]
    assert len(by_model) >= 2
    hands = {name: row["candidates"] for name, row in summary["by_origin"].items()}
    assert sum(hands.values()) == summary["candidates"]
    assert hands["model"] <= len(by_model) <= hands["model"] + hands["both"]
    keys = {call[0] for call in answers}
    assert all(c.call_key in keys for c in by_model)
    assert any(c.plan == "count down" for c in by_model)


def test_a_script_of_answers_and_failures_is_searched_to_its_end(
    tmp_path: Path,
) -> None:
    script = tmp_path / "answers.jsonl"
    broken = BROKEN.format(weight=1)
    lines = [
        GOOD.format(weight=0.125),
        *(broken, broken),
        *(broken, GOOD.format(weight=0.25)),
        {"error": "timeout", "message": "too slow"},
    ]
    script.write_text("".join(json.dumps(line) + "\n" for line in lines))
    config = replace(SMALL, candidates=8, rounds=1, llm=f"scripted:{script}")
    summary = run_search(config, tmp_path / "run", FAKE)
    found = records(tmp_path / "run")
    by_model = [c for c in found["candidates"] if c.operator == "model_fresh"]
    assert [c.failure is None for c in by_model] == [True, False, True]
    refused = by_model[1].failure
    assert refused is not None
    assert (refused.kind, refused.line) == ("schema", 4)
    assert by_model[1].source == broken
    assert len(found["candidates"]) == 8
    assert summary["calls"] == {"ok": 5, "failed": 1}
    assert summary["failures"]["schema"] >= 1


def test_a_dead_endpoint_leaves_the_search_to_the_operators(
    tmp_path: Path, model: Model
) -> None:
    model.server.decide = lambda body: Reply({"error": {"message": "no"}}, 401)
    summary = run_search(replace(SMALL, llm=model.uri), tmp_path, FAKE)
    assert summary["winner"] is not None
    assert summary["calls"]["ok"] == 0
    assert summary["calls"]["failed"] >= 2
    assert summary["by_origin"]["model"]["candidates"] == 0
    assert summary["candidates"] == 8


def test_an_exhausted_budget_ends_the_round_and_the_run_has_a_report(
    tmp_path: Path, model: Model
) -> None:
    model.usage = (900, 200)
    config = replace(SMALL, candidates=8, rounds=3, llm=model.uri)
    summary = run_search(config, tmp_path, replace(FAKE, budget_tokens=3000))
    assert summary["budget"] == {"after_round": 1}
    assert 0 < summary["tokens"]["prompt"] + summary["tokens"]["completion"] <= 3000
    assert len(records(tmp_path)["rounds"]) == 1
    assert summary["candidates"] == 8
    assert summary["winner"] is not None
    assert (tmp_path / "report.html").exists()


def test_trainings_are_journaled_while_the_model_writes(
    tmp_path: Path, model: Model
) -> None:
    model.delay = 1.0
    config = replace(SMALL, candidates=2, rounds=1, finalists=1, seeds=1)
    seen = Seen()
    run_search(replace(config, llm=model.uri), tmp_path, FAKE, seen)
    kinds = [
        (kind, data.get("id"))
        for kind, data in seen.events
        if kind in ("proposing", "trained", "candidate")
    ]
    asked, answered = (
        kinds.index(("proposing", "r1-c01")),
        kinds.index(("candidate", "r1-c01")),
    )
    assert ("trained", None) in kinds[asked:answered]


# --- broken off ----------------------------------------------------------------------

POINTS = [("called", 2), ("trained", 4), ("round_done", 1), ("trained", 15)]
"""In the first round, at its end, and in the holdout."""


@dataclass
class Calm:
    """An undisturbed run, and the model that it asked."""

    model: Model
    config: RunConfig
    folder: Path
    summary: dict[str, Any]
    asked: list[str]


@pytest.fixture(scope="module")
def calm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Calm]:
    model = Model(polite=False)
    config = replace(SMALL, candidates=6, llm=model.uri)
    folder = tmp_path_factory.mktemp("calm")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("guerdon.run.search.write_report", lambda folder: None)
        summary = run_search(config, folder, FAKE)
    yield Calm(model, config, folder, summary, list(model.asked))
    model.server.close()


@pytest.mark.parametrize(("kind", "count"), POINTS)
def test_ctrl_c_loses_nothing_and_the_resumed_run_ends_the_same(
    tmp_path: Path, calm: Calm, kind: str, count: int
) -> None:
    calm.model.asked.clear()
    with pytest.raises(KeyboardInterrupt):
        run_search(calm.config, tmp_path, FAKE, Seen(kind, count))
    check_resumed(tmp_path, calm)


@pytest.mark.parametrize(("kind", "count"), [POINTS[0], POINTS[1], POINTS[3]])
def test_kill_9_loses_nothing_and_the_resumed_run_ends_the_same(
    tmp_path: Path, calm: Calm, kind: str, count: int
) -> None:
    calm.model.asked.clear()
    words = [str(tmp_path), json.dumps(asdict(calm.config)), kind, str(count)]
    ended = subprocess.run(
        [sys.executable, str(ROOT / "tests" / "run_controller.py"), *words],
        cwd=ROOT,
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "OMP_NUM_THREADS": "1"},
        timeout=60,
        check=False,
    )
    assert ended.returncode == -signal.SIGKILL
    # What was asked and not yet answered at that moment has to be asked again.
    answered = len(records(tmp_path)["calls"])
    check_resumed(tmp_path, calm, lost=len(calm.model.asked) - answered)


def check_resumed(folder: Path, calm: Calm, lost: int = 0) -> None:
    """Go on with a run that was broken off, and compare with the undisturbed one."""
    assert lost <= 1  # one question at a time
    kept = {t.key for t in records(folder)["trainings"]}
    asked = len(calm.model.asked)
    assert asked < len(calm.asked) or len(kept) < len(records(calm.folder)["trainings"])
    seen = Seen()
    summary = run_search(calm.config, folder, FAKE, seen)
    assert without_times(summary) == without_times(calm.summary)
    assert records(folder) == records(calm.folder)
    # No answer was bought twice, and none was left out.
    again = Counter(calm.model.asked) - Counter(calm.asked)
    assert again.total() <= lost
    assert {*calm.model.asked} == {*calm.asked}
    log = begun(folder)
    assert all(log.count(key) == 1 for key in kept)
    assert {d["record"].key for d in seen.of("trained") if d["kept"]} == kept


def test_a_run_of_a_version_with_fewer_operators_goes_on_with_those(
    tmp_path: Path, model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = replace(SMALL, candidates=6, rounds=4, llm=model.uri)
    fewer = tuple(o for o in MODEL_OPERATORS if o != "model_simplify")
    with monkeypatch.context() as earlier:
        earlier.setattr("guerdon.reward_design.search.search.MODEL_OPERATORS", fewer)
        run_search(config, tmp_path / "whole", FAKE)
        with pytest.raises(KeyboardInterrupt):
            run_search(config, tmp_path / "cut", FAKE, Seen("round_done", 2))
    run_search(config, tmp_path / "cut", FAKE)
    found = records(tmp_path / "cut")
    assert found["candidates"] == records(tmp_path / "whole")["candidates"]
    assert "model_simplify" not in {c.operator for c in found["candidates"]}
    with Journal.open(tmp_path / "cut", readonly=True) as journal:
        known = operators_of(journal)
    assert known is not None
    assert set(known) == {*fewer, *OWN_OPERATORS}


def test_a_run_that_a_version_drew_otherwise_is_refused_with_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as earlier:
        weights = (0.03, 0.07, 0.6)  # of its sampler
        earlier.setattr("guerdon.reward_design.language.sample.WEIGHTS", weights)
        with pytest.raises(KeyboardInterrupt):
            run_search(SMALL, tmp_path, FAKE, Seen("round_done", 1))
    before = records(tmp_path)
    words = "r1-c.. stands in the journal with another.* let that one finish it"
    with pytest.raises(JournalError, match=words.replace("r1-c..", "'r1-c..'")):
        run_search(SMALL, tmp_path, FAKE)
    assert records(tmp_path) == before


def test_a_run_that_ended_before_its_report_was_written_gets_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(folder: Path) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("guerdon.run.search.write_report", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run_search(SMALL, tmp_path, FAKE)
    # A report that somebody wrote of the unfinished run would be stale.
    assert not (tmp_path / "report.html").exists()
    run_search(SMALL, tmp_path)
    assert (tmp_path / "report.html").exists()


def test_other_resources_resume_the_same_run(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        run_search(SMALL, tmp_path, FAKE, Seen("trained", 2))
    summary = run_search(SMALL, tmp_path, replace(FAKE, workers=1, deadline_s=60.0))
    assert summary["winner"] is not None


# --- failures -------------------------------------------------------------------------


@pytest.mark.usefixtures("real_report")
def test_a_run_in_which_everything_fails_ends_with_a_report(tmp_path: Path) -> None:
    resources = Resources(workers=2, function="tests.run_jobs:fail")
    summary = run_search(SMALL, tmp_path, resources)
    assert summary["winner"] is None
    assert summary["holdout"] == dict.fromkeys(
        ("winner", "sparse", "human", "best_of_n")
    )
    assert summary["failures"] == {"non_finite": 8}
    assert (tmp_path / "report.html").exists()
    assert run_search(SMALL, tmp_path) == summary


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("NAN_REWARD", "Countdown: the environment's reward in step 3 .* is nan"),
        ("NAN_FITNESS", "Countdown: the fitness of logged episode 0 is nan"),
        (
            "RAISES",
            "Countdown: random play broke off in episode 0: RuntimeError: the "
            r"simulator fell over \(countdown_task.py:\d+, step\)",
        ),
    ],
)
def test_a_task_that_gives_no_numbers_in_random_play_is_refused_before_any_training(
    tmp_path: Path, name: str, words: str
) -> None:
    config = replace(SMALL, task=f"tests.agents.countdown_task:{name}")
    with pytest.raises(ValueError, match=words):
        run_search(config, tmp_path, FAKE)
    assert begun(tmp_path) == []


# --- folders and names that are wrong -----------------------------------------------


def test_another_configuration_is_refused_by_the_keys_that_differ(
    tmp_path: Path,
) -> None:
    run_search(SMALL, tmp_path, FAKE)
    journal = (tmp_path / "journal.sqlite").read_bytes()
    with pytest.raises(JournalError, match=r"rounds is 2 there and 5 here.*seed is 0"):
        run_search(replace(SMALL, rounds=5, seed=1), tmp_path, FAKE)
    assert (tmp_path / "journal.sqlite").read_bytes() == journal


@pytest.mark.parametrize("name", ["notes.txt", "journal.sqlite"])
def test_a_foreign_folder_is_refused_and_left_untouched(
    tmp_path: Path, name: str
) -> None:
    (tmp_path / name).write_text("mine")
    before = contents(tmp_path)
    with pytest.raises(JournalError, match="left untouched"):
        run_search(SMALL, tmp_path, FAKE)
    assert contents(tmp_path) == before


def test_a_damaged_journal_is_refused_and_left_untouched(tmp_path: Path) -> None:
    run_search(replace(SMALL, rounds=1), tmp_path, FAKE)
    file = tmp_path / "journal.sqlite"
    data = bytearray(file.read_bytes())
    data[4096:8192] = b"\xff" * 4096
    file.write_bytes(data)
    before = contents(tmp_path)
    with pytest.raises(JournalError, match="damaged"):
        run_search(replace(SMALL, rounds=1), tmp_path, FAKE)
    assert contents(tmp_path) == before


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"task": "guerdon/CartPol-v1"}, "did you mean 'guerdon/CartPole-v1'"),
        ({"task": "tests.nothing:TASK"}, "no module"),
        ({"llm": "embeded"}, "nearest one is 'embedded'"),
        ({"llm": "scripted:/no/such/file"}, "cannot be read"),
        ({"llm": "http://127.0.0.1:9/v1"}, "model's name after '#'"),
    ],
)
def test_a_wrong_name_makes_no_folder(
    tmp_path: Path, changes: dict[str, str], words: str
) -> None:
    folder = tmp_path / "run"
    with pytest.raises(ValueError, match=words):
        run_search(replace(SMALL, **changes), folder, FAKE)  # type: ignore[arg-type]
    assert not folder.exists()


def test_a_cap_in_dollars_that_cannot_be_kept_makes_no_folder(tmp_path: Path) -> None:
    config = replace(SMALL, llm="http://127.0.0.1:9/v1#tiny")
    with pytest.raises(ValueError, match="price"):
        run_search(config, tmp_path / "run", replace(FAKE, budget_usd=1.0))
    assert not (tmp_path / "run").exists()


def test_without_the_extra_for_training_no_folder_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "stable_baselines3", None)
    with pytest.raises(
        MissingExtra, match=r"extra 'sb3': pip install 'guerdon\[sb3\]'"
    ):
        run_search(SMALL, tmp_path / "run", FAKE)
    assert not (tmp_path / "run").exists()


def test_a_folder_that_another_process_uses_is_refused(tmp_path: Path) -> None:
    held = Journal.create(tmp_path, SMALL.as_record())
    with held, pytest.raises(JournalBusy, match="in use by process"):
        run_search(SMALL, tmp_path, FAKE)


@pytest.mark.parametrize("name", ["steps", "seeds", "eval_episodes", "rounds"])
def test_a_count_below_one_is_refused_by_name(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name}: expected at least 1, got 0"):
        replace(SMALL, **{name: 0})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("workers", 0),
        ("model_threads", 0),
        ("budget_tokens", -1),
        ("budget_usd", float("nan")),
        ("budget_usd", 10**400),
        ("deadline_s", 0.0),
    ],
)
def test_resources_that_are_none_are_refused_by_name(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"{name}: expected"):
        Resources(**{name: value})  # type: ignore[arg-type]


# --- for real ------------------------------------------------------------------------


@pytest.mark.usefixtures("real_report")
def test_cartpole_is_searched_with_real_trainings_and_the_winner_is_filmed(
    tmp_path: Path,
) -> None:
    config = RunConfig(
        task="guerdon/CartPole-v1",
        llm="sampler",
        candidates=2,
        rounds=1,
        steps=512,
        seeds=1,
        finalists=1,
        eval_episodes=2,
    )
    summary = run_search(config, tmp_path, Resources(workers=2))
    assert summary["failures"] == {}
    assert 8 <= summary["winner"]["fitness"]["value"] <= 500
    assert summary["holdout"]["human"]["fitness"]["n"] == 1
    with Journal.open(tmp_path, readonly=True) as journal:
        episode = journal.meta("episode")
        notes = [e.data for e in journal.events() if e.kind == "not_filmed"]
    assert notes == []
    assert episode["length"] >= 8
    assert (tmp_path / "figures" / "winner.gif").read_bytes().startswith(b"GIF8")

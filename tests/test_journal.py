"""The journal keeps what was paid for, and touches nothing that is not its own."""

from __future__ import annotations

import ctypes
import errno
import hashlib
import json
import math
import os
import resource
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from guerdon.journal import (
    CallRecord,
    CandidateRecord,
    Journal,
    JournalBusy,
    JournalError,
    TrainingRecord,
    canonical,
)
from guerdon.types import Failure

CONFIG = {"task": "guerdon/DoorKey-6x6-v0", "steps": 20_000, "search": {"rounds": 2}}


def fingerprint(folder: Path) -> dict[str, str]:
    """Hash of every file in a folder, by name."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def call(key: str = "k", **changes: object) -> CallRecord:
    values: dict[str, object] = {
        "key": key,
        "model": "scripted",
        "request": {"messages": [{"role": "user", "content": "write"}]},
        "answer": "a reward",
        "prompt_tokens": 10,
        "completion_tokens": 4,
        "usd": 0.5,
        "seconds": 2.0,
    }
    return CallRecord(**(values | changes))  # type: ignore[arg-type]


CANDIDATE = CandidateRecord(
    id="r1-c03",
    round=1,
    slot=3,
    operator="mutate",
    parents=("r0-c01", "r0-c02"),
    source='def reward(prev, action, now, params):\n    return {"a": 1.0}',
    plan="reward the key",
    failure=Failure("constant", "no term ever changes", 2),
    screening={"range": [0.0, 1.5], "rank": 0.25},
    call_key="k",
)
TRAINING = TrainingRecord(
    key="t",
    candidate="r1-c03",
    seed=7,
    purpose="search",
    steps=1000,
    result={"fitness": 0.5, "curve": {"steps": [500, 1000], "fitness": [None, 0.5]}},
    cpu_seconds=1.5,
    wall_seconds=2.5,
    artifact="weights/t.safetensors",
)


# Records ----------------------------------------------------------------------------


def test_every_record_comes_back_equal_after_reopening(tmp_path: Path) -> None:
    failed = TrainingRecord(
        key="u",
        candidate="human",
        seed=1,
        purpose="holdout",
        steps=5,
        failure=Failure("timed_out", "took longer than 60 s"),
    )
    refused = call("k", failure="429: slow down", answer=None, usd=None)
    with Journal.create(tmp_path, CONFIG) as journal:
        journal.add_call(refused)
        journal.add_call(call())
        journal.add_candidate(CANDIDATE)
        journal.add_training(TRAINING)
        journal.add_training(failed)
        journal.add_round(1, {"best": "r1-c03"})
        journal.add_event("resumed", {"pid": 1})
        journal.set_meta("summary", {"winner": None})
    for readonly in (True, False):
        with Journal.open(tmp_path, readonly=readonly) as journal:
            assert journal.meta("config") == CONFIG
            assert journal.meta("summary") == {"winner": None}
            assert journal.meta("never written") is None
            assert journal.meta("versions")["python"].startswith("3.")
            assert journal.call("k") == call()
            assert journal.call("other") is None
            assert journal.calls() == [refused, call()]
            assert journal.candidates() == [CANDIDATE]
            assert journal.training("t") == TRAINING
            assert journal.training("v") is None
            assert journal.trainings() == [TRAINING, failed]
            assert journal.trainings("human") == [failed]
            assert journal.trainings(purpose="search") == [TRAINING]
            assert journal.trainings("human", "search") == []
            assert [(r.idx, r.summary) for r in journal.rounds()] == [
                (1, {"best": "r1-c03"})
            ]
            assert [(e.kind, e.data) for e in journal.events()] == [
                ("resumed", {"pid": 1})
            ]


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4)
    ),
    max_leaves=12,
)


@given(json_values)
def test_canonical_json_reads_back_as_what_was_written(value: object) -> None:
    text = canonical(value)
    assert json.loads(text) == value
    assert canonical(json.loads(text)) == text
    assert text.isascii()


def test_numbers_that_json_cannot_hold_become_null(tmp_path: Path) -> None:
    wild = {"a": [math.nan, np.float32("inf"), np.array([1.0, -math.inf])], "b": 2}
    record = TrainingRecord(
        key="n",
        candidate="c",
        seed=0,
        purpose="search",
        steps=1,
        result=wild,
        cpu_seconds=math.nan,
        wall_seconds=math.inf,
    )
    with Journal.create(tmp_path, CONFIG) as journal:
        journal.add_training(record)
        found = journal.training("n")
    assert found is not None
    assert found.result == {"a": [None, None, [1.0, None]], "b": 2}
    assert found.cpu_seconds is None
    assert found.wall_seconds is None


def test_values_that_json_has_no_form_for_are_refused(tmp_path: Path) -> None:
    with Journal.create(tmp_path, CONFIG) as journal:
        with pytest.raises(TypeError, match=r"expected JSON .* got object"):
            journal.set_meta("x", object())
        with pytest.raises(TypeError, match="expected text as a dictionary key, got 1"):
            journal.set_meta("x", {1: 2})
        assert journal.meta("x") is None


def test_text_with_lone_surrogates_and_nul_is_kept_readable(tmp_path: Path) -> None:
    with Journal.create(tmp_path, CONFIG) as journal:
        journal.add_call(call(answer="a\ud800b\x00c", request="\ud800"))
        journal.add_call(call(answer="a\ud800b\x00c", request="\ud800"))
        found = journal.call("k")
    assert found is not None
    assert found.answer == "a\\ud800b\x00c"
    assert found.request == "\ud800"


def test_an_unknown_purpose_is_refused() -> None:
    with pytest.raises(ValueError, match="expected one of search, final, holdout"):
        TrainingRecord(key="k", candidate="c", seed=0, purpose="x", steps=1)  # type: ignore[arg-type]


# Written once -----------------------------------------------------------------------


def test_writing_the_same_again_changes_nothing(tmp_path: Path) -> None:
    with Journal.create(tmp_path, CONFIG) as journal:
        for _ in range(2):
            journal.add_call(call(seconds=1.0))
            journal.add_candidate(CANDIDATE)
            journal.add_training(TRAINING)
            journal.add_round(1, {"n": 2})
            journal.set_meta("summary", [1])
        journal.add_call(call(seconds=9.0, ts=1.0))
        assert len(journal.calls()) == 1
        assert journal.calls()[0].seconds == 1.0
        assert len(journal.candidates()) == len(journal.trainings()) == 1
        assert len(journal.rounds()) == 1


def test_writing_another_content_under_the_same_key_is_an_error(
    tmp_path: Path,
) -> None:
    other = CandidateRecord(id="r1-c03", round=1, slot=3, operator="fresh")
    shorter = TrainingRecord(
        key="t", candidate="r1-c03", seed=7, purpose="search", steps=999
    )
    with Journal.create(tmp_path, CONFIG) as journal:
        journal.add_call(call())
        journal.add_candidate(CANDIDATE)
        journal.add_training(TRAINING)
        journal.add_round(1, {"n": 2})
        journal.set_meta("summary", [1])
        for write in (
            lambda: journal.add_call(call(answer="another")),
            lambda: journal.add_candidate(other),
            lambda: journal.add_training(shorter),
            lambda: journal.add_round(1, {"n": 3}),
            lambda: journal.set_meta("summary", [2]),
        ):
            with pytest.raises(JournalError, match="written once is never changed"):
                write()
        assert journal.candidates() == [CANDIDATE]
        assert journal.training("t") == TRAINING
        assert journal.meta("summary") == [1]


def test_totals_add_up_answered_and_failed_calls(tmp_path: Path) -> None:
    with Journal.create(tmp_path, CONFIG) as journal:
        empty = journal.totals()
        assert (empty.prompt_tokens, empty.usd, empty.calls_ok) == (0, None, 0)
        journal.add_call(call("a"))
        journal.add_call(call("b", usd=None, prompt_tokens=None))
        for _ in range(3):
            journal.add_call(call("b", failure="timeout", answer=None, usd=0.25))
        totals = journal.totals()
    assert totals.prompt_tokens == 10 + 3 * 10
    assert totals.completion_tokens == 5 * 4
    assert totals.usd == pytest.approx(0.5 + 3 * 0.25)
    assert totals.seconds == pytest.approx(10.0)
    assert (totals.calls_ok, totals.calls_failed) == (2, 3)


def test_many_threads_may_write_one_journal(tmp_path: Path) -> None:
    with Journal.create(tmp_path, CONFIG) as journal:
        threads = [
            threading.Thread(
                target=lambda n=n: [journal.add_call(call(f"{n}-{i}")) for i in (0, 1)]
            )
            for n in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert journal.totals().calls_ok == 16


# Resuming ---------------------------------------------------------------------------


def test_the_same_configuration_resumes(tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "x"
    with Journal.open_or_create(folder, CONFIG) as journal:
        journal.add_candidate(CANDIDATE)
    with Journal.open_or_create(folder, dict(reversed(CONFIG.items()))) as journal:
        assert journal.candidates() == [CANDIDATE]


def test_another_configuration_is_refused_with_the_differing_keys(
    tmp_path: Path,
) -> None:
    Journal.create(tmp_path, CONFIG).close()
    other = {"task": CONFIG["task"], "search": {"rounds": 3}, "llm": "sampler"}
    with pytest.raises(JournalError) as caught:
        Journal.open_or_create(tmp_path, other)
    message = str(caught.value)
    assert "llm is 'absent' there and 'sampler' here" in message
    assert "search.rounds is 2 there and 3 here" in message
    assert "steps is 20000 there and 'absent' here" in message
    assert "task is" not in message
    Journal.open_or_create(tmp_path, CONFIG).close()


def test_a_journal_opened_to_read_cannot_be_written(tmp_path: Path) -> None:
    Journal.create(tmp_path, CONFIG).close()
    before = fingerprint(tmp_path)
    with Journal.open(tmp_path, readonly=True) as journal:
        with pytest.raises(JournalError, match="to read only"):
            journal.set_meta("x", 1)
        assert journal.meta("config") == CONFIG
    assert fingerprint(tmp_path) == before


def test_a_reader_sees_what_a_living_writer_has_committed(tmp_path: Path) -> None:
    with Journal.create(tmp_path, CONFIG) as writer:
        writer.add_candidate(CANDIDATE)
        with Journal.open(tmp_path, readonly=True) as reader:
            assert reader.candidates() == [CANDIDATE]
            writer.add_training(TRAINING)
            assert reader.trainings() == [TRAINING]


# One process at a time --------------------------------------------------------------

HOLD = """
import sys, time
from guerdon.journal import Journal
journal = Journal.open_or_create(sys.argv[1], {"a": 1})
print("ready", flush=True)
time.sleep(60)
"""


def start(program: str, folder: Path) -> subprocess.Popen[str]:
    child = subprocess.Popen(
        [sys.executable, "-c", program, str(folder)],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert child.stdout is not None
    assert child.stdout.readline() == "ready\n"
    return child


def kill(child: subprocess.Popen[str]) -> None:
    child.kill()
    child.wait()
    assert child.stdout is not None
    child.stdout.close()


def test_a_second_process_is_refused_with_the_holders_pid(tmp_path: Path) -> None:
    child = start(HOLD, tmp_path)
    try:
        for again in (Journal.open, lambda f: Journal.open_or_create(f, {"a": 1})):
            with pytest.raises(JournalBusy, match=f"process {child.pid}") as caught:
                again(tmp_path)
            assert caught.value.pid == child.pid
        with Journal.open(tmp_path, readonly=True) as reader:
            assert reader.meta("config") == {"a": 1}
    finally:
        kill(child)


def test_the_lock_of_a_killed_process_is_taken_over(tmp_path: Path) -> None:
    child = start(HOLD, tmp_path)
    kill(child)
    with Journal.open(tmp_path):
        assert (tmp_path / "journal.lock").read_text() == f"{os.getpid()}\n"
        with pytest.raises(JournalBusy, match=str(os.getpid())):
            Journal.open(tmp_path)
    Journal.open(tmp_path).close()


HALF = """
import sys, time
from guerdon.journal import CallRecord, Journal
journal = Journal.open_or_create(sys.argv[1], {"a": 1})
journal.add_call(CallRecord(key="kept", model="m", answer="x" * 100_000))
with journal._transaction() as db:
    for n in range(200):
        db.execute(
            "INSERT INTO calls (key, model, answer) VALUES (?, 'm', ?)",
            (f"lost-{n}", "y" * 20_000),
        )
    print("ready", flush=True)
    time.sleep(60)
"""


KEPT = """
import sys, time
from guerdon.journal import CallRecord, Journal
journal = Journal.open_or_create(sys.argv[1], {"a": 1})
for n in range(4):
    journal.add_call(CallRecord(key=f"k{n}", model="m", answer="x" * 20_000))
print("ready", flush=True)
time.sleep(60)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL is a POSIX signal")
def test_a_transaction_killed_half_way_leaves_a_sound_journal(tmp_path: Path) -> None:
    child = start(HALF, tmp_path)
    child.send_signal(signal.SIGKILL)
    kill(child)
    assert (tmp_path / "journal.sqlite-wal").stat().st_size > 0
    before = fingerprint(tmp_path)
    with Journal.open(tmp_path, readonly=True) as journal:
        assert [record.key for record in journal.calls()] == ["kept"]
    assert fingerprint(tmp_path) == before
    with Journal.open(tmp_path) as journal:
        assert [record.key for record in journal.calls()] == ["kept"]
        journal.add_call(call("next"))
    with sqlite3.connect(tmp_path / "journal.sqlite") as db:
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    db.close()


@pytest.mark.parametrize("limit", ["pages", "file size"])
def test_a_full_disk_is_told_as_such_and_what_was_written_stays(
    tmp_path: Path, limit: str
) -> None:
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    with Journal.create(tmp_path, CONFIG) as journal:
        journal.add_call(call("kept"))
        if limit == "pages":
            (pages,) = journal._connection.execute("PRAGMA page_count").fetchone()
            journal._connection.execute(f"PRAGMA max_page_count = {pages + 2}")
        else:
            resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, old[1]))
        try:
            for n in range(2):
                with pytest.raises(OSError, match="run the same command again") as lost:
                    journal.add_call(call(f"lost-{n}", answer="x" * 400_000))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, old)
        assert lost.value.errno == (errno.ENOSPC if limit == "pages" else errno.EIO)
        assert lost.value.filename == str(tmp_path / "journal.sqlite")
        assert [record.key for record in journal.calls()] == ["kept"]
    with Journal.open(tmp_path) as journal:
        journal.add_call(call("next"))
        assert [record.key for record in journal.calls()] == ["kept", "next"]


def test_a_commit_that_fails_leaves_the_journal_ready_for_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Journal.create(tmp_path, CONFIG) as journal:
        real = journal._connection

        class Full:
            in_transaction = property(lambda self: real.in_transaction)

            def execute(self, statement: str, *values: object) -> object:
                if statement == "COMMIT":
                    error = sqlite3.OperationalError("disk I/O error")
                    error.sqlite_errorcode = sqlite3.SQLITE_IOERR_FSYNC
                    raise error
                return real.execute(statement, *values)

        monkeypatch.setattr(journal, "_connection", Full())
        with pytest.raises(OSError, match="look at the disk"):
            journal.add_call(call("lost"))
        monkeypatch.setattr(journal, "_connection", real)
        journal.add_call(call("next"))
        assert [record.key for record in journal.calls()] == ["next"]


def test_a_log_torn_anywhere_gives_back_what_was_whole(tmp_path: Path) -> None:
    keys = [f"k{n}" for n in range(4)]
    child = start(KEPT, tmp_path / "whole")
    child.send_signal(signal.SIGKILL)
    kill(child)
    log = (tmp_path / "whole" / "journal.sqlite-wal").read_bytes()
    found = set()
    for cut in (*range(0, len(log), len(log) // 12), len(log)):
        folder = tmp_path / str(cut)
        folder.mkdir()
        main = (tmp_path / "whole" / "journal.sqlite").read_bytes()
        (folder / "journal.sqlite").write_bytes(main)
        (folder / "journal.sqlite-wal").write_bytes(log[:cut] + b"torn" * 9)
        with Journal.open(folder) as journal:
            kept = [record.key for record in journal.calls()]
            assert kept == keys[: len(kept)]
            journal.add_event("goes on")
        found.add(len(kept))
    assert found == {0, 1, 2, 3, 4}


def test_a_new_journal_that_finds_no_room_names_the_file(tmp_path: Path) -> None:
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (5000, old[1]))
    try:
        with pytest.raises(OSError, match=r"journal\.sqlite") as lost:
            Journal.create(tmp_path, CONFIG)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)
    assert lost.value.errno == errno.EIO
    Journal.create(tmp_path, CONFIG).close()


def test_a_process_killed_while_it_made_its_journal_is_forgotten(
    tmp_path: Path,
) -> None:
    (tmp_path / "journal.lock").write_text("1\n")
    (tmp_path / "journal.sqlite.new").write_bytes(b"half a fi")
    with Journal.open_or_create(tmp_path, CONFIG) as journal:
        assert journal.meta("config") == CONFIG
    assert sorted(fingerprint(tmp_path)) == ["journal.lock", "journal.sqlite"]


@pytest.mark.skipif(sys.platform != "linux", reason="inotify is Linux's")
def test_making_a_journal_never_leaves_a_rollback_journal_to_a_kill(
    tmp_path: Path,
) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    watch = libc.inotify_init1(os.O_NONBLOCK)
    assert libc.inotify_add_watch(watch, os.fsencode(tmp_path), 0x100) > 0  # IN_CREATE
    try:
        with Journal.create(tmp_path, CONFIG) as journal:
            journal.set_meta("intent", "honest")
        with Journal.open(tmp_path) as journal:
            journal.set_meta("other", 1)
        seen = os.read(watch, 1 << 16)
    finally:
        os.close(watch)
    assert b"journal.sqlite-wal" in seen
    assert b"-journal" not in seen


# Folders that are not ours ----------------------------------------------------------


def make_other_database(path: Path) -> None:
    db = sqlite3.connect(path)
    with db:
        db.execute("CREATE TABLE calls (key TEXT)")
    db.close()


def make_newer_journal(path: Path) -> None:
    Journal.create(path.parent, CONFIG).close()
    db = sqlite3.connect(path)
    with db:
        db.execute("PRAGMA user_version = 99")
    db.close()
    (path.parent / "journal.lock").unlink()


def make_damaged_journal(path: Path) -> None:
    with Journal.create(path.parent, CONFIG) as journal:
        for n in range(40):
            journal.add_call(call(str(n), answer="x" * 3000))
    content = bytearray(path.read_bytes())
    content[3 * 4096 : 12 * 4096] = b"\xa5" * (9 * 4096)
    path.write_bytes(content)
    (path.parent / "journal.lock").unlink()


def make_truncated_journal(path: Path) -> None:
    Journal.create(path.parent, CONFIG).close()
    path.write_bytes(path.read_bytes()[:5000])


def make_empty_file(path: Path) -> None:
    path.write_bytes(b"")


def make_text_file(path: Path) -> None:
    path.write_text("dear diary\n" * 100)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (make_other_database, "another program's database"),
        (make_newer_journal, "schema 99, .* reads schema 1 .a newer Guerdon wrote it"),
        (make_damaged_journal, "damaged"),
        (make_truncated_journal, "damaged"),
        (make_empty_file, "not an SQLite database"),
        (make_text_file, "not an SQLite database"),
    ],
)
def test_a_foreign_or_damaged_file_is_refused_and_left_untouched(
    tmp_path: Path, make: object, message: str
) -> None:
    make(tmp_path / "journal.sqlite")  # type: ignore[operator]
    before = fingerprint(tmp_path)
    for attempt in (
        lambda: Journal.open(tmp_path),
        lambda: Journal.open(tmp_path, readonly=True),
        lambda: Journal.open_or_create(tmp_path, CONFIG),
    ):
        with pytest.raises(JournalError, match=message):
            attempt()
        assert fingerprint(tmp_path) == before


def test_seven_bytes_that_changed_inside_a_row_are_found_and_left_untouched(
    tmp_path: Path,
) -> None:
    with Journal.create(tmp_path, CONFIG) as journal:
        for n in range(20):
            journal.add_call(call(str(n), answer=f"an answer of length {n} " * 50))
        journal.add_training(TRAINING)
    (tmp_path / "journal.lock").unlink()
    path = tmp_path / "journal.sqlite"
    content = path.read_bytes()
    middle = content.index(b"an answer of length", len(content) // 2)
    # Still a sound database, still UTF-8: only what it says is not what was written.
    path.write_bytes(content[:middle] + b"GARBAGE" + content[middle + 7 :])
    before = fingerprint(tmp_path)
    for readonly in (True, False):
        with pytest.raises(JournalError, match="rows are not those that were written"):
            Journal.open(tmp_path, readonly=readonly)
        assert fingerprint(tmp_path) == before


def test_bytes_that_changed_anywhere_are_found_or_belong_to_no_row(
    tmp_path: Path,
) -> None:
    with Journal.create(tmp_path, CONFIG) as journal:
        journal.add_candidate(CANDIDATE)
        journal.add_training(TRAINING)
    path = tmp_path / "journal.sqlite"
    content = path.read_bytes()
    used = [at for at in range(100, len(content) - 7, 97) if any(content[at : at + 7])]
    refused = 0
    for at in used:
        path.write_bytes(content[:at] + b"\x00 text " + content[at + 7 :])
        try:
            journal = Journal.open(tmp_path, readonly=True)
        except JournalError:
            refused += 1
            continue
        with journal:
            assert journal.candidates() == [CANDIDATE]
            assert journal.trainings() == [TRAINING]
            assert journal.meta("config") == CONFIG
    assert 0 < refused <= len(used)


def test_a_journal_of_an_earlier_version_has_no_seal_and_is_read_and_written(
    tmp_path: Path,
) -> None:
    Journal.create(tmp_path, CONFIG).close()
    with sqlite3.connect(tmp_path / "journal.sqlite") as db:
        db.execute("DELETE FROM meta WHERE key = 'seal'")
    db.close()
    with Journal.open(tmp_path) as journal:
        journal.add_training(TRAINING)
    with Journal.open(tmp_path, readonly=True) as journal:
        assert journal.trainings() == [TRAINING]
        assert journal.meta("seal") is None


def test_a_folder_with_other_files_is_refused_and_left_untouched(
    tmp_path: Path,
) -> None:
    (tmp_path / "thesis.tex").write_text("ten years of work")
    (tmp_path / "data").mkdir()
    before = fingerprint(tmp_path)
    for attempt in (Journal.create, Journal.open_or_create):
        with pytest.raises(JournalError, match=r"'data', 'thesis\.tex'.*untouched"):
            attempt(tmp_path, CONFIG)
    with pytest.raises(JournalError, match=r"expected a run folder with a journal"):
        Journal.open(tmp_path)
    assert fingerprint(tmp_path) == before


def test_a_file_in_the_place_of_a_folder_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "run"
    path.write_text("a file")
    with pytest.raises(JournalError, match="expected a folder, got a file"):
        Journal.create(path, CONFIG)
    with pytest.raises(JournalError):
        Journal.open(path)
    assert path.read_text() == "a file"


def test_creating_twice_is_refused(tmp_path: Path) -> None:
    Journal.create(tmp_path, CONFIG).close()
    with pytest.raises(JournalError, match="already holds a run"):
        Journal.create(tmp_path, CONFIG)


def test_a_configuration_that_json_cannot_hold_makes_no_folder(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="got object"):
        Journal.create(tmp_path / "new", {"a": object()})
    assert not (tmp_path / "new").exists()


def test_rows_that_somebody_else_wrote_are_refused_by_name(tmp_path: Path) -> None:
    Journal.create(tmp_path, CONFIG).close()
    db = sqlite3.connect(tmp_path / "journal.sqlite")
    with db:
        db.execute("DELETE FROM meta WHERE key = 'seal'")
        db.execute("INSERT INTO candidates (id, parents) VALUES ('x', '{')")
        db.execute("INSERT INTO meta VALUES ('deep', ?)", ("[" * 100_000,))
    db.close()
    with Journal.open(tmp_path) as journal:
        with pytest.raises(
            JournalError,
            match="candidates, row 1: a CandidateRecord that cannot be read",
        ):
            journal.candidates()
        with pytest.raises(JournalError, match="deep: JSON is nested too deeply"):
            journal.meta("deep")


@pytest.mark.parametrize("running", [False, True], ids=["alone", "beside a writer"])
def test_tables_that_are_not_ours_to_the_letter_are_refused(
    tmp_path: Path, running: bool
) -> None:
    """A view in the place of a table may never end."""
    Journal.open_or_create(tmp_path / "run", {"task": "x"}).close()
    path = tmp_path / "run" / "journal.sqlite"
    with closing(sqlite3.connect(path)) as db:
        db.execute("DROP TABLE rounds")
        db.execute(
            "CREATE VIEW rounds AS WITH RECURSIVE n(idx) AS (SELECT 1 UNION ALL "
            "SELECT idx + 1 FROM n) SELECT idx, '{}' AS summary FROM n"
        )
        db.commit()
    before = path.read_bytes()
    with pytest.raises(JournalError, match="tables that Guerdon did not make"):
        Journal.open(tmp_path / "run", readonly=not running)
    assert path.read_bytes() == before


def write_hot_journal(path: Path, scratch: Path) -> None:
    """A rollback journal that would turn ``honest`` into ``forged``."""
    copy = scratch / path.name
    shutil.copy(path, copy)
    with closing(sqlite3.connect(copy, isolation_level=None)) as db:
        assert db.execute("PRAGMA journal_mode = DELETE").fetchone() == ("delete",)
        db.execute("UPDATE meta SET value = '\"forged\"' WHERE key = 'intent'")
        db.execute("PRAGMA cache_size = 1")
        db.execute("BEGIN IMMEDIATE")
        db.execute("UPDATE meta SET value = '\"honest\"' WHERE key = 'intent'")
        db.execute("CREATE TABLE filler (x)")
        for _ in range(100):  # more than the cache holds, so that it reaches the disk
            db.execute("INSERT INTO filler VALUES (zeroblob(3000))")
        hot = copy.with_name(f"{path.name}-journal")
        shutil.copy(hot, path.with_name(hot.name))
        db.execute("ROLLBACK")


def test_a_rollback_journal_beside_ours_is_refused_and_nothing_is_written(
    tmp_path: Path,
) -> None:
    folder, scratch = tmp_path / "run", tmp_path / "scratch"
    scratch.mkdir()
    with Journal.create(folder, CONFIG) as journal:
        journal.set_meta("intent", "honest")
    write_hot_journal(folder / "journal.sqlite", scratch)
    before = fingerprint(folder)
    assert "journal.sqlite-journal" in before
    for attempt in (
        lambda: Journal.open(folder),
        lambda: Journal.open(folder, readonly=True),
        lambda: Journal.open_or_create(folder, CONFIG),
    ):
        with pytest.raises(JournalError, match="a rollback journal beside it"):
            attempt()
        assert fingerprint(folder) == before
    # It is as bad as it is said to be: SQLite alone would have obeyed it.
    with closing(sqlite3.connect(folder / "journal.sqlite")) as db:
        row = db.execute("SELECT value FROM meta WHERE key = 'intent'").fetchone()
    assert row == ('"forged"',)

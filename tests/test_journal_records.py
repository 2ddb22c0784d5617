"""What is read from a journal has the types and bounds that its records declare."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from guerdon.journal import (
    CallRecord,
    CandidateRecord,
    EventRecord,
    Journal,
    JournalError,
    RoundRecord,
    TrainingRecord,
    records,
)
from guerdon.journal.records import Totals, loads, pack, unpack
from guerdon.report.folder import require_inside
from guerdon.types import Failure, FailureKind

CALL = CallRecord(
    key="k",
    model="m",
    request={"messages": []},
    answer="a",
    prompt_tokens=1,
    completion_tokens=2,
    usd=0.5,
    seconds=1.5,
)
CANDIDATE = CandidateRecord(
    id="r1-c00",
    round=1,
    slot=0,
    operator="sample",
    parents=("r0-c01",),
    source="text",
    plan="plan",
    failure=Failure("slow", "why", 3),
    screening={"rank": 0.5},
    call_key="k",
)
TRAINING = TrainingRecord(
    key="t",
    candidate="r1-c00",
    seed=3,
    purpose="search",
    steps=100,
    result={"fitness": 0.5, "weights": "t.safetensors", "episodes": "t.npz"},
    failure=Failure("crashed", "why"),
    cpu_seconds=1.0,
    wall_seconds=2.0,
    artifact="trainings/t.safetensors",
)
ROUND = RoundRecord(idx=1, summary={"best": "r1-c00"})
EVENT = EventRecord(kind="started", data=[1, "x"])
ALL = (CALL, CANDIDATE, TRAINING, ROUND, EVENT)

# What SQLite may give for a column, by what the record wants there.
WRONG = {
    "str": [3, 0.5, b"bytes", None],
    "str | None": [3, 0.5, b"bytes"],
    "Purpose": [3, b"search", None, "best", ""],
    "int": ["3", 0.5, b"3", None, float("nan")],
    "int | None": ["3", 0.5, b"3", float("inf")],
    "float": ["3", b"3", None, float("inf"), float("nan")],
    "float | None": ["3", b"3", float("inf"), float("-inf")],
    "Any": [3, 0.5, b"{}", "", "{", "NaN", "[Infinity]", "1e999", "[" * 2000],
    "tuple[str, ...]": [3, None, "null", '"a"', "[1]", '[["a"]]', "{}"],
    "JsonObject": [3, "[1]", '"a"', "1", "true"],
    "Failure | None": [3, '"slow"', "[]", "{}"],
}


@pytest.mark.parametrize("record", ALL, ids=lambda r: type(r).__name__)
def test_a_record_comes_back_as_it_was_packed(record: Any) -> None:
    assert unpack(type(record), pack(record)) == record


@pytest.mark.parametrize("record", ALL, ids=lambda r: type(r).__name__)
def test_a_value_of_another_type_is_refused_by_the_name_of_its_column(
    record: Any,
) -> None:
    row = pack(record)
    for item in fields(record):
        for value in WRONG[str(item.type)]:
            if record is CALL and item.name == "failure":
                value = json.dumps(value) if isinstance(value, int) else value
            with pytest.raises((TypeError, ValueError)) as caught:
                unpack(type(record), row | {item.name: value})
            said = str(caught.value)
            assert item.name in said or "JSON" in said or "Expecting" in said, said
            assert len(said) < 400


@pytest.mark.parametrize(
    "failure",
    [
        {"kind": "slow", "reason": "x"},
        {"kind": "slow", "reason": "x", "line": "3"},
        {"kind": "slow", "reason": ["x"], "line": None},
        {"kind": "won", "reason": "x", "line": None},
        {"kind": ["slow"], "reason": "x", "line": None},
        {"kind": "slow", "reason": "x", "line": None, "more": 1},
    ],
)
def test_a_failure_of_another_form_is_refused(failure: Any) -> None:
    for record in (CANDIDATE, TRAINING):
        row = pack(record) | {"failure": json.dumps(failure)}
        with pytest.raises((TypeError, ValueError), match="failure"):
            unpack(type(record), row)


texts = st.text(max_size=20)
finite = st.floats(allow_nan=False, allow_infinity=False)
whole = st.integers(-(2**63), 2**63 - 1)
counts = st.none() | st.integers(0, 2**53)
json_values = st.recursive(
    st.none() | st.booleans() | whole | finite | texts,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3)
    ),
    max_leaves=8,
)
failures = st.none() | st.builds(
    Failure, st.sampled_from(get_args(FailureKind)), texts, st.none() | whole
)


@settings(max_examples=60, deadline=None)
@given(
    st.builds(
        CallRecord,
        key=texts,
        model=texts,
        request=json_values,
        answer=st.none() | texts,
        prompt_tokens=counts,
        completion_tokens=counts,
        usd=st.none() | st.floats(0, 1e300),
        seconds=st.none() | finite,
        failure=st.none() | texts,
    )
    | st.builds(
        CandidateRecord,
        id=texts,
        round=whole,
        slot=whole,
        operator=texts,
        parents=st.lists(texts, max_size=3).map(tuple),
        source=st.none() | texts,
        plan=st.none() | texts,
        failure=failures,
        screening=json_values,
        call_key=st.none() | texts,
    )
    | st.builds(
        TrainingRecord,
        key=texts,
        candidate=texts,
        seed=whole,
        purpose=st.sampled_from(records.PURPOSES),
        steps=whole,
        result=st.none()
        | st.dictionaries(texts.map(lambda t: f"_{t}"), json_values, max_size=3),
        failure=failures,
        cpu_seconds=st.none() | st.floats(),
        wall_seconds=st.none() | st.floats(),
    )
)
def test_whatever_is_packed_can_be_read_again(record: Any) -> None:
    unpack(type(record), pack(record))


@pytest.mark.parametrize(
    "text",
    [
        *("[" * 300 + "]" * 300, "[" * 100_000, '{"a": ' * 250 + "1" + "}" * 250),
        *("NaN", '{"a": [1, -Infinity]}', "1e400", "1" + "0" * 301, "1" * 5000),
    ],
)
def test_json_without_bound_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"JSON|integer string"):
        loads(text)


def test_long_json_is_refused_before_it_is_parsed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(records, "MAX_JSON", 10)
    assert loads("[1, 2, 3]") == [1, 2, 3]
    with pytest.raises(ValueError, match="more than 10 letters"):
        loads("[1, 2, 3, 4]")


OUTSIDE = [
    "/etc/passwd",
    "../w.safetensors",
    "trainings/../../w",
    "trainings//w",
    "./w",
    "",
    ".",
    "..",
    "trainings/",
    "C:w",
    "trainings\\..\\..\\w",
    "w\0.safetensors",
]


@pytest.mark.parametrize("name", OUTSIDE)
def test_a_file_outside_the_folder_is_refused(name: str) -> None:
    row = pack(TRAINING)
    for file in ("weights", "episodes"):
        result = json.dumps({"fitness": 1.0, file: name})
        with pytest.raises(ValueError, match=f"result.{file}: expected a path that"):
            unpack(TrainingRecord, row | {"result": result})
    with pytest.raises(ValueError, match="artifact: expected a path that stays"):
        unpack(TrainingRecord, row | {"artifact": name})
    with pytest.raises(ValueError, match="artifact"):
        replace(TRAINING, artifact=name)


@pytest.mark.parametrize("name", [3, ["a"], {"a": 1}, True])
def test_a_file_that_is_no_text_is_refused(name: Any) -> None:
    result = json.dumps({"episodes": name})
    with pytest.raises(TypeError, match=r"result\.episodes: expected text"):
        unpack(TrainingRecord, pack(TRAINING) | {"result": result})


def test_a_link_of_the_users_does_not_lead_out_of_the_folder(tmp_path: Path) -> None:
    folder, outside = tmp_path / "run", tmp_path / "outside"
    for place in (folder, outside):
        place.mkdir()
    (outside / "w").write_text("theirs")
    (folder / "notes").symlink_to(outside)
    (folder / "w").write_text("ours")
    assert require_inside(folder, "w") == folder / "w"
    (tmp_path / "latest").symlink_to(folder)
    assert require_inside(tmp_path / "latest", "w").read_text() == "ours"
    with pytest.raises(JournalError, match="found one outside"):
        require_inside(folder, "notes/w")


# --- through the journal ------------------------------------------------------------


def write(folder: Path, statement: str, *values: Any) -> None:
    """Change a journal past everything that would refuse it."""
    with closing(sqlite3.connect(folder / "journal.sqlite")) as db, db:
        db.execute("DELETE FROM meta WHERE key = 'seal'")
        db.execute(statement, values)


def test_the_journal_names_file_table_and_row_of_what_it_refuses(
    tmp_path: Path,
) -> None:
    with Journal.create(tmp_path, {}) as journal:
        journal.add_training(TRAINING)
    write(tmp_path, "UPDATE trainings SET artifact = '../../../key'")
    with Journal.open(tmp_path, readonly=True) as journal:
        with pytest.raises(
            JournalError,
            match=r"journal\.sqlite, trainings, row 1: a TrainingRecord that cannot "
            r"be read: artifact: .*'\.\./\.\./\.\./key'\. Restore the file",
        ):
            journal.trainings()
        with pytest.raises(JournalError, match="artifact"):
            journal.training("t")


def test_what_could_not_be_read_is_not_written(tmp_path: Path) -> None:
    bad = Failure("crashed", ["a"])  # type: ignore[arg-type]
    deep: Any = 1
    for _ in range(300):
        deep = [deep]
    with Journal.create(tmp_path, {}) as journal:
        with pytest.raises(TypeError, match="steps: expected a whole number"):
            journal.add_training(replace(TRAINING, steps=1.5))
        with pytest.raises(TypeError, match=r"failure\.reason: expected text"):
            journal.add_training(replace(TRAINING, failure=bad))
        with pytest.raises(ValueError, match="nested too deeply"):
            journal.add_event("deep", deep)
        assert journal.trainings() == []
        assert journal.events() == []


@pytest.mark.parametrize(
    ("column", "value"),
    [
        *(("prompt_tokens", -(10**9)), ("usd", -100.0), ("usd", float("inf"))),
        *(("completion_tokens", "many"), ("seconds", "x"), ("failure", '["a"]')),
    ],
)
def test_a_foreign_journal_cannot_widen_a_budget(
    tmp_path: Path, column: str, value: Any
) -> None:
    with Journal.create(tmp_path, {}) as journal:
        journal.add_call(CALL)
        assert journal.totals() == Totals.of([CALL])
    write(tmp_path, f"UPDATE calls SET {column} = ?", value)
    with (
        Journal.open(tmp_path, readonly=True) as journal,
        pytest.raises(JournalError, match="CallRecord that cannot be read"),
    ):
        journal.totals()

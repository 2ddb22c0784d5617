"""What a journal holds: typed records, and the JSON that their payloads become."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar, get_args

from guerdon.checks import inside, number
from guerdon.types import Failure, FailureKind

Purpose = Literal["search", "final", "holdout"]
PURPOSES = ("search", "final", "holdout")

JsonObject = Any
"""A JSON object with any values of its own, or None."""

Record = TypeVar("Record")
Value = TypeVar("Value")

MAX_JSON = 64 << 20
"""Letters of the longest JSON; the largest answer of a training has an eighth of it."""

MAX_DEPTH = 200
"""Lists and objects inside each other; who walks through them must not fall."""

MAX_NUMBER = 10**300
"""Whole numbers in JSON have any length, and no arithmetic of ours."""

_JSON = {"request", "parents", "failure", "screening", "result", "summary", "data"}
_NEVER_MADE = ("budget: ", "breaker: ")
"""How the failures of refused calls begin."""

_FILES = ("weights", "episodes")
"""What a result names of the files of its training."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CallRecord:
    """One call of a language model.

    Args:
        key: content hash of the request; one successful answer per key.
        model: the model as the caller named it.
        request: what was sent, any JSON; never a key or a password.
        answer: the text that came back, None for a failed call.
        prompt_tokens: as the endpoint counted them; None where it did not.
        completion_tokens: the same for the answer.
        usd: price in dollars, None where it is not known.
        seconds: how long the call took.
        failure: one sentence for a failed call, else None.
        ts: Unix time; set when the record is made.

    Raises:
        ValueError: for tokens or a price below zero, which would widen a budget.
    """

    key: str
    model: str
    request: Any = None
    answer: str | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    usd: float | None = None
    # What was measured about a call does not make it another call.
    seconds: float | None = field(default=None, compare=False)
    failure: str | None = None
    ts: float = field(default_factory=time.time, compare=False)

    def __post_init__(self) -> None:
        for name in ("prompt_tokens", "completion_tokens", "usd"):
            if (value := getattr(self, name)) is not None:
                number(name, value, least=0.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class CandidateRecord:
    """One reward program that was proposed.

    Args:
        id: ``"r1-c03"``; reference rewards are ``"sparse"``, ``"human"`` and
            ``"best-of-n"``.
        round: number of its round; 0 for references.
        slot: its place in the round.
        operator: who made it: a prompt's name or an edit of the language.
        parents: ids of the candidates that it was made from.
        source: the program's text, None when the answer held none.
        plan: what the model said it wanted to change.
        failure: why it cannot be trained; None when it can.
        screening: what the screen measured, any JSON.
        call_key: key of the call that wrote it; None for the search's own operators.
    """

    id: str
    round: int
    slot: int
    operator: str
    parents: tuple[str, ...] = ()
    source: str | None = None
    plan: str | None = None
    failure: Failure | None = None
    screening: Any = None
    call_key: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingRecord:
    """One training of one candidate with one seed.

    Args:
        key: content hash of everything that determines the training.
        candidate: id of the candidate or reference reward.
        seed: the training's seed.
        purpose: ``"search"``, ``"final"`` or ``"holdout"``.
        steps: environment steps that were asked for.
        result: curve, evaluation and scores as the agent wrote them; None if failed.
        failure: why there is no result.
        cpu_seconds: processor time.
        wall_seconds: time on the clock.
        artifact: file of the weights, relative to the run folder.

    Raises:
        TypeError: for a file that is no text.
        ValueError: for another purpose, or a file that is not inside the run folder.
    """

    key: str
    candidate: str
    seed: int
    purpose: Purpose
    steps: int
    result: JsonObject = None
    failure: Failure | None = None
    cpu_seconds: float | None = None
    wall_seconds: float | None = None
    artifact: str | None = None

    def __post_init__(self) -> None:
        if self.purpose not in PURPOSES:
            raise ValueError(
                f"purpose: expected one of {', '.join(PURPOSES)}, got {self.purpose!r}"
            )
        if self.artifact is not None:
            inside("artifact", self.artifact)
        result = self.result if isinstance(self.result, Mapping) else {}
        for name in _FILES:
            if result.get(name) is not None:
                inside(f"result.{name}", result[name])


def furthest(trainings: Iterable[TrainingRecord]) -> list[TrainingRecord]:
    """Of each candidate, purpose and seed the training that went furthest.

    A race trains in legs, each a record of its own; what counts is the last one.

    >>> legs = [TrainingRecord(key=str(n), candidate="a", seed=0, purpose="search",
    ...                        steps=n) for n in (8, 32, 16)]
    >>> [training.steps for training in furthest(legs)]
    [32]
    """
    found: dict[tuple[str, str, int], TrainingRecord] = {}
    for training in trainings:
        whose = training.candidate, training.purpose, training.seed
        if whose not in found or training.steps > found[whose].steps:
            found[whose] = training
    return list(found.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundRecord:
    """One finished round and what it came to, any JSON."""

    idx: int
    summary: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class EventRecord:
    """Something that happened: Unix time, kind, and any JSON."""

    kind: str
    data: Any = None
    ts: float = field(default_factory=time.time, compare=False)


@dataclass(frozen=True, slots=True)
class Totals:
    """What the calls of a run came to; failed calls are counted, not forgotten.

    ``usd`` is None when no call has a price: unknown is not free of charge.
    ``calls_refused`` were never made: the budget was spent, or an endpoint that failed
    too often was left alone.
    """

    prompt_tokens: int
    completion_tokens: int
    usd: float | None
    seconds: float
    calls_ok: int
    calls_failed: int
    calls_refused: int = 0

    @classmethod
    def of(cls, calls: Sequence[CallRecord]) -> Totals:
        """What these calls came to."""
        failures = [call.failure for call in calls if call.failure is not None]
        refused = sum(reason.startswith(_NEVER_MADE) for reason in failures)
        prices = [call.usd for call in calls if call.usd is not None]
        return cls(
            prompt_tokens=sum(call.prompt_tokens or 0 for call in calls),
            completion_tokens=sum(call.completion_tokens or 0 for call in calls),
            usd=sum(prices) if prices else None,
            seconds=sum(call.seconds or 0.0 for call in calls),
            calls_ok=len(calls) - len(failures),
            calls_failed=len(failures) - refused,
            calls_refused=refused,
        )


def canonical(value: Any) -> str:
    """JSON text with sorted keys, ASCII only; NaN and infinities become null.

    >>> canonical({"b": float("nan"), "a": (1, 2)})
    '{"a":[1,2],"b":null}'

    Raises:
        TypeError: for a value that JSON has no form for; names its type.
    """
    return json.dumps(
        _plain(value), sort_keys=True, separators=(",", ":"), allow_nan=False
    )


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, int):
        return int(value)
    if isinstance(value, Mapping):
        return {_key(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = dataclasses.fields(value)
        return {f.name: _plain(getattr(value, f.name)) for f in fields}
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if hasattr(value, "tolist"):  # NumPy and torch, without importing either
        return _plain(value.tolist())
    raise TypeError(
        f"journal: expected JSON (numbers, text, lists, dictionaries), got "
        f"{type(value).__name__}"
    )


def _key(key: Any) -> str:
    if not isinstance(key, str):
        raise TypeError(f"journal: expected text as a dictionary key, got {key!r}")
    return key


def pack(record: Any) -> dict[str, Any]:
    """Columns of a record, in the order of its fields, as SQLite takes them."""
    row: dict[str, Any] = {}
    for item in dataclasses.fields(record):
        value = getattr(record, item.name)
        if value is None:
            row[item.name] = None
        elif item.name in _JSON:
            row[item.name] = canonical(value)
        elif isinstance(value, str):
            # A lone surrogate in a model's answer has no UTF-8 form.
            row[item.name] = value.encode("utf-8", "backslashreplace").decode()
        else:
            row[item.name] = _plain(value)
    return row


def unpack(kind: type[Record], row: Mapping[str, Any]) -> Record:
    """The record that ``pack`` took apart, every value of the type that it declares.

    SQLite keeps any value in any column, and whoever sent a journal wrote what they
    liked; past this nobody asks again.

    Raises:
        TypeError: for a value of another type than the record's.
        ValueError: for JSON that does not parse or fit, and values out of bounds.
    """
    values: dict[str, Any] = {}
    for item in dataclasses.fields(kind):  # type: ignore[arg-type]
        value = row[item.name]
        if value is not None and item.name in _JSON:
            value = loads(_text(item.name, value))
        wanted = str(item.type)
        plain = wanted.removesuffix(" | None")
        if value is not None or plain == wanted:
            value = _READERS[plain](item.name, value)
        values[item.name] = value
    return kind(**values)


def loads(text: str) -> Any:
    """Parse JSON from a file that may not be ours to trust.

    Raises:
        ValueError: for text that is not JSON, is too long or nested too deeply, or has
            a number that is not finite.
    """
    if len(text) > MAX_JSON:
        raise ValueError(f"JSON of more than {MAX_JSON} letters")
    try:
        value = json.loads(text)
    except RecursionError:
        raise ValueError("JSON is nested too deeply") from None
    level = [value]
    for _ in range(MAX_DEPTH):
        if not all(map(_fits, level)):
            raise ValueError("JSON with a number that is not finite")
        level = [inner for item in level for inner in _items(item)]
        if not level:
            return value
    raise ValueError("JSON is nested too deeply")


def _fits(value: Any) -> bool:
    if isinstance(value, float):
        return math.isfinite(value)
    return not isinstance(value, int) or abs(value) <= MAX_NUMBER


def _items(value: Any) -> Any:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()


def _text(name: str, value: Any) -> str:
    return _typed(name, value, str, "text")


def _whole(name: str, value: Any) -> int:
    return _typed(name, value, int, "a whole number")


def _typed(name: str, value: Any, kind: type[Value], words: str) -> Value:
    if not isinstance(value, kind):
        raise TypeError(f"{name}: expected {words}, got {type(value).__name__}")
    return value


def _names(name: str, value: Any) -> tuple[str, ...]:
    return tuple(_text(name, item) for item in _typed(name, value, list, "a list"))


def _object(name: str, value: Any) -> dict[str, Any] | None:
    return None if value is None else _typed(name, value, dict, "an object")


def _failure(name: str, value: Any) -> Failure:
    parts = _typed(name, value, dict, "an object")
    if parts.keys() != _FAILURE_PARTS:
        raise ValueError(f"{name}: expected {sorted(_FAILURE_PARTS)}")
    if parts["kind"] not in get_args(FailureKind):
        raise ValueError(f"{name}: unknown kind {str(parts['kind'])[:80]!r}")
    if parts["line"] is not None:
        _whole(f"{name}.line", parts["line"])
    _text(f"{name}.reason", parts["reason"])
    return Failure(**parts)


_FAILURE_PARTS = {item.name for item in dataclasses.fields(Failure)}

_READERS: dict[str, Callable[[str, Any], Any]] = {
    "Any": lambda name, value: value,
    "str": _text,
    "Purpose": _text,
    "int": _whole,
    "float": number,
    "JsonObject": _object,
    "tuple[str, ...]": _names,
    "Failure": _failure,
}
"""By the type that a record declares."""

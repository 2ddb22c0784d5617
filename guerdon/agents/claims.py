"""What comes out of a confined training: bytes that nobody vouches for.

A claim is a file of two parts: what the training says about itself, which is shown and
never decides anything, and numbers for a network whose shape we know.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, NamedTuple

from guerdon.agents.training import CURVE_POINTS, Curve, TrainingJob
from guerdon.checks import MOST
from guerdon.harmless import harmless
from guerdon.jail import Answer
from guerdon.reward_design.full_python import MAX_TERMS
from guerdon.types import MAX_NAME, Failure

MAX_CLAIMS = 1 << 20
"""Bytes of what a training may say about itself."""

MAX_SECONDS = 1e7
"""Seconds that a training may say it took."""


class Claims(NamedTuple):
    """What a training says about itself."""

    curve: Curve
    proxy: float | None
    seconds: float


class Learned(NamedTuple):
    """A training has left its claim, which nobody has judged yet."""

    job: str
    """Key of the job."""


def write_claims(found: Claims | Failure) -> bytes:
    """The first part of a claim."""
    if isinstance(found, Failure):
        return json.dumps({"failure": [found.kind, found.reason]}).encode()
    values = {"curve": asdict(found.curve), "proxy": found.proxy}
    return json.dumps(values | {"seconds": found.seconds}).encode()


def claim_name(job: TrainingJob) -> str:
    """File of what came out, until it is judged."""
    return f"{job.key}.claim"


def join(parts: list[bytes]) -> bytes:
    """Claims and weights as one file: the length of the first, then both."""
    claims, *weights = parts
    return len(claims).to_bytes(8, "little") + claims + b"".join(weights)


def claim_of(answer: Answer) -> bytes | Failure:
    """What a job in the jail gave, as the file to be judged, or why it gave nothing."""
    if answer.timed_out:
        return Failure("timed_out", str(answer.reason))
    if answer.reason is not None:
        words = f"{answer.reason}\n{answer.printed}".strip()
        return Failure("crashed", f"in the jail: {words}")
    if len(answer.parts) > 2 or len(answer.parts[0]) > MAX_CLAIMS:
        return Failure("crashed", "in the jail: the answer is no training's")
    return join(list(answer.parts))


def split(data: bytes) -> tuple[Claims | Failure, bytes]:
    """Both parts of a claim, the first one read.

    Raises:
        ValueError: when it cannot be read.
    """
    length = int.from_bytes(data[:8], "little")
    if length > MAX_CLAIMS:
        raise ValueError(f"claims of {length} bytes; the limit is {MAX_CLAIMS}")
    return read_claims(data[8 : 8 + length]), data[8 + length :]


def read_claims(text: bytes) -> Claims | Failure:
    """Curve, proxy and seconds, with every number checked.

    Raises:
        ValueError: for anything that ``write_claims`` would not write.
    """
    try:
        values = json.loads(text)
        if not isinstance(values, dict):
            raise TypeError("not an object")
        if "failure" in values:
            kind, reason = values["failure"]
            bad = kind == "non_finite"
            told = harmless(str(reason)[:1000])
            return Failure("non_finite" if bad else "crashed", told)
        curve = _curve(values["curve"])
        seconds = min(max(_number(values["seconds"]) or 0.0, 0.0), MAX_SECONDS)
        return Claims(curve, _number(values["proxy"]), seconds)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"claims that cannot be read ({error})") from None


def _curve(values: Mapping[str, Any]) -> Curve:
    terms = values["terms"]
    if not isinstance(terms, dict) or len(terms) > MAX_TERMS + 8:
        raise ValueError("too many terms")
    if any(len(name) > 2 * MAX_NAME or not name.isidentifier() for name in terms):
        raise ValueError("a term without a proper name")
    return Curve(
        steps=_counts(values["steps"]),
        episodes=_counts(values["episodes"]),
        fitness=_column(values["fitness"]),
        success=_column(values["success"]),
        proxy=_column(values["proxy"]),
        length=_column(values["length"]),
        terms={name: _column(sums) for name, sums in terms.items()},
    )


def _column(values: Any) -> tuple[float | None, ...]:
    if not isinstance(values, list) or len(values) != CURVE_POINTS:
        raise ValueError(f"a column that has not {CURVE_POINTS} entries")
    return tuple(_number(value) for value in values)


def _counts(values: Any) -> tuple[int, ...]:
    counts = tuple(int(value or 0) for value in _column(values))
    if not all(0 <= count <= MOST for count in counts):
        raise ValueError(f"a count that is not between 0 and {MOST}")
    return counts


def _number(value: Any) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError("something that is no number")
    number = float(value) if abs(value) < 1e300 else math.inf
    if not math.isfinite(number):
        raise ValueError("a number that is not finite")
    return number

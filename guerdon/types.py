"""The words that every room of Guerdon speaks.

A reward is a function over a batch of transitions. Everything here is an array
with leading axes ``*L``: ``()`` for one transition, ``(N,)`` for a vector of
environments, ``(T, N)`` for a rollout block. NumPy or torch, whichever the caller
brought; nothing is copied from one to the other.
"""

from __future__ import annotations

import keyword
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from numbers import Real
from typing import Any, Literal, NamedTuple

from guerdon.checks import MOST, integer

Array = Any
"""A NumPy array or a torch tensor; jaxtyping gives the shapes in the tests."""

Tree = Any
"""An array, or nested dictionaries and tuples of arrays."""

MAX_NAME = 40
"""Letters of the longest name in a reward program."""

FeatureKind = Literal["number", "flag"]
FailureKind = Literal[
    "syntax",
    "forbidden",
    "schema",
    "non_finite",
    "constant",
    "slow",
    "crashed",
    "timed_out",
]


def _expect(
    name: str, value: object, kinds: type | tuple[type, ...], words: str
) -> None:
    """Refuse a value of another type."""
    if not isinstance(value, kinds):
        raise TypeError(
            f"{name}: expected {words}, got {value!r} ({type(value).__name__})"
        )


def _choose(name: str, value: object, choices: tuple[object, ...]) -> None:
    """Refuse what is none of the choices."""
    # Compared one by one: a value that is wrong need not have a hash.
    if not any(value is choice or value == choice for choice in choices):
        expected = ", ".join(map(repr, choices[:-1])) + f" or {choices[-1]!r}"
        raise ValueError(f"{name}: expected {expected}, got {value!r}")


def _check_range(whose: str, low: object, high: object) -> None:
    """Refuse bounds that are no numbers, or that no finite number keeps."""
    for what, bound in (("low", low), ("high", high)):
        _expect(f"{whose}: {what}", bound, Real, "a number")
    smallest, largest = float(low), float(high)  # type: ignore[arg-type]
    if not smallest <= largest or smallest == math.inf or largest == -math.inf:
        raise ValueError(
            f"{whose}: expected low <= high with a finite number between, got "
            f"[{low}, {high}]"
        )


def _check_name(name: object) -> None:
    """Refuse a name that a reward program could not write."""
    _expect("feature name", name, str, "a text")
    text = str(name)
    if not (text.isascii() and text.isidentifier()) or text.startswith("_"):
        raise ValueError(
            f"feature name {text!r}: expected a Python identifier of plain "
            "letters that does not start with an underscore"
        )
    if keyword.iskeyword(text) or len(text) > MAX_NAME:
        raise ValueError(
            f"feature name {text!r}: expected no keyword of Python and at most "
            f"{MAX_NAME} letters"
        )


@dataclass(frozen=True, slots=True)
class Feature:
    """One named quantity of an environment that a reward may look at.

    Args:
        name: a Python identifier, unique within its task.
        meaning: one phrase, shown to people and to language models.
        kind: ``"number"`` for a float, ``"flag"`` for a boolean.
        shape: ``()`` for a scalar or ``(n,)`` for a vector of static length.
        unit: ``"m"``, ``"rad/s"``, ``"cells"``; empty when it has none.
        low: smallest possible value; ``-inf`` when unbounded.
        high: largest possible value; ``inf`` when unbounded.
        better: which way helps the task, where that is known: ``"higher"``,
            ``"lower"`` or None.

    Raises:
        TypeError: for a text, tuple or number that is something else.
        ValueError: for a bad name, another kind or direction, an empty range or a
            shape that is not ``()`` or ``(n,)``.
    """

    name: str
    meaning: str
    kind: FeatureKind = "number"
    shape: tuple[int, ...] = ()
    unit: str = ""
    low: float = -math.inf
    high: float = math.inf
    better: Literal["higher", "lower"] | None = None

    def __post_init__(self) -> None:
        _check_name(self.name)
        whose = f"feature {self.name!r}"
        for what in ("meaning", "unit"):
            _expect(f"{whose}: {what}", getattr(self, what), str, "a text")
        _choose(f"{whose}: kind", self.kind, ("number", "flag"))
        _choose(f"{whose}: better", self.better, ("higher", "lower", None))
        _expect(f"{whose}: shape", self.shape, tuple, "a tuple, () or (n,)")
        if len(self.shape) > 1 or any(
            integer(f"{whose}: size in shape", size, least=-MOST) < 1
            for size in self.shape
        ):
            raise ValueError(
                f"{whose}: expected shape () or (n,) with n >= 1, got {self.shape}"
            )
        _check_range(whose, self.low, self.high)

    @property
    def size(self) -> int:
        """Number of columns that the feature takes in a row."""
        return self.shape[0] if self.shape else 1


class Layout:
    """The features of a task and the columns they take in a flat float32 row.

    >>> layout = Layout([Feature("x", "position"), Feature("v", "speed", shape=(2,))])
    >>> layout.width, layout.columns("v")
    (3, slice(1, 3, None))

    Raises:
        TypeError: for anything but a list or tuple of features.
        ValueError: when two features share a name.
    """

    __slots__ = ("_columns", "features", "width")

    def __init__(self, features: list[Feature] | tuple[Feature, ...]) -> None:
        _expect("layout", features, (list, tuple), "a list or tuple of Features")
        for feature in features:
            _expect("layout", feature, Feature, "Features")
        self.features = tuple(features)
        self._columns: dict[str, slice] = {}
        start = 0
        for feature in self.features:
            if feature.name in self._columns:
                raise ValueError(f"feature {feature.name!r} is declared twice")
            self._columns[feature.name] = slice(start, start + feature.size)
            start += feature.size
        self.width = start

    def columns(self, name: str) -> slice:
        """Columns of feature ``name``; KeyError names the known ones."""
        try:
            return self._columns[name]
        except KeyError:
            raise KeyError(
                f"unknown feature {name!r}; known: {', '.join(self._columns)}"
            ) from None

    def __getitem__(self, name: str) -> Feature:
        self.columns(name)
        return next(f for f in self.features if f.name == name)

    def __contains__(self, name: object) -> bool:
        return name in self._columns

    def __iter__(self) -> Iterator[Feature]:
        return iter(self.features)

    def __len__(self) -> int:
        return len(self.features)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Layout) and self.features == other.features

    def __hash__(self) -> int:
        return hash(self.features)

    def __repr__(self) -> str:
        return f"Layout({', '.join(f.name for f in self.features)})"


class Features(Mapping[str, Array]):
    """Named views into flat feature rows.

    Args:
        layout: which column belongs to which feature.
        rows: ``(*L, layout.width)`` float32, NumPy or torch.

    A number comes back as a view of shape ``(*L, *feature.shape)``; a flag comes
    back as a boolean array. Attribute access is the same: ``now.distance_to_key``.

    Raises:
        ValueError: when the last axis of ``rows`` is not ``layout.width``.
    """

    __slots__ = ("layout", "rows")

    def __init__(self, layout: Layout, rows: Array) -> None:
        if rows.shape[-1] != layout.width:
            raise ValueError(
                f"feature rows: expected last axis {layout.width} for "
                f"{layout!r}, got shape {tuple(rows.shape)}"
            )
        self.layout = layout
        self.rows = rows

    def __getitem__(self, name: str) -> Array:
        feature = self.layout[name]
        columns = self.layout.columns(name)
        values = self.rows[..., columns if feature.shape else columns.start]
        return values != 0 if feature.kind == "flag" else values

    def __getattr__(self, name: str) -> Array:
        if name in Features.__slots__ or name.startswith("_"):
            # Asked while a copy is being made, before there is a layout to look in.
            raise AttributeError(name)
        try:
            return self[name]
        except KeyError as error:
            raise AttributeError(error.args[0]) from None

    def __iter__(self) -> Iterator[str]:
        return (feature.name for feature in self.layout)

    def __len__(self) -> int:
        return len(self.layout)

    def __repr__(self) -> str:
        return f"Features({', '.join(self)}; rows={tuple(self.rows.shape)})"


class Batch(NamedTuple):
    """Transitions, with leading axes ``*L``.

    ``next_obs`` and ``now`` belong to the TRUE successor, never to the observation
    after a reset. ``terminated`` and ``truncated`` stay apart: only the first one
    ends the task; the second one only ends the recording.
    """

    obs: Tree
    action: Array
    next_obs: Tree
    prev: Features
    """Task features before the step, rows ``(*L, W)``."""
    now: Features
    """Task features after the step, rows ``(*L, W)``."""
    reward: Array
    """``(*L,)`` the environment's own reward."""
    terminated: Array
    """``(*L,)`` bool."""
    truncated: Array
    """``(*L,)`` bool."""
    info: Mapping[str, Array] = {}
    mask: Array | None = None
    """``(*L,)`` bool, True for a real step; None when all are real."""


@dataclass(frozen=True, slots=True)
class ActionSpec:
    """What the agent may do.

    Args:
        kind: ``"discrete"`` (``size`` choices; a reward sees the index) or
            ``"continuous"`` (a vector of ``size`` numbers).
        size: number of choices or of dimensions.
        names: one word for every choice or dimension; may be empty.
        low: smallest value of every dimension (continuous only).
        high: largest value of every dimension (continuous only).

    Raises:
        TypeError: for a size that is no whole number, or what should be a tuple.
        ValueError: for another kind, a number of names or bounds that is not
            ``size``, an empty range, or bounds of a discrete action.
    """

    kind: Literal["discrete", "continuous"]
    size: int
    names: tuple[str, ...] = ()
    low: tuple[float, ...] = ()
    high: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        _choose("action kind", self.kind, ("discrete", "continuous"))
        integer("action size", self.size, least=1)
        for what in ("names", "low", "high"):
            values = getattr(self, what)
            _expect(f"action {what}", values, tuple, "a tuple")
            if values and len(values) != self.size:
                raise ValueError(
                    f"action {what}: expected {self.size}, got {len(values)}"
                )
        for name in self.names:
            _expect("action names", name, str, "texts")
        if len(self.low) != len(self.high):
            raise ValueError(
                f"action bounds: expected low and high together, got {len(self.low)} "
                f"and {len(self.high)} numbers"
            )
        if self.low and self.kind == "discrete":
            raise ValueError(
                "action bounds: expected none for a discrete action, got low and high"
            )
        for place, (low, high) in enumerate(zip(self.low, self.high, strict=True)):
            _check_range(f"action dimension {place}", low, high)


class Spec(NamedTuple):
    """What a part of a reward program may know before the first batch."""

    layout: Layout
    action: ActionSpec
    lead: tuple[int, ...] = ()
    """Shape of one time step: ``()`` for one environment, ``(N,)`` for a vector."""
    discount: float = 0.99
    horizon: int = 1000
    terms: tuple[str, ...] = ()
    """Names of the reward terms; ``program`` fills them in for its transforms."""


class Estimate(NamedTuple):
    """A number with its interval; ``n`` says how many samples it stands on."""

    value: float
    low: float
    high: float
    n: int

    def __str__(self) -> str:
        return f"{self.value:.3g} [{self.low:.3g}, {self.high:.3g}] (n={self.n})"


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a candidate has no score. It is never turned into a number.

    Args:
        kind: the class of failure.
        reason: one sentence for people and for the repair prompt.
        line: line of the program, from 1, where one is known.
    """

    kind: FailureKind
    reason: str
    line: int | None = None

    def __str__(self) -> str:
        where = f"line {self.line}: " if self.line is not None else ""
        return f"{self.kind}: {where}{self.reason}"


@dataclass(frozen=True, slots=True)
class Episode:
    """One finished episode as the raw environment produced it.

    Args:
        features: ``(T + 1, W)`` float32 rows, the first one after ``reset``.
        action: ``(T,)`` or ``(T, A)``.
        reward: ``(T,)`` the environment's own reward.
        terminated: the last step ended the task.
        truncated: the last step ended the recording.
        info: the environment's info of the last step.
    """

    layout: Layout
    features: Array
    action: Array
    reward: Array
    terminated: bool
    truncated: bool
    info: Mapping[str, Any] = field(default_factory=dict)

    @property
    def length(self) -> int:
        """Number of steps, ``T``."""
        return len(self.reward)

    @property
    def last(self) -> Features:
        """Features at the end of the episode."""
        return Features(self.layout, self.features[-1])

"""Reward programs: named terms, then transforms, as records of pure functions.

    designed, state = program.apply(state, batch)

``Terms`` says what is rewarded, a ``Transform`` changes the number that comes out,
``program`` puts them together. The same program scores one transition, a vector of
environments, a rollout block ``(T, N)`` and a logged bank. Where a part remembers
something (a register, a running mean), its state is a value that goes in and comes
out, and is reset at episode borders by ``borders.starts``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np

from guerdon.reward_design.borders import as_bool, namespace
from guerdon.reward_design.made import Made, reduce, remade
from guerdon.types import Array, Batch, Spec

State = Any

CLAMP = 1e6
"""Designed rewards are clamped to ±CLAMP; beyond that a critic only sees noise."""

# Arrays, because NumPy takes longer over a Python number than over eight rewards.
_HIGHEST = np.asarray(CLAMP, dtype=np.float32)
_LOWEST = -_HIGHEST


class Terms(NamedTuple):
    """Named reward terms, ``apply(state, batch) -> ((*L, m), state)``."""

    names: tuple[str, ...]
    init: Callable[[Spec], State]
    apply: Callable[[State, Batch], tuple[Array, State]]
    source: str | None = None
    """Text in the reward language, where the terms came from one."""
    pay: Callable[[State, Batch], tuple[Designed, State] | None] | None = None
    """``program(terms)`` in one call, with the same bits, for batches of NumPy without
    a mask; None where it cannot."""
    made: Made | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        return reduce(self)


class Transform(NamedTuple):
    """A change of the reward, ``apply(state, batch, r) -> (r', state)``.

    ``r`` is ``(*L, m)`` while the terms are apart and ``(*L,)`` after ``scalarize``.
    ``tags`` are claims: ``"potential"`` (optimal policies stay) and ``"monotone"``
    (a better reward never becomes a worse one) are checked by ``verify``;
    ``"nonstationary"`` says that the same transition may be scored differently later,
    ``"coupled"`` that one environment's reward depends on the others'.
    """

    init: Callable[[Spec], State]
    apply: Callable[[State, Batch, Array], tuple[Array, State]]
    tags: frozenset[str] = frozenset()
    made: Made | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        return reduce(self)


class Designed(NamedTuple):
    """What a program gives for a batch."""

    reward: Array
    """``(*L,)`` float32, finite or NaN; never infinite."""
    terms: Array
    """``(*L, m)`` float32, before the transforms, in the order of ``names``."""


class RewardProgram(NamedTuple):
    """Terms and transforms put together; see ``program``."""

    names: tuple[str, ...]
    init: Callable[[Spec], State]
    apply: Callable[[State, Batch], tuple[Designed, State]]
    source: str | None = None
    tags: frozenset[str] = frozenset()
    made: Made | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        return reduce(self)


class ProgramState(NamedTuple):
    """What a program remembers between batches."""

    lead: tuple[int, ...]
    """``spec.lead``: batches are one step of it or a block of such steps."""
    terms: State
    transform: State


@remade
def program(
    terms: Terms | Iterable[Terms],
    transform: Transform | None = None,
    *,
    source: str | None = None,
) -> RewardProgram:
    """Put terms and transforms together.

        reward = clamp(sum(transform(terms)))

    Everything after the terms is float32, so that every consumer gets the same bits.
    Rows with mask False are 0 on every level, whatever the terms say there.

    Args:
        terms: what is rewarded; several are merged.
        transform: what happens to it; use ``shaping.chain`` for several. Terms that
            it leaves apart are summed.
        source: text to show for it; None takes that of the terms.

    Raises:
        ValueError: when there are no terms, or two share a name.

    >>> from guerdon.reward_design.shaping import clip
    >>> design = program(environment_reward(), clip(-1.0, 1.0))
    >>> design.names
    ('task',)
    """
    merged = terms if isinstance(terms, Terms) else merge(*terms)
    if not merged.names:
        raise ValueError("reward program: expected at least one term, got none")
    if len(set(merged.names)) != len(merged.names):
        raise ValueError(f"reward program: a name occurs twice in {merged.names}")
    if transform is not None and not isinstance(transform, Transform):
        raise TypeError(
            "reward program: expected a Transform (several go through "
            f"shaping.chain), got {type(transform).__name__}"
        )

    count = len(merged.names)
    pay = merged.pay if transform is None else None

    def init(spec: Spec) -> State:
        spec = spec._replace(terms=merged.names)
        changed = None if transform is None else transform.init(spec)
        return ProgramState(tuple(spec.lead), merged.init(spec), changed)

    def apply(state: State, batch: Batch) -> tuple[Designed, State]:
        lead = _agreed(batch, state.lead)
        if pay is not None and batch.mask is None and type(batch.reward) is np.ndarray:
            paid = pay(state.terms, batch)
            if paid is not None:
                return paid[0], _carried(state, paid[1], None)
        raw, remembered = merged.apply(state.terms, batch)
        values = _settle(raw, (*lead, count), batch.mask)
        reward, changed = values, None
        if transform is not None:
            reward, changed = transform.apply(state.transform, batch, values)
            _refuse_broadcast(reward, values)
        if reward.ndim > len(lead):
            reward = _sum(reward)
        reward = _settle(reward, lead, batch.mask)
        return Designed(reward, values), _carried(state, remembered, changed)

    tags = frozenset() if transform is None else transform.tags
    source = merged.source if source is None else source
    return RewardProgram(merged.names, init, apply, source, tags)


@remade
def merge(*terms: Terms) -> Terms:
    """Terms side by side, in the order given.

    The source is kept where exactly one of them has one.

    Raises:
        ValueError: when two terms share a name.
        TypeError: for anything that is not ``Terms``.
    """
    for part in terms:
        if not isinstance(part, Terms):
            raise TypeError(f"merge: expected Terms, got {type(part).__name__}")
    if len(terms) == 1:
        return terms[0]
    names = tuple(name for part in terms for name in part.names)
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(
            f"reward terms: {', '.join(map(repr, twice))} occurs twice; "
            "give every term its own name"
        )
    sources = [part.source for part in terms if part.source is not None]

    def init(spec: Spec) -> State:
        return tuple(part.init(spec) for part in terms)

    def apply(state: State, batch: Batch) -> tuple[Array, State]:
        pairs = [
            part.apply(before, batch) for part, before in zip(terms, state, strict=True)
        ]
        return _concatenate([values for values, _ in pairs]), tuple(
            after for _, after in pairs
        )

    return Terms(names, init, apply, sources[0] if len(sources) == 1 else None)


@remade
def renamed(terms: Terms, *names: str) -> Terms:
    """The same terms under other names, in the same order.

    Raises:
        ValueError: when there are not as many names as terms.
    """
    if len(names) != len(terms.names):
        raise ValueError(
            f"renamed: expected {len(terms.names)} names for {terms.names}, got {names}"
        )
    return terms._replace(names=names)


@remade
def terms_from(function: Callable[[Batch], Mapping[str, Array]], *names: str) -> Terms:
    """Lift a plain function ``batch -> {name: (*L,)}`` to ``Terms``.

    Args:
        function: pure, and vectorised over the leading axes; booleans and constants
            are allowed as values.
        names: the keys that it returns, in order.

    Raises:
        ValueError: when ``names`` is empty or the function returns other keys.
    """
    if not names:
        raise ValueError("terms_from: expected the names of the terms, got none")

    def apply(state: State, batch: Batch) -> tuple[Array, State]:
        values = function(batch)
        if set(values) != set(names):
            raise ValueError(
                f"reward terms: expected {sorted(names)}, got {sorted(values)}"
            )
        return _stack([values[name] for name in names], batch.reward), state

    return Terms(names, lambda spec: None, apply)


@remade
def environment_reward(name: str = "task") -> Terms:
    """The environment's own reward as a term."""
    return terms_from(lambda batch: {name: batch.reward}, name)


def total(batch: Batch, r: Array) -> Array:
    """``r`` as one number per row: a sum over terms where they are still apart.

    Args:
        batch: leading axes ``*L``.
        r: ``(*L,)`` or ``(*L, m)``.

    Returns:
        ``(*L,)``; the order of the additions does not depend on ``L``.

    Raises:
        ValueError: when ``r`` has another shape.
    """
    lead = tuple(np.shape(batch.reward))
    shape = tuple(r.shape)
    if shape == lead:
        return r
    if shape[:-1] != lead or len(shape) != len(lead) + 1:
        raise ValueError(
            f"reward: expected shape {lead} or {lead} and an axis of terms, got {shape}"
        )
    return _sum(r)


_SMALL = 2000
"""Numbers up to which one call is quicker than one call a term."""


def _sum(r: Array) -> Array:
    """``(*L, m) -> (*L,)``, added from left to right, so that all shapes agree."""
    if namespace(r) is np and 0 < r.size <= _SMALL:
        return np.add.accumulate(r, axis=-1)[..., -1]
    result = r[..., 0]
    for place in range(1, r.shape[-1]):
        result = result + r[..., place]
    return result


@remade
def alone(transform: Transform) -> RewardProgram:
    """A transform of the environment's own reward, which it gets as ``(*L,)``."""

    def apply(state: State, batch: Batch, r: Array) -> tuple[Array, State]:
        return transform.apply(state, batch, total(batch, r))

    return program(environment_reward(), transform._replace(apply=apply))


def _carried(state: ProgramState, terms: State, transform: State) -> ProgramState:
    """The state to go on with; the same one where nothing is remembered."""
    if terms is state.terms and transform is state.transform:
        return state
    return ProgramState(state.lead, terms, transform)


def _agreed(batch: Batch, lead: tuple[int, ...]) -> tuple[int, ...]:
    """The leading axes that all parts of a batch share.

    Raises:
        ValueError: when a part has others, or they are neither one step nor a block.
    """
    rows = batch.now.rows.shape
    shape = tuple(rows[:-1])
    if (
        batch.prev.rows.shape == rows
        and _shape(batch.reward) == shape
        and _shape(batch.terminated) == shape
        and _shape(batch.truncated) == shape
        and (batch.mask is None or _shape(batch.mask) == shape)
        and (shape == lead or (shape[1:] == lead and len(shape) > len(lead)))
    ):
        return shape
    parts = {
        "reward": batch.reward,
        "terminated": batch.terminated,
        "truncated": batch.truncated,
        "mask": batch.mask,
    }
    found = {name: _shape(part) for name, part in parts.items() if part is not None}
    block = ", ".join(map(str, ("T", *lead)))
    raise ValueError(
        f"batch: expected one step {lead} or a block ({block}) of them, with the same "
        f"leading axes in all parts; got feature rows {tuple(rows)} now and "
        f"{tuple(batch.prev.rows.shape)} before, "
        + ", ".join(f"{name} {shape}" for name, shape in found.items())
    )


def _shape(part: Array) -> tuple[int, ...]:
    """The shape of an array, a tensor or a plain number."""
    try:
        return part.shape  # type: ignore[no-any-return]
    except AttributeError:
        return np.shape(part)


def _refuse_broadcast(reward: Array, values: Array) -> None:
    """``(N, m) + (N,)`` may be ``(N, N)`` by accident, and a sum would hide it."""
    shape, apart = tuple(reward.shape), tuple(values.shape)
    if shape not in (apart, apart[:-1]):
        raise ValueError(
            f"transform: expected to get back {apart} or {apart[:-1]}, got {shape}; "
            "one that adds a number per row should start with program.total"
        )


def _settle(values: Array, shape: tuple[int, ...], mask: Array | None) -> Array:
    """Clamp, then float32 (no overflow in the cast), then zero what is not real."""
    if tuple(values.shape) != shape:
        raise ValueError(f"reward: expected shape {shape}, got {tuple(values.shape)}")
    numpy = namespace(values)
    if numpy is np:
        values = np.minimum(np.maximum(values, _LOWEST), _HIGHEST, order="C")
        values = np.asarray(values, dtype=np.float32)
    else:
        values = numpy.clamp(values, -CLAMP, CLAMP).to(numpy.float32)
    if mask is None:
        return values
    real = as_bool(mask)
    if values.ndim > real.ndim:
        real = real[..., None]
    if numpy is np:
        return np.where(real, values, np.float32(0.0))
    return values.masked_fill(~real, 0.0)


def _concatenate(columns: list[Array]) -> Array:
    """Join ``(*L, m_i)`` along the last axis."""
    if namespace(columns[0]) is np:
        return np.concatenate(columns, axis=-1)
    return namespace(columns[0]).cat(columns, dim=-1)


def _stack(values: list[Array], like: Array) -> Array:
    """``(*L, m)`` floats from values that broadcast to the shape of ``like``."""
    if namespace(like) is np:
        # Doubles hold any float exactly; the program rounds to float32 once.
        joined = np.empty((*np.shape(like), len(values)))
        for place, value in enumerate(values):
            joined[..., place] = value
        return joined
    torch = namespace(like)
    tensors = [torch.as_tensor(value, device=like.device) for value in values]
    tensors = [t if t.is_floating_point() else t.float() for t in tensors]
    return torch.stack([t.expand(like.shape) for t in tensors], dim=-1)

"""How a part of a program was made, so that another process can make it again.

Terms, transforms and programs hold functions that close over their settings; such
functions can neither be pickled nor compared. The call that made them can.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple, ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R", bound=Any)


class Made(NamedTuple):
    """The call that made a record, and the fields that it gave."""

    function: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    fields: tuple[Any, ...]

    def __repr__(self) -> str:
        given = [repr(value) for value in self.args]
        given += [f"{name}={value!r}" for name, value in self.kwargs.items()]
        return f"{self.function.__name__}({', '.join(given)})"


def remade(factory: Callable[P, R]) -> Callable[P, R]:
    """Let what ``factory`` gives be copied and pickled by calling it again.

    Args:
        factory: a function of a module that returns a record whose last field is
            ``made``.
    """

    @functools.wraps(factory)
    def make(*args: P.args, **kwargs: P.kwargs) -> R:
        record = factory(*args, **kwargs)
        made: R = record._replace(made=Made(make, args, kwargs, tuple(record)[:-1]))
        return made

    return make


def reduce(record: Any) -> tuple[Any, ...]:
    """``__reduce__`` of a record: the call that made it.

    A record that was changed afterwards (``_replace``) or put together by hand is
    copied field by field, which pickle can only do with functions of a module.
    """
    made = record.made
    fields = tuple(record)[:-1]
    if made is None or any(
        mine is not given for mine, given in zip(fields, made.fields, strict=True)
    ):
        return type(record), (*fields, None)
    return _call, (made.function, made.args, made.kwargs)


def _call(
    function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    return function(*args, **kwargs)

"""Prompts are Markdown files with ``{{fields}}``; this fills them in."""

from __future__ import annotations

import re
from importlib import resources

from guerdon.llm.client import nearest

_FIELD = re.compile(r"\{\{([a-z_]+)\}\}")


def names() -> list[str]:
    """Names of the prompts."""
    folder = resources.files("guerdon.llm") / "prompts"
    files = (item.name for item in folder.iterdir())
    return sorted(f.removesuffix(".md") for f in files if f.endswith(".md"))


def template(name: str) -> str:
    """Text of a prompt, before it is filled in.

    Raises:
        ValueError: for an unknown prompt; names the nearest one.
    """
    if name not in names():
        raise ValueError(
            f"unknown prompt {name!r}; the nearest one is {nearest(name, names())!r}"
        )
    return (resources.files("guerdon.llm") / "prompts" / f"{name}.md").read_text(
        "utf-8"
    )


def fields(name: str) -> frozenset[str]:
    """Fields of a prompt.

    >>> sorted(fields("repair"))
    ['features', 'program', 'reason', 'where']
    """
    return frozenset(_FIELD.findall(template(name)))


def render(name: str, **values: str) -> str:
    """A prompt with its fields filled in.

    Values are put in as they are: ``{{...}}`` inside a value stays what it is, so
    foreign text cannot pull in another field.

    Raises:
        ValueError: when a field has no value, or a value has no field.
        TypeError: when a value is not a text.
    """
    text = template(name)
    wanted = set(_FIELD.findall(text))
    if wanted != set(values):
        missing = ", ".join(sorted(wanted - set(values))) or "nothing"
        unknown = ", ".join(sorted(set(values) - wanted)) or "nothing"
        raise ValueError(f"prompt {name!r}: missing {missing}; unknown {unknown}")
    for field, value in values.items():
        if not isinstance(value, str):
            raise TypeError(
                f"prompt {name!r}: expected a text for {field!r}, got "
                f"{type(value).__name__}"
            )
    return _FIELD.sub(lambda match: values[match[1]], text).strip() + "\n"

"""Text from outside, with nothing hidden in it."""

from __future__ import annotations

import unicodedata


def harmless(text: str) -> str:
    r"""Text that a model, a worker or a run folder wrote, with nothing hidden in it.

    A terminal obeys what stands behind an escape character: it changes its title,
    rewrites what it showed before, or sends an answer to the shell.

    >>> harmless("a" + chr(27) + "[2J")
    'a\\u001b[2J'
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(map(_shown, text))


def _shown(letter: str) -> str:
    """A letter, or its number where it is one of control, format or half a pair."""
    if letter in "\n\t" or unicodedata.category(letter)[0] != "C":
        return letter
    return f"\\u{ord(letter):04x}"

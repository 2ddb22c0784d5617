"""Text for the page: escaped, capped, and honest about what was not measured.

Names, plans and programs were written by a language model or by a task's author.
Nothing of them reaches the page except through ``escape``.
"""

from __future__ import annotations

import html
import math
import re
from collections.abc import Iterator

from guerdon.harmless import harmless
from guerdon.types import Estimate

NOT_MEASURED = "not measured"
NAME_CAP = 60
SENTENCE_CAP = 400
SOURCE_CAP = 20_000

_KEYWORDS = frozenset(
    ["def", "return", "if", "elif", "else", "for", "in", "and", "or", "not"]
)
_CONSTANTS = frozenset(["True", "False", "None", "PARAMS"])
_TOKEN = re.compile(
    r"(?P<comment>#[^\n]*)"
    r"|(?P<string>\"[^\"\n]*\"|'[^'\n]*')"
    r"|(?P<number>\b\d[\w.]*)"
    r"|(?P<word>[^\W\d]\w*)"
    r"|(?P<space>\s+)"
    r"|(?P<other>.)"
)


def visible(text: str, cap: int) -> str:
    """``text`` at most ``cap`` long, with hiding and reordering characters spelled out.

    >>> visible(f"a{chr(0x202E)}b", 10) == f"a{chr(92)}u202eb"
    True
    """
    kept = harmless(text[: cap + 1])
    return kept if len(text) <= cap else f"{kept[:cap]}…"


def escape(value: object, cap: int = SENTENCE_CAP) -> str:
    """HTML for any text from outside; safe in content and in quoted attributes."""
    return html.escape(visible(str(value), cap), quote=True)


def missing() -> str:
    """What stands where there is no number; never a zero."""
    return f'<span class="missing">{NOT_MEASURED}</span>'


def number(value: float | None, digits: int = 3) -> str:
    """A number in plain words: no exponent where a person would write none.

    >>> number(0.9137), number(123456.0), number(-144.0, 2), number(None)
    ('0.914', '123,456', '-144', 'not measured')
    """
    if value is None or not math.isfinite(value):
        return NOT_MEASURED
    if value == 0 or 1e-3 <= abs(value) < 1e3:
        text = f"{value:.{digits}g}"
        return f"{value:,.0f}" if "e" in text else text
    if abs(value) < 1e9 and abs(value) >= 1e3:
        return f"{value:,.0f}"
    return f"{value:.2e}"


def percent(value: float | None) -> str:
    """A share as a percentage.

    >>> percent(0.256)
    '26 %'
    """
    if value is None or not math.isfinite(value):
        return NOT_MEASURED
    return f"{100 * value:.0f} %"


def share(part: float, whole: float) -> str:
    """A part of a whole as a percentage; a small one is never nothing.

    >>> share(1.0, 4.0), share(1.0, 400.0), share(0.0, 4.0)
    ('25 %', '< 1 %', '0 %')
    """
    if 0.0 < part < 0.01 * whole:
        return "< 1 %"
    return percent(part / whole)


def interval(estimate: Estimate | None, as_percent: bool = False) -> str:
    """A number with its interval, for a sentence.

    >>> interval(Estimate(0.9, 0.8, 1.0, 5))
    '0.9 [0.8, 1]'
    """
    if estimate is None:
        return NOT_MEASURED
    show = percent if as_percent else number
    if estimate.n < 2:
        return show(estimate.value)
    return f"{show(estimate.value)} [{show(estimate.low)}, {show(estimate.high)}]"


def aloud(estimate: Estimate) -> str:
    """A number with its interval as a person would read it.

    >>> aloud(Estimate(0.9, 0.8, 1.0, 5))
    '0.9 (0.8 to 1)'
    """
    if estimate.n < 2:
        return number(estimate.value)
    low, high = number(estimate.low), number(estimate.high)
    return f"{number(estimate.value)} ({low} to {high})"


def duration(seconds: float | None) -> str:
    """Seconds in the largest two units that fit.

    >>> duration(4000.0), duration(75.0), duration(2.5)
    ('1 h 6 min', '1 min 15 s', '2.5 s')
    """
    if seconds is None or not math.isfinite(seconds) or seconds < 0:
        return NOT_MEASURED
    if seconds < 60:
        return f"{seconds:.3g} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


def highlight(source: str, marked_line: int | None = None) -> str:
    """A program as HTML, with line numbers by CSS and one line marked.

    The colours come from a scan that knows words, numbers and comments only; it
    never decides anything, so it need not understand hostile text.
    """
    lines = visible(source, SOURCE_CAP).splitlines() or [""]
    rows = []
    for index, line in enumerate(lines, start=1):
        kind = "line marked" if index == marked_line else "line"
        rows.append(f'<span class="{kind}">{"".join(_coloured(line))}</span>')
    return f'<pre class="code" tabindex="0"><code>{"".join(rows)}</code></pre>'


def _coloured(line: str) -> Iterator[str]:
    for match in _TOKEN.finditer(line):
        text = match.group()
        kind = match.lastgroup
        if kind == "word":
            kind = "keyword" if text in _KEYWORDS else None
            kind = "number" if text in _CONSTANTS else kind
        safe = html.escape(text, quote=True)
        if kind in ("comment", "string", "number", "keyword"):
            yield f'<span class="{kind}">{safe}</span>'
        else:
            yield safe

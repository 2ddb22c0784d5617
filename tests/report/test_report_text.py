"""Foreign text on the page: escaped, capped, visible."""

from __future__ import annotations

import html
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guerdon.report.text import (
    SOURCE_CAP,
    aloud,
    duration,
    escape,
    highlight,
    interval,
    number,
    percent,
    visible,
)
from guerdon.types import Estimate

TAG = re.compile(
    r'<(?:/?(?:pre|code|span)|(?:pre|span)(?: class="[a-z ]+")?'
    r'(?: tabindex="0")?)>'
)


@given(st.text(max_size=300))
def test_highlighting_loses_no_character_and_lets_no_tag_through(source: str) -> None:
    page = highlight(source)
    bare = TAG.sub("", page)
    assert "<" not in bare
    assert ">" not in bare
    assert html.unescape(bare) == "".join(visible(source, SOURCE_CAP).splitlines())


@given(st.text(max_size=600))
def test_escaped_text_is_inert_in_content_and_in_attributes(text: str) -> None:
    safe = escape(text, 100)
    assert not set("<>\"'") & set(safe)
    assert html.unescape(safe) == visible(text, 100)


def test_long_text_is_capped() -> None:
    assert escape("x" * 1000, 10) == "x" * 10 + "…"
    assert len(highlight("y" * 10**6)) < SOURCE_CAP * 1.1


def test_characters_that_reorder_or_hide_are_spelled_out() -> None:
    hidden = "a\u202eb\u200bc\x00d\x1b[0m"
    assert escape(hidden) == "a\\u202eb\\u200bc\\u0000d\\u001b[0m"


def test_the_failing_line_is_marked() -> None:
    page = highlight("one\ntwo\nthree", marked_line=2)
    assert page.count("marked") == 1
    assert '<span class="line marked">two</span>' in page


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "not measured"),
        (float("nan"), "not measured"),
        (0.0, "0"),
        (-0.12345, "-0.123"),
        (999.4, "999"),
        (1234.5, "1,234"),
        (1e-7, "1.00e-07"),
        (2.5e12, "2.50e+12"),
    ],
)
def test_numbers_read_as_a_person_would_write_them(
    value: float | None, text: str
) -> None:
    assert number(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(-144.0, "-144"), (144.0, "144"), (999.6, "1,000"), (14.4, "14"), (1.44, "1.4")],
)
def test_few_digits_bring_no_exponent(value: float, text: str) -> None:
    assert number(value, 2) == text


def test_intervals_and_durations_say_when_nothing_was_measured() -> None:
    found = Estimate(0.5, 0.25, 0.75, 4)
    assert interval(found) == "0.5 [0.25, 0.75]"
    assert interval(found, as_percent=True) == "50 % [25 %, 75 %]"
    assert aloud(found) == "0.5 (0.25 to 0.75)"
    assert interval(Estimate(0.5, 0.5, 0.5, 1)) == aloud(Estimate(0.5, 0.5, 0.5, 1))
    assert interval(None) == percent(None) == duration(None) == "not measured"
    assert duration(59.96) == "60 s"
    assert duration(3600) == "1 h 0 min"

from __future__ import annotations

import pytest

from guerdon.llm.budget import count_tokens
from guerdon.llm.prompt import fields, names, render, template

FEATURES = "\n".join(
    f"- distance_to_thing_{i}: cells to the thing number {i}, in [0, 14]; lower is "
    "better"
    for i in range(12)
)
PROGRAM = "def reward(prev, action, now, params):\n" + "    x = now.a - prev.a\n" * 6
LANGUAGE = "Allowed are sums, products, comparisons and the functions of a table. " * 12


def test_every_prompt_is_there() -> None:
    assert names() == [
        *("cross", "fresh", "full_python", "mutate", "repair", "simplify", "system")
    ]


def test_fields_are_filled_in() -> None:
    text = render(
        "repair",
        program="P()",
        where="Line 3",
        reason="no such feature",
        features="- a",
    )
    assert "Line 3: no such feature" in text
    assert "```python\nP()\n```" in text
    assert "{{" not in text


def test_value_is_not_expanded_again() -> None:
    text = render("repair", program="{{reason}}", where="Why", reason="R", features="F")
    assert "{{reason}}" in text
    assert text.count("R") == template("repair").count("R") + 1


def test_missing_and_unknown_fields_are_named() -> None:
    with pytest.raises(ValueError, match=r"missing features, where.*; unknown lines"):
        render("repair", program="p", reason="r", lines="1")


def test_value_that_is_no_text_is_refused() -> None:
    with pytest.raises(TypeError, match="text for 'where', got int"):
        render("repair", program="p", reason="r", where=1, features="f")  # type: ignore[arg-type]


def test_unknown_prompt_names_the_nearest_one() -> None:
    with pytest.raises(ValueError, match="nearest one is 'mutate'"):
        render("mutat")


@pytest.mark.parametrize("name", ["fresh", "mutate", "cross", "simplify", "repair"])
def test_whole_prompt_fits_a_small_model(name: str) -> None:
    values = dict.fromkeys(fields(name), "a short sentence about this and that")
    for field in values:
        if field in ("program", "first", "second"):
            values[field] = PROGRAM
        elif field == "features":
            values[field] = FEATURES
    whole = render("system", language=LANGUAGE) + render(name, **values)
    # The count is by bytes and errs upwards by a third on English.
    assert count_tokens(whole) < 1600

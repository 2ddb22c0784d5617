from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType
from typing import get_args

import pytest

import guerdon
from guerdon.cli import commands
from guerdon.reward_design.language.table import FUNCTIONS
from guerdon.types import FailureKind

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"


@pytest.fixture(scope="module")
def hooks() -> ModuleType:
    return module_of("hooks")


def module_of(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"docs_{name}", DOCS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_table_of_tasks_has_every_task_with_its_numbers(hooks: ModuleType) -> None:
    text = hooks.generate("tasks")
    for task in guerdon.tasks():
        row = next(line for line in text.splitlines() if f"`{task.id}`" in line)
        assert task.intent in row
        assert row.endswith(
            f"| {len(task.layout)} | {task.horizon:,} | {task.budget:,} |"
        )


def test_every_function_of_the_language_is_in_one_of_its_two_tables(
    hooks: ModuleType,
) -> None:
    plain, registers = hooks.generate("functions"), hooks.generate("registers")
    for name, function in FUNCTIONS.items():
        own, other = (registers, plain) if function.register else (plain, registers)
        assert f"| `{name}`(" in own
        assert function.meaning in own
        assert f"| `{name}`(" not in other


def test_every_command_is_shown_with_its_options(hooks: ModuleType) -> None:
    text = hooks.generate("commands")
    for name in ("tasks", "check", "search", "train", "evaluate", "report", "doctor"):
        assert hasattr(commands, name)
        assert f"## guerdon {name}\n" in text
    assert "--budget-usd" in text


def test_a_marker_that_nothing_generates_is_an_error(hooks: ModuleType) -> None:
    assert hooks.on_page_markdown("a\nb <!-- generated: no -->") == (
        "a\nb <!-- generated: no -->"
    )
    with pytest.raises(KeyError, match="nothing generates 'weather'; known: tasks"):
        hooks.on_page_markdown("a\n<!-- generated: weather -->\n")


def test_all_markers_of_the_pages_are_on_lines_of_their_own(hooks: ModuleType) -> None:
    for page in DOCS.glob("*.md"):
        text = page.read_text("utf-8")
        found = re.findall(r"^<!-- generated: (\w+)", text, re.MULTILINE)
        assert len(found) == text.count("<!-- generated:")
        assert set(found) <= set(hooks.PARTS)


def test_a_bar_inside_a_cell_does_not_end_it(hooks: ModuleType) -> None:
    assert hooks.table(["a"], [["x | y"]]).splitlines()[-1] == r"| x \| y |"


def paper_rows() -> list[tuple[str, str]]:
    """Bold word of every row of the paper index, and each of its files."""
    rows = []
    for line in (DOCS / "papers.md").read_text("utf-8").splitlines():
        if line.startswith("|") and "`" in line and "**" in line:
            word = re.findall(r"\*\*(.+?)\*\*", line)[0]
            rows += [(word, file) for file in re.findall(r"`(\w+/[\w/.]+\.py)`", line)]
    return rows


def test_every_paper_is_named_in_the_file_that_uses_it() -> None:
    rows = paper_rows()
    assert len(rows) >= 20
    for word, file in rows:
        text = (ROOT / "guerdon" / file).read_text("utf-8")
        assert word.lower() in text.lower(), f"{file} does not name {word}"


def test_every_paper_that_the_code_names_is_in_the_index() -> None:
    index = (DOCS / "papers.md").read_text("utf-8")
    authors = r"([A-Z]\w+(?:-[A-Z]\w+)?)(?: et al\.|, [A-Z]\w+ and [A-Z])"
    pattern = re.compile(authors + r"(?=.{0,200}?\b(?:19|20)\d\d\b)", re.DOTALL)
    named = {
        name
        for path in (ROOT / "guerdon").rglob("*.py")
        for name in pattern.findall(path.read_text("utf-8"))
    }
    assert {"Agarwal", "Ng", "Houthooft"} <= named
    missing = sorted(name for name in named if name not in index)
    assert missing == []


def test_the_page_on_the_search_explains_every_class_of_failure() -> None:
    text = (DOCS / "search.md").read_text("utf-8")
    for kind in get_args(FailureKind):
        assert f"| `{kind}` |" in text


def test_the_table_of_adapters_says_where_a_task_must_be_given() -> None:
    text = (DOCS / "programs.md").read_text("utf-8")
    (row,) = [line for line in text.splitlines() if line.startswith("| its `SubprocV")]
    assert "RewardVecEnv(venv, program, task=task)" in row


def test_every_module_of_the_api_pages_exists() -> None:
    named = re.findall(
        r"^::: ([\w.]+)$",
        "\n".join(p.read_text("utf-8") for p in (DOCS / "api").glob("*.md")),
        re.MULTILINE,
    )
    assert len(named) > 30
    for name in named:
        assert importlib.util.find_spec(name) is not None, name


def test_examples_in_docstrings_are_code_on_their_page() -> None:
    pytest.importorskip("griffe")
    fenced = module_of("doctests").fenced
    text = "Adds.\n\n>>> a = [1]\n>>> a[0] + 1\n2\n\n    >>> a\n    [1]"
    assert fenced(text).splitlines() == [
        *("Adds.", "", "```pycon", ">>> a = [1]", ">>> a[0] + 1", "2", "```", ""),
        *("    ```pycon", "    >>> a", "    [1]", "    ```"),
    ]
    assert fenced("No >>> example.") == "No >>> example."

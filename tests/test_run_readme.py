from __future__ import annotations

from pathlib import Path

import pytest

from tests import run_readme
from tests.run_readme import PageError, agrees, find_blocks, run_page

PAGE = """\
# Title

```python
x = 20
```

<!-- not run: takes an hour -->

```bash
exit 7
```

Between them.

```bash
echo written > note; echo one; echo two
```

```text
one
two
```

```python
print(x + 1, open("note").read().strip())
```

```text
21 written
```
"""


def write(folder: Path, text: str) -> Path:
    page = folder / "page.md"
    page.write_text(text)
    return page


def test_blocks_share_one_process_and_folder_and_a_skipped_one_is_told(
    tmp_path: Path,
) -> None:
    said = run_page(write(tmp_path, PAGE))
    assert "2 python and 1 bash blocks ran" in said
    assert "2 outputs compared, 1 not run" in said
    assert "not run, line 9: takes an hour" in said


def test_a_page_that_promises_another_output_fails_and_shows_the_right_one(
    tmp_path: Path,
) -> None:
    with pytest.raises(PageError, match=r"page.md:24: (.|\n)*\n21 written$"):
        run_page(write(tmp_path, PAGE.replace("21 written", "22 written")))


def test_an_update_puts_right_what_a_page_shows_and_nothing_else(
    tmp_path: Path,
) -> None:
    wrong = PAGE.replace("21 written", "22\nwritten\nlong ago").replace("one\ntwo", "0")
    page = write(tmp_path, wrong)
    run_page(page, update=True)
    assert page.read_text() == PAGE


def test_a_python_error_is_shown_with_the_line_of_the_page(tmp_path: Path) -> None:
    with pytest.raises(PageError, match=r"page.md:3: (.|\n)*line 5.*\n.*\n.*missing"):
        run_page(write(tmp_path, "Words\n\n```python\nx = 1\nmissing\n```\n"))


def test_a_failing_command_fails_the_page(tmp_path: Path) -> None:
    with pytest.raises(PageError, match=r"page.md:1: the block failed"):
        run_page(write(tmp_path, "```bash\nfalse\necho here\n```\n"))


def test_a_page_that_hangs_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_readme, "LIMIT_S", 0.5)
    with pytest.raises(PageError, match=r"not done after 0\.5 s"):
        run_page(write(tmp_path, "```python\nwhile True: pass\n```\n"))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("- item\n  ```python\n  x\n  ```\n", "line 2: .*margin"),
        ("```bash\necho\n", "line 1: .*never closed"),
    ],
)
def test_a_block_that_would_be_overlooked_is_an_error(text: str, reason: str) -> None:
    with pytest.raises(PageError, match=reason):
        find_blocks(text)


def test_a_text_block_that_does_not_follow_code_is_not_compared() -> None:
    found = find_blocks("```bash\nls\n```\n\nWords.\n\n```text\nnot this\n```\n")
    assert [block.expected for block in found] == [None]


@pytest.mark.parametrize(
    ("printed", "expected", "same"),
    [
        ("a b c", "a b c", True),
        ("a b c", "a ... c", True),
        ("a c", "a ... c", True),
        ("a b c d", "a ... c", False),
        ("a b", "...", True),
        ("a", "a b", False),
    ],
)
def test_dots_stand_for_any_lines(printed: str, expected: str, same: bool) -> None:
    assert agrees(printed.split(), expected.split()) is same


def test_without_a_page_the_usage_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_readme.main([]) == 2
    assert "usage" in capsys.readouterr().err


def test_the_status_counts_failing_pages(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_readme.main([str(write(tmp_path, "```bash\ntrue\n```\n"))]) == 0
    assert run_readme.main([str(write(tmp_path, "```bash\nfalse\n```\n"))]) == 1
    capsys.readouterr()

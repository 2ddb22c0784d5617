from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from tests import run_examples
from tests.run_examples import EXAMPLES, ExampleError, find, is_quick, refuse_outputs


def test_all_numbered_scripts_and_notebooks_are_found() -> None:
    names = [path.name for path in find([])]
    assert [name[:2] for name in names] == ["01", "02", "03", "04", "si", "wh"]
    assert [path.name for path in find(["02", "sparse"])] == [
        "02_write_a_reward.py",
        "why_sparse_rewards_are_hard.ipynb",
    ]


def test_an_unknown_example_is_an_error_that_names_the_known_ones() -> None:
    with pytest.raises(ExampleError, match=r"07_.*there is 01_make_and_wrap"):
        find(["07_"])


@pytest.mark.parametrize(
    ("arguments", "environ", "quick"),
    [
        ([], {}, True),
        ([], {"GUERDON_QUICK": ""}, True),
        ([], {"GUERDON_QUICK": "0"}, False),
        (["--full"], {"GUERDON_QUICK": "1"}, False),
    ],
)
def test_tiny_sizes_are_used_unless_full_ones_are_asked_for(
    arguments: list[str], environ: dict[str, str], quick: bool
) -> None:
    assert is_quick(arguments, environ) is quick


def test_an_example_that_raises_fails_and_shows_why(tmp_path: Path) -> None:
    script = tmp_path / "01_bad.py"
    script.write_text("import os\nraise ValueError(os.environ['GUERDON_QUICK'])\n")
    with pytest.raises(ExampleError, match=r"01_bad.py failed(.|\n)*ValueError: 1$"):
        run_examples.run(script, quick=True)


def test_an_example_that_hangs_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_examples, "LIMIT_S", 0.5)
    script = tmp_path / "01_slow.py"
    script.write_text("while True: pass\n")
    with pytest.raises(ExampleError, match=r"not done after 0\.5 s"):
        run_examples.run(script, quick=True)


def test_notebooks_are_stored_without_outputs(tmp_path: Path) -> None:
    stored = list(EXAMPLES.glob("*.ipynb"))
    assert stored
    for notebook in stored:
        refuse_outputs(notebook)
    book = json.loads(stored[0].read_text("utf-8"))
    code = next(c for c in book["cells"] if c["cell_type"] == "code")
    code["outputs"] = [{"output_type": "stream", "name": "stdout", "text": "x"}]
    dirty = tmp_path / "dirty.ipynb"
    dirty.write_text(json.dumps(book))
    with pytest.raises(ExampleError, match=r"dirty\.ipynb: cell 2 is stored"):
        refuse_outputs(dirty)


def test_running_an_example_leaves_nothing_in_the_working_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = tmp_path / "01_writes.py"
    script.write_text("open('left_over', 'w').close()\n")
    monkeypatch.chdir(tmp_path)
    run_examples.run(script, quick=True)
    assert os.listdir(tmp_path) == ["01_writes.py"]

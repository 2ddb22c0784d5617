"""The store of compiled code: whatever is wrong with it, the code runs."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from numba.core import caching, config

from guerdon.envs.grid import compiled as module

SOURCE = """
from guerdon.envs.grid.compiled import compiled

@compiled
def double(x):
    return 2 * x
"""


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of its own for compiled code."""
    folder = tmp_path / "store"
    monkeypatch.setattr(config, "CACHE_DIR", str(folder))
    return folder


CALLS = """
from guerdon.envs.grid.compiled import compiled

@compiled
def factor():
    return FACTOR

@compiled
def double(x):
    return factor() * x
"""


def load(tmp_path: Path, source: str = SOURCE) -> Any:
    """The function, as a new process would find it."""
    path = tmp_path / "doubles.py"
    path.write_text(source)
    spec = importlib.util.spec_from_file_location("doubles", path)
    assert spec is not None
    assert spec.loader is not None
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded.double


def hits(function: Any) -> int:
    return sum(function.stats.cache_hits.values())


def files(store: Path, end: str) -> list[Path]:
    return sorted(store.rglob(f"*.{end}"))


def test_compiled_code_is_found_again(store: Path, tmp_path: Path) -> None:
    first = load(tmp_path)
    assert first(3) == 6
    assert hits(first) == 0
    second = load(tmp_path)
    assert second(3) == 6
    assert hits(second) == 1


@pytest.mark.parametrize("end", ["nbi", "nbc"])
@pytest.mark.parametrize("content", [b"", b"no pickle at all", b"\x80\x05"])
def test_a_broken_file_is_as_good_as_none(
    store: Path, tmp_path: Path, end: str, content: bytes
) -> None:
    assert load(tmp_path)(3) == 6
    (broken,) = files(store, end)
    broken.write_bytes(content)
    again = load(tmp_path)
    assert again(3) == 6
    assert hits(again) == 0
    mended = load(tmp_path)
    assert mended(3) == 6
    assert hits(mended) == 1


def test_half_an_index_is_as_good_as_none(store: Path, tmp_path: Path) -> None:
    assert load(tmp_path)(3) == 6
    (index,) = files(store, "nbi")
    index.write_bytes(index.read_bytes()[:-7])
    assert load(tmp_path)(3) == 6
    assert hits(load(tmp_path)) == 0


def test_code_of_older_sources_is_not_used(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert load(tmp_path)(3) == 6
    monkeypatch.setattr(module, "source_digest", lambda: "another")
    later = load(tmp_path)
    assert later(3) == 6
    assert hits(later) == 0


class Died(BaseException):
    """A process that ends in the middle; nothing of ours may catch it."""


@pytest.mark.parametrize("moment", ["_save_data", "_save_index"])
def test_a_process_that_dies_while_saving_leaves_no_older_code_in_use(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    def dies(self: Any, *given: Any) -> None:
        raise Died

    # Only what is called changes, so all that numba looks at stays as it was.
    for factor in (2, 3, 2):
        source = CALLS.replace("FACTOR", str(factor))
        monkeypatch.setattr(module, "source_digest", lambda n=factor: f"factor {n}")
        with monkeypatch.context() as patch:
            patch.setattr(caching.IndexDataCacheFile, moment, dies)
            with pytest.raises(Died):
                load(tmp_path, source)(7)
        after = load(tmp_path, source)
        assert after(7) == 7 * factor
        assert hits(after) == 0
        again = load(tmp_path, source)
        assert again(7) == 7 * factor
        assert hits(again) == 1


def test_signatures_that_are_saved_at_once_do_not_share_a_file(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Neither process sees what the other one has written to the index.
    monkeypatch.setattr(caching.IndexDataCacheFile, "_load_index", lambda self: {})
    assert load(tmp_path)(3) == 6
    assert load(tmp_path)(0.25) == 0.5
    assert len(files(store, "nbc")) == 2
    monkeypatch.undo()
    monkeypatch.setattr(config, "CACHE_DIR", str(store))
    mended = load(tmp_path)
    assert mended(3) == 6
    assert mended(0.25) == 0.5


def test_code_of_older_sources_is_deleted_and_that_of_other_functions_is_not(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert load(tmp_path)(3) == 6
    (other,) = files(store, "nbc")  # of a function on another line
    source = CALLS.replace("FACTOR", "2")
    assert load(tmp_path, source)(3) == 6
    before = {*files(store, "nbc")} - {other}
    monkeypatch.setattr(module, "source_digest", lambda: "another")
    assert load(tmp_path, source)(3) == 6
    after = {*files(store, "nbc")} - {other}
    assert len(before) == len(after) == 2  # two functions
    assert not before & after
    assert other.exists()


def test_the_digest_covers_what_is_compiled(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    module.source_digest.cache_clear()
    before = module.source_digest()
    read = Path.read_bytes
    monkeypatch.setattr(
        Path,
        "read_bytes",
        lambda path: read(path) + b"#" * (path.name == "doorkey.py"),
    )
    module.source_digest.cache_clear()
    assert module.source_digest() != before
    module.source_digest.cache_clear()


def test_the_stamp_of_code_elsewhere_covers_its_own_file_and_the_engines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    grid, other = Path(module.__file__).with_name("cells.py"), tmp_path / "own.py"
    assert module.stamp_of(grid) == module.source_digest()
    other.write_text("A = 1\n")
    before = module.stamp_of(other)
    other.write_text("A = 2\n")
    changed = module.stamp_of(other)
    monkeypatch.setattr(module, "source_digest", lambda: "another")
    assert len({before, changed, module.stamp_of(other)}) == 3


def test_without_a_folder_to_write_to_the_code_is_compiled_each_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unwritable(self: Any) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(caching._CacheLocator, "ensure_cache_path", unwritable)
    function = load(tmp_path)
    assert function(3) == 6
    assert function.stats.cache_path is None
    assert not list(tmp_path.rglob("*.nb?"))


def test_a_store_that_fails_while_writing_is_given_up(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: Any, *given: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(caching.IndexDataCacheFile, "_save_data", full)
    monkeypatch.setattr(caching.IndexDataCacheFile, "_save_index", full)
    function = load(tmp_path)
    assert function(3) == 6
    assert function(3.5) == 7
    assert not files(store, "nbc")


def test_importing_the_engine_compiles_nothing_and_guerdon_does_not_load_it() -> None:
    code = (
        "import sys, guerdon; assert 'numba' not in sys.modules\n"
        "from guerdon.envs.grid import engine, kernel, vector\n"
        "from guerdon.envs.grid.levels import LEVELS\n"
        "made = [kernel.step, kernel.show, *(v.begin for v in LEVELS.values())]\n"
        "assert not any(function.signatures for function in made)\n"
        "assert 'minigrid' not in sys.modules\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_files_that_are_left_out_of_the_digest_have_nothing_compiled() -> None:
    folder = Path(module.__file__).parent
    for name in module._NOT_COMPILED:
        text = (folder / name).read_text()
        assert "@compiled" not in text
        assert "@inlined" not in text

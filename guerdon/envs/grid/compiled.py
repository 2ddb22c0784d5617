"""How the functions of the grid engine are compiled, and where they are kept.

Every function is plain Python over integers and arrays. Numba compiles it at its first
call (never at import) and keeps the machine code on disk. That store may not be
writable, may hold half a file, or may come from older source code; none of this is
allowed to be more than a compilation.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from guerdon.extras import MissingExtra


def _numba() -> tuple[Any, str]:
    """The compiler, or None and why; without it the levels can still be read."""
    try:
        return importlib.import_module("numba"), ""
    except ImportError as error:
        return None, str(error)


numba, _reason = _numba()

Function = TypeVar("Function", bound=Callable[..., Any])


def require_compiler() -> None:
    """Refuse to go on without numba.

    Raises:
        guerdon.extras.MissingExtra: names the extra that brings it.
    """
    if numba is None:
        raise MissingExtra(
            f"the grid engine needs numba ({_reason}); it comes with the extra "
            "'grid': pip install 'guerdon[grid]'. Without it, play MiniGrid's own "
            'environments: engine="minigrid"'
        )


def has_compiler() -> bool:
    """Whether numba is there; without it compiled functions run as plain Python."""
    return numba is not None


def compiled(function: Function) -> Function:
    """Compile ``function`` at its first call; other compiled functions may call it.

    The function releases the interpreter's lock, so threads run it side by side.
    Without numba it stays what it is, plain Python.
    """
    return _compile(function, inline=False)


def inlined(function: Function) -> Function:
    """``compiled``, and put into the code of each caller.

    An array is nine numbers to a machine, so in the innermost loop a call costs more
    than what most of the functions do.
    """
    return _compile(function, inline=True)


def _compile(function: Function, inline: bool) -> Function:
    if numba is None:
        return function
    options = {"nogil": True, "error_model": "numpy", "forceinline": inline}
    # Nothing here makes an array, so none has to be counted; counting the references
    # to those that are passed around takes most of the time of a step.
    made: Any = numba.njit(**options, _nrt=False)(function)
    if hasattr(made, "_cache"):  # with NUMBA_DISABLE_JIT it is the function itself
        made._cache = _store_of(function) or made._cache
    result: Function = made
    return result


def _store_of(function: Callable[..., Any]) -> Any:
    """The store on disk of one function; None where no folder can be written to."""
    try:
        return _store_class()(function)
    except (RuntimeError, OSError):
        # Numba found no folder: neither NUMBA_CACHE_DIR, nor beside the source, nor
        # in the user's cache. The code is then compiled once in every process.
        return None


@cache
def _files_class() -> Any:
    """The files of one function: an index, and one file of code a signature."""
    base: Any = importlib.import_module("numba.core.caching").IndexDataCacheFile

    class Files(base):  # type: ignore[misc]
        """Numba's own files, whose names say what is in them.

        Numba numbers the files of code, begins again at 1 with every stamp, and writes
        the index first. A process that dies in between, or looks then, would take the
        code of an older source, or of another signature, for what the index names.
        """

        def save(self, key: Any, data: Any) -> None:
            index = self._load_index()
            if not index:
                self._drop_older()
            name = self._name_of(key)
            self._save_data(name, data)
            index[key] = name
            self._save_index(index)

        def _name_of(self, key: Any) -> str:
            content = hashlib.sha256(repr((self._source_stamp, key)).encode())
            return f"{self._stem()}{content.hexdigest()[:32]}.nbc"

        def _stem(self) -> str:
            source = hashlib.sha256(self._source_stamp.encode()).hexdigest()[:16]
            return f"{self._index_name.removesuffix('nbi')}{source}."

        def _drop_older(self) -> None:
            function = self._index_name.removesuffix("nbi")
            for path in Path(self._cache_path).glob("*.nbc"):
                older = not path.name.startswith(self._stem())
                if path.name.startswith(function) and older:
                    # A process that still runs the older source compiles once more.
                    with contextlib.suppress(OSError):
                        path.unlink()

    return Files


@cache
def _store_class() -> Any:
    """A store of machine code that cannot break what it serves."""
    base: Any = importlib.import_module("numba.core.caching").FunctionCache

    class Store(base):  # type: ignore[misc]
        """Numba's own store, with three changes.

        Numba looks only at the file of the function itself, so a change in a function
        that it calls would leave old code in use: here the stamp is that of its own
        file and of all of the engine's. Its files are those of ``_files_class``. And a
        file that cannot be read is as good as none.
        """

        def __init__(self, function: Callable[..., Any]) -> None:
            super().__init__(function)
            self._cache_file = _files_class()(
                cache_path=self._cache_path,
                filename_base=self._impl.filename_base,
                source_stamp=stamp_of(Path(function.__code__.co_filename)),
            )

        def load_overload(self, sig: Any, target_context: Any) -> Any:
            try:
                return super().load_overload(sig, target_context)
            except Exception:  # whatever unpickling a broken file comes to
                self._begin_anew()
                return None

        def save_overload(self, sig: Any, data: Any) -> None:
            try:
                super().save_overload(sig, data)
            except Exception:  # a full disk, a folder that has gone, a broken index
                self._begin_anew()

        def _begin_anew(self) -> None:
            try:
                self.flush()
            except OSError:
                self.disable()

    return Store


_NOT_COMPILED = (
    "engine.py", "expect.py", "export.py", "oracle.py", "oracle_show.py", "threads.py",
    "vector.py",
)  # fmt: skip
"""Files without a compiled function; any other counts as having one."""


def stamp_of(file: Path) -> str:
    """Stamp of the code of a file: of all sources that it may have been made from.

    Functions may call others of their own file and of the engine's, and no further.
    """
    grid = Path(__file__).parent
    if file.is_relative_to(grid):
        return source_digest()
    own = hashlib.sha256(file.read_bytes()).hexdigest() if file.is_file() else ""
    return f"{source_digest()} {own}"


@cache
def source_digest() -> str:
    """Digest of the engine's source files that compiled code may depend on."""
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.rglob("*.py")):
        if path.name not in _NOT_COMPILED:
            digest.update(path.name.encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()

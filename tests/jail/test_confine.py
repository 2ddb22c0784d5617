"""What is left to a confined process, for every version of Landlock and any user."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from guerdon.jail import landlock
from guerdon.jail.confine import readable
from tests.jail.tools import linux_only, python

pytestmark = linux_only

_TRY = """
import ctypes, fcntl, json, os, resource, socket, sys, tempfile
from guerdon.jail import confine, landlock
from tests.jail.jobs import denied

whole, user = json.loads(sys.argv[1])
if user and os.geteuid() == 0:
    os.setgroups([])
    os.setresgid(user, user, user)
    os.setresuid(user, user, user)
newest = landlock.version()
folder = tempfile.mkdtemp()
os.mkdir(folder + "/inner")
readers = [folder + "/inner"]
for name in ("0", "inner/read", "outside"):
    with open(f"{folder}/{name}", "w") as file:
        file.write("text")
place = socket.socket()
place.bind(("127.0.0.1", 0))
place.listen(64)
port = place.getsockname()[1]
os.chdir(folder)
confine.readable = lambda: readers
libc = ctypes.CDLL(None)

def mode_three():
    os.open("outside", 3 | os.O_TRUNC)

ACTS = {
    "write scratch": lambda: open("0", "w").write("new"),
    "read library": lambda: open("inner/read").read(),
    "list library": lambda: os.listdir("inner"),
    "read": lambda: open("outside"),
    "read by path": lambda: open("inner/../outside"),
    "list": lambda: os.listdir("."),
    "write": lambda: open("outside", "w"),
    "write library": lambda: open("inner/read", "a"),
    "create": lambda: open("new", "w"),
    "nameless": lambda: os.open(".", os.O_TMPFILE | os.O_RDWR),
    "mkdir": lambda: os.mkdir("d"),
    "symlink": lambda: os.symlink("0", "s"),
    "fifo": lambda: os.mkfifo("f"),
    "socket": lambda: socket.socket(socket.AF_UNIX).bind("sock"),
    "link": lambda: os.link("0", "inner/0"),
    "rename": lambda: os.rename("0", "1"),
    "move": lambda: os.rename("0", "inner/0"),
    "unlink": lambda: os.unlink("0"),
    "truncate": lambda: os.truncate("inner/read", 0),
    "open to empty": lambda: os.open("inner/read", os.O_RDONLY | os.O_TRUNC),
    "mode 3": mode_three,
    "connect": lambda: socket.socket().connect(("127.0.0.1", port)),
    "bind": lambda: socket.socket().bind(("127.0.0.1", 0)),
    "signal": lambda: os.kill(os.getppid(), 0),
}
found = {}
for abi in range(1, newest + 1):
    read, write = os.pipe()
    if os.fork() == 0:
        landlock.version = lambda: abi
        if whole:
            confine.confine(confine.Limits(), ["0"])
        else:
            confine.no_new_privileges()
            landlock.restrict(readers, ["0"])
        row = {name: denied(act) for name, act in ACTS.items()}
        os.write(write, json.dumps(row).encode())
        os._exit(0)
    os.close(write)
    with os.fdopen(read) as pipe:
        found[abi] = json.loads(pipe.read())
    os.wait()
    for name in ("0", "inner/read", "outside"):
        with open(f"{folder}/{name}", "w") as file:
            file.write("text")
print(json.dumps(found))
import shutil
shutil.rmtree(folder)
"""

FINE = {"write scratch", "read library", "list library"}
LATER = {"truncate": 3, "open to empty": 3, "mode 3": 3, "connect": 4, "bind": 4}
"""What older versions of Landlock do not know of; the filter does."""


@pytest.mark.parametrize("user", [0, 65534])
def test_every_version_of_landlock_denies_what_it_can(user: int) -> None:
    found = json.loads(python(_TRY, json.dumps([False, user])))
    assert len(found) == landlock.version()
    for abi, row in found.items():
        for act, result in row.items():
            if act in FINE or int(abi) < {**LATER, "signal": 6}.get(act, 0):
                assert result == "possible", (abi, act)
            elif act == "signal":
                assert result == "EPERM", abi
            elif act == "move" or act == "link":
                assert result in ("EACCES", "EXDEV"), (abi, act)
            else:
                assert result == "EACCES", (abi, act, result)


@pytest.mark.parametrize("user", [0, 65534])
def test_all_layers_together_deny_everything_on_every_version(user: int) -> None:
    found = json.loads(python(_TRY, json.dumps([True, user])))
    assert len(found) == landlock.version()
    for abi, row in found.items():
        for act, result in row.items():
            if act in FINE:
                assert result == "possible", (abi, act)
            else:
                assert result in ("EACCES", "EPERM"), (abi, act)


def test_nothing_is_confined_beside_threads_which_landlock_would_miss() -> None:
    text = """
import threading
from guerdon.jail.confine import Limits, confine, is_confined
stop = threading.Event()
thread = threading.Thread(target=stop.wait)
thread.start()
try:
    confine(Limits(), [])
except OSError as error:
    print(error.strerror, is_confined())
stop.set()
thread.join()
"""
    assert python(text).strip().endswith(" threads run; expected one False")


def test_only_libraries_can_be_read_not_what_lies_beside_them() -> None:
    import guerdon

    paths = {Path(path).resolve() for path in readable()}
    for holder in ("/", "/usr", "/home", "/root", "/etc", "/tmp", "/usr/src", "/var"):
        assert Path(holder).resolve() not in paths
    home = Path.home()
    assert home not in paths
    assert not [path for path in paths if home.is_relative_to(path)]
    assert Path(os.__file__).parent in paths or any(
        Path(os.__file__).is_relative_to(path) for path in paths
    )
    assert any(Path(guerdon.__file__).resolve().is_relative_to(p) for p in paths)


def test_a_confined_process_knows_it_and_no_other_does() -> None:
    text = """
import os
from guerdon.jail.confine import Limits, confine, is_confined
before = is_confined()
if os.fork() == 0:
    confine(Limits(), [])
    os._exit(is_confined())
_, status = os.wait()
print(before, os.waitstatus_to_exitcode(status), is_confined())
"""
    assert python(text).split() == ["False", "1", "False"]


def test_others_of_its_user_cannot_look_into_it() -> None:
    text = """
import os, resource, signal
from guerdon.jail.confine import Limits, confine, readable
from tests.jail.jobs import denied
readable()  # while this user may read it
if os.geteuid() == 0:
    os.setgroups([])
    os.setresgid(65534, 65534, 65534)
    os.setresuid(65534, 65534, 65534)
    import ctypes
    ctypes.CDLL(None).prctl(4, 1, 0, 0, 0)  # what a change of user takes away

def look(act):
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        act()
        os.write(write, b"x")
        while True:
            signal.pause()
    os.close(write)
    assert os.read(read, 1) == b"x"
    print(denied(lambda: open(f"/proc/{pid}/environ").read()))
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)

look(lambda: None)
look(lambda: confine(Limits(), []))
"""
    assert python(text).split() == ["possible", "EACCES"]

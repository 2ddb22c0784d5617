"""Each layer is tried out; where it is missing, or only pretends, that is seen."""

from __future__ import annotations

import errno
import json
import os

import pytest

from guerdon.jail import Jail, JailError, Layer, missing, probe
from tests.jail.tools import linux_only, python

pytestmark = linux_only

NAMES = {
    *("machine", "no_new_privs", "landlock", "seccomp", "rlimits", "capabilities"),
    *("parent_death", "descriptors"),
}
_PR_SET_PDEATHSIG, _PR_SET_NO_NEW_PRIVS = 1, 38

CASES: list[tuple[list[str], int, int | None, set[str]]] = [
    (["landlock_create_ruleset"], errno.ENOSYS, None, {"landlock"}),
    (["landlock_create_ruleset"], errno.EOPNOTSUPP, None, {"landlock"}),
    (["landlock_restrict_self"], errno.EPERM, None, {"landlock"}),
    (["landlock_restrict_self"], 0, None, {"landlock"}),
    (["seccomp"], errno.EPERM, None, {"seccomp"}),
    (["seccomp"], 0, None, {"seccomp"}),
    (["capset"], errno.EPERM, None, {"capabilities"}),
    (["prlimit64", "setrlimit"], errno.EPERM, None, {"rlimits"}),
    (["prlimit64", "setrlimit"], 0, None, {"rlimits"}),
    (["prctl"], errno.EPERM, _PR_SET_PDEATHSIG, {"parent_death"}),
    (["prctl"], 0, _PR_SET_PDEATHSIG, {"parent_death"}),
    (["getdents64"], errno.EPERM, None, {"descriptors"}),
    (
        ["prctl"],
        errno.EPERM,
        _PR_SET_NO_NEW_PRIVS,
        {"no_new_privs", "landlock", "seccomp"},
    ),
]
if hasattr(os, "geteuid") and os.geteuid() == 0:
    # Pretending to give up powers is only seen by who has them.
    CASES.append((["capset"], 0, None, {"capabilities"}))
    # The kernel restricts root without it; it must be set all the same.
    CASES.append((["prctl"], 0, _PR_SET_NO_NEW_PRIVS, {"no_new_privs"}))


@pytest.mark.parametrize(
    ("calls", "error", "first", "lost"),
    [pytest.param(*c, id=f"{c[0][0]}-{c[2]}-{c[1]}") for c in CASES],
)
def test_a_missing_layer_is_named_with_what_helps_and_refuses_the_jail(
    calls: list[str], error: int, first: int | None, lost: set[str]
) -> None:
    text = "from tests.jail.deny import main; main()"
    found = json.loads(python(text, json.dumps([calls, error, first])))
    rows = [Layer(**row) for row in found]
    assert {row.name for row in rows} == NAMES
    absent = missing(rows)
    assert {row.name for row in absent} == lost, rows
    with pytest.raises(JailError, match="refuses to run without") as refusal:
        Jail(layers=rows)
    for row in absent:
        assert row.fix
        assert row.detail
        assert row.fix in str(refusal.value)
        assert row.name in str(refusal.value)


def test_this_machine_has_all_layers() -> None:
    assert {row.name for row in probe()} == NAMES
    assert missing() == []
    assert all(row.fix == "" for row in probe())


def test_an_ordinary_user_has_all_layers() -> None:
    text = """
import fcntl, os, resource  # while this user may read them
from guerdon.jail import layers
if os.geteuid() == 0:
    os.setgroups([])
    os.setresgid(65534, 65534, 65534)
    os.setresuid(65534, 65534, 65534)
layers.main()
"""
    rows = [Layer(**row) for row in json.loads(python(text))]
    assert {row.name for row in rows} == NAMES
    assert missing(rows) == []


def test_a_jail_asks_the_machine_itself() -> None:
    text = """
from tests.jail.deny import deny
from guerdon.jail import Jail, JailError
deny(["landlock_create_ruleset"], 38)
try:
    Jail()
except JailError as error:
    print(error)
"""
    found = python(text)
    assert found.startswith("the jail refuses to run without landlock (OSError")
    assert "lsm=landlock" in found


@pytest.mark.parametrize(
    "call", ["landlock_restrict_self", "seccomp", "capset", "prlimit64"]
)
def test_a_job_never_runs_where_a_layer_fails_after_all(call: str) -> None:
    """Fail closed, even when the probe was wrong."""
    text = """
import sys
from tests.jail.deny import deny
from guerdon.jail import Jail, Layer, Limits
from guerdon.jail.layers import _ATTEMPTS
deny([sys.argv[1]], 1)
whole = [Layer(name, True, "a lie") for name in ("machine", *_ATTEMPTS)]
try:
    with Jail(layers=whole) as jail:
        jail.run("tests.jail.jobs:run_text", "print('it ran')", Limits(seconds=9))
except OSError as error:
    print(error)
"""
    found = python(text, call)
    assert found.startswith("[Errno 1] the jail cannot be shut (")
    assert "it ran" not in found


def test_a_probe_that_cannot_start_is_a_missing_layer() -> None:
    text = """
import sys
from guerdon.jail import missing
sys.executable = "/nowhere/python"
(row,) = missing()
print(row.name, "|", row.detail, "|", row.fix)
"""
    name, detail, fix = python(text).split("|")
    assert name.strip() == "probe"
    assert "FileNotFoundError" in detail
    assert fix.strip()

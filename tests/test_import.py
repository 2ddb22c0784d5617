"""``import guerdon`` is cheap and silent, and its public names are all there."""

from __future__ import annotations

import json
import subprocess
import sys

import gymnasium as gym
import pytest

import guerdon
from guerdon.extras import MissingExtra, require

HEAVY = {
    *("torch", "openai", "nle", "minihack", "mujoco", "stable_baselines3", "minigrid"),
    *("matplotlib", "numba", "scipy", "Box2D", "pygame", "xllamacpp", "tyro", "rich"),
}


def fresh(code: str) -> tuple[str, set[str]]:
    """What a new interpreter prints, and the modules that it has in the end."""
    code += "\nimport json, sys\nprint('\\0' + json.dumps(sorted(sys.modules)))"
    ended = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        capture_output=True,
        text=True,
        check=True,
    )
    printed, modules = ended.stdout.split("\0")
    return printed + ended.stderr, {m.split(".")[0] for m in json.loads(modules)}


def test_importing_prints_nothing_and_loads_nothing_heavy() -> None:
    printed, modules = fresh("import guerdon")
    _, before = fresh("import gymnasium")
    assert printed == ""
    assert modules & HEAVY == before & HEAVY
    # Of third parties there is nothing but what Gymnasium itself brings.
    ours = {m for m in modules - before if m not in sys.stdlib_module_names}
    assert ours == {"guerdon"}


def test_the_command_line_lists_tasks_without_loading_torch_or_a_model() -> None:
    _, modules = fresh("from guerdon.cli import main; main(['tasks', '--json'])")
    assert not modules & (HEAVY - {"tyro", "rich"})


def test_a_run_is_described_without_loading_torch_or_a_model() -> None:
    _, modules = fresh("import guerdon.run")
    heavy = {"torch", "openai", "stable_baselines3", "minigrid", "matplotlib"}
    assert not modules & heavy


@pytest.mark.parametrize("module", ["population", "preload_populations"])
def test_populations_are_trained_without_loading_stable_baselines(module: str) -> None:
    _, modules = fresh(f"import guerdon.agents.{module}")
    assert "torch" in modules
    assert not modules & {"stable_baselines3", "minigrid", "matplotlib", "pandas"}


def test_gymnasium_imports_the_tasks_by_itself() -> None:
    printed, _ = fresh(
        "import gymnasium\n"
        "env = gymnasium.make('guerdon:guerdon/CartPole-v1')\n"
        "print(env.reset(seed=0)[1]['features'].shape)"
    )
    assert printed.strip() == "(7,)"


def test_every_task_is_registered_with_gymnasium() -> None:
    assert all(task.id in gym.registry for task in guerdon.tasks())


@pytest.mark.parametrize("name", guerdon.__all__)
def test_every_public_name_is_there_and_described(name: str) -> None:
    found = getattr(guerdon, name)
    assert name in dir(guerdon)
    assert found.__doc__


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'tusks'"):
        guerdon.tusks  # noqa: B018


def test_an_absent_extra_is_named_with_the_command_that_brings_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "openai", None)
    with pytest.raises(MissingExtra) as caught:
        require("openai", "llm")
    assert str(caught.value) == (
        "openai is not installed; it comes with the extra 'llm': "
        "pip install 'guerdon[llm]'"
    )


def test_a_module_that_an_extra_itself_misses_is_not_taken_for_the_extra(
    monkeypatch: pytest.MonkeyPatch, tmp_path: object
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    with open(f"{tmp_path}/needs_more.py", "w") as file:
        file.write("import no_such_module_at_all\n")
    with pytest.raises(ModuleNotFoundError, match="no_such_module_at_all") as caught:
        require("needs_more", "llm")
    assert not isinstance(caught.value, MissingExtra)

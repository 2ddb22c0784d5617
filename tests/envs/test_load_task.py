from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import gymnasium as gym
import pytest

import guerdon
from guerdon.envs.registration import register_all
from guerdon.envs.table import TASKS, UnknownTask, load_task

OWN = """
import guerdon

task = guerdon.task_from_env("Acrobot-v1", text="Swing up.", fitness="return")
number = 3

def make_task():
    return task

def broken():
    return number
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "my_own_tasks.py").write_text(OWN)
    (tmp_path / "imports_nothing.py").write_text("import no_such_module_at_all\n")
    yield tmp_path
    sys.modules.pop("my_own_tasks", None)


def test_a_registered_id_gives_its_task() -> None:
    assert load_task("guerdon/DoorKey-8x8-v0") is TASKS["guerdon/DoorKey-8x8-v0"]
    assert load_task("guerdon:guerdon/CartPole-v1") is TASKS["guerdon/CartPole-v1"]
    task = TASKS["guerdon/Ant-v5"]
    assert load_task(task) is task


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("DoorKey-8x8", "guerdon/DoorKey-8x8-v0"),
        ("DoorKey-8x8-v0", "guerdon/DoorKey-8x8-v0"),
        ("guerdon/DorKey-6x6-v0", "guerdon/DoorKey-6x6-v0"),
        ("halfcheetah", "guerdon/HalfCheetah-v5"),
        ("CartPole-v0", "guerdon/CartPole-v1"),
        ("guerdon:guerdon/Hoper-v5", "guerdon/Hopper-v5"),
    ],
)
def test_an_unknown_name_is_answered_with_the_nearest_id(
    typed: str, meant: str
) -> None:
    with pytest.raises(UnknownTask, match=f"did you mean '{meant}'"):
        load_task(typed)


def test_a_name_like_no_other_is_answered_with_all_ids() -> None:
    with pytest.raises(UnknownTask, match=r"guerdon/CartPole-v1, .*module:object"):
        load_task("zzzzzzzz")


def test_module_and_object_are_found_from_the_working_folder(folder: Path) -> None:
    assert load_task("my_own_tasks:task").id == "Acrobot-v1"
    assert load_task("my_own_tasks:make_task") is load_task("my_own_tasks:task")
    assert guerdon.make("my_own_tasks:task").reset(seed=0)[1]["features"].shape == (6,)


def test_the_task_of_the_example_goes_by_the_name_that_it_gives() -> None:
    assert load_task("examples.04_your_own_environment:TASK").id == "Acrobot-v1"


def test_what_is_not_there_is_named(folder: Path) -> None:
    with pytest.raises(ValueError, match="no module 'my_other_tasks'"):
        load_task("my_other_tasks:task")
    with pytest.raises(ValueError, match="has no 'tusk'; tasks in it: task"):
        load_task("my_own_tasks:tusk")
    with pytest.raises(TypeError, match=r"expected a guerdon\.Task, .*, got int"):
        load_task("my_own_tasks:number")
    with pytest.raises(TypeError, match=r"expected a guerdon\.Task, .* gave int"):
        load_task("my_own_tasks:broken")


def test_an_error_inside_the_users_module_is_the_users_to_see(folder: Path) -> None:
    with pytest.raises(ModuleNotFoundError, match="no_such_module_at_all"):
        load_task("imports_nothing:task")


@pytest.mark.parametrize("wrong", [None, 5, b"guerdon/CartPole-v1", ["a"]])
def test_what_is_no_name_is_refused_with_its_type(wrong: object) -> None:
    with pytest.raises(TypeError, match=rf"got .*\({type(wrong).__name__}\)"):
        load_task(wrong)  # type: ignore[arg-type]


def test_an_error_in_the_users_code_says_which_part_of_a_task_it_was(
    folder: Path,
) -> None:
    with pytest.raises(ModuleNotFoundError) as caught:
        load_task("imports_nothing:task")
    assert caught.value.__notes__ == [
        "task 'imports_nothing:task': importing the module 'imports_nothing' failed"
    ]


def test_registering_twice_changes_nothing() -> None:
    before = dict(gym.registry)
    register_all()
    assert dict(gym.registry) == before


def test_public_names_are_lazy_and_an_unknown_one_is_an_attribute_error() -> None:
    assert set(guerdon.__all__) <= set(dir(guerdon))
    for name in guerdon.__all__:
        assert getattr(guerdon, name).__name__ == name
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = guerdon.no_such_name


def test_importing_and_listing_tasks_loads_no_simulator() -> None:
    code = (
        "import sys, guerdon; guerdon.tasks();"
        "print([m for m in ('minigrid', 'mujoco', 'Box2D', 'pygame', 'torch')"
        " if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n"
    assert done.stderr == ""

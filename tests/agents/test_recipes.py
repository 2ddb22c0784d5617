from dataclasses import replace
from typing import Any

import pytest

from guerdon.agents.ppo_config import PPOConfig
from guerdon.agents.recipes import MEMORY, MINIGRID, Recipe, recipe_for
from guerdon.envs.table import TASKS, tasks
from guerdon.envs.task import Task

# Copied by hand from the zoo's hyperparams/ppo.yml and sac.yml.
ZOO: list[tuple[str, str, dict[str, Any]]] = [
    ("CartPole-v1", "ppo", {"n_envs": 8, "n_steps": 32, "n_epochs": 20}),
    ("CartPole-v1", "ppo", {"discount": 0.98, "gae_lambda": 0.8, "batch_size": 256}),
    ("Pendulum-v1", "ppo", {"n_envs": 4, "n_steps": 1024, "discount": 0.9}),
    ("MountainCarContinuous-v0", "ppo", {"n_steps": 8, "learning_rate": 7.77e-5}),
    ("MountainCarContinuous-v0", "sac", {"train_freq": 32, "tau": 0.01}),
    ("LunarLander-v3", "ppo", {"n_envs": 16, "discount": 0.999, "ent_coef": 0.01}),
    ("HalfCheetah-v5", "ppo", {"n_epochs": 20, "net_arch": (256, 256)}),
    ("Hopper-v5", "ppo", {"gae_lambda": 0.99, "max_grad_norm": 0.7}),
    ("Walker2d-v5", "ppo", {"vf_coef": 0.871923, "net_arch": (64, 64)}),
    ("Reacher-v5", "ppo", {"discount": 0.9, "gae_lambda": 1.0}),
    ("InvertedDoublePendulum-v5", "ppo", {"clip_range": 0.4, "gae_lambda": 0.8}),
    ("Ant-v5", "ppo", {"n_steps": 2048, "batch_size": 64, "n_epochs": 10}),
    ("Ant-v5", "sac", {"learning_starts": 10_000, "net_arch": (256, 256)}),
]


@pytest.mark.parametrize("task", tasks(), ids=lambda task: task.id)
def test_every_registered_task_has_a_recipe_with_its_source(task: Task) -> None:
    recipe = recipe_for(task)
    assert recipe.algo == "ppo"
    published = "hyperparams/ppo.yml" in recipe.source
    assert published != (task.family == "minigrid")
    # SB3 warns, rightly, of a minibatch that a rollout does not fill.
    assert recipe.n_envs * recipe.n_steps % recipe.batch_size == 0
    if task.action.kind == "continuous":
        sac = recipe_for(task, "sac")
        assert sac.algo == "sac"
        assert "hyperparams/sac.yml" in sac.source


@pytest.mark.parametrize(("name", "algo", "values"), ZOO)
def test_published_numbers_are_the_zoo_s(
    name: str, algo: str, values: dict[str, Any]
) -> None:
    recipe = recipe_for(TASKS[f"guerdon/{name}"], algo)
    assert {field: getattr(recipe, field) for field in values} == values


def test_minigrid_uses_the_recipe_of_our_own_study() -> None:
    assert recipe_for(TASKS["guerdon/DoorKey-8x8-v0"]) is MINIGRID
    assert MINIGRID.one_hot
    assert "our own study" in MINIGRID.source


def test_the_memory_levels_have_a_memory_which_sb3_goes_without() -> None:
    own = [task for task in tasks() if recipe_for(task).memory]
    assert [task.id.partition("-")[0] for task in own] == [
        f"guerdon/Memory{name}"
        for name in ("S7", "S9", "S11", "S13", "S13Random", "S17Random")
    ]
    assert all(recipe_for(task) is MEMORY for task in own)
    theirs = MEMORY.without_memory()
    assert theirs == replace(MINIGRID, source=theirs.source)
    assert theirs.source.endswith("; trained by Stable-Baselines3, without the memory")
    assert MINIGRID.without_memory() is MINIGRID
    config = PPOConfig.from_recipe(MEMORY)
    assert (config.memory, config.shared) == (MEMORY.memory, True)
    assert not PPOConfig.from_recipe(MINIGRID).shared


def test_a_task_that_is_not_ours_gets_defaults_by_its_kind_of_action() -> None:
    own = replace(TASKS["guerdon/CartPole-v1"], id="mine", family="custom")
    assert "defaults" in recipe_for(own).source
    assert not recipe_for(own).deterministic
    moving = replace(TASKS["guerdon/Pendulum-v1"], id="mine", family="custom")
    assert recipe_for(moving).deterministic
    assert recipe_for(moving, "sac").algo == "sac"


def test_sac_for_discrete_actions_is_rejected() -> None:
    with pytest.raises(ValueError, match="'sac' needs continuous actions"):
        recipe_for(TASKS["guerdon/CartPole-v1"], "sac")


def test_an_unknown_algorithm_is_rejected() -> None:
    with pytest.raises(ValueError, match="expected 'ppo' or 'sac', got 'dqn'"):
        recipe_for(TASKS["guerdon/CartPole-v1"], "dqn")


@pytest.mark.parametrize(
    "values", [{"n_envs": 0}, {"discount": 1.1}, {"learning_rate": 0.0}, {"memory": -1}]
)
def test_numbers_out_of_range_are_rejected(values: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"recipe {next(iter(values))}"):
        Recipe(algo="ppo", source="test", **values)

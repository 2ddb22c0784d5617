from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from guerdon.envs.table import load_task

RUNNERS = ["Hopper-v5", "HalfCheetah-v5", "Walker2d-v5", "Ant-v5"]


def play(name: str, steps: int, seed: int = 0) -> Any:
    """``(task, env, obs, reward, info, action)`` after every step."""
    task = load_task(f"guerdon/{name}")
    env = task.make()
    rng = np.random.default_rng(seed)
    env.reset(seed=seed)
    for _ in range(steps):
        action = rng.uniform(-1, 1, task.action.size).astype(np.float32)
        obs, reward, terminated, truncated, info = env.step(action)
        yield task, env, obs, reward, info, action
        if terminated or truncated:
            env.reset()


@pytest.mark.parametrize("name", RUNNERS)
def test_a_runners_features_agree_with_the_environments_info(name: str) -> None:
    for task, env, _, _, info, action in play(name, 60):
        now = task.view(info)
        data = env.unwrapped.data
        assert now.x_position == np.float32(info["x_position"])
        assert now.x_velocity == np.float32(info["x_velocity"])
        assert now.control_cost == pytest.approx(-info["reward_ctrl"], rel=1e-5)
        np.testing.assert_array_equal(now.torques, action)
        np.testing.assert_allclose(now.joint_angles, data.qpos[-len(action) :])
        np.testing.assert_allclose(now.joint_velocities, data.qvel[-len(action) :])
        if "is_healthy" in now:
            assert bool(now.is_healthy) == bool(info["reward_survive"])
        if name == "Ant-v5":
            assert now.y_velocity == np.float32(info["y_velocity"])
            assert now.contact_cost == pytest.approx(-info["reward_contact"])


@pytest.mark.parametrize("name", RUNNERS)
def test_a_runners_own_reward_is_said_to_pay_for_health_where_it_does(
    name: str,
) -> None:
    for task, _, _, _, info, _ in play(name, 3):
        assert ("health" in task.rewards["human"].origin) == ("reward_survive" in info)


@pytest.mark.parametrize("name", RUNNERS)
def test_height_is_that_of_the_torso_in_the_world(name: str) -> None:
    import mujoco

    for task, env, _, _, info, _ in play(name, 20):
        raw = env.unwrapped
        fresh = mujoco.MjData(raw.model)
        fresh.qpos[:] = raw.data.qpos
        mujoco.mj_kinematics(raw.model, fresh)
        now = task.view(info)
        assert now.height == pytest.approx(fresh.body("torso").xpos[2], abs=1e-6)
        if name == "Ant-v5":
            up = fresh.body("torso").xmat.reshape(3, 3)[2, 2]
            assert now.uprightness == pytest.approx(up, abs=1e-6)
        else:
            assert now.torso_angle == np.float32(raw.data.qpos[2])
            assert now.torso_angular_velocity == np.float32(raw.data.qvel[2])


@pytest.mark.parametrize("name", RUNNERS)
def test_joint_and_motor_names_are_in_the_models_order(name: str) -> None:
    task = load_task(f"guerdon/{name}")
    model = task.make().unwrapped.model
    motors = [model.joint(model.actuator_trnid[i][0]).name for i in range(model.nu)]
    ours = task.action.names
    assert len(ours) == len(motors)
    for own, theirs in zip(ours, motors, strict=True):
        side, _, part = own.rpartition("_")
        letter = {"back": "b", "front": "f"}.get(side)
        if letter is not None:
            assert theirs == f"{letter}{part}"
        elif side == "left":
            assert theirs == f"{part}_left_joint"
        else:
            assert theirs in (own, f"{own}_joint")
    hinges = [model.joint(i).name for i in range(model.njnt)][-len(motors) :]
    meaning = task.layout["joint_angles"].meaning
    if name == "Ant-v5":
        assert meaning.endswith(", ".join(hinges))
    else:
        assert meaning.endswith(", ".join(ours))
        assert hinges == motors


@pytest.mark.parametrize("name", RUNNERS)
def test_a_runners_fitness_is_the_way_it_came(name: str) -> None:
    task = load_task(f"guerdon/{name}")
    env = task.make()
    rng = np.random.default_rng(1)
    _, info = env.reset(seed=1)
    start, way, ended = info["x_position"], 0.0, False
    while not ended:
        action = rng.uniform(-1, 1, task.action.size).astype(np.float32)
        _, _, terminated, truncated, info = env.step(action)
        way += info["x_velocity"] * env.unwrapped.dt
        ended = terminated or truncated
    assert info["fitness"] == pytest.approx(info["x_position"] - start, abs=1e-5)
    if name != "Ant-v5":  # its info gives the body's lagging position for velocity
        assert info["fitness"] == pytest.approx(way, abs=1e-5)
    assert info["success"] is False


def test_reacher_features_agree_with_reward_and_observation() -> None:
    distances = []
    for task, _, obs, reward, info, action in play("Reacher-v5", 50):
        now = task.view(info)
        assert now.fingertip_distance == pytest.approx(-info["reward_dist"])
        assert now.control_cost == pytest.approx(-info["reward_ctrl"], rel=1e-5)
        assert reward == pytest.approx(-now.fingertip_distance - now.control_cost)
        np.testing.assert_allclose(now.fingertip - now.target, obs[8:10], atol=1e-6)
        np.testing.assert_allclose(now.target, obs[4:6], atol=1e-6)
        np.testing.assert_allclose(np.cos(now.joint_angles), obs[:2], atol=1e-5)
        np.testing.assert_allclose(now.joint_velocities, obs[6:8], rtol=1e-6)
        np.testing.assert_array_equal(now.torques, action)
        distances.append(-info["reward_dist"])
    assert info["fitness"] == pytest.approx(-np.mean(distances[-10:]))
    assert info["success"] is bool(np.mean(distances[-10:]) < 0.05)


def test_double_pendulum_features_give_its_own_reward() -> None:
    for task, _, obs, reward, info, action in play("InvertedDoublePendulum-v5", 60):
        now = task.view(info)
        assert now.cart_position == np.float32(obs[0])
        np.testing.assert_allclose(np.sin(now.pole_angles), obs[1:3], atol=1e-6)
        assert now.force == action[0]
        v1, v2 = now.pole_velocities
        penalty = 0.01 * now.tip_x**2 + (now.tip_height - 2) ** 2
        penalty += 1e-3 * v1**2 + 5e-3 * v2**2
        assert reward == pytest.approx(10.0 * now.upright - penalty, abs=1e-4)
        if "fitness" in info:
            assert not now.upright
            assert info["fitness"] == float(int(info["fitness"]))


def test_double_pendulum_fitness_counts_the_steps_it_stood() -> None:
    task = load_task("guerdon/InvertedDoublePendulum-v5")
    env = task.make()
    env.reset(seed=0)
    steps, ended = 0, False
    while not ended:
        _, _, ended, _, info = env.step(np.zeros(1, np.float32))
        steps += 1
    assert info["fitness"] == steps - 1


def test_making_a_cheetah_leaves_no_log_in_the_working_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    load_task("guerdon/HalfCheetah-v5").make().close()
    assert list(tmp_path.iterdir()) == []
    assert capfd.readouterr() == ("", "")

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from guerdon.envs.table import load_task
from guerdon.types import Features


def test_cartpole_features_are_its_state() -> None:
    task = load_task("guerdon/CartPole-v1")
    env = task.make()
    obs, info = env.reset(seed=4)
    ended = False
    while not ended:
        now = task.view(info)
        np.testing.assert_array_equal(info["features"][:4], obs)
        assert now.angle_from_upright == abs(now.pole_angle)
        assert now.distance_from_centre == abs(now.cart_position)
        assert now.upright
        obs, _, ended, _, info = env.step(1)
    assert not task.view(info).upright
    assert info["success"] is False


def test_cartpole_stands_exactly_until_the_environment_ends_it() -> None:
    task = load_task("guerdon/CartPole-v1")
    env = task.make()
    for seed in range(20):
        env.reset(seed=seed)
        steps, ended = 0, False
        while not ended:
            _, _, ended, _, info = env.step(seed % 2)
            steps += 1
            assert bool(task.view(info).upright) is not ended
        assert info["fitness"] == steps


def test_the_cars_energy_only_changes_by_the_engine() -> None:
    task = load_task("guerdon/MountainCarContinuous-v0")
    env = task.make()
    _, info = env.reset(seed=0)
    first = task.view(info)
    assert first.energy == pytest.approx(math.sin(3 * first.position), abs=1e-5)
    energies = [float(first.energy)]
    for _ in range(300):  # rolling without engine, Euler steps of size 1
        _, _, _, _, info = env.step(np.zeros(1, np.float32))
        energies.append(float(task.view(info).energy))
    assert max(energies) - min(energies) < 0.05


def test_pushing_with_the_velocity_reaches_the_flag_and_gains_energy() -> None:
    task = load_task("guerdon/MountainCarContinuous-v0")
    env = task.make()
    _, info = env.reset(seed=1)
    ended = False
    rewards, gains = 0.0, []
    while not ended:
        before = task.view(info)
        push = np.array([1.0 if before.velocity >= 0 else -1.0], np.float32)
        _, reward, ended, _, info = env.step(push)
        now = task.view(info)
        rewards += reward
        gains.append(float(now.energy - before.energy))
        assert bool(now.at_goal) is ended
        assert now.distance_to_goal == pytest.approx(
            max(0.0, 0.45 - now.position), abs=1e-6
        )
        assert now.height == pytest.approx(
            env.unwrapped._height(now.position), abs=1e-6
        )
    assert info["success"] is True
    assert info["fitness"] == pytest.approx(rewards)
    assert np.mean(gains) > 0.01


def test_pendulum_features_give_its_own_observation_and_reward() -> None:
    task = load_task("guerdon/Pendulum-v1")
    env = task.make()
    rng = np.random.default_rng(0)
    obs, info = env.reset(seed=2)
    assert task.view(info).torque == 0.0
    for _ in range(200):
        before = task.view(info)
        assert math.cos(before.angle) == pytest.approx(obs[0], abs=1e-5)
        assert math.sin(before.angle) == pytest.approx(obs[1], abs=1e-5)
        assert before.height == pytest.approx(obs[0], abs=1e-5)
        assert before.angular_velocity == obs[2]
        action = rng.uniform(-3, 3, 1).astype(np.float32)  # beyond the limits too
        obs, reward, _, _, info = env.step(action)
        torque = float(task.view(info).torque)
        assert torque == pytest.approx(float(np.clip(action[0], -2, 2)))
        cost = before.angle**2 + 0.1 * before.angular_velocity**2 + 0.001 * torque**2
        assert reward == pytest.approx(-cost, abs=1e-4)
    assert info["success"] is False


def legs_by_side(raw: Any) -> list[Any]:
    """The legs, first the one that hangs on the left of an upright hull."""
    return sorted(
        raw.legs, key=lambda leg: raw.lander.GetLocalPoint(leg.worldCenter)[0]
    )


def test_lander_features_are_the_scaled_observation() -> None:
    task = load_task("guerdon/LunarLander-v3")
    env = task.make()
    rng = np.random.default_rng(0)
    one_sided = 0
    # Scales from the units that Gymnasium's documentation gives.
    scale = np.array([10, 20 / 3, 5, 7.5, 1, 2.5])
    for seed in range(4):
        obs, info = env.reset(seed=seed)
        ended = False
        while not ended:
            np.testing.assert_allclose(info["features"][:6], obs[:6] * scale, atol=2e-5)
            now = task.view(info)
            left, right = legs_by_side(env.unwrapped)
            assert bool(now.left_leg) == left.ground_contact
            assert bool(now.right_leg) == right.ground_contact
            one_sided += now.left_leg != now.right_leg
            assert now.distance_to_pad == pytest.approx(np.hypot(now.x, now.y))
            assert now.speed == pytest.approx(np.hypot(now.vx, now.vy))
            # The pad is the middle two of ten chunks of 2 m.
            assert bool(now.between_flags) == (abs(now.x) <= 2.0)
            assert not now.crashed
            obs, reward, terminated, truncated, info = env.step(rng.integers(4))
            ended = terminated or truncated
        last = task.view(info)
        assert bool(last.crashed) == (reward == -100)
        assert bool(last.at_rest) == (reward == 100)
    assert one_sided > 0


@pytest.mark.parametrize("side", [-1, 1])
def test_a_lander_put_down_on_one_leg_touches_with_that_one(side: int) -> None:
    task = load_task("guerdon/LunarLander-v3")
    env = task.make()
    _, info = env.reset(seed=0)
    raw = env.unwrapped
    # Over the flat pad, and tilted: to the left is a turn against the clock.
    turn = -0.4 * side
    hull = raw.lander
    height = raw.helipad_y + 1.1
    middle = tuple(hull.position)
    for body in (hull, *raw.legs):
        across, up = body.position - middle
        body.position = (
            10 + across * math.cos(turn) - up * math.sin(turn),
            height + across * math.sin(turn) + up * math.cos(turn),
        )
        body.angle += turn
        body.linearVelocity, body.angularVelocity = (0.0, -1.0), 0.0
    now = task.view(info)
    for _ in range(50):
        _, _, _, _, info = env.step(0)
        now = task.view(info)
        if now.left_leg or now.right_leg:
            break
    assert np.sign(now.angle) == -side
    lowest = min(raw.legs, key=lambda leg: leg.worldCenter[1])
    assert lowest.ground_contact
    assert np.sign(lowest.worldCenter[0] - hull.position[0]) == side
    assert (bool(now.left_leg), bool(now.right_leg)) == (side == -1, side == 1)


def test_a_lander_keeps_its_declared_bounds_however_it_is_flown() -> None:
    task = load_task("guerdon/LunarLander-v3")
    env = task.make()
    low, high = (
        np.concatenate([np.full(f.size, getattr(f, end)) for f in task.layout])
        for end in ("low", "high")
    )
    slack = 1e-6 * np.where(np.isfinite(high), np.abs(high), 1.0)
    most = np.zeros(task.layout.width)
    for climbs in (True, False):
        _, info = env.reset(seed=1)
        ended = False
        while not ended:
            now = task.view(info)
            lean = now.angle - 0.05 * now.vx - 0.02 * now.x + 0.6 * now.angular_velocity
            upright = 2 if abs(lean) < 0.06 else 3 if lean > 0 else 1
            _, _, terminated, truncated, info = env.step(upright if climbs else 1)
            ended = terminated or truncated
            row = info["features"]
            assert (row >= low - slack).all()
            assert (row <= high + slack).all()
            most = np.maximum(most, np.abs(row))
    # It climbs through the ceiling at the speed that Box2D allows, and rolls over.
    view = Features(task.layout, most)
    assert view.y > 1000
    assert view.speed == pytest.approx(100)
    assert view.angle > 2 * math.pi


def test_the_heuristic_pilot_lands_and_scores() -> None:
    task = load_task("guerdon/LunarLander-v3")
    env = task.make()
    # Only now: where warnings are errors, importing Box2D unguarded crashes Python.
    from gymnasium.envs.box2d.lunar_lander import heuristic

    landed = 0
    for seed in range(4):
        obs, info = env.reset(seed=seed)
        ended, total = False, 0.0
        while not ended:
            action = heuristic(env.unwrapped, obs)
            obs, reward, terminated, truncated, info = env.step(action)
            total += reward
            ended = terminated or truncated
        assert info["fitness"] == pytest.approx(total)
        assert info["success"] is bool(total >= 200)
        landed += bool(task.view(info).at_rest)
    assert landed >= 2

"""Use an environment that is not ours: a task in under ten lines.

    python examples/04_your_own_environment.py

Every command takes it too, from the folder above this one:

    guerdon tasks examples.04_your_own_environment:TASK
    guerdon train examples.04_your_own_environment:TASK --steps 50000
"""

import guerdon

# Acrobot pays -1 a step until the tip swings above the line. Features are read from
# the observation and named by hand; leave out features= and read= to have them found.
TASK = guerdon.task_from_env(
    "Acrobot-v1",
    text="Swing the tip of the lower link above the line as fast as you can.",
    fitness="return",
    success=lambda episode: episode.terminated,
    features=[
        guerdon.Feature(
            "tip_height", "height above the pivot", low=-2, high=2, better="higher"
        ),
        guerdon.Feature("speed", "speed of both joints", shape=(2,), unit="rad/s"),
    ],
    # Link 1 hangs at angle a, link 2 at a + b: the tip is at -cos(a) - cos(a + b).
    read=lambda env, obs, info: [
        -obs[0] - (obs[0] * obs[2] - obs[1] * obs[3]),
        *obs[4:],
    ],
)

HIGHER = """
PARAMS = {"height": 0.5}
def reward(prev, action, now, params):
    return {"height": params.height * (now.tip_height - prev.tip_height)}
"""


def main() -> None:
    from quick import pick
    from stable_baselines3 import PPO
    from stable_baselines3.common.vec_env import DummyVecEnv

    report = guerdon.check_task(TASK)
    print(f"{TASK.id}: {len(report.passed)} checks passed on {report.steps} steps")

    program = guerdon.reward_for(TASK, HIGHER)
    venv = guerdon.RewardVecEnv(DummyVecEnv([TASK.make] * 8), program, discount=0.99)
    # As RL Zoo trains Acrobot, with half as many environments and no normalisation.
    model = PPO("MlpPolicy", venv, n_steps=256, gae_lambda=0.94, n_epochs=4, seed=0)
    model.learn(pick(full=100_000, tiny=4_096))

    scores = []
    env = TASK.make()
    for seed in range(10):
        obs, info = env.reset(seed=seed)
        while "fitness" not in info:
            action, _ = model.predict(obs, deterministic=True)
            obs, _, _, _, info = env.step(action)
        scores.append(info["fitness"])
    print(f"true score over 10 episodes: {sum(scores) / len(scores):.1f}")
    env.close()
    venv.close()


if __name__ == "__main__":
    main()

"""Make a task, look at its features, and let a reward program pay the agent.

    python examples/01_make_and_wrap.py

Nothing is trained here: a random agent plays one episode, paid twice, by the
environment and by the program.
"""

import gymnasium as gym

import guerdon

# 1. A task is a Gymnasium environment with named features and a true score.
task = guerdon.load_task("guerdon/DoorKey-5x5-v0")
print(task.id, "-", task.intent)

env = gym.make(task.id)  # task.make() gives the same, without Gymnasium's registry
obs, info = env.reset(seed=0)
now = task.view(info)
print("the agent sees an image of shape", obs.shape)
print("a reward sees, for example: distance_to_key =", now.distance_to_key)

# 2. A reward program: named terms, here in the reward language. They are added to the
#    task's own sparse reward, which is the term "task".
program = guerdon.reward_for(
    task,
    """
PARAMS = {"cell": 0.1}
def reward(prev, action, now, params):
    nearer = prev.distance_to_key - now.distance_to_key
    return {"to_key": params.cell * nearer}
""",
)
print("terms:", ", ".join(program.names))

# 3. The wrapper pays what the program says. The environment's own reward stays in
#    info["reward_env"], and the true score is computed inside, where no wrapper can
#    reach it.
paid = guerdon.RewardWrapper(task.make(), program, discount=0.99)
paid.reset(seed=0)
paid.action_space.seed(0)
over = False
while not over:
    _, reward, terminated, truncated, info = paid.step(paid.action_space.sample())
    over = terminated or truncated

print(f"designed return {info['episode_reward']:+.2f}")
for name, value in info["episode_terms"].items():
    print(f"  of which {name}: {value:+.2f}")
print(f"true score {info['fitness']:.2f}, solved: {info['success']}")
paid.close()
env.close()

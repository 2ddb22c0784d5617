"""Write a reward, have it checked, train with it, and judge it by the true score.

    python examples/02_write_a_reward.py

Three trainings of some seconds each: the sparse reward, the obvious dense reward,
and one that pays for events and takes the pay back when they are undone.
"""

from quick import pick

import guerdon
from guerdon.agents.sb3 import train
from guerdon.agents.training import TrainingJob
from guerdon.reward_design.language import Rejected
from guerdon.types import Failure

TASK = "guerdon/DoorKey-6x6-v0"

EVENTS = """
PARAMS = {"key": 0.3, "door": 0.5}
def reward(prev, action, now, params):
    have = where(now.carrying_key, 1.0, 0.0) - where(prev.carrying_key, 1.0, 0.0)
    opened = now.door_unlocked and not prev.door_unlocked
    return {"key": params.key * have, "door": where(opened, params.door, 0.0)}
"""

MISTAKE = EVENTS.replace("now.carrying_key", "now.has_key")


def main() -> None:
    task = guerdon.load_task(TASK)

    # A mistake is refused before anything runs, with its line and a reason.
    try:
        guerdon.parse(MISTAKE, task.layout, task.action)
    except Rejected as error:
        print("refused:", error.failure.line, error.failure.reason[:60], "...")

    steps = pick(full=40_000, tiny=4_096)
    print(f"\n{'reward':<8} {'solved':>7} {'true score':>11} {'agent was paid':>15}")
    for name, reward in {
        "sparse": "sparse",
        "dense": "human",
        "events": EVENTS,
    }.items():
        outcome = train(TrainingJob(task=TASK, reward=reward, steps=steps, seed=0))
        if isinstance(outcome, Failure):
            raise SystemExit(f"{name}: {outcome}")
        paid = "nothing ended" if outcome.proxy is None else f"{outcome.proxy:.2f}"
        print(
            f"{name:<8} {outcome.success_rate:>7.0%} {outcome.mean_fitness:>11.2f} "
            f"{paid:>15}"
        )
    print("\nOne seed shows what can happen; a claim needs five and an interval.")


if __name__ == "__main__":
    main()

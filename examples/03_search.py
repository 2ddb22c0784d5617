"""Search a reward: propose, screen, train, compare by true score, and do it again.

    python examples/03_search.py

No language model is needed here: programs come from the grammar and from mutations.
With one, say llm="embedded" (a small code model on your CPU), "openai:gpt-4o-mini" or
"http://localhost:11434/v1#qwen2.5-coder". Stop it at any time and start it again: the
run folder knows what is finished.
"""

from pathlib import Path

from quick import pick

import guerdon
from guerdon.run import Resources

CONFIG = guerdon.RunConfig(
    task="guerdon/DoorKey-5x5-v0",
    llm="sampler",
    candidates=pick(full=6, tiny=2),
    rounds=pick(full=2, tiny=1),
    steps=pick(full=20_000, tiny=4_096),
    seeds=pick(full=3, tiny=1),  # fresh trainings at the end; five for a claim
    final_seeds=pick(full=1, tiny=0),
    eval_episodes=pick(full=32, tiny=4),
)
FOLDER = Path(pick(full="runs/example-search", tiny="runs/example-search-quick"))


def tell(kind: str, data: dict) -> None:
    """Print what happens; the command line draws a live display instead."""
    if kind == "trained":
        record = data["record"]
        score = record.failure or f"true score {record.result['fitness']:.2f}"
        print(
            f"  {record.purpose:<8} {record.candidate:<8} seed {record.seed}: {score}"
        )


# Trainings run in worker processes, which import this file again: hence the guard.
if __name__ == "__main__":
    summary = guerdon.run_search(CONFIG, FOLDER, Resources(workers=2), tell)
    winner = summary["winner"]
    if winner is None:
        raise SystemExit("no candidate could be trained; the report says why")
    print(f"\nwinner {winner['id']} by {winner['operator']}:\n{winner['source']}")
    for name, row in summary["holdout"].items():
        if row:
            value, low, high, seeds = row["success"].values()
            print(
                f"{name:<10} solved {value:4.0%} [{low:.0%}, {high:.0%}] {seeds} seeds"
            )
    print(f"report: {FOLDER / 'report.html'}")

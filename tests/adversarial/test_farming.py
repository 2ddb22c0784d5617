"""A reward that learns to raise its own return, and not the true score."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

import pytest

from guerdon.journal import Journal
from guerdon.reward_design.search import Proposal, Score, Search, SearchConfig
from guerdon.run import Resources, RunConfig, run_search
from guerdon.types import Failure

CARTPOLE = "guerdon/CartPole-v1"
FARM = """# plan: collect as much as possible
def reward(prev, action, now, params):
    return {"a": 1000.0 + 100.0 * abs(now.cart_velocity)}
"""
HONEST = """# plan: stay upright
def reward(prev, action, now, params):
    return {"upright": 0.1 * where(now.upright, 1.0, 0.0)}
"""
FALLEN = """# plan: fall at once, and be paid for it
def reward(prev, action, now, params):
    return {"a": where(now.upright, -500.0, 1000.0)}
"""


@pytest.fixture(autouse=True)
def _all_from_the_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "guerdon.run.config.SearchConfig",
        functools.partial(SearchConfig, model_share=1.0),
    )
    monkeypatch.setattr(
        "guerdon.run.search.write_report",
        lambda folder: (folder / "report.html").write_text("quick"),
    )


def config(tmp_path: Path, answers: list[str], **changes: Any) -> RunConfig:
    script = tmp_path / "answers.jsonl"
    script.write_text("".join(json.dumps(text) + "\n" for text in answers))
    values = {
        "task": CARTPOLE,
        "llm": f"scripted:{script}",
        "candidates": len(answers),
        "rounds": 1,
        "seeds": 1,
        "finalists": 2,
        "final_seeds": 1,
        "eval_episodes": 4,
    }
    return RunConfig(**values | changes)


TABLE = [
    # true score, solved, what the reward paid
    ("farmed", 0.0, 0.0, 1e6),
    ("farmed a little", 0.1, 0.0, 5e3),
    ("honest", 0.9, 0.8, 1.0),
    ("poor", 0.2, 0.1, 0.5),
    ("punishing", 0.5, 0.5, -1e6),
]


def test_selection_follows_the_true_score_of_a_table_of_outcomes() -> None:
    search = Search(SearchConfig(candidates=len(TABLE), rounds=1), model=False)
    requests = sorted(search.ask(), key=lambda r: r.slot)
    names = dict(zip((r.id for r in requests), TABLE, strict=True))
    proposals = [
        Proposal(r.id, r.round, r.slot, r.operator, source=names[r.id][0])
        for r in requests
    ]
    scores: dict[str, Score | Failure] = {
        name: Score(
            {0: fitness}, {0: solved}, f"- paid {paid:g}", {"a": abs(paid) / 1e6}
        )
        for name, (_, fitness, solved, paid) in names.items()
    }
    search.tell(proposals, scores)
    order = [member.proposal.source for member in search.archive.members]
    assert order == ["honest", "punishing", "poor", "farmed a little", "farmed"]
    winner, fresh = search.winner(), search.best_fresh()
    assert winner is not None
    assert fresh is not None
    assert winner.proposal.source == fresh.proposal.source == "honest"


def test_a_score_has_no_place_for_what_a_reward_paid() -> None:
    measured = {"fitness", "success", "statistics", "shares", "complete"}
    assert measured == set(Score.__slots__)


def test_a_whole_search_is_deaf_to_a_million_that_is_worth_nothing(
    tmp_path: Path,
) -> None:
    """``jobs.farmed`` pays a million for every term ``a``, and scores it 0."""
    numbers = [FARM.replace("1000.0", f"{i}000.0") for i in range(1, 6)]
    asked = config(tmp_path, [*numbers, HONEST, FALLEN], steps=32)
    quick = Resources(workers=2, function="tests.adversarial.jobs:farmed")
    summary = run_search(asked, tmp_path / "run", quick)
    with Journal.open(tmp_path / "run", readonly=True) as journal:
        trainings = journal.trainings()
        sources = {c.id: c.source or "" for c in journal.candidates()}
    paid = {t.candidate: t.result["proxy"] for t in trainings if t.purpose == "search"}
    assert sum(value == 1e6 for value in paid.values()) == 6
    assert '"a"' not in sources[summary["winner"]["id"]]
    assert paid[summary["winner"]["id"]] == 1.0
    assert summary["winner"]["fitness"]["value"] > 0.2


def test_on_cart_pole_a_farmed_reward_pays_more_and_is_not_chosen(
    tmp_path: Path,
) -> None:
    """Real trainings; an environment that pays nothing measures the true score."""
    asked = config(
        tmp_path, [FALLEN, HONEST, FARM], steps=1024, finalists=1, final_seeds=0
    )
    summary = run_search(asked, tmp_path / "run", Resources(workers=2))
    with Journal.open(tmp_path / "run", readonly=True) as journal:
        sources = {c.id: c.source for c in journal.candidates()}
        found = {
            sources[t.candidate]: t.result
            for t in journal.trainings()
            if t.purpose == "search"
        }
    # The farm is paid thousands of times what the honest one is.
    assert found[FARM]["proxy"] > 1000 * found[HONEST]["proxy"]
    fitness = {source: result["fitness"] for source, result in found.items()}
    assert all(0.0 < value <= 500.0 for value in fitness.values())
    assert max(fitness[FALLEN], fitness[FARM]) < fitness[HONEST] / 4
    assert sources[summary["winner"]["id"]] == HONEST

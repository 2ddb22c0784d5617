"""What a language model is asked: the prompts, and the request around them."""

from __future__ import annotations

import numpy as np

from guerdon.envs.task import Task
from guerdon.llm.client import Message
from guerdon.llm.client import Request as ModelRequest
from guerdon.llm.parse import quote
from guerdon.llm.prompt import render
from guerdon.reward_design.language import to_source
from guerdon.reward_design.language.describe import (
    action_line,
    feature_table,
    half_page,
)
from guerdon.reward_design.language.grammar import (
    MAX_TERMS_OF_GRAMMAR,
    gbnf,
    json_schema,
)
from guerdon.reward_design.language.sample import sample
from guerdon.reward_design.search.candidate import Proposal, Score, Trained
from guerdon.reward_design.search.reflect import statistics
from guerdon.reward_design.search.search import Request
from guerdon.types import Failure

MAX_TOKENS = 400
"""Most tokens of one answer, where nothing else is asked for."""

TEMPERATURE = 0.9

PERSONAS = (
    "List the steps of the task in order and pay once for each step that is reached.",
    "Reward getting closer to whatever has to be reached next, and only then.",
    "Use as few terms as possible: the one or two changes that matter most.",
    "Pay for changes of flags, and take the pay back when they are undone.",
    "Think of how a lazy agent would collect your reward without solving the task, "
    "and write a reward that it cannot collect.",
    "Join one event that happens once with one small term for progress towards it.",
)

CHANGES = (
    "make one weight much larger or much smaller.",
    "add one term for a step of the task that the program does not reward yet.",
    "replace the term that helps least by another one.",
    "let one term count only while a flag holds.",
    "turn a term that is paid on every step into a change from prev to now.",
)


def model_request(
    task: Task,
    prompt: str,
    seed: int,
    *,
    terms: int | None = None,
    max_tokens: int = MAX_TOKENS,
    temperature: float = TEMPERATURE,
    full_python: bool = False,
) -> ModelRequest:
    """A prompt with the language before it and the grammars beside it.

    Args:
        task: the task.
        prompt: what is asked.
        seed: of the model's sampling.
        terms: of the program that the grammar lets through; by the seed where None.
        max_tokens: most tokens of the answer.
        temperature: of the model's sampling.
        full_python: whether plain Python may be written, which no grammar holds.
    """
    layout, action = task.layout, task.action
    if terms is None:
        # Under a grammar a small model always uses all the terms that it may.
        terms = 1 + seed % MAX_TERMS_OF_GRAMMAR
    language = half_page(action)
    if full_python:
        language += "\n\n" + render("full_python")
    system = render("system", language=language)
    return ModelRequest(
        messages=(Message("system", system), Message("user", prompt)),
        temperature=temperature,
        max_tokens=max_tokens,
        seed=seed % (2**31),
        # Either would keep the model within the language.
        grammar=None if full_python else gbnf(layout, action, terms=terms),
        schema=None if full_python else json_schema(layout, action),
    )


def usual_request(task: Task, full_python: bool = False) -> ModelRequest:
    """A request such as a search of the task makes, to be measured before any is made.

    It asks to join two programs, the longest of the prompts; the programs and their
    statistics are of a usual length.
    """
    rng = np.random.default_rng(0)
    tree = sample(task.layout, task.action, rng)
    source, terms = to_source(tree), dict.fromkeys(tree.names, (0.0, 1.0))
    curve = {"fitness": (0.5,), "length": (100.0,)}
    score = Score({0: 0.5}, {0: 0.5}, statistics(0.5, 0.5, curve, terms, 0.5))
    made = Proposal("r1-c01", 0, 0, "sample", tree=tree, source=source)
    parents = Trained(made, score), Trained(made, score)
    asked = Request("r2-c01", 1, 0, "model_cross", parents, 0)
    prompt = user_prompt(task, asked, rng)
    return model_request(task, prompt, 0, full_python=full_python)


def terms_for(request: Request) -> int | None:
    """How many terms the grammar shall ask for; None where that is left to the seed.

    A shorter program has one term fewer, or a small model would fill them all again.
    """
    tree = request.parents[0].proposal.tree if request.parents else None
    if request.operator != "model_simplify" or tree is None:
        return None
    return min(max(len(tree.terms) - 1, 1), MAX_TERMS_OF_GRAMMAR)


def user_prompt(task: Task, request: Request, rng: np.random.Generator) -> str:
    """What one slot asks; the feature table is shuffled anew.

    Small models prefer what stands first.
    """
    shared = {
        "task": quote(task.intent),
        "actions": action_line(task.action),
        "features": _features(task, rng),
    }
    if request.operator == "model_mutate":
        (parent,) = request.parents
        change = CHANGES[int(rng.integers(len(CHANGES)))]
        return render("mutate", **shared, **_shown(parent), change=change)
    if request.operator == "model_simplify":
        (parent,) = request.parents
        return render("simplify", **shared, **_shown(parent))
    if request.operator == "model_cross":
        first, second = (_shown(p) for p in request.parents)
        return render(
            "cross",
            **shared,
            first=first["program"],
            first_statistics=first["statistics"],
            second=second["program"],
            second_statistics=second["statistics"],
        )
    persona = PERSONAS[int(rng.integers(len(PERSONAS)))]
    return render("fresh", **shared, persona=persona)


def repair_prompt(
    task: Task, text: str, failure: Failure, rng: np.random.Generator
) -> str:
    """A refused text with the reason."""
    return render(
        "repair",
        program=quote(text, 3000),
        # The screen refuses a program as a whole: there is no line to name.
        where="Why" if failure.line is None else f"Line {failure.line}",
        reason=quote(failure.reason, 300),
        features=_features(task, rng),
    )


def _features(task: Task, rng: np.random.Generator) -> str:
    order = rng.permutation(len(task.layout))
    return feature_table(task.layout, [int(i) for i in order])


def _shown(parent: Trained) -> dict[str, str]:
    """A parent as a prompt shows it: printed from its tree, with its numbers."""
    tree, source = parent.proposal.tree, parent.proposal.source or ""
    return {
        "program": quote(source, 3000) if tree is None else to_source(tree),
        "statistics": parent.score.statistics,
    }

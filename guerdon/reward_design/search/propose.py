"""Fill a slot: a language model or an operator of ours gives a program.

A model's text is read and never run. A text that is no program is shown to the model
once, with line and reason; a model that does not answer, repeats what is known, or
may cost nothing more leaves its slot to the matching operator, so a search never
waits for one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from typing import Any, NamedTuple

import numpy as np

from guerdon.envs.task import Task
from guerdon.llm.client import Chat, ModelError
from guerdon.reward_design.language import Tree, to_source
from guerdon.reward_design.language import edit as edits
from guerdon.reward_design.language.edit import Edit, fingerprint
from guerdon.reward_design.language.sample import sample
from guerdon.reward_design.search.ask import (
    MAX_TOKENS,
    TEMPERATURE,
    model_request,
    repair_prompt,
    terms_for,
    user_prompt,
)
from guerdon.reward_design.search.bank import Bank
from guerdon.reward_design.search.candidate import PARENTS, Operator, Proposal
from guerdon.reward_design.search.fit import fit_params
from guerdon.reward_design.search.read import FullPython, plan_of, read_answer
from guerdon.reward_design.search.screen import Screened, screen_many
from guerdon.reward_design.search.search import Request
from guerdon.types import Failure

FALLBACK: dict[Operator, Operator] = {
    "model_fresh": "sample",
    "model_mutate": "mutate",
    "model_cross": "cross",
    "model_simplify": "simplify",
}

DRAWS = 4
"""Programs that an operator draws for one slot; the most promising one is trained."""

UNRANKED = 0.25
"""Share of slots whose first draw is trained, whatever the screen thinks of it."""

TRIES = 40
"""Draws after which an operator gives up its slot."""

Note = Callable[[str, dict[str, Any]], None]
"""Told what happened on the way: a model's failure, a duplicate, a repair."""


class _Draft(NamedTuple):
    """What came of one answer: a program and its screening, or neither, and why."""

    text: str
    key: str
    plan: str = ""
    tree: Tree | None = None
    screened: Screened | None = None
    """None with a tree: the program is known already."""
    python: FullPython | None = None
    """A reward that is no program of the language, where that is allowed."""
    failure: Failure | None = None


@dataclass
class Proposer:
    """Turns requests of a search into proposals.

    Args:
        task: the task that is searched for.
        bank: logged episodes for the screen.
        chat: the language model, or None for operators alone.
        discount: of the returns that the screen compares.
        note: told what happened on the way.
        max_tokens: most tokens of one answer.
        temperature: of the model's sampling.
        full_python: also take what only a reward in full Python can say. It is not
            looked at any further here: it has no tree, no screening and no operators.
    """

    task: Task
    bank: Bank
    chat: Chat | None = None
    discount: float = 0.99
    note: Note = lambda kind, data: None
    max_tokens: int = MAX_TOKENS
    temperature: float = TEMPERATURE
    full_python: bool = False
    out_of_budget: bool = field(init=False, default=False)
    _known: dict[str, Tree] = field(init=False, default_factory=dict)
    _signatures: list[np.ndarray] = field(init=False, default_factory=list)
    _texts: set[str] = field(init=False, default_factory=set)
    _fits: dict[tuple[str, int], Edit] = field(init=False, default_factory=dict)

    def propose(self, request: Request) -> Proposal:
        """A program for one slot, or why there is none."""
        rng = np.random.default_rng([request.seed, 4])
        if request.operator in FALLBACK:
            proposal = self._ask_model(request, rng)
            if proposal is not None:
                return proposal
            request = replace(request, operator=FALLBACK[request.operator])
        return self._operate(request, rng)

    # --- operators ------------------------------------------------------------

    def _operate(self, request: Request, rng: np.random.Generator) -> Proposal:
        """Draw programs until some are new and valid; take the most promising."""
        trees = [p.proposal.tree for p in request.parents if p.proposal.tree]
        if len(trees) < PARENTS[request.operator]:
            # A reward in full Python has no tree that could be changed.
            request, trees = replace(request, operator="sample", parents=()), []
        ranked = rng.random() >= UNRANKED
        found: list[tuple[Edit, Screened]] = []
        tried: set[str] = set()
        failure = Failure("constant", "no new valid program was found")
        wanted, left = DRAWS if ranked else 1, TRIES
        while len(found) < wanted and left:
            drawn: list[Edit] = []
            for _ in range(min(wanted - len(found), left)):
                drawn.append(self._draw(request, trees, rng, tried))
                tried.add(fingerprint(drawn[-1].tree))
            left -= len(drawn)
            screenings = self._screened([edit.tree for edit in drawn])
            for edit, screened in zip(drawn, screenings, strict=True):
                if isinstance(screened, Failure):
                    failure = screened
                elif screened is not None:
                    found.append((edit, screened))
        if not found:
            return self._failed(request, failure)
        edit, screened = max(found, key=lambda item: item[1].screening.promise)
        return self._accept(
            request, edit.tree, to_source(edit.tree), edit.change, screened
        )

    def _draw(
        self,
        request: Request,
        trees: Sequence[Tree],
        rng: np.random.Generator,
        tried: set[str],
    ) -> Edit:
        """What the operator makes of the parents' trees, as many as it needs."""
        if request.operator == "mutate":
            return edits.mutate(trees[0], rng)
        if request.operator == "cross":
            return self._new(edits.cross(trees[0], trees[1], rng), rng, tried)
        if request.operator == "simplify":
            shares = dict(request.parents[0].score.shares)
            return self._new(edits.simplify(trees[0], rng, shares), rng, tried)
        if request.operator == "fit":
            return self._new(self._fitted(trees[0]), rng, tried)
        tree = sample(self.task.layout, self.task.action, rng)
        return Edit(tree, "drawn from the grammar")

    def _fitted(self, tree: Tree) -> Edit:
        """The program with its parameters fitted on the bank, where torch is there."""
        key = fingerprint(tree), len(self.bank.episodes)
        if key not in self._fits:
            edit = Edit(tree, "nothing to fit")
            if tree.params and find_spec("torch") is not None:
                found = fit_params(tree, self.bank, discount=self.discount)
                if found.before is not None and found.tree is not tree:
                    change = (
                        f"fitted on the bank: {found.before:.3f} to {found.after:.3f}"
                    )
                    edit = Edit(found.tree, change)
            self._fits = {key: edit}
        return self._fits[key]

    def _new(self, edit: Edit, rng: np.random.Generator, tried: set[str]) -> Edit:
        """The edit; where its result is known or was tried, one more change of it.

        Small parents have few children, so a second draw would often be the same.
        """
        name = fingerprint(edit.tree)
        if name not in self._known and name not in tried:
            return edit
        again = edits.mutate(edit.tree, rng)
        return Edit(again.tree, f"{edit.change}; {again.change}")

    def _screened(self, trees: list[Tree]) -> list[Screened | Failure | None]:
        """The screenings, in one pass; None for a program that is known already.

        Known is what gives the same reward. Rewards that differ by a potential or a
        scale alone (``distance.py``) have the same best policies and are not learned
        equally fast, which is what a search is about, so they are not the same here.
        """
        new = [tree for tree in trees if fingerprint(tree) not in self._known]
        screenings = iter(screen_many(new, self.bank, self.discount))
        found: list[Screened | Failure | None] = []
        for tree in trees:
            known = fingerprint(tree) in self._known
            screened = None if known else next(screenings)
            if isinstance(screened, Screened) and any(
                screened.same_as(other) for other in self._signatures
            ):
                screened = None
            found.append(screened)
        return found

    def _accept(
        self,
        request: Request,
        tree: Tree,
        source: str,
        plan: str,
        screened: Screened,
        call_key: str | None = None,
    ) -> Proposal:
        self._known[fingerprint(tree)] = tree
        self._signatures.append(screened.signature)
        return Proposal(
            id=request.id,
            round=request.round,
            slot=request.slot,
            operator=request.operator,
            parents=tuple(p.id for p in request.parents),
            tree=tree,
            source=source,
            plan=plan,
            screening=screened.screening.as_json(),
            call_key=call_key,
        )

    def _accept_python(self, request: Request, draft: _Draft) -> Proposal:
        self._texts.add(draft.text)
        return Proposal(
            id=request.id,
            round=request.round,
            slot=request.slot,
            operator=request.operator,
            parents=tuple(p.id for p in request.parents),
            source=draft.text,
            plan=draft.plan,
            screening={"full_python": True},
            call_key=draft.key,
        )

    def _failed(
        self,
        request: Request,
        failure: Failure,
        source: str | None = None,
        call_key: str | None = None,
    ) -> Proposal:
        return Proposal(
            id=request.id,
            round=request.round,
            slot=request.slot,
            operator=request.operator,
            parents=tuple(p.id for p in request.parents),
            source=source,
            failure=failure,
            call_key=call_key,
        )

    def grow_bank(self, bank: Bank) -> None:
        """Screen on a larger bank from now on; what is known is scored there too."""
        self.bank = bank
        again = screen_many(list(self._known.values()), bank, self.discount)
        self._signatures = [s.signature for s in again if isinstance(s, Screened)]

    # --- the model --------------------------------------------------------------

    def _ask_model(self, request: Request, rng: np.random.Generator) -> Proposal | None:
        """The model's program; None leaves the slot to an operator."""
        if self.chat is None or self.out_of_budget:
            return None
        if len(request.parents) < PARENTS[request.operator]:
            return None
        try:
            prompt, terms = user_prompt(self.task, request, rng), terms_for(request)
            draft = self._draft(self.chat, prompt, request.seed, terms)
            if draft.failure is not None:
                self.note("repair", {"id": request.id, "failure": str(draft.failure)})
                prompt = repair_prompt(self.task, draft.text, draft.failure, rng)
                draft = self._draft(self.chat, prompt, request.seed + 1, terms)
        except ModelError as error:
            self.out_of_budget = self.out_of_budget or error.kind == "budget"
            self.note("model_failed", {"id": request.id, "kind": error.kind})
            return None
        if draft.failure is not None:
            return self._failed(request, draft.failure, draft.text, draft.key)
        if draft.python is not None and draft.python.text not in self._texts:
            return self._accept_python(request, draft)
        if draft.tree is None or draft.screened is None:
            self.note("duplicate", {"id": request.id, "call": draft.key})
            return None
        return self._accept(
            request, draft.tree, draft.text, draft.plan, draft.screened, draft.key
        )

    def _draft(
        self, chat: Chat, prompt: str, seed: int, terms: int | None = None
    ) -> _Draft:
        """Ask once, and read and screen the answer."""
        asked = model_request(
            self.task,
            prompt,
            seed,
            terms=terms,
            max_tokens=self.max_tokens,
            temperature=self.temperature,
            full_python=self.full_python,
        )
        answer = chat.chat(asked)
        layout, action = self.task.layout, self.task.action
        result, text = read_answer(answer.text, layout, action, self.full_python)
        draft = _Draft(text, asked.key(chat.model), plan_of(answer.text))
        if isinstance(result, Failure):
            return draft._replace(failure=result)
        if isinstance(result, FullPython):
            return draft._replace(python=result)
        (screened,) = self._screened([result])
        if isinstance(screened, Failure):
            return draft._replace(failure=screened)
        return draft._replace(tree=result, screened=screened)

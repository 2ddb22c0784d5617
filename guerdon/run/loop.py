"""One run from the first round to the holdout, over a journal."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from guerdon.agents.evaluate import load_episodes, save_episodes
from guerdon.agents.pool import Pool
from guerdon.agents.recipes import recipe_for
from guerdon.agents.training import MOST_SEED, TrainingJob
from guerdon.envs import Task
from guerdon.journal import (
    CandidateRecord,
    Journal,
    JournalError,
    Purpose,
    TrainingRecord,
    canonical,
)
from guerdon.llm.client import Chat
from guerdon.report.folder import require_inside
from guerdon.reward_design.language import Rejected, parse
from guerdon.reward_design.search import (
    Bank,
    Proposal,
    Proposer,
    Request,
    Score,
    Search,
    collect,
)
from guerdon.reward_design.search.candidate import MODEL_OPERATORS
from guerdon.reward_design.search.reflect import statistics, term_shares
from guerdon.run.clock import Clock, TimedChat
from guerdon.run.config import (
    BANK,
    HOLDOUT_EVALUATION_SEED,
    HOLDOUT_SEED,
    TRAININGS,
    Observer,
    RunConfig,
)
from guerdon.run.racing import RaceRound, Writer, promise, race_of
from guerdon.run.trainings import Trainings
from guerdon.types import Episode, Failure

BEAT = "beat"
"""Kind of the event that says how many candidates had come by a beat of a race."""

GLANCE = 0.2
"""Seconds between two looks at the workers while a model writes."""


class Loop:
    """Rounds, finals and holdout.

    All decisions follow from the configuration and from what the journal holds, never
    from the order in which trainings happen to finish: that is what lets a resumed
    run repeat its way and skip what is done.

    Args:
        config: what is searched.
        task: the task.
        journal: of the run, open to write.
        pool: trains.
        chat: the language model behind the journal, or None.
        observe: told what happens.
        parts: trainings and populations that run side by side.
    """

    def __init__(
        self,
        config: RunConfig,
        task: Task,
        journal: Journal,
        pool: Pool,
        chat: Chat | None,
        observe: Observer,
        parts: int = 1,
    ) -> None:
        self.config, self.task, self.journal = config, task, journal
        self.parts = parts
        self.clock = Clock(parts)
        self.chat = chat and TimedChat(chat, self.clock)
        self.observe = observe
        self.search = Search(
            config.search(), model=chat is not None, known=operators_of(journal)
        )
        self.trainings = Trainings(
            task.id,
            journal,
            pool,
            observe,
            lambda: self._holdout_job("sparse", HOLDOUT_SEED),
            self.clock,
        )
        self._noted = {(e.kind, canonical(e.data)) for e in journal.events()}
        # What a resumed run let in beat by beat, so that it goes the same way again.
        self._beats: dict[tuple[int, int], int] = {
            (e.data["round"], e.data["beat"]): e.data["entered"]
            for e in journal.events()
            if e.kind == BEAT
        }

    def go(self) -> None:
        """All rounds, the finals and the holdout."""
        self.observe("phase", {"name": "bank"})
        proposer = Proposer(
            self.task,
            self._bank(),
            self.chat,
            note=self._note,
            full_python=self.config.trust != "language",
        )
        while requests := self.search.ask():
            self._round(requests, proposer)
            if proposer.out_of_budget:
                self._once("budget", {"after_round": self.search.round})
                break
        self._finals()
        self._holdout()

    def _bank(self) -> Bank:
        """The first bank; kept, since not every environment plays an episode twice."""
        path = self.journal.folder / BANK
        if path.exists():
            return Bank.of(self.task, load_episodes(path, self.task))
        bank = collect(self.task, seed=self.config.seed)
        save_episodes(path, bank.episodes)
        return bank

    def _once(self, key: str, value: Any) -> None:
        if self.journal.meta(key) is None:
            self.journal.set_meta(key, value)

    def _note(self, kind: str, data: dict[str, Any]) -> None:
        # A resumed run walks its way again; what it noted then stands already.
        if (kind, canonical(data)) not in self._noted:
            self.journal.add_event(kind, data)
        self.observe(kind, data)

    # --- rounds ---------------------------------------------------------------

    def _round(self, requests: Sequence[Request], proposer: Proposer) -> None:
        """Propose and train together: the workers train while a model writes."""
        number = self.search.round + 1
        self.observe("round", {"number": number, "slots": len(requests)})
        if self.config.trainer == "population":
            proposals = self._raced(number, requests, proposer)
        else:
            proposals = self._each(requests, proposer)
        self.trainings.collect(wait=True)
        scores = {
            p.id: self._score(p.id, "search")
            for p in proposals
            if p.failure is None and p.source is not None
        }
        self.search.tell(proposals, scores)
        self._end_of_round(number, proposals, scores, proposer)

    def _each(self, requests: Sequence[Request], proposer: Proposer) -> list[Proposal]:
        """Every candidate is trained to the end, in a process of its own."""
        proposals = []
        for request in requests:
            self._asking(request)
            proposal = self._proposed(request, proposer)
            proposals.append(proposal)
            self._record(proposal)
            if proposal.source is not None and proposal.failure is None:
                self._start(proposal.id, proposal.source)
            self.trainings.collect(wait=False)
        return proposals

    def _start(self, name: str, source: str) -> None:
        for seed in self.search.seeds:
            self.trainings.start(name, "search", self._job(source, seed))

    def _asking(self, request: Request) -> None:
        self.observe("proposing", {"id": request.id, "operator": request.operator})

    def _raced(
        self, number: int, requests: Sequence[Request], proposer: Proposer
    ) -> list[Proposal]:
        """The candidates race as populations; those that come late take free places."""
        unit = recipe_for(self.task, self.config.algo).whole_steps(1)
        race = RaceRound(
            number,
            race_of(self.config, unit, self.config.seed + number),
            self.trainings,
            self.search.seeds,
            self._job,
            self.parts,
            self._note,
        )
        writer = Writer(requests, proposer, self._asking)
        proposals: list[Proposal] = []
        going = False
        for beat in itertools.count():
            known = self._beats.get((number, beat))
            come = writer.take(known, wait=not going and not writer.done)
            for proposal in come:
                proposals.append(proposal)
                self._record(proposal)
            # Of candidates that no true score tells apart, the more promising go on.
            for proposal in sorted(come, key=promise, reverse=True):
                self._enter(race, proposal)
            if writer.done and not race.race.closed:
                race.race.close()
            note = {"round": number, "beat": beat, "entered": len(come)}
            self._note(BEAT, note)
            going = race.beat(beat)
            if not going and writer.done:
                break
        for file in (self.journal.folder / TRAININGS).glob("*.row"):
            file.unlink(missing_ok=True)
        return proposals

    def _enter(self, race: RaceRound, proposal: Proposal) -> None:
        if proposal.source is None or proposal.failure is not None:
            return
        job = self._job(proposal.source, self.search.seeds[0])
        if job.trainer == "population":
            race.enter(proposal.id, proposal.source)
        else:
            self._start(proposal.id, proposal.source)

    def _proposed(self, request: Request, proposer: Proposer) -> Proposal:
        """A proposal; while a model writes it, finished trainings are journaled."""
        if request.operator not in MODEL_OPERATORS:
            return proposer.propose(request)
        answer: list[Proposal | BaseException] = []

        def ask() -> None:
            try:
                answer.append(proposer.propose(request))
            except BaseException as error:  # raised again below
                answer.append(error)

        thread = threading.Thread(target=ask, name="proposer", daemon=True)
        thread.start()
        while thread.is_alive():
            self.trainings.collect(wait=False)
            thread.join(GLANCE)
        (found,) = answer
        if isinstance(found, BaseException):
            raise found
        return found

    def _record(self, proposal: Proposal) -> None:
        record = CandidateRecord(
            id=proposal.id,
            round=proposal.round + 1,
            slot=proposal.slot,
            operator=proposal.operator,
            parents=proposal.parents,
            source=proposal.source,
            plan=proposal.plan,
            failure=proposal.failure,
            screening=proposal.screening,
            call_key=proposal.call_key,
        )
        self.journal.add_candidate(record)
        self.observe("candidate", {"id": proposal.id, "failure": proposal.failure})

    def _end_of_round(
        self,
        number: int,
        proposals: Sequence[Proposal],
        scores: Mapping[str, Score | Failure],
        proposer: Proposer,
    ) -> None:
        best = self.search.archive.best
        means = {k: round(v, 4) for k, v in self.search.bandit.means().items()}
        summary = {
            "best": best.id if best else None,
            "fitness": best.score.mean if best else None,
            "operators": means,
        }
        self.journal.add_round(number, summary)
        self.observe("round_done", summary)
        good = sorted(
            (
                (s.mean, p.id)
                for p in proposals
                if isinstance(s := scores.get(p.id), Score)
            ),
            reverse=True,
        )
        self._grow_bank(proposer, [name for _, name in good[:2]])

    def _grow_bank(self, proposer: Proposer, names: Sequence[str]) -> None:
        """Add episodes of the round's best agents: the bank sees new parts."""
        episodes: list[Episode] = []
        for name in names:
            for training in self.trainings.of(name, "search"):
                file = (training.result or {}).get("episodes")
                path = require_inside(self.journal.folder, f"{TRAININGS}/{file}")
                if file and path.exists():
                    episodes += load_episodes(path, self.task)
        if episodes:
            proposer.grow_bank(proposer.bank + episodes)

    def _job(self, reward: str, seed: int) -> TrainingJob:
        """A training; what the language can say never needs more trust than that."""
        if self.config.trust != "language" and reward not in self.task.rewards:
            try:
                parse(reward, self.task.layout, self.task.action)
            except Rejected:
                job = self.config.job(reward, seed)
                alone = replace(job, trainer="sb3", whole=None)
                return replace(alone, trust=self.config.trust)
        return self.config.job(reward, seed)

    # --- scores -----------------------------------------------------------------

    def _score(
        self, candidate: str, purpose: Purpose, last_seed: int = MOST_SEED
    ) -> Score | Failure:
        """True score of a candidate, from the journal, of the seeds to the last one.

        A resumed run may find seeds there that it has not asked for yet.
        """
        found = self.trainings.of(candidate, purpose)
        trainings = [training for training in found if training.seed <= last_seed]
        for training in trainings:
            if training.failure is not None:
                return training.failure
        if not trainings:
            return Failure("crashed", "no training of this candidate has finished")
        try:
            return self._measured(trainings)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise JournalError(
                f"{self.journal.folder}: the journal's results of {candidate} cannot "
                f"be read ({type(error).__name__}: {error}); restore the file from a "
                "copy, or use another folder"
            ) from error

    def _measured(self, trainings: Sequence[TrainingRecord]) -> Score:
        score = Score(
            {t.seed: float(t.result["fitness"]) for t in trainings},
            {t.seed: float(t.result["success"]) for t in trainings},
            complete=all(t.steps >= self.config.steps for t in trainings),
        )
        best = self.search.archive.best
        curve = trainings[0].result["curve"]
        text = statistics(
            score.mean,
            score.mean_success,
            curve,
            curve["terms"],
            best.score.mean if best else None,
        )
        return replace(score, statistics=text, shares=term_shares(curve["terms"]))

    # --- the winner -------------------------------------------------------------

    def _finals(self) -> None:
        """Add seeds to the finalists until one of them is best with confidence."""
        added = 0
        while requests := self.search.ask_seeds(added):
            self.observe("phase", {"name": "finals", "seed": added + 1})
            entries = [
                (r.candidate.id, self._job(r.candidate.proposal.source or "", r.seed))
                for r in requests
            ]
            self._train_all("final", entries)
            scores = {
                r.candidate.id: self._score(r.candidate.id, "final", r.seed)
                for r in requests
            }
            known = {k: s for k, s in scores.items() if isinstance(s, Score)}
            self.search.tell_seeds(known)
            added += 1

    def _holdout(self) -> None:
        """Train winner and references with fresh seeds, evaluate on fresh episodes."""
        winner, fresh = self.search.winner(), self.search.best_fresh()
        selection = {
            "winner": winner.id if winner else None,
            "best_of_n": fresh.id if fresh else None,
            "finalists": [finalist.id for finalist in self.search.finalists()],
            "probability": self.search.best_probability() if winner else None,
            "fresh_candidates": sum(
                not m.proposal.parents for m in self.search.archive.members
            ),
        }
        self._once("selection", selection)
        self.observe("phase", {"name": "holdout", **selection})
        rewards = {"sparse": "sparse"}
        if "human" in self.task.rewards:
            rewards["human"] = "human"
        for member in (winner, fresh):
            if member is not None and member.proposal.source is not None:
                rewards[member.id] = member.proposal.source
        entries = [
            (candidate, self._holdout_job(reward, seed))
            for seed in range(HOLDOUT_SEED, HOLDOUT_SEED + self.config.seeds)
            for candidate, reward in rewards.items()
        ]
        self._train_all("holdout", entries)

    def _train_all(
        self, purpose: Purpose, entries: Sequence[tuple[str, TrainingJob]]
    ) -> None:
        """Full trainings, as populations where they can be."""
        together = [entry for entry in entries if entry[1].trainer == "population"]
        self.trainings.start_together(purpose, together, parts=self.parts)
        for candidate, job in entries:
            if job.trainer != "population":
                self.trainings.start(candidate, purpose, job)
        self.trainings.collect(wait=True)

    def _holdout_job(self, reward: str, seed: int) -> TrainingJob:
        return replace(self._job(reward, seed), eval_seed=HOLDOUT_EVALUATION_SEED)


def operators_of(journal: Journal) -> list[str] | None:
    """Operators that the run chose from so far, as its first round wrote them down.

    None before that: until then the first round's rule chose, not a bandit.
    """
    rounds = journal.rounds()
    found = rounds[0].summary if rounds else None
    means = found.get("operators") if isinstance(found, Mapping) else None
    return list(means) if isinstance(means, Mapping) else None

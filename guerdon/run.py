"""The only place where all rooms meet: task, model, search and agent make a run.

A run is a folder with a journal. Everything that costs time or money goes into the
journal when it is done, under the hash of what was asked; the loop below simply runs
again after an interruption and finds what it needs there. So a run that was killed
goes on with the next thing that was not finished, and a finished one is only read.
"""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from guerdon.agents.evaluate import load_episodes
from guerdon.agents.statistics import interval, share_interval
from guerdon.agents.training import EVALUATION_SEED, Outcome, TrainingJob
from guerdon.agents.workers import WorkerPool
from guerdon.envs import Task, load_task
from guerdon.extras import MissingExtra
from guerdon.journal import CandidateRecord, Journal, Purpose, TrainingRecord
from guerdon.llm.budget import Budget, Cost
from guerdon.llm.client import Answer, Chat, connect
from guerdon.llm.journaled import Journaled
from guerdon.report import write_report
from guerdon.report.summary import summarise
from guerdon.reward_design.search import (
    Proposal,
    Proposer,
    Request,
    Score,
    Search,
    SearchConfig,
    collect,
)
from guerdon.reward_design.search.reflect import statistics, term_shares
from guerdon.types import Episode, Failure

HOLDOUT_SEED = 1000
"""First training seed of the holdout, far from the seeds of the search."""

HOLDOUT_EVALUATION_SEED = 2 * EVALUATION_SEED
"""First episode seed of the holdout; nothing was selected on these episodes."""

TRAININGS = "trainings"
"""Folder of weights and recorded episodes inside the run folder."""

Observer = Callable[[str, Mapping[str, Any]], None]
"""Told what happens: ``(kind, data)``; used for the live progress."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunConfig:
    """Everything that determines a search.

    Args:
        task: id of a task, or ``module:object``.
        llm: URI of the language model; ``sampler`` for none.
        candidates: programs trained in each round.
        rounds: rounds of proposing, training and reflecting.
        steps: environment steps of every training.
        seeds: fresh training seeds of the holdout.
        search_seeds: training seeds of every candidate during the rounds.
        finalists: best candidates that get more seeds.
        final_seeds: most additional seeds of a finalist.
        eval_episodes: episodes of the trusted evaluation after each training.
        algo: ``ppo``, ``sac``, or None for the task's recipe.
        seed: seed of everything that the search draws.
    """

    task: str
    llm: str = "embedded"
    candidates: int = 12
    rounds: int = 3
    steps: int = 100_000
    seeds: int = 5
    search_seeds: int = 1
    finalists: int = 3
    final_seeds: int = 2
    eval_episodes: int = 32
    algo: Literal["ppo", "sac"] | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("steps", "seeds", "eval_episodes"):
            if getattr(self, name) < 1:
                raise ValueError(
                    f"{name}: expected at least 1, got {getattr(self, name)}"
                )
        self.search()

    def search(self) -> SearchConfig:
        """The part that the search itself needs."""
        return SearchConfig(
            candidates=self.candidates,
            rounds=self.rounds,
            search_seeds=self.search_seeds,
            finalists=self.finalists,
            final_seeds=self.final_seeds,
            seed=self.seed,
        )

    def job(self, reward: str, seed: int) -> TrainingJob:
        """A training of the rounds with ``reward`` (a name or a program's text)."""
        return TrainingJob(
            task=self.task,
            reward=reward,
            steps=self.steps,
            seed=seed,
            algo=self.algo,
            eval_episodes=self.eval_episodes,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Resources:
    """What a run may use; another choice resumes the same run.

    Args:
        workers: training processes at a time; one per core.
        budget_tokens: most tokens of the language model, or None.
        budget_usd: most US dollars, or None.
        deadline_s: seconds after which one training is killed; None for a generous
            estimate from its steps.
        model_threads: threads of the embedded model.
    """

    workers: int = 2
    budget_tokens: int | None = None
    budget_usd: float | None = None
    deadline_s: float | None = None
    model_threads: int = 1

    def deadline(self, steps: int) -> float:
        """Seconds that a training may take: a hundred steps a second, and a start."""
        return self.deadline_s or 300.0 + steps / 100.0


def run_search(
    config: RunConfig,
    folder: Path,
    resources: Resources | None = None,
    observe: Observer = lambda kind, data: None,
) -> dict[str, Any]:
    """Search a reward, or go on with the search in ``folder``, or read its result.

    Args:
        config: what is searched; must be the folder's if it has a run already.
        folder: the run folder.
        resources: what may be used.
        observe: told what happens.

    Returns:
        The summary, as the journal keeps it under ``summary``.

    Raises:
        JournalError: for a folder that is not this run's; it is left untouched.
        ValueError: for an unknown task or model.
        ModelError: when the model cannot be reached at all.
    """
    resources = resources or Resources()
    task = load_task(config.task)
    with ExitStack() as stack:
        journal = stack.enter_context(Journal.open_or_create(folder, asdict(config)))
        summary = journal.meta("summary")
        if summary is not None:
            return dict(summary)
        for key, value in (("intent", task.intent), ("versions", _versions())):
            if journal.meta(key) is None:
                journal.set_meta(key, value)
        chat = _open_chat(config, resources, journal, observe)
        if chat is not None:
            stack.callback(chat.close)
        pool = stack.enter_context(
            WorkerPool(
                resources.workers,
                resources.deadline(config.steps),
                folder / TRAININGS,
            )
        )
        started = time.time()
        journal.add_event("started")
        try:
            _Run(config, task, journal, pool, chat, observe).go()
        finally:
            journal.add_event("stopped", {"wall_seconds": time.time() - started})
        _film(journal, task, observe)
        summary = summarise(journal, task)
        journal.set_meta("summary", summary)
    write_report(folder)
    return summary


def _film(journal: Journal, task: Task, observe: Observer) -> None:
    """Film one holdout episode of an agent that was trained with the winner."""
    winner = (journal.meta("selection") or {}).get("winner")
    if winner is None or journal.meta("episode") is not None:
        return
    trained = [t for t in journal.trainings(winner, "holdout") if t.artifact]
    if not trained:
        return
    from guerdon.agents.policies import load_policy
    from guerdon.report.render import render_episode

    observe("phase", {"name": "film"})
    path = journal.folder / "figures" / "winner.gif"
    weights = journal.folder / TRAININGS / str(trained[0].artifact)
    try:
        policy = load_policy(weights, task)
        shown = render_episode(task, policy, path, HOLDOUT_EVALUATION_SEED)
    except (MissingExtra, ValueError, OSError) as error:
        # A run without a film is a run all the same; the report says what is missing.
        journal.add_event("not_filmed", {"reason": str(error)})
        return
    values = {"seed": shown.seed, "fitness": shown.fitness, "length": shown.length}
    journal.set_meta("episode", values | {"success": shown.success})


def _open_chat(
    config: RunConfig, resources: Resources, journal: Journal, observe: Observer
) -> Chat | None:
    """The model behind the journal: what was answered once is never asked again."""
    totals = journal.totals()
    spent = Cost(totals.prompt_tokens + totals.completion_tokens, totals.usd)
    budget = Budget(resources.budget_tokens, resources.budget_usd, spent=spent)

    def progress(done: int, total: int) -> None:
        observe("weights", {"done": done, "total": total})

    chat = connect(
        config.llm, budget=budget, threads=resources.model_threads, progress=progress
    )

    def told(answer: Answer) -> None:
        observe("called", {"tokens": answer.tokens})

    return None if chat is None else Journaled(chat, journal, told)


def _versions() -> dict[str, str]:
    from importlib.metadata import PackageNotFoundError, version

    found = {"python": platform.python_version(), "system": platform.platform()}
    for name in ("guerdon", "gymnasium", "stable-baselines3", "torch", "numpy"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found


class _Run:
    """One run from the first round to the holdout."""

    def __init__(
        self,
        config: RunConfig,
        task: Task,
        journal: Journal,
        pool: WorkerPool,
        chat: Chat | None,
        observe: Observer,
    ) -> None:
        self.config, self.task, self.journal = config, task, journal
        self.pool, self.chat, self.observe = pool, chat, observe
        self.search = Search(config.search(), model=chat is not None)
        self.open: dict[str, tuple[str, Purpose, TrainingJob]] = {}

    def go(self) -> None:
        """All rounds, the finals and the holdout."""
        self.observe("phase", {"name": "bank"})
        proposer = Proposer(
            self.task,
            collect(self.task, seed=self.config.seed),
            self.chat,
            note=self._note,
        )
        while requests := self.search.ask():
            self._round(requests, proposer)
            if proposer.out_of_budget:
                self._once("budget", {"after_round": self.search.round})
                break
        self._finals()
        self._holdout()

    def _once(self, key: str, value: Any) -> None:
        if self.journal.meta(key) is None:
            self.journal.set_meta(key, value)

    def _note(self, kind: str, data: dict[str, Any]) -> None:
        self.journal.add_event(kind, data)
        self.observe(kind, data)

    # --- rounds ---------------------------------------------------------------

    def _round(self, requests: Sequence[Request], proposer: Proposer) -> None:
        """Propose and train together: the workers train while a model writes."""
        number = self.search.round + 1
        self.observe("round", {"number": number, "slots": len(requests)})
        proposals = []
        for request in requests:
            self.observe("proposing", {"id": request.id, "operator": request.operator})
            proposal = proposer.propose(request)
            proposals.append(proposal)
            self._record(proposal)
            if proposal.source is not None and proposal.failure is None:
                for seed in self.search.seeds:
                    job = self.config.job(proposal.source, seed)
                    self._train(proposal.id, "search", job)
            self._collect(wait=False)
        self._collect(wait=True)
        scores = {
            p.id: self._score(p.id, "search", p.source)
            for p in proposals
            if p.failure is None and p.source is not None
        }
        self.search.tell(proposals, scores)
        self._end_of_round(number, proposals, scores, proposer)

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
            for training in self.journal.trainings(name, "search"):
                file = (training.result or {}).get("episodes")
                path = self.journal.folder / TRAININGS / str(file)
                if file and path.exists():
                    episodes += load_episodes(path, self.task)
        if episodes:
            proposer.grow_bank(proposer.bank + episodes)

    # --- trainings ------------------------------------------------------------

    def _train(self, candidate: str, purpose: Purpose, job: TrainingJob) -> None:
        """Start a training unless the journal has it."""
        if job.key in self.open or self.journal.training(job.key) is not None:
            return
        self.open[job.key] = (candidate, purpose, job)
        self.pool.submit(job)

    def _collect(self, *, wait: bool) -> None:
        """Journal what has finished; with ``wait`` until nothing is under way."""
        while True:
            for job, outcome in self.pool.poll(0.5 if wait else 0.0):
                self._finished(job, outcome)
            shares = [self.pool.progress(job) for _, _, job in self.open.values()]
            self.observe("training", {"open": len(self.open), "shares": shares})
            if not (wait and self.open):
                return

    def _finished(self, job: TrainingJob, outcome: Outcome) -> None:
        candidate, purpose, _ = self.open.pop(job.key)
        record = TrainingRecord(
            key=job.key,
            candidate=candidate,
            seed=job.seed,
            purpose=purpose,
            steps=job.steps,
        )
        if isinstance(outcome, Failure):
            record = replace(record, failure=outcome)
        else:
            record = replace(
                record,
                result=outcome.as_record(),
                cpu_seconds=outcome.cpu_seconds,
                wall_seconds=outcome.wall_seconds,
                artifact=outcome.weights,
            )
        self.journal.add_training(record)
        self.observe("trained", {"record": record})

    def _score(
        self, candidate: str, purpose: Purpose, source: str | None
    ) -> Score | Failure:
        """True score of a candidate, from the journal."""
        fitness: dict[int, float] = {}
        success: dict[int, float] = {}
        result: Mapping[str, Any] = {}
        for training in self.journal.trainings(candidate, purpose):
            if training.failure is not None:
                return training.failure
            result = training.result
            fitness[training.seed] = float(result["fitness"])
            success[training.seed] = float(result["success"])
        if not fitness:
            return Failure("crashed", "no training of this candidate has finished")
        best = self.search.archive.best
        score = Score(fitness, success)
        text = statistics(
            score.mean,
            score.mean_success,
            result["curve"],
            result["curve"]["terms"],
            best.score.mean if best else None,
        )
        return replace(
            score, statistics=text, shares=term_shares(result["curve"]["terms"])
        )

    # --- the winner -------------------------------------------------------------

    def _finals(self) -> None:
        """Add seeds to the finalists until one of them is best with confidence."""
        added = 0
        while requests := self.search.ask_seeds(added):
            self.observe("phase", {"name": "finals", "seed": added + 1})
            for request in requests:
                source = request.candidate.proposal.source or ""
                job = self.config.job(source, request.seed)
                self._train(request.candidate.id, "final", job)
            self._collect(wait=True)
            scores = {
                r.candidate.id: score
                for r in requests
                if isinstance(
                    score := self._score(r.candidate.id, "final", None), Score
                )
            }
            self.search.tell_seeds(scores)
            added += 1

    def _holdout(self) -> None:
        """Train winner and references with fresh seeds, evaluate on fresh episodes."""
        winner, fresh = self.search.winner(), self.search.best_fresh()
        selection = {
            "winner": winner.id if winner else None,
            "best_of_n": fresh.id if fresh else None,
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
        for seed in range(HOLDOUT_SEED, HOLDOUT_SEED + self.config.seeds):
            for candidate, reward in rewards.items():
                job = replace(
                    self.config.job(reward, seed), eval_seed=HOLDOUT_EVALUATION_SEED
                )
                self._train(candidate, "holdout", job)
        self._collect(wait=True)


# --- single trainings ---------------------------------------------------------


def train_one(
    task: str,
    reward: str,
    *,
    base: Literal["sparse", "none"] = "sparse",
    algo: Literal["ppo", "sac"] | None = None,
    steps: int = 100_000,
    seed: int = 0,
    eval_episodes: int = 32,
    out: Path | None = None,
    progress: Callable[[float], None] | None = None,
) -> dict[str, Any]:
    """Train one agent in this process and give its true score.

    Args:
        task: id of a task, or ``module:object``.
        reward: ``"sparse"``, ``"human"`` or the text of a program.
        base: what a program's terms are added to.
        algo: ``ppo``, ``sac``, or None for the task's recipe.
        steps: environment steps.
        seed: seed of the training.
        eval_episodes: episodes of the evaluation afterwards.
        out: folder for weights, episodes and ``result.json``.
        progress: told the finished share.

    Returns:
        ``fitness`` and ``success`` as estimates over the evaluation's episodes, or
        ``failure``.
    """
    from guerdon.agents.sb3 import train

    job = TrainingJob(
        task=task,
        reward=reward,
        steps=steps,
        seed=seed,
        base=base,
        algo=algo,
        eval_episodes=eval_episodes,
    )
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
    outcome = train(job, folder=out, progress=progress)
    if isinstance(outcome, Failure):
        return {"task": task, "failure": asdict(outcome)}
    found = _scores(outcome.fitness, outcome.success) | {
        "task": task,
        "proxy": outcome.proxy,
        "steps": outcome.steps,
        "seconds": round(outcome.wall_seconds, 2),
        "weights": None if out is None else str(out / (outcome.weights or "")),
    }
    if out is not None:
        (out / "result.json").write_text(outcome.to_json() + "\n")
    return found


def evaluate_policy(
    task: str, policy: Path, *, episodes: int, seed: int
) -> dict[str, Any]:
    """The true score of saved weights on fresh episodes.

    Raises:
        ValueError: for a file that holds no policy of this task.
    """
    from guerdon.agents.evaluate import evaluate
    from guerdon.agents.policies import load_policy

    one = load_task(task)
    found = evaluate(one, load_policy(policy, one), episodes=episodes, seed=seed)
    return {"task": one.id, **_scores(found.fitness, found.success)}


def _scores(fitness: Sequence[float], success: Sequence[bool]) -> dict[str, Any]:
    """Estimates over episodes."""
    return {
        "fitness": interval(list(fitness), trim=0.0)._asdict(),
        "success": share_interval([float(s) for s in success])._asdict(),
        "episodes": len(fitness),
    }

"""The commands. Each is a plain function; its help text is its docstring."""

from __future__ import annotations

import codecs
import os
from dataclasses import asdict
from errno import EACCES, ENOTDIR
from pathlib import Path
from typing import Annotated, Literal

import tyro

from guerdon.checks import integer
from guerdon.cli import show
from guerdon.cli.output import Answer, complain
from guerdon.types import Failure

TaskName = Annotated[str, tyro.conf.arg(metavar="TASK")]
Algo = Literal["ppo", "sac"]
Trust = Literal["language", "jail", "none"]
Executor = Literal["local", "ray"]
Device = Literal["cpu", "cuda"]


def tasks(task: tyro.conf.Positional[str] = "", /, *, json: bool = False) -> Answer:
    """List the tasks, or show one as a language model would see it.

    Args:
        task: a registered id or module:object; all tasks are listed without it.
        json: print JSON instead of a table.
    """
    from guerdon.envs import load_task
    from guerdon.envs import tasks as all_tasks

    if not task:
        found = all_tasks()
        rows = [show.task_row(t) for t in found]
        return Answer(rows, lambda: show.task_table(found))
    one = load_task(task)
    return Answer(show.task_details(one), lambda: show.task_page(one))


def check(
    file: tyro.conf.Positional[Path], /, *, task: TaskName, json: bool = False
) -> Answer:
    """Type-check a reward program, dry-run it on logged transitions and describe it.

    Args:
        file: a text file with a program in the reward language.
        task: a registered id or module:object.
        json: print JSON instead of a table.
    """
    from guerdon.envs import load_task
    from guerdon.reward_design.language import Rejected, parse, to_source
    from guerdon.reward_design.language.work import predicted_work
    from guerdon.reward_design.search import collect, screen

    one = load_task(task)
    text = _read_program(file)
    try:
        tree = parse(text, one.layout, one.action)
    except Rejected as error:
        return _refused(file, error.failure)
    bank = collect(one)
    screened = screen(tree, bank)
    if isinstance(screened, Failure):
        return _refused(file, screened)
    described = {
        "ok": True,
        "task": one.id,
        "terms": list(tree.names),
        "params": dict(tree.params),
        "operations": tree.size,
        "work": predicted_work(tree).as_json(),
        "registers": tree.uses_registers,
        "transitions": bank.size,
        "episodes": len(bank.episodes),
        **screened.screening.as_json(),
        "program": to_source(tree),
    }
    return Answer(described, lambda: show.check_page(described))


def _refused(file: Path, failure: Failure) -> Answer:
    place = f"{file}:{failure.line}" if failure.line else str(file)
    words = f"{place}: {failure.kind}: {failure.reason}"
    data = {"ok": False, "failure": asdict(failure)}
    return Answer(data, lambda: complain(words), status=1)


def _read_program(file: Path) -> str:
    from guerdon.reward_design.full_python import MAX_TEXT

    most = 4 * MAX_TEXT + 4
    with file.open("rb") as opened:
        data = opened.read(most)
    try:
        # Of what is longer so much is read that whoever reads it finds it too long,
        # also where the cut goes through a letter.
        return codecs.getincrementaldecoder("utf-8")().decode(data, len(data) < most)
    except UnicodeDecodeError:
        raise ValueError(
            f"{file}: expected text in UTF-8 with a reward program"
        ) from None


def search(
    task: tyro.conf.Positional[TaskName],
    /,
    *,
    out: Path,
    llm: str = "embedded",
    candidates: int = 12,
    rounds: int = 3,
    steps: int = 100_000,
    seeds: int = 5,
    search_seeds: int = 1,
    finalists: int = 3,
    final_seeds: int = 2,
    eval_episodes: int = 32,
    algo: Algo | None = None,
    trainer: Literal["auto", "population", "sb3"] = "auto",
    race: Literal["auto", "halving", "ucb", "d3rb", "none"] = "auto",
    eta: int = 2,
    rungs: int = 4,
    seed: int = 0,
    workers: int = 0,
    executor: Executor = "local",
    ray_address: str | None = None,
    device: Device = "cpu",
    budget_tokens: int | None = None,
    budget_usd: float | None = None,
    cache: Path | None = None,
    trust: Trust = "language",
    profile: bool = False,
    json: bool = False,
) -> Answer:
    """Search a reward, or go on with the search that a folder holds.

    Args:
        task: a registered id or module:object.
        out: the run folder; a run in it is resumed, a finished one is read.
        llm: openai:MODEL, http(s)://HOST:PORT/v1#MODEL, embedded[:coder-1.5b |
            coder-0.5b | smol], sampler (no model), replay:FILE or scripted:FILE.
        candidates: programs trained in each round.
        rounds: rounds of proposing, training and reflecting.
        steps: environment steps of every training, rounded up to whole rollouts.
        seeds: fresh training seeds of the holdout; five or more for a claim.
        search_seeds: training seeds of every candidate during the rounds.
        finalists: best candidates that get more seeds.
        final_seeds: most additional seeds of a finalist.
        eval_episodes: episodes of the trusted evaluation after each training.
        algo: ppo or sac; by default what the task's recipe says.
        trainer: population: our PPO on all candidates at once. sb3: Stable-Baselines3
            on each. auto: population where the task has the batched engine.
        race: how a population shares out its steps: halving, ucb or d3rb, or none for
            full trainings of all candidates. auto: halving, and none with sb3.
        eta: of halving: the best 1 / eta of a rung go on.
        rungs: of halving: number of rungs, the full training included.
        seed: seed of everything that the search draws.
        workers: training processes at a time; 0 for one per core of this machine, and
            with --device cuda for one alone. Say how many for a cluster.
        executor: local: trainings run on this machine. ray: on a Ray cluster, with the
            same results.
        ray_address: HOST:PORT or auto, of a cluster that this machine has joined; by
            default RAY_ADDRESS, or a cluster of this machine alone.
        device: cuda: populations and their environments are on an NVIDIA GPU; only
            where the task has the batched engine. Never run on hardware yet.
        budget_tokens: most tokens of the language model.
        budget_usd: most US dollars of the language model.
        cache: folder of bought answers that runs share; each keeps its own without.
        trust: language: rewards are programs of the reward language. jail: a model may
            also write full Python, which runs confined. none: the same unconfined,
            with your rights.
        profile: also print where the time went; the report shows it in any case.
        json: print only a JSON summary.
    """
    from guerdon.cli.progress import observed_search
    from guerdon.report.profile import read_profile
    from guerdon.run import Resources, RunConfig

    config = RunConfig(
        task=task,
        llm=llm,
        candidates=candidates,
        rounds=rounds,
        steps=steps,
        seeds=seeds,
        search_seeds=search_seeds,
        finalists=finalists,
        final_seeds=final_seeds,
        eval_episodes=eval_episodes,
        algo=algo,
        seed=seed,
        trust=trust,
        trainer=trainer,
        race=race,
        eta=eta,
        rungs=rungs,
        device=device,
    )
    resources = Resources(
        workers=integer("workers", workers) or config.workers(),
        budget_tokens=budget_tokens,
        budget_usd=budget_usd,
        cache=cache,
        executor=executor,
        ray_address=ray_address,
    )
    summary = observed_search(config, out, resources, quiet=json)
    summary = {**summary, "report": str(out / "report.html")}
    if profile:
        summary["profile"] = read_profile(out).as_json()
    return Answer(summary, lambda: show.search_summary(summary))


def train(
    task: tyro.conf.Positional[TaskName],
    /,
    *,
    reward: str = "sparse",
    base: Literal["sparse", "none"] = "sparse",
    algo: Algo | None = None,
    steps: int = 100_000,
    seed: int = 0,
    eval_episodes: int = 32,
    out: Path | None = None,
    trust: Trust = "language",
    device: Device = "cpu",
    profile: bool = False,
    json: bool = False,
) -> Answer:
    """Train one agent with a reward and report its true score.

    Args:
        task: a registered id or module:object.
        reward: sparse, human, or a file with a program in the reward language.
        base: what a program's terms are added to: the task's sparse reward, or none.
        algo: ppo or sac; by default what the task's recipe says.
        steps: environment steps, rounded up to whole rollouts.
        seed: seed of weights, environments and exploration.
        eval_episodes: episodes of the evaluation afterwards.
        out: folder for weights, recorded episodes and result.json.
        trust: what the file is: language, a program of the reward language; jail, a
            module of Python with a function reward, run confined; none, the same with
            your rights.
        device: cpu: Stable-Baselines3 trains. cuda: our PPO on an NVIDIA GPU; only
            where the task has the batched engine. Never run on hardware yet.
        profile: also print where the time went.
        json: print JSON instead of a table.
    """
    from guerdon.agents.allocator import keep_freed_memory
    from guerdon.cli.progress import observed_training
    from guerdon.run import train_one
    from guerdon.run.trust import UNSAFE

    text = reward
    if reward not in ("sparse", "human"):
        if not Path(reward).is_file():
            raise ValueError(
                f"reward {reward!r}: expected sparse, human, or an existing file"
            )
        text = _read_program(Path(reward))
    if out is not None:
        _require_folder(out)
    if trust == "none":
        complain(f"guerdon: {UNSAFE}")
    keep_freed_memory()
    outcome = observed_training(
        lambda progress: train_one(
            task,
            text,
            base=base,
            algo=algo,
            steps=steps,
            seed=seed,
            eval_episodes=eval_episodes,
            out=out,
            progress=progress,
            trust=trust,
            device=device,
        ),
        quiet=json,
    )
    if not profile:
        outcome.pop("profile", None)
    status = 1 if outcome.get("failure") else 0
    return Answer(outcome, lambda: show.training_page(outcome), status)


def _require_folder(out: Path) -> None:
    """Refuse at once what could only fail when the training is over."""
    # The nearest part of the path that is there already decides about the rest.
    there = next(p for p in (out.absolute(), *out.absolute().parents) if p.exists())
    if not there.is_dir():
        raise NotADirectoryError(ENOTDIR, "expected a folder, found a file", str(there))
    if not os.access(there, os.W_OK | os.X_OK):
        raise PermissionError(EACCES, "expected a folder to write in", str(there))


def evaluate(
    task: tyro.conf.Positional[TaskName],
    /,
    *,
    policy: Path,
    episodes: int = 64,
    seed: int = 3_000_000,
    json: bool = False,
) -> Answer:
    """Play fresh episodes with trained weights and report the true score.

    Args:
        task: a registered id or module:object.
        policy: a .safetensors file of guerdon train or of a run folder.
        episodes: number of episodes.
        seed: seed of the first episode.
        json: print JSON instead of a table.
    """
    from guerdon.run import evaluate_policy

    if policy.exists() and not policy.is_file():
        raise ValueError(
            f"{policy}: expected weights of guerdon train (.safetensors), which are a "
            f"file; found {'a folder' if policy.is_dir() else 'none'}"
        )
    result = evaluate_policy(task, policy, episodes=episodes, seed=seed)
    return Answer(result, lambda: show.training_page(result))


def report(folder: tyro.conf.Positional[Path], /, *, json: bool = False) -> Answer:
    """Write the report of a run folder again, finished or not.

    Args:
        folder: the run folder.
        json: print the report's data instead of its path.
    """
    from json import loads

    from guerdon.report import write_report
    from guerdon.report.build import JSON_NAME

    path = write_report(folder)
    data = loads((folder / JSON_NAME).read_text("utf-8"))

    def page() -> None:
        if data["no_charts"]:
            complain(f"guerdon: the report has no charts: {data['no_charts']}")
        print(path)

    return Answer(data, page)


def doctor(*, llm: tuple[str, ...] = (), json: bool = False) -> Answer:
    """Show what this machine has for a search: each thing looked up or tried out.

    Versions, extras, processors, memory, GPU, the layers of the jail, the weights of
    embedded models with their hashes, and endpoints. The status is 1 when no search
    can run here; a missing jail or model alone does not prevent one.

    Args:
        llm: endpoints to ask whether they answer: http(s)://HOST/v1#MODEL or
            openai:MODEL; asking costs nothing.
        json: print JSON instead of a table.
    """
    from guerdon.cli.doctor import examine

    found = examine(llm)
    return Answer(found, lambda: show.doctor_page(found), 0 if found["ok"] else 1)

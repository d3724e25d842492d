"""Running a study: every cell on every problem with every seed, one file each, so that it can be stopped and goes on."""

from __future__ import annotations

import json
import multiprocessing
from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from hashlib import sha256
from itertools import islice
from pathlib import Path
from statistics import fmean
from typing import Any

import torch

from mechanic_rl_ros.algorithms.registry import DEFAULT, learner_of
from mechanic_rl_ros.data import Episode
from mechanic_rl_ros.errors import UserError
from mechanic_rl_ros.evaluation import evaluate
from mechanic_rl_ros.policy.checkpoint import WEIGHTS, Checkpoint
from mechanic_rl_ros.policy.weights import WeightsError
from mechanic_rl_ros.practice import Practised, practise, warm_up
from mechanic_rl_ros.provenance import provenance
from mechanic_rl_ros.replay.atomic import write_atomically
from mechanic_rl_ros.study.problems import base_policy, problem_of
from mechanic_rl_ros.study.tuners import Cell, Ruined, factory


@dataclass(frozen=True)
class StudySettings:
    """What is the same for all runs of a study.

    Attributes:
        folder: Where results and base policies lie.
        episodes: Practice episodes of a run.
        scenes: Scenes of its last evaluation.
        checks: Evaluations on the way, of a quarter as many scenes.
        first_scene: Seed of the first evaluation scene.
    """

    folder: Path
    episodes: int = 240
    scenes: int = 200
    checks: int = 3
    first_scene: int = 500_000

    def base(self, problem: str) -> Checkpoint:
        """The base policy of a problem.

        Raises:
            UserError: What lies there is of another task.
        """
        place = base_policy(problem, self.folder / "bases")
        checkpoint = Checkpoint.load(place)
        if checkpoint.task != problem_of(problem).task:
            raise UserError(f"{place} is a policy of task {checkpoint.task}, not {problem_of(problem).task}: use another --output")
        return checkpoint

    def say(self, problem: str, learner: str | None = None) -> dict[str, int | str]:
        """What a result depends on, as plain data that lies beside it. Looks on the way change nothing."""
        said: dict[str, int | str] = {"episodes": self.episodes, "scenes": self.scenes, "first_scene": self.first_scene}
        said["problem"] = _digest_of(problem_of(problem))
        said["base"] = _digest((base_policy(problem, self.folder / "bases") / WEIGHTS).read_bytes())
        if learner is not None:
            said["config"] = _digest_of(learner_of(learner).Config.from_yaml())
        return said


@dataclass(frozen=True)
class Run:
    """One practice."""

    problem: str
    cell: Cell
    seed: int

    def path(self, folder: Path) -> Path:
        """File of its result."""
        return folder / self.problem / self.cell.name / f"seed{self.seed}.json"


def run_all(
    settings: StudySettings, runs: Iterable[Run], workers: int, done: Callable[[Run, dict[str, Any]], None], wanted: Callable[[Run], bool] = lambda _: True
) -> None:
    """Makes all runs whose result is not there yet.

    Args:
        settings: Of the study.
        runs: In the order in which they are to be made.
        workers: Processes, each with one thread.
        done: Called with every new result.
        wanted: Asked about a run when its turn has come, in the light of all results until then.

    Raises:
        UserError: A result that is there was made with other settings.
    """
    runs = list(runs)
    missing = [run for run in runs if not run.path(settings.folder).exists()]
    for run in runs:
        if run not in missing:
            place = run.path(settings.folder)
            require_same(settings.say(run.problem, run.cell.learner), json.loads(place.read_text()), place)
    waiting = filter(wanted, missing)
    with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), _start) as pool:
        pending = {pool.submit(make_run, settings, run): run for run in islice(waiting, workers)}
        try:
            while pending:
                for future in wait(pending, return_when=FIRST_COMPLETED).done:
                    done(pending.pop(future), future.result())
                    pending |= {pool.submit(make_run, settings, run): run for run in islice(waiting, 1)}
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def make_run(settings: StudySettings, run: Run) -> dict[str, Any]:
    """Practises, evaluates and writes the result. A policy that step sizes have ruined beyond acting solves nothing, and why is written down."""
    problem, kind = problem_of(run.problem), learner_of(run.cell.learner)
    config = replace(kind.Config.from_yaml(), batch_size=problem.batch, guard=False)  # what a tuner ruins is to be seen
    base = kind.prepare(config, settings.base(run.problem), run.seed)
    looks = {round(settings.episodes * (k + 1) / (settings.checks + 1)): settings.scenes // 4 for k in range(settings.checks)} | {
        settings.episodes: settings.scenes
    }
    outcomes = base_outcomes(settings, run.problem, workers=1)
    curve: list[dict[str, Any]] = []
    seconds = 0.0

    def watch(practised: Practised) -> None:
        nonlocal seconds
        seconds += practised.episode.steps / base.embodiment.policy_rate
        if practised.number not in looks:
            return
        scenes = range(settings.first_scene, settings.first_scene + looks[practised.number])
        result = evaluate(practised.learner.to_checkpoint(), problem.task, scenes, latency=problem.latency)
        status = practised.learner.status()
        scales = {name: status[f"{name}_scale"] for name in ("actor", "critic", "value")}
        curve.append(
            {
                "episodes": practised.number,
                "success": result.success,
                "base": fmean(outcomes[: len(scenes)]),  # on the same scenes
                "best_of_n": result.best_of_n,
                "seconds": practised.seconds,
                "minutes": seconds / 60.0,
                **scales,
            }
        )

    ruined = ""
    begun = _begun(settings, run.problem, run.seed) if run.cell.learner == DEFAULT else ()
    try:
        practise(base, config, run.seed, settings.episodes, problem.latency, watch, factory(run.cell, problem.gradient), begun)
    except (Ruined, WeightsError) as error:
        ruined = str(error)
        curve.append({"episodes": settings.episodes, "success": 0.0, "base": fmean(outcomes), "best_of_n": False})
    said = settings.say(run.problem, run.cell.learner)
    record = {
        "problem": run.problem,
        **asdict(run.cell),
        "seed": run.seed,
        "success": curve[-1]["success"],
        "ruined": ruined,
        "curve": curve,
        "settings": said,
        "made": provenance(),
    }
    path = run.path(settings.folder)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, json.dumps(record, indent=1).encode())
    return record


@lru_cache(maxsize=8)
def _begun(settings: StudySettings, problem: str, seed: int) -> tuple[Episode, ...]:
    """What the base policy does until the default learner first learns: a process that makes many runs with one seed practises that once."""
    base = settings.base(problem)
    count = min(learner_of(DEFAULT).Config.from_yaml().warmup_episodes, settings.episodes)
    return tuple(warm_up(base, seed, count, problem_of(problem).latency))


def require_same(own: dict[str, int | str], record: dict[str, Any], path: Path) -> None:
    """Keeps results of different settings apart.

    Raises:
        UserError: The record was made with other ones.
    """
    theirs = record.get("settings", {})
    for name in own:
        if theirs.get(name) != own[name]:
            raise UserError(f"{path} was made with {name} {theirs.get(name)}, not {own[name]}: use the same, or another --output")


def base_outcomes(settings: StudySettings, problem: str, workers: int, check: bool = True) -> list[bool]:
    """Which of the evaluation scenes a problem's base policy solves, measured once.

    Raises:
        UserError: It was measured with other settings, and ``check`` asks for that; or by an earlier version.
    """
    path = settings.folder / problem / "base.json"
    if not path.exists():
        scenes = range(settings.first_scene, settings.first_scene + settings.scenes)
        result = evaluate(settings.base(problem), problem_of(problem).task, scenes, workers=workers, latency=problem_of(problem).latency)
        path.parent.mkdir(parents=True, exist_ok=True)
        record = {"success": result.success, "outcomes": result.outcomes, "settings": settings.say(problem), "made": provenance()}
        write_atomically(path, json.dumps(record).encode())
    record = json.loads(path.read_text())
    if "outcomes" not in record:
        raise UserError(f"{path} was made by an earlier version: use another --output")
    if check:
        require_same(settings.say(problem), record, path)
    return [bool(outcome) for outcome in record["outcomes"]]


def _digest_of(settings: Any) -> str:
    return _digest(json.dumps(asdict(settings), sort_keys=True).encode())


def _digest(content: bytes) -> str:
    return sha256(content).hexdigest()[:12]


def _start() -> None:
    torch.set_num_threads(1)
    provenance()  # of the code that this process has read, whatever is changed while it works

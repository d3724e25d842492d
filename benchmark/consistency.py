"""What one-step distillation costs in success and saves in time: teacher and student on the same scenes, chunk times in one run.

python benchmark/consistency.py checkpoints/lift > benchmark/results/consistency.md

The scenes begin at 1000000, which nothing is tuned on. Times are of ``Actor.act`` for one new frame, image encoding included, and of the head alone;
rounds alternate between teacher and student.
"""

from __future__ import annotations

import argparse
import platform
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from mechanic_rl_ros.algorithms.consistency import ConsistencyConfig, distil
from mechanic_rl_ros.data import Observation
from mechanic_rl_ros.evaluation import EVALUATION_SEED, evaluate
from mechanic_rl_ros.policy.acting import Actor
from mechanic_rl_ros.policy.checkpoint import Checkpoint

WARM_UP = 5


def main() -> None:
    """Distils, measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--episodes", type=int, default=200)
    parser.add_argument("--first-seed", type=int, default=EVALUATION_SEED)
    parser.add_argument("--seed", type=int, default=0, help="of the distillation")
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--workers", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(1)
    teacher, config = Checkpoint.load(options.checkpoint), ConsistencyConfig.from_yaml()
    started = time.process_time()
    student = distil(teacher, config, options.seed)
    seconds = time.process_time() - started
    scenes = range(options.first_seed, options.first_seed + options.episodes)
    results = [evaluate(checkpoint, teacher.task, scenes, best_of_n=False, workers=options.workers) for checkpoint in (teacher, student)]
    whole, head = _times([Actor(checkpoint) for checkpoint in (teacher, student)], options.rounds)

    print(
        f"Measured {time.strftime('%Y-%m-%d')} on one thread of {platform.machine()}, torch {torch.__version__}: `{options.checkpoint}`, {teacher.task}, "
        f"scenes {scenes[0]} to {scenes[-1]}, {options.rounds} rounds of timing, min / median / max.\n"
    )
    print("| policy | network evaluations | success [95 % Wilson] | chunk, ms | its head alone, ms |\n|---|---|---|---|---|")
    for k, (name, checkpoint) in enumerate((("teacher", teacher), ("student", student))):
        low, high = results[k].interval
        steps, success = checkpoint.config.schedule.sampling_steps, f"{results[k].success:.3f} [{low:.3f}, {high:.3f}]"
        print(f"| {name} | {steps} | {success} | {_text(whole[:, k])} | {_text(head[:, k])} |")
    print(f"| times faster | | | {_text(whole[:, 0] / whole[:, 1])} | {_text(head[:, 0] / head[:, 1])} |")
    both = list(zip(*(result.outcomes for result in results), strict=True))
    print(
        f"\nSolved by the teacher alone: {both.count((True, False))} scenes, by the student alone: {both.count((False, True))}. "
        f"Distillation: {config.updates} updates of {config.batch} chunks, {seconds:.0f} s of processor time, seed {options.seed}."
    )


def _times(actors: list[Actor], rounds: int) -> tuple[np.ndarray, np.ndarray]:
    """Milliseconds (rounds, 2) of a chunk from a new frame, and of the head alone."""
    frame, config = _frame(actors[0]), actors[0].config
    observation, generator = torch.randn(1, config.observation_dim), torch.Generator().manual_seed(0)

    def act(actor: Actor) -> None:
        actor.observe(frame)
        actor.act()

    whole = [[_milliseconds(lambda actor=actor: act(actor)) for actor in actors] for _ in range(rounds + WARM_UP)]
    with torch.inference_mode():
        heads = [actor.policy.head for actor in actors]
        head = [[_milliseconds(lambda head=head: head.sample(observation, 1, generator)) for head in heads] for _ in range(rounds + WARM_UP)]
    return np.array(whole)[WARM_UP:], np.array(head)[WARM_UP:]


def _frame(actor: Actor) -> Observation:
    rng, robot = np.random.default_rng(0), actor.embodiment
    images = {key: rng.integers(0, 256, (camera.height, camera.width, 3), dtype=np.uint8) for key, camera in robot.cameras.items()}
    return Observation(0, images, np.zeros(len(robot.state), np.float32))


def _milliseconds(do: Callable[[], None]) -> float:
    started = time.perf_counter()
    do()
    return 1e3 * (time.perf_counter() - started)


def _text(values: np.ndarray) -> str:
    return f"{values.min():.2f} / {np.median(values):.2f} / {values.max():.2f}"


if __name__ == "__main__":
    main()

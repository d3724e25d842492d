"""Updates per second of the default learner against a plain eager implementation of the same step, in one run; and what part of an update is data.

python benchmark/learner.py > benchmark/results/learner_cpu.md
python benchmark/learner.py --device cuda > benchmark/results/learner_cuda.md

The plain one is written as one would write it down: rows collected one by one and stacked, two separate Q networks, targets followed in a loop, the
tuner's equations tensor by tensor, torch's own linear layers. Both have the same sizes, the same data and the same frozen features. Rounds alternate between the two.
"""

from __future__ import annotations

import argparse
import copy
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from mechanic_rl_ros.algorithms.filtered_iql import FilteredIql, FilteredIqlConfig
from mechanic_rl_ros.paths import checkpoint_directory
from mechanic_rl_ros.policy.acting import Actor
from mechanic_rl_ros.policy.checkpoint import Checkpoint
from mechanic_rl_ros.policy.linear import Linear
from mechanic_rl_ros.replay.buffer import ReplayBuffer
from mechanic_rl_ros.rollout import run_episode
from mechanic_rl_ros.sim.environment import Environment
from mechanic_rl_ros.tuner.relative_reference import ReferenceRelativeMechanic

EPISODES = 40


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", type=Path, default=checkpoint_directory("lift"))
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--updates", type=int, default=20, help="of a round")
    options = parser.parse_args()
    torch.set_num_threads(1)
    checkpoint, files = Checkpoint.load(options.checkpoint), tempfile.TemporaryDirectory()
    learner, live = (learner_with_episodes(checkpoint, options.device, folder) for folder in (None, Path(files.name)))
    plain = Plain(learner)
    for _ in range(5):
        learner.update()
        plain.update()
    ours, theirs, data, filed = [], [], [], []
    for _ in range(options.rounds):
        ours.append(seconds(learner.update, options.updates, options.device))
        theirs.append(seconds(plain.update, options.updates, options.device))
        for drawn, shares in ((learner, data), (live, filed)):
            shares.append(seconds(lambda: drawn.samples(drawn.config.actor_updates), options.updates, options.device) / ours[-1])  # noqa: B023 - called at once
    machine = torch.cuda.get_device_name() if options.device == "cuda" else f"1 thread of {platform.machine()}"
    print(f"Measured {time.strftime('%Y-%m-%d')} on {machine}, torch {torch.__version__}, {options.rounds} rounds of {options.updates} updates of 128 rows.\n")
    print("| | min | median | max |\n|---|---|---|---|")
    for name, numbers, form in (
        ("this package, ms per update", [1e3 * second for second in ours], ".1f"),
        ("plain, ms per update", [1e3 * second for second in theirs], ".1f"),
        ("times faster", [b / a for a, b in zip(ours, theirs, strict=True)], ".2f"),
        ("data, share of an update, replay in memory", data, ".1%"),
        ("the same, replay in memory-mapped files, as the learner node has it", filed, ".1%"),
    ):
        print(f"| {name} | {min(numbers):{form}} | {statistics.median(numbers):{form}} | {max(numbers):{form}} |")


def learner_with_episodes(checkpoint: Checkpoint, device: str, folder: Path | None) -> FilteredIql:
    """A learner whose actor learns, too."""
    learner = FilteredIql.create(replace(FilteredIqlConfig.from_yaml(), critic_updates=0, warmup_episodes=1), checkpoint, 0, device, folder=folder)
    env, actor = Environment(checkpoint.task, checkpoint.embodiment), Actor(checkpoint)
    for seed in range(EPISODES):
        learner.add_episode(run_episode(env, actor, seed))
    return learner


def seconds(act: Callable[[], object], times: int, device: str) -> float:
    """Of one call, mean over ``times``."""
    if device == "cuda":
        torch.cuda.synchronize()
    started = time.perf_counter()
    for _ in range(times):
        act()
    if device == "cuda":
        torch.cuda.synchronize()
    return (time.perf_counter() - started) / times


class Plain:
    """Filtered IQL, step by step."""

    def __init__(self, learner: FilteredIql) -> None:
        self.config, self.policy, self.device = learner.config, copy.deepcopy(learner.policy), learner.device
        for module in self.policy.modules():
            if isinstance(module, Linear):
                module.__class__ = nn.Linear
        config, width = learner.checkpoint.config, learner.checkpoint.config.critic_width
        self.horizon = slice(config.past_actions, config.past_actions + config.action_horizon)
        inputs = config.observation_dim + config.action_horizon * config.action_dim
        self.q = [mlp(inputs, width).to(self.device) for _ in range(2)]
        self.targets = copy.deepcopy(self.q)
        self.value = mlp(config.observation_dim, width).to(self.device)
        self.actor_tuner = EagerTuner(self.policy.head.parameters())
        self.q_tuner = EagerTuner([parameter for network in self.q for parameter in network.parameters()])
        self.value_tuner = EagerTuner(self.value.parameters())
        self.practice = row_by_row(learner.practice)
        self.shown = row_by_row(learner.demonstrations)
        self.generator = torch.Generator(device=self.device).manual_seed(0)
        self.variance = 1.0

    def update(self) -> None:
        """One."""
        shown = round(self.config.batch_size * self.config.demonstration_share)
        frames, chunks, returns, discounts, following, solved = self.batch(shown)
        observation = self.policy.observe(frames)
        joined = torch.cat([observation, chunks[:, self.horizon].flatten(1)], dim=1)
        with torch.no_grad():
            future = self.value(self.policy.observe(following)).squeeze(1).clamp(0.0, 1.0)
            believed = torch.minimum(self.targets[0](joined), self.targets[1](joined)).squeeze(1)
            target = returns + discounts * future
        loss = torch.stack([(network(joined).squeeze(1) - target).square().mean() for network in self.q]).sum()
        self.q_tuner.descend(loss)
        error = believed - self.value(observation).squeeze(1)
        weight = torch.where(error > 0, self.config.expectile, 1.0 - self.config.expectile)
        self.value_tuner.descend((weight * error.square()).mean())
        with torch.no_grad():
            for network, target_network in zip(self.q, self.targets, strict=True):
                for parameter, own in zip(network.parameters(), target_network.parameters(), strict=True):
                    own.mul_(1.0 - self.config.polyak).add_(parameter, alpha=self.config.polyak)
        self.variance += 0.01 * (float(error.detach().square().mean()) - self.variance)
        self.clone(observation, chunks, solved, error.detach(), shown)
        for _ in range(self.config.actor_updates - 1):
            frames, chunks, _, _, _, solved = self.batch(shown)
            observation = self.policy.observe(frames)
            joined = torch.cat([observation, chunks[:, self.horizon].flatten(1)], dim=1)
            with torch.no_grad():
                believed = torch.minimum(self.targets[0](joined), self.targets[1](joined)).squeeze(1)
                error = believed - self.value(observation).squeeze(1)
            self.clone(observation, chunks, solved, error, shown)

    def clone(self, observation: Tensor, chunks: Tensor, solved: Tensor, error: Tensor, shown: int) -> None:
        """One update of the actor."""
        counted = solved * (error > self.config.advantage_floor * self.variance**0.5)
        counted[len(counted) - shown :] = 1.0
        losses = self.policy.loss(observation, chunks, self.generator)
        self.actor_tuner.descend((counted * losses).mean() / counted.mean())

    def batch(self, shown: int) -> list[Tensor]:
        """Rows one by one."""
        practised = torch.randint(len(self.practice), (self.config.batch_size - shown,)).tolist()
        demonstrated = torch.randint(len(self.shown), (shown,)).tolist()
        rows = [self.practice[index] for index in practised] + [self.shown[index] for index in demonstrated]
        return [torch.stack(column) for column in zip(*rows, strict=True)]


def row_by_row(replay: ReplayBuffer) -> list[tuple[Tensor, ...]]:
    """The rows of a replay, each as a tuple of tensors."""
    rows = replay.rows(replay.positions())
    columns = [getattr(rows, name) for name in ("frames", "chunks", "returns", "discounts", "next_frames", "solved")]
    return list(zip(*(column.unbind() for column in columns), strict=True))


class EagerTuner:
    """The tuner's equations tensor by tensor, in the precision of the parameters."""

    def __init__(self, parameters: Iterable[nn.Parameter]) -> None:
        self.parameters = list(parameters)
        size = float(torch.cat([parameter.detach().flatten() for parameter in self.parameters]).square().mean().sqrt())
        self.own = [ReferenceRelativeMechanic(parameter.detach(), size) for parameter in self.parameters]
        for own, parameter in zip(self.own, self.parameters, strict=True):
            own.x_ref, own.x, own.y, own.D, own.second = (tensor.to(parameter.dtype) for tensor in (own.x_ref, own.x, own.y, own.D, own.second))

    def descend(self, loss: Tensor) -> None:
        """One step."""
        for parameter in self.parameters:
            parameter.grad = None
        loss.backward()
        with torch.no_grad():
            for own, parameter in zip(self.own, self.parameters, strict=True):
                parameter.copy_(own.step(parameter.grad))


def mlp(inputs: int, width: int) -> nn.Module:
    """As the critics are."""
    return nn.Sequential(nn.Linear(inputs, width), nn.LayerNorm(width), nn.SiLU(), nn.Linear(width, width), nn.LayerNorm(width), nn.SiLU(), nn.Linear(width, 1))


if __name__ == "__main__":
    main()

"""Consistency distillation: a diffusion policy that needs one network evaluation for a chunk (Song et al. 2023; Prasad et al., Consistency Policy, 2024).

A student of the teacher's architecture learns to name the end of the teacher's DDIM trajectory from any place on it. Its answers at two neighbouring
places must agree; at the last place the end is known, because one more step of the teacher arrives there. That is the boundary condition, and it holds
exactly: the student is never asked about the end itself.

The student is a policy like any other: its schedule has one step, at the noisiest place, and its network says the clean chunk.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace

import torch
from torch import Tensor

from mechanic_rl_ros.algorithms.configuration import read_section
from mechanic_rl_ros.algorithms.demonstrations import demonstration_buffer
from mechanic_rl_ros.errors import UserError
from mechanic_rl_ros.policy.checkpoint import Checkpoint
from mechanic_rl_ros.policy.denoiser import Denoiser
from mechanic_rl_ros.policy.policy import Policy
from mechanic_rl_ros.policy.schedule import Move, NoiseSchedule
from mechanic_rl_ros.replay.buffer import ReplayBuffer
from mechanic_rl_ros.tuner import RelativeMechanic
from mechanic_rl_ros.workers import one_thread

Progress = Callable[[int, int, float], None]


@dataclass(frozen=True)
class ConsistencyConfig:
    """How a policy is distilled. There is no learning rate: the tuner finds the step size.

    Attributes:
        updates: Updates of the student.
        batch: Noised chunks of one update.
    """

    updates: int = field(default=2000, metadata={"low": 1, "high": 1_000_000})
    batch: int = field(default=128, metadata={"low": 1, "high": 65_536})

    @classmethod
    def from_yaml(cls, path: str | os.PathLike[str] | None = None) -> ConsistencyConfig:
        """Reads section ``consistency`` of config/learner.yaml, or of the file given."""
        return read_section(cls, "consistency", path)


def distil(
    checkpoint: Checkpoint, config: ConsistencyConfig, seed: int = 0, device: torch.device | str = "cpu", progress: Progress | None = None
) -> Checkpoint:
    """Teaches a student to do in one step what the policy does in many, on the demonstrations of the checkpoint.

    Args:
        checkpoint: The teacher: a diffusion policy with demonstrations.
        config: Settings.
        seed: Seed of batches and noise.
        device: ``cpu`` or ``cuda``.
        progress: Called after each update with (updates done, updates, loss).

    Returns:
        A checkpoint of the student: encoders, normalisers, critics and demonstrations are the teacher's.

    Raises:
        UserError: The policy is no diffusion policy, needs one step already, or has no demonstrations.
    """
    policy = checkpoint.build_policy(device).requires_grad_(False)
    if not isinstance(policy.head, Denoiser):
        kind = "steered denoiser" if checkpoint.config.denoises else f"{checkpoint.config.head.kind} head, which denoises nothing"
        raise UserError(f"the policy has a {kind}: only plain denoisers can be distilled")
    if checkpoint.config.schedule.sampling_steps == 1:
        raise UserError("the policy acts with one network evaluation already: there is nothing to distil")
    buffer = demonstration_buffer(checkpoint, gamma=1.0, device=device)
    if not len(buffer):
        raise UserError("the checkpoint has no demonstrations to distil on: make one with `mechanic-rl pretrain`, or import it with --demonstrations")
    generator = torch.Generator(device=device).manual_seed(seed)
    student = Policy(replace(checkpoint.config, schedule=one_step(checkpoint.config.schedule))).to(device)
    student.load_state_dict(policy.state_dict())
    with one_thread():
        loss = _train(student, policy, buffer, config, generator, progress)
    made = {"from": checkpoint.signature, "made_by": asdict(config), "seed": seed, "loss": loss}
    state = {name: tensor.cpu() for name, tensor in student.state_dict().items()}
    return replace(checkpoint, config=student.config, policy=state, metadata={**checkpoint.metadata, "distilled": made})


def one_step(schedule: NoiseSchedule) -> NoiseSchedule:
    """The student's schedule: straight from the noisiest step to the clean chunk."""
    return replace(schedule, sampling_steps=1, prediction="sample", sampler="ddim", spacing="linspace", exploration=0.0)


class Pairs:
    """Neighbouring places on the teacher's DDIM trajectory, and what the student's answers at them have to be."""

    def __init__(self, teacher: Denoiser, student: Denoiser, device: torch.device | str) -> None:
        self.teacher, self.student = teacher, student
        self.schedule = replace(teacher.schedule, sampler="ddim", spacing="linspace")  # from where the student starts
        self.visited = torch.tensor(self.schedule.visited, device=device)
        self.moves = torch.tensor(self.schedule.moves, device=device)

    def loss(self, observation: Tensor, chunks: Tensor, generator: torch.Generator) -> Tensor:
        """Squared difference between answers at a random place and at the next one, equation 7 of Song et al. with their student as its own target.

        Args:
            observation: (B, observation_dim).
            chunks: (B, T_p, A), normalised.
            generator: Draws places and noise, on the device of ``chunks``.

        Returns:
            (B,).
        """
        places = torch.randint(len(self.visited), (len(chunks),), generator=generator, device=chunks.device)
        noise = torch.randn(chunks.shape, generator=generator, device=chunks.device)
        noisy = self.schedule.add_noise(chunks, noise, self.visited[places])
        answer = self.student(noisy, self.visited[places], observation)
        return (answer - self.target(noisy, places, observation)).square().mean(dim=(1, 2))

    @torch.no_grad()
    def target(self, noisy: Tensor, places: Tensor, observation: Tensor) -> Tensor:
        """The student's answer one step of the teacher later; at the last place, where that step arrives."""
        move = Move(*self.moves[places].T[..., None, None])
        later = self.schedule.advance(move, noisy, self.teacher(noisy, self.visited[places], observation))
        following = (places + 1).clamp_max(len(self.visited) - 1)
        schedule = self.student.schedule
        answer = schedule.advance(schedule.moves[0], later, self.student(later, self.visited[following], observation))
        return torch.where((places == len(self.visited) - 1)[:, None, None], later, answer)


def _train(student: Policy, policy: Policy, buffer: ReplayBuffer, config: ConsistencyConfig, generator: torch.Generator, progress: Progress | None) -> float:
    assert isinstance(policy.head, Denoiser)
    assert isinstance(student.head, Denoiser)
    pairs, tuner, smooth = Pairs(policy.head, student.head, buffer.device), RelativeMechanic(student.head.parameters()), 1.0
    for update in range(config.updates):
        rows = buffer.sample(config.batch, generator)
        loss = pairs.loss(policy.observe(rows.frames), policy.normalise(rows.chunks), generator).mean()
        tuner.zero_grad(set_to_none=True)
        loss.backward()
        tuner.step()
        smooth += 0.01 * (float(loss.detach()) - smooth)
        if progress is not None:
            progress(update + 1, config.updates, smooth)
    with torch.no_grad():
        torch._foreach_copy_(list(student.head.parameters()), tuner.averages())
    return smooth

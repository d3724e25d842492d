"""Behaviour cloning: from demonstrations to a base checkpoint.

First the encoder learns, together with a head, from randomly shifted images; then it is frozen, all frames are encoded once, and a fresh head learns on
the cached frames: the same form of input that online finetuning uses.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field

import torch
from torch import Tensor

from mechanic_rl_ros.algorithms.augment import coloured, shifted
from mechanic_rl_ros.algorithms.configuration import read_section
from mechanic_rl_ros.algorithms.demonstrations import clone_head, pack_demonstrations
from mechanic_rl_ros.data import Episode
from mechanic_rl_ros.errors import UserError
from mechanic_rl_ros.policy.checkpoint import Checkpoint
from mechanic_rl_ros.policy.config import PolicyConfig
from mechanic_rl_ros.policy.frames import encode_episode
from mechanic_rl_ros.policy.parts import build_head
from mechanic_rl_ros.policy.policy import Policy, image_batch
from mechanic_rl_ros.policy.resnet import ResnetEncoder
from mechanic_rl_ros.replay.buffer import ReplayBuffer
from mechanic_rl_ros.replay.episode_check import check_episode
from mechanic_rl_ros.tuner import RelativeMechanic
from mechanic_rl_ros.workers import one_thread

Progress = Callable[[int, int, float], None]


@dataclass(frozen=True)
class BehaviourCloningConfig:
    """How a base policy is cloned. There is no learning rate: the tuner finds the step size.

    Attributes:
        encoder_updates: Updates of encoder and head together.
        denoiser_updates: Updates of the head, a denoiser by default, on frozen features.
        encoder_batch: Observations per update of the first kind.
        noise_samples: Noised chunks per observation, in updates of the first kind: images are what costs there. Heads that draw nothing gain nothing.
        denoiser_batch: Observations per update of the second kind.
        shift: Random shift of the images, pixels, in updates of the first kind.
        colour: Random change of brightness, contrast and colours, up to this share, in updates of the first kind.
    """

    encoder_updates: int = field(default=600, metadata={"low": 1, "high": 1_000_000})
    denoiser_updates: int = field(default=2000, metadata={"low": 1, "high": 1_000_000})
    encoder_batch: int = field(default=48, metadata={"low": 1, "high": 65_536})
    noise_samples: int = field(default=4, metadata={"low": 1, "high": 1024})
    denoiser_batch: int = field(default=128, metadata={"low": 1, "high": 65_536})
    shift: int = field(default=1, metadata={"low": 0, "high": 16})
    colour: float = field(default=0.0, metadata={"low": 0.0, "high": 0.9})

    @classmethod
    def from_yaml(cls, path: str | os.PathLike[str] | None = None) -> BehaviourCloningConfig:
        """Reads section ``behaviour_cloning`` of config/learner.yaml, or of the file given."""
        return read_section(cls, "behaviour_cloning", path)


def clone(
    episodes: Sequence[Episode],
    config: BehaviourCloningConfig,
    seed: int = 0,
    device: torch.device | str = "cpu",
    progress: Progress | None = None,
    architecture: PolicyConfig | None = None,
    pretrained: str | os.PathLike[str] | None = None,
) -> Checkpoint:
    """Trains a policy on demonstrations.

    Args:
        episodes: Demonstrations of one task and embodiment; only solved ones are used.
        config: Settings.
        seed: Seed of initial weights, batches and noise.
        device: ``cpu`` or ``cuda``.
        progress: Called after each update with (updates done, updates, loss).
        architecture: Of the policy; the embedded default when left out.
        pretrained: Safetensors file with weights of torchvision for the ResNets to start from.

    Returns:
        A base checkpoint, version 0, demonstrations included.

    Raises:
        UserError: No solved demonstration, demonstrations of different tasks or embodiments, pretrained weights that do not fit, or a policy that sees
            another number of frames than two.
    """
    solved = [episode for episode in episodes if episode.success and episode.steps > 0]
    if not solved:
        raise UserError("there is no solved demonstration to learn from: collect some with `mechanic-rl collect`")
    for episode in solved:
        check_episode(episode)
        solved[0].embodiment.require_same(episode.embodiment, f"demonstration {episode.id}")
        if episode.task != solved[0].task:
            raise UserError(f"demonstration {episode.id} is of task {episode.task}, others of {solved[0].task}: use those of one task")
    if architecture is not None and architecture.observation_horizon != 2:
        raise UserError(f"the policy sees {architecture.observation_horizon} frames: cloning is made for 2, set observation_horizon to 2")
    torch.manual_seed(seed)
    generator = torch.Generator(device=device).manual_seed(seed)
    policy = Policy(architecture or PolicyConfig.for_embodiment(solved[0].embodiment)).to(device)
    if pretrained is not None:
        _load_pretrained(policy, pretrained)
    total = config.encoder_updates + config.denoiser_updates

    def report(done: int, loss: float) -> None:
        if progress is not None:
            progress(done, total, loss)

    with one_thread():
        _train_encoder(policy, solved, config, generator, report)
        policy.eval()
        frames = [encode_episode(policy, episode, device) for episode in solved]
        policy.set_statistics(torch.cat(frames))
        loss = _train_denoiser(policy, solved, frames, config, generator, report)
    metadata = {"prefers_best_of_n": False, "made_by": asdict(config), "seed": seed, "demonstrations": len(solved), "loss": loss}
    state = {name: tensor.cpu() for name, tensor in policy.state_dict().items()}
    return Checkpoint(solved[0].task, solved[0].embodiment, policy.config, state, None, pack_demonstrations(solved, frames), 0, metadata)


def _load_pretrained(policy: Policy, path: str | os.PathLike[str]) -> None:
    encoders = [encoder for encoder in policy.encoders.values() if isinstance(encoder, ResnetEncoder)]
    if not encoders:
        raise UserError("the policy has no ResNet that pretrained weights could go into: choose encoder kind resnet with --policy")
    for encoder in encoders:
        encoder.load_pretrained(path)


def _train_encoder(
    policy: Policy, episodes: list[Episode], config: BehaviourCloningConfig, generator: torch.Generator, report: Callable[[int, float], None]
) -> None:
    device = policy.frame_mean.device
    images = {key: torch.cat([image_batch(episode.images[key], device) for episode in episodes]) for key in policy.config.cameras}
    states = torch.cat([torch.from_numpy(episode.states) for episode in episodes]).to(device)
    # Spatial-softmax coordinates are of order one already; states are not.
    policy.frame_mean[policy.config.feature_dim :] = states.mean(0)
    policy.frame_deviation[policy.config.feature_dim :] = states.std(0).clamp_min(1e-3)
    policy.frame_deviation[: policy.config.feature_dim] = 0.3
    now, before, chunks = (tensor.to(device) for tensor in _pairs(episodes, policy.config))
    tuner = RelativeMechanic([*policy.encoders.parameters(), *policy.head.parameters()])
    for update in range(config.encoder_updates):
        rows = torch.randint(len(now), (config.encoder_batch,), generator=generator, device=device)
        seen = torch.cat([before[rows], now[rows]])
        views = {key: coloured(shifted(pictures[seen], config.shift, generator), config.colour, generator) for key, pictures in images.items()}
        frames = torch.cat([policy.encode(views), states[seen]], dim=-1)
        observation = policy.observe(torch.stack(frames.chunk(2), dim=1)).repeat(config.noise_samples, 1)
        loss = policy.loss(observation, chunks[rows].repeat(config.noise_samples, 1, 1), generator).mean()
        report(update + 1, _descend(loss, tuner))
    with torch.no_grad():
        torch._foreach_copy_([*policy.encoders.parameters(), *policy.head.parameters()], tuner.averages())


def _train_denoiser(
    policy: Policy,
    episodes: list[Episode],
    frames: list[Tensor],
    config: BehaviourCloningConfig,
    generator: torch.Generator,
    report: Callable[[int, float], None],
) -> float:
    device = policy.frame_mean.device
    buffer = ReplayBuffer(policy.config, sum(len(item) for item in frames), gamma=1.0, device=device)
    for episode, encoded in zip(episodes, frames, strict=True):
        buffer.add(encoded, torch.from_numpy(episode.actions).to(device), torch.from_numpy(episode.rewards).to(device), solved=True, terminal=True)
    policy.head = build_head(policy.config).to(device)
    return clone_head(policy, buffer, config.denoiser_updates, config.denoiser_batch, generator, lambda done, loss: report(config.encoder_updates + done, loss))


def _pairs(episodes: list[Episode], config: PolicyConfig) -> tuple[Tensor, Tensor, Tensor]:
    # Of every step: index of its frame, index of the frame before it, chunk (T_p, A) of actions around it.
    now, before, chunks, offset = [], [], [], 0
    for episode in episodes:
        steps = torch.arange(episode.steps)
        now.append(offset + steps)
        before.append(offset + (steps - 1).clamp_min(0))
        following = (steps[:, None] - config.past_actions + torch.arange(config.prediction_horizon)).clamp(0, episode.steps - 1)
        chunks.append(torch.from_numpy(episode.actions)[following])
        offset += episode.steps + 1
    return torch.cat(now), torch.cat(before), torch.cat(chunks)


def _descend(loss: Tensor, tuner: RelativeMechanic) -> float:
    tuner.zero_grad(set_to_none=True)
    loss.backward()
    tuner.step()
    return float(loss.detach())

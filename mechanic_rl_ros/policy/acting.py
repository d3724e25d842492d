"""Acting with a policy: one frame in, one action chunk out, weights swapped in place."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mechanic_rl_ros.data import NO_TRACE, Observation
from mechanic_rl_ros.policy.chain import draw_chain, pack_chain
from mechanic_rl_ros.policy.checkpoint import PRACTICE_NOISE, Checkpoint
from mechanic_rl_ros.policy.compiled import compile_denoiser
from mechanic_rl_ros.policy.critic import TwinQ
from mechanic_rl_ros.policy.denoiser import Denoiser
from mechanic_rl_ros.policy.deterministic import disturbed
from mechanic_rl_ros.policy.policy import Policy, image_batch
from mechanic_rl_ros.policy.tensors import Shapes, check_tensors, shapes_of
from mechanic_rl_ros.policy.unet import keep_convolutions_in, pack_convolutions
from mechanic_rl_ros.policy.weights import WeightsError


class Actor:
    """A policy that acts, on its own or best-of-N: N chunks are drawn and the critics' favourite is played.

    The encoder never changes while a policy practises, so weights carry the head and the two Q functions only; a fingerprint ties them to the
    encoder that they were trained with.

    Attributes:
        version: Version of the weights that act.
        prefers_best_of_n: What the learner's gate decided for these weights.
        signature: Signature of the architecture, for ``unpack_weights``.
        trace: How the last chunk was drawn, float32 (``trace_size``,), for learners that need its probability; else empty.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        device: torch.device | str = "cpu",
        seed: int = 0,
        samples: int = 8,
        explore: bool = False,
        precision: str = "float32",
        compiled: bool = False,
    ) -> None:
        """Builds the networks.

        Args:
            checkpoint: Weights to start with.
            device: Where to compute.
            seed: Seed of the sampling noise.
            samples: N of best-of-N.
            explore: Whether the robot practises, see ``Head.sample``; not where a policy is judged.
            precision: Of the weights of a U-Net's convolutions, ``float32`` or ``bfloat16``.
            compiled: Let torch compile the denoiser, see ``compile_denoiser``.

        Raises:
            UserError: Another precision, or the policy has no U-Net; or torch cannot compile it.
        """
        self.config, self.signature, self.samples, self.explore = checkpoint.config, checkpoint.signature, samples, explore
        self.embodiment = checkpoint.embodiment
        self.device = torch.device(device)
        self.policy: Policy = checkpoint.build_policy(self.device).requires_grad_(False)
        keep_convolutions_in(self.policy.head, precision)
        self._compiled = compiled
        if compiled:
            compile_denoiser(self.policy.head, self.config, samples)
        self.fingerprint = self.policy.fingerprint()
        self.critic = TwinQ(self.config).to(self.device).requires_grad_(False)
        self.has_critic = checkpoint.critics is not None
        if checkpoint.critics is not None:
            self.critic.load_state_dict({name.removeprefix("q."): tensor for name, tensor in checkpoint.critics.items() if name.startswith("q.")})
        self.version = checkpoint.version
        self.prefers_best_of_n = bool(checkpoint.metadata.get("prefers_best_of_n", False)) and self.has_critic
        self.trace: NDArray[np.float32] = NO_TRACE
        self._noise = float(checkpoint.metadata.get(PRACTICE_NOISE, 0.0))
        self._generator = torch.Generator(device=self.device)
        self._window: deque[Observation | Tensor] = deque(maxlen=self.config.observation_horizon)  # a frame once it is encoded
        self._stamp_ns = 0  # of the newest observation
        self._previous: tuple[Tensor, int] | None = None  # chunk (T_p, A), and the stamp of its observation
        self.reset(seed)

    @property
    def shapes(self) -> Shapes:
        """Names and shapes of all tensors that ``load`` accepts."""
        return weight_shapes(self.policy, self.critic)

    def reset(self, seed: int | None = None) -> None:
        """Forgets what was seen and done, at the start of an episode. A seed makes the episode's noise reproducible."""
        self.prepare()
        self._window.clear()
        self._previous = None
        if seed is not None:
            self._generator.manual_seed(seed)

    def prepare(self) -> None:
        """Takes the time, between two episodes, to lay out large weights that are new as they are read fastest. They act without it, more slowly."""
        if not self._compiled:
            pack_convolutions(self.policy.head)

    def observe(self, observation: Observation) -> None:
        """Takes the next observation. It is encoded when a chunk needs it, once, or before."""
        self._window.append(observation)
        self._stamp_ns = observation.stamp_ns

    @torch.inference_mode()
    def encode(self) -> None:
        """Encodes what was observed. Who has time before the last observation of a window comes spares it the chunk."""
        fresh = [item for item in self._window if isinstance(item, Observation)]
        encoded = iter(encode_observations(self.policy, fresh, self.device) if fresh else ())
        frames = [next(encoded) if isinstance(item, Observation) else item for item in self._window]
        self._window.clear()
        self._window.extend(frames)

    @torch.inference_mode()
    def act(self, best_of_n: bool = False, delay: int | None = None) -> NDArray[np.float32]:
        """The next chunk, for the newest observation.

        Args:
            best_of_n: Let the critics choose among ``samples`` chunks. Without critics there is nothing to choose by: the policy then acts plainly.
            delay: Continue the previous chunk, of which so many actions will be played before this one takes effect (``policy.inpainting``). None: a
                chunk that does not know the previous one.

        Returns:
            float32 (T_p - past_actions, A) in [-1, 1]; the first action is for now.

        Raises:
            RuntimeError: Nothing was observed since ``reset``.
            UserError: There is a delay, and the head cannot inpaint.
        """
        observation = self.policy.observe(self._stacked_frames())
        choosing = best_of_n and self.has_critic
        chunks = self._draw(observation, self.samples if choosing else 1, delay)
        chunk = chunks[self.critic(observation, chunks).amin(0).argmax()] if choosing else chunks[0]
        self._previous = chunk, self._stamp_ns
        if self.explore and self._noise:
            chunk = disturbed(chunk[None], self._noise, self._generator)[0]
        actions = chunk[self.config.past_actions :]
        if len(actions) == self.config.action_horizon:  # so that something plays until the next chunk is there
            actions = torch.cat([actions, actions[-1:]])
        return actions.cpu().numpy()

    def _draw(self, observation: Tensor, samples: int, delay: int | None) -> Tensor:
        if self.explore and self.config.schedule.exploration and isinstance(self.policy.head, Denoiser):
            chain = draw_chain(self.policy.head, observation, self._generator)
            self.trace = pack_chain(chain)[0].cpu().numpy()
            return self.policy.denormalise(chain.samples[:, -1])
        if delay is not None and self._previous is not None:
            previous, stamp_ns = self._previous
            elapsed = round((self._stamp_ns - stamp_ns) / self.embodiment.period_ns)
            if elapsed >= 0:  # else the clock went back
                return self.policy.resume(observation, samples, self._generator, previous, elapsed, delay, self.explore)
        return self.policy.sample(observation, samples, self._generator, self.explore)

    def load(self, tensors: Mapping[str, Tensor], version: int, metadata: Mapping[str, Any]) -> None:
        """Swaps the weights in place.

        Args:
            tensors: Of ``unpack_weights``: ``head.*``, and ``critic.*`` from a learner whose critics may choose.
            version: Their version.
            metadata: Of ``unpack_weights``: ``encoder`` (fingerprint of the encoder that they were trained with) and, false when left out, ``prefers_best_of_n``.

        Raises:
            WeightsError: A tensor is missing, misshapen, not finite, or they do not say that they were trained with this encoder. The old weights stay.
        """
        critic = self.critic if any(name.startswith("critic.") for name in tensors) else None
        check_tensors(tensors, weight_shapes(self.policy, critic), f"weights version {version}", WeightsError)
        if metadata.get("encoder") != self.fingerprint:
            raise WeightsError(f"weights version {version} were trained with another encoder: start learner and policy from the same checkpoint")
        for name, target in acting_tensors(self.policy, critic).items():
            target.copy_(tensors[name])
        self.has_critic, self.version = critic is not None, version
        self.prefers_best_of_n = bool(metadata.get("prefers_best_of_n", False)) and self.has_critic

    def _stacked_frames(self) -> Tensor:
        if not self._window:
            raise RuntimeError("act() needs at least one observation since reset()")
        self.encode()
        frames = [frame for frame in self._window if isinstance(frame, Tensor)]
        return torch.stack([frames[0]] * (self.config.observation_horizon - len(frames)) + frames)[None]


def acting_tensors(policy: Policy, critic: TwinQ | None) -> dict[str, Tensor]:
    """What weights messages carry: the head, and the two Q functions where they may choose."""
    head, twins = policy.head.state_dict(), {} if critic is None else critic.state_dict()
    return {**{f"head.{name}": tensor for name, tensor in head.items()}, **{f"critic.{name}": tensor for name, tensor in twins.items()}}


def weight_shapes(policy: Policy, critic: TwinQ | None) -> Shapes:
    """Names and shapes of ``acting_tensors``."""
    return shapes_of(acting_tensors(policy, critic))


def encode_observations(policy: Policy, observations: list[Observation], device: torch.device) -> Tensor:
    """Frames (B, frame_dim) of B observations."""
    images = {key: image_batch(np.stack([observation.images[key] for observation in observations]), device) for key in policy.config.cameras}
    states = torch.from_numpy(np.stack([observation.state for observation in observations])).to(device)
    return torch.cat([policy.encode(images), states], dim=-1)

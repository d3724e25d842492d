"""Sizes of the networks, derived from the embodiment, and the signature that two parties compare."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, fields
from typing import Any

from mechanic_rl_ros.embodiment import Embodiment
from mechanic_rl_ros.errors import UserError


@dataclass(frozen=True)
class PolicyConfig:
    """Architecture of policy and critics. Two configurations with the same signature have the same tensors.

    Attributes:
        cameras: Camera keys in the order in which their features are concatenated.
        state_dim: Length of the proprioceptive state.
        action_dim: Length of one action.
        observation_horizon: Frames that the policy sees (T_o).
        prediction_horizon: Actions that it predicts (T_p).
        action_horizon: Actions that are executed before the next prediction (T_a), and that the critics judge.
        keypoints: Channels of the spatial softmax; every camera gives 2 x keypoints features per frame.
        width: Hidden width of the denoiser.
        depth: Residual blocks of the denoiser.
        condition: Width of the vector that modulates every block (FiLM).
        diffusion_steps: Length of the noise schedule (K).
        sampling_steps: DDIM steps at inference.
        critic_width: Hidden width of Q and V.
    """

    cameras: tuple[str, ...]
    state_dim: int
    action_dim: int
    observation_horizon: int = 2
    prediction_horizon: int = 8
    action_horizon: int = 4
    keypoints: int = 32
    width: int = 224
    depth: int = 3
    condition: int = 128
    diffusion_steps: int = 50
    sampling_steps: int = 5
    critic_width: int = 256

    @property
    def feature_dim(self) -> int:
        """Visual features of one frame, all cameras together."""
        return 2 * self.keypoints * len(self.cameras)

    @property
    def frame_dim(self) -> int:
        """Visual features and state of one frame."""
        return self.feature_dim + self.state_dim

    @property
    def observation_dim(self) -> int:
        """All frames that the policy sees, flattened."""
        return self.observation_horizon * self.frame_dim

    @classmethod
    def for_embodiment(cls, embodiment: Embodiment, **sizes: int) -> PolicyConfig:
        """The default architecture for a robot; ``sizes`` overrides single fields."""
        return cls(cameras=tuple(sorted(embodiment.cameras)), state_dim=len(embodiment.state), action_dim=len(embodiment.action), **sizes)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> PolicyConfig:
        """Reads what ``to_dict`` wrote.

        Raises:
            UserError: A field is missing, unknown, or not a size.
        """
        names = {item.name for item in fields(cls)}
        if not isinstance(data, dict) or data.keys() != names:
            raise UserError("policy description has missing or unknown fields: the checkpoint was written by another version of this package")
        sizes = {key: value for key, value in data.items() if key != "cameras"}
        if not all(isinstance(value, int) and 0 < value <= 4096 for value in sizes.values()) or not all(isinstance(key, str) for key in data["cameras"]):
            raise UserError("policy description holds a size outside 1 ... 4096: the checkpoint is damaged")
        return cls(cameras=tuple(data["cameras"]), **sizes)

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {**asdict(self), "cameras": list(self.cameras)}


def signature(config: PolicyConfig) -> str:
    """Sixteen hexadecimal digits that are equal only for equal architectures."""
    return hashlib.sha256(json.dumps(config.to_dict(), sort_keys=True).encode()).hexdigest()[:16]

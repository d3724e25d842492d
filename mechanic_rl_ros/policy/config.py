"""Architecture of a policy, part by part, and the signature that two parties compare."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from mechanic_rl_ros.embodiment import Embodiment
from mechanic_rl_ros.errors import UserError
from mechanic_rl_ros.policy.part_config import (
    GROUPS,
    LAST_GROUPS,
    PARTS,
    ConvEncoderConfig,
    DenoiserConfig,
    EncoderConfig,
    HeadConfig,
    MlpDenoiserConfig,
    ResnetEncoderConfig,
    TransformerDenoiserConfig,
    UnetDenoiserConfig,
)
from mechanic_rl_ros.policy.schedule import CHOICES, NoiseSchedule

HINT = "compare with config/policy, or get a fresh copy of the checkpoint"


@dataclass(frozen=True)
class PolicyConfig:
    """Architecture of policy and critics. Two configurations with the same signature have the same tensors and mean the same by them.

    Attributes:
        cameras: Camera keys in the order in which their features are concatenated.
        state_dim: Length of the proprioceptive state.
        action_dim: Length of one action.
        observation_horizon: Frames that the policy sees (T_o).
        prediction_horizon: Actions that it predicts (T_p).
        action_horizon: Actions that are executed before the next prediction (T_a), and that the critics judge.
        past_actions: First predicted actions, which belong to frames before the newest one and are never executed: T_o - 1 in many existing policies.
        encoder: From an image to features.
        head: From an observation to chunks.
        schedule: Noise, in training and in acting. Where the head is no denoiser it means nothing, and descriptions have null in its place.
        clip: Standard deviations at which a normalised observation is cut off; 0: nowhere.
        critic_width: Hidden width of Q and V.
        steering: Hidden width of an actor that chooses the noise which a denoiser starts from (``policy/steered.py``); 0: any noise.
    """

    cameras: tuple[str, ...]
    state_dim: int
    action_dim: int
    observation_horizon: int = 2
    prediction_horizon: int = 8
    action_horizon: int = 4
    past_actions: int = 0
    encoder: EncoderConfig = field(default_factory=ConvEncoderConfig)
    head: HeadConfig = field(default_factory=MlpDenoiserConfig)
    schedule: NoiseSchedule = field(default_factory=NoiseSchedule)
    clip: int = 5
    critic_width: int = 256
    steering: int = 0

    @property
    def feature_dim(self) -> int:
        """Visual features of one frame, all cameras together."""
        return self.encoder.features * len(self.cameras)

    @property
    def frame_dim(self) -> int:
        """Visual features and state of one frame."""
        return self.feature_dim + self.state_dim

    @property
    def observation_dim(self) -> int:
        """All frames that the policy sees, flattened."""
        return self.observation_horizon * self.frame_dim

    @property
    def denoises(self) -> bool:
        """Whether the head is a denoiser, so that the schedule means something."""
        return isinstance(self.head, DenoiserConfig)

    @classmethod
    def for_embodiment(cls, embodiment: Embodiment, **changes: Any) -> PolicyConfig:
        """The default architecture for a robot; ``changes`` overrides single fields."""
        return cls(cameras=tuple(sorted(embodiment.cameras)), state_dim=len(embodiment.state), action_dim=len(embodiment.action), **changes)

    @classmethod
    def from_dict(cls, data: dict[str, Any], what: str = "policy description") -> PolicyConfig:
        """Reads what ``to_dict`` wrote.

        Raises:
            UserError: A field of ``what`` is missing, unknown, or out of range.
        """
        _require_fields(data, cls, what)
        cameras = data["cameras"]
        if not isinstance(cameras, list) or not cameras or not all(isinstance(key, str) for key in cameras):
            raise UserError(f"{what}: cameras must be names: {HINT}")
        parts = {name: _part(kinds, data[name], f"{what}, {name}") for name, kinds in PARTS.items()}
        sizes = {name: value for name, value in data.items() if name not in ("cameras", "schedule", *parts)}
        _check_values(cls, sizes, what, lowest={"clip": 0, "state_dim": 0, "past_actions": 0, "steering": 0})
        schedule = NoiseSchedule() if data["schedule"] is None else _schedule(data["schedule"], f"{what}, schedule")
        config = cls(cameras=tuple(cameras), schedule=schedule, **parts, **sizes)
        if config.denoises == (data["schedule"] is None):
            raise UserError(f"{what}: a {config.head.kind} head {'needs a schedule' if config.denoises else 'has no schedule, set it to null'}: {HINT}")
        for reason, bad in _contradictions(config).items():
            if bad:
                raise UserError(f"{what}: {reason}: {HINT}")
        return config

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        data = {**asdict(self), "cameras": list(self.cameras), **{name: part_to_dict(getattr(self, name)) for name in PARTS}}
        return data if self.denoises else {**data, "schedule": None}


def signature(config: PolicyConfig) -> str:
    """Sixteen hexadecimal digits that are equal only for equal architectures."""
    return hashlib.sha256(json.dumps(config.to_dict(), sort_keys=True).encode()).hexdigest()[:16]


def _contradictions(config: PolicyConfig) -> dict[str, bool]:
    encoder, head = config.encoder, config.head
    beyond = config.past_actions >= config.observation_horizon or config.past_actions + config.action_horizon > config.prediction_horizon
    found = {"more actions are executed than predicted": beyond}
    found[f"a {head.kind} head has no noise to steer"] = config.steering > 0 and not config.denoises
    if isinstance(encoder, ResnetEncoderConfig):
        found["a crop needs height and width, or neither"] = (encoder.crop[0] == 0) != (encoder.crop[1] == 0)
        found["there are ResNets of 18 and 34 layers, with groups that divide 64 channels"] = encoder.layers not in (18, 34) or encoder.group not in GROUPS
    if isinstance(head, UnetDenoiserConfig):
        halvings = 2 ** (len(head.widths) - 1)
        found[f"{config.prediction_horizon} actions cannot be halved {len(head.widths) - 1} times"] = config.prediction_horizon % halvings != 0
        odd = any(width % head.groups for width in head.widths) or head.widths[0] % LAST_GROUPS != 0
        found[f"widths of the U-Net are no multiples of its groups (of {LAST_GROUPS}, the first)"] = odd
        found["the U-Net needs an odd kernel and an even step_width above 2"] = head.kernel % 2 == 0 or head.step_width % 2 == 1 or head.step_width < 4
    if isinstance(head, TransformerDenoiserConfig):
        found["width of the transformer is no even multiple of its heads"] = head.width % head.heads != 0 or head.width % 2 == 1 or head.width < 4
    return found


def part_to_dict(part: Any) -> dict[str, Any]:
    """An encoder or a head as plain data, its kind first."""
    return {"kind": part.kind, **{name: list(value) if isinstance(value, tuple) else value for name, value in asdict(part).items()}}


def _require_fields(data: Any, kind: Any, what: str) -> None:
    if not isinstance(data, dict) or data.keys() != {item.name for item in fields(kind)}:
        raise UserError(f"{what} has missing or unknown fields: {HINT}")


def _part(kinds: dict[str, Any], data: Any, what: str) -> Any:
    kind = kinds.get(str(data.get("kind"))) if isinstance(data, dict) else None
    if kind is None:
        raise UserError(f"{what} is of unknown kind: use {', '.join(kinds)}")
    values = {key: tuple(value) if isinstance(value, list) else value for key, value in data.items() if key != "kind"}
    _require_fields(values, kind, what)
    lowest = {"group": 0, "crop": 0, **({"keypoints": 0} if kind is ResnetEncoderConfig else {})}
    _check_values(kind, values, what, lowest)
    return kind(**values)


def _check_values(kind: Any, values: dict[str, Any], what: str, lowest: dict[str, int]) -> None:
    """Refuses whatever is not of the type and length of the default of ``kind``, or out of range. ``widths`` may be as many as one likes, but not none."""
    defaults: dict[str, Any] = {item.name: item.default for item in fields(kind)}
    for name, value in values.items():
        if isinstance(defaults[name], bool):
            sound = isinstance(value, bool)
        elif isinstance(defaults[name], float):
            sound = type(value) is float and 0.0 <= value <= 1.0
        elif isinstance(defaults[name], tuple):
            sound = isinstance(value, tuple) and (len(value) > 0 if name == "widths" else len(value) == len(defaults[name]))
            sound = sound and all(_is_size(number, lowest.get(name, 1)) for number in value)
        else:
            sound = _is_size(value, lowest.get(name, 1))
        if not sound:
            raise UserError(f"{what}: {name} is {value!r}, which cannot be: {HINT}")


def _is_size(value: Any, lowest: int) -> bool:
    return type(value) is int and lowest <= value <= 4096


def _schedule(data: Any, what: str) -> NoiseSchedule:
    _require_fields(data, NoiseSchedule, what)
    for name, choices in CHOICES.items():
        if data[name] not in choices:
            raise UserError(f"{what}: {name} {data[name]!r} is unknown: use {', '.join(choices)}")
    _check_values(NoiseSchedule, {name: data[name] for name in ("steps", "sampling_steps")}, what, lowest={})
    exploration = data["exploration"]
    if not isinstance(exploration, int | float) or isinstance(exploration, bool) or not 0.0 <= exploration <= 1.0:
        raise UserError(f"{what}: exploration is {exploration!r}, not between 0 and 1: {HINT}")
    if data["sampling_steps"] > data["steps"]:
        raise UserError(f"{what}: more sampling steps than diffusion steps: {HINT}")
    return NoiseSchedule(**data)

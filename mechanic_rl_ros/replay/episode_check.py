"""What an episode must be like before it is written or believed."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mechanic_rl_ros.data import Episode, Source
from mechanic_rl_ros.errors import UserError

MAX_STEPS = 10_000
"""Steps; at 10 Hz that is a quarter of an hour."""

ACTION_TOLERANCE = 1e-3
"""By which a normalised action may exceed 1."""

SAFE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


class EpisodeError(UserError):
    """An episode is malformed, or a file holds none."""


def check_episode(episode: Episode) -> None:
    """Checks names, lengths, shapes, kinds, ranges, order in time and finiteness against the episode's own embodiment.

    Raises:
        EpisodeError: The first thing that is wrong, as one line.
    """
    fault = _name_fault(episode) or _shape_fault(episode) or _value_fault(episode)
    if fault:
        raise EpisodeError(f"episode {episode.id[:64]!r} is malformed: {fault}")


def _name_fault(episode: Episode) -> str:
    if not SAFE_NAME.fullmatch(episode.id):
        return "its id is not usable as a file name (letters, digits, '.', '_', '-')"
    if not SAFE_NAME.fullmatch(episode.task):
        return "its task name has other characters than letters, digits, '.', '_', '-'"
    if not 0 < episode.steps <= MAX_STEPS:
        return f"{episode.steps} steps are not between 1 and {MAX_STEPS}"
    return ""


def _shape_fault(episode: Episode) -> str:
    steps, body = episode.steps, episode.embodiment
    expected: dict[str, tuple[NDArray[Any], Any, tuple[int, ...]]] = {
        "stamps_ns": (episode.stamps_ns, np.int64, (steps + 1,)),
        "states": (episode.states, np.float32, (steps + 1, len(body.state))),
        "actions": (episode.actions, np.float32, (steps, len(body.action))),
        "rewards": (episode.rewards, np.float32, (steps,)),
        "policy_versions": (episode.policy_versions, np.int64, (steps,)),
        "sources": (episode.sources, np.uint8, (steps,)),
    }
    if episode.images.keys() != body.cameras.keys():
        return f"it has cameras {sorted(episode.images)}, the embodiment has {sorted(body.cameras)}"
    for key, camera in body.cameras.items():
        expected[f"images[{key!r}]"] = (episode.images[key], np.uint8, (steps + 1, camera.height, camera.width, 3))
    if episode.traces.size:
        expected["traces"] = (episode.traces, np.float32, (steps, episode.traces.shape[-1]))
    for name, (array, kind, shape) in expected.items():
        if array.dtype != kind or array.shape != shape:
            return f"{name} is {array.dtype} {array.shape}, not {np.dtype(kind)} {shape}"
    return ""


def _value_fault(episode: Episode) -> str:
    for name in ("states", "actions", "rewards"):
        if not np.isfinite(getattr(episode, name)).all():
            return f"{name} are not all finite"
    told = ~np.isnan(episode.traces).all(axis=1) if episode.traces.size else np.zeros(0, bool)
    if not np.isfinite(episode.traces[told]).all():
        return "a trace is not finite"
    if np.abs(episode.actions).max() > 1 + ACTION_TOLERANCE:
        return "actions are not normalised to [-1, 1]"
    if (np.diff(episode.stamps_ns) <= 0).any() or episode.stamps_ns[0] < 0:
        return "stamps do not rise"
    if (episode.policy_versions < 0).any():
        return "a policy version is negative"
    if (episode.sources > max(Source)).any():
        return f"a source is above {int(max(Source))}"
    return ""

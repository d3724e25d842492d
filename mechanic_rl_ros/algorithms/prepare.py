"""The policy that practice starts with, made once per run."""

from __future__ import annotations

from pathlib import Path

from mechanic_rl_ros.algorithms.registry import learner_of
from mechanic_rl_ros.policy.checkpoint import Checkpoint
from mechanic_rl_ros.policy.folder import existing_folder

START = "start"


def start_of_practice(algorithm: str, checkpoint: Path, run: Path, seed: int) -> Path:
    """Folder of the policy that all nodes of a run begin with.

    Args:
        algorithm: Name of the learner.
        checkpoint: The policy to improve.
        run: Folder of the run, with the configuration that is in use. What has to be made lies in ``start`` there.
        seed: Of what has to be made.

    Returns:
        ``checkpoint`` itself where the learner needs no other architecture.

    Raises:
        UserError: The learner is unknown, its settings are wrong, or it cannot start from this policy.
    """
    place = run / START
    if existing_folder(place).exists():
        return place
    kind, base = learner_of(algorithm), Checkpoint.load(checkpoint)
    prepared = kind.prepare(kind.Config.from_yaml(run / "config" / "learner.yaml"), base, seed)
    if prepared is base:
        return checkpoint
    prepared.save(place)
    return place

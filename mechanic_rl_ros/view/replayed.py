"""A recorded episode as a person would have seen it: postures, plans and the scene, found again from what the file holds."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mechanic_rl_ros.data import ActionChunk, Episode, Observation
from mechanic_rl_ros.embodiment import Embodiment
from mechanic_rl_ros.errors import UserError
from mechanic_rl_ros.safety.kinematics import DOWNWARD, Kinematics

if TYPE_CHECKING:
    from mechanic_rl_ros.policy.checkpoint import Checkpoint
    from mechanic_rl_ros.sim.tasks import TaskReading

AHEAD = 8  # recorded actions that are drawn as one plan
DIFFERENT, FEW = 40, 0.002  # grey levels between two pixels that differ, and share of those in two images of the same scene
_STEPS, _DAMPING = 60, 1e-3  # of the inverse kinematics


def tool_path(episode: Episode) -> NDArray[np.float64]:
    """Positions (T + 1, 3) of the tool centre point, m in the base frame.

    Raises:
        UserError: The recorded state does not tell them.
    """
    names = [channel.name for channel in episode.embodiment.state]
    if not {"tcp_x", "tcp_y", "tcp_z"} <= set(names):
        raise UserError(f"episode {episode.id} has the state channels {', '.join(names)}: a view needs tcp_x, tcp_y and tcp_z")
    return episode.states[:, [names.index(f"tcp_{axis}") for axis in "xyz"]].astype(np.float64)


def postures(embodiment: Embodiment, tool: NDArray[np.float64]) -> NDArray[np.float64]:
    """Joint positions (N, 7), rad, that put the tool at ``tool`` (N, 3), m, with the hand pointing down, found one from the other, from home on.

    An episode holds the tool's way, not the joints': the elbow may have been elsewhere.
    """
    kinematics, q, found = Kinematics(embodiment), np.array(embodiment.joints.home), []
    for position in tool:
        for _ in range(_STEPS):
            here, rotation, jacobian = kinematics.pose_and_jacobian(q)
            turn = DOWNWARD @ rotation.T
            tilt = 0.5 * np.array([turn[2, 1] - turn[1, 2], turn[0, 2] - turn[2, 0], turn[1, 0] - turn[0, 1]])
            missing = np.concatenate([position - here, tilt])
            if np.abs(missing).max() < 1e-5:
                break
            q = q + jacobian.T @ np.linalg.solve(jacobian @ jacobian.T + _DAMPING * np.eye(6), missing)
        found.append(q)
    return np.stack(found)


def recorded_chunks(episode: Episode) -> dict[int, list[ActionChunk]]:
    """What was done from every ``AHEAD``-th step on, as chunks: what was planned is not in the file."""
    return {step: [_chunk(episode, step, episode.actions[step : step + AHEAD])] for step in range(0, episode.steps, AHEAD)}


def planned_chunks(episode: Episode, checkpoint: Checkpoint, samples: int) -> dict[int, list[ActionChunk]]:
    """What a policy would have planned, having seen what was recorded: step -> ``samples`` chunks, drawn where it begins a new one.

    Raises:
        UserError: The policy was made for another embodiment.
    """
    from mechanic_rl_ros.policy.acting import Actor  # slow to import

    checkpoint.embodiment.require_same(episode.embodiment, f"episode {episode.id}")
    actor, found = Actor(checkpoint, seed=episode.seed), {}
    for step in range(episode.steps):
        images = {key: images[step] for key, images in episode.images.items()}
        actor.observe(Observation(int(episode.stamps_ns[step]), images, episode.states[step]))
        if step % checkpoint.config.action_horizon == 0:
            found[step] = [_chunk(episode, step, actor.act()) for _ in range(samples)]
    return found


def scene_at_start(episode: Episode) -> TaskReading | None:
    """Object and goal at the start of an episode of the embedded simulation; None where its first images show something else than the scene of its seed."""
    from mechanic_rl_ros.sim.environment import Environment
    from mechanic_rl_ros.sim.tasks.task import REGIONS

    try:
        env = Environment(episode.task, episode.embodiment)
    except UserError:
        return None  # a task of a robot
    for region in REGIONS:
        seen = env.reset(episode.seed, region).images
        if all((np.abs(seen[key].astype(int) - images[0]).max(axis=-1) > DIFFERENT).mean() < FEW for key, images in episode.images.items()):
            return env.simulation.task_state()
    return None


def _chunk(episode: Episode, step: int, actions: NDArray[np.float32]) -> ActionChunk:
    return ActionChunk(int(episode.stamps_ns[step]), episode.embodiment.period_ns, actions)

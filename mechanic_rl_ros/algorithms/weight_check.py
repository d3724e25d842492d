"""Whether weights may act, judged by what they would do on stored observations."""

from __future__ import annotations

from collections.abc import Mapping
from functools import reduce

import torch
from torch import Tensor

from mechanic_rl_ros.policy.policy import Policy
from mechanic_rl_ros.replay.buffer import ReplayBuffer
from mechanic_rl_ros.replay.rows import Rows

OBSERVATIONS = 64
"""Stored observations of one check, half of them from demonstrations: a distance of 1 is then known to about 0.05."""

FARTHEST = 1.2
"""Largest distance from what acts. Two policies that have nothing to do with each other are 1.4 apart (the root of 2, by the definition of
``distance``). No two versions of healthy practice were farther apart than 1.05, however many updates lay between them; the first hundred updates of
ruined practice led to 1.25 to 1.54, the very first ones apart (`benchmark/results/guard.md`). That holds for actors that clone; see ``Learner.farthest``."""

MORE_SATURATED = 0.25
"""Share of actions at their limits that is too much beyond the usual one. Healthy practice never exceeded the usual share; large random weights
saturate nearly everything."""

SMALLEST_DEVIATION = 0.05  # of recorded actions, so that a distance means something where the robot was always told the same


def objection(acting: Mapping[str, Policy], candidate: Policy, rows: Rows, seed: int, farthest: float = FARTHEST) -> str:
    """Why ``candidate`` must not act; empty if it may.

    All answer the same observations from the same noise. What counts are the actions that would be executed. A policy may go far where that brings
    it nearer to what was done: one that knew nothing has a long way to go.

    Args:
        acting: Policies that it is compared with, by what people call them.
        candidate: The one that would act.
        rows: Stored observations, and what was done there.
        seed: Of the noise.
        farthest: Largest distance from each of ``acting``.
    """
    new, done = executed(candidate, answers(candidate, rows.frames, seed)), executed(candidate, rows.chunks)
    known = {name: executed(policy, answers(policy, rows.frames, seed)) for name, policy in acting.items()}
    if not bool(torch.isfinite(new).all()):
        return "its actions are not finite"
    share, usual = saturation(new), max(saturation(actions) for actions in (done, *known.values()))
    if share > usual + MORE_SATURATED:
        return f"{100 * share:.0f} % of its actions are at their limits, usual are {100 * usual:.0f} %"
    for name, old in known.items():
        if (far := distance(old, new, done)) > farthest and distance(done, new, done) > distance(done, old, done):
            return f"its actions are {far:.2f} deviations away from those of {name}, more than {farthest}"
    return ""


def stored_observations(practice: ReplayBuffer, demonstrations: ReplayBuffer, seed: int) -> Rows:
    """Rows of both, as far as there are any, drawn by a generator of their own, so that learning draws what it would draw without them."""
    generator = torch.Generator(device=practice.device).manual_seed(seed)
    sources = [buffer for buffer in (practice, demonstrations) if len(buffer)]
    return reduce(Rows.join, [buffer.sample(OBSERVATIONS // len(sources), generator) for buffer in sources])


@torch.no_grad()
def answers(policy: Policy, frames: Tensor, seed: int) -> Tensor:
    """One chunk (T_p, A) for every one of the observations (B, T_o, frame_dim)."""
    generator = torch.Generator(device=frames.device).manual_seed(seed)
    return policy.sample(policy.observe(frames), len(frames), generator)


def executed(policy: Policy, chunks: Tensor) -> Tensor:
    """(B, T_p, A) -> (B, T_a, A)."""
    return chunks[:, policy.config.past_actions : policy.config.past_actions + policy.config.action_horizon]


def distance(old: Tensor, new: Tensor, done: Tensor) -> float:
    """Root mean square difference of old and new actions in standard deviations of those that were done; all (B, T_a, A).

    The unit is that of recorded actions and not of the policy's own samples: a policy that begins to answer always alike would shrink its own unit.
    """
    deviation = done.std(dim=(0, 1)).square().mean().sqrt().clamp_min(SMALLEST_DEVIATION)
    return float((new - old).square().mean().sqrt() / deviation)


def saturation(actions: Tensor) -> float:
    """Share of actions at the embodiment's limits, -1 and 1, to which a policy's answer is clamped; a head that ends in tanh never quite reaches them."""
    return float((actions.abs() >= 0.999).float().mean())

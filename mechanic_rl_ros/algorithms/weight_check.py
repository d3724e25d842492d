"""Whether weights may act, judged by what they would do on stored observations."""

from __future__ import annotations

import torch
from torch import Tensor

from mechanic_rl_ros.policy.policy import Policy
from mechanic_rl_ros.replay.buffer import ReplayBuffer, Rows

OBSERVATIONS = 32
"""Stored observations of one check, half of them from demonstrations."""

FARTHEST = 1.2
"""Largest distance from the acting policy. Two policies that have nothing to do with each other are 1.4 apart (the root of 2, by the definition of
``distance``). No two versions of healthy practice were farther apart than 1.04, however many updates lay between them; ruined ones were 1.24 to 1.7
from the policy that they came from (`benchmark/results/guard.md`)."""

MORE_SATURATED = 0.25
"""Share of actions at their limits that is too much beyond the usual one. Healthy practice never exceeded the usual share; large random weights
saturate nearly everything."""

SMALLEST_DEVIATION = 0.05  # of recorded actions, so that a distance means something where the robot was always told the same


def objection(acting: Policy, candidate: Policy, rows: Rows, seed: int) -> str:
    """Why ``candidate`` must not act in the place of ``acting``; empty if it may.

    Both answer the same observations from the same noise. What counts are the actions that would be executed.

    Args:
        acting: The policy that acts now.
        candidate: The one that would act.
        rows: Stored observations, and what was done there.
        seed: Of the noise.
    """
    old, new = (executed(policy, answers(policy, rows.frames, seed)) for policy in (acting, candidate))
    done = executed(candidate, rows.chunks)
    if not bool(torch.isfinite(new).all()):
        return "its actions are not finite"
    share, usual = saturation(new), max(saturation(old), saturation(done))
    if share > usual + MORE_SATURATED:
        return f"{100 * share:.0f} % of its actions are at their limits, usual are {100 * usual:.0f} %"
    far = distance(old, new, done)
    return f"its actions are {far:.2f} deviations away from those of the acting policy, more than {FARTHEST}" if far > FARTHEST else ""


def stored_observations(practice: ReplayBuffer, demonstrations: ReplayBuffer, seed: int) -> Rows:
    """Rows of both, drawn by a generator of their own, so that learning draws what it would draw without them."""
    generator = torch.Generator(device=practice.device).manual_seed(seed)
    shown = OBSERVATIONS // 2 if len(demonstrations) else 0
    practised = practice.sample(OBSERVATIONS - shown, generator)
    return Rows.join(practised, demonstrations.sample(shown, generator)) if shown else practised


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
    """Share of actions at the embodiment's limits, -1 and 1, to which a policy's answer is clamped."""
    return float((actions.abs() >= 1.0).float().mean())

"""What people are told of a learner."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mechanic_rl_ros.algorithms.learner import Learner

ALL_SOLVED = 40
"""Episodes without a failure after which somebody should know that there is nothing to gain."""

ROLES = ("actor", "critic", "value")
"""Roles whose scale is told by name."""

SCALES = 500
"""Updates whose scales are told, one by one: more than are made between two looks."""


def status_of(learner: Learner) -> dict[str, Any]:
    """Figures to show. A scale is 0 where there is no such network."""
    scales = dict(zip(learner.tuners, learner.scales[-1] if learner.scales else scales_of(learner), strict=True))
    return {
        "version": learner.version,
        "updates": learner.updates,
        "episodes": len(learner.episode_ids),
        "rows": len(learner.practice),
        **{f"{role}_scale": scales.get(role, 0.0) for role in ROLES},
        **learner.losses,
        "update_ms": learner.update_ms,
        "skipped_gradients": sum(getattr(tuner, "skipped", 0) for tuner in learner.tuners.values()),
        "plain_success": learner.gate.success(False),
        "best_success": learner.gate.success(True),
        "prefers_best_of_n": learner.gate.prefers_best_of_n,
        "withheld": learner.guard.withheld,
        "rollbacks": learner.guard.rollbacks,
        "notice": learner.guard.reason or learner.notice(),
    }


def scale_record(learner: Learner) -> dict[str, Any]:
    """What every tuner had found after each of the last updates: ``networks``, ``scales_from`` (the first update) and ``scales``, one row for each update."""
    return {"networks": list(learner.tuners), "scales_from": learner.updates - len(learner.scales) + 1, "scales": list(learner.scales)}


def scales_of(learner: Learner) -> tuple[float, ...]:
    """What every tuner has found by now, in the order of ``tuners``."""
    return tuple(float(tuner.scale) for tuner in learner.tuners.values())


def notice_about(learner: Learner) -> str:
    """What a person should know about the episodes so far; empty if nothing."""
    count = len(learner.episode_ids)
    if count < learner.config.warmup_episodes:
        return ""
    if not learner.successes:
        return f"not one of {count} episodes succeeded: practice teaches nothing yet, look at the task's reward or start from a better policy"
    if not learner.rewarded:
        return f"not one of {count} episodes had a reward, though some succeeded: critics learn nothing, look at the task's reward"
    if learner.outside and learner.needs_reward:
        return f"the rewards of {learner.outside} of {count} episodes add up to less than 0 or more than 1, which critics cut off: scale the task's reward"
    solved_all = not learner.failures and learner.successes >= ALL_SOLVED
    return f"all of {count} episodes succeeded: there is nothing to gain, stop here or make the task harder" if solved_all else ""

"""``mechanic-rl doctor --live``: why nothing moves, judged from what is heard in a running graph."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from enum import Enum
from typing import Any

from mechanic_rl_ros.embodiment import Embodiment
from mechanic_rl_ros.errors import UserError
from mechanic_rl_ros.ros_domain import LAST_DOMAIN, is_busy

REQUIRED = ("command_node", "camera_node", "policy_node", "episode_node", "recorder_node")
HELPFUL = ("learner_node", "monitor_node")
START_S = 20.0  # that rclpy may take to start and to end, beside the time of listening
LOWEST_SHARE = 0.8  # of the policy's rate that a camera must give


class Health(str, Enum):
    """How bad it is."""

    OK = "ok"
    NOTE = "note"
    WRONG = "wrong"


@dataclass(frozen=True)
class Finding:
    """One line.

    Attributes:
        what: What was looked at.
        health: How bad it is.
        found: What was found.
        remedy: What to do.
        weight: Of several things that are wrong, the one of highest weight explains the others.
    """

    what: str
    health: Health
    found: str
    remedy: str = ""
    weight: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {**asdict(self), "health": self.health.value}


def listen(domain: int, namespace: str, embodiment: str, seconds: float) -> dict[str, Any]:
    """What is heard; rclpy runs in a process of its own.

    Raises:
        UserError: It cannot listen.
    """
    command = [sys.executable, "-m", "mechanic_rl_ros.nodes.live_probe", "--seconds", str(seconds), "--namespace", namespace, "--embodiment", embodiment]
    try:
        done = subprocess.run(command, env={**os.environ, "ROS_DOMAIN_ID": str(domain)}, capture_output=True, text=True, timeout=seconds + START_S, check=False)
    except subprocess.TimeoutExpired as error:
        raise UserError("cannot listen (rclpy does not answer): `mechanic-rl doctor` says what is wrong with the installation") from error
    if done.returncode or not done.stdout:
        complaint = (done.stderr.strip().splitlines() or [f"status {done.returncode}"])[-1]
        raise UserError(f"cannot listen ({complaint}): `mechanic-rl doctor` says what is wrong with the installation")
    heard: dict[str, Any] = json.loads(done.stdout)
    return heard


def judge(heard: dict[str, Any], domain: int, namespace: str, embodiment: Embodiment) -> list[Finding]:
    """One finding for everything that was looked at."""
    prefix = f"/{namespace.strip('/')}" if namespace.strip("/") else ""
    ours = [name for name in (*REQUIRED, *HELPFUL, "sim_node", "scene_node", "intervention_node") if f"{prefix}/{name}" in heard["nodes"]]
    if not ours:
        return [_nobody(domain, namespace)]
    return [
        *_sources(heard),
        *_mismatches(heard),
        *_clock(heard),
        *_joints(heard, embodiment),
        *_cameras(heard, embodiment),
        *_nodes(heard, prefix, ours),
        *_episode(heard, prefix, ours),
        *_arm(heard),
        *_learner(heard),
    ]


def cause(findings: list[Finding]) -> Finding | None:
    """What most likely explains that nothing moves; None where all moves."""
    wrong = [finding for finding in findings if finding.health is Health.WRONG]
    return max(wrong, key=lambda finding: finding.weight, default=None)


def _nobody(domain: int, namespace: str) -> Finding:
    busy = [other for other in range(LAST_DOMAIN + 1) if other != domain and is_busy(other)]
    others = f", or look into another domain in use on this machine: --domain {', '.join(map(str, busy))}" if busy else ""
    where = f"domain {domain}" + (f", namespace /{namespace.strip('/')}" if namespace.strip("/") else "")
    return Finding("nodes", Health.WRONG, f"no node of mechanic_rl_ros is heard in {where}", f"start them with `mechanic-rl finetune` or `ros2 launch`{others}")


def _sources(heard: dict[str, Any]) -> Iterator[Finding]:
    for topic, publishers in heard["sole"].items():
        if len(publishers) > 1:
            yield Finding(
                topic,
                Health.WRONG,
                f"{len(publishers)} publishers: {', '.join(publishers)}",
                "stop all but one: they contradict each other; what was killed is seen for 30 s more",
                100,
            )


def _mismatches(heard: dict[str, Any]) -> Iterator[Finding]:
    for pair in heard["mismatches"]:
        found = f"{pair['publisher']} and {pair['subscriber']} never come together: {pair['reason']}"
        yield Finding(pair["topic"], Health.WRONG, found, "set the quality of service (or type) of docs/topics.md on the foreign side", 95)


def _clock(heard: dict[str, Any]) -> Iterator[Finding]:
    if heard["clock_stands_still"]:
        yield Finding("/clock", Health.WRONG, "simulated time stands still", "start the simulation, or let it go on", 91)


def _joints(heard: dict[str, Any], embodiment: Embodiment) -> Iterator[Finding]:
    topic, state = embodiment.joints.topic, heard["joints"]
    if not heard["publishers"][topic]:
        yield Finding(topic, Health.WRONG, "nobody publishes it", "start the simulation or the robot's driver (joint_state_broadcaster)", 92)
    elif not state:
        yield Finding(topic, Health.WRONG, f"{', '.join(heard['publishers'][topic])} says nothing", "look into its log", 89)
    elif missing := [name for name in (*embodiment.joints.names, embodiment.joints.finger) if name not in state["names"]]:
        yield Finding(
            topic, Health.WRONG, f"lacks {', '.join(missing)}", f"it comes from another robot than {embodiment.name}: check driver and --embodiment", 89
        )
    elif abs(state["age"]) > embodiment.joints.max_age:
        yield Finding(
            topic, Health.WRONG, f"{state['age']:.2f} s old, at most {embodiment.joints.max_age} s are allowed", "synchronise the clocks of the machines", 88
        )
    else:
        yield Finding(topic, Health.OK, f"{heard['rates'][topic]:.0f} per second, {max(0.0, 1e3 * state['age']):.0f} ms old")


def _cameras(heard: dict[str, Any], embodiment: Embodiment) -> Iterator[Finding]:
    for key, spec in embodiment.cameras.items():
        raw, seen = heard["rates"][spec.raw_topic], heard["rates"][spec.topic]
        what, rates = f"camera {key}", f"{raw:.1f} frames per second raw, {seen:.1f} as the policy sees it"
        if not heard["publishers"][spec.raw_topic]:
            yield Finding(what, Health.WRONG, f"nobody publishes {spec.raw_topic}", "start its driver, or set raw_topic in the embodiment file", 87)
        elif not raw:
            yield Finding(what, Health.WRONG, f"{', '.join(heard['publishers'][spec.raw_topic])} sends no image on {spec.raw_topic}", "look into its log", 86)
        elif not seen:
            yield Finding(what, Health.WRONG, rates, "look at what camera_node says", 70)
        else:
            yield Finding(
                what, Health.OK if seen >= LOWEST_SHARE * embodiment.policy_rate else Health.NOTE, rates, f"the policy wants {embodiment.policy_rate:g}"
            )


def _nodes(heard: dict[str, Any], prefix: str, ours: list[str]) -> Iterator[Finding]:
    for place, name in enumerate(dict.fromkeys((*REQUIRED, *HELPFUL, *ours))):
        status = heard["statuses"].get(f"{prefix}/{name}")
        if name not in ours:
            health = Health.WRONG if name in REQUIRED else Health.NOTE
            yield Finding(name, health, "does not run", f"look for its error in the log, or start it: `ros2 run mechanic_rl_ros {name}`", 80 - place)
        elif status is None:
            yield Finding(name, Health.WRONG, "runs, but says nothing on /diagnostics", "look into its log", 65 - place)
        elif status["level"] >= 2 or status["message"] == "not active":
            yield Finding(name, Health.WRONG, status["message"], "", 55 - place)
        else:
            yield Finding(name, Health.NOTE if status["level"] else Health.OK, status["message"])


def _episode(heard: dict[str, Any], prefix: str, ours: list[str]) -> Iterator[Finding]:
    episode = heard["episode"]
    if episode:
        reason = _waiting_for(episode, heard["statuses"].get(f"{prefix}/scene_node"))
        outcome = f" ({episode['outcome']})" if episode["outcome"] else ""
        yield Finding("episode", Health.WRONG if reason else Health.OK, reason or f"{episode['number']} is {episode['state']}{outcome}", weight=40)
    elif "episode_node" in ours:
        yield Finding("episode", Health.WRONG, "episode_node does not say how things stand", "look into its log", 40)


def _waiting_for(episode: dict[str, Any], scene: dict[str, Any] | None) -> str:
    """What keeps the next episode from its beginning; "" if nothing does."""
    if episode["state"] == "RESETTING" and scene is not None and scene["level"]:
        return str(scene["message"])
    return str(episode["reason"]) if episode["state"] == "WAITING" else ""


def _arm(heard: dict[str, Any]) -> Iterator[Finding]:
    """It may hold for a moment; in a running episode not all of the time."""
    if not heard["holdings"]:
        return
    reason = heard["holdings"][-1]
    stuck = heard["episode"].get("state") == "RUNNING" and all(heard["holdings"])
    yield Finding("arm", Health.WRONG if stuck else Health.OK, f"holds: {reason}" if reason else "moves", weight=30)


def _learner(heard: dict[str, Any]) -> Iterator[Finding]:
    learner = heard["learner"]
    if learner:
        found = f"version {learner['version']} after {learner['updates']} updates from {learner['episodes']} episodes"
        yield Finding("learning", Health.NOTE if learner["reason"] else Health.OK, learner["reason"] or found)

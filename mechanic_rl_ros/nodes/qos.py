"""Quality of service by kind of data, said once (see the table in docs/topics.md)."""

from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy


def _profile(depth: int, *, reliable: bool, latched: bool = False) -> QoSProfile:
    return QoSProfile(
        history=HistoryPolicy.KEEP_LAST,
        depth=depth,
        reliability=ReliabilityPolicy.RELIABLE if reliable else ReliabilityPolicy.BEST_EFFORT,
        durability=DurabilityPolicy.TRANSIENT_LOCAL if latched else DurabilityPolicy.VOLATILE,
    )


SENSOR = _profile(5, reliable=False)
"""Images, joint states, clock: only the newest matters."""

RECORDED_SENSOR = _profile(20, reliable=False)
"""The same for the recorder, which may be busy with a file while the next episode begins."""

COMMAND = _profile(10, reliable=True)
"""Action chunks, executed actions, interventions, rewards."""

RECORDED = _profile(100, reliable=True)
"""Executed actions and rewards for the recorder: none may be lost while it writes a file."""

TRAJECTORY = _profile(1, reliable=True)
"""To the controllers: only the newest trajectory matters."""

STATE = _profile(1, reliable=True, latched=True)
"""Episode state, weights manifest, statuses: whoever joins late knows where things stand."""

EPISODE = _profile(10, reliable=True, latched=True)
"""For who listens to the episode state: two changes can be 0.1 s apart, and a busy node must miss neither. The publisher keeps only the last."""

EPISODES = _profile(1000, reliable=True, latched=True)
"""Episode manifests: a learner that was away learns of every episode that it missed."""

CHUNKS = _profile(16, reliable=True)
"""Chunks of payloads and requests for them."""

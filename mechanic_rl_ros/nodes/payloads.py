"""Payloads over topics: manifest, chunks and requests around the core's Inbox and Outbox."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import Any

from mechanic_rl_ros import msg
from mechanic_rl_ros.nodes import qos
from mechanic_rl_ros.nodes.convert import manifest_from_message, manifest_to_message, part_from_message, part_to_message, request_to_message
from mechanic_rl_ros.transfer import Chunk, Completed, Inbox, Manifest

PACE_S = 0.02  # s between two chunks, so that images find room between them
PATIENCE_S = 0.3  # s without a chunk until what is missing is asked for again
WINDOW = 8  # chunks asked for at once: no more than the topic's depth can hold


class PayloadSender:
    """Announces payloads and sends the chunks that are asked for, one at a time."""

    def __init__(self, node: Any, prefix: str, manifest_qos: Any, chunk_of: Callable[[tuple[str, str, str, int], int], Chunk | None]) -> None:
        """``chunk_of(key, index)`` gives a chunk of a payload that was announced, or None."""
        self._node, self._chunk_of = node, chunk_of
        self._queue: deque[tuple[tuple[str, str, str, int], int]] = deque()
        self._queued: set[tuple[tuple[str, str, str, int], int]] = set()
        self._manifests = node.create_publisher(msg.Manifest, f"{prefix}/manifest", manifest_qos)
        self._chunks = node.create_publisher(msg.Chunk, f"{prefix}/chunk", qos.CHUNKS)
        node.create_subscription(msg.ChunkRequest, f"{prefix}/request", self._on_request, qos.CHUNKS)
        self._timer = node.create_timer(PACE_S, self._send, clock=node.wall)
        self._timer.cancel()  # until something is asked for

    def announce(self, manifest: Manifest) -> None:
        """Publishes the manifest; its stamp is wall time, for measuring how long the payload takes to act."""
        self._manifests.publish(manifest_to_message(manifest, wall_stamp()))

    def _on_request(self, request: msg.ChunkRequest) -> None:
        key = (request.source, request.kind, request.id, int(request.version))
        for index in list(request.indices)[:WINDOW]:
            entry = (key, int(index))
            if entry not in self._queued:  # two receivers that miss the same chunk get it by one message
                self._queued.add(entry)
                self._queue.append(entry)
        if self._queue:
            self._timer.reset()

    def _send(self) -> None:
        if not self._queue:
            self._timer.cancel()
            return
        entry = self._queue.popleft()
        self._queued.discard(entry)
        chunk = self._chunk_of(*entry)
        if chunk is not None:
            self._chunks.publish(part_to_message(chunk))


class PayloadReceiver:
    """Fetches what is announced and hands over what is complete and verified."""

    def __init__(self, node: Any, prefix: str, manifest_qos: Any, inbox: Inbox, on_payload: Callable[[Completed, float], None]) -> None:
        """``on_payload(completed, announced)`` gets the payload and the wall time (s) of its announcement."""
        self._node, self.inbox, self._deliver = node, inbox, on_payload
        self._announced: dict[tuple[str, str, str, int], float] = {}
        self._waiting: deque[msg.Manifest] = deque()
        self._asked: dict[tuple[str, str, str, int], set[int]] = {}
        self._last_part = 0.0
        self._requests = node.create_publisher(msg.ChunkRequest, f"{prefix}/request", qos.CHUNKS)
        node.create_subscription(msg.Manifest, f"{prefix}/manifest", self._on_manifest, manifest_qos)
        node.create_subscription(msg.Chunk, f"{prefix}/chunk", self._on_chunk, qos.CHUNKS)
        node.create_timer(PATIENCE_S, self._ask_again, clock=node.wall)

    def _on_manifest(self, message: msg.Manifest) -> None:
        # Episodes queue up: a learner that joins late hears of hundreds at once, and fetches them one after the other.
        if message.kind == "episode" and self.inbox.missing():
            self._waiting.append(message)
            return
        self._take(message)

    def _take(self, message: msg.Manifest) -> None:
        manifest = manifest_from_message(message)
        if self.inbox.accept(manifest):
            self._announced = {manifest.key: message.header.stamp.sec + 1e-9 * message.header.stamp.nanosec}
            self._asked.clear()
            self._ask()
        elif self.inbox.last_reason:
            self._node.get_logger().warning(self.inbox.last_reason, throttle_duration_sec=5.0)

    def _on_chunk(self, message: msg.Chunk) -> None:
        self._last_part = time.monotonic()
        completed = self.inbox.add(part_from_message(message))
        if completed is None:
            self._ask()
            return
        self._deliver(completed, self._announced.get(completed.manifest.key, 0.0))
        while self._waiting and not self.inbox.missing():
            self._take(self._waiting.popleft())

    def _ask(self) -> None:
        """Keeps at most one window of chunks under way."""
        for manifest, indices in self.inbox.missing():
            asked = self._asked.setdefault(manifest.key, set()) & set(indices)
            wanted = [index for index in indices if index not in asked][: max(0, WINDOW - len(asked))]
            if len(wanted) >= WINDOW // 2 or (wanted and not asked):
                self._asked[manifest.key] = asked | set(wanted)
                self._requests.publish(request_to_message(manifest, wanted))

    def _ask_again(self) -> None:
        if self.inbox.missing() and time.monotonic() - self._last_part > PATIENCE_S:
            self._asked.clear()
            self._ask()


def wall_stamp() -> Any:
    """Wall time as a message: manifests are stamped with it, since learner and robot need not share a simulated clock."""
    from builtin_interfaces.msg import Time

    now = time.time_ns()
    return Time(sec=now // 1_000_000_000, nanosec=now % 1_000_000_000)

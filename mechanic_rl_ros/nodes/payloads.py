"""Payloads over topics: manifest, chunks and requests around the core's Inbox and Outbox."""

from __future__ import annotations

import time
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from mechanic_rl_ros import msg
from mechanic_rl_ros.nodes import qos
from mechanic_rl_ros.nodes.convert import manifest_from_message, manifest_to_message, part_from_message, part_to_message, request_to_message
from mechanic_rl_ros.transfer import Chunk, Completed, Inbox, Manifest

PACE_S = 0.02  # s between two chunks, so that images find room between them
PATIENCE_S = 0.3  # s without a chunk until what is missing is asked for again
WINDOW = 8  # chunks asked for at once: no more than the topic's depth can hold
MAX_TRIES = 20  # requests in a row that bring nothing until a payload is given up
MAX_WAITING = 4096  # manifests of episodes that wait for their turn
MAX_QUEUED = 1024  # chunks that wait to be sent; who asked for one more asks again

_Key = tuple[str, str, str, int]


class PayloadSender:
    """Announces payloads and sends the chunks that are asked for, one at a time."""

    def __init__(self, node: Any, prefix: str, manifest_qos: Any, chunk_of: Callable[[_Key, int], Chunk | None]) -> None:
        """``chunk_of(key, index)`` gives a chunk of a payload that was announced, or None."""
        self._node, self._chunk_of = node, chunk_of
        self._queue: deque[tuple[_Key, int]] = deque()
        self._queued: set[tuple[_Key, int]] = set()
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
            # Two receivers that miss the same chunk get it by one message.
            if entry not in self._queued and len(self._queue) < MAX_QUEUED:
                self._queued.add(entry)
                self._queue.append(entry)
        if self._queue and self._timer.is_canceled():  # a reset starts its period anew: requests in quick succession would hold the chunks back
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


@dataclass
class _Fetch:
    """A payload on its way."""

    announced: float
    asked: set[int] = field(default_factory=set)
    heard: float = field(default_factory=time.monotonic)
    tries: int = 0


class PayloadReceiver:
    """Fetches what is announced and hands over what is complete and verified. What nobody sends is given up after a while."""

    def __init__(
        self,
        node: Any,
        prefix: str,
        manifest_qos: Any,
        inbox: Inbox,
        on_payload: Callable[[Completed, float], None],
        wanted: Callable[[Manifest], bool] = lambda manifest: True,
    ) -> None:
        """``on_payload(completed, announced)`` gets the payload and the wall time (s) of its announcement; ``wanted``: whether to fetch it at all."""
        self._node, self.inbox, self._deliver, self._wanted = node, inbox, on_payload, wanted
        self._fetches: dict[_Key, _Fetch] = {}
        self._waiting: OrderedDict[_Key, tuple[Manifest, float]] = OrderedDict()
        self._requests = node.create_publisher(msg.ChunkRequest, f"{prefix}/request", qos.CHUNKS)
        node.create_subscription(msg.Manifest, f"{prefix}/manifest", self._on_manifest, manifest_qos)
        node.create_subscription(msg.Chunk, f"{prefix}/chunk", self._on_chunk, qos.CHUNKS)
        node.create_timer(PATIENCE_S, self._lose_patience, clock=node.wall)

    def _on_manifest(self, message: msg.Manifest) -> None:
        manifest, announced = manifest_from_message(message), message.header.stamp.sec + 1e-9 * message.header.stamp.nanosec
        if not self._wanted(manifest):
            return
        # Episodes queue up: a learner that joins late hears of hundreds at once, and fetches them one after the other.
        if manifest.kind == "episode" and self.inbox.missing() and not manifest.fault():
            self._wait(manifest, announced)
        else:
            self._take(manifest, announced)
            self._ask()

    def _wait(self, manifest: Manifest, announced: float) -> None:
        self._waiting[manifest.key] = (manifest, announced)
        if len(self._waiting) > MAX_WAITING:
            oldest, _ = self._waiting.popitem(last=False)[1]
            self._give_up(oldest, f"more than {MAX_WAITING} wait")

    def _take(self, manifest: Manifest, announced: float) -> None:
        refused = self.inbox.refused
        if self.inbox.accept(manifest):
            self._fetches[manifest.key] = _Fetch(announced)
        elif self.inbox.refused > refused:
            self._warn()

    def _on_chunk(self, message: msg.Chunk) -> None:
        completed = self.inbox.add(part_from_message(message))
        if completed is not None:
            self._deliver(completed, self._fetches[completed.manifest.key].announced)
        self._go_on()

    def _go_on(self) -> None:
        while self._waiting and not self.inbox.missing():
            self._take(*self._waiting.popitem(last=False)[1])
        self._ask()

    def _ask(self) -> None:
        """Keeps at most one window of chunks of each payload under way."""
        missing = self.inbox.missing()
        self._fetches = {manifest.key: self._fetches[manifest.key] for manifest, _ in missing}
        for manifest, indices in missing:
            fetch = self._fetches[manifest.key]
            under_way = fetch.asked & set(indices)
            if under_way != fetch.asked:
                fetch.heard, fetch.tries = time.monotonic(), 0
            wanted = [index for index in indices if index not in under_way][: max(0, WINDOW - len(under_way))]
            if len(wanted) < WINDOW // 2 and under_way:
                wanted = []
            fetch.asked = under_way | set(wanted)
            if wanted:
                self._requests.publish(request_to_message(manifest, wanted))

    def _lose_patience(self) -> None:
        """Asks again for what did not come, or gives it up."""
        for manifest, _ in self.inbox.missing():
            fetch = self._fetches[manifest.key]
            if time.monotonic() - fetch.heard <= PATIENCE_S:
                continue
            fetch.tries += 1
            fetch.asked.clear()
            if fetch.tries > MAX_TRIES:
                self._give_up(manifest, f"nobody sends its chunks, asked {MAX_TRIES} times")
        self._go_on()

    def _give_up(self, manifest: Manifest, reason: str) -> None:
        self.inbox.give_up(manifest, reason)
        self._warn()

    def _warn(self) -> None:
        self._node.get_logger().warning(self.inbox.last_reason, throttle_duration_sec=5.0)


def wall_stamp() -> Any:
    """Wall time as a message: manifests are stamped with it, since learner and robot need not share a simulated clock."""
    from builtin_interfaces.msg import Time

    now = time.time_ns()
    return Time(sec=now // 1_000_000_000, nanosec=now % 1_000_000_000)

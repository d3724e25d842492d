"""The receiving side: believes nothing until it is complete and verified, in bounded memory."""

from __future__ import annotations

import hashlib
import time
import zlib
from collections import Counter, OrderedDict
from dataclasses import dataclass, field
from itertools import islice

from mechanic_rl_ros.transfer.manifest import WEIGHTS, Chunk, Manifest

_Key = tuple[str, str, str, int]

_REMEMBERED = 4096
"""Finished and refused payloads whose repetition is recognised."""


HARMLESS = frozenset({"completed", "duplicate_chunk", "duplicate_manifest", "given_up", "sender_changed", "superseded", "unknown_chunk"})
"""Counters of things that happen in normal operation, such as a chunk that another receiver on the topic asked for, or a sender that was killed."""


@dataclass(frozen=True)
class Completed:
    """A payload whose size and hash are right. Its contents are still to be checked by whoever decodes it."""

    manifest: Manifest
    payload: bytes


@dataclass
class _Assembly:
    manifest: Manifest
    chunks: dict[int, bytes] = field(default_factory=dict)


class Inbox:
    """Assembles payloads from chunks that may come in any order, twice, damaged or never.

    Memory is bounded: what all payloads under assembly claim together stays below ``limit_bytes``, and memory is taken only as chunks arrive. A manifest
    that claims more is refused before anything is allocated. Nothing here raises on bad input: it is counted in ``counters`` and explained in ``last_reason``.

    Weights come from one sender, and only versions above the last complete one are wanted. Among those the last announcement wins: a sender that was
    killed half way and restarted from its checkpoint may announce a lower version than the one that will now never be complete. Another sender of weights
    is refused for as long as the first one was heard within ``sender_timeout_s``; after that it takes over (a replaced learner).

    Attributes:
        counters: Reason -> how often; those in ``HARMLESS`` are no refusals.
        last_reason: The last refusal as one line, empty before the first.
    """

    def __init__(
        self, kind: str, limit_bytes: int = 64 * 1024 * 1024, max_assemblies: int = 4, signature: str | None = None, sender_timeout_s: float = 10.0
    ) -> None:
        """Takes payloads of one ``kind``; ``signature`` is the only architecture signature that weights may carry, None lets all pass."""
        self.counters: Counter[str] = Counter()
        self.last_reason = ""
        self._kind = kind
        self._limit = limit_bytes
        self._max_assemblies = max_assemblies
        self._signature = signature
        self._sender_timeout = sender_timeout_s
        self._assemblies: OrderedDict[_Key, _Assembly] = OrderedDict()  # the least recently active first
        self._finished: OrderedDict[_Key, str] = OrderedDict()  # key -> digest
        self._sender = ""
        self._sender_heard = 0.0
        self._version = -1
        self._version_before = -1

    @property
    def refused(self) -> int:
        """Everything that was not believed."""
        return sum(count for reason, count in self.counters.items() if reason not in HARMLESS)

    @property
    def held_bytes(self) -> int:
        """Bytes of chunks held for payloads that are not complete."""
        return sum(len(data) for assembly in self._assemblies.values() for data in assembly.chunks.values())

    def accept(self, manifest: Manifest, now: float | None = None) -> bool:
        """Looks at an announcement; True when its chunks are wanted.

        Args:
            manifest: What was announced.
            now: Monotonic seconds; the clock of this process by default.
        """
        fault = manifest.fault()
        if fault:
            return self._refuse("malformed_manifest", f"manifest refused: {fault}")
        if manifest.kind != self._kind:
            return self._refuse("wrong_kind", f"{manifest.kind} {manifest.id!r} refused: this topic is for payloads of kind {self._kind}")
        if manifest.size > self._limit:
            return self._refuse("too_large", f"{manifest.kind} {manifest.id!r} claims {manifest.size} bytes, more than the limit of {self._limit}")
        if manifest.kind == WEIGHTS and not self._accept_weights(manifest, time.monotonic() if now is None else now):
            return False
        if manifest.key in self._finished:
            if self._finished[manifest.key] == manifest.sha256:
                self.counters["duplicate_manifest"] += 1
                return False
            return self._refuse("replayed", f"{manifest.kind} {manifest.id!r} version {manifest.version} came before with other contents")
        return self._begin(manifest)

    def add(self, chunk: Chunk, now: float | None = None) -> Completed | None:
        """Takes one chunk; the payload when it was the last one missing and everything is right."""
        assembly = self._assemblies.get(chunk.key)
        if assembly is None:
            self.counters["duplicate_chunk" if chunk.key in self._finished else "unknown_chunk"] += 1
            return None
        if chunk.kind == WEIGHTS:
            self._sender_heard = time.monotonic() if now is None else now
        if not self._take(assembly, chunk):
            return None
        self._assemblies.move_to_end(chunk.key)
        return self._finish(assembly) if len(assembly.chunks) == assembly.manifest.chunk_count else None

    def missing(self, at_most: int = 256) -> list[tuple[Manifest, list[int]]]:
        """What to ask for: each payload under assembly with the indices of its first ``at_most`` missing chunks."""
        return [(a.manifest, list(islice((i for i in range(a.manifest.chunk_count) if i not in a.chunks), at_most))) for a in self._assemblies.values()]

    def reject(self, manifest: Manifest, reason: str) -> None:
        """Counts a complete payload that could not be decoded or used; weights of a version below it are wanted again."""
        if manifest.kind == WEIGHTS and manifest.version == self._version:
            self._version = self._version_before
        self._refuse("unusable", f"{manifest.kind} {manifest.id!r} version {manifest.version} refused: {reason}")

    def give_up(self, manifest: Manifest, reason: str) -> None:
        """Drops a payload that is not complete; it is taken again when it is announced again."""
        self._assemblies.pop(manifest.key, None)
        self._refuse("given_up", f"{manifest.kind} {manifest.id!r} given up: {reason}")

    def forget(self, manifest: Manifest) -> None:
        """Lets a complete payload be taken again when it is announced again."""
        self._finished.pop(manifest.key, None)

    def _accept_weights(self, manifest: Manifest, now: float) -> bool:
        if self._sender and manifest.source != self._sender:
            if now - self._sender_heard < self._sender_timeout:
                return self._refuse("second_sender", f"weights from {manifest.source!r} refused while {self._sender!r} is sending: stop one of them")
            self.counters["sender_changed"] += 1
        if self._signature is not None and manifest.signature != self._signature:
            return self._refuse("wrong_architecture", f"weights of architecture {manifest.signature!r} refused: this policy is {self._signature!r}")
        if manifest.version < self._version or (manifest.version == self._version and manifest.key not in self._finished):
            return self._refuse("old_version", f"weights version {manifest.version} refused: version {self._version} is in use")
        self._sender, self._sender_heard = manifest.source, now
        return True

    def _begin(self, manifest: Manifest) -> bool:
        assembly = self._assemblies.get(manifest.key)
        if assembly is not None and assembly.manifest == manifest:
            self.counters["duplicate_manifest"] += 1
            return True
        self._drop_superseded(manifest)
        while self._assemblies and (len(self._assemblies) >= self._max_assemblies or self._claimed() + manifest.size > self._limit):
            _, oldest = self._assemblies.popitem(last=False)
            self._refuse("evicted", f"{oldest.manifest.kind} {oldest.manifest.id!r} given up half way: too much at once")
        self._assemblies[manifest.key] = _Assembly(manifest)
        return True

    def _drop_superseded(self, manifest: Manifest) -> None:
        for key, assembly in list(self._assemblies.items()):
            if key == manifest.key or (manifest.kind == WEIGHTS == assembly.manifest.kind):
                del self._assemblies[key]
                self.counters["superseded"] += 1

    def _claimed(self) -> int:
        return sum(assembly.manifest.size for assembly in self._assemblies.values())

    def _take(self, assembly: _Assembly, chunk: Chunk) -> bool:
        manifest = assembly.manifest
        if not 0 <= chunk.index < manifest.chunk_count:
            return self._refuse("wrong_index", f"chunk {chunk.index} of {manifest.kind} {manifest.id!r} refused: it has {manifest.chunk_count}")
        if chunk.index in assembly.chunks:
            self.counters["duplicate_chunk"] += 1
            return False
        if len(chunk.data) != manifest.chunk_length(chunk.index):
            return self._refuse("wrong_length", f"chunk {chunk.index} of {manifest.kind} {manifest.id!r} has {len(chunk.data)} bytes")
        if zlib.crc32(chunk.data) != chunk.crc32:
            return self._refuse("damaged_chunk", f"chunk {chunk.index} of {manifest.kind} {manifest.id!r} is damaged")
        assembly.chunks[chunk.index] = bytes(chunk.data)
        return True

    def _finish(self, assembly: _Assembly) -> Completed | None:
        manifest = assembly.manifest
        del self._assemblies[manifest.key]
        payload = b"".join(assembly.chunks[index] for index in range(manifest.chunk_count))
        if hashlib.sha256(payload).hexdigest() != manifest.sha256:
            self._refuse("wrong_hash", f"{manifest.kind} {manifest.id!r} version {manifest.version} refused: its SHA-256 is not the announced one")
            return None
        self._finished[manifest.key] = manifest.sha256
        while len(self._finished) > _REMEMBERED:
            self._finished.popitem(last=False)
        if manifest.kind == WEIGHTS:
            self._version_before, self._version = self._version, manifest.version
        self.counters["completed"] += 1
        return Completed(manifest, payload)

    def _refuse(self, reason: str, text: str) -> bool:
        self.counters[reason] += 1
        self.last_reason = text
        return False

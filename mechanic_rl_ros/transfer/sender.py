"""The sending side: keeps the last payloads and answers requests for their chunks."""

from __future__ import annotations

from collections import OrderedDict

from mechanic_rl_ros.transfer.manifest import MAX_CHUNK_SIZE, Chunk, Manifest, TransferError


class Outbox:
    """The last payloads of one sender, oldest dropped first.

    ``source`` must be the same after a restart of the sender (a node name with its namespace is), or receivers take the restarted sender for a second one.

    Attributes:
        source: Identity of the sender.
        dropped: Payloads that made room for newer ones.
        refused: Requests that named a payload or chunk that is not here.
    """

    def __init__(self, source: str, keep: int = 8, limit_bytes: int = 64 * 1024 * 1024, chunk_size: int = MAX_CHUNK_SIZE) -> None:
        """Keeps at most ``keep`` payloads and at most ``limit_bytes`` of them together."""
        self.source = source
        self.dropped = 0
        self.refused = 0
        self._keep = keep
        self._limit = limit_bytes
        self._chunk_size = chunk_size
        self._held: OrderedDict[tuple[str, str, str, int], tuple[Manifest, bytes]] = OrderedDict()

    def put(self, kind: str, id: str, version: int, payload: bytes, signature: str = "") -> Manifest:
        """Takes a payload and returns the manifest to publish.

        Raises:
            TransferError: The payload is empty or larger than the whole outbox.
        """
        if len(payload) > self._limit:
            raise TransferError(f"{kind} {id!r} of {len(payload)} bytes does not fit the outbox of {self._limit} bytes: send less at once")
        manifest = Manifest.of(payload, kind=kind, id=id, version=version, source=self.source, signature=signature, chunk_size=self._chunk_size)
        self._held.pop(manifest.key, None)
        self._held[manifest.key] = (manifest, payload)
        while len(self._held) > self._keep or self.held_bytes > self._limit:
            self._held.popitem(last=False)
            self.dropped += 1
        return manifest

    @property
    def held_bytes(self) -> int:
        """Bytes of all payloads held."""
        return sum(manifest.size for manifest, _ in self._held.values())

    def chunk(self, key: tuple[str, str, str, int], index: int) -> Chunk | None:
        """One chunk, or None when the payload is gone or has no such chunk."""
        manifest, payload = self._held.get(key, (None, b""))
        if manifest is None or not 0 <= index < manifest.chunk_count:
            self.refused += 1
            return None
        return Chunk.of(manifest, index, payload)

"""What is announced before it travels, and the pieces that it travels in."""

from __future__ import annotations

import hashlib
import zlib
from dataclasses import dataclass

from mechanic_rl_ros.errors import UserError

MAX_CHUNK_SIZE = 512 * 1024
"""Bytes. Above about 1 MB a message over DDS takes hundreds of milliseconds and is lost under load; half of that is safe."""

MAX_CHUNKS = 65_536
"""Chunks of one payload, so that a manifest of one-byte chunks cannot make the bookkeeping outgrow the payload."""

WEIGHTS = "weights"
EPISODE = "episode"
KINDS = (WEIGHTS, EPISODE)

_MAX_NAME = 256
_MAX_VERSION = 2**63 - 1


class TransferError(UserError):
    """A manifest contradicts itself, or a payload cannot be announced."""


@dataclass(frozen=True)
class Manifest:
    """Announces one payload.

    Attributes:
        kind: ``weights`` (the highest version wins) or ``episode`` (each id is wanted once).
        id: Name of the payload, unique within its kind and source.
        version: Version of the weights; 0 for an episode.
        size: Bytes of the payload.
        sha256: Hex digest of the payload.
        chunk_size: Bytes of every chunk but the last.
        chunk_count: Number of chunks.
        signature: Architecture of the weights; empty for an episode.
        source: Who sends it, the same after a restart of that sender.
    """

    kind: str
    id: str
    version: int
    size: int
    sha256: str
    chunk_size: int
    chunk_count: int
    signature: str
    source: str

    @classmethod
    def of(cls, payload: bytes, *, kind: str, id: str, version: int, source: str, signature: str = "", chunk_size: int = MAX_CHUNK_SIZE) -> Manifest:
        """Describes ``payload``.

        Raises:
            TransferError: The payload is empty, or a field is out of range.
        """
        if not 0 < chunk_size <= MAX_CHUNK_SIZE:
            raise TransferError(f"chunk size {chunk_size} is out of range: use 1 to {MAX_CHUNK_SIZE} bytes")
        count = -(-len(payload) // chunk_size)
        manifest = cls(kind, id, version, len(payload), hashlib.sha256(payload).hexdigest(), chunk_size, count, signature, source)
        fault = manifest.fault()
        if fault:
            raise TransferError(f"cannot announce {kind} {id!r}: {fault}")
        return manifest

    @property
    def key(self) -> tuple[str, str, str, int]:
        """What identifies the payload, carried by every chunk too."""
        return (self.source, self.kind, self.id, self.version)

    def chunk_length(self, index: int) -> int:
        """Bytes of chunk ``index``."""
        return min(self.chunk_size, self.size - index * self.chunk_size)

    def fault(self) -> str:
        """Why this manifest cannot be believed; empty when it can. Allocates nothing, however large the claims."""
        if self.kind not in KINDS:
            return f"unknown kind {self.kind[:32]!r}"
        for name in ("id", "source", "signature"):
            value = getattr(self, name)
            if len(value) > _MAX_NAME or not value.isprintable() or (name != "signature" and not value):
                return f"{name} is empty, longer than {_MAX_NAME} characters or not printable"
        if not 0 <= self.version <= _MAX_VERSION:
            return f"version {self.version} is out of range"
        if self.size <= 0 or not 0 < self.chunk_size <= MAX_CHUNK_SIZE:
            return f"size {self.size} or chunk size {self.chunk_size} is out of range"
        if self.chunk_count > MAX_CHUNKS:
            return f"{self.chunk_count} chunks are more than {MAX_CHUNKS}"
        if self.chunk_count != -(-self.size // self.chunk_size):
            return f"{self.chunk_count} chunks of {self.chunk_size} bytes do not make {self.size} bytes"
        if len(self.sha256) != 64 or set(self.sha256) - set("0123456789abcdef"):
            return "sha256 is not a hex digest"
        return ""


@dataclass(frozen=True)
class Chunk:
    """One piece of a payload.

    Attributes:
        kind: As in the manifest.
        id: As in the manifest.
        version: As in the manifest.
        source: As in the manifest.
        index: Position, from 0.
        crc32: Checksum of ``data`` (zlib.crc32), so that one damaged chunk is asked for again instead of the whole payload.
        data: The bytes.
    """

    kind: str
    id: str
    version: int
    source: str
    index: int
    crc32: int
    data: bytes

    @classmethod
    def of(cls, manifest: Manifest, index: int, payload: bytes) -> Chunk:
        """Cuts chunk ``index`` out of ``payload``."""
        start = index * manifest.chunk_size
        data = bytes(payload[start : start + manifest.chunk_length(index)])
        return cls(manifest.kind, manifest.id, manifest.version, manifest.source, index, zlib.crc32(data), data)

    @property
    def key(self) -> tuple[str, str, str, int]:
        """What identifies the payload that this is a piece of."""
        return (self.source, self.kind, self.id, self.version)

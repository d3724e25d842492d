"""An MCAP file as a whole: checksums first, then records, with a bound on everything that the file may claim.

Format: https://mcap.dev/spec
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import replace
from io import BytesIO

import zstandard
from mcap.exceptions import McapError
from mcap.opcode import Opcode
from mcap.records import Chunk, DataEnd, McapRecord
from mcap.stream_reader import StreamReader, breakup_chunk

MAX_FILE = 64 * 1024 * 1024
"""Bytes of a file."""

MAX_CONTENTS = 512 * 1024 * 1024
"""Bytes of everything in a file, decompressed."""

_MAGIC = b"\x89MCAP0\r\n"
_FOOTER = struct.Struct("<BQQQI")  # opcode, length, start of the summary section, start of the summary offsets, checksum


class ContainerError(ValueError):
    """The bytes are no complete, undamaged MCAP file of bearable size."""


def read_records(data: bytes) -> Iterator[McapRecord]:
    """Yields the records of an MCAP file, those inside chunks too.

    Raises:
        ContainerError: The file is too large, truncated or damaged.
    """
    if len(data) > MAX_FILE:
        raise ContainerError(f"{len(data)} bytes are more than the limit of {MAX_FILE}")
    _check_summary(data)
    left = MAX_CONTENTS
    ended = False
    try:
        for record in StreamReader(BytesIO(data), emit_chunks=True, validate_crcs=True, record_size_limit=len(data)).records:
            ended |= isinstance(record, DataEnd)
            if isinstance(record, Chunk):
                plain = _decompress(record, left)
                left -= len(plain.data)
                yield from breakup_chunk(plain, validate_crc=True)
            else:
                yield record
    except (McapError, struct.error, ValueError, IndexError, KeyError, OverflowError, zstandard.ZstdError) as error:
        raise ContainerError(str(error).splitlines()[0] if str(error) else type(error).__name__) from error
    if not ended:
        raise ContainerError("its data section does not end")


def _check_summary(data: bytes) -> None:
    """Checks what the reading library does not: the checksum over summary and footer, and the closing magic."""
    end = len(data) - len(_MAGIC)
    if not data.startswith(_MAGIC):
        raise ContainerError("it is not an MCAP file" if data else "it is empty")
    if end < len(_MAGIC) + _FOOTER.size or data[end:] != _MAGIC:
        raise ContainerError("it is truncated")
    opcode, length, summary, _, checksum = _FOOTER.unpack_from(data, end - _FOOTER.size)
    start = summary or end - _FOOTER.size
    if opcode != Opcode.FOOTER or length != _FOOTER.size - 9 or start > end - _FOOTER.size:
        raise ContainerError("its footer is damaged")
    if checksum and zlib.crc32(data[start : end - 4]) != checksum:
        raise ContainerError("its summary is damaged")


def _decompress(chunk: Chunk, limit: int) -> Chunk:
    """The chunk without compression; never takes more memory than ``limit``, whatever the compressed data holds."""
    if chunk.uncompressed_size > limit:
        raise ContainerError(f"it claims {chunk.uncompressed_size} bytes of contents")
    if chunk.compression == "zstd":
        data = zstandard.ZstdDecompressor().stream_reader(chunk.data).read(chunk.uncompressed_size)
    elif chunk.compression == "":
        data = chunk.data
    else:
        raise ContainerError(f"it is compressed with {chunk.compression[:16]!r}; zstd is supported")
    if len(data) != chunk.uncompressed_size:
        raise ContainerError("a chunk is shorter than it claims")
    return replace(chunk, compression="", data=data)

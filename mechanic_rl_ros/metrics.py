"""The record of a run: metrics.jsonl, one JSON object a line, written by one process, read by any number while it grows, and mirrored to TensorBoard."""

from __future__ import annotations

import errno
import json
import math
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any, TypedDict

Record = dict[str, Any]
"""One line. ``kind`` says which of the shapes below it has."""

FILE = "metrics.jsonl"


class RunRecord(TypedDict):
    """Start of a run. ``started``: Unix seconds."""

    kind: str
    task: str
    seed: int
    checkpoint: str
    started: float


EpisodeRecord = TypedDict(
    "EpisodeRecord",
    {
        "kind": str,
        "number": int,
        "outcome": str,
        "return": float,
        "steps": int,
        "best_of_n": bool,
        "policy_version": int,
        "success_20": float,
        "stamp": float,
        "wall": float,
    },
)
"""End of an episode. ``success_20``: fraction of the last 20; ``stamp``: simulated seconds; ``wall``: Unix seconds, here and below."""


class LearnerRecord(TypedDict):
    """State of the learner. The scales are those of the tuner, the sum of its components; ``update_ms`` is the time of one update."""

    kind: str
    version: int
    updates: int
    episodes: int
    rows: int
    actor_scale: float
    critic_scale: float
    value_scale: float
    skipped_gradients: int
    withheld: int
    rollbacks: int
    actor_loss: float
    critic_loss: float
    update_ms: float
    plain_success: float
    best_success: float
    prefers_best_of_n: bool
    wall: float


class ScalesRecord(TypedDict):
    """Scale of every network's tuner after each of the last updates, the newest of which is number ``updates``."""

    kind: str
    updates: int
    scales: dict[str, list[float]]
    wall: float


class CommandRecord(TypedDict):
    """Timing of the command node over ``period_count`` periods. Mean error and deviation are fractions of the nominal ``period_ms``.

    Latency is camera stamp to command, simulated: of every chunk in this window, and quantiles over the last 500 chunks. Reaction is chunk received to
    command, wall time, of every chunk in this window.
    """

    kind: str
    period_ms: float
    period_mean_error: float
    period_deviation: float
    period_p99_ms: float
    period_count: int
    latencies_ms: list[float]
    reactions_ms: list[float]
    latency_p50_ms: float
    latency_p99_ms: float
    late_actions: int
    holding: str
    limited: dict[str, int]
    wall: float


class PolicyRecord(TypedDict):
    """State of the policy node. ``swap_ms``: from weights published to acting with them, below 0 before the first; ``refused``: weights not believed."""

    kind: str
    version: int
    inference_ms: float
    swap_ms: float
    refused: int
    wall: float


class SimRecord(TypedDict):
    """Speed of the simulation, simulated seconds per second."""

    kind: str
    real_time_factor: float
    wall: float


class WaitingRecord(TypedDict):
    """Why no episode runs, in one line; empty when nothing is in the way any more."""

    kind: str
    reason: str
    wall: float


class EvaluationRecord(TypedDict):
    """Success of a checkpoint (``name`` base or tuned) on seeds that training never used, with the bounds of a 95 % Wilson interval."""

    kind: str
    name: str
    successes: int
    episodes: int
    low: float
    high: float
    seed_first: int
    wall: float


KINDS: dict[str, Any] = {
    "run": RunRecord,
    "episode": EpisodeRecord,
    "learner": LearnerRecord,
    "scales": ScalesRecord,
    "command": CommandRecord,
    "policy": PolicyRecord,
    "sim": SimRecord,
    "waiting": WaitingRecord,
    "evaluation": EvaluationRecord,
}


class MetricsWriter:
    """Appends records; every line reaches the operating system before ``write`` returns, so that a killed process loses none."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """Opens ``path`` for appending, behind whatever a killed writer left.

        Raises:
            OSError: It cannot be written.
        """
        self._path = Path(path)
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._torn = _is_torn(self._path)
        self._file = open(self._path, "ab", buffering=0)  # noqa: SIM115 - closed by close()

    def write(self, kind: str, **fields: Any) -> Record:
        """Appends one record; ``wall`` is added unless given (``run`` has none). Returns what was written.

        Raises:
            ValueError: There is no such kind, or a field is missing or not declared.
            OSError: The disk is full. The next record starts on a line of its own all the same.
        """
        if kind not in KINDS:
            raise ValueError(f"there is no record of kind {kind!r}: use one of {', '.join(KINDS)}")
        if kind != "run":
            fields.setdefault("wall", time.time())
        record: Record = {"kind": kind, **{key: _plain(value) for key, value in fields.items()}}
        declared = KINDS[kind].__required_keys__
        for problem, names in (("lacks", declared - record.keys()), ("does not declare", record.keys() - declared)):
            if names:
                raise ValueError(f"record {kind!r} {problem} {', '.join(sorted(names))}")
        line = (b"\n" if self._torn else b"") + json.dumps(record, allow_nan=False).encode() + b"\n"
        self._torn = True
        try:
            written = self._file.write(line)
        except OSError as error:  # does not say which file
            raise OSError(error.errno, error.strerror, str(self._path)) from error
        if written != len(line):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self._path))
        self._torn = False
        return record

    def close(self) -> None:
        """Closes the file."""
        self._file.close()

    def __enter__(self) -> MetricsWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class MetricsTail:
    """Reads a growing metrics.jsonl piece by piece. A file that is not there yet is an empty one."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """Starts at the beginning of ``path``."""
        self._path = Path(path)
        self._offset = 0
        self._rest = b""

    def poll(self) -> list[Record]:
        """Records that were completed since the last call."""
        try:
            with open(self._path, "rb") as file:
                file.seek(self._offset)
                data = file.read()
        except FileNotFoundError:
            return []
        self._offset += len(data)
        *lines, self._rest = (self._rest + data).split(b"\n")
        return list(_parse(lines))


def read_metrics(path: str | os.PathLike[str]) -> list[Record]:
    """All records of a file. Torn and foreign lines are skipped.

    Raises:
        OSError: The file cannot be read.
    """
    return list(_parse(Path(path).read_bytes().split(b"\n")))


class TensorBoardMirror:
    """Writes the numbers of records as TensorBoard scalars, ``<kind>/<field>``, without importing torch or tensorflow.

    Steps are episode numbers for ``episode``, updates for ``learner`` and ``scales``, and the number of episodes so far for everything else.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        """The first record starts a new event file in ``folder``."""
        from tensorboard.compat.proto import event_pb2

        self._folder = Path(folder)
        self._file: IO[bytes] | None = None
        self._events = event_pb2
        self._episodes = 0

    def add(self, record: Mapping[str, Any]) -> None:
        """Mirrors one record.

        Raises:
            OSError: It cannot be written yet; it is written with the next one for which there is room.
        """
        if self._file is None:
            self._open()
        kind = record["kind"]
        if kind == "episode":
            self._episodes = int(record["number"])
        step = int(record["updates"]) if kind == "learner" else self._episodes
        name = f"evaluation/{record['name']}" if kind == "evaluation" else kind
        wall = float(record.get("wall") or time.time())
        for number, scalars in _by_update(record) if kind == "scales" else [(step, dict(_scalars(record)))]:
            event = self._events.Event(wall_time=wall, step=number)
            for field, value in scalars.items():
                event.summary.value.add(tag=f"{name}/{field}", simple_value=value)
            if event.summary.value:
                self._write(event)

    def close(self) -> None:
        """Closes the file.

        Raises:
            OSError: Something is left for which there is no room.
        """
        if self._file is not None:
            self._file.close()

    def _open(self) -> None:
        from tensorboard.summary.writer.record_writer import RecordWriter

        self._folder.mkdir(parents=True, exist_ok=True)
        name = f"events.out.tfevents.{int(time.time()):010d}.{os.uname().nodename}.{os.getpid()}"
        self._file = open(self._folder / name, "ab")  # noqa: SIM115 - closed by close()
        self._records = RecordWriter(self._file)
        self._write(self._events.Event(wall_time=time.time(), file_version="brain.Event:2"))

    def _write(self, event: Any) -> None:
        assert self._file is not None
        self._records.write(event.SerializeToString())
        self._file.flush()


def _scalars(record: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    if record["kind"] == "episode":
        yield "success", float(record["outcome"] == "success")
    for field, value in record.items():
        if field not in ("wall", "started", "stamp", "number", "seed") and isinstance(value, (int, float)):
            yield field, float(value)


def _by_update(record: Mapping[str, Any]) -> Iterator[tuple[int, dict[str, float]]]:
    rows = list(zip(*record["scales"].values(), strict=True))
    for number, row in enumerate(rows, record["updates"] - len(rows) + 1):
        yield number, {name: value for name, value in zip(record["scales"], row, strict=True) if value is not None}


def _parse(lines: list[bytes]) -> Iterator[Record]:
    for line in lines:
        try:
            record = json.loads(line)
        except ValueError:
            continue
        kind = record.get("kind") if isinstance(record, dict) else None
        if isinstance(kind, str) and kind in KINDS and KINDS[kind].__required_keys__ <= record.keys():
            yield record


def _is_torn(path: Path) -> bool:
    if not path.exists() or path.stat().st_size == 0:
        return False
    with open(path, "rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1) != b"\n"


def _plain(value: Any) -> Any:
    """NumPy values as plain ones; JSON has no NaN, so what is not a number becomes null."""
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value

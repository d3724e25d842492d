"""Episodes as MCAP files of profile ros2: ``ros2 bag info`` and Foxglove read them, and so can anybody without this package.

Topics: ``/observation/<camera>`` (sensor_msgs/Image, T + 1 messages), ``/observation/state`` (sensor_msgs/JointState, T + 1, one name per channel) and
``/step`` (mechanic_rl_ros/Step, T). What holds for the whole episode is in a metadata record named ``episode``, its values as JSON.
"""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Callable
from functools import lru_cache
from io import BytesIO
from typing import Any

import numpy as np
from mcap.records import Channel, Header, Message, Metadata, Schema
from mcap.writer import CompressionType, Writer
from mcap_ros2.decoder import DecoderFactory

from mechanic_rl_ros.data import NO_TRACE, Episode, Outcome, stack_traces
from mechanic_rl_ros.embodiment import Embodiment
from mechanic_rl_ros.errors import UserError
from mechanic_rl_ros.replay import cdr, definitions
from mechanic_rl_ros.replay.atomic import write_atomically
from mechanic_rl_ros.replay.episode_check import MAX_STEPS, EpisodeError, check_episode
from mechanic_rl_ros.replay.mcap_container import MAX_FILE, ContainerError, read_records

FORMAT = 1
"""Version of the layout."""

SUFFIX = ".mcap"

_STATE = "/observation/state"
_STEP = "/step"


def write_episode(path: str | os.PathLike[str], episode: Episode) -> None:
    """Writes an episode so that ``path`` is either complete or not there.

    Raises:
        EpisodeError: The episode is malformed.
        OSError: The folder cannot be written, or the disk is full.
    """
    write_atomically(path, encode_episode(episode))


def read_episode(path: str | os.PathLike[str], embodiment: Embodiment | None = None) -> Episode:
    """Reads and checks an episode.

    Args:
        path: The file.
        embodiment: What it must have been recorded with; None takes any.

    Raises:
        EpisodeError: The file cannot be read, is damaged, holds no episode or was made for another embodiment.
    """
    try:
        with open(path, "rb") as file:
            data = file.read(MAX_FILE + 1)
    except OSError as error:
        raise EpisodeError(f"cannot read episode {os.fspath(path)} ({error.strerror}): check the path and its permissions") from error
    return decode_episode(data, embodiment, os.fspath(path))


def encode_episode(episode: Episode) -> bytes:
    """An episode as the bytes of its file.

    Raises:
        EpisodeError: The episode is malformed.
    """
    check_episode(episode)
    stream = BytesIO()
    writer = Writer(stream, chunk_size=1 << 20, compression=CompressionType.ZSTD, enable_data_crcs=True)
    writer.start(profile="ros2", library="mechanic_rl_ros")
    writer.add_metadata("episode", {name: json.dumps(value) for name, value in _facts(episode).items()})
    _write_messages(writer, episode)
    writer.finish()
    return stream.getvalue()


def decode_episode(data: bytes, embodiment: Embodiment | None = None, name: str = "") -> Episode:
    """Reads and checks an episode from the bytes of its file. ``name`` is what errors call it.

    Raises:
        EpisodeError: As ``read_episode``.
    """
    what = f"episode {name}" if name else "episode"
    try:
        facts, messages = _read_messages(data)
        episode = _assemble(facts, messages)
        check_episode(episode)
    except (ContainerError, UserError, ValueError, KeyError, TypeError, AttributeError, struct.error, RecursionError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise EpisodeError(f"{what} is damaged or no episode ({reason}): record it again or leave it out") from error
    if embodiment is not None:
        try:
            embodiment.require_same(episode.embodiment, what)
        except UserError as error:
            raise EpisodeError(str(error)) from error
    return episode


def _facts(episode: Episode) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "id": episode.id,
        "task": episode.task,
        "seed": int(episode.seed),
        "outcome": episode.outcome.value,
        "best_of_n": bool(episode.best_of_n),
        "steps": episode.steps,
        "embodiment": episode.embodiment.to_dict(),
    }


def _write_messages(writer: Writer, episode: Episode) -> None:
    body = episode.embodiment
    schemas = {
        kind: writer.register_schema(kind, "ros2msg", definitions.definition(kind)) for kind in (definitions.IMAGE, definitions.JOINT_STATE, definitions.STEP)
    }
    cameras = {key: writer.register_channel(f"/observation/{key}", "cdr", schemas[definitions.IMAGE]) for key in episode.images}
    state = writer.register_channel(_STATE, "cdr", schemas[definitions.JOINT_STATE])
    step = writer.register_channel(_STEP, "cdr", schemas[definitions.STEP])
    names = [channel.name for channel in body.state]
    for index, stamp in enumerate(episode.stamps_ns.tolist()):
        for key, channel in cameras.items():
            writer.add_message(channel, stamp, cdr.encode_image(stamp, body.cameras[key].frame, episode.images[key][index]), stamp, index)
        writer.add_message(state, stamp, cdr.encode_state(stamp, body.base_frame, names, episode.states[index]), stamp, index)
        if index < episode.steps:
            reward, version, source = float(episode.rewards[index]), int(episode.policy_versions[index]), int(episode.sources[index])
            trace = episode.traces[index] if episode.traces.size else NO_TRACE
            trace = NO_TRACE if np.isnan(trace).all() else trace
            message = cdr.encode_step(stamp, body.base_frame, index, episode.actions[index], reward, version, source, trace)
            writer.add_message(step, stamp, message, stamp, index)


def _read_messages(data: bytes) -> tuple[dict[str, Any], dict[str, list[Any]]]:
    """The facts, and topic -> decoded messages in the order of the file."""
    facts: dict[str, Any] = {}
    schemas: dict[int, Schema] = {}
    channels: dict[int, tuple[str, Callable[[bytes], Any]]] = {}
    messages: dict[str, list[Any]] = {}
    for record in read_records(data):
        if isinstance(record, Header) and record.profile != "ros2":
            raise EpisodeError(f"its profile is {record.profile[:16]!r}, not 'ros2'")
        if isinstance(record, Metadata) and record.name == "episode":
            facts = {key: json.loads(value) for key, value in record.metadata.items()}
        elif isinstance(record, Schema):
            schemas[record.id] = record
        elif isinstance(record, Channel) and record.id not in channels:
            schema = schemas[record.schema_id]
            channels[record.id] = (record.topic, _decoder(schema.name, schema.data, schema.encoding, record.message_encoding))
            messages[record.topic] = []
        elif isinstance(record, Message):
            topic, decode = channels[record.channel_id]
            if len(messages[topic]) > MAX_STEPS:
                raise EpisodeError(f"more than {MAX_STEPS} messages on {topic}")
            messages[topic].append(decode(record.data))
    if facts.get("format") != FORMAT:
        raise EpisodeError(f"format {facts.get('format', 'unknown')} is not the supported format {FORMAT}")
    return facts, messages


@lru_cache(maxsize=16)
def _decoder(name: str, definition: bytes, schema_encoding: str, message_encoding: str) -> Callable[[bytes], Any]:
    decoder = DecoderFactory().decoder_for(message_encoding, Schema(id=1, name=name, encoding=schema_encoding, data=definition))
    if decoder is None:
        raise EpisodeError(f"its messages are encoded as {message_encoding[:16]!r}, not 'cdr'")
    return decoder


def _assemble(facts: dict[str, Any], messages: dict[str, list[Any]]) -> Episode:
    body = Embodiment.from_dict(facts["embodiment"])
    states, steps = messages[_STATE], messages[_STEP]
    names = [channel.name for channel in body.state]
    stamps = [_stamp(message) for message in states]
    if [step.index for step in steps] != list(range(len(states) - 1)) or facts["steps"] != len(steps):
        raise EpisodeError(f"{len(steps)} steps do not join {len(states)} observations")
    if any(list(message.name) != names for message in states):
        raise EpisodeError("its state channels are not those of its embodiment")
    return Episode(
        id=str(facts["id"]),
        task=str(facts["task"]),
        seed=int(facts["seed"]),
        outcome=Outcome(facts["outcome"]),
        stamps_ns=np.array(stamps, np.int64),
        images={key: _images(messages[f"/observation/{key}"], stamps, (camera.height, camera.width)) for key, camera in body.cameras.items()},
        states=np.array([message.position for message in states], np.float32),
        actions=np.array([step.action for step in steps], np.float32),
        rewards=np.array([step.reward for step in steps], np.float32),
        policy_versions=np.array([step.policy_version for step in steps], np.int64),
        sources=np.array([step.source for step in steps], np.uint8),
        best_of_n=bool(facts["best_of_n"]),
        embodiment=body,
        traces=stack_traces([np.array(getattr(step, "trace", ()), np.float32) for step in steps]),
    )


def _images(messages: list[Any], stamps: list[int], size: tuple[int, int]) -> np.ndarray:
    """uint8 (T + 1, height, width, 3)."""
    if [_stamp(message) for message in messages] != stamps:
        raise EpisodeError("images and states were not taken at the same times")
    height, width = size
    for message in messages:
        if (message.encoding, message.height, message.width, message.step, len(message.data)) != ("rgb8", height, width, 3 * width, 3 * width * height):
            raise EpisodeError(
                f"an image is {message.width}x{message.height} {message.encoding[:16]!r} of {len(message.data)} bytes, not {width}x{height} 'rgb8'"
            )
    return np.frombuffer(b"".join(bytes(message.data) for message in messages), np.uint8).reshape(-1, height, width, 3).copy()


def _stamp(message: Any) -> int:
    return message.header.stamp.sec * cdr.NANOSECONDS + message.header.stamp.nanosec

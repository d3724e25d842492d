"""An episode file gives back exactly what was recorded, or one line that says why not."""

import os
import resource
from dataclasses import replace
from io import BytesIO

import numpy as np
import pytest
from mcap.reader import make_reader
from mcap_ros2.decoder import DecoderFactory

from mechanic_rl_ros.data import Outcome
from mechanic_rl_ros.embodiment import Embodiment, load_embodiment
from mechanic_rl_ros.replay.episode_check import EpisodeError
from mechanic_rl_ros.replay.episode_file import decode_episode, encode_episode, read_episode, write_episode

ARRAYS = ("stamps_ns", "states", "actions", "rewards", "policy_versions", "sources")


def assert_same(left, right):
    for name in ARRAYS:
        a, b = getattr(left, name), getattr(right, name)
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)
    assert left.images.keys() == right.images.keys()
    for key in left.images:
        np.testing.assert_array_equal(left.images[key], right.images[key])
    for name in ("id", "task", "seed", "outcome", "best_of_n", "embodiment"):
        assert getattr(left, name) == getattr(right, name)


@pytest.mark.parametrize("outcome", list(Outcome))
def test_an_episode_read_back_equals_the_one_written(make_episode, tmp_path, outcome):
    episode = make_episode(steps=60, outcome=outcome, best_of_n=outcome is Outcome.TIMEOUT)
    write_episode(tmp_path / "e.mcap", episode)
    assert_same(read_episode(tmp_path / "e.mcap", load_embodiment()), episode)
    assert os.listdir(tmp_path) == ["e.mcap"]


def test_traces_read_back_are_those_written_and_say_where_none_begins(make_episode):
    traces = np.full((4, 5), np.nan, np.float32)
    traces[[0, 3]] = np.arange(10, dtype=np.float32).reshape(2, 5)
    episode = replace(make_episode(), traces=traces)
    np.testing.assert_array_equal(decode_episode(encode_episode(episode)).traces, traces)
    assert decode_episode(encode_episode(make_episode())).traces.shape == (0, 0)


def test_images_read_back_can_be_changed_like_any_array(episode):
    image = decode_episode(encode_episode(episode)).images["front"]
    image[:] = 0


def test_any_mcap_reader_finds_standard_ros_2_messages(episode):
    """With the library's own index reader and CDR decoder, which know nothing of this package."""
    reader = make_reader(BytesIO(encode_episode(episode)), decoder_factories=[DecoderFactory()])
    assert reader.get_header().profile == "ros2"
    counts = {reader.get_summary().channels[key].topic: count for key, count in reader.get_summary().statistics.channel_message_counts.items()}
    assert counts == {"/observation/front": 5, "/observation/wrist": 5, "/observation/state": 5, "/step": 4}
    seen = {topic: 0 for topic in counts}
    for schema, channel, raw, message in reader.iter_decoded_messages():
        index = seen[channel.topic]
        seen[channel.topic] += 1
        stamp = message.header.stamp.sec * 10**9 + message.header.stamp.nanosec
        assert stamp == raw.log_time == episode.stamps_ns[index]
        if channel.topic == "/observation/wrist":
            assert (schema.name, message.encoding, message.header.frame_id) == ("sensor_msgs/msg/Image", "rgb8", "camera_wrist_optical_frame")
            np.testing.assert_array_equal(np.frombuffer(message.data, np.uint8).reshape(message.height, message.width, 3), episode.images["wrist"][index])
        elif channel.topic == "/observation/state":
            assert schema.name == "sensor_msgs/msg/JointState"
            assert dict(zip(message.name, np.float32(message.position), strict=True))["finger_position"] == episode.states[index, 3]
        elif channel.topic == "/step":
            assert (message.index, message.policy_version, message.source) == (index, index, episode.sources[index])
            np.testing.assert_array_equal(np.float32(message.action), episode.actions[index])


def test_the_rosbags_library_reads_the_file_as_a_bag(episode, tmp_path):
    highlevel = pytest.importorskip("rosbags.highlevel")
    write_episode(tmp_path / "e.mcap", episode)
    with highlevel.AnyReader([tmp_path / "e.mcap"]) as reader:
        messages = [(connection.topic, reader.deserialize(raw, connection.msgtype)) for connection, _, raw in reader.messages()]
    actions = [message.action for topic, message in messages if topic == "/step"]
    np.testing.assert_array_equal(np.array(actions), episode.actions)


def test_a_file_cut_short_anywhere_is_refused_with_one_line(episode):
    data = encode_episode(episode)
    lengths = {*range(0, 120), *range(len(data) - 120, len(data)), *range(0, len(data), 997)}
    for length in sorted(lengths):
        refused(data[:length])


def test_a_flipped_bit_anywhere_is_refused_with_one_line(episode):
    data = encode_episode(episode)
    random = np.random.default_rng(0)
    offsets = {*range(0, 200), *range(len(data) - 900, len(data)), *random.integers(0, len(data), 300).tolist()}
    for offset in sorted(offsets):
        damaged = bytearray(data)
        damaged[offset] ^= 1 << int(random.integers(8))
        refused(bytes(damaged))


def refused(data):
    with pytest.raises(EpisodeError) as caught:
        decode_episode(data)
    assert "\n" not in str(caught.value)
    assert "damaged or no episode" in str(caught.value)


def test_a_compressed_bomb_is_refused_without_taking_its_memory():
    """One zstd chunk of a kilobyte that claims, honestly, a gigabyte."""
    import zstandard
    from mcap.data_stream import RecordBuilder
    from mcap.opcode import Opcode
    from mcap.records import Chunk, DataEnd, Footer, Header

    size = 1 << 30
    compressor = zstandard.ZstdCompressor().compressobj(size=size)
    bomb = b"".join(compressor.compress(bytes(1 << 24)) for _ in range(64)) + compressor.flush()
    for claimed in (size, 1000):
        builder = RecordBuilder()
        for record in (Header("ros2", ""), Chunk("zstd", bomb, 0, 0, 0, claimed), DataEnd(0), Footer(0, 0, 0)):
            record.write(builder)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        assert Opcode.CHUNK in builder._buffer.getvalue()
        refused(b"\x89MCAP0\r\n" + builder.end() + b"\x89MCAP0\r\n")
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # KiB


@pytest.mark.parametrize(
    "data", [b"", b"hello", b"\x80\x04\x95pickle", b"\x89MCAP0\r\n", b"\x89MCAP0\r\n" * 2, b"\x89MCAP0\r\n" * 100, bytes(1 << 26) + b"x"], ids=range(7)
)
def test_something_that_is_no_episode_is_refused(data):
    refused(data)


def test_a_file_beyond_the_size_limit_is_refused_before_it_is_looked_at(episode, monkeypatch):
    data = encode_episode(episode)
    monkeypatch.setattr("mechanic_rl_ros.replay.mcap_container.MAX_FILE", len(data))
    decode_episode(data)
    monkeypatch.setattr("mechanic_rl_ros.replay.mcap_container.MAX_FILE", len(data) - 1)
    with pytest.raises(EpisodeError, match="more than the limit"):
        decode_episode(data)


def test_a_bag_without_an_episode_is_refused():
    from mcap_ros2.writer import Writer

    stream = BytesIO()
    with Writer(stream) as writer:
        schema = writer.register_msgdef("std_msgs/msg/String", "string data")
        writer.write_message("/chatter", schema, {"data": "hello"})
    refused(stream.getvalue())


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        ("id", "../../etc/passwd", "file name"),
        ("id", "", "file name"),
        ("task", "two words", "task name"),
        ("actions", np.zeros((0, 4), np.float32), "0 steps"),
        ("actions", np.zeros((4, 3), np.float32), "actions is"),
        ("actions", np.zeros((4, 4), np.float64), "float64"),
        ("actions", np.full((4, 4), np.nan, np.float32), "finite"),
        ("actions", np.full((4, 4), 1.5, np.float32), "normalised"),
        ("rewards", np.full(4, np.inf, np.float32), "finite"),
        ("states", np.zeros((4, 4), np.float32), "states is"),
        ("stamps_ns", np.zeros(5, np.int64), "do not rise"),
        ("policy_versions", np.full(4, -1), "negative"),
        ("sources", np.full(4, 9, np.uint8), "source"),
        ("traces", np.zeros((3, 5), np.float32), "traces is"),
        ("traces", np.array([[0.0, np.inf]] * 4, np.float32), "a trace is not finite"),
        ("images", {}, "cameras"),
        ("images", {"front": np.zeros((5, 48, 48, 3), np.uint8), "wrist": np.zeros((5, 48, 64, 3), np.uint8)}, "wrist"),
    ],
)
def test_a_malformed_episode_is_not_written(episode, tmp_path, field, value, reason):
    with pytest.raises(EpisodeError, match=reason):
        write_episode(tmp_path / "e.mcap", replace(episode, **{field: value}))
    assert os.listdir(tmp_path) == []


def test_a_malformed_episode_is_not_believed_when_read(episode, monkeypatch):
    monkeypatch.setattr("mechanic_rl_ros.replay.episode_file.check_episode", lambda episode: None)
    data = encode_episode(replace(episode, rewards=np.full(4, np.nan, np.float32)))
    monkeypatch.undo()
    with pytest.raises(EpisodeError, match="rewards are not all finite"):
        decode_episode(data)


def test_an_episode_of_another_embodiment_is_refused_with_the_differing_line(episode):
    data = encode_episode(episode)
    changed = load_embodiment().to_dict()
    changed["policy_rate"] = 20.0
    with pytest.raises(EpisodeError, match=r"policy_rate: 20\.0 != 10\.0"):
        decode_episode(data, Embodiment.from_dict(changed))


def test_a_missing_file_is_one_clear_line(tmp_path):
    with pytest.raises(EpisodeError, match=r"cannot read episode .*none.mcap \(No such file or directory\)"):
        read_episode(tmp_path / "none.mcap")


def test_a_file_is_on_disk_as_a_whole_before_it_gets_its_name(episode, tmp_path, monkeypatch):
    path, events = tmp_path / "e.mcap", []
    fsync, rename = os.fsync, os.replace

    def synced(descriptor):
        events.append(f"fsync {os.path.basename(os.readlink(f'/proc/self/fd/{descriptor}'))}")
        fsync(descriptor)

    def renamed(source, target):
        assert not path.exists()
        assert read_episode(source).id == episode.id
        events.append("rename")
        rename(source, target)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "replace", renamed)
    write_episode(path, episode)
    assert events == [f"fsync .e.mcap.{os.getpid()}.tmp", "rename", f"fsync {tmp_path.name}"]


def test_a_full_disk_leaves_the_old_file_and_no_half_written_one(episode, tmp_path):
    path = tmp_path / "e.mcap"
    write_episode(path, episode)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with pytest.raises(OSError, match="too large"):
            write_episode(path, replace(episode, seed=99))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert os.listdir(tmp_path) == ["e.mcap"]
    assert read_episode(path).seed == episode.seed

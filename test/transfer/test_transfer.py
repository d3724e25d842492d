"""Weights and episodes arrive whole and verified, or not at all."""

import os
import tracemalloc
import zlib
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mechanic_rl_ros.transfer import EPISODE, MAX_CHUNK_SIZE, WEIGHTS, Chunk, Inbox, Manifest, Outbox, TransferError


def sent(payload, version=1, source="/learner", kind="weights", id="policy", signature="abc", chunk_size=10):
    outbox = Outbox(source, chunk_size=chunk_size)
    manifest = outbox.put(kind, id, version, payload, signature)
    return manifest, [outbox.chunk(manifest.key, index) for index in range(manifest.chunk_count)]


def deliver(inbox, manifest, chunks, now=0.0):
    inbox.accept(manifest, now)
    done = [inbox.add(chunk, now) for chunk in chunks]
    return next((item for item in done if item is not None), None)


def test_a_payload_arrives_as_it_was_sent():
    payload = os.urandom(2 * MAX_CHUNK_SIZE + 5)
    manifest, chunks = sent(payload, chunk_size=MAX_CHUNK_SIZE)
    inbox = Inbox(WEIGHTS)
    completed = deliver(inbox, manifest, chunks)
    assert completed is not None
    assert completed.payload == payload
    assert completed.manifest == manifest
    assert [len(chunk.data) for chunk in chunks] == [MAX_CHUNK_SIZE, MAX_CHUNK_SIZE, 5]
    assert inbox.missing() == []
    assert inbox.refused == 0


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_any_order_duplicates_losses_and_damage_end_in_the_right_payload_or_in_none(data):
    payload = data.draw(st.binary(min_size=1, max_size=300))
    manifest, chunks = sent(payload, chunk_size=data.draw(st.integers(1, 64)))
    stream = data.draw(st.lists(st.sampled_from(chunks), max_size=3 * len(chunks)))
    inbox = Inbox(WEIGHTS)
    assert inbox.accept(manifest)
    completed = None
    for chunk in stream:
        damage = data.draw(st.sampled_from(["none", "flip", "truncate", "index"]))
        result = inbox.add(_damaged(chunk, damage, data))
        completed = completed or result
    for wanted, indices in inbox.missing():
        assert wanted == manifest
        assert completed is None
        for index in indices:
            completed = inbox.add(chunks[index]) or completed
    assert completed is not None
    assert completed.payload == payload


def _damaged(chunk, damage, data):
    if damage == "flip":
        bit = data.draw(st.integers(0, len(chunk.data) * 8 - 1))
        flipped = bytearray(chunk.data)
        flipped[bit // 8] ^= 1 << bit % 8
        return replace(chunk, data=bytes(flipped))
    if damage == "truncate":
        return replace(chunk, data=chunk.data[: data.draw(st.integers(0, len(chunk.data) - 1))])
    if damage == "index":
        return replace(chunk, index=data.draw(st.sampled_from([-1, 10**9])))
    return chunk


def test_a_damaged_chunk_is_counted_explained_and_asked_for_again():
    manifest, chunks = sent(b"0123456789abcdefghij")
    inbox = Inbox(WEIGHTS)
    inbox.accept(manifest)
    inbox.add(replace(chunks[1], data=b"abcdefghiX"))
    inbox.add(chunks[0])
    assert inbox.counters["damaged_chunk"] == 1
    assert "damaged" in inbox.last_reason
    assert inbox.missing() == [(manifest, [1])]


@pytest.mark.parametrize("data", [b"", b"short", b"longer than the ten bytes of a chunk"])
def test_a_chunk_of_the_wrong_length_is_refused_even_if_its_checksum_is_right(data):
    manifest, chunks = sent(b"0123456789abcdefghij")
    inbox = Inbox(WEIGHTS)
    inbox.accept(manifest)
    assert inbox.add(replace(chunks[0], data=data, crc32=zlib.crc32(data))) is None
    assert inbox.counters["wrong_length"] == 1
    assert inbox.held_bytes == 0


def test_the_first_of_two_chunks_with_the_same_index_counts():
    manifest, chunks = sent(b"0123456789abcdefghij")
    inbox = Inbox(WEIGHTS)
    inbox.accept(manifest)
    inbox.add(chunks[0])
    inbox.add(replace(chunks[0], data=b"something!", crc32=zlib.crc32(b"something!")))
    assert inbox.add(chunks[1]).payload == b"0123456789abcdefghij"
    assert inbox.counters["duplicate_chunk"] == 1


def test_a_payload_that_does_not_match_the_announced_hash_is_refused():
    manifest, _ = sent(b"the announced bytes.")
    payload = b"some other 20 bytes."
    inbox = Inbox(WEIGHTS)
    assert deliver(inbox, manifest, [Chunk.of(manifest, index, payload) for index in range(2)]) is None
    assert inbox.counters["wrong_hash"] == 1
    assert inbox.held_bytes == 0


def test_a_claim_of_two_gigabytes_is_refused_before_anything_is_allocated():
    manifest = Manifest("weights", "policy", 1, 2 * 2**30, "0" * 64, MAX_CHUNK_SIZE, 4096, "abc", "/learner")
    inbox = Inbox(WEIGHTS)
    tracemalloc.start()
    assert not inbox.accept(manifest)
    assert inbox.add(Chunk("weights", "policy", 1, "/learner", 0, 0, b"")) is None
    assert tracemalloc.get_traced_memory()[1] < 100_000
    tracemalloc.stop()
    assert inbox.counters["too_large"] == 1
    assert "2147483648" in inbox.last_reason
    assert inbox.missing() == []


def test_memory_is_taken_only_as_chunks_arrive_and_the_sum_of_claims_is_bounded():
    inbox = Inbox(EPISODE, limit_bytes=1000, max_assemblies=100)
    for number in range(50):
        manifest, chunks = sent(bytes(300), kind="episode", id=f"e{number}")
        assert inbox.accept(manifest)
        inbox.add(chunks[0])
        assert sum(wanted.size for wanted, _ in inbox.missing()) <= 1000
    assert inbox.held_bytes == 30
    assert inbox.counters["evicted"] == 47


def test_at_most_so_many_payloads_are_assembled_at_once_and_the_idlest_goes():
    inbox = Inbox(EPISODE, max_assemblies=2)
    first, chunks = sent(bytes(30), kind="episode", id="first")
    second, _ = sent(bytes(30), kind="episode", id="second")
    third, _ = sent(bytes(30), kind="episode", id="third")
    inbox.accept(first)
    inbox.accept(second)
    inbox.add(chunks[0])
    inbox.accept(third)
    assert [wanted.id for wanted, _ in inbox.missing()] == ["first", "third"]


@pytest.mark.parametrize(
    "change",
    [
        {"size": 0},
        {"size": -5},
        {"chunk_count": 3},
        {"chunk_size": 0},
        {"chunk_size": MAX_CHUNK_SIZE + 1},
        {"size": 100_000, "chunk_size": 1, "chunk_count": 100_000},
        {"sha256": "xyz"},
        {"version": -1},
        {"version": 2**63},
        {"kind": "pickle"},
        {"id": ""},
        {"source": "x" * 1000},
        {"id": "two\nlines"},
    ],
)
def test_a_manifest_that_contradicts_itself_is_refused(change):
    manifest, _ = sent(b"0123456789abcdef")
    inbox = Inbox(WEIGHTS)
    assert not inbox.accept(replace(manifest, **change))
    assert inbox.counters["malformed_manifest"] == 1
    assert "\n" not in inbox.last_reason


def test_an_old_or_replayed_version_of_the_weights_is_refused():
    inbox = Inbox(WEIGHTS)
    for version in (1, 5):
        assert deliver(inbox, *sent(b"weights %d" % version, version)) is not None
    assert deliver(inbox, *sent(b"weights 4", 4)) is None
    assert deliver(inbox, *sent(b"weights 1", 1)) is None
    assert deliver(inbox, *sent(b"other weights 5", 5)) is None
    assert inbox.counters["old_version"] == 2
    assert inbox.counters["replayed"] == 1
    assert "version 5 came before" in inbox.last_reason


def test_hearing_of_the_current_version_again_is_no_fault():
    inbox = Inbox(WEIGHTS)
    assert deliver(inbox, *sent(b"weights")) is not None
    assert deliver(inbox, *sent(b"weights")) is None
    assert inbox.refused == 0
    assert inbox.counters["duplicate_manifest"] == 1


def test_newer_weights_replace_those_still_on_their_way():
    inbox = Inbox(WEIGHTS)
    old, chunks = sent(b"old weights of version 1")
    inbox.accept(old)
    inbox.add(chunks[0])
    assert deliver(inbox, *sent(b"new weights of version 2", 2)).manifest.version == 2
    assert inbox.missing() == []


def test_a_sender_killed_half_way_comes_back_with_another_payload_of_the_same_version():
    inbox = Inbox(WEIGHTS)
    deliver(inbox, *sent(b"version 3 complete", 3))
    half, chunks = sent(b"version 9 that was never finished", 9)
    deliver(inbox, half, chunks[:1])
    for version in (9, 4, 5):
        again, chunks = sent(b"version of the restarted learner", max(version, 4))
        if version == 9:
            assert inbox.accept(again)
        else:
            assert deliver(inbox, again, chunks).manifest.version == version


def test_a_second_sender_of_weights_is_detected():
    inbox = Inbox(WEIGHTS, sender_timeout_s=10.0)
    assert deliver(inbox, *sent(b"ours", 1), now=0.0) is not None
    assert deliver(inbox, *sent(b"theirs", 2, source="/other/learner"), now=5.0) is None
    assert inbox.counters["second_sender"] == 1
    assert "/other/learner" in inbox.last_reason
    assert deliver(inbox, *sent(b"ours again", 2), now=6.0) is not None


def test_another_sender_takes_over_when_the_first_is_silent():
    inbox = Inbox(WEIGHTS, sender_timeout_s=10.0)
    deliver(inbox, *sent(b"first", 1), now=0.0)
    assert deliver(inbox, *sent(b"second", 2, source="/b"), now=11.0) is not None


def test_weights_of_another_architecture_are_refused_before_they_travel():
    inbox = Inbox(WEIGHTS, signature="abc")
    manifest, _ = sent(b"weights", signature="def")
    assert not inbox.accept(manifest)
    assert inbox.counters["wrong_architecture"] == 1


def test_a_payload_of_another_kind_is_refused_and_puts_nothing_else_out():
    inbox = Inbox(WEIGHTS, max_assemblies=1)
    weights, chunks = sent(b"weights")
    inbox.accept(weights)
    foreign, _ = sent(b"an episode", kind="episode")
    assert not inbox.accept(foreign)
    assert inbox.last_reason == "episode 'policy' refused: this topic is for payloads of kind weights"
    assert (inbox.counters["wrong_kind"], inbox.refused) == (1, 1)
    assert inbox.add(chunks[0]).payload == b"weights"


def test_weights_that_could_not_be_used_do_not_block_lower_versions():
    inbox = Inbox(WEIGHTS)
    deliver(inbox, *sent(b"good", 1))
    bad = deliver(inbox, *sent(b"full of NaN", 10**12))
    inbox.reject(bad.manifest, "weight 'a' is not finite")
    assert deliver(inbox, *sent(b"good again", 2)) is not None
    assert inbox.counters["unusable"] == 1
    assert "not finite" in inbox.last_reason


def test_what_was_given_up_or_forgotten_is_taken_when_it_is_announced_again():
    inbox = Inbox(EPISODE)
    manifest, chunks = sent(b"0123456789abcdef", kind="episode", id="first")
    inbox.accept(manifest)
    inbox.add(chunks[0])
    inbox.give_up(manifest, "nobody sends it")
    assert (inbox.missing(), inbox.held_bytes, inbox.counters["given_up"]) == ([], 0, 1)
    assert inbox.last_reason == "episode 'first' given up: nobody sends it"
    assert deliver(inbox, manifest, chunks) is not None
    assert deliver(inbox, manifest, chunks) is None
    inbox.forget(manifest)
    assert deliver(inbox, manifest, chunks) is not None


def test_chunks_that_nothing_announced_are_counted_and_not_kept():
    _, chunks = sent(b"0123456789abcdef")
    inbox = Inbox(WEIGHTS)
    assert inbox.add(chunks[0]) is None
    assert inbox.counters["unknown_chunk"] == 1
    assert inbox.held_bytes == 0


def test_the_outbox_keeps_the_last_payloads_within_its_bounds():
    outbox = Outbox("/recorder", keep=2, limit_bytes=100, chunk_size=10)
    manifests = [outbox.put("episode", f"e{number}", 0, bytes([number]) * 40) for number in range(4)]
    assert [outbox.chunk(manifest.key, 0) is not None for manifest in manifests] == [False, False, True, True]
    assert outbox.chunk(manifests[3].key, 4) is None
    assert outbox.chunk(manifests[3].key, -1) is None
    assert outbox.chunk(manifests[3].key, 3).data == bytes([3]) * 10
    assert (outbox.dropped, outbox.refused) == (2, 4)
    with pytest.raises(TransferError, match="does not fit"):
        outbox.put("episode", "huge", 0, bytes(101))


@pytest.mark.parametrize("fields", [{"payload": b""}, {"kind": "other"}, {"id": ""}, {"version": -1}])
def test_an_impossible_payload_cannot_be_announced(fields):
    outbox = Outbox("/recorder")
    with pytest.raises(TransferError):
        outbox.put(**{"kind": "episode", "id": "e", "version": 0, "payload": b"x", **fields})

"""Payloads over topics when the other side is silent, slow, wrong or asks too much."""

from collections import Counter
from dataclasses import replace

import pytest

from mechanic_rl_ros import msg
from mechanic_rl_ros.nodes import payloads, qos
from mechanic_rl_ros.transfer import Chunk, Manifest

RECORDER = "/recorder_node"


class Shelf:
    """A recorder and a learner: what can be had, what was asked for, and what arrives."""

    def __init__(self, probe, play):
        self.probe, self.held, self.asked, self.deaf = probe, {}, Counter(), 0
        self.sender = payloads.PayloadSender(probe.node, "episodes", qos.EPISODES, self._chunk)
        self.pupil = play["pupil"](probe, "episodes", qos.EPISODES)
        self.inbox = self.pupil.inbox
        self.announce("first")
        self.await_payloads("first")
        self.pupil.completed.clear()

    def _chunk(self, key, index):
        self.asked[index] += 1
        manifest, payload = self.held.get(key, (None, b""))
        return None if manifest is None or self.asked[index] <= self.deaf else Chunk.of(manifest, index, payload)

    def announce(self, id, held=True, **changes):
        payload = id.encode() * 100
        manifest = replace(Manifest.of(payload, kind="episode", id=id, version=0, source=RECORDER, chunk_size=10), **changes)
        if held:
            self.held[manifest.key] = manifest, payload
        self.sender.announce(manifest)

    def await_payloads(self, *ids):
        self.probe.wait_for(lambda: [completed.manifest.id for completed in self.pupil.completed] == list(ids), f"episodes {', '.join(ids)}")


@pytest.fixture
def shelf(ros, play, monkeypatch):
    monkeypatch.setattr(payloads, "MAX_TRIES", 2)
    return Shelf(ros[1], play)


def test_a_payload_that_nobody_sends_is_given_up_until_it_is_announced_again(shelf):
    shelf.announce("lost", held=False)
    shelf.announce("next")
    shelf.await_payloads("next")
    assert shelf.inbox.counters["given_up"] == 1
    assert "episode 'lost' given up: nobody sends its chunks" in shelf.inbox.last_reason
    shelf.announce("lost")
    shelf.await_payloads("next", "lost")


def test_a_payload_that_comes_slowly_is_not_given_up(shelf):
    shelf.asked.clear()
    shelf.deaf = 1
    shelf.announce("slow")
    shelf.await_payloads("slow")
    assert set(shelf.asked.values()) == {2}
    assert len(shelf.asked) == 40
    assert shelf.inbox.refused == 0


def test_what_the_receiver_has_already_is_not_fetched_again(shelf, play):
    shelf.announce("next")
    other = play["pupil"](shelf.probe, "episodes", qos.EPISODES, wanted=lambda manifest: manifest.id != "first")
    shelf.probe.wait_for(lambda: other.completed, "an episode")
    assert [completed.manifest.id for completed in other.completed] == ["next"]


def test_after_a_payload_with_wrong_contents_the_next_one_is_fetched(shelf):
    shelf.announce("wrong", sha256="0" * 64)
    shelf.announce("next")
    shelf.await_payloads("next")
    assert shelf.inbox.counters["wrong_hash"] == 1


def test_of_too_many_announcements_the_oldest_is_dropped_and_counted(shelf, monkeypatch):
    monkeypatch.setattr(payloads, "MAX_WAITING", 2)
    shelf.announce("lost", held=False)
    for id in ("a", "b", "b", "c"):
        shelf.announce(id)
    shelf.probe.wait_for(lambda: "episode 'a' given up: more than 2 wait" in shelf.inbox.last_reason, "the first to be dropped")
    shelf.await_payloads("b", "c")
    assert shelf.inbox.counters["given_up"] == 2


def test_who_asks_for_too_much_at_once_gets_the_rest_when_it_asks_again(shelf, monkeypatch):
    monkeypatch.setattr(payloads, "MAX_QUEUED", 4)
    shelf.asked.clear()
    requests = shelf.probe.speaker(msg.ChunkRequest, "episodes/request", qos.CHUNKS)
    heard = shelf.probe.hear(msg.Chunk, "episodes/chunk", qos.CHUNKS)
    source = dict(kind="episode", id="first", source=RECORDER)
    requests.publish(msg.ChunkRequest(indices=list(range(8)), **source))
    shelf.probe.wait_for(lambda: len(shelf.asked) == 4, "the first four")
    requests.publish(msg.ChunkRequest(indices=[8], **source))
    shelf.probe.wait_for(lambda: shelf.asked[8] and heard, "one more")
    assert sorted(shelf.asked) == [0, 1, 2, 3, 8]
    requests.publish(msg.ChunkRequest(indices=[4], **source))
    shelf.probe.wait_for(lambda: shelf.asked[4], "what was dropped")

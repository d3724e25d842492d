"""Who else commands: told from a node that was killed and started again, also before the newcomer's name is known."""

from types import SimpleNamespace

import pytest

from mechanic_rl_ros.nodes import sources
from mechanic_rl_ros.nodes.sources import UNNAMED, SourceWatch

TOPIC = "action_chunk"


class Graph:
    """What a node hears of the graph, a second between two looks."""

    def __init__(self, monkeypatch, patient=False):
        self.now, self.publishers, self.wall = 0.0, [], None
        monkeypatch.setattr(sources, "time", SimpleNamespace(monotonic=lambda: self.now))
        self.watch = SourceWatch(self, [TOPIC], patient)

    def create_timer(self, period, look, clock):
        self.look = look

    def get_publishers_info_by_topic(self, topic):
        return [SimpleNamespace(node_namespace="/", node_name=name) for name in self.publishers]

    def see(self, *publishers, seconds=1):
        self.publishers = publishers
        for _ in range(seconds):
            self.now += sources.LOOK_S
            self.look()
        return self.watch.obstacle


@pytest.mark.parametrize("newcomer", [UNNAMED, "policy_node"])
def test_a_node_that_was_killed_and_started_again_is_no_second_source(monkeypatch, newcomer):
    graph = Graph(monkeypatch)
    assert graph.see("policy_node", seconds=5) == ""
    assert graph.see("policy_node", newcomer, seconds=round(sources.LEASE_S) - 1) == ""
    assert graph.see("policy_node") == ""


def test_another_node_is_named_at_once(monkeypatch):
    graph = Graph(monkeypatch)
    assert graph.see("policy_node", "teleop") == "/policy_node and /teleop publish action_chunk: stop all but one"
    assert graph.see("policy_node", "teleop", UNNAMED).endswith("/teleop and a node that does not say its name publish action_chunk: stop all but one")


@pytest.mark.parametrize(("second", "named"), [(UNNAMED, "/policy_node and a node that does not say its name"), ("policy_node", "2 nodes called /policy_node")])
def test_a_second_source_that_stays_is_named_whether_it_says_its_name_or_not(monkeypatch, second, named):
    graph = Graph(monkeypatch)
    assert graph.see("policy_node", second, seconds=round(sources.LEASE_S) + 2) == f"{named} publish action_chunk: stop all but one"


@pytest.mark.parametrize("other", [UNNAMED, "command_node"])
def test_on_a_robot_a_newcomer_holds_until_it_is_alone(monkeypatch, other):
    graph = Graph(monkeypatch, patient=True)
    assert graph.see("command_node", other).startswith("another /command_node publishes action_chunk, or was killed less than 30 s ago")
    assert graph.see("command_node") == ""

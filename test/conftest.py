"""Nodes as real processes in a ROS domain of their own, and a probe that talks to them. rclpy is imported only by tests that use it."""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mechanic_rl_ros.ros_domain import claimed_domain

BOUND_S = float(
    os.environ.get("MECHANIC_TEST_BOUND_S", "60")
)  # until something that was awaited counts as never coming; nothing is asserted about how long it took
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may have started this in the background, where Ctrl-C is ignored, also by children
END_S = 15.0  # between SIGINT and SIGKILL
DOMAINS = range(100, 20, -1)  # from above: `mechanic-rl finetune` takes the lowest free one
_turns = itertools.count()  # what a killed process has left of a domain, in shared memory, must not meet the next test


class Process:
    """A node that runs, and what it has printed so far."""

    def __init__(self, name: str, arguments: list[str], log: Path, environment: dict[str, str]) -> None:
        from ament_index_python.packages import get_package_prefix

        self.name, self.log = name, log
        executable = Path(get_package_prefix("mechanic_rl_ros")) / "lib" / "mechanic_rl_ros" / name
        with open(log, "wb") as output:
            self.process = subprocess.Popen([str(executable), *arguments], stdout=output, stderr=subprocess.STDOUT, env=environment)

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def output(self) -> str:
        return self.log.read_text(errors="replace")

    def ended(self) -> bool:
        return self.process.poll() is not None

    def status(self) -> int:
        """Waits for its end by itself."""
        return self.process.wait(BOUND_S)

    def kill(self) -> None:
        """Ends it as a crash would."""
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        """Ends it in order; killed if it does not obey."""
        if not self.ended():
            self.process.send_signal(signal.SIGINT)
        try:
            return self.process.wait(END_S)
        except subprocess.TimeoutExpired:
            self.kill()
            return self.process.returncode


class Nodes:
    """Starts nodes in one domain."""

    def __init__(self, domain: int, folder: Path) -> None:
        self.domain, self.folder = domain, folder
        self.started: list[Process] = []
        self.environment = {**os.environ, "ROS_DOMAIN_ID": str(domain), "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST", "MECHANIC_PARENT_DEATH_SIGNAL": "1"}
        self.environment |= {"RCUTILS_COLORIZED_OUTPUT": "0", "PYTHONUNBUFFERED": "1", "OMP_NUM_THREADS": "1"}

    def start(self, name: str, namespace: str = "", **parameters: Any) -> Process:
        """A node with parameters; it is ended after the test."""
        arguments = ["--ros-args", "-r", f"__ns:=/{namespace}"]
        for key, value in parameters.items():
            text = f"'{value}'" if isinstance(value, (str, Path)) else str(value).lower() if isinstance(value, bool) else repr(value)
            arguments += ["-p", f"{key}:={text}"]
        process = Process(name, arguments, self.folder / f"{len(self.started):02d}_{name}.log", self.environment)
        self.started.append(process)
        return process

    def refusal(self, name: str, **parameters: Any) -> str:
        """What a node says that must not start: one line, with exit status 1."""
        process = self.start(name, **parameters)
        assert process.status() == 1, process.output
        assert len(process.output.splitlines()) == 1, process.output
        return process.output.strip()

    def broken(self) -> bool:
        """Whether a node has ended by a mistake: then there is nothing to wait for."""
        return any(process.process.poll() not in (None, 0, -signal.SIGINT, -signal.SIGKILL) for process in self.started)

    def outputs(self) -> str:
        return "\n".join(f"--- {process.name} ({process.process.poll()})\n{process.output[-2000:]}" for process in self.started)

    def stop(self) -> None:
        for process in self.started:
            if not process.ended():
                process.process.send_signal(signal.SIGINT)
        for process in self.started:
            process.stop()


class Probe:
    """A participant of the domain that the test speaks and hears through. It lives while it is spun."""

    def __init__(self, nodes: Nodes) -> None:
        import rclpy
        from rclpy.clock import Clock, ClockType
        from rclpy.executors import SingleThreadedExecutor
        from rclpy.signals import SignalHandlerOptions

        os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"
        self.nodes = nodes
        self.context = rclpy.Context()
        rclpy.init(context=self.context, domain_id=nodes.domain, signal_handler_options=SignalHandlerOptions.NO)
        self.node = rclpy.create_node("probe", context=self.context, use_global_arguments=False)
        self.executor = SingleThreadedExecutor(context=self.context)
        self.executor.add_node(self.node)
        self.witness: Callable[[], Any] = str  # what a test that waited in vain tells beside the output of the nodes
        self.wall = self.node.wall = Clock(clock_type=ClockType.STEADY_TIME)  # on the node, as PayloadSender and PayloadReceiver expect it

    def hear(self, kind: Any, topic: str, profile: Any, react: Callable[[Any], None] | None = None) -> list[Any]:
        """Subscribes; the list grows as messages arrive while the probe is spun."""
        heard: list[Any] = []

        def note(message: Any) -> None:
            heard.append(message)
            if react is not None:
                react(message)

        self.node.create_subscription(kind, topic, note, profile)
        return heard

    def speaker(self, kind: Any, topic: str, profile: Any) -> Any:
        """A publisher to which somebody listens already."""
        publisher = self.node.create_publisher(kind, topic, profile)
        self.wait_for(lambda: publisher.get_subscription_count() > 0, f"a subscriber of {topic}")
        return publisher

    def every(self, seconds: float, act: Callable[[], None]) -> Any:
        """Calls ``act`` again and again while the probe is spun."""
        return self.node.create_timer(seconds, act, clock=self.wall)

    def wait_for(self, condition: Callable[[], Any], what: str = "this", bound_s: float = BOUND_S) -> Any:
        """Spins until ``condition()`` is true, and gives what it gave."""
        deadline = time.monotonic() + bound_s
        while True:
            late = time.monotonic() > deadline or self.nodes.broken()
            if result := condition():
                return result
            if late:
                pytest.fail(f"{what} did not come\n{self.witness()}\n{self.nodes.outputs()}")
            self.executor.spin_once(timeout_sec=0.05)

    def call(self, kind: Any, name: str, request: Any) -> Any:
        """Calls a service and gives its response."""
        client = self.node.create_client(kind, name)
        self.wait_for(client.service_is_ready, f"service {name}")
        future = client.call_async(request)
        self.wait_for(future.done, f"an answer of {name}")
        self.node.destroy_client(client)
        return future.result()

    def close(self) -> None:
        self.executor.shutdown()
        self.node.destroy_node()
        self.context.try_shutdown()


@contextlib.contextmanager
def stage(folder: Path) -> Iterator[tuple[Nodes, Probe]]:
    """A domain with a starter of nodes and a probe; nothing is left running."""
    turn = next(_turns) % len(DOMAINS)
    with claimed_domain([*DOMAINS[turn:], *DOMAINS[:turn]]) as domain:
        nodes = Nodes(domain, folder)
        probe = Probe(nodes)
        try:
            yield nodes, probe
        finally:
            nodes.stop()
            probe.close()


@pytest.fixture
def ros(tmp_path: Path) -> Iterator[tuple[Nodes, Probe]]:
    """``(nodes, probe)`` in a domain of this test."""
    folder = tmp_path / "logs"
    folder.mkdir()
    with stage(folder) as pair:
        yield pair


@pytest.fixture(scope="module")
def shared_ros(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Nodes, Probe]]:
    """The same for all tests of a file: for nodes that they look at one after the other."""
    with stage(tmp_path_factory.mktemp("logs")) as pair:
        yield pair


@pytest.fixture
def eavesdrop(tmp_path: Path) -> Iterator[Callable[[int], Probe]]:
    """Makes a probe in a domain that somebody else has claimed."""
    with contextlib.ExitStack() as probes:

        def make(domain: int) -> Probe:
            probe = Probe(Nodes(domain, tmp_path))
            probes.callback(probe.close)
            return probe

        yield make


@pytest.fixture(scope="session")
def checkpoint_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of random weights with a few demonstrations: acts at once, teaches nothing."""
    import torch

    from mechanic_rl_ros.embodiment import load_embodiment
    from mechanic_rl_ros.policy.checkpoint import Checkpoint
    from mechanic_rl_ros.policy.config import PolicyConfig
    from mechanic_rl_ros.policy.policy import Policy

    torch.manual_seed(0)
    embodiment = load_embodiment()
    config = PolicyConfig.for_embodiment(embodiment)
    lengths = torch.tensor([12, 12, 16])
    frames, actions = torch.randn(40, config.frame_dim).half(), (2 * torch.rand(40, config.action_dim) - 1).half()
    folder = tmp_path_factory.mktemp("checkpoint") / "random"
    Checkpoint("lift", embodiment, config, Policy(config).state_dict(), None, {"frames": frames, "actions": actions, "lengths": lengths}).save(folder)
    return folder

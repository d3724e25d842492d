"""Process supervision, with real processes."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

import mechanic_rl_ros
from mechanic_rl_ros.errors import UserError
from mechanic_rl_ros.graph import NodeSpec
from mechanic_rl_ros.graph_settings import GraphSettings
from mechanic_rl_ros.process_record import NodeState, ProcessRecord
from mechanic_rl_ros.supervise import Supervisor, is_over

BOUND_S = 60.0
PROCESS = Path(__file__).with_name("supervised_process.py")
# In a process of its own, so that it can be killed or interrupted: arguments are run folder, record, then name:behaviour:order.
PROGRAM = """
import sys
from mechanic_rl_ros.graph import NodeSpec
from mechanic_rl_ros.graph_settings import GraphSettings
from mechanic_rl_ros.supervise import Supervisor
process, run, record, *nodes = sys.argv[1:]
behaviours = {node.split(":")[0]: node.split(":")[1] for node in nodes}
specs = [NodeSpec(node.split(":")[0], stop_order=int(node.split(":")[2])) for node in nodes]
command = lambda spec, settings: [sys.executable, "-S", process, spec.executable, record, behaviours[spec.executable]]
with Supervisor(specs, GraphSettings(), run, command=command, stop_seconds=1) as supervisor:
    supervisor.wait(lambda: None, until=lambda states: False)
"""


def eventually(condition: Callable[[], object]) -> None:
    """Waits until a condition holds; what is awaited happens in other processes."""
    deadline = time.monotonic() + BOUND_S
    while not condition():
        assert time.monotonic() < deadline, "this did not happen"
        time.sleep(0.02)


def runs(pid: int | None) -> bool:
    try:
        return pid is not None and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


class Nodes:
    """Stand-ins for nodes: their specifications, and what they wrote down."""

    def __init__(self, folder: Path, **behaviours: str) -> None:
        self.run = folder
        self.record = folder / "record"
        self.behaviours = behaviours

    def supervisor(self, **overrides: dict[str, object]) -> Supervisor:
        specs = [NodeSpec(name, **overrides.get(name, {})) for name in self.behaviours]
        return Supervisor(specs, GraphSettings(), self.run, command=self._command, stop_seconds=1)

    def _command(self, spec: NodeSpec, settings: GraphSettings) -> list[str]:
        return [sys.executable, "-S", str(PROCESS), spec.executable, str(self.record), self.behaviours[spec.executable]]

    def events(self) -> list[str]:
        return self.record.read_text().splitlines() if self.record.exists() else []

    def pids(self) -> list[int]:
        return [int(pid) for pid in re.findall(r"started as (\d+)", "\n".join(self.events()))]

    def await_starts(self, number: int) -> None:
        eventually(lambda: len(self.pids()) >= number)


def index(events: list[str], line: str) -> int:
    return next(number for number, event in enumerate(events) if event.startswith(line))


def test_a_killed_process_comes_back(tmp_path: Path) -> None:
    nodes = Nodes(tmp_path, arm="obedient", other="obedient")
    with nodes.supervisor() as supervisor:
        nodes.await_starts(2)
        first = supervisor.states()
        os.kill(first["arm"].pid or 0, signal.SIGKILL)
        nodes.await_starts(3)
        eventually(lambda: supervisor.states()["arm"].state == "RUNNING")
        now = supervisor.states()
        assert supervisor.failed() is None
    assert now["arm"].pid not in (None, first["arm"].pid)
    assert (now["arm"].restarts, now["other"].restarts) == (1, 0)
    assert now["other"].pid == first["other"].pid


def test_a_process_that_ends_with_status_1_is_reported_with_its_line_and_not_started_again(tmp_path: Path) -> None:
    nodes = Nodes(tmp_path, learner="mistaken", arm="obedient")
    with pytest.raises(UserError, match=r"^learner: seed 99 is out of range"), nodes.supervisor() as supervisor:
        supervisor.wait(lambda: None, until=lambda states: False)
    assert (tmp_path / "logs" / "learner.log").read_text().count("seed 99") == 1


def test_the_line_of_an_earlier_run_in_the_same_folder_is_not_reported(tmp_path: Path) -> None:
    log = tmp_path / "arm.log"
    log.write_text("old mistake\n")
    record = ProcessRecord(log)
    assert record.last_line() == ""
    with log.open("a") as file:
        file.write("new \x1b[31mmistake\x1b[0m\n\n")
    assert record.last_line() == "new mistake"


def test_a_process_that_crashes_again_and_again_is_given_up(tmp_path: Path) -> None:
    nodes = Nodes(tmp_path, camera="crashing")
    with pytest.raises(UserError, match=r"camera: dies again and again.*about to crash"), nodes.supervisor() as supervisor:
        supervisor.wait(lambda: None, until=lambda states: False, period_s=0.02)
    assert len(nodes.pids()) >= 5


def test_deaths_with_long_lives_between_them_are_no_reason_to_give_up(tmp_path: Path) -> None:
    record = ProcessRecord(tmp_path / "arm.log")
    for pid in range(1, 100):
        record.see(pid, 10.0 * pid)
    assert not record.keeps_dying
    assert record.restarts == 98


def test_a_process_that_is_not_to_be_respawned_stays_dead_and_is_reported(tmp_path: Path) -> None:
    nodes = Nodes(tmp_path, arm="crashing")
    with pytest.raises(UserError, match="arm: about to crash"), nodes.supervisor(arm={"respawn": False}) as supervisor:
        supervisor.wait(lambda: None, until=lambda states: False)
    assert len(nodes.pids()) == 1


def test_waiting_ends_when_a_process_has_finished(tmp_path: Path) -> None:
    nodes = Nodes(tmp_path, episode="finished", arm="obedient")
    ticks: list[int] = []
    with nodes.supervisor() as supervisor:
        supervisor.wait(lambda: ticks.append(1), until=lambda states: states["episode"].exit_status == 0)
    assert ticks


def test_a_run_is_over_when_the_episodes_are_done_and_not_when_somebody_stops_another_node() -> None:
    running, ended, killed = NodeState("RUNNING", 7, None, 0), NodeState("EXITED", None, 0, 0), NodeState("EXITED", None, -1, 0)
    assert not is_over({"episode_node": running, "policy_node": killed})
    assert is_over({"episode_node": ended, "policy_node": running})
    with pytest.raises(UserError, match="policy_node was stopped"):
        is_over({"episode_node": running, "policy_node": ended})


def test_lower_stop_orders_have_ended_before_higher_ones_are_told(tmp_path: Path) -> None:
    nodes = Nodes(tmp_path, simulation="obedient", command="obedient", policy="obedient", learner="obedient")
    with nodes.supervisor(simulation={"stop_order": 2}, command={"stop_order": 0}):
        nodes.await_starts(4)
    events = nodes.events()
    for middle in ("policy", "learner"):
        assert index(events, "command ended") < index(events, f"{middle} begins to end")
        assert index(events, f"{middle} ended") < index(events, "simulation begins to end")
    assert events[-1] == "simulation ended"


def test_a_process_that_ignores_sigint_is_killed_in_the_end(tmp_path: Path) -> None:
    nodes = Nodes(tmp_path, deaf="deaf", arm="obedient")
    with nodes.supervisor(arm={"stop_order": 2}):
        nodes.await_starts(2)
    assert not any(map(runs, nodes.pids()))
    assert nodes.events()[-1] == "arm ended"


def test_nothing_runs_after_stop_and_a_second_stop_does_no_harm(tmp_path: Path) -> None:
    nodes = Nodes(tmp_path, a="obedient", b="obedient")
    supervisor = nodes.supervisor()
    supervisor.start()
    nodes.await_starts(2)
    daemon = int((tmp_path / "logs" / "supervisord.pid").read_text())
    supervisor.stop()
    supervisor.stop()
    assert not any(map(runs, [daemon, *nodes.pids()]))


@pytest.mark.parametrize("name", ["a run", "50% %(here)s ; # 'quoted' \"twice\" \\", "Übung 体", "x" * 200], ids=["space", "signs", "unicode", "long"])
def test_a_run_folder_may_have_any_name(tmp_path: Path, name: str) -> None:
    nodes = Nodes(tmp_path / name, arm="obedient")
    with nodes.supervisor():
        nodes.await_starts(1)
    assert nodes.events()[-1] == "arm ended"
    assert (tmp_path / name / "logs" / "arm.log").exists()


def test_processes_get_their_niceness_environment_and_the_working_directory_of_the_caller(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "some 100% folder").mkdir()
    monkeypatch.chdir(tmp_path / "some 100% folder")
    own = os.getpriority(os.PRIO_PROCESS, 0)
    nodes = Nodes(tmp_path, learner="obedient", arm="obedient")
    with nodes.supervisor(learner={"nice": 7}) as supervisor:
        nodes.await_starts(2)
        environment = psutil.Process(supervisor.pid("arm")).environ()
    assert environment["MECHANIC_PARENT_DEATH_SIGNAL"] == "1"
    started = sorted(event for event in nodes.events() if "started" in event)
    assert f"niceness {own} in {tmp_path / 'some 100% folder'}" in started[0]
    assert f"niceness {min(own + 7, 19)} in" in started[1]


def test_a_second_run_in_the_same_folder_is_refused_and_harms_nothing(tmp_path: Path) -> None:
    nodes = Nodes(tmp_path, arm="obedient")
    with nodes.supervisor() as supervisor:
        nodes.await_starts(1)
        with pytest.raises(UserError, match="in use by another run"):
            nodes.supervisor().start()
        assert supervisor.states()["arm"].state == "RUNNING"


def test_a_folder_that_cannot_be_made_is_a_user_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot write"):
        Nodes(tmp_path / "file", arm="obedient").supervisor().start()


def test_the_end_of_supervisord_is_noticed(tmp_path: Path) -> None:
    nodes = Nodes(tmp_path, arm="obedient")
    with nodes.supervisor() as supervisor:
        nodes.await_starts(1)
        os.kill(int((tmp_path / "logs" / "supervisord.pid").read_text()), signal.SIGTERM)
        with pytest.raises(UserError, match="supervisor has ended"):
            supervisor.wait(lambda: None, until=lambda states: False)


@pytest.mark.skipif(shutil.which("setpriv") is None, reason="setpriv (util-linux) is not installed")
def test_nothing_runs_after_supervisord_was_killed(tmp_path: Path) -> None:
    nodes = Nodes(tmp_path, arm="obedient", deaf="deaf")
    with nodes.supervisor(deaf={"nice": 5}) as supervisor:
        nodes.await_starts(2)
        os.kill(int((tmp_path / "logs" / "supervisord.pid").read_text()), signal.SIGKILL)
        eventually(lambda: not any(map(runs, nodes.pids())))
        with pytest.raises(UserError, match="supervisor has ended"):
            supervisor.states()
    with nodes.supervisor():
        nodes.await_starts(4)


def start_program(folder: Path, *nodes: str) -> subprocess.Popen[bytes]:
    paths = [str(Path(mechanic_rl_ros.__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(PROCESS), str(folder), str(folder / "record"), *nodes],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))},
        start_new_session=True,
        stderr=subprocess.DEVNULL,
    )


def test_nothing_runs_after_the_supervising_program_was_killed_and_the_order_is_kept(tmp_path: Path) -> None:
    nodes = Nodes(tmp_path)
    program = start_program(tmp_path, "simulation:obedient:2", "arm:obedient:0", "deaf:deaf:1")
    nodes.await_starts(3)
    daemon = int((tmp_path / "logs" / "supervisord.pid").read_text())
    program.kill()
    program.wait()
    eventually(lambda: not any(map(runs, [daemon, *nodes.pids()])))
    events = nodes.events()
    assert index(events, "arm ended") < index(events, "simulation begins to end")


def test_ctrl_c_in_the_terminal_stops_in_order(tmp_path: Path) -> None:
    nodes = Nodes(tmp_path)
    program = start_program(tmp_path, "simulation:obedient:2", "arm:obedient:0")
    nodes.await_starts(2)
    os.killpg(program.pid, signal.SIGINT)
    program.wait(BOUND_S)
    assert not any(map(runs, nodes.pids()))
    events = nodes.events()
    assert index(events, "arm ended") < index(events, "simulation begins to end")

"""Kills the learner with SIGKILL while the robot practises, and prints what that does to practice and learning.

python benchmark/kill_learner.py runs/killed            # a new folder; takes about three minutes

The learner begins after ten episodes instead of sixty, so that there is something to lose early; everything else is as in `mechanic-rl finetune`.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import time
from pathlib import Path

from mechanic_rl_ros.cli.run_folder import open_run
from mechanic_rl_ros.errors import UserError
from mechanic_rl_ros.graph import describe
from mechanic_rl_ros.graph_settings import GraphSettings
from mechanic_rl_ros.metrics import FILE, MetricsTail, Record
from mechanic_rl_ros.ros_domain import claimed_domain, local_discovery
from mechanic_rl_ros.supervise import Supervisor

LEARNER = "learner_node"


class Watch:
    """What the run has recorded so far."""

    def __init__(self, folder: Path) -> None:
        self.tail = MetricsTail(folder / FILE)
        self.latest: dict[str, Record] = {}

    def poll(self) -> None:
        """Takes new records."""
        for record in self.tail.poll():
            self.latest[record["kind"]] = record

    def of(self, kind: str, field: str) -> int:
        """The newest value of a field."""
        return int(self.latest.get(kind, {}).get(field, 0))


def main() -> None:
    """Runs the graph, kills the learner between two versions, and prints the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="folder for the run")
    parser.add_argument("--checkpoint", default="", help="base checkpoint; that of the task lift unless given")
    parser.add_argument("--warmup", type=int, default=10, help="episodes before the learner begins")
    arguments = parser.parse_args()
    try:
        with claimed_domain() as domain:
            os.environ.update({"ROS_DOMAIN_ID": str(domain), **local_discovery(os.environ)})
            measure(prepare(arguments.run, arguments.checkpoint, arguments.warmup))
    except UserError as error:
        sys.exit(f"kill_learner.py: {error}")


def prepare(run: Path, checkpoint: str, warmup: int) -> GraphSettings:
    """A run folder, and the settings of a run in it that goes on until it is stopped."""
    folder = open_run(run, {"warmup": warmup, "checkpoint": checkpoint})
    (folder / "learner.yaml").write_text(json.dumps({"filtered_iql": {"warmup_episodes": warmup, "critic_updates": 100}}))  # JSON is YAML
    parameters = {"/**/learner_node": {"ros__parameters": {"learner_file": str(folder / "learner.yaml")}}}
    (folder / "nodes.yaml").write_text(json.dumps(parameters))
    return GraphSettings(run_directory=str(folder), checkpoint=checkpoint, episodes=0, parameter_file=str(folder / "nodes.yaml"))


def measure(settings: GraphSettings) -> None:
    """Waits for two versions, kills the learner, waits until it is back and until it has published another version."""
    watch = Watch(Path(settings.run_directory))
    with Supervisor(describe(settings), settings, settings.run_directory) as supervisor:
        supervisor.wait(watch.poll, lambda states: watch.of("learner", "version") > 0)
        first = watch.of("learner", "version")
        supervisor.wait(watch.poll, lambda states: watch.of("learner", "version") > first)
        pid, version, late = supervisor.pid(LEARNER), watch.of("learner", "version"), watch.of("command", "late_actions")
        done = watch.of("episode", "number")
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        killed = time.monotonic()
        supervisor.wait(watch.poll, lambda states: states[LEARNER].pid not in (None, pid))
        del watch.latest["learner"]
        supervisor.wait(watch.poll, lambda states: "learner" in watch.latest)
        print(f"learner killed with version {version}, back after {time.monotonic() - killed:.1f} s with version {watch.of('learner', 'version')}")
        supervisor.wait(watch.poll, lambda states: watch.of("learner", "version") > version)
        print(f"next version, {watch.of('learner', 'version')}, after {time.monotonic() - killed:.1f} s")
        print(f"episodes done meanwhile: {watch.of('episode', 'number') - done}; late actions meanwhile: {watch.of('command', 'late_actions') - late}")


if __name__ == "__main__":
    main()

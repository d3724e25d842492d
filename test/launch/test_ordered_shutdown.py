"""Processes are stopped in order, whoever ends the launch. These tests run where ROS 2's `launch` is installed."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytest.importorskip("launch.launch_context")
pytest.importorskip("launch_ros.actions")

BOUND_S = 60.0
# Each process writes when it was told to stop, takes its time, and writes when it ends.
CHILD = """
import signal, sys, time
name, record = sys.argv[1:]
def write(text):
    with open(record, "a") as file:
        file.write(name + " " + text + "\\n")
def stop(*_):
    write("told")
    time.sleep(0.3)
    write("ends")
    sys.exit(0)
signal.signal(signal.SIGINT, stop)
write("runs")
while True:
    signal.pause()
"""
# In a process of its own, so that it can be interrupted.
PROGRAM = """
import sys
from launch import LaunchDescription, LaunchService
from mechanic_rl_ros.nodes.ordered_shutdown import OrderedProcess, StopOrder
child, record, interactive, *orders = sys.argv[1:]
stopping = StopOrder()
go_on = lambda event, context: stopping.go_on(context)
processes = [OrderedProcess(stopping, int(order), [sys.executable, "-S", "-c", child, order, record], on_exit=go_on) for order in orders]
born_again = OrderedProcess(stopping, 2, ["sh", "-c", f"echo again >> '{record}'"], respawn=True, respawn_delay=0.6, on_exit=go_on)
service = LaunchService(noninteractive=interactive == "no")
service.include_launch_description(LaunchDescription([born_again, *processes]))
sys.exit(service.run())
"""


@pytest.mark.parametrize("interactive", ["no", "yes"])
def test_each_is_told_to_stop_when_all_before_it_have_ended_and_none_is_born_again_meanwhile(tmp_path: Path, interactive: str) -> None:
    record = tmp_path / "record"
    record.touch()
    environment = {**os.environ, "ROS_LOG_DIR": str(tmp_path)}
    command = [sys.executable, "-c", PROGRAM, CHILD, str(record), interactive, "2", "0", "1", "1"]
    launch = subprocess.Popen(command, env=environment, start_new_session=True)
    try:
        deadline = time.monotonic() + BOUND_S
        while record.read_text().count("runs") < 4:
            assert time.monotonic() < deadline, "the processes do not start"
            time.sleep(0.02)
        # Ctrl-C in a terminal interrupts the whole process group, not only the launch.
        (os.killpg if interactive == "yes" else os.kill)(launch.pid, signal.SIGINT)
        launch.wait(BOUND_S)
    finally:
        launch.kill()
    lines = record.read_text().split("\n")[:-1]
    lines = lines[lines.index("0 told") :]
    assert lines[:2] == ["0 told", "0 ends"]
    assert sorted(lines[2:6]) == ["1 ends", "1 ends", "1 told", "1 told"]
    assert lines[6:] == ["2 told", "2 ends"]

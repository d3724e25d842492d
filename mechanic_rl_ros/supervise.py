"""Runs the graph's processes where ROS 2's `launch` is not installed.

supervisord (http://supervisord.org) does the work: it starts the processes, writes their logs, starts again what was killed,
and stops them in order. This module writes its configuration, starts it, asks it how things are, and tells the user.

Whatever dies, nothing is left running: supervisord is told by the kernel when its parent is gone and then stops everything in
order; a node is told when supervisord is gone.
"""

from __future__ import annotations

import contextlib
import fcntl
import http.client
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import xmlrpc.client
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from mechanic_rl_ros.errors import UserError
from mechanic_rl_ros.graph import NodeSpec, describe
from mechanic_rl_ros.graph_settings import GraphSettings
from mechanic_rl_ros.process_record import NodeState, ProcessRecord
from mechanic_rl_ros.supervisor_configuration import CONFIGURATION, SUPERVISORD, command_variables, configuration, node_command

LOG = "supervisord.log"
FINISHER = "episode_node"
"""The node that ends by itself when all episodes are done."""

_START_BOUND_S = 60.0
_SOCKET_NAME_BYTES = 96  # of 107: supervisord puts its process id behind it while it makes the socket
_ERROR_PREFIX = re.compile(r"^\w+: error: ")
_NO_ANSWER = (OSError, http.client.HTTPException, xmlrpc.client.Error)
_NODE_ENVIRONMENT = {"MECHANIC_PARENT_DEATH_SIGNAL": "1", "PYTHONUNBUFFERED": "1", "RCUTILS_COLORIZED_OUTPUT": "0"}


class Supervisor:
    """The processes of a run; a context manager that starts them, and stops them on the way out.

    Use it from the main thread: the kernel takes the end of the thread that starts supervisord for the end of its parent.

    Args:
        specs: What to start, in this order.
        settings: Of the graph.
        run_directory: Folder of the run; ``logs/`` in it gets one file per process.
        environment: Variables for the processes beyond those of this one.
        command: Gives the command line of a process; that of the installed node by default.
        stop_seconds: A process that has not ended so long after SIGINT is killed.
    """

    def __init__(
        self,
        specs: Sequence[NodeSpec],
        settings: GraphSettings,
        run_directory: str | os.PathLike[str],
        environment: Mapping[str, str] | None = None,
        *,
        command: Callable[[NodeSpec, GraphSettings], list[str]] = node_command,
        stop_seconds: int = 20,
    ) -> None:
        self._specs = list(specs)
        self._commands = {spec.executable: command(spec, settings) for spec in specs}
        self._respawned = {spec.executable for spec in specs if spec.respawn}
        self._environment = dict(environment or {})
        self._stop_seconds = stop_seconds
        self._process: subprocess.Popen[bytes] | None = None
        self._folder: Path | None = None
        self._records: dict[str, ProcessRecord] = {}
        self.logs = Path(run_directory).absolute() / "logs"

    def __enter__(self) -> Supervisor:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()

    def start(self) -> None:
        """Starts supervisord, which starts the processes; returns when it answers.

        Raises:
            UserError: The folder is in use or cannot be written, or supervisord does not start.
        """
        self._folder = Path(tempfile.mkdtemp(prefix="mechanic-", dir=_short_folder()))
        try:
            self._launch()
            self._await_answer()
        except BaseException:
            self.stop()
            raise

    def states(self) -> dict[str, NodeState]:
        """How every process is.

        Raises:
            UserError: supervisord has ended.
        """
        try:
            answers = self._remote().getAllProcessInfo()
        except _NO_ANSWER as error:
            raise UserError(f"the process supervisor has ended: the reason may be in {self.logs / LOG}") from error
        return {answer["name"]: self._state(answer) for answer in answers}

    def pid(self, name: str) -> int | None:
        """Process id of a node; ``None`` while it does not run."""
        return self.states()[name].pid

    def failed(self, states: dict[str, NodeState] | None = None) -> tuple[str, str] | None:
        """The first process that will not be started again because that would not help, and the last line that it printed.

        That is one that ended with status 1 (a node does so after it has said what the user can mend), one that could not be
        started, or one that dies again and again soon after its start.
        """
        for name, state in (states if states is not None else self.states()).items():
            last_line = self._records[name].last_line
            if state.state == "EXITED" and (state.exit_status == 1 or (state.exit_status != 0 and name not in self._respawned)):
                return name, last_line() or f"ended with status {state.exit_status}"
            if state.state == "FATAL" or self._records[name].keeps_dying:
                return name, f"dies again and again soon after its start, last words: {last_line() or 'none'}"
        return None

    def wait(self, on_tick: Callable[[], object], until: Callable[[dict[str, NodeState]], bool], period_s: float = 0.25) -> None:
        """Calls ``on_tick`` every ``period_s`` until ``until(states())`` is true.

        Raises:
            UserError: A process failed (see `failed`), or supervisord has ended.
        """
        while True:
            states = self.states()
            failure = self.failed(states)
            on_tick()
            if failure:
                name, line = failure
                text, from_node = _ERROR_PREFIX.subn("", line)
                raise UserError(f"{name}: {text}" if from_node else f"{name}: {line} (more is in {self.logs / name}.log)")
            if until(states):
                return
            if self._process is not None:
                self._sleep(self._process, period_s)

    def stop(self) -> None:
        """Stops the processes: those of the lowest stop order first, SIGINT before SIGKILL. Returns when all have ended."""
        process, self._process = self._process, None
        try:
            if process is not None:
                self._stop_in_order(process)
        finally:
            if self._folder is not None:
                shutil.rmtree(self._folder, ignore_errors=True)

    def _stop_in_order(self, process: subprocess.Popen[bytes]) -> None:
        orders = len({spec.stop_order for spec in self._specs})
        deadline_s = time.monotonic() + orders * (self._stop_seconds + 2) + 10
        process.terminate()
        while process.poll() is None:
            self._wake()
            self._sleep(process, 0.05)
            if time.monotonic() > deadline_s:
                process.kill()  # the kernel tells the nodes

    @property
    def _socket(self) -> Path:
        if self._folder is None:
            raise RuntimeError("the supervisor was not started")
        return self._folder / "s"

    def _launch(self) -> None:
        environment = {**os.environ, **_NODE_ENVIRONMENT, **self._environment, **command_variables(self._specs, self._commands)}
        with lock_run(self.logs.parent) as lock:
            try:
                self._records = {name: ProcessRecord(self.logs / f"{name}.log") for name in self._commands}
                (self.logs / CONFIGURATION).write_text(configuration(self._specs, self._socket, self._stop_seconds))
                with open(self.logs / LOG, "ab") as log:
                    # supervisord keeps the lock as its standard input, so that it is held exactly as long as something may run.
                    self._process = subprocess.Popen(
                        [sys.executable, "-c", SUPERVISORD, str(os.getpid()), str(self._socket.parent)],
                        stdin=lock,
                        stdout=log,
                        stderr=subprocess.STDOUT,
                        env=environment | {"MECHANIC_WORKING_DIRECTORY": os.getcwd()},
                        cwd=self.logs,
                        start_new_session=True,  # Ctrl-C in the terminal is for this process, which then stops the others in order
                    )
            except OSError as error:
                raise _cannot_write(self.logs, error) from error

    def _await_answer(self) -> None:
        assert self._process is not None
        for _ in range(int(_START_BOUND_S / 0.02)):
            with contextlib.suppress(*_NO_ANSWER):
                self._remote().getState()
                return
            if self._process.poll() is not None:
                break
            time.sleep(0.02)
        raise UserError(f"the process supervisor does not start: the reason is in {self.logs / LOG}")

    def _remote(self) -> Any:
        from supervisor.xmlrpc import SupervisorTransport

        transport = SupervisorTransport(None, None, f"unix://{self._socket}")
        return xmlrpc.client.ServerProxy("http://localhost", transport).supervisor

    def _state(self, answer: dict[str, Any]) -> NodeState:
        pid = answer["pid"] or None
        record = self._records[answer["name"]]
        record.see(pid, time.monotonic())
        ended = answer["statename"] == "EXITED"
        return NodeState(answer["statename"], pid, answer["exitstatus"] if ended else None, record.restarts)

    @staticmethod
    def _sleep(process: subprocess.Popen[bytes], seconds: float) -> None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(seconds)

    def _wake(self) -> None:
        # supervisord looks at signals only between two events, up to a second apart; a connection is an event.
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(1.0)
            connection.connect(str(self._socket))


def lock_run(run_directory: str | os.PathLike[str]) -> IO[str]:
    """Keeps the folder of a run from other runs, until the file is closed here and in every process that inherited it.

    Raises:
        UserError: It is in use, or cannot be written.
    """
    logs = Path(run_directory).absolute() / "logs"
    try:
        logs.mkdir(parents=True, exist_ok=True)
        lock = open(logs / "lock", "a")  # noqa: SIM115 - closed by the caller
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise UserError(f"{logs.parent} is in use by another run: stop that one, or choose another folder") from error
    except OSError as error:
        raise _cannot_write(logs, error) from error
    return lock


def run(settings: GraphSettings, on_tick: Callable[[], object]) -> None:
    """Runs the graph until all episodes are done; every way out stops it.

    Args:
        settings: Of the graph.
        on_tick: Called about four times a second.

    Raises:
        UserError: A setting is wrong, something is not installed, or a process failed.
    """
    with Supervisor(describe(settings), settings, settings.run_directory) as supervisor:
        supervisor.wait(on_tick, is_over)


def is_over(states: dict[str, NodeState]) -> bool:
    """Whether all episodes are done.

    Raises:
        UserError: Another node was asked to end: without it the run would wait for ever.
    """
    ended = [name for name, state in states.items() if state.state == "EXITED" and state.exit_status == 0]
    if ended and FINISHER not in ended:
        raise UserError(f"{ended[0]} was stopped by somebody before all episodes were done: start the run again to go on with it")
    return FINISHER in ended


def _cannot_write(logs: Path, error: OSError) -> UserError:
    return UserError(f"cannot write to {logs} ({error.strerror}): choose another folder for the run")


def _short_folder() -> str:
    # The address of a socket is a short string (man 7 unix), the name of a run folder may be long.
    folder = tempfile.gettempdir()
    return folder if len(os.fsencode(folder)) + len("/mechanic-12345678/s") < _SOCKET_NAME_BYTES else "/tmp"

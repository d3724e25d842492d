"""What supervisord is given: its configuration file, and the command lines of the processes."""

from __future__ import annotations

import os
import shlex
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from mechanic_rl_ros.errors import UserError
from mechanic_rl_ros.graph import PACKAGE, NodeSpec, ros_arguments
from mechanic_rl_ros.graph_settings import GraphSettings

CONFIGURATION = "supervisord.conf"

SUPERVISORD = """
import ctypes, os, shutil, signal, sys
parent, folder = int(sys.argv[1]), sys.argv[2]
PR_SET_PDEATHSIG = 1
ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
try:
    if os.getppid() == parent:
        from supervisor.supervisord import main
        main(["--configuration", "supervisord.conf"])
finally:
    shutil.rmtree(folder, ignore_errors=True)
"""
"""Program that becomes supervisord: the kernel ends it in order (prctl(2)) when its parent is gone.

It is a program of its own because Python cannot safely run anything between fork and exec in a process with threads."""

_HEAD = """; Written anew at every start of a run.
[supervisord]
nodaemon=true
logfile=/dev/null
logfile_maxbytes=0
pidfile=supervisord.pid
minfds=256
minprocs=1

[unix_http_server]
file={socket}
chmod=0600

[rpcinterface:supervisor]
supervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface
"""

# startsecs=0: a process that has something to say to the user may end at once, and must not be tried again.
_PROGRAM = """
[program:{name}]
command=%(ENV_{variable})s
directory=%(ENV_MECHANIC_WORKING_DIRECTORY)s
priority={index}
autorestart={autorestart}
exitcodes=0,1
startsecs=0
stopsignal=INT
stopwaitsecs={stop_seconds}
killasgroup=true
redirect_stderr=true
stdout_logfile={name}.log
stdout_logfile_maxbytes=20MB
stdout_logfile_backups=2
"""

# supervisord stops the groups one after the other, the one with the highest priority first.
_GROUP = """
[group:stop{order}]
programs={programs}
priority={priority}
"""


def configuration(specs: Sequence[NodeSpec], socket: Path, stop_seconds: int) -> str:
    """Text of supervisord's configuration file.

    Paths and commands of users are not in it: they come by environment variables, so that no character in them means anything.
    """
    text = _HEAD.format(socket=socket)
    for index, spec in enumerate(specs):
        text += _PROGRAM.format(
            name=spec.executable,
            variable=_variable(index),
            index=index,
            autorestart="unexpected" if spec.respawn else "false",
            stop_seconds=stop_seconds,
        )
    for order in sorted({spec.stop_order for spec in specs}):
        programs = ",".join(spec.executable for spec in specs if spec.stop_order == order)
        text += _GROUP.format(order=order, programs=programs, priority=1000 - order)
    return text


def command_variables(specs: Sequence[NodeSpec], commands: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """Environment variables that carry the command lines of the processes, with niceness and end of life."""
    return {_variable(index): shlex.join([*_mortal(), *_niced(spec), *commands[spec.executable]]) for index, spec in enumerate(specs)}


def node_command(spec: NodeSpec, settings: GraphSettings) -> list[str]:
    """Command line of an installed node.

    Raises:
        UserError: The package is not built, or was built before this node existed.
    """
    try:
        from ament_index_python.packages import PackageNotFoundError, get_package_prefix
    except ImportError as error:
        raise UserError("ROS 2 is not set up in this shell: run `make`, then `. ./environment.sh`") from error
    try:
        executable = Path(get_package_prefix(PACKAGE)) / "lib" / PACKAGE / spec.executable
    except PackageNotFoundError as error:
        raise UserError(f"{PACKAGE} is not built or not sourced: run `make`, then `. ./environment.sh`") from error
    if not os.access(executable, os.X_OK):
        raise UserError(f"{executable} is missing: run `make` to build it")
    return [str(executable), *ros_arguments(spec, settings)]


def _mortal() -> list[str]:
    # A node asks for a softer signal once it runs; this one covers the seconds until then, should supervisord be killed.
    return ["setpriv", "--pdeathsig", "KILL"] if shutil.which("setpriv") else []


def _niced(spec: NodeSpec) -> list[str]:
    # Relative to this process: to become more important than that takes rights that few users have.
    return ["nice", "-n", str(spec.nice)] if spec.nice > 0 else []


def _variable(index: int) -> str:
    return f"MECHANIC_COMMAND_{index}"

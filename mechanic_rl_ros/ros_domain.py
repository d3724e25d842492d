"""ROS domains on this machine: which are in use, which is free, how far they reach. Without rclpy, by the ports that DDS participants hold.

DDSI-RTPS 2.5, section 9.6.2.3: participant number p of domain d receives discovery on UDP port 7400 + 250 d + 10 + 2 p.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Mapping

from mechanic_rl_ros.errors import UserError

LAST_DOMAIN = 101
"""On Linux higher domains reach into the ports that the kernel hands out to others."""

LARGEST_DOMAIN = 232
"""The ports of higher ones would lie above 65535."""

REACH_VARIABLES = ("ROS_AUTOMATIC_DISCOVERY_RANGE", "ROS_LOCALHOST_ONLY")
"""The second one is what ROS 2 Humble understands; later distributions deprecate it."""


def discovery_port(domain: int) -> int:
    """UDP port on which the first participant of a domain is discovered."""
    return 7400 + 250 * domain + 10


def is_busy(domain: int) -> bool:
    """Whether a participant of ``domain`` runs on this machine."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind(("0.0.0.0", discovery_port(domain)))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                return True
            raise
    return False


def free_domain(first: int = 1) -> int:
    """The lowest free domain from ``first`` on.

    Raises:
        UserError: All are in use.
    """
    for domain in range(first, LAST_DOMAIN + 1):
        if not is_busy(domain):
            return domain
    raise UserError(f"ROS domains {first} to {LAST_DOMAIN} are all in use on this machine: stop an old run (`mechanic-rl doctor` lists what is in use)")


def require_free(domain: int) -> None:
    """Checks that nobody on this machine uses ``domain``.

    Raises:
        UserError: Somebody does: two graphs in one domain would drive each other's robot.
    """
    if is_busy(domain):
        raise UserError(f"ROS domain {domain} is in use on this machine: stop the other run, or choose another with --domain (free: {free_domain()})")


def local_discovery(environment: Mapping[str, str]) -> dict[str, str]:
    """The variables that keep discovery on this machine; none where ``environment`` says already how far it reaches."""
    if any(name in environment for name in REACH_VARIABLES):
        return {}
    return {"ROS_LOCALHOST_ONLY": "1"} if environment.get("ROS_DISTRO") == "humble" else {"ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST"}

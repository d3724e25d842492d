"""ROS domains on this machine: which are in use, which is free. Without rclpy, by the ports that DDS participants hold.

DDSI-RTPS 2.5, section 9.6.2.3: participant number p of domain d receives discovery on UDP port 7400 + 250 d + 10 + 2 p.
"""

from __future__ import annotations

import errno
import socket

from mechanic_rl_ros.errors import UserError

LAST_DOMAIN = 101
"""On Linux higher domains reach into the ports that the kernel hands out to others."""


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

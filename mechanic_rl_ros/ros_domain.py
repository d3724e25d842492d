"""ROS domains on this machine: which are in use, which is free, how far they reach. Without rclpy, by the ports that DDS participants hold.

DDSI-RTPS 2.5, section 9.6.2.3: participant number p of domain d receives discovery on UDP port 7400 + 250 d + 10 + 2 p.
"""

from __future__ import annotations

import contextlib
import errno
import socket
from collections.abc import Iterator, Mapping, Sequence

from mechanic_rl_ros.errors import UserError

LAST_DOMAIN = 101
"""On Linux higher domains reach into the ports that the kernel hands out to others."""

LARGEST_DOMAIN = 232
"""The ports of higher ones would lie above 65535."""

REACH_VARIABLES = ("ROS_AUTOMATIC_DISCOVERY_RANGE", "ROS_LOCALHOST_ONLY")
"""The second one is what ROS 2 Humble understands; later distributions deprecate it."""

_PARTICIPANTS = 32  # that are looked for: any of a graph's may have ended while the others go on
_CHOICE = range(1, LAST_DOMAIN + 1)


def discovery_port(domain: int, participant: int = 0) -> int:
    """UDP port on which a participant of a domain is discovered."""
    return 7400 + 250 * domain + 10 + 2 * participant


@contextlib.contextmanager
def claimed_domain(candidates: Sequence[int] = _CHOICE) -> Iterator[int]:
    """The first free domain of ``candidates``, kept from other runs on this machine until the context or the process ends.

    Raises:
        UserError: None is free: two graphs in one domain would drive each other's robot.
    """
    for domain in candidates:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as claim:
            if take(claim, domain) and not _has_participants(domain):
                yield domain
                return
    if len(candidates) == 1:
        raise UserError(f"ROS domain {candidates[0]} is in use on this machine: stop the other run, or choose another with --domain (free: {free_domain()})")
    raise _none_free(candidates)


def take(claim: socket.socket, domain: int) -> bool:
    """Lets an unbound ``AF_UNIX`` socket stand for a claim on ``domain``, until it is closed. False when another run has claimed it.

    Nodes take their ports seconds after the domain was chosen. Until then only this tells the others.
    """
    try:
        claim.bind(_name(domain))
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            return False
        raise
    return True


def is_busy(domain: int) -> bool:
    """Whether a run on this machine has claimed ``domain``, or participants of it run here."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as probe, contextlib.suppress(ConnectionRefusedError):
        probe.connect(_name(domain))
        return True
    return _has_participants(domain)


def free_domain() -> int:
    """The lowest domain from 1 on that is free now; `claimed_domain` also keeps it free.

    Raises:
        UserError: All are in use.
    """
    for domain in _CHOICE:
        if not is_busy(domain):
            return domain
    raise _none_free(_CHOICE)


def local_discovery(environment: Mapping[str, str]) -> dict[str, str]:
    """The variables that keep discovery on this machine; none where ``environment`` says already how far it reaches."""
    if any(name in environment for name in REACH_VARIABLES):
        return {}
    return {"ROS_LOCALHOST_ONLY": "1"} if environment.get("ROS_DISTRO") == "humble" else {"ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST"}


def _name(domain: int) -> str:
    # An abstract address (unix(7)): no file, gone with the process, and common to all users, like the ports.
    return f"\0mechanic_rl_ros/domain/{domain}"


def _has_participants(domain: int) -> bool:
    return any(not _is_free(discovery_port(domain, participant)) for participant in range(_PARTICIPANTS))


def _is_free(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind(("0.0.0.0", port))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                return False
            raise
    return True


def _none_free(domains: Sequence[int]) -> UserError:
    return UserError(
        f"ROS domains {min(domains)} to {max(domains)} are all in use on this machine: stop an old run (`mechanic-rl doctor` lists what is in use)"
    )

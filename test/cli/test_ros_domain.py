"""Nothing leaves this machine unless somebody says so, with the words of each distribution of ROS 2."""

import json
import socket
import subprocess
import sys

import pytest

from mechanic_rl_ros.errors import UserError
from mechanic_rl_ros.ros_domain import LARGEST_DOMAIN, claimed_domain, discovery_port, is_busy, local_discovery

LOCAL = {"ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST"}

RUN = """
import sys
from mechanic_rl_ros.ros_domain import claimed_domain
with claimed_domain(range(60, 70)) as domain:
    print(domain, flush=True)
    sys.stdin.read()
"""


@pytest.mark.parametrize(
    ("environment", "added"),
    [
        ({}, LOCAL),
        ({"ROS_DISTRO": "kilted"}, LOCAL),
        ({"ROS_DISTRO": "humble"}, {"ROS_LOCALHOST_ONLY": "1"}),
        ({"ROS_DISTRO": "humble", "ROS_LOCALHOST_ONLY": "0"}, {}),
        ({"ROS_DISTRO": "humble", "ROS_AUTOMATIC_DISCOVERY_RANGE": "SUBNET"}, {}),
        ({"ROS_DISTRO": "jazzy", "ROS_AUTOMATIC_DISCOVERY_RANGE": "SUBNET"}, {}),
    ],
)
def test_discovery_is_kept_on_this_machine_in_the_words_of_the_distribution_unless_the_user_said_something(environment, added):
    assert local_discovery(environment) == added


def test_the_largest_domain_is_the_last_one_whose_ports_exist():
    assert discovery_port(LARGEST_DOMAIN) < 2**16 <= discovery_port(LARGEST_DOMAIN + 1)


@pytest.mark.parametrize(
    ("variables", "domain", "reach"),
    [
        ({"ROS_DISTRO": "humble", "ROS_DOMAIN_ID": "150", **LOCAL}, ("optional", "0 to 101"), ("optional", "ROS_LOCALHOST_ONLY=1")),
        ({"ROS_DISTRO": "kilted", "ROS_DOMAIN_ID": "233", **LOCAL}, ("missing", "0 to 101"), None),
        ({"ROS_DISTRO": "kilted", "ROS_DOMAIN_ID": "93", **LOCAL}, ("ok", ""), ("ok", "")),
    ],
)
def test_doctor_knows_which_domains_are_safe_and_what_keeps_discovery_here(run, environment, variables, domain, reach):
    done = run("doctor", "--json", env={**environment, **variables})
    checks = {check["name"]: (check["state"], check["remedy"]) for check in json.loads(done.stdout)}
    for name, expected in (("ROS_DOMAIN_ID", domain), ("discovery range", reach)):
        if expected is None:
            assert name not in checks
        else:
            state, remedy = checks[name]
            assert state == expected[0]
            assert expected[1] in remedy


def test_two_runs_that_start_at_once_choose_different_domains_and_give_them_back_even_when_killed(environment):
    """No node of them runs yet, so no port tells one of the other."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "env": environment}
    runs = [subprocess.Popen([sys.executable, "-c", RUN], **pipes) for _ in range(2)]
    try:
        domains = {int(run.stdout.readline()) for run in runs}
        assert len(domains) == 2
        assert all(map(is_busy, domains))
    finally:
        for run in runs:
            run.kill()
            run.communicate()
    with claimed_domain(sorted(domains)) as domain:
        assert domain == min(domains)


def test_a_domain_in_which_only_a_later_participant_is_left_is_busy():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as participant:
        participant.bind(("0.0.0.0", discovery_port(71, participant=5)))
        assert is_busy(71)
        with claimed_domain([71, 72]) as domain:
            assert domain == 72


def test_a_claimed_domain_is_refused_with_one_that_is_free():
    with claimed_domain([73]), pytest.raises(UserError, match=r"ROS domain 73 is in use.*free: \d+"), claimed_domain([73]):
        pass


def test_that_no_domain_is_free_is_said():
    with claimed_domain([74]), claimed_domain([75]), pytest.raises(UserError, match="ROS domains 74 to 75 are all in use"), claimed_domain(range(74, 76)):
        pass

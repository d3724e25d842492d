"""Nothing leaves this machine unless somebody says so, with the words of each distribution of ROS 2."""

import json

import pytest

from mechanic_rl_ros.ros_domain import LARGEST_DOMAIN, discovery_port, local_discovery

LOCAL = {"ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST"}


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

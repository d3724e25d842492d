"""Whether the controllers that move the robot are active."""

from mechanic_rl_ros.safety.controllers import inactive

WANTED = ("arm", "hand")


def test_the_first_controller_that_is_not_active_is_named_with_what_to_do():
    assert inactive({"arm": "active", "hand": "active", "other": "inactive"}, WANTED) == ""
    assert inactive({"arm": "active", "hand": "inactive"}, WANTED).startswith("controller hand is inactive: start it with 'ros2 control")
    assert inactive({"hand": "active"}, WANTED).startswith("controller arm is not loaded: start it with")

"""Message definitions that every episode file carries, so that any MCAP reader can decode it without this package."""

from __future__ import annotations

from functools import lru_cache

from mechanic_rl_ros.paths import share_directory

IMAGE = "sensor_msgs/msg/Image"
JOINT_STATE = "sensor_msgs/msg/JointState"
STEP = "mechanic_rl_ros/msg/Step"

_SEPARATOR = "=" * 80

# The fields of the standard messages, as every ROS 2 distribution has them: https://docs.ros.org/en/rolling/p/sensor_msgs/
_TIME = f"{_SEPARATOR}\nMSG: builtin_interfaces/Time\nint32 sec\nuint32 nanosec\n"
_HEADER = f"{_SEPARATOR}\nMSG: std_msgs/Header\nbuiltin_interfaces/Time stamp\nstring frame_id\n{_TIME}"
_STANDARD = {
    IMAGE: "std_msgs/Header header\nuint32 height\nuint32 width\nstring encoding\nuint8 is_bigendian\nuint32 step\nuint8[] data\n",
    JOINT_STATE: "std_msgs/Header header\nstring[] name\nfloat64[] position\nfloat64[] velocity\nfloat64[] effort\n",
}


@lru_cache
def definition(type_name: str) -> bytes:
    """The definition of a message type with everything it contains, in the ``ros2msg`` format of MCAP.

    Format: https://mcap.dev/spec/registry#ros2msg
    """
    text = _STANDARD[type_name] if type_name in _STANDARD else (share_directory() / "msg" / "Step.msg").read_text()
    return (text.rstrip("\n") + "\n" + _HEADER).encode()

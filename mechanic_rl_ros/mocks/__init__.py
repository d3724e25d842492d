"""Nodes that play what cannot run on a bare machine: a Franka and its hand, ros2_control, a camera driver."""

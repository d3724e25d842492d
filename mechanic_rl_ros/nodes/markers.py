"""Shapes as RViz markers."""

from __future__ import annotations

from collections.abc import Iterable

from geometry_msgs.msg import Point
from std_msgs.msg import ColorRGBA
from visualization_msgs.msg import Marker, MarkerArray

from mechanic_rl_ros.view.shapes import Colour, Kind, Shape

_TYPES = {
    Kind.LINE_STRIP: Marker.LINE_STRIP,
    Kind.LINE_LIST: Marker.LINE_LIST,
    Kind.BOX: Marker.CUBE,
    Kind.SPHERE: Marker.SPHERE,
    Kind.TEXT: Marker.TEXT_VIEW_FACING,
}


def markers_to_message(shapes: Iterable[Shape], gone: Iterable[tuple[str, int]], *, clear: bool = False) -> MarkerArray:
    """Message that shows ``shapes`` and deletes the markers with the keys ``gone``; ``clear``: and all that were there before."""
    message = MarkerArray()
    if clear:
        message.markers.append(Marker(action=Marker.DELETEALL))
    message.markers += [Marker(ns=namespace, id=number, action=Marker.DELETE) for namespace, number in gone]
    message.markers += map(_marker, shapes)
    return message


def _marker(shape: Shape) -> Marker:
    marker = Marker(ns=shape.namespace, id=shape.id, type=_TYPES[shape.kind], action=Marker.ADD, text=shape.text, color=_colour(shape.colour))
    marker.header.frame_id = shape.frame  # with stamp 0: wherever the frame is now
    marker.pose.orientation.w = 1.0
    marker.pose.position.x, marker.pose.position.y, marker.pose.position.z = shape.position
    marker.scale.x, marker.scale.y, marker.scale.z = shape.size
    marker.lifetime.sec, marker.lifetime.nanosec = divmod(round(shape.lifetime_s * 1e9), 10**9)
    marker.points = [Point(x=x, y=y, z=z) for x, y, z in shape.points.tolist()]
    marker.colors = [_colour(colour) for colour in shape.colours.tolist()]
    return marker


def _colour(colour: Colour) -> ColorRGBA:
    red, green, blue, opacity = colour
    return ColorRGBA(r=red, g=green, b=blue, a=opacity)

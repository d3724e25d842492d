"""command_node with a robot that is held: hand and recovery, against the mock of a Franka or a hand that the test plays."""

from control_msgs.action import GripperCommand
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rclpy.action import ActionServer
from std_srvs.srv import SetBool, Trigger

from mechanic_rl_ros import msg
from mechanic_rl_ros.nodes import qos
from mechanic_rl_ros.nodes.backends.action_gripper import SEND_S
from mechanic_rl_ros.safety.gripper import RETRY_S

State = msg.EpisodeState
QUICK = {"recovery_pause": 0.1, "robot_patience": 5.0}


class Cell:
    """command_node with the mock of a robot, moved by an operator: the test plays him and the episode node."""

    def __init__(self, ros):
        nodes, self.probe = ros
        nodes.start("mock_franka")
        nodes.start("command_node", backend="franka", **QUICK)
        self.diagnostics = self.probe.hear(DiagnosticArray, "/diagnostics", 10)
        self.episodes = self.probe.speaker(State, "episode", qos.EPISODE)
        self.operator = self.probe.speaker(msg.Intervention, "intervention", qos.COMMAND)
        self.episode, self.gripper = State(id="lift_1", number=1, state=State.ENDED, step_limit=6000), None
        self.probe.every(0.3, lambda: self.episodes.publish(self.episode))
        self.probe.every(0.05, self._operate)
        self.probe.wait_for(self._can_move, "a robot that can be moved")

    def _can_move(self):
        """What held it at the start would hold it until the end of an episode that began meanwhile."""
        statuses = (status for array in reversed(self.diagnostics) for status in array.status if status.name == "command_node")
        newest = next(statuses, None)
        return newest is not None and newest.level == DiagnosticStatus.OK and self.says("command_node", "robot_mode") == "MOVE"

    def _operate(self):
        if self.gripper is not None:
            message = msg.Intervention(active=True, action=[0.0, 0.0, 0.0, self.gripper])
            message.header.stamp = self.probe.node.get_clock().now().to_msg()
            self.operator.publish(message)

    def announce(self, state):
        self.episode = State(id="lift_1", number=1, state=state, step_limit=6000)
        self.episode.header.stamp = self.probe.node.get_clock().now().to_msg()
        self.episodes.publish(self.episode)

    def trigger(self, name):
        return self.probe.call(Trigger, name, Trigger.Request()).success

    def provoke(self, name, on):
        self.probe.call(SetBool, f"mock_franka/{name}", SetBool.Request(data=on))

    def says(self, node, key):
        statuses = (status for array in reversed(self.diagnostics) for status in array.status if status.name == node)
        return next((value.value for status in statuses for value in status.values if value.key == key), None)

    def await_value(self, node, key, wanted):
        self.probe.wait_for(lambda: self.says(node, key) == wanted, f"{key} {wanted} of {node}")

    def pass_time(self):
        """Longer than a goal that failed, or a recovery, waits for its next try; then until both have told how they are."""
        beats = []
        self.probe.every(0.1, lambda: beats.append(0))
        self.probe.wait_for(lambda: len(beats) > 10 * (RETRY_S + 1.0), "time")
        self.diagnostics.clear()
        self.probe.wait_for(lambda: self.says("mock_franka", "goals") is not None and self.says("command_node", "robot_mode"), "news of both")


def test_an_emergency_stop_drops_what_the_hand_was_asked_for_and_the_way_home_still_opens_it(ros):
    cell = Cell(ros)
    cell.provoke("gripper_accepts", False)
    cell.announce(State.READY)
    cell.announce(State.RUNNING)
    cell.gripper = 1.0
    cell.probe.wait_for(lambda: cell.says("command_node", "gripper_goals") == "1", "a grasp that is refused")
    assert cell.trigger("emergency_stop")
    cell.provoke("gripper_accepts", True)
    cell.pass_time()
    assert cell.says("mock_franka", "goals") == ""
    cell.gripper = None
    cell.announce(State.ENDED)
    assert cell.trigger("reset_emergency_stop")
    cell.pass_time()
    assert cell.says("mock_franka", "goals") == "", "the reset moves nothing"
    assert cell.trigger("go_home")
    cell.await_value("mock_franka", "goals", "move")


def test_the_end_of_an_episode_drops_what_the_hand_was_asked_for(ros):
    cell = Cell(ros)
    cell.provoke("gripper_accepts", False)
    cell.announce(State.READY)
    cell.announce(State.RUNNING)
    cell.gripper = 1.0
    cell.probe.wait_for(lambda: cell.says("command_node", "gripper_goals") == "1", "a grasp that is refused")
    cell.announce(State.ENDED)
    cell.provoke("gripper_accepts", True)
    cell.pass_time()
    assert cell.says("mock_franka", "goals") == ""


def test_in_an_emergency_stop_a_reflex_is_recovered_from_only_on_a_person_s_word(ros):
    cell = Cell(ros)
    assert cell.trigger("emergency_stop")
    assert cell.trigger("mock_franka/reflex")
    cell.await_value("command_node", "robot_mode", "REFLEX")
    cell.pass_time()
    assert (cell.says("command_node", "robot_mode"), cell.says("command_node", "recoveries")) == ("REFLEX", "0")
    assert cell.trigger("recover")
    cell.await_value("command_node", "robot_mode", "MOVE")


def test_an_emergency_stop_reaches_the_hand_also_while_the_clock_stands_still(ros, play):
    ros[0].start("mock_controllers")
    goals, under_way = [], []

    def accept(handle):
        goals.append(handle.request.command.position)
        under_way.append(handle)

    def finish(handle):
        handle.succeed()
        return GripperCommand.Result(reached_goal=True)

    server = ActionServer(ros[1].node, GripperCommand, "hand", finish, handle_accepted_callback=accept)
    arm = play["arm"](ros, backend="gazebo", gripper_action="hand")
    arm.await_holding("not started")
    arm.begin()
    arm.drive = (0.02, 0.0, 0.0, 1.0)
    arm.probe.wait_for(lambda: goals == [0.0], "a grasp")
    arm.drive = (0.02, 0.0, 0.0, -1.0)  # opens the hand once the grasp is over
    arm.pass_time(1.0)
    arm.clock_runs = False
    arm.probe.wait_for(lambda: arm.says()[1] == "the clock stands still", "a clock that stands still")
    assert arm.probe.call(Trigger, "emergency_stop", Trigger.Request()).success
    under_way.pop().execute()
    beats = []
    arm.probe.every(SEND_S, lambda: beats.append(0))
    arm.probe.wait_for(lambda: len(beats) > 20, "twenty looks whether there is a goal to send")
    assert goals == [0.0]
    server.destroy()

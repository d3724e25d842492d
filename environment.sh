# Source this in a shell (bash, dash, zsh) to use what `make` built: `. ./environment.sh`, then `mechanic-rl --help`.
# A ROS 2 installation that is sourced as well would mix two sets of libraries, so its paths are left out here.
_root="${MECHANIC_ROOT:-$PWD}"
if [ ! -f "$_root/install/local_setup.sh" ]; then
  echo "environment.sh: nothing is built in $_root: run 'make' there first" >&2
  return 1 2>/dev/null || exit 1
fi
unset PYTHONPATH LD_LIBRARY_PATH AMENT_PREFIX_PATH CMAKE_PREFIX_PATH COLCON_PREFIX_PATH ROS_DISTRO ROS_VERSION ROS_PYTHON_VERSION RMW_IMPLEMENTATION
export VIRTUAL_ENV="$_root/.venv"
export PATH="$VIRTUAL_ENV/bin:$_root/install/mechanic_rl_ros/lib/mechanic_rl_ros:$PATH"
export AMENT_PREFIX_PATH="$VIRTUAL_ENV"
COLCON_CURRENT_PREFIX="$_root/install"
. "$_root/install/local_setup.sh"
unset COLCON_CURRENT_PREFIX
# Nothing leaves this machine unless somebody says so: a robot on the network is an explicit choice.
export ROS_AUTOMATIC_DISCOVERY_RANGE="${ROS_AUTOMATIC_DISCOVERY_RANGE:-LOCALHOST}"
unset _root

#!/bin/sh
# Builds interfaces and installs nodes into install/ with colcon, against the ROS 2 wheels in the virtual environment.
set -eu
unset PYTHONPATH LD_LIBRARY_PATH COLCON_PREFIX_PATH 2>/dev/null || true
venv="$PWD/$VENV"
export PATH="$venv/bin:$PATH" VIRTUAL_ENV="$venv" AMENT_PREFIX_PATH="$venv" CMAKE_PREFIX_PATH="$venv"
echo "setup: building interfaces and nodes ..."
mkdir -p log
# Interfaces that the backends of other robots need: stand-ins where the real packages are not installed.
stand_ins=""
for folder in stand_ins/*/; do
  name=$(basename "$folder")
  if [ -d "$venv/share/$name" ]; then rm -rf "build/$name" "install/$name"; else stand_ins="$stand_ins stand_ins/$name"; fi
done
if ! colcon --log-base log/colcon build --symlink-install --base-paths . $stand_ins --event-handlers console_cohesion- \
  --cmake-args -DPython3_EXECUTABLE="$venv/bin/python" -DCMAKE_PROJECT_INCLUDE="$PWD/cmake/wheels.cmake" -DBUILD_TESTING=OFF >log/build.log 2>&1; then
  tail -n 20 log/build.log >&2
  echo "setup: the build failed; all of it is in log/build.log" >&2
  exit 1
fi

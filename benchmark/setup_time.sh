#!/bin/sh
# Prints how long set-up takes from nothing: a fresh clone of what is committed here, `make setup`, every download included.
#
# sh benchmark/setup_time.sh            # PYTHON=python3.12 chooses another Python
set -eu
repository="$(cd "$(dirname "$0")/.." && pwd)"
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
trap 'exit 130' INT TERM
unset VIRTUAL_ENV PYTHONPATH LD_LIBRARY_PATH AMENT_PREFIX_PATH CMAKE_PREFIX_PATH COLCON_PREFIX_PATH MECHANIC_ROOT ROS_DISTRO
export PIP_NO_CACHE_DIR=1

started="$(date +%s)"
git clone --quiet "$repository" "$folder/clone"
make --no-print-directory -C "$folder/clone" setup PYTHON="${PYTHON:-python3}" >&2
echo "set-up from nothing: $(($(date +%s) - started)) s"

#!/bin/sh
# Makes the virtual environment from the pinned requirement files. Called by make; says in one line what is missing.
set -eu
say() { printf '%s\n' "setup: $*"; }
die() { say "$*" >&2; exit 1; }

"$PYTHON" -c 'import sys; sys.exit(not (3, 10) <= sys.version_info < (3, 14))' 2>/dev/null ||
  die "Python 3.10 to 3.13 is needed, '$PYTHON' is $("$PYTHON" --version 2>&1 || echo missing): name one with 'make PYTHON=python3.11'"

# The interfaces are compiled here, which takes a C++ compiler and Python's headers; Debian packs them apart.
missing=""
"$PYTHON" -c 'import ensurepip, venv' 2>/dev/null || missing="$missing python3-venv"
"$PYTHON" -c 'import os, sys, sysconfig; sys.exit(not os.path.exists(os.path.join(sysconfig.get_paths()["include"], "Python.h")))' || missing="$missing python3-dev"
command -v c++ >/dev/null 2>&1 || missing="$missing g++"
if [ -n "$missing" ]; then
  if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
    say "installing$missing with apt-get (as root)"
    { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing; } >/dev/null 2>&1 ||
      die "could not install$missing: run 'apt-get install$missing', then make again"
  else
    die "$missing needed: run 'sudo apt-get install$missing', then make again"
  fi
fi

mkdir -p log
log=log/setup.log
: >"$log"
step() {
  say "$1 ..."
  shift
  "$@" >>"$log" 2>&1 || { tail -n 5 "$log" >&2; die "that failed; all of it is in $log"; }
}
pip() { PIP_DISABLE_PIP_VERSION_CHECK=1 "$VENV/bin/python" -m pip install --quiet "$@"; }
# A sourced ROS 2 installation must not leak into the environment that is made here.
unset PYTHONPATH LD_LIBRARY_PATH AMENT_PREFIX_PATH CMAKE_PREFIX_PATH 2>/dev/null || true

step "creating $VENV with $("$PYTHON" --version)" "$PYTHON" -m venv --clear "$VENV"
step "installing torch, MuJoCo and the rest (1/2)" pip -r requirements/core.txt -r requirements/build.txt -r requirements/dev.txt
step "installing ROS 2 from wheels, checked by hash (2/2)" pip --no-deps --require-hashes -r requirements/ros.txt

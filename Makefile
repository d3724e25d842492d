# make finetune   the robot practises, and its policy gets better before your eyes
# make test       every test
# make            only sets up: .venv/ (ROS 2 from wheels) and install/ (interfaces and nodes)
#
# Set-up runs once, and again only when the requirement files or the interfaces change.
.SHELLFLAGS := -e -c
SHELL := /bin/sh
PYTHON ?= python3
VENV := .venv
# Modules are installed as links: an edited one needs no build, a new or removed one changes its folder.
FOLDERS := $(shell find mechanic_rl_ros config launch description checkpoints -name __pycache__ -prune -o -type d -print)
BUILD_INPUTS := $(wildcard msg/*.msg srv/*.srv stand_ins/* stand_ins/*/* stand_ins/*/*/* cmake/* src/*) CMakeLists.txt package.xml setup.py $(FOLDERS)
RUN := . ./environment.sh &&

SEED ?= 0
TASK ?= lift
ARGS ?=

.PHONY: setup finetune test check base-checkpoint clean
setup: install/.built

finetune: setup
	@$(RUN) exec mechanic-rl finetune --seed $(SEED) $(ARGS)

test: setup
	@$(RUN) ruff check --quiet . && ruff format --check --quiet . && mypy && pytest $(ARGS)

check: setup
	@$(RUN) mechanic-rl doctor

# Makes checkpoints/TASK anew: scripted demonstrations, then behaviour cloning. Starts from nothing where data/TASK is empty.
base-checkpoint: setup
	@$(RUN) mechanic-rl collect --task $(TASK) --output data/$(TASK) $(ARGS) && mechanic-rl pretrain --task $(TASK) --demonstrations data/$(TASK) --output checkpoints/$(TASK)

$(VENV)/.installed: requirements/ros.txt requirements/core.txt requirements/build.txt requirements/dev.txt requirements/setup.sh
	@PYTHON="$(PYTHON)" VENV="$(VENV)" sh requirements/setup.sh
	@touch $@

install/.built: $(VENV)/.installed $(BUILD_INPUTS)
	@VENV="$(VENV)" sh cmake/build.sh
	@touch $@

clean:
	rm -rf build install log $(VENV)

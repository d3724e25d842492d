#!/bin/sh
# Prints how long the base checkpoint takes from nothing, as `make base-checkpoint` makes it, and how good it is; what ships is left alone.
#
# . ./environment.sh && sh benchmark/base_checkpoint.sh            # options are those of `mechanic-rl collect`, e.g. --workers 2
set -eu
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
trap 'exit 130' INT TERM

started="$(date +%s)"
mechanic-rl collect --task lift --output "$folder/data" "$@" >/dev/null
mechanic-rl pretrain --task lift --demonstrations "$folder/data" --output "$folder/lift" >/dev/null
times >"$folder/times" # in a subshell it would count from its start
echo "base checkpoint from nothing: $(($(date +%s) - started)) s, processor time of it (user, system): $(tail -n 1 "$folder/times")"
mechanic-rl evaluate "$folder/lift"

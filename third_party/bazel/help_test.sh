#!/usr/bin/env bash
# Passes if the command in $1 prints its help, which must show the flag in $2.
set -euo pipefail
"$1" --help | tee /dev/stderr | grep --quiet -- "$2"

#!/usr/bin/env bash
# Judge a model on several GPUs: tools/dist_test.sh CONFIG CKPT GPUS [options of tools/test.py]
#
# The processes share the drawing, and the figures are those of one. Several machines, PORT, PYTHON,
# and processes of the CPU: as in tools/dist_train.sh.
set -euo pipefail

if [ $# -lt 3 ]; then
    sed -n '2,5s/^# \{0,1\}//p' "$0" >&2
    exit 2
fi
config=$1
checkpoint=$2
gpus=$3
shift 3

MMAGIC_CM_TOOL=test.py exec bash "$(dirname "$0")/dist_train.sh" "$config" "$gpus" "$checkpoint" "$@"

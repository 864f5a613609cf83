#!/usr/bin/env bash
# Judge by Slurm: tools/slurm_test.sh PARTITION JOB CONFIG CKPT WORK_DIR [options of tools/test.py]
#
# The processes share the drawing, and the figures are those of one. GPUS, GPUS_PER_NODE,
# CPUS_PER_TASK, SRUN_ARGS and PYTHON: as in tools/slurm_train.sh.
set -euo pipefail

if [ $# -lt 5 ]; then
    sed -n '2,5s/^# \{0,1\}//p' "$0" >&2
    exit 2
fi
partition=$1
job=$2
config=$3
checkpoint=$4
work_dir=$5
shift 5

MMAGIC_CM_TOOL=test.py exec bash "$(dirname "$0")/slurm_train.sh" "$partition" "$job" "$config" \
    "$work_dir" "$checkpoint" "$@"

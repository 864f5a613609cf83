#!/usr/bin/env bash
# Train by Slurm: tools/slurm_train.sh PARTITION JOB CONFIG WORK_DIR [options of tools/train.py]
#
# GPUS (8) in all, GPUS_PER_NODE (8, or all), CPUS_PER_TASK (5), SRUN_ARGS (more for srun).
# PYTHON is the interpreter; default: .venv of this repository, else python.
set -euo pipefail

if [ $# -lt 4 ]; then
    sed -n '2,5s/^# \{0,1\}//p' "$0" >&2
    exit 2
fi
partition=$1
job=$2
config=$3
work_dir=$4
shift 4

root=$(cd "$(dirname "$0")/.." && pwd)
python=${PYTHON:-$root/.venv/bin/python}
command -v "$python" > /dev/null || python=python
gpus=${GPUS:-8}
per_node=${GPUS_PER_NODE:-$((gpus < 8 ? gpus : 8))}

# SRUN_ARGS are several words.
# shellcheck disable=SC2086
exec srun --partition "$partition" --job-name "$job" --gres "gpu:$per_node" \
    --ntasks "$gpus" --ntasks-per-node "$per_node" --cpus-per-task "${CPUS_PER_TASK:-5}" \
    --kill-on-bad-exit=1 ${SRUN_ARGS:-} \
    "$python" -u "$root/tools/${MMAGIC_CM_TOOL:-train.py}" "$config" \
    --work-dir "$work_dir" --launcher slurm "$@"

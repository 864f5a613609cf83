#!/usr/bin/env bash
# Train on several GPUs of a machine: tools/dist_train.sh CONFIG GPUS [options of tools/train.py]
#
# Of several machines: the same command on each, with NNODES, NODE_RANK (0 to NNODES - 1),
# MASTER_ADDR (of the machine of rank 0) and, if 29500 is taken, PORT. Without GPUs, processes of
# the CPU train. PYTHON is the interpreter; default: .venv of this repository, else python.
set -euo pipefail

if [ $# -lt 2 ]; then
    sed -n '2,6s/^# \{0,1\}//p' "$0" >&2
    exit 2
fi
config=$1
gpus=$2
shift 2

root=$(cd "$(dirname "$0")/.." && pwd)
python=${PYTHON:-$root/.venv/bin/python}
command -v "$python" > /dev/null || python=python

if [ "${NNODES:-1}" -gt 1 ]; then
    meeting=(--nnodes "$NNODES" --node_rank "${NODE_RANK:-0}"
        --master_addr "${MASTER_ADDR:?is the address of the machine of rank 0}"
        --master_port "${PORT:-29500}")
elif [ -n "${PORT:-}" ]; then
    meeting=(--master_addr "${MASTER_ADDR:-127.0.0.1}" --master_port "$PORT")
else
    meeting=(--standalone) # finds a free port: several runs may share the machine
fi

exec "$python" "$root/tools/launch.py" "${meeting[@]}" --nproc_per_node "$gpus" \
    "$root/tools/${MMAGIC_CM_TOOL:-train.py}" "$config" --launcher pytorch "$@"

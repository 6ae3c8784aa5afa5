#!/usr/bin/env bash
# Train on a Slurm cluster, one process a GPU, on as many nodes as the GPUs need.
# Usage: [GPUS_PER_NODE=8] [CPUS_PER_TASK=8] [SRUN_ARGS="--time=2-0"] \
#     tools/slurm_train.sh PARTITION JOB_NAME CONFIG GPUS [arguments of tools/train.py]
set -e
if [ $# -lt 4 ]; then
    sed -n '2,4s/^# //p' "$0" >&2
    exit 2
fi
partition=$1
job=$2
config=$3
gpus=$4
per_node=${GPUS_PER_NODE:-8}
if [ "$gpus" -lt "$per_node" ]; then per_node=$gpus; fi
if [ $((gpus % per_node)) -ne 0 ]; then
    echo "error: $gpus GPUs are not a whole number of nodes of $per_node; set GPUS_PER_NODE" >&2
    exit 2
fi
# SRUN_ARGS is left to be split into words.
# shellcheck disable=SC2086
srun --partition="$partition" --job-name="$job" --ntasks="$gpus" --ntasks-per-node="$per_node" \
    --gres="gpu:$per_node" --cpus-per-task="${CPUS_PER_TASK:-8}" --kill-on-bad-exit=1 ${SRUN_ARGS:-} \
    python -u "$(dirname "$0")/train.py" "$config" --launcher slurm "${@:5}"

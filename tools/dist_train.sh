#!/usr/bin/env bash
# Train on several GPUs of one machine, or of several with NNODES, NODE_RANK, MASTER_ADDR and PORT set.
# Usage: tools/dist_train.sh CONFIG GPUS [arguments of tools/train.py]
set -e
config=$1
gpus=$2
torchrun --nnodes="${NNODES:-1}" --node_rank="${NODE_RANK:-0}" --master_addr="${MASTER_ADDR:-127.0.0.1}" \
    --nproc_per_node="$gpus" --master_port="${PORT:-29500}" \
    "$(dirname "$0")/train.py" "$config" --launcher pytorch "${@:3}"

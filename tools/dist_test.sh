#!/usr/bin/env bash
# Test on several GPUs of one machine, or of several with NNODES, NODE_RANK, MASTER_ADDR and PORT set.
# Usage: tools/dist_test.sh CONFIG CHECKPOINT GPUS [arguments of tools/test.py]
set -e
config=$1
checkpoint=$2
gpus=$3
torchrun --nnodes="${NNODES:-1}" --node_rank="${NODE_RANK:-0}" --master_addr="${MASTER_ADDR:-127.0.0.1}" \
    --nproc_per_node="$gpus" --master_port="${PORT:-29500}" \
    "$(dirname "$0")/test.py" "$config" "$checkpoint" --launcher pytorch "${@:4}"

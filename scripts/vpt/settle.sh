#!/usr/bin/env bash
# Settles whether a posterior of several modes pays: zero-shot CLIP, CoOp, VPT as its authors ran it,
# MAP, the mixture, and the same from the words of each class, from base to new classes, with every
# data set and seed. Says after the first runs how long the rest will take. Finished runs take no
# time, unfinished ones go on. At the end the table beside the published rows, and the paired
# differences with intervals.
#   usage:   bash scripts/vpt/settle.sh [KEY VALUE ...]
#   example: DATASETS="eurosat dtd" SEEDS=1 bash scripts/vpt/settle.sh
# Environment: DATA, OUTPUT, SHOTS, EPOCHS, GPU, SWEEP, DATASETS (all eleven), SEEDS (1 2 3)

# shellcheck source=scripts/vpt/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
find_python
[[ -z ${GPU:-} ]] || export CUDA_VISIBLE_DEVICES=$GPU
# shellcheck disable=SC2086  # several flags
exec "$PYTHON_BIN" "$root/sweep.py" settle ${SWEEP:-} "$@"

#!/usr/bin/env bash
# Tests what base2new_train.sh trained (its last checkpoint) on the new classes.
#   usage:   bash scripts/vpt/base2new_test.sh DATASET SEED [KEY VALUE ...]
#   example: bash scripts/vpt/base2new_test.sh imagenet 1
# Result:  OUTPUT/base2new/test_new/DATASET/shots_16/TRAINER/CFG/seedSEED
# Environment: DATA OUTPUT TRAINER CFG SHOTS L GPU (see common.sh)

# shellcheck source=scripts/vpt/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
arguments 2 "$@"
dataset=$1 seed=$2
settings "$dataset"
run=$dataset/shots_$SHOTS/$TRAINER/$CFG/seed$seed

train_py "$dataset" "$TRAINER" --seed "$seed" \
    --output-dir "$(output)/base2new/test_new/$run" \
    --model-dir "$(output)/base2new/train_base/$run" --eval-only \
    DATASET.NUM_SHOTS "$SHOTS" DATASET.SUBSAMPLE_CLASSES new "${samples[@]}" "${@:3}"

#!/usr/bin/env bash
# Tests what xd_train.sh trained on ImageNet (its last checkpoint) on another data set.
#   usage:   bash scripts/vpt/xd_test.sh DATASET SEED [KEY VALUE ...]
#   example: bash scripts/vpt/xd_test.sh caltech101 1
# Result:  OUTPUT/evaluation/TRAINER/CFG_16shots/DATASET/seedSEED
# Environment: DATA OUTPUT TRAINER CFG SHOTS L GPU (see common.sh)

# shellcheck source=scripts/vpt/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
run "$@"

#!/usr/bin/env bash
# Tests what base2new_train.sh trained (its last checkpoint) on the new classes, or, with SUB=base,
# on the base classes again (training ends with that test: its results.json has it already).
#   usage:   bash scripts/vpt/base2new_test.sh DATASET SEED [KEY VALUE ...]
#   example: bash scripts/vpt/base2new_test.sh imagenet 1
# Result:  OUTPUT/base2new/test_{new,base}/DATASET/shots_16/TRAINER/CFG/seedSEED
# Environment: DATA OUTPUT TRAINER CFG SHOTS L GPU (see common.sh), SUB (new or base)

# shellcheck source=scripts/vpt/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
run "$@"

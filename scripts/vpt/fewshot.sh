#!/usr/bin/env bash
# Trains on all classes with SHOTS images of each and tests on them.
#   usage:   bash scripts/vpt/fewshot.sh DATASET SHOTS SEED [KEY VALUE ...]
#   example: bash scripts/vpt/fewshot.sh caltech101 4 1
# Result:  OUTPUT/DATASET/TRAINER/CFG_SHOTSshots/seedSEED
#          (CoOp's folder without its level nctx.._csc.._ctp..; for ImageNet the one of xd_train.sh)
# Environment: DATA OUTPUT TRAINER CFG L EPOCHS GPU (see common.sh)

# shellcheck source=scripts/vpt/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
run "$@"

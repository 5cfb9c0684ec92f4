#!/usr/bin/env bash
# Trains on the base classes and tests on them.
#   usage:   bash scripts/vpt/base2new_train.sh DATASET SEED [KEY VALUE ...]
#   example: bash scripts/vpt/base2new_train.sh imagenet 1
# Result:  OUTPUT/base2new/train_base/DATASET/shots_16/TRAINER/CFG/seedSEED
# Environment: DATA OUTPUT TRAINER CFG SHOTS L EPOCHS GPU (see common.sh)

# shellcheck source=scripts/vpt/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
run "$@"
